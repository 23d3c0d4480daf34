package flow

import (
	"context"
	"fmt"
	"slices"
)

// WorstCase is what a run of f takes at most on this server: its models and their prices, and the flows of the tenant that f
// runs as children, in the versions that are active now.
func (r *Registry) WorstCase(ctx context.Context, tenant string, f *Flow) WorstCase {
	w := r.World()
	w.Child = func(name string) *Flow {
		head, err := r.head(ctx, tenant, name)
		if err != nil || head.Active == 0 {
			return nil
		}
		child, err := r.read(ctx, tenant, name, head.Active)
		if err != nil {
			return nil
		}
		return child
	}
	return f.WorstCase(w)
}

// WorstCaseOf is WorstCase of a version that was deployed. pawl.ErrNotFound.
func (r *Registry) WorstCaseOf(ctx context.Context, tenant, id string, version int) (WorstCase, error) {
	f, err := r.read(ctx, tenant, id, version)
	if err != nil {
		return WorstCase{}, err
	}
	return r.WorstCase(ctx, tenant, f), nil
}

// read is a version of a flow, read for this server.
func (r *Registry) read(ctx context.Context, tenant, id string, version int) (*Flow, error) {
	stored, err := r.Version(ctx, tenant, id, version)
	if err != nil {
		return nil, err
	}
	w := r.World()
	w.Prompt = nil // nobody asks what they need
	f, err := reread(stored.Document, w)
	if err != nil {
		return nil, fmt.Errorf("version %d of flow %s: %w", version, id, err)
	}
	return f, nil
}

// maxChildren bounds how many other flows are looked at for the worst case of one.
const maxChildren = 100

// family has the worst cases of the flows that a flow runs, each looked at once.
type family struct {
	world World
	under []string // flows that are being looked at, each run by the one before
	found map[string]*WorstCase
}

func (l *family) of(f *Flow) WorstCase {
	l.under = append(l.under, f.ID)
	defer func() { l.under = l.under[:len(l.under)-1] }()
	return newBound(f, l.world, l).worst()
}

// child is what there is of another flow; nil: nothing.
func (l *family) child(name string) *WorstCase {
	if slices.Contains(l.under, name) {
		return &WorstCase{Open: []Open{{Message: "it runs itself again"}}}
	}
	if known, is := l.found[name]; is || len(l.found) >= maxChildren || l.world.Child == nil {
		return known
	}
	l.found[name] = nil
	if f := l.world.Child(name); f != nil {
		worst := l.of(f)
		l.found[name] = &worst
	}
	return l.found[name]
}
