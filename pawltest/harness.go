package pawltest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// Harness is an engine on a store in memory, at work until the test ends, and what a test
// does to it. Its methods end the test when they fail. It is safe for concurrent use; what
// may fail must be called from the test's goroutine, or from a driver's.
//
// When the test ends, the harness reports as errors of the test what no run of it may ever
// show: a step recorded twice, a body that ran after its result was recorded, a run that
// nothing would have woken.
type Harness struct {
	tb    testing.TB
	store *sqlite.Store
	l     *ledger
	opt   pawl.Options
	defs  []pawl.Definition
	log   *quietLog
	fatal func(text string) // ends the goroutine of the test or the driver
	limit time.Duration     // of waiting
	mocks mocks

	ctx    context.Context
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	now     *worker
	client  *pawl.Engine // what Engine returns, if it is not the worker's
	workers []*worker

	networks []*network // what Client has made
}

// worker is one life of a worker.
type worker struct {
	tap    *tap
	engine *pawl.Engine
	stop   context.CancelFunc
	done   chan error
}

var errTestEnded = errors.New("pawltest: the test has ended")

// Run calls f in a bubble of virtual time, as synctest.Test does, with a Harness that knows
// defs. What f starts must end with it: see the package comment.
func Run(t *testing.T, f func(t *testing.T, h *Harness), defs ...pawl.Definition) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, New(t, defs...)) })
}

// New makes a Harness that knows defs, in the bubble in which it is called or, outside of
// one, in real time.
func New(t testing.TB, defs ...pawl.Definition) *Harness {
	t.Helper()
	return NewWith(t, pawl.Options{}, defs...)
}

// NewWith is New with settings of the engine. Where they are zero the harness has its own:
// in a bubble a Poll of six hours and a Lease of a day, because in virtual time only who
// looks at the clock costs real time; a Drain of a second; its own Logger,
// which keeps warnings and errors and prints them when the test has failed. Intercept is
// called for bodies that are not mocked.
func NewWith(t testing.TB, opt pawl.Options, defs ...pawl.Definition) *Harness {
	t.Helper()
	h, err := open(t, opt, defs)
	if err != nil {
		t.Fatalf("pawltest: %v", err)
	}
	t.Cleanup(func() { h.close() })
	if err := h.hire(newTap(h.l)); err != nil {
		t.Fatalf("pawltest: %v", err)
	}
	return h
}

// open makes a harness without a worker.
func open(t testing.TB, opt pawl.Options, defs []pawl.Definition) (*Harness, error) {
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		return nil, err
	}
	h := &Harness{tb: t, store: store, l: newLedger(store), opt: opt, defs: defs, log: &quietLog{}}
	h.fatal = func(text string) { h.tb.Helper(); h.tb.Fatal(text) }
	h.ctx, h.cancel = context.WithCancelCause(context.Background())
	h.limit = 30 * time.Second
	if inBubble() {
		h.limit = 366 * 24 * time.Hour
		h.opt.Poll = cmp.Or(opt.Poll, 6*time.Hour)
		h.opt.Lease = cmp.Or(opt.Lease, 24*time.Hour)
	}
	h.opt.Drain = cmp.Or(opt.Drain, time.Second)
	h.opt.Name = cmp.Or(opt.Name, "pawltest")
	h.opt.PublicURL = cmp.Or(opt.PublicURL, "http://localhost")
	if len(opt.Secret) == 0 { // so that links and tokens can be made
		h.opt.Secret = []byte("a secret that nobody has to keep, for tests")
	}
	if opt.Logger == nil {
		h.opt.Logger = slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	return h, nil
}

// hire puts a new worker to work.
func (h *Harness) hire(t *tap) error {
	w := &worker{tap: t, done: make(chan error, 1)}
	opt := h.opt
	opt.Intercept = func(ctx context.Context, body func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
		if t.isCut() {
			return nil, errCut
		}
		h.l.begins(pawl.InfoOf(ctx))
		if h.opt.Intercept != nil {
			inner := body
			body = func(ctx context.Context) (json.RawMessage, error) { return h.opt.Intercept(ctx, inner) }
		}
		return h.mocks.call(ctx, body)
	}
	w.engine = pawl.New(t, &opt)
	if err := w.engine.Register(h.defs...); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	h.mu.Lock()
	h.now = w
	h.workers = append(h.workers, w)
	h.mu.Unlock()
	go func() { w.done <- w.engine.Run(ctx) }()
	h.settle()
	return nil
}

// settle returns, in a bubble, when everybody else waits: only then time moves at all.
func (h *Harness) settle() { time.Sleep(time.Nanosecond) }

// Crash kills the worker where it is and lets another take over: goroutines of runs end,
// nothing that was not committed is left, and what the runs go on with is their journal.
func (h *Harness) Crash() {
	h.tb.Helper()
	if err := h.takeOver(0); err != nil {
		h.failf("crash: %v", err)
	}
}

func (h *Harness) takeOver(outage time.Duration) error {
	old := h.worker()
	old.tap.kill()
	// An engine learns that it is dead from a commit: then it drops all its runs at once.
	if err := old.engine.Signal(context.Background(), "-", "crash", nil); err == nil {
		return errors.New("the worker that was killed still writes")
	}
	old.stop()
	h.cut(old.engine)
	h.settle()
	time.Sleep(outage)
	if err := old.tap.bury(); err != nil {
		return err
	}
	return h.hire(newTap(h.l))
}

// Engine returns the engine, for what the harness has no method for. After Crash it is
// another one; handles that were made before belong to the old one, which is dead. In a
// driver it is a client: it works no runs.
func (h *Harness) Engine() *pawl.Engine {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client != nil {
		return h.client
	}
	return h.now.engine
}

func (h *Harness) worker() *worker {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// Context returns a context that ends with the test.
func (h *Harness) Context() context.Context { return h.ctx }

// close ends all workers and the store, and reports what was found.
func (h *Harness) close() {
	h.tb.Helper()
	h.shut()
	for _, p := range h.l.problems {
		h.tb.Errorf("pawltest: %s", p)
	}
	if text := h.log.String(); text != "" && h.tb.Failed() {
		h.tb.Logf("the engine's warnings:\n%s", text)
	}
}

// lull is left to what works behind a step's back, such as the writer of what a pacer knows: a
// goroutine of it that waits for its moment as the test returns would be told as a deadlock.
const lull = time.Second

// shut returns when nothing of the harness is left but what the ledger knows.
func (h *Harness) shut() {
	h.cancel(errTestEnded)
	h.cut(nil)
	h.mu.Lock()
	workers := h.workers
	h.mu.Unlock()
	for _, w := range workers {
		w.stop()
	}
	for _, w := range workers {
		if err := <-w.done; err != nil && !errors.Is(err, pawl.ErrClosed) {
			h.l.problem("the engine stopped: %v", err)
		}
	}
	if h.client != nil {
		if err := h.client.Close(); err != nil {
			h.l.problem("close the client: %v", err)
		}
	}
	if inBubble() {
		time.Sleep(lull)
	}
	found, err := h.store.Audit(context.Background(), time.Now())
	if err != nil {
		h.l.problem("audit: %v", err)
	}
	for _, f := range found {
		h.l.problem("nothing would ever wake run %s, which is %s: %s", f.RunID, f.State, f.What)
	}
	if err := h.store.Close(); err != nil {
		h.l.problem("close the store: %v", err)
	}
}

// inBubble tells whether the goroutine is in a bubble of virtual time.
func inBubble() (in bool) {
	defer func() { in = recover() == nil }()
	synctest.Wait() // panics outside of one
	return true
}

// quietLog keeps what is logged.
type quietLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (q *quietLog) Write(b []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.buf.Write(b)
}

func (q *quietLog) String() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.buf.String()
}
