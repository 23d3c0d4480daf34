package pawl_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
)

// TestAResultThatDoesNotReadBackIsRefused: before it is recorded, and not tried again.
func TestAResultThatDoesNotReadBackIsRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		type holder struct{ Thing fmt.Stringer }
		var bodies counts
		w := pawl.Define("one-way", func(c *pawl.Context, _ none) (none, error) {
			_, err := pawl.Step(c, "make", func(context.Context) (holder, error) {
				bodies.add("make")
				return holder{new(strings.Builder)}, nil
			})
			return none{}, err
		})
		n := boot(t, open(), nil, w)
		err := failure(n, start(n, w, none{}))
		is(t, err, pawl.ErrEncoding)
		equal(t, "bodies", bodies.get("make"), 1)
		if !strings.Contains(err.Error(), "result of step make") {
			t.Errorf("the error does not name the step: %v", err)
		}
	})
}

// TestAResultThatNoLongerFitsBlocksTheRun: a deploy that changed a type fails no run, and
// takes nothing away: with code that fits it goes on.
func TestAResultThatNoLongerFitsBlocksTheRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		before := pawl.Define("typed", func(c *pawl.Context, _ none) (string, error) {
			s, err := pawl.Step(c, "make", func(context.Context) (string, error) { return fmt.Sprint("text ", bodies.add("make")), nil })
			if err != nil {
				return "", err
			}
			_, err = pawl.WaitFor[none](c, "go")
			return s, err
		})
		after := pawl.Define("typed", func(c *pawl.Context, _ none) (string, error) {
			v, err := pawl.Step(c, "make", func(context.Context) (int, error) { return bodies.add("make"), nil })
			if err != nil {
				return "", err
			}
			_, err = pawl.WaitFor[none](c, "go")
			return fmt.Sprint(v), err
		})
		old := boot(t, open(), nil, before)
		r := start(old, before, none{})
		old.reaches(r.ID(), pawl.Waiting)
		old.stop()
		fresh := boot(t, open(), nil, after)
		fresh.signal(r.ID(), "go", nil)
		reason := fresh.reaches(r.ID(), pawl.Blocked).Reason
		for _, want := range []string{"result of step make", "does not fit int"} {
			if !strings.Contains(reason, want) {
				t.Errorf("the reason does not say %q: %s", want, reason)
			}
		}
		fresh.stop()
		again := boot(t, open(), nil, before)
		if _, err := again.Retry(again.ctx, pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		equal(t, "result", result(again, r), "text 1")
		equal(t, "bodies", bodies.get("make"), 1)
	})
}

// TestAnEventThatDoesNotFitIsAnInputError: which the workflow can tell from others, and
// after which it can wait again.
func TestAnEventThatDoesNotFitIsAnInputError(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("patient", func(c *pawl.Context, _ none) (int, error) {
			for {
				v, err := pawl.WaitFor[int](c, "number")
				if err == nil {
					return v, nil
				}
				is(t, err, pawl.ErrInput)
			}
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		n.signal(r.ID(), "number", "not a number")
		n.signal(r.ID(), "number", 7)
		equal(t, "result", result(n, r), 7)
	})
}
