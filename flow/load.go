package flow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/pawlrun/pawl"
)

// place names a version of a flow.
type place struct {
	tenant, id string
	version    int
}

// pick chooses the version of a run that starts. A flow that is another tenant's does not exist.
func (r *Registry) pick(ctx context.Context, id string, s pawl.Starting) (string, error) {
	head, err := r.head(ctx, s.Tenant, id)
	switch {
	case errors.Is(err, pawl.ErrNotFound):
		return "", fmt.Errorf("%w: %q", pawl.ErrUnknown, id)
	case err != nil:
		return "", err
	case s.Version != "":
		return s.Version, nil
	case head.Canary != nil && 100*rand.Float64() < head.Canary.Percent:
		return strconv.Itoa(head.Canary.Version), nil
	case head.Active == 0:
		return "", fmt.Errorf("%w: no version of flow %s is active: activate one, or name the version to start", pawl.ErrState, id)
	}
	return strconv.Itoa(head.Active), nil
}

// load makes a workflow of a version. It may refer to services that are no longer there: then its steps fail, and say so.
func (r *Registry) load(ctx context.Context, tenant, id, version string) (pawl.Definition, error) {
	number, err := strconv.Atoi(version)
	if err != nil || number < 1 {
		return nil, fmt.Errorf("%w: %q is no number of a version", pawl.ErrNotFound, version)
	}
	at := place{tenant, id, number}
	r.mu.Lock()
	d := r.loaded[at]
	r.mu.Unlock()
	if d != nil {
		return d, nil
	}
	stored, err := r.Version(ctx, tenant, id, number)
	if err != nil {
		return nil, err
	}
	f, err := reread(stored.Document, r.World())
	if err != nil {
		return nil, fmt.Errorf("version %d of flow %s: %w", number, id, err)
	}
	f.Version = number
	d = Define(f, r.opt)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.loaded) >= maxLoaded {
		clear(r.loaded) // runs have theirs
	}
	r.loaded[at] = d
	return d, nil
}

// maxLoaded is how many versions are remembered.
const maxLoaded = 1000
