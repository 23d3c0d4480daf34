package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// This file starts worker processes, which are the test binary itself, and kills them.

// workerOf is what a worker process is told.
type workerOf struct {
	Work   string // what it is to do, a key of works
	Store  string // a path, or a postgres:// URL
	Name   string
	URL    string // of the servers of the test
	Rate   int
	Race   race
	AtOnce int    // how many runs of the race it works at once
	Drive  bool   // it starts the runs of the race and sees them to their end,
	Idle   bool   // and works none itself
	Mutant string // a store that is broken on purpose
}

// works are what a worker process can do, until ctx ends. Each says in a line of its own
// that it is about to begin.
var works = map[string]func(ctx context.Context, w workerOf, store pawl.Store) error{
	"pace": paceWorker, "race": raceWorker, "saga": sagaWorker,
}

const workerEnv = "PAWL_TEST_WORKER"

func TestMain(m *testing.M) {
	told := os.Getenv(workerEnv)
	if told == "" {
		os.Exit(pgtest.Main(m))
	}
	if err := beWorker(told); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func beWorker(told string) error {
	var w workerOf
	if err := json.Unmarshal([]byte(told), &w); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	store, err := openStore(ctx, w.Store)
	if err != nil {
		return err
	}
	return errors.Join(works[w.Work](ctx, w, mutate(w.Mutant, store)), store.Close())
}

// openStore opens the store of a process. The process before may hold the lock of an SQLite
// file for a moment after its death.
func openStore(ctx context.Context, where string) (pawl.Store, error) {
	if strings.HasPrefix(where, "postgres") {
		return postgres.Open(ctx, where, nil)
	}
	for {
		s, err := sqlite.Open(where, &sqlite.Options{WALSize: 1 << 20})
		if !errors.Is(err, pawl.ErrLocked) || ctx.Err() != nil {
			return s, err
		}
		time.Sleep(time.Millisecond)
	}
}

// look lets f look at a store that no process holds.
func look(t *testing.T, where string, f func(e *pawl.Engine)) {
	t.Helper()
	store, err := openStore(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	f(pawl.New(store, nil))
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// long reports whether the crash tests run at full length: make crash.
func long() bool { return os.Getenv("PAWL_CRASH") == "long" }

// crashSeed is the seed of a crash test: 1, unless PAWL_CRASH_SEED says which.
func crashSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("PAWL_CRASH_SEED")
	if text == "" {
		return 1
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("PAWL_CRASH_SEED: %v", err)
	}
	return seed
}

// findings are what a crash test has found wrong.
type findings []string

func (f *findings) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

func (f *findings) same(what string, got, want any) {
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		f.add("%s: got %s, want %s", what, g, w)
	}
}

// none fails the test for each of the findings, of which it shows the first.
func (f findings) none(t *testing.T) {
	t.Helper()
	for _, fault := range f[:min(len(f), 10)] {
		t.Error(fault)
	}
	if len(f) > 10 {
		t.Errorf("and %d more", len(f)-10)
	}
}

// process is a worker process.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	life io.Closer     // the worker ends when it closes, and so with the test
	said string        // its first line
	gone chan struct{} // closed at its end,
	err  error         // which was this
}

// spawn starts a worker process and returns when it is about to begin. At the end of the
// test it is told to end, and must do so without an error unless it was killed.
func spawn(t *testing.T, w workerOf) *process {
	t.Helper()
	told, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(os.Args[0]), gone: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), workerEnv+"="+string(told), "GORACE=halt_on_error=1")
	p.cmd.Stderr = t.Output()
	p.life, err = p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p.said, err = bufio.NewReader(out).ReadString('\n')
	go func() {
		p.err = p.cmd.Wait()
		close(p.gone)
	}()
	t.Cleanup(p.end)
	if err != nil {
		t.Fatalf("a worker did not begin: %v", err)
	}
	p.said = strings.TrimSpace(p.said)
	return p
}

// kill ends the process at once. One that had ended by itself before is an error.
func (p *process) kill() {
	p.t.Helper()
	if p.ended() {
		p.t.Errorf("a worker ended before it was killed: %v", p.err)
		return
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
	<-p.gone
	p.err = nil
}

// freeze stops the process until f has returned.
func (p *process) freeze(f func()) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		p.t.Fatal(err)
	}
	defer func() {
		if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			p.t.Error(err)
		}
	}()
	f()
}

func (p *process) ended() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// end tells the process to end, and waits until it has.
func (p *process) end() {
	_ = p.life.Close()
	<-p.gone
	if p.err != nil {
		p.t.Errorf("a worker: %v", p.err)
	}
}
