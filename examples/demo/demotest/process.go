package demotest

import (
	"bytes"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// RunID is the id under which Start starts runs.
const RunID = "run"

// name is that of a test's binary when it is to be the program that it tests.
const name = "pawl-example"

// Become runs main and ends the process, if the process was started by the path that [Program]
// returned, and does nothing else. Call it first in TestMain: a test's binary holds its program
// already, compiled with the test's flags, so that nothing is compiled twice and the race
// detector looks at the program too.
func Become(main func()) {
	if filepath.Base(os.Args[0]) != name {
		return
	}
	flag.CommandLine = flag.NewFlagSet(os.Args[0], flag.ExitOnError) // without the flags of tests
	main()
	os.Exit(0)
}

// Program returns the path of the program of the package under test, whose TestMain calls
// [Become].
func Program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Process is a program under way.
type Process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout bytes.Buffer // to be read when the process has ended
	stderr log
	ended  chan error
}

// Start starts a program with its store in dir and p as its provider.
func Start(t *testing.T, program, dir string, p *Provider, args ...string) *Process {
	t.Helper()
	pr := &Process{ended: make(chan error, 1)}
	pr.cmd = exec.Command(program, append([]string{"-store", filepath.Join(dir, "runs.db"), "-id", RunID}, args...)...)
	pr.cmd.Dir = dir
	pr.cmd.Env = append(os.Environ(), "OPENAI_BASE_URL="+p.URL, "OPENAI_API_KEY=no-key-is-needed")
	pr.cmd.Stdout, pr.cmd.Stderr = &pr.stdout, &pr.stderr
	pr.stderr.grown = make(chan struct{}, 1)
	var err error
	if pr.stdin, err = pr.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := pr.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { pr.ended <- pr.cmd.Wait() }()
	t.Cleanup(func() { _ = pr.cmd.Process.Kill() }) // fails if it has ended, as it should have
	return pr
}

// Type types a line at the process's standard input.
func (p *Process) Type(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		t.Fatal(err)
	}
}

// Await waits until there is something in at, which must come before the process ends.
func (p *Process) Await(t *testing.T, at <-chan struct{}) {
	t.Helper()
	select {
	case <-at:
	case err := <-p.ended:
		t.Fatalf("the process ended (%v) before what was to happen first\n%s", err, p.stderr.String())
	case <-time.After(patience):
		t.Fatalf("what is waited for does not happen\n%s", p.stderr.String())
	}
}

// KillAt kills the process, without a warning, when there is something in at.
func (p *Process) KillAt(t *testing.T, at <-chan struct{}) {
	t.Helper()
	p.Await(t, at)
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatalf("kill: %v\n%s", err, p.stderr.String())
	}
	select {
	case err := <-p.ended:
		if err == nil || p.cmd.ProcessState.Exited() {
			t.Fatalf("the process ended by itself (%v), it was not killed\n%s", err, p.stderr.String())
		}
	case <-time.After(patience):
		t.Fatal("a killed process does not end")
	}
}

// Says returns a channel that has an element when the process has written text to its
// standard error.
func (p *Process) Says(text string) <-chan struct{} {
	said := make(chan struct{}, 1)
	go func() {
		for deadline := time.After(patience); ; {
			if strings.Contains(p.stderr.String(), text) {
				said <- struct{}{}
				return
			}
			select {
			case <-p.stderr.grown:
			case <-deadline:
				return
			}
		}
	}()
	return said
}

// Interrupt is a Ctrl-C.
func (p *Process) Interrupt(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
}

// Result waits until the process has ended well and returns what it printed.
func (p *Process) Result(t *testing.T) string {
	t.Helper()
	return p.Exits(t, 0)
}

// Exits waits until the process has ended with that code and returns what it printed.
func (p *Process) Exits(t *testing.T, code int) string {
	t.Helper()
	select {
	case err := <-p.ended:
		if p.cmd.ProcessState.ExitCode() != code {
			t.Fatalf("the process ended with %v, want code %d\n%s", err, code, p.stderr.String())
		}
	case <-time.After(patience):
		t.Fatalf("the process does not end\n%s", p.stderr.String())
	}
	return p.stdout.String()
}

// Log returns what the process has written to its standard error so far.
func (p *Process) Log() string { return p.stderr.String() }

// Recorded returns the keys of the steps whose results the store in dir holds. No process
// may have it open.
func Recorded(t *testing.T, dir string) []string {
	t.Helper()
	store, err := sqlite.Open(filepath.Join(dir, "runs.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var keys []string
	for e, err := range pawl.New(store, nil).Journal(t.Context(), pawl.Ref{ID: RunID}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == pawl.KindStep {
			keys = append(keys, e.Key)
		}
	}
	slices.Sort(keys)
	return keys
}

// log is a buffer that is read while it is written.
type log struct {
	mu    sync.Mutex
	b     bytes.Buffer
	grown chan struct{}
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.grown <- struct{}{}:
	default:
	}
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
