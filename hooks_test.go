package pawl_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// TestAHookRacesASleepInALoop: branches that wait for one hook, round after round, get in
// every replay what they got the first time.
func TestAHookRacesASleepInALoop(t *testing.T) {
	const rounds = 12
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("either", func(c *pawl.Context, _ none) ([]string, error) {
			h, err := pawl.NewHook[string](c, pawl.Token("t-153-race"))
			if err != nil {
				return nil, err
			}
			var got []string
			for i := range rounds {
				d := 30 * time.Millisecond
				if i%2 == 1 {
					d = time.Hour
					if err := pawl.Do(c, "next", nothing); err != nil {
						return nil, err
					}
				}
				s, err := pawl.Race(c,
					pawl.Go(c, "hook", func(c *pawl.Context) (string, error) { return h.Wait(c) }),
					pawl.Go(c, "sleep", func(c *pawl.Context) (string, error) { return "slept", c.Sleep(d) }))
				if err != nil {
					return nil, err
				}
				got = append(got, s)
			}
			return got, nil
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		var want []string
		for i := range rounds / 2 {
			key := "next"
			if i > 0 {
				key = fmt.Sprint("next#", i+1)
			}
			n.sees(r.ID(), pawl.KindStep, key)
			n.resume("t-153-race", fmt.Sprint(i))
			want = append(want, "slept", fmt.Sprint(i))
		}
		equal(t, "rounds", result(n, r), want)
		noTrouble(n, []string{r.ID()})
	})
}

// TestAHookIsClosedOnce: by hand and by defer, in every replay.
func TestAHookIsClosedOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("closes", func(c *pawl.Context, _ none) (string, error) {
			h, err := pawl.NewHook[string](c)
			if err != nil {
				return "", err
			}
			if err := errors.Join(h.Close(c), h.Close(c)); err != nil {
				return "", err
			}
			return pawl.WaitFor[string](c, "go")
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		equal(t, "entries", len(n.journal(r.ID(), pawl.KindHookClosed)), 1)
		n.signal(r.ID(), "go", "on")
		equal(t, "result", result(n, r), "on")
		noTrouble(n, []string{r.ID()})
	})
}

// TestAPayloadThatNoSchemaWasHeldAgainstIsRefused: by a client that can't check it.
func TestAPayloadThatNoSchemaWasHeldAgainstIsRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("checked", func(c *pawl.Context, _ none) (payload, error) {
			h, err := pawl.NewHook[payload](c, pawl.Token("t-54-schema"), pawl.Schema(json.RawMessage(`{"required":["message"]}`)))
			if err != nil {
				return payload{}, err
			}
			return h.Wait(c)
		})
		n := boot(t, open(), &pawl.Options{CheckSchema: func(_, data []byte) error { return errors.New("does not fit") }}, w)
		start(n, w, none{})
		n.hook("t-54-schema")
		if _, err := client(t, open(), nil).Resume(n.ctx, "t-54-schema", map[string]int{"other": 1}); err == nil {
			t.Error("a payload that no schema was held against was accepted")
		}
	})
}
