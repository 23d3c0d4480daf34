package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/trigger"
	"github.com/pawlrun/pawl/trigger/dbchange"
)

// Is reports whether a workflow of the engine is a flow, of whichever tenant: names of flows are shared, flows are not.
func (r *Registry) Is(workflow string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[workflow]
}

// Startable reports whether a flow of a tenant may run a workflow: another flow of the tenant, or one of the program's.
func (r *Registry) Startable(ctx context.Context, tenant, name string) (bool, error) {
	_, err := r.head(ctx, tenant, name)
	if err == nil || !errors.Is(err, pawl.ErrNotFound) {
		return err == nil, err
	}
	w, err := r.engine.Workflow(name)
	return err == nil && !w.Internal && !r.Is(name), nil
}

// maxOthers bounds among how many flows a likely spelling is looked for.
const maxOthers = 1000

// watchWait bounds the look at a database whose changes start runs.
const watchWait = 10 * time.Second

// WorldOf is [Registry.World] for documents of a tenant that are to be deployed: the tenant's flows that they run, and the
// databases whose changes start them, are looked at too.
func (r *Registry) WorldOf(ctx context.Context, tenant string) World {
	w := r.World()
	if r.opt.Databases != nil {
		w.Watch = func(s dbchange.Source) error {
			ctx, cancel := context.WithTimeout(ctx, watchWait)
			defer cancel()
			c, err := r.opt.Databases(ctx, s.Connection)
			if err != nil {
				return err
			}
			if err := c.DB.PingContext(ctx); err != nil {
				return err
			}
			if err := dbchange.Check(ctx, c, s); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%w: %w", pawl.ErrInput, err) // the database has answered
			}
			return ctx.Err()
		}
	}
	var names []string
	w.Others = func(name string) ([]string, bool) {
		is, err := r.Startable(ctx, tenant, name)
		if is || err != nil {
			return nil, false
		}
		if names != nil {
			return names, true
		}
		names = []string{}
		for _, program := range r.engine.Workflows() {
			if info, err := r.engine.Workflow(program); err == nil && !info.Internal && !r.Is(program) {
				names = append(names, program)
			}
		}
		heads, _ := r.List(ctx, tenant, "", maxOthers) // without them there is no spelling to tell
		for _, head := range heads {
			names = append(names, head.ID)
		}
		return names, true
	}
	return w
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
	f, err := Parse(d.Document, r.WorldOf(ctx, d.Tenant))
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
