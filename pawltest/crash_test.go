package pawltest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/pawltest"
)

// world is where the steps of these workflows leave their effects.
var world pawltest.Effects

func act(name string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		world.Do(ctx, name)
		return name + " done", nil
	}
}

var errBusy = errors.New("busy")

// retries fails twice, by the attempt's number, which a crash does not forget.
var retries = pawl.Define("retries", func(c *pawl.Context, n int) (string, error) {
	out, err := pawl.Step(c, "charge", func(ctx context.Context) (string, error) {
		world.Do(ctx, "charge")
		if pawl.InfoOf(ctx).Attempt <= n {
			return "", errBusy
		}
		return "charged", nil
	})
	if err != nil {
		return "", err
	}
	err = pawl.Do(c, "hopeless", func(context.Context) error { return errBusy }, pawl.MaxAttempts(2), pawl.Backoff(time.Hour, time.Hour))
	var failed *pawl.StepError
	if !errors.As(err, &failed) || failed.Attempts != 2 {
		return "", fmt.Errorf("hopeless: %w", err)
	}
	err = pawl.Do(c, "asked", func(ctx context.Context) error {
		if pawl.InfoOf(ctx).Attempt == 1 {
			return pawl.RetryAfter(errBusy, 48*time.Hour)
		}
		return nil
	})
	return out, err
})

func TestCrashRetries(t *testing.T) {
	pawltest.CrashEverywhere(t, retries, 2, pawltest.WithEffects(&world))
}

// waits sleeps, and waits for events that come early, in time, late and never.
var waits = pawl.Define("waits", func(c *pawl.Context, d time.Duration) ([]string, error) {
	var out []string
	for range 2 {
		if err := c.Sleep(d); err != nil {
			return nil, err
		}
		s, err := pawl.Step(c, "tick", act("tick"))
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	for _, event := range []string{"early", "due"} {
		s, err := pawl.WaitFor[string](c, event)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	_, err := pawl.WaitFor[string](c, "never", pawl.Timeout(24*time.Hour))
	if !errors.Is(err, pawl.ErrTimeout) {
		return nil, fmt.Errorf("never: %w", err)
	}
	s, err := pawl.WaitFor[string](c, "timely", pawl.Timeout(24*time.Hour))
	if err != nil {
		return nil, err
	}
	return append(out, s), nil
})

func TestCrashWaits(t *testing.T) {
	pawltest.CrashEverywhere(t, waits, 24*time.Hour, pawltest.WithEffects(&world), pawltest.WithDriver(func(h *pawltest.Harness, id string) {
		h.Signal(id, "early", "the early one")
		h.AwaitEvent(id, "due")
		h.Publish("due", "published")
		h.AwaitEvent(id, "timely")
		h.Signal(id, "timely", "in time")
	}))
}

// doors has hooks: one that is waited for more than once, one whose token is taken.
var doors = pawl.Define("doors", func(c *pawl.Context, token string) (int, error) {
	first, err := pawl.NewHook[int](c, pawl.Token(token), pawl.Meta("about it"))
	if err != nil {
		return 0, err
	}
	var taken *pawl.HookConflictError
	if _, err := pawl.NewHook[int](c, pawl.Token(token)); !errors.As(err, &taken) || taken.RunID != c.RunID() {
		return 0, fmt.Errorf("a token was given twice: %w", err)
	}
	sum := 0
	for n, err := range first.All(c) {
		if err != nil {
			return 0, err
		}
		if sum += n; n == 0 {
			break
		}
	}
	if err := first.Close(c); err != nil {
		return 0, err
	}
	again, err := pawl.NewHook[int](c, pawl.Token(token))
	if err != nil {
		return 0, err
	}
	n, err := again.Wait(c, pawl.Timeout(time.Hour))
	if err != nil {
		return 0, err
	}
	random, err := pawl.NewHook[int](c)
	if err != nil {
		return 0, err
	}
	if err := pawl.Do(c, "tell "+fmt.Sprint(n), func(ctx context.Context) error { world.Do(ctx, "tell"); return nil }); err != nil {
		return 0, err
	}
	if _, err := random.Wait(c, pawl.Timeout(time.Hour)); !errors.Is(err, pawl.ErrTimeout) {
		return 0, fmt.Errorf("nobody knew the token, and a payload came: %w", err)
	}
	return sum + n, nil
})

func TestCrashHooks(t *testing.T) {
	pawltest.CrashEverywhere(t, doors, "door:1", pawltest.WithEffects(&world), pawltest.WithDriver(func(h *pawltest.Harness, id string) {
		if token := h.AwaitHook(id); token != "door:1" {
			t.Errorf("token %q", token)
		}
		for _, n := range []int{1, 2, 3, 0} {
			h.Resume("door:1", n)
		}
		h.AwaitEntry(id, pawl.KindHook, "$hook#3")
		h.Resume("door:1", 10)
	}))
}

// fan does several things at a time.
var fan = pawl.Define("fan", func(c *pawl.Context, n int) ([]string, error) {
	var in []int
	for i := range n {
		in = append(in, i)
	}
	mapped, err := pawl.Map(c, "each", in, func(c *pawl.Context, i int) (string, error) {
		if err := c.Sleep(time.Duration(i+1) * time.Minute); err != nil {
			return "", err
		}
		return pawl.Step(c, "work", func(ctx context.Context) (string, error) {
			world.Do(ctx, "work")
			return fmt.Sprint(i * i), nil
		})
	}, pawl.Limit(2))
	if err != nil {
		return nil, err
	}
	a := pawl.Go(c, "a", func(c *pawl.Context) (string, error) {
		s, err := pawl.Step(c, "one", act("one"))
		if err != nil {
			return "", err
		}
		t, err := pawl.Step(c, "two", act("two"))
		return s + t, err
	})
	b := pawl.Go(c, "b", func(c *pawl.Context) (string, error) { return pawl.Step(c, "one", act("one")) })
	both, err := pawl.All(c, a, b)
	if err != nil {
		return nil, err
	}
	quick := pawl.Go(c, "quick", func(c *pawl.Context) (string, error) {
		if err := c.Sleep(time.Hour); err != nil {
			return "", err
		}
		return pawl.Step(c, "run", act("run"))
	})
	slow := pawl.Go(c, "slow", func(c *pawl.Context) (string, error) {
		if err := c.Sleep(100 * time.Hour); err != nil {
			return "", err
		}
		return pawl.Step(c, "run", act("never"))
	})
	event := pawl.Go(c, "event", func(c *pawl.Context) (string, error) { return pawl.WaitFor[string](c, "answer") })
	won, err := pawl.Race(c, slow, quick, event)
	if err != nil {
		return nil, err
	}
	bad := pawl.Go(c, "bad", func(c *pawl.Context) (string, error) { return "", errBusy })
	good := pawl.Go(c, "good", func(c *pawl.Context) (string, error) {
		if err := c.Sleep(time.Hour); err != nil {
			return "", err
		}
		return pawl.Step(c, "run", act("good"))
	})
	any, err := pawl.Any(c, bad, good)
	if err != nil {
		return nil, err
	}
	answer, err := pawl.WaitFor[string](c, "answer")
	if err != nil {
		return nil, err
	}
	_, err = pawl.Map(c, "fail", in, func(c *pawl.Context, i int) (string, error) {
		if i == 1 {
			return "", pawl.Do(c, "break", func(context.Context) error { return pawl.Fatal(errBusy) })
		}
		return "", c.Sleep(1000 * time.Hour)
	})
	if err == nil {
		return nil, errors.New("a Map succeeded in which a branch failed")
	}
	return append(append(mapped, both...), won, any, answer, err.Error()), nil
})

func TestCrashFan(t *testing.T) {
	pawltest.CrashEverywhere(t, fan, 3, pawltest.WithEffects(&world), pawltest.WithDriver(func(h *pawltest.Harness, id string) {
		h.AwaitEntry(id, pawl.KindStep, "good/run")
		h.Signal(id, "answer", "yes")
	}))
}

// parent has children of all sorts.
var parent = pawl.Define("parent", func(c *pawl.Context, n int) ([]string, error) {
	var out []string
	for i := range n {
		s, err := child.Call(c, i)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	var failed *pawl.RunError
	if _, err := child.Call(c, -1); !errors.As(err, &failed) || failed.State != pawl.Failed {
		return nil, fmt.Errorf("the child that must fail: %w", err)
	}
	slow, err := child.Spawn(c, 100)
	if err != nil {
		return nil, err
	}
	alone, err := child.Spawn(c, 50, pawl.Detach())
	if err != nil {
		return nil, err
	}
	if _, err := child.Spawn(c, 100_000); err != nil { // cancelled when its parent ends
		return nil, err
	}
	if _, err := pawl.Step(c, "between", act("between")); err != nil {
		return nil, err
	}
	s, err := slow.Wait(c)
	if err != nil {
		return nil, err
	}
	return append(out, s, alone.ID()), nil
})

var child = pawl.Define("child", func(c *pawl.Context, n int) (string, error) {
	if n < 0 {
		return "", pawl.Do(c, "refuse", func(context.Context) error { return pawl.Fatal(errors.New("a negative number")) })
	}
	if err := c.Sleep(time.Duration(n) * time.Minute); err != nil {
		return "", err
	}
	return pawl.Step(c, "work", act("child's work"))
})

func TestCrashChildren(t *testing.T) {
	pawltest.CrashEverywhere(t, parent, 1, pawltest.WithChildren(child), pawltest.WithEffects(&world))
}

// sameNumber fails in a replay in which the run has another random number than at first.
func sameNumber(c *pawl.Context) error {
	n := c.Rand().IntN(1_000_000)
	first, err := pawl.Step(c, "random number", func(context.Context) (int, error) { return n, nil })
	if err == nil && n != first {
		err = fmt.Errorf("the random number %d is %d in a replay", first, n)
	}
	return err
}

// counter goes on as itself.
var counter = pawl.Define("counter", func(c *pawl.Context, n int) (int, error) {
	if _, err := pawl.Step(c, "count", act(fmt.Sprintf("count %d", n))); err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, sameNumber(c)
	}
	if err := c.Sleep(time.Hour); err != nil {
		return 0, err
	}
	return 0, pawl.ContinueAs(c, n-1)
})

// callsCounter is a parent whose child continues.
var callsCounter = pawl.Define("calls-counter", func(c *pawl.Context, n int) (int, error) { return counter.Call(c, n) })

func TestCrashContinueAs(t *testing.T) {
	pawltest.CrashEverywhere(t, callsCounter, 2, pawltest.WithChildren(counter), pawltest.WithEffects(&world))
}

// saga fails and takes back what it did.
var saga = pawl.Define("saga", func(c *pawl.Context, how string) (string, error) {
	for _, what := range []string{"flight", "hotel"} {
		if _, err := pawl.Step(c, "book "+what, act("book "+what)); err != nil {
			return "", err
		}
		c.OnFailure(what, func(ctx context.Context) error {
			world.Do(ctx, "give back "+what)
			if what == "hotel" && pawl.InfoOf(ctx).Attempt == 1 {
				return errBusy
			}
			return nil
		})
	}
	switch how {
	case "fail":
		return "", pawl.Do(c, "pay", func(context.Context) error { return pawl.Fatal(errors.New("no money")) })
	case "panic":
		panic("no money at all")
	case "timeout":
		return "", c.Sleep(1000 * time.Hour)
	}
	_, err := pawl.WaitFor[string](c, "never")
	return "", err
}, pawl.Timeout(100*time.Hour))

func TestCrashSaga(t *testing.T) {
	for _, how := range []string{"fail", "panic", "timeout"} {
		t.Run(how, func(t *testing.T) {
			pawltest.CrashEverywhere(t, saga, how, pawltest.WithEffects(&world))
		})
	}
	t.Run("cancel", func(t *testing.T) {
		pawltest.CrashEverywhere(t, saga, "cancel", pawltest.WithEffects(&world), pawltest.WithDriver(func(h *pawltest.Harness, id string) {
			h.AwaitEvent(id, "never")
			h.Cancel(id, "no more")
		}))
	})
}

// scopes end by time and by hand.
var scopes = pawl.Define("scopes", func(c *pawl.Context, _ struct{}) ([]string, error) {
	var out []string
	short, _ := pawl.WithTimeout(c, time.Hour)
	if err := short.Sleep(100 * time.Hour); !errors.Is(err, pawl.ErrTimeout) {
		return nil, fmt.Errorf("a sleep in a scope: %w", err)
	}
	if _, err := pawl.Step(short, "too late", act("too late")); !errors.Is(err, pawl.ErrTimeout) {
		return nil, fmt.Errorf("a step in a scope that has ended: %w", err)
	}
	s, err := pawl.Step(c, "after", act("after"))
	if err != nil {
		return nil, err
	}
	out = append(out, s)
	body, _ := pawl.WithTimeout(c, time.Hour)
	_, err = pawl.Step(body, "hangs", func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", context.Cause(ctx)
	})
	if !errors.Is(err, pawl.ErrTimeout) {
		return nil, fmt.Errorf("a step that hangs: %w", err)
	}
	inner, cancel := pawl.WithCancel(c)
	f := pawl.Go(inner, "branch", func(c *pawl.Context) (string, error) { return "", c.Sleep(100 * time.Hour) })
	if _, err := pawl.Step(c, "meanwhile", act("meanwhile")); err != nil {
		return nil, err
	}
	cancel(nil)
	if _, err := f.Wait(c); !errors.Is(err, pawl.ErrCancelled) {
		return nil, fmt.Errorf("a branch that was cancelled: %w", err)
	}
	err = pawl.Do(c, "slow", func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}, pawl.AttemptTimeout(time.Minute), pawl.MaxAttempts(2))
	if !errors.Is(err, pawl.ErrTimeout) {
		return nil, fmt.Errorf("an attempt over its time: %w", err)
	}
	s, err = pawl.Step(c, "end", act("end"))
	return append(out, s), err
})

func TestCrashScopes(t *testing.T) {
	pawltest.CrashEverywhere(t, scopes, struct{}{}, pawltest.WithEffects(&world))
}

// teller writes streams, sets attributes and has versions.
var teller = pawl.Define("teller", func(c *pawl.Context, n int) (int, error) {
	v := c.Version("polite", 2)
	s := c.Stream("news")
	for i := range n {
		if err := s.Write(map[string]int{"n": i}); err != nil {
			return 0, err
		}
		if err := c.SetAttributes(map[string]any{"progress": i, "who": c.RunID(), "gone": nil}); err != nil {
			return 0, err
		}
		if _, err := pawl.Step(c, "tell", act("tell")); err != nil {
			return 0, err
		}
	}
	if err := s.Close(); err != nil {
		return 0, err
	}
	if err := s.Write(1); !errors.Is(err, pawl.ErrEnded) {
		return 0, fmt.Errorf("a stream was written to after its end: %w", err)
	}
	f := pawl.Go(c, "branch", func(c *pawl.Context) (int, error) { return c.Version("polite", 3), nil })
	w, err := f.Wait(c)
	if err != nil {
		return 0, err
	}
	return v + w, sameNumber(c)
})

func TestCrashStreams(t *testing.T) {
	pawltest.CrashEverywhere(t, teller, 2, pawltest.WithEffects(&world))
}
