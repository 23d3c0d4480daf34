package pawl_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// This file is the process that the crash tests kill: an engine that works random programs
// on a store, and writes what it does to a ledger outside the store.

// ledger is a file to which every process of a crash test appends lines, each with one
// write: the lines survive a kill, in the order in which they were written.
//
//	B step pid    a step's body began
//	E step hash   a step's body is about to return a result with this hash
//	R step        the workflow has been given the step's result: it is recorded
//	S run event n an event was accepted: the send returned nil
type ledger struct{ f *os.File }

func openLedger(path string) (ledger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return ledger{f}, err
}

func (l ledger) line(parts ...string) {
	if _, err := l.f.WriteString(strings.Join(parts, " ") + "\n"); err != nil {
		panic(err)
	}
}

func hashOf(data []byte) string {
	h := fnv.New64a()
	h.Write(data)
	return strconv.FormatUint(h.Sum64(), 16)
}

// program is a random workflow: what it does follows from its seed, and so does its result.
type program struct {
	Seed  uint64 `json:"seed"`
	Depth int    `json:"depth"`
	Slow  int    `json:"slow"` // pauses are so many times longer
}

// expected is the result that a program has when everything in it happened exactly once.
func (p program) expected() int {
	sum := 0
	p.walk(func(op operation) {
		switch op.kind {
		case opStep, opFlaky, opEvent, opHook:
			sum += op.value
		case opParallel:
			sum += op.width * op.value
		case opChild:
			sum += op.child.expected()
		}
	})
	return sum
}

type operation struct {
	kind  int
	index int
	value int
	width int
	pause time.Duration
	child program
}

const (
	opStep = iota
	opFlaky
	opSleep
	opEvent
	opHook
	opParallel
	opChild
	opKinds
)

func (p program) walk(f func(op operation)) {
	r := rand.New(rand.NewPCG(p.Seed, 7))
	for i := range 3 + r.IntN(8) {
		op := operation{kind: r.IntN(opKinds), index: i, value: 1 + r.IntN(1000), width: 2 + r.IntN(4), pause: time.Duration(max(p.Slow, 1)*r.IntN(30)) * time.Millisecond}
		if op.kind == opChild && p.Depth > 0 {
			op.kind = opStep
		}
		op.child = program{Seed: r.Uint64(), Depth: p.Depth + 1, Slow: p.Slow}
		f(op)
	}
}

// programs is the workflow that runs a program, writing to the ledger.
func programs(l ledger) *pawl.Workflow[program, int] {
	var self *pawl.Workflow[program, int]
	body := func(value int, pause time.Duration, flaky bool) func(context.Context) (int, error) {
		return func(ctx context.Context) (int, error) {
			info := pawl.InfoOf(ctx)
			l.line("B", info.StepID, strconv.Itoa(os.Getpid()))
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return 0, ctx.Err()
			}
			if flaky && info.Attempt == 1 {
				return 0, errors.New("flaky")
			}
			l.line("E", info.StepID, hashOf([]byte(strconv.Itoa(value))))
			return value, nil
		}
	}
	step := func(c *pawl.Context, prefix, name string, op operation, flaky bool) (int, error) {
		v, err := pawl.Step(c, name, body(op.value, op.pause, flaky), pawl.Backoff(5*time.Millisecond, 10*time.Millisecond))
		if err == nil {
			l.line("R", c.RunID()+"/"+prefix+name)
		}
		return v, err
	}
	self = pawl.Define("program", func(c *pawl.Context, p program) (int, error) {
		sum := 0
		var failed error
		p.walk(func(op operation) {
			if failed != nil {
				return
			}
			name := "op" + strconv.Itoa(op.index)
			var v int
			var err error
			switch op.kind {
			case opStep, opFlaky:
				v, err = step(c, "", name, op, op.kind == opFlaky)
			case opSleep:
				before := time.Now()
				if err = c.Sleep(op.pause); err == nil && time.Since(before) < 0 {
					err = errors.New("slept backwards")
				}
			case opEvent:
				v, err = pawl.WaitFor[int](c, name)
			case opHook:
				var h *pawl.Hook[int]
				if h, err = pawl.NewHook[int](c, pawl.Token(c.RunID()+":"+name)); err == nil {
					if v, err = h.Wait(c); err == nil {
						err = h.Close(c)
					}
				}
			case opParallel:
				var parts []int
				parts, err = pawl.Map(c, name, make([]int, op.width), func(c *pawl.Context, _ int) (int, error) {
					return pawl.Step(c, "part", body(op.value, op.pause, false))
				})
				for _, n := range parts {
					v += n
				}
			case opChild:
				v, err = self.Call(c, op.child)
			}
			sum += v
			failed = err
		})
		return sum, failed
	})
	return self
}

// poison is a workflow that kills whoever works it.
var poison = pawl.Define("poison", func(c *pawl.Context, _ int) (int, error) {
	return 0, pawl.Do(c, "kill", func(context.Context) error {
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			return err
		}
		select {}
	})
})

// The environment of a process under test.
const (
	envWorker = "PAWL_CRASH_WORKER" // JSON of crashConfig; unset: an ordinary test process
)

type crashConfig struct {
	Store  string        `json:"store"` // a path, or a postgres:// URL
	Ledger string        `json:"ledger"`
	Seed   uint64        `json:"seed"`
	Runs   int           `json:"runs"`
	From   int           `json:"from"` // those before have ended
	Lease  time.Duration `json:"lease"`
	Drive  bool          `json:"drive"`  // starts the runs and sends the events
	Slow   int           `json:"slow"`   // makes pauses so many times longer
	Pace   time.Duration `json:"pace"`   // between the starts of runs
	Client bool          `json:"client"` // drives, and works no runs itself
	Poison bool          `json:"poison"` // starts a run that kills its process
	Mutant string        `json:"mutant"` // a store that is broken on purpose
	Unsafe bool          `json:"unsafe"` // an SQLite store that does not sync every commit
}

// TestCrashWorker is no test: it is the body of the processes that the crash tests kill.
func TestCrashWorker(t *testing.T) {
	env := os.Getenv(envWorker)
	if env == "" {
		return
	}
	var cfg crashConfig
	if err := json.Unmarshal([]byte(env), &cfg); err != nil {
		t.Fatal(err)
	}
	if err := crashWorker(cfg); err != nil {
		fmt.Fprintln(os.Stderr, "crash worker:", err)
		os.Exit(3)
	}
	os.Exit(0)
}

func openCrashStore(where string) (pawl.Store, error) { return crashConfig{Store: where}.open() }

func (c crashConfig) open() (pawl.Store, error) {
	if strings.HasPrefix(c.Store, "postgres") {
		return openPostgresStore(c.Store)
	}
	for { // the process before may still hold the lock for a moment after its death
		s, err := sqlite.Open(c.Store, &sqlite.Options{WALSize: 1 << 20, Unsafe: c.Unsafe})
		if !errors.Is(err, pawl.ErrLocked) {
			return s, err
		}
		time.Sleep(time.Millisecond)
	}
}

func (c crashConfig) program(i int) program { return program{Seed: c.Seed + uint64(i), Slow: c.Slow} }

func (c crashConfig) runID(i int) string { return "run" + strconv.Itoa(i) }

// crashWorker works until all runs have ended, and is meant to be killed before.
func crashWorker(cfg crashConfig) error {
	l, err := openLedger(cfg.Ledger)
	if err != nil {
		return err
	}
	store, err := cfg.open()
	if err != nil {
		return err
	}
	journalist, err := os.OpenFile(cfg.Ledger+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	opt := &pawl.Options{
		Lease: cfg.Lease, Poll: 100 * time.Millisecond, ParkFor: 20 * time.Millisecond, MaxParked: 8, MaxStrikes: 1000,
		Logger: slog.New(slog.NewTextHandler(journalist, nil)),
	}
	if cfg.Poison {
		opt.MaxStrikes = 0 // the default
	}
	store = mutate(cfg.Mutant, store, opt)
	w := programs(l)
	engine := pawl.New(store, opt)
	if err := engine.Register(w, poison); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error, 1)
	go func() {
		if cfg.Client {
			<-ctx.Done()
			done <- nil
			return
		}
		err := engine.Run(ctx)
		stop() // it may have ended by itself: the store is broken
		done <- err
	}()
	fmt.Println("ready")
	if cfg.Poison {
		if _, err := poison.Start(ctx, engine, 0, pawl.ID("poison")); err != nil {
			return err
		}
	}
	if !cfg.Drive { // until it is killed
		return <-done
	}
	var wg sync.WaitGroup
	fails := make(chan error, 2*cfg.Runs)
	for i := cfg.From; i < cfg.Runs; i++ {
		wg.Go(func() {
			time.Sleep(time.Duration(i-cfg.From) * cfg.Pace)
			if err := drive(ctx, engine, w, l, cfg, i); err != nil {
				fails <- fmt.Errorf("run %d: %w", i, err)
				return
			}
			if _, _, err := engine.Wait(ctx, "", cfg.runID(i)); err != nil {
				fails <- err
			}
		})
	}
	wg.Wait()
	close(fails)
	for err := range fails {
		stop()
		return errors.Join(<-done, err)
	}
	stop()
	if err := <-done; err != nil {
		return err
	}
	return store.Close()
}

// drive starts run i, unless that was done before, and sends it and its children the
// events and payloads that they wait for.
func drive(ctx context.Context, e *pawl.Engine, w *pawl.Workflow[program, int], l ledger, cfg crashConfig, i int) error {
	id := cfg.runID(i)
	if _, err := w.Start(ctx, e, cfg.program(i), pawl.ID(id)); err != nil {
		return err
	}
	return feed(ctx, e, l, id, cfg.program(i))
}

// feed sends what a run's program waits for. What was sent before, by this process or one
// that was killed, is seen in the ledger's S lines only if it was accepted; so a send is
// made when the run waits for it and has nothing. A call that failed, as those of a worker do
// that lost its lease, is made again: what came of it is in the journal.
func feed(ctx context.Context, e *pawl.Engine, l ledger, id string, p program) error {
	for failures := 0; ; {
		ended, err := feedOnce(ctx, e, l, id, p)
		if ended {
			return nil
		}
		if failures++; err == nil {
			failures = 0
		} else if failures == 500 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func feedOnce(ctx context.Context, e *pawl.Engine, l ledger, id string, p program) (ended bool, err error) {
	info, err := e.Get(ctx, pawl.Ref{ID: id})
	if err != nil || info.State.Terminal() || info.State == pawl.Blocked {
		return err == nil, err
	}
	sent := map[string]bool{}
	var kids []pawl.Entry
	for entry, err := range e.Journal(ctx, pawl.Ref{ID: id}) {
		if err != nil {
			return false, err
		}
		switch entry.Kind {
		case pawl.KindEvent, pawl.KindPayload:
			sent[entry.Key] = true
		case pawl.KindChild:
			kids = append(kids, entry)
		}
	}
	hook := 0
	p.walk(func(op operation) {
		name := "op" + strconv.Itoa(op.index)
		switch op.kind {
		case opEvent:
			if err == nil && !sent["$event:"+name] && info.State == pawl.Waiting && waitsFor(ctx, e, id, name) {
				if err = e.Signal(ctx, id, name, op.value); err == nil {
					l.line("S", id, name, "1")
				} else if errors.Is(err, pawl.ErrEnded) {
					err = nil
				}
			}
		case opHook:
			hook++
			if err == nil {
				token := id + ":" + name
				if h, herr := e.FindHook(ctx, "", token); herr == nil && !sent["$payload:"+strings.NewReplacer("/", ".", "#", ".").Replace(h.Key)] && info.State == pawl.Waiting {
					if _, err = e.Resume(ctx, token, op.value); err == nil {
						l.line("S", id, name, "1")
					} else if errors.Is(err, pawl.ErrNotFound) {
						err = nil
					}
				}
			}
		}
	})
	if err != nil {
		return false, err
	}
	n := 0
	p.walk(func(op operation) {
		if op.kind != opChild || n == len(kids) || err != nil {
			return
		}
		var c struct{ ID string }
		if err = json.Unmarshal(kids[n].Data, &c); err == nil {
			n++
			err = feed(ctx, e, l, c.ID, op.child)
		}
	})
	return false, err
}

// waitsFor reports whether the run is registered as waiting for an event right now: as the
// driver is the only sender, nothing is in the inbox then.
func waitsFor(ctx context.Context, e *pawl.Engine, id, event string) bool {
	why, err := e.Why(ctx, pawl.Ref{ID: id})
	return err == nil && strings.Contains(why, strconv.Quote(event))
}

// mutate breaks a store, or the options, on purpose: the crash tests must notice.
func mutate(name string, s pawl.Store, opt *pawl.Options) pawl.Store {
	switch name {
	case "":
		return s
	case "ack before commit":
		return &ackFirst{Store: s}
	case "no poll":
		opt.Poll = time.Hour
		return &deafStore{Store: s}
	}
	panic("no mutant is called " + name)
}

// ackFirst says that appends are durable a while before they are.
type ackFirst struct {
	pawl.Store
	mu    sync.Mutex
	later []*pawl.Batch
	since time.Time
}

func (a *ackFirst) Commit(ctx context.Context, b *pawl.Batch) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	plain := len(b.Starts)+len(b.Sends)+len(b.Orders) == 0
	for _, ch := range b.Changes {
		plain = plain && ch.To == nil && len(ch.Hooks)+len(ch.Children)+len(ch.Waits)+len(ch.Consumed) == 0
	}
	if len(a.later) > 0 && time.Since(a.since) > 30*time.Millisecond {
		for _, held := range a.later {
			if err := a.Store.Commit(ctx, held); err != nil {
				return err
			}
		}
		a.later = nil
	}
	if !plain {
		return a.Store.Commit(ctx, b)
	}
	if len(a.later) == 0 {
		a.since = time.Now()
	}
	held := &pawl.Batch{Worker: b.Worker, Now: b.Now}
	for _, ch := range b.Changes {
		c := *ch
		c.Entries = append([]pawl.Entry(nil), ch.Entries...)
		held.Changes = append(held.Changes, &c)
	}
	a.later = append(a.later, held)
	return nil
}

// deafStore does not say when timers are due.
type deafStore struct{ pawl.Store }

func (d *deafStore) Claim(ctx context.Context, r pawl.ClaimRequest) (pawl.Claims, error) {
	c, err := d.Store.Claim(ctx, r)
	c.Due = time.Time{}
	return c, err
}

func (d *deafStore) Commit(ctx context.Context, b *pawl.Batch) error {
	err := d.Store.Commit(ctx, b)
	b.Due, b.Ready = time.Time{}, false
	return err
}
