package pawl_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/storetest"
)

// taker takes payloads of a hook and events until each has had n, and returns them.
func taker(n int) *pawl.Workflow[string, []string] {
	return pawl.Define("taker", func(c *pawl.Context, token string) ([]string, error) {
		h, err := pawl.NewHook[string](c, pawl.Token(token))
		if err != nil {
			return nil, err
		}
		var got []string
		for range n {
			p, err := h.Wait(c)
			if err != nil {
				return nil, err
			}
			e, err := pawl.WaitFor[string](c, "go")
			if err != nil {
				return nil, err
			}
			got = append(got, p, e)
		}
		return got, nil
	})
}

// TestADeliveryArrivesOnce: whichever way its addressee is named.
func TestADeliveryArrivesOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := taker(2)
		n := boot(t, open(), replays(), w)
		r := start(n, w, "t-once")
		key := n.hook("t-once").Key
		run := pawl.Ref{ID: r.ID()}
		for _, d := range []struct {
			pawl.Delivery
			repeated bool
		}{
			{pawl.Delivery{Token: "t-once", Data: "one", Once: "1", Answer: json.RawMessage(`"first"`)}, false},
			{pawl.Delivery{Token: "t-once", Data: "twice", Once: "1", Answer: json.RawMessage(`"second"`)}, true},
			{pawl.Delivery{Run: run, Hook: key, Data: "thrice", Once: "1"}, true}, // it is the same hook
			{pawl.Delivery{Run: run, Event: "go", Data: "two", Once: "1", Answer: json.RawMessage(`"first"`)}, false},
			{pawl.Delivery{Run: run, Event: "go", Data: "twice", Once: "1"}, true},
			{pawl.Delivery{Run: run, Hook: key, Data: "three"}, false},
			{pawl.Delivery{Run: run, Event: "go", Data: "four"}, false},
		} {
			got, err := n.Deliver(n.ctx, d.Delivery)
			n.ok(err)
			equal(t, "repeated", got.Repeated, d.repeated)
			equal(t, "run", got.Run.ID, r.ID())
			equal(t, "count", got.Count, 1)
			if d.repeated {
				equal(t, "first answer", string(got.First), `"first"`)
				equal(t, "workflow of the run", got.Run.Workflow, "taker")
			}
		}
		equal(t, "taken", result(n, r), []string{"one", "two", "three", "four"})
		// What a repeat is told is the same when the run has ended.
		got, err := n.Deliver(n.ctx, pawl.Delivery{Token: "t-once", Data: "late", Once: "1"})
		n.ok(err)
		equal(t, "late", string(got.First), `"first"`)
		equal(t, "state of the run", got.Run.State, pawl.Completed)
		noTrouble(n, []string{r.ID()})
	})
}

// TestADeliveryIsSentAgainWhenNobodyKnows: the commit was made, its answer was lost.
func TestADeliveryIsSentAgainWhenNobodyKnows(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := taker(1)
		n := boot(t, open(), nil, w)
		r := start(n, w, "t-again")
		n.hook("t-again")
		lossy := storetest.Faulty(open(), func(method string, n int) storetest.Fault {
			return storetest.Fault{Lose: method == "Commit" && n%2 == 1}
		})
		c := client(t, lossy, nil)
		for _, d := range []pawl.Delivery{{Token: "t-again", Once: "x"}, {Run: pawl.Ref{ID: r.ID()}, Event: "go", Once: "x"}} {
			d.Data = "sent"
			_, err := c.Deliver(c.ctx, d)
			is(t, err, pawl.ErrUnknownOutcome)
			d.Data = "sent again"
			got, err := c.Deliver(c.ctx, d)
			n.ok(err)
			equal(t, "repeated", got.Repeated, true)
		}
		equal(t, "taken", result(n, r), []string{"sent", "sent"})
	})
}

// TestADeliveryIsPublishedOnce: and says to how many.
func TestADeliveryIsPublishedOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("listens", func(c *pawl.Context, _ none) (string, error) { return pawl.WaitFor[string](c, "all") })
		n := boot(t, open(), nil, w)
		a, b := start(n, w, none{}), start(n, w, none{}, pawl.Tenant("acme"))
		n.reaches(a.ID(), pawl.Waiting)
		n.until("the other to wait", func() bool {
			info, err := n.Get(n.ctx, pawl.Ref{Tenant: "acme", ID: b.ID()})
			n.ok(err)
			return info.State == pawl.Waiting
		})
		for i, tenant := range []string{"", "", "acme", "acme"} {
			got, err := n.Deliver(n.ctx, pawl.Delivery{Publish: "all", Tenant: tenant, Data: "heard", Once: "x", Window: time.Hour})
			n.ok(err)
			equal(t, "repeated", got.Repeated, i%2 == 1)
			equal(t, "count", got.Count, 1)
		}
		equal(t, "result", result(n, a), "heard")
	})
}

// TestADeliveryWithoutAnAddresseeIsRefused: nothing is sent, and the error says what is missing.
func TestADeliveryWithoutAnAddresseeIsRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n := client(t, open(), nil)
		run := pawl.Ref{ID: "nobody"}
		for _, c := range []struct {
			pawl.Delivery
			want error
			says string
		}{
			{pawl.Delivery{}, pawl.ErrInput, "one addressee"},
			{pawl.Delivery{Token: "t", Publish: "e"}, pawl.ErrInput, "one addressee"},
			{pawl.Delivery{Run: run}, pawl.ErrInput, "one addressee"},
			{pawl.Delivery{Run: run, Hook: "$hook", Event: "e"}, pawl.ErrInput, "one addressee"},
			{pawl.Delivery{Hook: "$hook"}, pawl.ErrInput, "names the Run"},
			{pawl.Delivery{Run: run, Event: "$own"}, pawl.ErrInput, "pawl's own"},
			{pawl.Delivery{Publish: "e", Once: strings.Repeat("x", 257)}, pawl.ErrInput, "256 bytes"},
			{pawl.Delivery{Publish: "e", Once: "a\x00"}, pawl.ErrInput, "NUL"},
			{pawl.Delivery{Publish: "e", Window: -1}, pawl.ErrInput, "negative"},
			{pawl.Delivery{Publish: "e", Answer: json.RawMessage(`{`)}, pawl.ErrInput, "not JSON"},
			{pawl.Delivery{Publish: "e", Data: func() {}}, pawl.ErrEncoding, "event e"},
			{pawl.Delivery{Publish: "e", Data: strings.Repeat("x", 3<<20)}, pawl.ErrTooLarge, "event e"},
			{pawl.Delivery{Token: "t"}, pawl.ErrNotFound, "hook"},
			{pawl.Delivery{Run: run, Hook: "$hook"}, pawl.ErrNotFound, ""},
			{pawl.Delivery{Run: run, Event: "e"}, pawl.ErrNotFound, "nobody"},
		} {
			_, err := n.Deliver(n.ctx, c.Delivery)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%+.200v: %v; want %v with %q", c.Delivery, err, c.want, c.says)
			}
		}
	})
}
