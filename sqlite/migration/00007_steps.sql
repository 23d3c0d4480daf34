-- +goose Up

-- What a step has cost, and what the steps of a branch have, is asked while their run goes on: it must not grow with the run.
DROP INDEX charges_run;
CREATE INDEX charges_run ON charges (run_id, tenant, step);
