-- Times are microseconds since 1970. docs/store.md explains each column.

CREATE TABLE runs (
  key        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL,
  tenant     TEXT NOT NULL,
  workflow   TEXT NOT NULL,
  version    TEXT,
  state      INTEGER NOT NULL,
  reason     TEXT,
  epoch      INTEGER NOT NULL,          -- how many times it was claimed
  worker     INTEGER NOT NULL,          -- who holds it; 0: nobody
  rank       INTEGER,                   -- set: claimable, lowest first
  due        INTEGER,                   -- set: claimable from then on
  gate       TEXT,                      -- set: not claimable, queued behind this
  priority   INTEGER,
  created    INTEGER NOT NULL,
  updated    INTEGER NOT NULL,
  ended      INTEGER,
  not_before INTEGER,
  deadline   INTEGER,
  parent     INTEGER,
  parent_key TEXT,
  detached   INTEGER,
  ties       INTEGER NOT NULL,          -- 0: at its end no other row is touched
  single     TEXT,                      -- the singleton key, while it holds it
  singleton  TEXT,                      -- the same for ever: a retry asks for it again
  limits     TEXT,                      -- JSON
  keep       INTEGER,                   -- retention if a store ends it; -1: for ever
  expires    INTEGER,
  seed       INTEGER NOT NULL,
  strikes    INTEGER,
  solo       INTEGER,                   -- set: it is being tried alone
  mark       INTEGER,                   -- newest journal entry at the last strike
  seen       INTEGER,                   -- newest message that it knew of when it began to wait
  next       TEXT,
  forked     TEXT,
  trace      TEXT
);
CREATE UNIQUE INDEX runs_id ON runs (id, tenant);
CREATE INDEX runs_workflow ON runs (workflow, key);
CREATE INDEX runs_ready ON runs (rank) WHERE rank IS NOT NULL AND gate IS NULL;
CREATE INDEX runs_due ON runs (due) WHERE due IS NOT NULL;
CREATE INDEX runs_worker ON runs (worker) WHERE worker <> 0;
CREATE INDEX runs_gate ON runs (gate, rank) WHERE gate IS NOT NULL;
CREATE UNIQUE INDEX runs_single ON runs (single) WHERE single IS NOT NULL;
CREATE INDEX runs_parent ON runs (parent) WHERE parent IS NOT NULL;
CREATE INDEX runs_expires ON runs (expires) WHERE expires IS NOT NULL;
CREATE INDEX runs_stopped ON runs (state, key) WHERE state IN (5, 6, 7, 8);

-- A heap with a small index: the entries of one commit lie side by side.
CREATE TABLE journal (
  run  INTEGER NOT NULL,
  seq  INTEGER NOT NULL,
  kind INTEGER NOT NULL,                -- kind | failed << 7 | attempt << 8
  key  TEXT NOT NULL,
  at   INTEGER NOT NULL,
  took INTEGER NOT NULL,                -- nanoseconds
  data BLOB
);
CREATE UNIQUE INDEX journal_run ON journal (run, seq);

CREATE TABLE inbox (
  id   INTEGER PRIMARY KEY,
  run  INTEGER NOT NULL,
  name TEXT NOT NULL,
  at   INTEGER NOT NULL,
  data BLOB
);
CREATE INDEX inbox_run ON inbox (run, id);

CREATE TABLE waits (
  run   INTEGER NOT NULL,
  key   TEXT NOT NULL,
  event TEXT NOT NULL,
  PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE INDEX waits_event ON waits (event, run);

CREATE TABLE hooks (
  token  TEXT PRIMARY KEY,
  run    INTEGER NOT NULL,
  key    TEXT NOT NULL,
  meta   BLOB,
  schema BLOB,
  public INTEGER NOT NULL,
  at     INTEGER NOT NULL,
  hold   INTEGER NOT NULL,              -- microseconds
  until  INTEGER                        -- set: its run has ended, the token is free from then on
);
CREATE INDEX hooks_run ON hooks (run);

CREATE TABLE chunks (
  run    INTEGER NOT NULL,
  stream TEXT NOT NULL,
  idx    INTEGER NOT NULL,
  at     INTEGER NOT NULL,
  closed INTEGER NOT NULL,
  data   BLOB
);
CREATE UNIQUE INDEX chunks_run ON chunks (run, stream, idx);

CREATE TABLE attrs (
  run   INTEGER NOT NULL,
  name  TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE INDEX attrs_value ON attrs (name, value, run);

-- Who is at work under a concurrency limit: the limit is the count of its rows.
CREATE TABLE slots (
  limited TEXT NOT NULL,
  run     INTEGER NOT NULL,
  PRIMARY KEY (limited, run)
) WITHOUT ROWID;
CREATE INDEX slots_run ON slots (run);

-- What started under a rate limit, and when.
CREATE TABLE rates (
  limited TEXT NOT NULL,
  at      INTEGER NOT NULL,
  run     INTEGER NOT NULL,
  PRIMARY KEY (limited, at, run)
) WITHOUT ROWID;

-- The workers that live: one that is declared dead has no row. An id is never used again:
-- it is the fence.
CREATE TABLE workers (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  name    TEXT NOT NULL,
  started INTEGER NOT NULL,
  until   INTEGER NOT NULL              -- its lease
);
