package pawl_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// long reports whether the crash tests run at full length: make crash.
func long() bool { return os.Getenv("PAWL_CRASH") == "long" }

// TestCrashKill kills the one worker of an SQLite file at random moments (P1, P2, P3, P5).
func TestCrashKill(t *testing.T) {
	kills := 30
	if long() {
		kills = 2000
	}
	s := newStory(t, filepath.Join(t.TempDir(), "crash.db"), "")
	s.killing(kills)
	s.check()
}

// TestCrashNoticesAckBeforeCommit: with a store that acknowledges early, the same test
// must fail.
func TestCrashNoticesAckBeforeCommit(t *testing.T) {
	s := newStory(t, filepath.Join(t.TempDir(), "crash.db"), "ack before commit")
	s.patience = 10 * time.Second
	for range 10 {
		s.killing(5)
		if faults := s.faults(); len(faults) > 0 {
			t.Logf("noticed: %s", faults[0])
			return
		}
		s.renew()
	}
	t.Error("a store that acknowledges before it commits went unnoticed")
}

// TestCrashNoticesNoPoll: an engine that never looks at the store must be seen to be stuck.
func TestCrashNoticesNoPoll(t *testing.T) {
	s := newStory(t, filepath.Join(t.TempDir(), "crash.db"), "no poll")
	s.patience = 5 * time.Second
	if s.finish() == nil {
		t.Error("an engine without poll and timers finished all the same: the programs do not need them")
	}
}

// TestCrashPoison: a run that kills its process each time is blocked after a few lives of
// the worker, tried alone at the end, and no other run is blocked in its place.
func TestCrashPoison(t *testing.T) {
	s := newStory(t, filepath.Join(t.TempDir(), "crash.db"), "")
	s.cfg.Poison, s.cfg.Slow, s.cfg.Runs = true, 10, 30
	lives := 0
	for err := error(errors.New("not yet")); err != nil; lives++ {
		if lives > 12 {
			t.Fatalf("the worker died %d times and the run that did it is not blocked", lives)
		}
		err = s.finish()
	}
	if lives < 4 {
		t.Errorf("the worker died %d times: the poison did not work", lives)
	}
	store, err := openCrashStore(s.cfg.Store)
	if err != nil {
		t.Fatal(err)
	}
	e := pawl.New(store, nil)
	info, err := e.Get(t.Context(), pawl.Ref{ID: "poison"})
	if err != nil || info.State != pawl.Blocked || info.Reason == "" {
		t.Errorf("the poisonous run is %s (%q), %v; want blocked, with the reason", info.State, info.Reason, err)
	}
	t.Logf("blocked after %d lives: %s", lives, info.Reason)
	if _, err := e.Cancel(t.Context(), pawl.Ref{ID: "poison"}, "it kills"); err != nil {
		t.Error(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, f := range s.faults() {
		if !strings.Contains(f, "run poison is cancelled") {
			t.Error(f)
		}
	}
}

// crashSeed is the seed of a crash test: another one each time, unless PAWL_CRASH_SEED says which.
func crashSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("PAWL_CRASH_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano())
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("PAWL_CRASH_SEED: %v", err)
	}
	return seed
}

// story is one crash test: a store, a ledger, and the runs that must come to their end.
type story struct {
	t        *testing.T
	cfg      crashConfig
	seed     uint64
	random   *rand.Rand
	kills    int
	patience time.Duration
	dir      string
}

func newStory(t *testing.T, store, mutant string) *story {
	t.Parallel()
	seed := crashSeed(t)
	s := &story{t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 1)), patience: time.Minute, dir: t.TempDir()}
	s.cfg = crashConfig{Store: store, Seed: seed, Runs: 60, Lease: time.Second, Drive: true, Mutant: mutant, Ledger: filepath.Join(s.dir, "ledger")}
	t.Logf("PAWL_CRASH_SEED=%d repeats the programs", seed)
	return s
}

// renew begins anew on another file.
func (s *story) renew() {
	s.seed += 1000
	s.cfg.Seed = s.seed
	s.cfg.Store = filepath.Join(s.t.TempDir(), "crash.db")
	s.cfg.Ledger = s.cfg.Store + ".ledger"
}

// spawn starts a worker and returns when it is at work.
func (s *story) spawn(cfg crashConfig) *exec.Cmd {
	s.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestCrashWorker$", "-test.timeout=0")
	env, _ := json.Marshal(cfg)
	cmd.Env = append(os.Environ(), envWorker+"="+string(env))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "ready\n" {
		kill(s.t, cmd)
		s.t.Fatalf("the worker did not start: %q %v\n%s", line, err, stderr.String())
	}
	return cmd // it prints no more: nobody need read on
}

// kill ends a process at once, unless it has ended by itself, and waits for its end.
func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
}

// killing kills n workers one after the other, and starts new runs as old ones end.
func (s *story) killing(n int) {
	for range n {
		cmd := s.spawn(s.cfg)
		time.Sleep(time.Duration(5+s.random.IntN(250)) * time.Millisecond)
		kill(s.t, cmd)
		s.kills++
		if s.kills%10 == 0 {
			s.cfg.Runs += 20
		}
		if s.kills%100 == 0 { // or every life would begin with looking at thousands of runs
			if err := s.finish(); err != nil {
				s.t.Fatal(err)
			}
			s.cfg.From = s.cfg.Runs
			s.cfg.Runs += 60
		}
	}
	if err := s.finish(); err != nil && s.cfg.Mutant == "" {
		s.t.Fatal(err)
	}
}

// finish lets a last worker bring every run to its end. However long that takes, something
// must happen: the ledger must not stand still.
func (s *story) finish() error {
	cmd := s.spawn(s.cfg)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var size int64
	for moved := time.Now(); time.Since(moved) < s.patience; {
		select {
		case err := <-done:
			if err != nil {
				err = fmt.Errorf("the last worker: %w\n%s", err, s.lastWords(cmd))
			}
			return err
		case <-time.After(100 * time.Millisecond):
		}
		if info, err := os.Stat(s.cfg.Ledger); err == nil && info.Size() > size {
			size, moved = info.Size(), time.Now()
		}
	}
	end := errors.Join(cmd.Process.Signal(syscall.SIGQUIT), <-done)
	return fmt.Errorf("nothing has happened for %v, and runs are not at their end (P5); their worker was stopped: %w\n%s\n%s",
		s.patience, end, unfinished(s.cfg.Store), s.lastWords(cmd))
}

// lastWords is what a process said at last; of one that got SIGQUIT, where its goroutines were.
func (s *story) lastWords(cmd *exec.Cmd) string {
	text := cmd.Stderr.(*bytes.Buffer).String()
	return text[:min(len(text), 30_000)]
}

func (s *story) check() {
	s.t.Helper()
	faults := s.faults()
	for _, f := range faults[:min(len(faults), 10)] {
		s.t.Error(f)
	}
	if len(faults) > 10 {
		s.t.Errorf("and %d more", len(faults)-10)
	}
}

// faults holds the ledger and the journals against each other.
func (s *story) faults() (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	ended := map[string]map[string]bool{} // step → hashes that its bodies returned
	recorded := map[string]int{}          // step → line at which it was known to be recorded
	bodies, again := 0, 0
	began := map[string]int{}
	text, err := os.ReadFile(s.cfg.Ledger)
	if err != nil {
		return []string{err.Error()}
	}
	for n, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		w := strings.Fields(line)
		if len(w) < 2 {
			fault("ledger line %d is torn: %q", n, line)
			continue
		}
		switch w[0] {
		case "B":
			bodies++
			if began[w[1]]++; began[w[1]] > 1 {
				again++
			}
			if at, ok := recorded[w[1]]; ok {
				fault("P3: step %s began again (line %d) after its result was recorded (line %d)", w[1], n, at)
			}
		case "E":
			if ended[w[1]] == nil {
				ended[w[1]] = map[string]bool{}
			}
			ended[w[1]][w[2]] = true
		case "R":
			if _, ok := recorded[w[1]]; !ok {
				recorded[w[1]] = n
			}
		}
	}
	store, err := openCrashStore(s.cfg.Store)
	if err != nil {
		return append(faults, err.Error())
	}
	defer store.Close()
	e := pawl.New(store, &pawl.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	ctx := context.Background()
	var runs []pawl.RunInfo
	for cursor := int64(0); ; {
		page, err := e.List(ctx, pawl.Filter{Limit: 1000, Cursor: cursor})
		if err != nil {
			return append(faults, err.Error())
		}
		if len(page) == 0 {
			break
		}
		runs = append(runs, page...)
		cursor = page[len(page)-1].Key
	}
	steps := 0
	inJournal := map[string]bool{}
	for _, run := range runs {
		if run.State != pawl.Completed {
			fault("P5: run %s is %s: %s", run.ID, run.State, run.Reason)
		}
		seen := map[string]bool{}
		next := int64(0)
		for entry, err := range e.Journal(ctx, pawl.Ref{ID: run.ID}) {
			if err != nil {
				fault("journal of %s: %v", run.ID, err)
				break
			}
			if entry.Seq != next {
				fault("run %s: entry %d follows %d", run.ID, entry.Seq, next-1)
			}
			next = entry.Seq + 1
			if entry.Kind == pawl.KindDrift {
				fault("run %s drifted: %s", run.ID, entry.Data)
			}
			if entry.Kind != pawl.KindStep {
				continue
			}
			steps++
			id := run.ID + "/" + entry.Key
			inJournal[id] = true
			if seen[entry.Key] {
				fault("P1: step %s was recorded twice", id)
			}
			seen[entry.Key] = true
			if !entry.Failed && !ended[id][hashOf(entry.Data)] {
				fault("P1: step %s has a recorded result that no body returned: %s", id, entry.Data)
			}
		}
	}
	for id := range recorded {
		if !inJournal[id] {
			fault("P2: step %s was acknowledged and is not in the journal", id)
		}
	}
	for i := range s.cfg.Runs {
		if info, err := e.Get(ctx, pawl.Ref{ID: s.cfg.runID(i)}); err != nil || !info.State.Terminal() {
			fault("run %d has not ended: %s, %v", i, info.State, err)
			continue
		}
		_, end, err := e.Wait(ctx, "", s.cfg.runID(i))
		if err != nil || end == nil {
			fault("run %d: %v", i, err)
			continue
		}
		if want := strconv.Itoa(s.cfg.program(i).expected()); string(end.Data) != want {
			fault("run %d returned %s, want %s: something was lost or happened twice", i, end.Data, want)
		}
	}
	if found, err := e.Audit(ctx); err != nil || len(found) > 0 {
		fault("audit: %v %v", found, err)
	}
	if s.cfg.Mutant == "" && (steps < 100 || bodies < steps) {
		fault("nothing happened: %d steps, %d bodies", steps, bodies)
	}
	s.t.Logf("%d kills, %d runs, %d steps recorded, %d bodies begun, %d of them again after a kill, %d faults", s.kills, len(runs), steps, bodies, again, len(faults))
	return faults
}
