-- +goose Up

-- How many runs of a tenant nobody has begun: to refuse more of them.
CREATE INDEX runs_queued ON runs (tenant) WHERE state = 1;
