package pawltest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// fakeTB takes what CrashEverywhere reports.
type fakeTB struct {
	testing.TB
	mu       sync.Mutex
	messages []string
}

func (f *fakeTB) Helper() {}

func (f *fakeTB) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.messages = append(f.messages, fmt.Sprintf(format, args...))
}

// reported runs CrashEverywhere and returns what it said.
func reported[In, Out any](t *testing.T, w *pawl.Workflow[In, Out], in In, opts ...CrashOption) []string {
	t.Helper()
	var f fakeTB
	crashEverywhere(t, &f, w, in, opts)
	return f.messages
}

// expect looks for texts that some one message must all have.
func expect(t *testing.T, messages []string, texts ...string) {
	t.Helper()
	for _, m := range messages {
		all := true
		for _, text := range texts {
			all = all && strings.Contains(m, text)
		}
		if all {
			return
		}
	}
	t.Errorf("no message has all of %q; there are %d:\n%s", texts, len(messages), strings.Join(messages, "\n\n"))
}

func TestAClockInTheWorkflowIsFound(t *testing.T) {
	fickle := pawl.Define("fickle", func(c *pawl.Context, _ int) (string, error) {
		if _, err := pawl.Step(c, "begin", func(context.Context) (int, error) { return 1, nil }); err != nil {
			return "", err
		}
		name := fmt.Sprintf("at %d", time.Now().Unix())
		if _, err := pawl.Step(c, name, func(context.Context) (int, error) { return 2, nil }); err != nil {
			return "", err
		}
		return "done", nil
	})
	messages := reported(t, fickle, 0)
	expect(t, messages, "fickle", "did not ask for what is recorded there", "at 946684800", "use Context.Now")
}

func TestACounterInTheWorkflowIsFound(t *testing.T) {
	var global atomic.Int64
	counts := pawl.Define("counts", func(c *pawl.Context, _ int) (string, error) {
		for range 2 {
			name := fmt.Sprintf("work %d", global.Add(1))
			if err := pawl.Do(c, name, func(context.Context) error { return nil }); err != nil {
				return "", err
			}
		}
		return "done", nil
	})
	messages := reported(t, counts, 0)
	expect(t, messages, "counts does not survive a crash at commit 4 of 4, before the commit was applied",
		"The commit: run crash", ": result, the run becomes completed", "did not ask for what is recorded there",
		"only here: step work ", "only undisturbed: step work 1, step work 2")
	expect(t, messages, "use Context.Now", "global\nvariables", "The journals at that moment:", "The journals at the end:", "0  input")
	if n := strings.Count(strings.Join(messages, ""), "The journals at that moment"); n != inFull {
		t.Errorf("%d messages are in full, want %d", n, inFull)
	}
}

func TestAnEffectWithoutItsKeyIsFound(t *testing.T) {
	var world Effects
	mails := pawl.Define("mails", func(c *pawl.Context, _ int) (string, error) {
		name := ""
		err := pawl.Do(c, "mail", func(ctx context.Context) error {
			name = fmt.Sprintf("mail at %d", time.Now().Unix()) // what the outside world can't know again
			world.Do(ctx, name)
			return nil
		})
		return "done", err
	})
	messages := reported(t, mails, 0, WithEffects(&world))
	expect(t, messages, "effects: only here: mail at 946684801 with the key run/mail", "commit 2 of 3")
}

func TestAResultFromMemoryIsFound(t *testing.T) {
	forgets := pawl.Define("forgets", func(c *pawl.Context, _ int) (int, error) {
		sum := 0
		for range 2 { // a replay does not run the bodies: the sum is lost
			if err := pawl.Do(c, "add", func(context.Context) error { sum++; return nil }); err != nil {
				return 0, err
			}
		}
		return sum, nil
	})
	expect(t, reported(t, forgets, 0), "run returned 1, undisturbed 2")
}

func TestARunThatIsStuckIsFound(t *testing.T) {
	stuck := pawl.Define("stuck", func(c *pawl.Context, _ int) (int, error) { return pawl.WaitFor[int](c, "never") })
	expect(t, reported(t, stuck, 0, WithLimit(48*time.Hour)),
		"stuck does not even come to its end undisturbed", "has not ended after 48h0m0s of virtual time", `it waits for the event "never"`, "WithDriver")
}

func TestADriverThatWaitsForNothingIsFound(t *testing.T) {
	quick := pawl.Define("quick", func(c *pawl.Context, _ int) (int, error) { return 1, nil })
	expect(t, reported(t, quick, 0, WithDriver(func(h *Harness, id string) { h.AwaitEvent(id, "never") })),
		`did not wait for the event "never"`, "the run is completed")
}

func TestAFailureIsAResult(t *testing.T) {
	fails := pawl.Define("fails", func(c *pawl.Context, _ int) (int, error) {
		return 0, pawl.Do(c, "no", func(context.Context) error { return pawl.Fatal(errors.New("no")) })
	})
	if messages := reported(t, fails, 0); len(messages) > 0 {
		t.Error(messages)
	}
	differs := pawl.Define("differs", func(c *pawl.Context, _ int) (int, error) {
		if _, err := pawl.Step(c, "one", func(context.Context) (int, error) { return 1, nil }); err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("at %d", time.Now().Unix())
	})
	expect(t, reported(t, differs, 0), "run is failed (at 946684801), the undisturbed one failed (at 946684800)")
}
