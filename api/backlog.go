package api

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pawlrun/pawl"
)

// gauge bounds how much of something the store has under each name, by counting it there.
//
// In one process the bound is exact: what was let in since the last count, or was under way then,
// counts as if it were stored. Each process of a store counts for itself: together they may go
// over by what the others let in between two counts.
type gauge[N comparable] struct {
	most  int // negative: no bound
	count func(ctx context.Context, name N, most int) (int, error)

	mu  sync.Mutex
	all map[N]*level
}

type level struct {
	users int // who holds it; under the gauge's mu
	under atomic.Int64

	mu     sync.Mutex // held while it is counted: who comes meanwhile waits for that
	stored int        // at the last count
	let    int        // let in since, or under way then
	at     time.Time
}

const (
	countEvery = 100 * time.Millisecond // while there is room
	countFull  = 10 * time.Millisecond  // while there is none
	manyLevels = 10_000
)

func newGauge[N comparable](most, otherwise int, count func(context.Context, N, int) (int, error)) *gauge[N] {
	if most == 0 {
		most = otherwise
	}
	return &gauge[N]{most: most, count: count, all: map[N]*level{}}
}

// enter lets one more in, or not: then leave is nil. leave is to be called when it is stored, or
// will not be; a second call does nothing.
func (g *gauge[N]) enter(ctx context.Context, name N) (leave func(), err error) {
	if g.most < 0 {
		return func() {}, nil
	}
	l := g.hold(name)
	l.mu.Lock()
	defer l.mu.Unlock()
	if age := time.Since(l.at); age > countEvery || l.stored+l.let >= g.most && age > countFull {
		under := int(l.under.Load()) // before the count, which may have it too
		if l.stored, err = g.count(ctx, name, g.most); err != nil {
			l.at = time.Time{}
			g.drop(l)
			return nil, err
		}
		l.let, l.at = under, time.Now()
	}
	if l.stored+l.let >= g.most {
		g.drop(l)
		return nil, nil
	}
	l.let++
	l.under.Add(1)
	return sync.OnceFunc(func() {
		l.under.Add(-1)
		g.drop(l)
	}), nil
}

func (g *gauge[N]) hold(name N) *level {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.all[name]
	if l == nil {
		if len(g.all) >= manyLevels {
			for name, l := range g.all {
				if l.users == 0 { // it is counted again
					delete(g.all, name)
				}
			}
		}
		l = &level{}
		g.all[name] = l
	}
	l.users++
	return l
}

func (g *gauge[N]) drop(l *level) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l.users--
}

// backlogRetry is when it is worth another try where a queue is full.
const backlogRetry = 5 * time.Second

// queue lets a request make a run of its caller's tenant.
func (s *server) queue(w http.ResponseWriter, r *http.Request) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(r.Context(), callLimit)
	defer cancel()
	leave, err = s.queued.enter(ctx, tenantOf(r.Context()))
	if leave == nil && err == nil {
		err = tooMany(w, backlogRetry, "%d runs that were asked for have not begun, which is the most that may wait: nothing was done", s.queued.most)
	}
	return leave, err
}

// inbox lets a request send something to a run; to none, which gets nothing, it lets it too.
func (s *server) inbox(ctx context.Context, run pawl.RunInfo) (leave func(), err error) {
	if run.Key == 0 {
		return func() {}, nil
	}
	leave, err = s.unread.enter(ctx, run.Key)
	if leave == nil && err == nil {
		err = tooMany(exchangeOf(ctx).w, backlogRetry, "run %s has not taken %d events and payloads that were sent to it, which is the most: nothing was sent", run.ID, s.unread.most)
	}
	return leave, err
}
