package pawl_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// patience is how long a test waits for what must happen. It bounds a failure; nothing
// that passes takes as long.
const patience = 60 * time.Second

// none is the input or the result of a workflow that has none.
type none struct{}

// node is one process that works runs: an engine, and its store behind a switch.
type node struct {
	*pawl.Engine
	t     *testing.T
	ctx   context.Context
	store *cut
	end   context.CancelFunc
	ended chan error
}

// boot starts an engine that works runs until the test ends. opt may be nil.
func boot(t *testing.T, store pawl.Store, opt *pawl.Options, defs ...pawl.Definition) *node {
	t.Helper()
	n := client(t, store, opt, defs...)
	ctx, end := context.WithCancel(context.Background())
	n.end = end
	go func() { n.ended <- n.Run(ctx) }()
	t.Cleanup(n.stop)
	return n
}

// client makes an engine that works no runs.
func client(t *testing.T, store pawl.Store, opt *pawl.Options, defs ...pawl.Definition) *node {
	t.Helper()
	var o pawl.Options
	if opt != nil {
		o = *opt
	}
	if o.Poll == 0 {
		o.Poll = 50 * time.Millisecond
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	s, isCut := store.(*cut)
	if !isCut {
		s = &cut{Store: store}
	}
	n := &node{Engine: pawl.New(s, &o), t: t, ctx: ctx, store: s, ended: make(chan error, 1)}
	if err := n.Register(defs...); err != nil {
		t.Fatal(err)
	}
	return n
}

// stop ends the engine in order. Stopping twice is nothing.
func (n *node) stop() {
	n.t.Helper()
	if n.end == nil {
		return
	}
	n.end()
	n.end = nil
	select {
	case err := <-n.ended:
		if err != nil {
			n.t.Errorf("Run returned %v", err)
		}
	case <-time.After(patience):
		buf := make([]byte, 1<<20)
		n.t.Fatalf("Run does not return\n%s", buf[:runtime.Stack(buf, true)])
	}
}

// crash is the sudden death of the process, as far as the store can see it: no write
// arrives any more, nobody says goodbye, and the lease runs out, without waiting for it.
// The goroutines are let go at the test's end.
func (n *node) crash() {
	n.t.Helper()
	if err := n.store.die(); err != nil {
		n.t.Fatal(err)
	}
}

// mayCrash are the options of an engine that a test will kill.
func mayCrash() *pawl.Options { return &pawl.Options{Drain: 10 * time.Millisecond} }

// replays are the options of an engine that keeps no waiting run in memory: each wake is a
// replay.
func replays() *pawl.Options { return &pawl.Options{MaxParked: -1} }

// start starts a run.
func start[In, Out any](n *node, w *pawl.Workflow[In, Out], in In, opts ...pawl.StartOption) *pawl.Run[Out] {
	n.t.Helper()
	r, err := w.Start(n.ctx, n.Engine, in, opts...)
	if err != nil {
		n.t.Fatal(err)
	}
	return r
}

// result waits for the result of a run that must complete.
func result[Out any](n *node, r *pawl.Run[Out]) Out {
	n.t.Helper()
	out, err := pawl.Attach[Out](n.Engine, r.ID()).Result(n.ctx)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// failure waits for the end of a run that must not complete.
func failure[Out any](n *node, r *pawl.Run[Out]) *pawl.RunError {
	n.t.Helper()
	out, err := pawl.Attach[Out](n.Engine, r.ID()).Result(n.ctx)
	var re *pawl.RunError
	if !errors.As(err, &re) {
		n.t.Fatalf("run %s: got %v and error %v, want a *RunError", r.ID(), out, err)
	}
	return re
}

// complete is start and result.
func complete[In, Out any](n *node, w *pawl.Workflow[In, Out], in In, opts ...pawl.StartOption) Out {
	n.t.Helper()
	return result(n, start(n, w, in, opts...))
}

// info is what the store knows of a run.
func (n *node) info(id string) pawl.RunInfo {
	n.t.Helper()
	info, err := n.Get(n.ctx, pawl.Ref{ID: id})
	if err != nil {
		n.t.Fatal(err)
	}
	return info
}

// reaches waits until a run is in a state.
func (n *node) reaches(id string, s pawl.State) (info pawl.RunInfo) {
	n.t.Helper()
	n.until(fmt.Sprintf("run %s to be %s", id, s), func() bool {
		info = n.info(id)
		return info.State == s
	})
	return info
}

// until waits for a condition that must come true.
func (n *node) until(what string, cond func() bool) {
	n.t.Helper()
	for !cond() {
		if n.ctx.Err() != nil {
			n.t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// sees follows a run's journal until an entry is in it.
func (n *node) sees(id string, kind pawl.Kind, key string) pawl.Entry {
	n.t.Helper()
	for e, err := range n.Follow(n.ctx, pawl.Ref{ID: id}, -1) {
		if err != nil {
			n.t.Fatalf("wait for the %s %q of run %s: %v", kind, key, id, err)
		}
		if e.Kind == kind && e.Key == key {
			return e
		}
	}
	n.t.Fatalf("run %s stopped without a %s %q", id, kind, key)
	return pawl.Entry{}
}

// journal returns a run's entries, those of some kinds only if kinds are given.
func (n *node) journal(id string, kinds ...pawl.Kind) (out []pawl.Entry) {
	n.t.Helper()
	for e, err := range n.Journal(n.ctx, pawl.Ref{ID: id}) {
		if err != nil {
			n.t.Fatal(err)
		}
		if len(kinds) == 0 || slices.Contains(kinds, e.Kind) {
			out = append(out, e)
		}
	}
	return out
}

func (n *node) keys(id string, kinds ...pawl.Kind) (out []string) {
	n.t.Helper()
	for _, e := range n.journal(id, kinds...) {
		out = append(out, e.Key)
	}
	return out
}

// hook waits until a token is registered.
func (n *node) hook(token string) (h pawl.HookInfo) {
	n.t.Helper()
	n.until("hook "+token, func() bool {
		var err error
		h, err = n.FindHook(n.ctx, "", token)
		if err != nil && !errors.Is(err, pawl.ErrNotFound) {
			n.t.Fatal(err)
		}
		return err == nil
	})
	return h
}

func (n *node) resume(token string, data any) pawl.RunInfo {
	n.t.Helper()
	info, err := n.Resume(n.ctx, token, data)
	if err != nil {
		n.t.Fatal(err)
	}
	return info
}

func (n *node) signal(id, event string, data any) {
	n.t.Helper()
	if err := n.Signal(n.ctx, id, event, data); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) cancel(id, reason string) {
	n.t.Helper()
	if _, err := n.Cancel(n.ctx, pawl.Ref{ID: id}, reason); err != nil {
		n.t.Fatal(err)
	}
}

// equal fails the test unless got is want.
func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// gate is where a step's body stops, so that a test knows that it is there.
type gate struct {
	reached chan int // the attempt that came
	release chan struct{}
}

func newGate() *gate { return &gate{make(chan int, 100), make(chan struct{})} }

// pass tells that the body is there and waits until the gate opens or ctx ends.
func (g *gate) pass(ctx context.Context) error {
	g.reached <- pawl.InfoOf(ctx).Attempt
	select {
	case <-g.release:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *gate) wait(t *testing.T) {
	t.Helper()
	select {
	case <-g.reached:
	case <-time.After(patience):
		t.Fatal("nobody came to the gate")
	}
}

func (g *gate) open() { close(g.release) }

// counts counts by name.
type counts struct {
	mu sync.Mutex
	m  map[string]int
}

func (c *counts) add(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[string]int{}
	}
	c.m[name]++
	return c.m[name]
}

func (c *counts) get(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m[name]
}

// cut is a store that can be cut off: from then on every method fails with ErrFenced, and
// what was under way is answered so too, whether it was written or not.
type cut struct {
	pawl.Store
	dead   atomic.Bool
	worker atomic.Int64 // who joined through it

	// before and after, if set, are called around each Commit; an error of before is
	// returned in its place. They must be set before the engine runs.
	before func(b *pawl.Batch) error
	after  func(b *pawl.Batch)
	calls  atomic.Int64 // of any method
}

// die cuts it off and ends the lease of who joined through it.
func (s *cut) die() error {
	s.dead.Store(true)
	now := time.Now()
	err := s.Store.Beat(context.Background(), s.worker.Load(), now, now.Add(-time.Second))
	if errors.Is(err, pawl.ErrFenced) { // it is over
		err = nil
	}
	return err
}

func (s *cut) call(f func() error) error {
	s.calls.Add(1)
	if s.dead.Load() {
		return pawl.ErrFenced
	}
	err := f()
	if s.dead.Load() {
		return pawl.ErrFenced
	}
	return err
}

func answer[T any](s *cut, f func() (T, error)) (v T, err error) {
	err = s.call(func() (err error) {
		v, err = f()
		return err
	})
	if errors.Is(err, pawl.ErrFenced) {
		v = *new(T)
	}
	return v, err
}

func (s *cut) Join(ctx context.Context, w pawl.WorkerInfo, until time.Time) (int64, error) {
	id, err := answer(s, func() (int64, error) { return s.Store.Join(ctx, w, until) })
	s.worker.Store(id)
	return id, err
}

func (s *cut) Beat(ctx context.Context, worker int64, now, until time.Time) error {
	return s.call(func() error { return s.Store.Beat(ctx, worker, now, until) })
}

func (s *cut) Leave(ctx context.Context, worker int64, now time.Time) error {
	return s.call(func() error { return s.Store.Leave(ctx, worker, now) })
}

func (s *cut) Commit(ctx context.Context, b *pawl.Batch) error {
	err := s.call(func() error {
		if s.before != nil {
			if err := s.before(b); err != nil {
				return err
			}
			if s.dead.Load() {
				return pawl.ErrFenced
			}
		}
		err := s.Store.Commit(ctx, b)
		if err == nil && s.after != nil {
			s.after(b)
		}
		return err
	})
	if err != nil {
		b.Granted, b.Mail = nil, nil
	}
	return err
}

func (s *cut) Claim(ctx context.Context, r pawl.ClaimRequest) (pawl.Claims, error) {
	return answer(s, func() (pawl.Claims, error) { return s.Store.Claim(ctx, r) })
}

func (s *cut) Mail(ctx context.Context, worker int64) ([]pawl.Mail, error) {
	return answer(s, func() ([]pawl.Mail, error) { return s.Store.Mail(ctx, worker) })
}

func (s *cut) Journal(ctx context.Context, run, after int64, limit int) ([]pawl.Entry, error) {
	return answer(s, func() ([]pawl.Entry, error) { return s.Store.Journal(ctx, run, after, limit) })
}

func (s *cut) Index(ctx context.Context, run, after int64, limit, inline int) ([]pawl.Entry, error) {
	return answer(s, func() ([]pawl.Entry, error) { return s.Store.Index(ctx, run, after, limit, inline) })
}

func (s *cut) Result(ctx context.Context, run int64) (pawl.Entry, error) {
	return answer(s, func() (pawl.Entry, error) { return s.Store.Result(ctx, run) })
}

func (s *cut) Lookup(ctx context.Context, tenant, id string) (pawl.RunInfo, error) {
	return answer(s, func() (pawl.RunInfo, error) { return s.Store.Lookup(ctx, tenant, id) })
}

func (s *cut) List(ctx context.Context, f pawl.Filter) ([]pawl.RunInfo, error) {
	return answer(s, func() ([]pawl.RunInfo, error) { return s.Store.List(ctx, f) })
}

func (s *cut) Chunks(ctx context.Context, run int64, stream string, from int64, limit int) ([]pawl.Chunk, error) {
	return answer(s, func() ([]pawl.Chunk, error) { return s.Store.Chunks(ctx, run, stream, from, limit) })
}

func (s *cut) Streams(ctx context.Context, run int64) ([]pawl.StreamInfo, error) {
	return answer(s, func() ([]pawl.StreamInfo, error) { return s.Store.Streams(ctx, run) })
}

func (s *cut) FindHook(ctx context.Context, tenant, token string, now time.Time) (pawl.HookInfo, error) {
	return answer(s, func() (pawl.HookInfo, error) { return s.Store.FindHook(ctx, tenant, token, now) })
}

func (s *cut) ListHooks(ctx context.Context, f pawl.HookFilter) ([]pawl.HookInfo, error) {
	return answer(s, func() ([]pawl.HookInfo, error) { return s.Store.ListHooks(ctx, f) })
}

func (s *cut) Holders(ctx context.Context, run int64, now time.Time) (pawl.Holders, error) {
	return answer(s, func() (pawl.Holders, error) { return s.Store.Holders(ctx, run, now) })
}

func (s *cut) Audit(ctx context.Context, now time.Time) ([]pawl.Finding, error) {
	return answer(s, func() ([]pawl.Finding, error) { return s.Store.Audit(ctx, now) })
}

func (s *cut) Purge(ctx context.Context, now time.Time, limit int) (int, error) {
	return answer(s, func() (int, error) { return s.Store.Purge(ctx, now, limit) })
}

func (s *cut) Tally(ctx context.Context, f pawl.TallyFilter) (pawl.Tally, error) {
	return answer(s, func() (pawl.Tally, error) { return s.Store.Tally(ctx, f) })
}

func (s *cut) Stats(ctx context.Context, now time.Time) (pawl.Stats, error) {
	return answer(s, func() (pawl.Stats, error) { return s.Store.Stats(ctx, now) })
}

// Watch implements pawl.Watcher, as far as the store behind does.
func (s *cut) Watch(ctx context.Context, hint func()) error {
	if w, ok := s.Store.(pawl.Watcher); ok {
		return w.Watch(ctx, func() {
			if !s.dead.Load() {
				hint()
			}
		})
	}
	<-ctx.Done()
	return nil
}

// panicInAnotherFile is a helper whose file a stack must name.
func panicInAnotherFile() error { panic("Error from imported helper module") }

// noMap is one that nothing can be put into.
func noMap() map[string]int { return nil }

func mustDecode(t *testing.T, raw string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(raw), v); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
}
