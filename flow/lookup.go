package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/trigger"
)

// Is reports whether a workflow of the engine is a flow, of whichever tenant: names of flows are shared, flows are not.
func (r *Registry) Is(workflow string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[workflow]
}

// Find is [Registry.Get] for who is about to start the flow: it tells the engine its name, which another process may have
// deployed a moment ago. pawl.ErrUnknown: the tenant has no such flow.
func (r *Registry) Find(ctx context.Context, tenant, id string) (Info, error) {
	head, err := r.head(ctx, tenant, id)
	if errors.Is(err, pawl.ErrNotFound) {
		err = fmt.Errorf("%w: %q", pawl.ErrUnknown, id)
	}
	if err != nil {
		return head, err
	}
	return head, r.register(head.ID)
}

// Try tells what Deploy would do, and does nothing.
func (r *Registry) Try(ctx context.Context, d Deployment) (Deployed, error) {
	f, err := Parse(d.Document, r.World())
	if err != nil {
		return Deployed{}, err
	}
	if _, err := r.engine.Workflow(f.ID); err == nil && !r.Is(f.ID) {
		return Deployed{}, taken(f.ID, pawl.ErrDuplicate)
	}
	head, err := r.head(ctx, d.Tenant, f.ID)
	if err != nil && !errors.Is(err, pawl.ErrNotFound) {
		return Deployed{}, err
	}
	done := Deployed{Info: head, Warnings: f.Warnings, WorstCase: r.WorstCase(ctx, d.Tenant, f)}
	if done.Version, done.Existed, err = r.number(ctx, d.Tenant, f, head.Latest); err != nil {
		return Deployed{}, err
	}
	done.Name, done.Latest = f.Name, max(head.Latest, done.Version)
	if !d.Inactive && head.Active != done.Version {
		done.Previous, done.Active, done.Canary = head.Active, done.Version, nil
		if _, err := trigger.Replace(ctx, r.engine, d.Tenant, owner(f.ID), f.owned(d.Tenant)); err != nil {
			return Deployed{}, f.taken(err)
		}
	}
	return done, nil
}

// Inputs returns the JSON Schema of the variables of a version; nil: it takes any.
func (r *Registry) Inputs(ctx context.Context, tenant, id string, version int) (json.RawMessage, error) {
	stored, err := r.Version(ctx, tenant, id, version)
	if err != nil {
		return nil, err
	}
	root, err := readDocument(stored.Document)
	if err != nil {
		return nil, fmt.Errorf("version %d of flow %s: %w", version, id, err)
	}
	return schemaText(root.get("inputs")), nil
}
