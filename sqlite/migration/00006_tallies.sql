-- +goose Up

-- What sums of the ledger are made by, too: the version of the run's code, and what the buyer calls it.
ALTER TABLE charges ADD COLUMN version TEXT NOT NULL DEFAULT '';
ALTER TABLE charges ADD COLUMN label TEXT NOT NULL DEFAULT '';
UPDATE charges SET version = coalesce((SELECT r.version FROM runs r WHERE r.key = charges.run AND r.id = charges.run_id), '');
CREATE INDEX charges_workflow ON charges (tenant, workflow, at);
