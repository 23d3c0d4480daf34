-- Hooks have numbers that are never used again, to page by; of tokens that are secrets there is
-- the hash only; and those that are over are remembered for a while.
CREATE TABLE hooks_2 (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  token    TEXT NOT NULL,               -- $sha256: and the hash, where it is a secret
  space    TEXT NOT NULL,               -- whose it is: the tenant; '' where it is a secret
  run      INTEGER NOT NULL,
  key      TEXT NOT NULL,
  tenant   TEXT NOT NULL,               -- of the run
  kind     TEXT NOT NULL,
  meta     BLOB,
  schema   BLOB,
  public   INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  hold     INTEGER NOT NULL,            -- microseconds
  remember INTEGER NOT NULL,            -- microseconds
  closed   INTEGER NOT NULL DEFAULT 0,  -- 1: its run gave it back, and a retry does not bring it back
  until    INTEGER,                     -- set: it is closed or its run has ended, the token is free from then on
  forget   INTEGER,                     -- set: it may be deleted from then on
  UNIQUE (token, space)
);
INSERT INTO hooks_2 (token, space, run, key, tenant, kind, meta, schema, public, at, hold, remember, until)
  SELECT h.token, iif(h.public, '', r.tenant), h.run, h.key, r.tenant, iif(h.public, 'webhook', ''), h.meta, h.schema, h.public, h.at, h.hold, 0, h.until
  FROM hooks h JOIN runs r ON r.key = h.run ORDER BY h.rowid;
DROP TABLE hooks;
ALTER TABLE hooks_2 RENAME TO hooks;
CREATE INDEX hooks_run ON hooks (run);
CREATE INDEX hooks_tenant ON hooks (tenant, id) WHERE until IS NULL;
CREATE INDEX hooks_kind ON hooks (tenant, kind, id) WHERE until IS NULL AND kind <> '';
CREATE INDEX hooks_forget ON hooks (forget) WHERE forget IS NOT NULL;
