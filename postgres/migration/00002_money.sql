-- What may be spent of a meter, and what was, in the period that begins at since.
CREATE TABLE budgets (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant   text COLLATE "C" NOT NULL,
  name     text COLLATE "C" NOT NULL,
  meter    text COLLATE "C" NOT NULL,
  cap      bigint NOT NULL,
  per      bigint NOT NULL,             -- microseconds; 0: for ever
  waits    boolean NOT NULL,            -- a step that finds too little left waits
  run      bigint,                      -- set: applies to this run and its descendants
  run_id   text,                        -- its id
  workflow text,                        -- set: applies to runs of this workflow
  attr     text,                        -- set: applies to runs with this attribute
  value    text,
  extra    bigint NOT NULL,
  spent    bigint NOT NULL,
  reserved bigint NOT NULL,
  since    bigint NOT NULL              -- 0: there is but one period
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX budgets_name ON budgets (tenant, name);
CREATE INDEX budgets_run ON budgets (run) WHERE run IS NOT NULL;
CREATE INDEX budgets_shared ON budgets (tenant, meter) WHERE run IS NULL;

-- The ledger. It outlives the runs, and knows of them what sums are made by.
CREATE TABLE charges (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  run      bigint NOT NULL,
  epoch    bigint NOT NULL,
  run_id   text COLLATE "C" NOT NULL,
  tenant   text COLLATE "C" NOT NULL,
  workflow text COLLATE "C" NOT NULL,
  step     text COLLATE "C" NOT NULL,
  attempt  integer NOT NULL,
  meter    text COLLATE "C" NOT NULL,
  item     text COLLATE "C" NOT NULL,
  reserved bigint NOT NULL,
  amount   bigint NOT NULL,             -- until it is settled, what is reserved
  guess    boolean NOT NULL,
  at       bigint NOT NULL,
  settled  bigint,
  budgets  bigint[] NOT NULL,           -- that it was reserved on, each with its since behind it
  detail   bytea
);
CREATE INDEX charges_run ON charges (run_id, tenant);
CREATE INDEX charges_at ON charges (tenant, at);
CREATE INDEX charges_open ON charges (tenant, id) WHERE settled IS NULL;

-- Set: what of a budget is waited for.
ALTER TABLE waits ADD COLUMN need bigint;

CREATE TABLE records (
  space   text COLLATE "C" NOT NULL,
  key     text COLLATE "C" NOT NULL,
  version bigint NOT NULL,
  until   bigint,
  data    bytea NOT NULL,
  PRIMARY KEY (space, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX records_until ON records (until) WHERE until IS NOT NULL;
