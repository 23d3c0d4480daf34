-- What may be spent of a meter, and what was, in the period that begins at since.
CREATE TABLE budgets (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant   TEXT NOT NULL,
  name     TEXT NOT NULL,
  meter    TEXT NOT NULL,
  cap      INTEGER NOT NULL,
  per      INTEGER NOT NULL,            -- microseconds; 0: for ever
  waits    INTEGER NOT NULL,            -- 1: a step that finds too little left waits
  run      INTEGER,                     -- set: applies to this run and its descendants
  run_id   TEXT,                        -- its id
  workflow TEXT,                        -- set: applies to runs of this workflow
  attr     TEXT,                        -- set: applies to runs with this attribute
  value    TEXT,
  extra    INTEGER NOT NULL,
  spent    INTEGER NOT NULL,
  reserved INTEGER NOT NULL,
  since    INTEGER NOT NULL             -- 0: there is but one period
);
CREATE UNIQUE INDEX budgets_name ON budgets (tenant, name);
CREATE INDEX budgets_run ON budgets (run) WHERE run IS NOT NULL;
CREATE INDEX budgets_shared ON budgets (tenant, meter) WHERE run IS NULL;

-- The ledger. It outlives the runs, and knows of them what sums are made by.
CREATE TABLE charges (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  run      INTEGER NOT NULL,
  epoch    INTEGER NOT NULL,
  run_id   TEXT NOT NULL,
  tenant   TEXT NOT NULL,
  workflow TEXT NOT NULL,
  step     TEXT NOT NULL,
  attempt  INTEGER NOT NULL,
  meter    TEXT NOT NULL,
  item     TEXT NOT NULL,
  reserved INTEGER NOT NULL,
  amount   INTEGER NOT NULL,            -- until it is settled, what is reserved
  guess    INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  settled  INTEGER,
  budgets  TEXT,                        -- JSON: [budget, its since], … that it was reserved on
  detail   BLOB
);
CREATE INDEX charges_run ON charges (run_id, tenant);
CREATE INDEX charges_at ON charges (tenant, at);
CREATE INDEX charges_open ON charges (tenant, id) WHERE settled IS NULL;

-- Set: what of a budget is waited for.
ALTER TABLE waits ADD COLUMN need INTEGER;

CREATE TABLE records (
  space   TEXT NOT NULL,
  key     TEXT NOT NULL,
  version INTEGER NOT NULL,
  until   INTEGER,
  data    BLOB NOT NULL
);
CREATE UNIQUE INDEX records_key ON records (space, key);
CREATE INDEX records_until ON records (until) WHERE until IS NOT NULL;
