package pawltest_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/pawltest"
)

var nap = pawl.Define("nap", func(c *pawl.Context, d time.Duration) (string, error) {
	if err := c.Sleep(d); err != nil {
		return "", err
	}
	return pawl.Step(c, "wake", func(context.Context) (string, error) { return "up", nil })
})

func TestAMonthPassesInABlink(t *testing.T) {
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		began := time.Now()
		run := pawltest.Start(h, nap, 31*24*time.Hour)
		if got := pawltest.Result(h, run); got != "up" {
			t.Errorf("got %q", got)
		}
		if took := time.Since(began); took < 31*24*time.Hour || took > 31*24*time.Hour+time.Second {
			t.Errorf("it took %v", took)
		}
	}, nap)
}

func TestInABubbleOfOnesOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := pawltest.New(t, nap)
		if got := pawltest.Result(h, pawltest.Start(h, nap, time.Hour)); got != "up" {
			t.Errorf("got %q", got)
		}
	})
}

func TestInRealTime(t *testing.T) {
	h := pawltest.New(t, nap)
	began := time.Now()
	run := pawltest.Start(h, nap, 50*time.Millisecond)
	if got := pawltest.Result(h, run); got != "up" {
		t.Errorf("got %q", got)
	}
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}

// pay calls a step twice, in a branch and in the root, and takes one back.
var pay = pawl.Define("pay", func(c *pawl.Context, ok bool) (int, error) {
	charge := func(context.Context) (int, error) { return 0, errors.New("the real world was called") }
	f := pawl.Go(c, "deposit", func(c *pawl.Context) (int, error) { return pawl.Step(c, "charge", charge) })
	a, err := f.Wait(c)
	if err != nil {
		return 0, err
	}
	c.OnFailure("charge", func(context.Context) error { return errors.New("the real world was called") })
	b, err := pawl.Step(c, "charge", charge)
	if err != nil {
		return 0, err
	}
	d, err := pawl.Step(c, "charge", charge)
	if !ok {
		return 0, errors.New("changed my mind")
	}
	return a + b + d, err
})

func TestMocks(t *testing.T) {
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		h.MockStep("charge", func(ctx context.Context) (any, error) { return 1, nil })
		h.MockStep("charge#2", func(ctx context.Context) (any, error) {
			if info := pawl.InfoOf(ctx); info.Step != "charge#2" || info.Workflow != "pay" {
				t.Errorf("the mock was told %+v", info)
			}
			return 10, nil
		})
		h.MockStep("$undo:charge", func(context.Context) (any, error) { return nil, nil })
		h.FailStep("deposit/charge", 2, errors.New("busy"))
		run := pawltest.Start(h, pay, true)
		if got := pawltest.Result(h, run); got != 12 {
			t.Errorf("got %d, want 12", got)
		}
		if n := h.Calls("charge"); n != 5 { // three steps, one of which failed twice
			t.Errorf("charge was called %d times, want 5", n)
		}
		if n := h.Calls("deposit/charge"); n != 3 {
			t.Errorf("deposit/charge was called %d times, want 3", n)
		}
		if keys := h.Keys(run.ID()); !slices.Equal(keys, []string{"deposit/charge", "charge", "charge#2"}) {
			t.Errorf("keys %q", keys)
		}
		run = pawltest.Start(h, pay, false)
		if _, err := pawltest.ResultError(h, run); err == nil {
			t.Error("the run did not fail")
		}
		if keys := h.Keys(run.ID()); keys[len(keys)-1] != "$undo:charge" {
			t.Errorf("keys %q", keys)
		}
		h.MockStep("charge", nil)
		h.MockStep("charge#2", nil)
		_, err := pawltest.ResultError(h, pawltest.Start(h, pay, true))
		if err == nil || !errors.As(err, new(*pawl.StepError)) {
			t.Errorf("without a mock the body must run, got %v", err)
		}
	}, pay)
}

func TestAMockWhoseResultDoesNotEncode(t *testing.T) {
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		h.MockStep("wake", func(context.Context) (any, error) { return make(chan int), nil })
		run := pawltest.Start(h, nap, time.Second)
		if _, err := pawltest.ResultError(h, run); err == nil {
			t.Error("a channel was recorded as a result")
		}
		if n := h.Calls("wake"); n != 1 {
			t.Errorf("the mock was called %d times: what can't be encoded is fatal", n)
		}
	}, nap)
}

func TestCrashByHand(t *testing.T) {
	two := pawl.Define("two", func(c *pawl.Context, _ int) (string, error) {
		a, err := pawl.Step(c, "one", func(context.Context) (string, error) { return "a", nil })
		if err != nil {
			return "", err
		}
		b, err := pawl.WaitFor[string](c, "b")
		return a + b, err
	})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, two, 0)
		h.AwaitEvent(run.ID(), "b")
		h.Crash()
		h.Signal(run.ID(), "b", "b")
		if got := pawltest.Result(h, run); got != "ab" {
			t.Errorf("got %q", got)
		}
		if n := h.Calls("one"); n != 1 {
			t.Errorf("the step ran %d times", n)
		}
		if h.Info(run.ID()).State != pawl.Completed {
			t.Errorf("state %v", h.Info(run.ID()).State)
		}
	}, two)
}

// Options.Intercept of the caller surrounds bodies, and not mocks.
func TestInterceptIsTheCallersToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		h := pawltest.NewWith(t, pawl.Options{Intercept: func(ctx context.Context, body func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
			seen = append(seen, pawl.InfoOf(ctx).Step)
			return body(ctx)
		}}, nap)
		pawltest.Result(h, pawltest.Start(h, nap, time.Hour))
		if !slices.Equal(seen, []string{"wake"}) {
			t.Errorf("it was called for %q", seen)
		}
	})
}
