package flow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
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

// World is what flows that are deployed here can refer to.
func (r *Registry) World() World {
	w := World{Services: r.opt.Services, Unset: r.opt.Unset, Model: r.opt.Model, Toolboxes: []string{}}
	w.Prompt, w.Provider = r.prompt, r.opt.Provider
	if r.opt.Models != nil {
		w.Price, w.Unpriced = r.opt.Models.Price, r.opt.Models.Unpriced()
	}
	w.Toolboxes = append(w.Toolboxes, sortedNames(r.opt.Toolboxes)...)
	return w
}

// maxOthers bounds among how many flows a likely spelling is looked for.
const maxOthers = 1000

// watchWait bounds the look at a database whose changes start runs.
const watchWait = 10 * time.Second

// WorldOf is [Registry.World] for documents of a tenant that are to be deployed: the tenant's flows that they run, and the
// databases whose changes start them, are looked at too, and so are the tenant's secrets.
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
	if r.opt.HasSecret != nil {
		w.Secret, w.Signers = r.secretOf(ctx, tenant), r.opt.Signers
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

// secretOf is [World.Secret] of a tenant. If the store can't be asked, nobody is warned.
func (r *Registry) secretOf(ctx context.Context, tenant string) func(name string) (others []string, missing bool) {
	names := sync.OnceValue(func() []string {
		if r.opt.SecretNames == nil {
			return nil
		}
		all, _ := r.opt.SecretNames(ctx, tenant) // without them there is no spelling to tell
		return all
	})
	return func(name string) ([]string, bool) {
		if there, err := r.opt.HasSecret(ctx, tenant, name); there || err != nil {
			return nil, false
		}
		return names(), true
	}
}

// promptWait bounds the look at a prompt while a document is read.
const promptWait = 10 * time.Second

// prompt returns the variables that a prompt needs.
func (r *Registry) prompt(name string, version int) (vars []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), promptWait)
	defer cancel()
	prompts := agent.Prompts{Engine: r.engine}
	versions := []int{version}
	if version == 0 {
		info, err := prompts.Get(ctx, name)
		switch {
		case err != nil:
			return nil, err
		case info.Active == nil:
			return nil, fmt.Errorf("no version of prompt %q is active", name)
		}
		versions = slices.Sorted(maps.Keys(info.Active.Weights))
	}
	for _, number := range versions {
		v, err := prompts.Version(ctx, name, number)
		if err != nil {
			return nil, err
		}
		for _, name := range v.Vars {
			if !slices.Contains(vars, name) {
				vars = append(vars, name)
			}
		}
	}
	return vars, nil
}
