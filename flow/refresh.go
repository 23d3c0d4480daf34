package flow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
)

// Refresh tells the engine the flows of the store that it does not know yet, and finds out which runs are to tell of their ends.
func (r *Registry) Refresh(ctx context.Context) error {
	if err := r.ends.Refresh(ctx); err != nil {
		return err
	}
	for after := ""; ; {
		records, err := r.engine.Records(ctx, headSpace, "", after, 1000)
		if err != nil {
			return fmt.Errorf("read the deployed flows: %w", err)
		}
		for _, record := range records {
			head, err := infoOf(record)
			if err == nil {
				err = r.register(head.ID)
			}
			if err != nil {
				return err
			}
			after = record.Key
		}
		if len(records) < 1000 {
			return nil
		}
	}
}

// Watch refreshes whenever another process deploys a new flow, until ctx ends; every second it finds out which runs are to tell of their ends.
func (r *Registry) Watch(ctx context.Context) error {
	var seen int64
	for {
		err := r.ends.Refresh(ctx)
		var record pawl.Record
		if err == nil {
			record, err = r.engine.Record(ctx, countSpace, "names")
		}
		if err == nil && record.Version != seen {
			if err = r.Refresh(ctx); err == nil {
				seen = record.Version
			}
		}
		if err != nil && !errors.Is(err, pawl.ErrNotFound) && ctx.Err() == nil && r.opt.Logger != nil {
			r.opt.Logger.Warn("pawl: deployed flows", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// register tells the engine a flow's name.
func (r *Registry) register(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[id] {
		return nil
	}
	err := r.engine.Register(pawl.DefineVersions(id, pawl.Versions{
		Pick: func(ctx context.Context, s pawl.Starting) (string, error) { return r.pick(ctx, id, s) },
		Load: func(ctx context.Context, tenant, version string) (pawl.Definition, error) {
			return r.load(ctx, tenant, id, version)
		},
	}))
	if err != nil {
		return taken(id, err)
	}
	r.known[id] = true
	return nil
}

// taken is the error of a flow that has the name of a workflow of the program.
func taken(id string, err error) error {
	return fmt.Errorf("flow %s: %w: the program has a workflow of that name; give the flow another id", id, err)
}
