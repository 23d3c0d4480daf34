package pawl_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// misused checks that an error says what was called and why that can't be.
func misused(err error, parts ...string) error {
	var m *pawl.MisuseError
	if !errors.Is(err, pawl.ErrMisuse) || !errors.As(err, &m) {
		return fmt.Errorf("got %v, want a *MisuseError", err)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			return fmt.Errorf("%q does not say %q", err, p)
		}
	}
	return nil
}

func nothing(context.Context) error { return nil }

func TestMisuse_durableCallInAStep(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("nested", func(c *pawl.Context, _ none) (string, error) {
			var all []error
			err := pawl.Do(c, "outer", func(context.Context) error {
				all = append(all,
					misused(pawl.Do(c, "inner", nothing), "Do inner", "a step's body"),
					misused(c.Sleep(time.Hour), "Sleep"),
					misused(c.SetAttributes(attrs{"a": 1}), "SetAttributes"),
					misused(c.Stream("s").Write(1), "Stream.Write"))
				_, err := pawl.WaitFor[none](c, "event")
				all = append(all, misused(err, "WaitFor event"))
				_, err = pawl.NewHook[none](c)
				all = append(all, misused(err, "NewHook"))
				_, err = pawl.Go(c, "branch", func(*pawl.Context) (none, error) { return none{}, nil }).Wait(c)
				all = append(all, misused(err))
				return nil
			})
			return fmt.Sprint(errors.Join(all...)), err
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "complaints", result(n, r), "<nil>")
		equal(t, "steps", n.keys(r.ID(), pawl.KindStep), []string{"outer"})
		equal(t, "entries", len(n.journal(r.ID())), 3)
	})
}

func TestMisuse_durableCallFromAGoroutine(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("raw", func(c *pawl.Context, _ none) (string, error) {
			if err := pawl.Do(c, "before", nothing); err != nil {
				return "", err
			}
			errs := make(chan error)
			go func() { errs <- pawl.Do(c, "raw", nothing) }()
			err := misused(<-errs, "Do raw", "use Go or Map")
			return fmt.Sprint(err), pawl.Do(c, "after", nothing)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "complaint", result(n, r), "<nil>")
		equal(t, "steps", n.keys(r.ID(), pawl.KindStep), []string{"before", "after"})
	})
}

// The first durable call of a run too, and calls from goroutines that have got the stack which
// the owner's outgrew.
func TestMisuse_firstDurableCallFromAGoroutine(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		foreign := func(c *pawl.Context, name string) error {
			errs := make(chan error)
			go func() { errs <- pawl.Do(c, name, nothing) }()
			return misused(<-errs, "Do "+name, "use Go or Map")
		}
		w := pawl.Define("first", func(c *pawl.Context, _ none) (string, error) {
			all := []error{foreign(c, "first")}
			if err := pawl.Do(c, "own", nothing); err != nil {
				return "", err
			}
			_, err := pawl.Go(c, "branch", func(c *pawl.Context) (none, error) {
				all = append(all, foreign(c, "first of a branch"))
				return none{}, pawl.Do(c, "own", nothing)
			}).Wait(c)
			if err != nil {
				return "", err
			}
			for i := range 100 {
				outgrow(10 * i)
				all = append(all, foreign(c, "later"))
			}
			return fmt.Sprint(errors.Join(all...)), pawl.Do(c, "last", nothing)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "complaints", result(n, r), "<nil>")
		equal(t, "steps", n.keys(r.ID(), pawl.KindStep), []string{"own", "branch/own", "last"})
	})
}

// outgrow needs a stack of some depth.
func outgrow(depth int) int {
	var room [256]byte
	room[depth%256] = 1
	if depth == 0 {
		return int(room[0])
	}
	return outgrow(depth-1) + int(room[255])
}

func TestMisuse_twoGoroutinesOnOneContext(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("shared", func(c *pawl.Context, _ none) (string, error) {
			errs := make(chan error, 1)
			err := pawl.Do(c, "owner", func(context.Context) error { // while this is under way …
				go func() { errs <- pawl.Do(c, "intruder", nothing) }()
				errs <- <-errs
				return nil
			})
			return fmt.Sprint(misused(<-errs, "Do intruder")), err
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "complaint", result(n, r), "<nil>")
		equal(t, "steps", n.keys(r.ID(), pawl.KindStep), []string{"owner"})
	})
}

func TestMisuse_contextOfAnotherBranch(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("branches", func(c *pawl.Context, _ none) (string, error) {
			f := pawl.Go(c, "branch", func(own *pawl.Context) (string, error) {
				err := misused(pawl.Do(c, "of the root", nothing), "Do of the root")
				return fmt.Sprint(err), pawl.Do(own, "of the branch", nothing)
			})
			return f.Wait(c)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "complaint", result(n, r), "<nil>")
		equal(t, "steps", n.keys(r.ID(), pawl.KindStep), []string{"branch/of the branch"})
	})
}

func TestMisuse_durableCallAfterTheEnd(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		kept := make(chan *pawl.Context, 1)
		ended := make(chan none)
		w := pawl.Define("keeps", func(c *pawl.Context, _ none) (string, error) {
			f := pawl.Go(c, "branch", func(c *pawl.Context) (none, error) { kept <- c; return none{}, nil })
			if _, err := f.Wait(c); err != nil {
				return "", err
			}
			got := make(chan error, 1)
			bc := <-kept
			go func() { got <- pawl.Do(bc, "of a branch that is over", nothing) }()
			err := misused(<-got, "has returned")
			kept <- c
			return fmt.Sprint(err), nil
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "complaint", result(n, r), "<nil>")
		before := len(n.journal(r.ID()))
		c := <-kept
		go func() { // a call on a run that has ended ends its goroutine, or is refused
			defer close(ended)
			if err := pawl.Do(c, "late", nothing); !errors.Is(err, pawl.ErrMisuse) {
				t.Errorf("a call after the end: %v", err)
			}
		}()
		<-ended
		equal(t, "entries", len(n.journal(r.ID())), before)
	})
}

func TestMisuse_badNames(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("names", func(c *pawl.Context, _ none) ([]string, error) {
			var out []string
			for _, name := range []string{"", "$mine", strings.Repeat("n", 257), "NUL\x00"} {
				err := pawl.Do(c, name, nothing)
				out = append(out, fmt.Sprint(misused(err, "name")))
				_, err = pawl.WaitFor[none](c, name)
				out = append(out, fmt.Sprint(misused(err, "name")))
				_, err = pawl.NewHook[none](c, pawl.Token(name))
				out = append(out, fmt.Sprint(misused(err, "the token of a hook ")))
			}
			return out, pawl.Do(c, "a/b#c%d", nothing)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		for _, s := range result(n, r) {
			equal(t, "complaint", s, "<nil>")
		}
		equal(t, "an odd name that is fine", n.keys(r.ID(), pawl.KindStep), []string{"a%2Fb%23c%25d"})
		_, err := w.Start(n.ctx, n.Engine, none{}, pawl.ID("$mine"))
		is(t, err, pawl.ErrInput)
		is(t, n.Signal(n.ctx, r.ID(), "$mine", nil), pawl.ErrInput)
	})
	for _, name := range []string{"", "$mine", "a/b", strings.Repeat("n", 257)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Define accepts the name %q", name)
				}
			}()
			pawl.Define(name, func(*pawl.Context, none) (none, error) { return none{}, nil })
		}()
	}
}

func TestMisuse_oversize(t *testing.T) {
	const limit = 1000
	big := strings.Repeat("x", limit)
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("sizes", func(c *pawl.Context, what string) (string, error) {
			switch what {
			case "step":
				_, err := pawl.Step(c, "big", func(context.Context) (string, error) { return big, nil })
				return "", err
			case "child":
				child := pawl.Define("child", func(*pawl.Context, string) (none, error) { return none{}, nil })
				_, err := child.Call(c, big)
				return "", err
			case "chunk":
				return "", c.Stream("s").Write(big)
			case "result":
				return big, nil
			}
			return "fits", nil
		})
		n := boot(t, open(), &pawl.Options{MaxPayload: limit}, w)
		_, err := w.Start(n.ctx, n.Engine, big)
		is(t, err, pawl.ErrTooLarge)
		var tl *pawl.TooLargeError
		if !errors.As(err, &tl) || tl.Size != limit+2 || tl.Limit != limit || !strings.Contains(tl.What, "input of sizes") {
			t.Errorf("the error does not tell what is too large: %+v", tl)
		}
		for _, what := range []string{"step", "child", "chunk", "result"} {
			r := start(n, w, what)
			is(t, failure(n, r), pawl.ErrTooLarge)
			equal(t, "failed attempts of "+what, len(n.journal(r.ID(), pawl.KindAttempt)), 0)
		}
		r := start(n, w, "event")
		equal(t, "what fits", result(n, r), "fits")
		is(t, n.Signal(n.ctx, r.ID(), "e", big), pawl.ErrTooLarge)
		_, err = n.Resume(n.ctx, "token", big)
		is(t, err, pawl.ErrTooLarge)
	})
}

func TestMisuse_panics(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		w := pawl.Define("panics", func(c *pawl.Context, where string) (int, error) {
			switch where {
			case "step":
				return pawl.Step(c, "second", func(context.Context) (int, error) {
					if n := bodies.add(c.RunID()); n < 2 {
						return 0, panicInAnotherFile()
					}
					return 2, nil
				}, quick)
			case "branch":
				return pawl.Go(c, "b", func(*pawl.Context) (int, error) { return 0, panicInAnotherFile() }).Wait(c)
			case "nil":
				noMap()["x"] = 1
			}
			return 0, panicInAnotherFile()
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, "step")
		equal(t, "a step that panics is tried again", result(n, r), 2)
		attempt := n.journal(r.ID(), pawl.KindAttempt)
		equal(t, "failed attempts", len(attempt), 1)
		var a struct{ Error pawl.Failure }
		mustDecode(t, string(attempt[0].Data), &a)
		if !strings.Contains(a.Error.Stack, "panicInAnotherFile") {
			t.Errorf("the stack is lost: %s", attempt[0].Data)
		}
		for where, want := range map[string]string{
			"workflow": "panic: Error from imported helper module",
			"branch":   "panic: Error from imported helper module",
			"nil":      "panic: assignment to entry in nil map",
		} {
			r := start(n, w, where)
			err := failure(n, r)
			equal(t, where, err.State, pawl.Failed)
			equal(t, where, err.Err.Error(), want)
			if f := lastFailure(n, r.ID()); f.Stack == "" || f.Type != "*pawl.PanicError" {
				t.Errorf("%s: no stack: %+v", where, f)
			}
		}
	})
}

func TestMisuse_conflict(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w, other := addTen("addTen"), addTen("other")
		n := boot(t, open(), nil, w, other)
		r := start(n, w, 1, pawl.ID("k"))
		_, err := w.Start(n.ctx, n.Engine, 2, pawl.ID("k"))
		is(t, err, pawl.ErrConflict)
		_, err = other.Start(n.ctx, n.Engine, 1, pawl.ID("k"))
		is(t, err, pawl.ErrConflict)
		_, err = w.Start(n.ctx, n.Engine, 1, pawl.ID("k"), pawl.OnConflict(pawl.Reject))
		is(t, err, pawl.ErrExists)
		equal(t, "the run that was there", result(n, r), 11)
	})
}

func TestMisuse_closedEngine(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := addTen("addTen")
		n := client(t, open(), nil, w)
		r := start(n, w, 1)
		n.ok(n.Close())
		n.ok(n.Close())
		_, err := w.Start(n.ctx, n.Engine, 1)
		is(t, err, pawl.ErrClosed)
		is(t, n.Signal(n.ctx, r.ID(), "e", 1), pawl.ErrClosed)
		is(t, n.order(n.Cancel, r.ID()), pawl.ErrClosed)
		equal(t, "reading goes on", n.info(r.ID()).State, pawl.Pending)
		ended, end := context.WithCancel(n.ctx)
		end()
		m := client(t, open(), nil, w)
		_, err = w.Start(ended, m.Engine, 1)
		is(t, err, context.Canceled)
	})
}

// Engines that drain lose nothing, and a step under way may finish.
// lines is what was logged.
type lines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *lines) have(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.all.String(), text)
}

func TestMisuse_stopWhileAtWork(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		var bodies counts
		w := pawl.Define("drains", func(c *pawl.Context, _ none) (int, error) {
			n, err := pawl.Step(c, "long", func(ctx context.Context) (int, error) { return bodies.add("long"), g.pass(ctx) })
			if err != nil {
				return 0, err
			}
			return n, pawl.Do(c, "next", func(context.Context) error { bodies.add("next"); return nil })
		})
		var log lines
		one := boot(t, open(), &pawl.Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}, w)
		r := start(one, w, none{})
		g.wait(t)
		var wg sync.WaitGroup
		wg.Go(one.stop)
		one.until("it to stop", func() bool { return log.have("steps under way may finish") })
		g.open()
		wg.Wait()
		two := boot(t, open(), nil, w)
		equal(t, "result", result(two, r), 1)
		equal(t, "bodies", fmt.Sprint(bodies.get("long"), bodies.get("next")), "1 1")
		equal(t, "strikes", two.info(r.ID()).Strikes, 0)
	})
}

// A body that heeds nothing does not keep Run from returning; what it returns is dropped.
func TestMisuse_stopWithADeafStep(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		came, let, left := make(chan none, 1), make(chan none), make(chan none)
		var bodies counts
		w := pawl.Define("deaf", func(c *pawl.Context, _ none) (int, error) {
			return pawl.Step(c, "step", func(context.Context) (int, error) {
				n := bodies.add("step")
				if n == 1 {
					defer close(left)
					came <- none{}
					<-let
				}
				return n, nil
			})
		})
		one := boot(t, open(), &pawl.Options{Drain: 50 * time.Millisecond}, w)
		r := start(one, w, none{})
		<-came
		one.stop()
		two := boot(t, open(), nil, w)
		equal(t, "result", result(two, r), 2)
		close(let)
		<-left
		equal(t, "recorded", string(two.journal(r.ID(), pawl.KindStep)[0].Data), "2")
		equal(t, "entries", len(two.journal(r.ID())), 3)
	})
}

// A refusal leaves no entry; a replay must come to it again without stopping there.
func TestMisuse_refusalsReplay(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		child := sink()
		w := pawl.Define("refusals", func(c *pawl.Context, _ none) ([]bool, error) {
			_, err1 := child.Call(c, newUnjson())
			_, err2 := pawl.NewHook[none](c, pawl.Token(""))
			err3 := c.Stream("s").Write(newUnjson())
			err4 := errors.Join(c.Stream("t").Close(), c.Stream("t").Write(1))
			if err := pawl.Do(c, "after", func(context.Context) error { bodies.add("after"); return nil }); err != nil {
				return nil, err
			}
			if err := c.Sleep(50 * time.Millisecond); err != nil {
				return nil, err
			}
			return []bool{errors.Is(err1, pawl.ErrEncoding), errors.Is(err2, pawl.ErrMisuse), errors.Is(err3, pawl.ErrEncoding), errors.Is(err4, pawl.ErrEnded)}, nil
		})
		n := boot(t, open(), replays(), w, child)
		r := start(n, w, none{})
		equal(t, "errors", result(n, r), []bool{true, true, true, true})
		equal(t, "bodies after", bodies.get("after"), 1)
		noTrouble(n, []string{r.ID()})
	})
}
