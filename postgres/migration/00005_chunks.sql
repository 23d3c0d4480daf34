-- +goose Up

-- Which attempt of which step wrote a chunk; step is '' where the workflow function did.
ALTER TABLE chunks
  ADD COLUMN epoch bigint NOT NULL DEFAULT 0,
  ADD COLUMN attempt integer NOT NULL DEFAULT 0,
  ADD COLUMN first boolean NOT NULL DEFAULT false,
  ADD COLUMN step text NOT NULL DEFAULT '';
