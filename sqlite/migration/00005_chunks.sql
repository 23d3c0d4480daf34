-- +goose Up

-- Which attempt of which step wrote a chunk; step is '' where the workflow function did.
ALTER TABLE chunks ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chunks ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chunks ADD COLUMN first INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chunks ADD COLUMN step TEXT NOT NULL DEFAULT '';
