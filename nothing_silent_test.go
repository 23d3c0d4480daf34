package pawl_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// says checks that an error is of a kind and names the place.
func says(t *testing.T, what string, err, kind error, parts ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: %v is no %v", what, err, kind)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%s: %q does not say %q", what, err, p)
		}
	}
}

// A run that no engine could be known to work, or that the wrong code would be, is not stored.
func TestStartNeedsTheWorkflowToBeRegistered(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w, other := addTen("add"), addTen("add")
		n := client(t, open(), nil, addTen("unlike"))
		_, err := w.Start(n.ctx, n.Engine, 1)
		says(t, "none of the name", err, pawl.ErrUnknown, `start add`, "register it with this engine")
		n.ok(n.Register(other))
		_, err = w.Start(n.ctx, n.Engine, 1)
		says(t, "another of the name", err, pawl.ErrInput, "start add", "another workflow of that name")
		runs, err := n.List(n.ctx, pawl.Filter{})
		n.ok(err)
		equal(t, "runs", len(runs), 0)
		worker := boot(t, open(), nil, other)
		equal(t, "result", result(worker, start(n, other, 1)), 11)
		equal(t, "of a client", result(worker, start(client(t, open(), nil), other, 2)), 12) // which has no workflows
	})
}

func TestNullIsNoInputOfANumber(t *testing.T) {
	type form struct{ Name string }
	define := func(name string, check func(json.RawMessage) error) pawl.Definition {
		return pawl.Define(name, func(c *pawl.Context, in json.RawMessage) (none, error) { return none{}, check(in) })
	}
	n := client(t, sqliteStores(t).open(), nil,
		pawl.Define("form", func(*pawl.Context, form) (none, error) { return none{}, nil }),
		pawl.Define("number", func(*pawl.Context, int) (none, error) { return none{}, nil }),
		pawl.Define("time", func(*pawl.Context, time.Time) (none, error) { return none{}, nil }),
		pawl.Define("pointer", func(*pawl.Context, *form) (none, error) { return none{}, nil }),
		pawl.Define("any", func(*pawl.Context, any) (none, error) { return none{}, nil }),
		pawl.Define("none", func(*pawl.Context, none) (none, error) { return none{}, nil }),
		pawl.Define("list", func(*pawl.Context, []form) (none, error) { return none{}, nil }),
		define("raw", func(json.RawMessage) error { return nil }))
	for name, takes := range map[string]bool{"form": true, "number": false, "time": true, "pointer": true, "any": true, "none": true, "list": true, "raw": true} {
		for _, in := range []json.RawMessage{nil, json.RawMessage("null"), json.RawMessage(" null\n")} {
			_, err := n.StartRun(n.ctx, name, in)
			if takes {
				n.ok(err)
			} else {
				says(t, name, err, pawl.ErrInput, "input of "+name, "null")
			}
		}
	}
	_, err := n.StartRun(n.ctx, "form", json.RawMessage("{}"))
	n.ok(err)
}

// Options that can't be are refused where they are given, and not taken for others.
func TestOptionsThatCantBeAreRefused(t *testing.T) {
	starts := map[string]pawl.StartOption{
		"Priority(1001)": pawl.Priority(1001), "Priority(-1001)": pawl.Priority(-1001), "Delay(-1s)": pawl.Delay(-time.Second),
		"Timeout(-1s)": pawl.Timeout(-time.Second), `ID("")`: pawl.ID(""), "OnConflict(9)": pawl.OnConflict(9), "option 1 of 1 is nil": nil,
	}
	steps := map[string]pawl.StepOption{
		"MaxAttempts(0)": pawl.MaxAttempts(0), "MaxAttempts(-1)": pawl.MaxAttempts(-1), "Backoff(0s, 1s)": pawl.Backoff(0, time.Second),
		"Backoff(2s, 1s)": pawl.Backoff(2*time.Second, time.Second), "Timeout(-1s)": pawl.Timeout(-time.Second),
		"AttemptTimeout(-1s)": pawl.AttemptTimeout(-time.Second), "option 1 of 1 is nil": nil,
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		w := pawl.Define("refuses", func(c *pawl.Context, _ none) (string, error) {
			var all []error
			for text, opt := range steps {
				err := pawl.Do(c, "step", func(context.Context) error { bodies.add("step"); return nil }, opt)
				all = append(all, misused(err, "Do step", text))
			}
			each := func(c *pawl.Context, _ int) (none, error) { return none{}, nil }
			_, err := pawl.Map(c, "map", []int{1}, each, pawl.Limit(0))
			all = append(all, misused(err, "Map map", "Limit(0)"))
			_, err = pawl.Map(c, "map", []int{1}, each, nil)
			all = append(all, misused(err, "Map map", "option 1 of 1 is nil"))
			_, err = pawl.Map[int, none](c, "map", []int{1}, nil)
			all = append(all, misused(err, "Map map", "nil"))
			_, err = pawl.Go[none](c, "go", nil).Wait(c)
			all = append(all, misused(err, "Go go", "nil"))
			_, err = pawl.Step[none](c, "no body", nil)
			all = append(all, misused(err, "Step no body", "nil"), misused(pawl.Do(c, "no body", nil), "Do no body", "nil"))
			_, err = pawl.WaitFor[none](c, "event", nil)
			all = append(all, misused(err, "wait for event:event", "nil"))
			_, err = pawl.NewHook[none](c, nil)
			all = append(all, misused(err, "NewHook", "nil"))
			return fmt.Sprint(errors.Join(all...)), nil
		})
		n := boot(t, open(), nil, w)
		for text, opt := range starts {
			_, err := w.Start(n.ctx, n.Engine, none{}, opt)
			says(t, text, err, pawl.ErrInput, "start refuses", text)
		}
		equal(t, "complaints", complete(n, w, none{}), "<nil>")
		equal(t, "bodies", bodies.get("step"), 0)
	})
	fn := func(*pawl.Context, none) (none, error) { return none{}, nil }
	for text, opt := range map[string]pawl.Option{
		"MaxAttempts(0)": pawl.MaxAttempts(0), "Priority(99999)": pawl.Priority(99999), "Backoff(0s, 0s)": pawl.Backoff(0, 0), "Timeout(-1s)": pawl.Timeout(-time.Second),
		"Retention(0s)": pawl.Retention(0), "Retention(-1s)": pawl.Retention(-time.Second), "Retention(1s, waiting)": pawl.Retention(time.Second, pawl.Waiting), "option 1 of 1 is nil": nil,
	} {
		equal(t, "panic of Define", strings.HasPrefix(panicOf(func() { pawl.Define("x", fn, opt) }), `pawl: Define of workflow "x": `+text), true)
	}
	equal(t, "panic of Define", panicOf(func() { pawl.Define[none, none]("x", nil) }), `pawl: Define of workflow "x": its function is nil`)
}

func panicOf(fn func()) (text string) {
	defer func() { text = fmt.Sprint(recover()) }()
	fn()
	return ""
}

// What is nil by mistake is an error that says what, and no crash.
func TestNilArgumentsAreErrors(t *testing.T) {
	w := addTen("add")
	n := client(t, sqliteStores(t).open(), nil, w)
	var none *pawl.Workflow[int, int]
	says(t, "Register(nil)", n.Register(nil), pawl.ErrInput, "workflow 1 of 1 is nil")
	says(t, "Register of a nil workflow", n.Register(w, none), pawl.ErrInput, "workflow 2 of 2 is nil")
	uses := pawl.Define("uses", func(*pawl.Context, int) (int, error) { return 0, nil }, pawl.Uses(nil))
	says(t, "Uses(nil)", n.Register(uses), pawl.ErrInput, `workflow "uses"`)
	var nobody context.Context
	_, err := w.Start(nobody, n.Engine, 1)
	says(t, "Start without a context", err, pawl.ErrInput, "start add", "the context is nil")
	_, err = w.Start(n.ctx, nil, 1)
	says(t, "Start without an engine", err, pawl.ErrInput, "start add: the engine is nil")
	_, err = pawl.Attach[int](nil, "r").Result(n.ctx)
	says(t, "Attach without an engine", err, pawl.ErrInput, `run "r"`)
	_, err = pawl.Attach[int](n.Engine, "r", nil).Result(nobody)
	says(t, "Result without a context", err, pawl.ErrInput, "the context is nil")
	says(t, "Signal without a context", n.Signal(nobody, "r", "e", 1), pawl.ErrInput, "the context is nil")
	says(t, "Run without a context", n.Run(nobody), pawl.ErrInput, "the context is nil")
	says(t, "Run without a store", pawl.New(nil, nil).Run(n.ctx), pawl.ErrInput, "no store")
	equal(t, "InfoOf(nil)", pawl.InfoOf(nobody), pawl.Info{})
	says(t, "StreamOf(nil)", pawl.StreamOf(nobody, "s").Write(1), pawl.ErrMisuse, "StreamOf needs the context")
}

// Errors name what was asked for, once, and what to do.
func TestErrorsNameTheThing(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		store := open()
		w := pawl.Define("w", func(c *pawl.Context, which string) (none, error) {
			opts := map[string]pawl.StepOption{"attempt": pawl.AttemptTimeout(30 * time.Millisecond), "step": pawl.Timeout(30 * time.Millisecond)}
			if opt := opts[which]; opt != nil {
				return none{}, pawl.Do(c, "slow", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, opt, pawl.MaxAttempts(1))
			}
			_, err := pawl.Step(c, "odd", func(context.Context) (oneWay, error) { return oneWay{}, nil })
			return none{}, err
		})
		n := boot(t, store, nil, w)
		_, err := w.Start(n.ctx, n.Engine, "", pawl.ID("$mine"))
		equal(t, "bad id", fmt.Sprint(err), `pawl: refused: start w: the run id begins with $, which is pawl's own: "$mine"`)
		_, err = pawl.Attach[none](n.Engine, "nobody").Result(n.ctx)
		says(t, "no such run", err, pawl.ErrNotFound, `run "nobody" of tenant ""`)
		says(t, "limit of an attempt", failure(n, start(n, w, "attempt")), pawl.ErrTimeout, "the attempt took over its limit of 30ms")
		says(t, "limit of a step", failure(n, start(n, w, "step")), pawl.ErrTimeout, "the step took over its limit of 30ms")
		odd := failure(n, start(n, w, "odd"))
		says(t, "a result that does not read back", odd, pawl.ErrEncoding, "does not read back")
		equal(t, "and is no bad input", errors.Is(odd, pawl.ErrInput), false)
		n.ok(n.Close())
		says(t, "a closed engine", n.Signal(n.ctx, "r", "e", 1), pawl.ErrClosed, "of the engine")
	})
	store := sqliteStores(t).open()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := pawl.New(store, nil).Get(t.Context(), pawl.Ref{ID: "r"})
	says(t, "a closed store", err, pawl.ErrClosed, "run r", "of the store")
}

// oneWay is written as a number and read as a text.
type oneWay struct{}

func (oneWay) MarshalJSON() ([]byte, error)  { return []byte("1"), nil }
func (*oneWay) UnmarshalJSON(b []byte) error { var s string; return json.Unmarshal(b, &s) }
