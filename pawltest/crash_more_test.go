package pawltest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/pawltest"
)

// mass does many things at the same time, in branches within branches, with children.
var mass = pawl.Define("mass", func(c *pawl.Context, n int) (int, error) {
	in := make([]int, n)
	for i := range in {
		in[i] = i
	}
	outer, err := pawl.Map(c, "outer", in, func(c *pawl.Context, i int) (int, error) {
		inner, err := pawl.Map(c, "inner", in, func(c *pawl.Context, j int) (int, error) {
			return pawl.Step(c, "mul", func(ctx context.Context) (int, error) {
				world.Do(ctx, "mul")
				return i * j, nil
			})
		})
		if err != nil {
			return 0, err
		}
		k, err := square.Call(c, i)
		if err != nil {
			return 0, err
		}
		ev, err := pawl.WaitFor[int](c, fmt.Sprintf("event %d", i))
		for _, x := range inner {
			k += x
		}
		return k + ev, err
	})
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, x := range outer {
		sum += x
	}
	return sum, nil
})

var square = pawl.Define("square", func(c *pawl.Context, n int) (int, error) {
	return pawl.Step(c, "square", func(ctx context.Context) (int, error) {
		world.Do(ctx, "square")
		return n * n, nil
	})
})

func TestCrashMass(t *testing.T) {
	pawltest.CrashEverywhere(t, mass, 2, pawltest.WithChildren(square), pawltest.WithEffects(&world), pawltest.WithDriver(func(h *pawltest.Harness, id string) {
		for i := 1; i >= 0; i-- {
			h.AwaitEvent(id, fmt.Sprintf("event %d", i))
			h.Publish(fmt.Sprintf("event %d", i), i)
		}
	}))
}

// queue starts children that queue behind each other.
var queue = pawl.Define("queue", func(c *pawl.Context, n int) ([]string, error) {
	var futures []*pawl.Future[string]
	for i := range n {
		futures = append(futures, pawl.Go(c, fmt.Sprintf("q%d", i), func(c *pawl.Context) (string, error) { return narrow.Call(c, i) }))
	}
	out, err := pawl.All(c, futures...)
	if err != nil {
		return nil, err
	}
	for i := range 2 {
		s, err := single.Call(c, i)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	first, err := single.Spawn(c, 7, pawl.ID("the-seventh/"+c.RunID()), pawl.Detach())
	if err != nil {
		return nil, err
	}
	again, err := single.Spawn(c, 7, pawl.ID("the-seventh/"+c.RunID()))
	if err != nil {
		return nil, err
	}
	if first.ID() != again.ID() {
		return nil, errors.New("the same id made two runs")
	}
	if _, err := single.Spawn(c, 8, pawl.ID("the-seventh/"+c.RunID())); !errors.Is(err, pawl.ErrConflict) {
		return nil, fmt.Errorf("another input under the same id: %w", err)
	}
	if _, err := again.Wait(c); !errors.Is(err, pawl.ErrMisuse) { // it is on its own
		return nil, fmt.Errorf("wait for a detached child: %w", err)
	}
	return out, nil
})

var narrow = pawl.Define("narrow", func(c *pawl.Context, n int) (string, error) {
	if err := c.Sleep(time.Minute); err != nil {
		return "", err
	}
	return pawl.Step(c, "work", act("narrow work"))
}, pawl.Concurrency(1), pawl.RateLimit(1, time.Hour))

var single = pawl.Define("single", func(c *pawl.Context, n int) (string, error) {
	if err := c.Sleep(time.Hour); err != nil {
		return "", err
	}
	return pawl.Step(c, "work", act("single work"))
}, pawl.Singleton(func(json.RawMessage) (string, error) { return "one", nil }), pawl.Retention(1000*time.Hour))

func TestCrashQueue(t *testing.T) {
	pawltest.CrashEverywhere(t, queue, 2, pawltest.WithChildren(narrow, single), pawltest.WithEffects(&world))
}

// operated is woken and paused by its operator.
var operated = pawl.Define("operated", func(c *pawl.Context, _ int) (string, error) {
	if err := c.Sleep(1000 * time.Hour); err != nil { // woken
		return "", err
	}
	if _, err := pawl.Step(c, "first", act("first")); err != nil {
		return "", err
	}
	if _, err := pawl.WaitFor[int](c, "go on"); err != nil { // paused here
		return "", err
	}
	a, err := pawl.Step(c, "second", act("second"))
	if err != nil {
		return "", err
	}
	f := pawl.Go(c, "watch", func(c *pawl.Context) (int, error) { return pawl.WaitFor[int](c, "enough") })
	hook, err := pawl.NewHook[int](c)
	if err != nil {
		return "", err
	}
	g := pawl.Go(c, "hook", func(c *pawl.Context) (int, error) { return hook.Wait(c, pawl.Timeout(1000*time.Hour)) })
	n, err := pawl.Race(c, f, g)
	return fmt.Sprint(a, n), err
})

func TestCrashOperated(t *testing.T) {
	pawltest.CrashEverywhere(t, operated, 0, pawltest.WithEffects(&world), pawltest.WithDriver(func(h *pawltest.Harness, id string) {
		ref := pawl.Ref{ID: id}
		ok := func(_ pawl.RunInfo, err error) {
			if err != nil {
				t.Error(err)
			}
		}
		h.AwaitState(id, pawl.Waiting)
		ok(h.Engine().Wake(h.Context(), ref, "$sleep", nil))
		h.AwaitEvent(id, "go on")
		ok(h.Engine().Pause(h.Context(), ref, "lunch"))
		h.AwaitState(id, pawl.Paused)
		h.Signal(id, "go on", 1)
		time.Sleep(time.Hour)
		ok(h.Engine().Unpause(h.Context(), ref))
		token := h.AwaitHook(id)
		h.AwaitEvent(id, "enough")
		h.Resume(token, 5)
	}))
}

// undone fails in the middle of things, with children and branches under way.
var undone = pawl.Define("undone", func(c *pawl.Context, _ int) (string, error) {
	c.OnFailure("first", func(ctx context.Context) error { world.Do(ctx, "undo first"); return nil })
	if _, err := patient.Spawn(c, 0); err != nil {
		return "", err
	}
	pawl.Go(c, "loose", func(c *pawl.Context) (string, error) {
		if err := c.Sleep(1000 * time.Hour); err != nil {
			return "", err
		}
		return pawl.Step(c, "never", act("never"))
	})
	f := pawl.Go(c, "early", func(c *pawl.Context) (string, error) {
		s, err := pawl.Step(c, "done", act("early"))
		c.OnFailure("second", func(ctx context.Context) error { world.Do(ctx, "undo second"); return pawl.Fatal(errBusy) })
		return s, err
	})
	if _, err := f.Wait(c); err != nil {
		return "", err
	}
	if err := c.Sleep(time.Hour); err != nil {
		return "", err
	}
	return patient.Call(c, 1)
})

var patient = pawl.Define("patient", func(c *pawl.Context, n int) (string, error) {
	c.OnFailure("it", func(ctx context.Context) error { world.Do(ctx, "undo it"); return nil })
	if n == 1 {
		return "", errors.New("no")
	}
	return pawl.WaitFor[string](c, "never")
})

func TestCrashUndone(t *testing.T) {
	pawltest.CrashEverywhere(t, undone, 0, pawltest.WithChildren(patient), pawltest.WithEffects(&world))
}

// fromSteps writes to streams from bodies, some of which fail.
var fromSteps = pawl.Define("from-steps", func(c *pawl.Context, n int) (int, error) {
	for i := range n {
		err := pawl.Do(c, "write", func(ctx context.Context) error {
			s := pawl.StreamOf(ctx, "out")
			for j := range 3 {
				if err := s.Write(i*10 + j); err != nil {
					return err
				}
			}
			if pawl.InfoOf(ctx).Attempt == 1 {
				return errBusy
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		if err := c.Stream("own").Write(i); err != nil {
			return 0, err
		}
	}
	return n, c.Stream("out").Close()
})

func TestCrashFromSteps(t *testing.T) {
	pawltest.CrashEverywhere(t, fromSteps, 2)
}

// asked is reached by HTTP and answers by a step.
var asked = pawl.Define("asked", func(c *pawl.Context, _ int) (string, error) {
	w, err := pawl.NewWebhook(c, pawl.RespondManually(0))
	if err != nil {
		return "", err
	}
	out := ""
	for range 2 {
		req, err := w.Wait(c)
		if err != nil {
			return "", err
		}
		err = pawl.Do(c, "answer", func(ctx context.Context) error {
			world.Do(ctx, "answer")
			return pawl.Respond(ctx, req, pawl.Response{Body: req.Body})
		})
		if err != nil {
			return "", err
		}
		out += string(req.Body)
	}
	return out, w.Close(c)
})

func TestCrashWebhook(t *testing.T) {
	pawltest.CrashEverywhere(t, asked, 0, pawltest.WithEffects(&world), pawltest.WithDriver(func(h *pawltest.Harness, id string) {
		token := h.AwaitHook(id)
		h.Resume(token, pawl.Request{ID: "1", Body: []byte("a")})
		h.Resume(token, pawl.Request{ID: "2", Body: []byte("b")})
	}))
}
