package pawl_test

import (
	"errors"
	"regexp"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// TestWhyNamesTheKindOfAHook, by which a person knows how to answer it.
func TestWhyNamesTheKindOfAHook(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("three", func(c *pawl.Context, _ none) (none, error) {
			_, err := pawl.NewHook[none](c)
			_, kerr := pawl.NewHook[none](c, pawl.HookKind("approval"))
			_, werr := pawl.NewWebhook(c)
			_, gerr := pawl.WaitFor[none](c, "go")
			return none{}, errors.Join(err, kerr, werr, gerr)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		why, err := n.Why(n.ctx, pawl.Ref{ID: r.ID()})
		n.ok(err)
		equal(t, "why", why, `it waits for the event "go", for a payload on hook $hook, for a payload on hook $hook#2 (approval), for a request to webhook $hook#3`)
	})
}

// TestWhyTellsOfEventsThatNobodyWaitsFor: one with a wrong name is not lost without a word.
func TestWhyTellsOfEventsThatNobodyWaitsFor(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("one", func(c *pawl.Context, _ none) (none, error) {
			return pawl.WaitFor[none](c, "go")
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		for _, event := range []string{"gone", "go on", "gone"} {
			n.ok(n.Signal(n.ctx, r.ID(), event, nil))
		}
		var why string
		for end := time.Now().Add(20 * time.Second); !regexp.MustCompile("^it waits").MatchString(why) && time.Now().Before(end); time.Sleep(time.Millisecond) {
			var err error
			why, err = n.Why(n.ctx, pawl.Ref{ID: r.ID()})
			n.ok(err)
		}
		equal(t, "why", why, `it waits for the event "go"; sent, and not waited for so far: "gone" (2 times), "go on"`)
		n.ok(n.Signal(n.ctx, r.ID(), "go", none{}))
		n.reaches(r.ID(), pawl.Completed)
	})
}

// TestWhyIsSaidForPeople: what is waited for is told once, a hook by its title, a timer beside others as a limit.
func TestWhyIsSaidForPeople(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("people", func(c *pawl.Context, _ none) (none, error) {
			if _, err := pawl.NewHook[none](c, pawl.HookKind("approval"), pawl.Meta(map[string]string{"title": "Pay Ann"})); err != nil {
				return none{}, err
			}
			wait := func(c *pawl.Context) (none, error) {
				return pawl.WaitFor[none](c, "go", pawl.Timeout(7*24*time.Hour-time.Minute))
			}
			_, err := pawl.All(c, pawl.Go(c, "a", wait), pawl.Go(c, "b", wait))
			return none{}, err
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		why, err := n.Why(n.ctx, pawl.Ref{ID: r.ID()})
		n.ok(err)
		want := `^it waits for the event "go", for the approval "Pay Ann", or until its timer at \S+ \(in 6d 23h\)$`
		if !regexp.MustCompile(want).MatchString(why) {
			t.Errorf("why is %q, want %s", why, want)
		}
	})
}
