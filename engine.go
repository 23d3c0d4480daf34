package pawl

import (
	"cmp"
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options are an engine's settings. The zero value works; fields say their defaults.
type Options struct {
	// MaxRunning is how many runs are worked at once. A run that waits does not count.
	// 0 means 1,000.
	MaxRunning int
	// MaxParked is how many waiting runs keep their goroutines in memory, so that they go
	// on without replay. 0 means 256; negative: none.
	MaxParked int
	// ParkFor is how long a waiting run keeps them. 0 means 5 s.
	ParkFor time.Duration
	// Lease is how long a worker that stopped beating keeps its runs. 0 means 10 s.
	Lease time.Duration
	// Poll is how often the store is asked for work when no hint came. 0 means 1 s.
	Poll time.Duration
	// MaxPayload is the most bytes of JSON that an input, a result or a message may have.
	// 0 means 2 MiB.
	MaxPayload int
	// Drain is how long Run lets steps under way finish after its context ended. 0 means 10 s.
	Drain time.Duration
	// MaxStrikes is how many claims in a row may end with a dead worker and no progress
	// before a run is Blocked. 0 means 5. From the third on the run is worked alone.
	MaxStrikes int
	// CancelGrace is how long a run that was cancelled, or is past its [Timeout] or [Deadline], may
	// take to return before it is ended over its function's head. Compensations run within it, so
	// such a run may end that much later than its limit says. 0 means 30 s.
	CancelGrace time.Duration
	// CheckSchema validates hook payloads against the Schema of their hook. Without it
	// NewHook refuses a Schema.
	CheckSchema func(schema, data []byte) error
	// Intercept, if not nil, is called in place of the body of each attempt of a step, a
	// compensation's included; what it returns is what the attempt returns. ctx is the
	// body's, so that InfoOf tells of which step; body runs it. It may change ctx, call body
	// not at all or more than once, and return a result of its own, as JSON. It is for tests,
	// which replace bodies, and for what must surround every body.
	Intercept func(ctx context.Context, body func(context.Context) (json.RawMessage, error)) (json.RawMessage, error)
	// PublicURL is the address at which the outside world reaches the server that answers
	// webhooks, for Webhook.URL. "" makes URL a path only.
	PublicURL string
	// Secret is the key from which the tokens of hooks and webhooks are derived, and with which
	// [Engine.Sign] signs. All processes of a store are given the same, of at least 32 random
	// bytes; with a shorter one Run and Sign return ErrState. With it no token is stored: a store
	// holds their hashes only. Without it tokens are random and are in the journals of their
	// runs. A run that has made hooks with one secret is Blocked by a worker with another.
	Secret []byte
	// OtherSecrets are further secrets: what was signed or derived with one of them holds too, and
	// nothing new is made with it. To change the secret of processes that share a store: give all
	// of them the new one here; then make it Secret in all of them, and the old one one of these;
	// and take that away when no run has a hook of it any more, and no link is out.
	OtherSecrets [][]byte
	// Observer is told what happens. nil: nobody.
	Observer Observer
	// Logger is where the engine reports trouble. nil means slog.Default().
	Logger *slog.Logger
	// Name is shown as the worker's. "" means host and process id.
	Name string
}

// Engine runs workflows on a store. Without [Engine.Run] it is a client: it starts,
// signals and reads runs that other processes work. It is safe for concurrent use.
type Engine struct {
	store Store
	opt   Options
	log   *slog.Logger
	pipe  pipeline

	background sync.WaitGroup // goroutines of runs

	// unsecured is set in a check: who is told of a run that lacks the secret, in place of its being blocked.
	unsecured func(run int64, why string)

	mu       sync.Mutex
	defs     map[string]*definition
	names    []string
	running  bool
	stopping bool
	closed   bool
	lost     chan struct{}   // closed when the worker lost its lease
	runs     map[int64]*live // those that this worker holds
	parked   map[int64]*live // waiting, with their goroutines; a cache
	parking  list.List       // the same, oldest first
	evictor  *time.Timer

	id      atomic.Int64 // the worker; zero: none
	trust   atomic.Int64 // unix nanoseconds until which the lease is believed in
	hungry  atomic.Bool  // there was more to claim than room for it
	due     atomic.Int64 // unix microseconds at which the scheduler looks again
	kicked  chan struct{}
	watch   watchers
	sources sources
	feed    feed
	onEnd   atomic.Pointer[func(*RunInfo, int64) []Put]

	suspects  []suspect // held, and waiting for their trials
	suspected chan struct{}
	trial     atomic.Bool // a suspect is being tried: no other run is taken
}

// New makes an engine on store. It starts nothing. opt may be nil.
func New(store Store, opt *Options) *Engine {
	var o Options
	if opt != nil {
		o = *opt
	}
	o.Secret = slices.Clone(o.Secret)
	o.OtherSecrets = slices.Clone(o.OtherSecrets)
	for i, secret := range o.OtherSecrets {
		o.OtherSecrets[i] = slices.Clone(secret)
	}
	o.MaxRunning = cmp.Or(o.MaxRunning, 1000)
	o.MaxParked = max(cmp.Or(o.MaxParked, 256), 0)
	o.ParkFor = cmp.Or(o.ParkFor, 5*time.Second)
	o.Lease = cmp.Or(o.Lease, 10*time.Second)
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.MaxPayload = cmp.Or(o.MaxPayload, 2<<20)
	o.Drain = cmp.Or(o.Drain, 10*time.Second)
	o.MaxStrikes = cmp.Or(o.MaxStrikes, 5)
	o.CancelGrace = cmp.Or(o.CancelGrace, 30*time.Second)
	if o.Name == "" {
		host, _ := os.Hostname()
		o.Name = fmt.Sprintf("%s/%d", host, os.Getpid())
	}
	e := &Engine{
		store: store, opt: o, log: o.Logger,
		defs: map[string]*definition{}, runs: map[int64]*live{}, parked: map[int64]*live{},
		kicked: make(chan struct{}, 1), suspected: make(chan struct{}, 1),
	}
	if e.log == nil {
		e.log = slog.Default()
	}
	if e.opt.Observer == nil {
		e.opt.Observer = NoObserver{}
	}
	e.pipe.e = e
	e.pipe.idle.L = &e.pipe.mu
	e.watch.init()
	e.feed.poke = make(chan struct{}, 1)
	return e
}

// Register tells the engine the code of workflows, and of those that they use: before Run, or while it works, where code comes
// with data. ErrDuplicate: another workflow has the name; then none of defs is registered. The same
// workflow may be registered again.
func (e *Engine) Register(defs ...Definition) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := maps.Clone(e.defs)
	for i, d := range defs {
		if d == nil || d.definition() == nil {
			return fmt.Errorf("%w: Register: workflow %d of %d is nil", ErrInput, i+1, len(defs))
		}
		if err := d.definition().register(all); err != nil {
			return err
		}
	}
	e.defs, e.names = all, slices.Sorted(maps.Keys(all))
	if e.running {
		e.kick() // runs of these may wait for somebody who knows them
	}
	return nil
}

// known are the names of the registered workflows. They are not to be changed.
func (e *Engine) known() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.names
}

// register adds a workflow and those that it uses to all.
func (d *definition) register(all map[string]*definition) error {
	switch all[d.name] {
	case d:
		return nil
	case nil:
		all[d.name] = d
	default:
		return fmt.Errorf("%w: workflow %q", ErrDuplicate, d.name)
	}
	for i, used := range d.opts.uses {
		if used == nil || used.definition() == nil {
			return fmt.Errorf("%w: workflow %q: what it Uses is nil (%d of %d)", ErrInput, d.name, i+1, len(d.opts.uses))
		}
		if err := used.definition().register(all); err != nil {
			return fmt.Errorf("%w, which %q uses", err, d.name)
		}
	}
	return nil
}

// Workflows returns the names of the registered workflows, sorted.
func (e *Engine) Workflows() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.names)
}

// Accepts says whether a run of a workflow could be started with this input: nil, ErrUnknown or
// ErrInput. It starts none. nil input is null.
func (e *Engine) Accepts(ctx context.Context, tenant, workflow string, input json.RawMessage) error {
	def, err := e.definition(workflow)
	if err != nil {
		return err
	}
	if input == nil {
		input = json.RawMessage("null")
	}
	if def, _, err = def.pick(ctx, Starting{Tenant: tenant, Input: input}); err != nil {
		return err
	}
	return def.check(input)
}

func (e *Engine) definition(name string) (*definition, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if d := e.defs[name]; d != nil {
		return d, nil
	}
	for _, d := range e.defs {
		if d.versions != nil { // it may be one tenant's own, whose names are not told; who asks for it gets this error too
			return nil, fmt.Errorf("%w: %q", ErrUnknown, name)
		}
	}
	return nil, fmt.Errorf("%w: %q; registered here: %q", ErrUnknown, name, e.names)
}

// Run works until ctx ends. Then it takes no more runs, lets steps under way finish for
// Options.Drain, gives back what it holds, and returns nil: no attempt was burned. When it
// returns, no goroutine of a run is left but those of step bodies that ignore their
// context. An engine runs once.
func (e *Engine) Run(ctx context.Context) error {
	if ctx == nil {
		return errNoContext
	}
	if e.store == nil {
		return fmt.Errorf("%w: Run: the engine has no store, New was given nil", ErrInput)
	}
	if err := e.checkSecret(); err != nil {
		return err
	}
	e.mu.Lock()
	if e.running {
		e.mu.Unlock()
		return fmt.Errorf("%w: Run was called before", ErrState)
	}
	e.running = true
	e.mu.Unlock()

	for pause := shortPause; ; pause = min(2*pause, 5*time.Second) {
		id, until, err := e.join(ctx)
		if err == nil {
			pause = shortPause // it backs off from a store that is not there, not from a lost lease
			err = e.live(ctx, id, until)
		}
		if err == nil || ctx.Err() != nil {
			break
		}
		if errors.Is(err, ErrSchema) || errors.Is(err, ErrClosed) {
			e.end()
			return err
		}
		e.log.Error("pawl: the worker lost its lease or its store, joining again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	e.end()
	return nil
}

const shortPause = 100 * time.Millisecond

func (e *Engine) end() {
	e.mu.Lock()
	e.stopping = true
	e.mu.Unlock()
	done := make(chan struct{})
	go func() { e.background.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Second): // all others have ended at once
		e.log.Warn("pawl: step bodies that do not heed their context are left behind; what they return is dropped")
	}
	e.pipe.rest()
}

// join makes this engine a worker of its store.
func (e *Engine) join(ctx context.Context) (id int64, until time.Time, err error) {
	now := time.Now()
	until = now.Add(e.opt.Lease)
	if id, err = e.store.Join(ctx, WorkerInfo{Name: e.opt.Name, Started: now}, until); err != nil {
		err = fmt.Errorf("join the store: %w", err)
	}
	return id, until, err
}

// live is one life of the worker: from having joined the store to leaving it, or to the loss
// of its lease.
func (e *Engine) live(ctx context.Context, id int64, until time.Time) (err error) {
	lost := make(chan struct{})
	e.mu.Lock()
	e.lost = lost
	e.mu.Unlock()
	e.trust.Store(until.UnixNano())
	e.id.Store(id)

	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	var helpers sync.WaitGroup
	helpers.Go(func() { e.beat(inner, id) })
	helpers.Go(func() { e.schedule(ctx, inner, id) })
	helpers.Go(func() { e.janitor(inner) })
	helpers.Go(func() { e.quarantine(inner) })
	if w, ok := e.store.(Watcher); ok {
		helpers.Go(func() { e.listen(inner, w) })
	}
	select {
	case <-ctx.Done():
		e.drain(id)
	case <-lost:
		err = ErrFenced
	}
	stop()
	helpers.Wait()
	e.id.CompareAndSwap(id, 0) // before abandon: what is granted from here on is not taken
	e.abandon()
	if err == nil {
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.opt.Lease)
		if lerr := e.store.Leave(leave, id, time.Now()); lerr != nil {
			e.log.Error("pawl: leave the store; the lease will run out", "error", lerr)
		}
		cancel()
	}
	return err
}

// worker is the identity under which this engine commits now.
func (e *Engine) worker() int64 { return e.id.Load() }

// room is how many more runs this engine would work now.
func (e *Engine) room() int {
	if e.id.Load() == 0 || e.trial.Load() {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopping || e.lost == nil {
		return 0
	}
	return max(e.opt.MaxRunning-len(e.runs), 0)
}

// patient reports whether a write that failed should be tried again rather than given up.
func (e *Engine) patient(worker int64) bool {
	return worker != 0 && worker == e.id.Load() && time.Now().UnixNano() < e.trust.Load()
}

// leased reports whether the worker's lease goes on for a while, as far as is known here.
func (e *Engine) leased(worker int64) bool {
	return worker == e.id.Load() && time.Now().UnixNano() < e.trust.Load()-int64(e.opt.Lease/10)
}

// fenced ends the worker's life: another owner may have its runs.
func (e *Engine) fenced(worker int64, why error) {
	if worker == 0 || !e.id.CompareAndSwap(worker, 0) {
		return
	}
	e.log.Warn("pawl: worker stops: its lease is lost or in doubt", "worker", worker, "error", why)
	e.mu.Lock()
	close(e.lost)
	e.lost = nil
	e.mu.Unlock()
	e.abandon()
}

// abandon ends the goroutines of all runs in memory. Nothing is stored.
func (e *Engine) abandon() {
	e.mu.Lock()
	var all []*live
	for _, r := range e.runs {
		all = append(all, r)
	}
	for _, r := range e.parked {
		all = append(all, r)
	}
	clear(e.runs)
	clear(e.parked)
	e.suspects = nil
	e.parking.Init()
	e.mu.Unlock()
	for _, r := range all {
		r.kill()
	}
}

// beat extends the lease a third of the way through it, as long as commits go through. When
// they do not, or when it can't for so long that the lease may have ended, the worker fences
// itself: others can do what it can't.
func (e *Engine) beat(ctx context.Context, id int64) {
	tick := time.NewTicker(e.opt.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		if began := e.pipe.began.Load(); began != 0 && now.UnixNano()-began > int64(e.opt.Lease) {
			e.fenced(id, fmt.Errorf("a commit has been under way for %v", now.Sub(time.Unix(0, began))))
			return
		}
		until := now.Add(e.opt.Lease)
		call, cancel := context.WithTimeout(ctx, e.opt.Lease/3)
		err := e.store.Beat(call, id, now, until)
		cancel()
		switch {
		case err == nil:
			e.trust.Store(until.UnixNano())
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrFenced):
			e.fenced(id, err)
			return
		case time.Now().UnixNano() > e.trust.Load()-int64(e.opt.Lease/10):
			e.fenced(id, fmt.Errorf("no heartbeat for a lease: %w", err))
			return
		default:
			e.log.Warn("pawl: heartbeat", "error", err)
		}
	}
}

// janitor deletes what retention lets go, and audits that every run can be woken.
func (e *Engine) janitor(ctx context.Context) {
	tick := time.NewTicker(max(30*time.Second, e.opt.Poll))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if found, err := e.Audit(ctx); err != nil && ctx.Err() == nil {
			e.log.Warn("pawl: audit", "error", err)
		} else {
			for _, f := range found {
				e.log.Error("pawl: a run that nothing would have woken", "run", f.RunID, "state", f.State, "what", f.What)
			}
		}
		for ctx.Err() == nil {
			n, err := e.store.Purge(ctx, time.Now(), 500)
			if err != nil && ctx.Err() == nil {
				e.log.Warn("pawl: purge", "error", err)
			}
			if n < 500 {
				break
			}
		}
	}
}

// listen turns the store's hints into looks at it.
func (e *Engine) listen(ctx context.Context, w Watcher) {
	for ctx.Err() == nil {
		if err := w.Watch(ctx, e.hint); err != nil && ctx.Err() == nil {
			e.log.Warn("pawl: hints from the store stopped; polling goes on", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

func (e *Engine) hint() {
	e.watch.touchAll()
	e.feed.touch()
	e.kick()
}

// kick makes the scheduler look now.
func (e *Engine) kick() {
	wakeUp(e.kicked)
}

// Working reports whether Run has joined the store and takes runs.
func (e *Engine) Working() bool { return e.id.Load() != 0 }
