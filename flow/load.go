package flow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"

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
	v, err := r.reading(ctx, place{tenant, id, number})
	return v.definition, err
}

// Flow reads a version of a flow. Others have the same one: it must not be changed. pawl.ErrNotFound.
func (r *Registry) Flow(ctx context.Context, tenant, id string, version int) (*Flow, error) {
	v, err := r.reading(ctx, place{tenant, id, version})
	return v.flow, err
}

// reading is a version that was read of a document of some bytes.
type reading struct {
	flow       *Flow
	definition pawl.Definition
	bytes      int
}

func (r *Registry) reading(ctx context.Context, at place) (reading, error) {
	if v, is := r.loaded.get(at); is {
		return v, nil
	}
	stored, err := r.Version(ctx, at.tenant, at.id, at.version)
	if err != nil {
		return reading{}, err
	}
	f, err := reread(stored.Document, r.World())
	if err != nil {
		return reading{}, fmt.Errorf("version %d of flow %s: %w", at.version, at.id, err)
	}
	f.Version = at.version
	v := reading{f, Define(f, r.opt), len(stored.Document)}
	r.loaded.put(at, v)
	return v, nil
}

// maxLoaded is how many bytes of documents are remembered once they are read. In memory one takes up to fourteen times
// as much (a list of a hundred thousand texts with a place in each does).
const maxLoaded = 1 << 20

// loaded remembers versions that were read. They don't change, and who uses one holds it, so any may be forgotten. The zero value is empty.
type loaded struct {
	mu    sync.Mutex
	all   map[place]reading
	bytes int
}

func (l *loaded) get(at place) (v reading, is bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, is = l.all[at]
	return v, is
}

// put remembers a version, and forgets others, whichever, until there is room.
func (l *loaded) put(at place, v reading) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[place]reading{}
	}
	l.drop(at)
	for other := range l.all {
		if l.bytes+v.bytes <= maxLoaded {
			break
		}
		l.drop(other)
	}
	l.all[at] = v
	l.bytes += v.bytes
}

// drop forgets a version. The caller holds mu.
func (l *loaded) drop(at place) {
	l.bytes -= l.all[at].bytes
	delete(l.all, at)
}
