package approval_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
)

var form = []byte(`{"type":"object","properties":{"amount":{"type":"integer","minimum":1,"maximum":100},"why":{"type":"string"}},"required":["amount"],"additionalProperties":false}`)

func TestADecisionIsTheRuns(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		w := asks(approval.Request{Title: "Buy it?", Message: "it is cheap", Approvers: []string{"ann", "bob"}, Schema: form})
		e, _ := work(t, s, w)
		run := start(t, e, w, "one")
		a := asked(t, e, "one/buy")
		equal(t, "shown", line(a.ID, a.Run, a.Workflow, a.Name, a.State, a.Title, a.Message, string(a.Details), a.Approvers, a.Need),
			line("one/buy", "one", "asks", "buy", approval.Pending, "Buy it?", "it is cheap", `{"item":"book"}`, a.Approvers, 1))
		equal(t, "time to expire", a.Expires.Sub(a.Asked), approval.DefaultExpires)
		ref := pawl.Ref{ID: a.ID}
		for name, c := range map[string]struct {
			in   approval.Answer
			want error
			text string
		}{
			"one who may not":  {approval.Answer{Approved: true, By: "eve", Shown: a.Shown}, approval.ErrNotAllowed, `"eve" may not decide approval one/buy: only ann, bob may`},
			"nobody":           {approval.Answer{Approved: true, Shown: a.Shown}, pawl.ErrInput, "no name of a person"},
			"without a form":   {approval.Answer{Approved: true, By: "ann", Shown: a.Shown}, pawl.ErrInput, "missing property 'amount'"},
			"with a wrong one": {approval.Answer{Approved: true, By: "ann", Shown: a.Shown, Form: []byte(`{"amount":101}`)}, pawl.ErrInput, "amount: maximum"},
			"blindly":          {approval.Answer{Approved: true, By: "ann", Form: []byte(`{"amount":5}`)}, approval.ErrChanged, "must say what it is about"},
			"something else":   {approval.Answer{Approved: true, By: "ann", Form: []byte(`{"amount":5}`), Shown: other(t, e, s)}, approval.ErrChanged, "the title and the details of approval one/buy changed"},
			"too many words":   {approval.Answer{By: "ann", Shown: a.Shown, Comment: strings.Repeat("x", approval.MaxComment+1)}, pawl.ErrInput, "the comment is"},
		} {
			if _, err := approval.Decide(t.Context(), e, ref, c.in); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: %v, want %v with %q", name, err, c.want, c.text)
			}
		}
		if _, err := approval.Decide(t.Context(), e, pawl.Ref{ID: "one/sell"}, approval.Answer{By: "ann"}); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("another name: %v", err)
		}
		if _, err := approval.Decide(t.Context(), e, pawl.Ref{Tenant: "x", ID: "one/buy"}, approval.Answer{By: "ann"}); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("another tenant: %v", err)
		}
		got, err := approval.Decide(t.Context(), e, ref, approval.Answer{Approved: true, By: "bob", Shown: a.Shown, Comment: "fine", Form: []byte(` {"amount": 5} `), Via: "test"})
		if err != nil {
			t.Fatal(err)
		}
		d, err := run.Result(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := approval.Decision{Approved: true, By: "bob", At: d.At, Comment: "fine", Form: []byte(`{"amount":5}`), Shown: a.Shown, Via: "test"}
		equal(t, "decision", d, want)
		equal(t, "answer", *got.Decision, want)
		_, err = approval.Decide(t.Context(), e, ref, approval.Answer{By: "ann", Shown: a.Shown})
		var second *approval.DecidedError
		if !errors.As(err, &second) || second.First.By != "bob" || !second.First.At.Equal(d.At) {
			t.Errorf("the second: %v", err)
		}
		// What it was is known, and by whom, and who was refused.
		kept := asked(t, e, "one/buy")
		equal(t, "kept", line(kept.State, kept.Decision.By, kept.Title), line(approval.Decided, "bob", "Buy it?"))
		events, err := approval.History(t.Context(), e, ref)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "history", told(events), []string{"asked", "refused eve: only ann, bob may", "approved bob: fine"})
		if err := e.Delete(t.Context(), pawl.Ref{ID: "one"}); err != nil {
			t.Fatal(err)
		}
		if events, err = approval.History(t.Context(), e, ref); err != nil {
			t.Fatal(err)
		}
		equal(t, "history without the run", told(events), []string{"asked", "refused eve: only ann, bob may", "approved bob: fine"})
	})
}

// other is what another approval shows: another title and other details.
func other(t *testing.T, e *pawl.Engine, s pawl.Store) string {
	w := pawl.Define("other", func(c *pawl.Context, in string) (approval.Decision, error) {
		return approval.Ask(c, "buy", approval.Request{Title: "Another?", Message: "it is cheap", Schema: form})
	})
	o, stop := work(t, s, w)
	defer stop()
	start(t, o, w, "other")
	return asked(t, e, "other/buy").Shown
}

func line(all ...any) string { return strings.TrimSpace(fmt.Sprintln(all...)) }

func told(events []approval.Event) []string {
	var out []string
	for _, ev := range events {
		text := ev.What
		if ev.By != "" {
			text += " " + ev.By
		}
		if ev.Text != "" {
			text += ": " + ev.Text
		}
		out = append(out, text)
	}
	return out
}

// Everybody decides at once: one counts, and all others are told which.
func TestOneDecisionCounts(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		w := asks(approval.Request{})
		e, _ := work(t, s, w)
		for round := range 5 {
			id := fmt.Sprint("r", round)
			run := start(t, e, w, id)
			a := asked(t, e, id+"/buy")
			var mu sync.Mutex
			var won []string
			first := map[string]int{}
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() {
					by := fmt.Sprint("p", i)
					_, err := approval.Decide(t.Context(), e, pawl.Ref{ID: a.ID}, approval.Answer{Approved: i%2 == 0, By: by, Shown: a.Shown})
					mu.Lock()
					defer mu.Unlock()
					var late *approval.DecidedError
					switch {
					case err == nil:
						won = append(won, by)
					case errors.As(err, &late):
						first[late.First.By]++
					default:
						t.Errorf("%s: %v", by, err)
					}
				})
			}
			all.Wait()
			d, err := run.Result(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(won, []string{d.By}) || first[d.By] != 19 {
				t.Fatalf("the run took %s; told that they decided: %v; others were told of %v", d.By, won, first)
			}
		}
	})
}

func TestAsManyAsAreNeeded(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		w := asks(approval.Request{Approvers: []string{"ann", "bob", "cid", "dan"}, Need: 3})
		e, _ := work(t, s, w)
		decide := func(id, by string, yes bool) (approval.Approval, error) {
			return approval.Decide(t.Context(), e, pawl.Ref{ID: id}, approval.Answer{Approved: yes, By: by, Shown: asked(t, e, id).Shown})
		}
		run := start(t, e, w, "yes")
		asked(t, e, "yes/buy")
		for i, by := range []string{"cid", "ann"} {
			a, err := decide("yes/buy", by, true)
			if err != nil || a.State != approval.Pending || len(a.Votes) != i+1 {
				t.Fatalf("%s: %v %v %v", by, err, a.State, a.Votes)
			}
			var twice *approval.DecidedError
			if _, err := decide("yes/buy", by, false); !errors.As(err, &twice) || twice.First.By != by || !twice.First.Approved {
				t.Errorf("%s again: %v", by, err)
			}
		}
		list, err := approval.List(t.Context(), e, approval.Filter{Approver: "ann"})
		equal(t, "what ann has to decide", line(len(list.Items), err), "0 <nil>")
		list, err = approval.List(t.Context(), e, approval.Filter{Approver: "dan"})
		equal(t, "what dan has to decide", line(len(list.Items), len(list.Items[0].Votes), err), "1 2 <nil>")
		a, err := decide("yes/buy", "dan", true)
		equal(t, "state", line(a.State, err), "decided <nil>")
		if _, err := decide("yes/buy", "bob", true); !errors.Is(err, approval.ErrDecided) {
			t.Errorf("the fourth: %v", err)
		}
		d, err := run.Result(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var by []string
		for _, v := range d.Votes {
			by = append(by, v.By)
		}
		equal(t, "votes", line(d.Approved, d.By, by), "true dan [cid ann dan]")

		run = start(t, e, w, "no")
		asked(t, e, "no/buy")
		if _, err := decide("no/buy", "ann", true); err != nil {
			t.Fatal(err)
		}
		a, err = decide("no/buy", "bob", false)
		equal(t, "rejected", line(a.State, err), "decided <nil>")
		d, err = run.Result(t.Context())
		equal(t, "one rejection", line(d.Approved, d.By, len(d.Votes), err), "false bob 2 <nil>")
	})
}

func TestWhoStartedItMayNotDecide(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		w := asks(approval.Request{Approvers: []string{"eve", "ann"}, Starter: "user"})
		e, _ := work(t, s, w)
		run := start(t, e, w, "one")
		a := asked(t, e, "one/buy")
		_, err := approval.Decide(t.Context(), e, pawl.Ref{ID: a.ID}, approval.Answer{Approved: true, By: "eve", Shown: a.Shown})
		if !errors.Is(err, approval.ErrNotAllowed) || !strings.Contains(err.Error(), "started the run") {
			t.Errorf("eve: %v", err)
		}
		equal(t, "deciders", a.Deciders(a.Asked), []string{"ann"})
		if _, err = approval.Decide(t.Context(), e, pawl.Ref{ID: a.ID}, approval.Answer{By: "ann", Shown: a.Shown}); err != nil {
			t.Fatal(err)
		}
		d, err := run.Result(t.Context())
		equal(t, "decision", line(d.Approved, d.By, err), "false ann <nil>")
		// An attribute that is not there, and nobody left to decide.
		for _, q := range []approval.Request{{Starter: "who"}, {Starter: "user", Approvers: []string{"eve"}}, {Need: 2, Approvers: []string{"ann", "ann"}}, {Schema: []byte(`{"type":"string"}`)}, {Schema: []byte(`{"type":"object","$ref":"https://example.org/x"}`)}, {Message: strings.Repeat("x", approval.MaxShown+1)}} {
			w := pawl.Define("wrong", func(c *pawl.Context, _ string) (approval.Decision, error) { return approval.Ask(c, "x", q) })
			o, stop := work(t, s, w)
			bad, err := w.Start(t.Context(), o, "", pawl.Attributes(map[string]any{"user": "eve"}))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bad.Result(t.Context()); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("%+v: %v", q, err)
			}
			stop()
		}
	})
}

func TestAnApprovalEndsWithItsRun(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		w := asks(approval.Request{Approvers: []string{"ann"}})
		e, _ := work(t, s, w)
		run := start(t, e, w, "one")
		a := asked(t, e, "one/buy")
		links := approval.Links{Engine: e, BaseURL: "https://example.org"}
		url, err := links.For(a, "ann")
		if err != nil {
			t.Fatal(err)
		}
		token := url[len("https://example.org"+approval.LinkPath):]
		if _, err := e.Cancel(t.Context(), pawl.Ref{ID: "one"}, "no money"); err != nil {
			t.Fatal(err)
		}
		if _, err := run.Result(t.Context()); !errors.Is(err, pawl.ErrCancelled) {
			t.Fatal(err)
		}
		_, err = approval.Decide(t.Context(), e, pawl.Ref{ID: a.ID}, approval.Answer{By: "ann", Approved: true, Shown: a.Shown})
		if !errors.Is(err, pawl.ErrEnded) || !strings.Contains(err.Error(), "its run is cancelled") {
			t.Errorf("decided: %v", err)
		}
		o, err := links.Open(t.Context(), token)
		equal(t, "the link", line(o.Approval.State, o.Approval.Reason, err), "ended its run is cancelled <nil>")
		list, err := approval.List(t.Context(), e, approval.Filter{})
		equal(t, "list", line(len(list.Items), err), "0 <nil>")
		events, err := approval.History(t.Context(), e, pawl.Ref{ID: a.ID})
		equal(t, "history", line(told(events), err), "[asked] <nil>")
	})
}

// An approval that is given up while its run goes on is over: nobody decides what nobody waits for.
func TestAnApprovalThatLosesARaceIsOver(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		w := pawl.Define("races", func(c *pawl.Context, _ string) (approval.Decision, error) {
			buy := pawl.Go(c, "buy", func(c *pawl.Context) (approval.Decision, error) {
				return approval.Ask(c, "consent", approval.Request{Approvers: []string{"ann"}})
			})
			sold := pawl.Go(c, "sold", func(c *pawl.Context) (approval.Decision, error) {
				return pawl.WaitFor[approval.Decision](c, "sold")
			})
			if _, err := pawl.Race(c, buy, sold); err != nil {
				return approval.Decision{}, err
			}
			if err := pawl.Do(c, "after", func(context.Context) error { return nil }); err != nil {
				return approval.Decision{}, err
			}
			return pawl.WaitFor[approval.Decision](c, "go")
		})
		e, _ := work(t, s, w)
		run := start(t, e, w, "one")
		a := asked(t, e, "one/buy/consent")
		if err := e.Signal(t.Context(), "one", "sold", approval.Decision{}); err != nil {
			t.Fatal(err)
		}
		for entry, err := range e.Follow(t.Context(), pawl.Ref{ID: "one"}, -1) {
			if err != nil {
				t.Fatal(err)
			}
			if entry.Key == "after" {
				break
			}
		}
		_, err := approval.Decide(t.Context(), e, pawl.Ref{ID: a.ID}, approval.Answer{By: "ann", Approved: true, Shown: a.Shown})
		if !errors.Is(err, pawl.ErrEnded) {
			t.Errorf("decided: %v", err)
		}
		if err := e.Signal(t.Context(), "one", "go", approval.Decision{}); err != nil {
			t.Fatal(err)
		}
		if _, err := run.Result(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A run that is paused, or whose worker is away, has its approval decided all the same.
func TestDecidedWhileNobodyIsThere(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		w := asks(approval.Request{Approvers: []string{"ann"}})
		e, _ := work(t, s, w)
		run := start(t, e, w, "one")
		a := asked(t, e, "one/buy")
		if _, err := e.Pause(t.Context(), pawl.Ref{ID: "one"}, "for now"); err != nil {
			t.Fatal(err)
		}
		if _, err := approval.Decide(t.Context(), e, pawl.Ref{ID: a.ID}, approval.Answer{By: "ann", Approved: true, Shown: a.Shown}); err != nil {
			t.Fatal(err)
		}
		list, err := approval.List(t.Context(), e, approval.Filter{})
		equal(t, "pending", line(len(list.Items), err), "0 <nil>")
		list, err = approval.List(t.Context(), e, approval.Filter{State: approval.Decided})
		equal(t, "decided", line(len(list.Items), err), "1 <nil>")
		if _, err := approval.Decide(t.Context(), e, pawl.Ref{ID: a.ID}, approval.Answer{By: "ann", Shown: a.Shown}); !errors.Is(err, approval.ErrDecided) {
			t.Errorf("again: %v", err)
		}
		if _, err := e.Unpause(t.Context(), pawl.Ref{ID: "one"}); err != nil {
			t.Fatal(err)
		}
		d, err := run.Result(t.Context())
		equal(t, "decision", line(d.Approved, d.By, err), "true ann <nil>")
	})
}

func TestListsHavePages(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		w := asks(approval.Request{})
		e, _ := work(t, s, w)
		for i := range 7 {
			id := fmt.Sprint("a", i)
			start(t, e, w, id)
			asked(t, e, id+"/buy")
		}
		if _, err := w.Start(t.Context(), e, "book", pawl.ID("theirs"), pawl.Tenant("x")); err != nil {
			t.Fatal(err)
		}
		walk := func(f approval.Filter) (ids []string) {
			for {
				page, err := approval.List(t.Context(), e, f)
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range page.Items {
					ids = append(ids, a.Run)
				}
				if f.Cursor = page.Next; page.Next == "" {
					return ids
				}
			}
		}
		equal(t, "pending", walk(approval.Filter{Limit: 3}), []string{"a0", "a1", "a2", "a3", "a4", "a5", "a6"})
		equal(t, "of a run", walk(approval.Filter{Run: "a3"}), []string{"a3"})
		for _, i := range []int{2, 0, 5} {
			id := fmt.Sprintf("a%d/buy", i)
			if _, err := approval.Decide(t.Context(), e, pawl.Ref{ID: id}, approval.Answer{By: fmt.Sprint("p", i), Shown: asked(t, e, id).Shown}); err != nil {
				t.Fatal(err)
			}
		}
		equal(t, "still pending", walk(approval.Filter{Limit: 2}), []string{"a1", "a3", "a4", "a6"})
		equal(t, "decided", walk(approval.Filter{Limit: 2, State: approval.Decided}), []string{"a5", "a0", "a2"})
		equal(t, "decided by one", walk(approval.Filter{Approver: "p0", State: approval.Decided}), []string{"a0"})
		equal(t, "expired", walk(approval.Filter{State: approval.Expired}), []string(nil))
		for _, f := range []approval.Filter{{State: "lost"}, {Cursor: "x"}} {
			if _, err := approval.List(t.Context(), e, f); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("%+v: %v", f, err)
			}
		}
	})
}
