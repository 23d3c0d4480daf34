-- Hooks are listed by tenant and kind, in the order of made; of tokens that are secrets there is
-- the hash only; and those that are over are remembered for a while.
-- Tokens that code has chosen are unique per tenant: space is whose a token is, '' where it is a secret.
ALTER TABLE hooks
  ADD COLUMN space    text COLLATE "C" NOT NULL DEFAULT '',
  ADD COLUMN tenant   text COLLATE "C" NOT NULL DEFAULT '', -- of the run
  ADD COLUMN kind     text COLLATE "C" NOT NULL DEFAULT '',
  ADD COLUMN remember bigint NOT NULL DEFAULT 0,            -- microseconds
  ADD COLUMN closed   boolean NOT NULL DEFAULT false,       -- its run gave it back, and a retry does not bring it back
  ADD COLUMN forget   bigint;                               -- set: it may be deleted from then on
UPDATE hooks AS h SET tenant = r.tenant, space = CASE WHEN h.public THEN '' ELSE r.tenant END, kind = CASE WHEN h.public THEN 'webhook' ELSE '' END FROM runs AS r WHERE r.key = h.run;
ALTER TABLE hooks DROP CONSTRAINT hooks_pkey;
ALTER TABLE hooks ADD PRIMARY KEY (token, space);
CREATE INDEX hooks_tenant ON hooks (tenant, made) WHERE until IS NULL;
CREATE INDEX hooks_kind ON hooks (tenant, kind, made) WHERE until IS NULL AND kind <> '';
CREATE INDEX hooks_forget ON hooks (forget) WHERE forget IS NOT NULL;
