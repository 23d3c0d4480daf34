package approval_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/pawltest"
)

// What is filled in is what was asked for: nothing where nothing is, and what fits where something is, also with a
// rejection, which may do without.
func TestAFormIsWhatWasAskedFor(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		without := pawl.Define("without", func(c *pawl.Context, _ string) (approval.Decision, error) {
			return approval.Ask(c, "buy", approval.Request{})
		})
		with := asks(approval.Request{Schema: form})
		e, _ := work(t, s, with, without)
		decide := func(id string, yes bool, form string) error {
			t.Helper()
			_, err := approval.Decide(t.Context(), e, pawl.Ref{ID: id}, approval.Answer{Approved: yes, By: "ann", Shown: asked(t, e, id).Shown, Form: []byte(form)})
			return err
		}
		start(t, e, without, "none")
		asked(t, e, "none/buy")
		for _, yes := range []bool{true, false} {
			for _, form := range []string{`{"amount":1}`, `{}`, `1`, `x`} {
				if err := decide("none/buy", yes, form); !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), "asks for none") {
					t.Errorf("approved %v with %s: %v", yes, form, err)
				}
			}
		}
		if err := decide("none/buy", true, " null "); err != nil {
			t.Error(err)
		}
		for i, c := range []struct {
			yes  bool
			form string
			want string
		}{{false, "", ""}, {false, `{"amount":7}`, `{"amount":7}`}, {true, `{"amount":7}`, `{"amount":7}`}} {
			id := fmt.Sprint("r", i)
			run := start(t, e, with, id)
			asked(t, e, id+"/buy")
			for _, wrong := range []string{`{"amount":0}`, `{"amount":"7"}`, `{"amount":7,"more":1}`, `{"why":"x"}`, `[]`, `{`, `{"amount":7,"why":"` + strings.Repeat("x", approval.MaxShown) + `"}`} {
				if err := decide(id+"/buy", c.yes, wrong); !errors.Is(err, pawl.ErrInput) {
					t.Errorf("approved %v with %.40s: %v", c.yes, wrong, err)
				}
			}
			if err := decide(id+"/buy", c.yes, c.form); err != nil {
				t.Errorf("approved %v with %s: %v", c.yes, c.form, err)
			}
			if d, err := run.Result(t.Context()); err != nil || d.Approved != c.yes || string(d.Form) != c.want {
				t.Errorf("%v %s, %v; want %s", d.Approved, d.Form, err, c.want)
			}
		}
	})
}

// Who sends the same vote twice is told that it counts already, and the second is not on record.
func TestTheSameVoteAgainIsNone(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		w := asks(approval.Request{Approvers: []string{"ann", "bob"}, Need: 2})
		e, _ := work(t, s, w)
		start(t, e, w, "one")
		a := asked(t, e, "one/buy")
		vote := approval.Answer{Approved: true, By: "ann", Shown: a.Shown, Comment: "fine"}
		if _, err := approval.Decide(t.Context(), e, pawl.Ref{ID: a.ID}, vote); err != nil {
			t.Fatal(err)
		}
		var late *approval.DecidedError
		got, err := approval.Decide(t.Context(), e, pawl.Ref{ID: a.ID}, vote)
		if !errors.As(err, &late) || late.First.By != "ann" || len(got.Votes) != 1 {
			t.Errorf("again: %v, %v", err, got.Votes)
		}
	})
}

// Of those who may not decide a hundred attempts are kept, and more are refused all the same.
func TestRefusalsOnRecordAreBounded(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		w := asks(approval.Request{Approvers: []string{"ann"}})
		e, _ := work(t, s, w)
		start(t, e, w, "one")
		a := asked(t, e, "one/buy")
		for range 105 {
			if _, err := approval.Decide(t.Context(), e, pawl.Ref{ID: a.ID}, approval.Answer{Approved: true, By: "eve", Shown: a.Shown}); !errors.Is(err, approval.ErrNotAllowed) {
				t.Fatal(err)
			}
		}
		events, err := approval.History(t.Context(), e, pawl.Ref{ID: a.ID})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "refusals", len(slices.DeleteFunc(events, func(ev approval.Event) bool { return ev.What != approval.EventRefused })), 100)
	})
}

// A schema is whole: no file of the machine, and nothing elsewhere, is read for it.
func TestASchemaReadsNoFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret.json")
	if err := os.WriteFile(path, []byte(`{"type":"object"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"file://" + filepath.ToSlash(path), "http://127.0.0.1:1/x", "other.json"} {
		_, err := approval.CheckForm([]byte(`{"type":"object","properties":{"a":{"$ref":"`+ref+`"}}}`), []byte(`{"a":{}}`))
		if err == nil || !strings.Contains(err.Error(), "outside of the schema") {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := approval.CheckForm([]byte(`{"type":"object","properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"type":"object"}}}`), []byte(`{"a":{}}`)); err != nil {
		t.Error(err)
	}
}

// A request that can't be carried out is an error of the run at once, and not when somebody waits for what never comes.
func TestRequestsThatCannotBeAsked(t *testing.T) {
	long := strings.Repeat("n", 257)
	for name, c := range map[string]struct {
		q    approval.Request
		want string
	}{
		"escalated at its end":     {approval.Request{Expires: time.Hour, Escalate: &approval.Escalation{After: time.Hour, Approvers: []string{"boss"}}}, "would escalate after 1h"},
		"escalated behind its end": {approval.Request{Expires: time.Hour, Escalate: &approval.Escalation{After: 2 * time.Hour, Approvers: []string{"boss"}}}, "would escalate after 2h"},
		"escalated at once":        {approval.Request{Escalate: &approval.Escalation{Approvers: []string{"boss"}}}, "would escalate after 0s"},
		"a long name":              {approval.Request{Approvers: []string{long}}, "no name of a person"},
		"a name of two lines":      {approval.Request{Approvers: []string{"ann\nbob"}}, "no name of a person"},
		"a name that is no text":   {approval.Request{Approvers: []string{"\xff"}}, "no name of a person"},
		"one, later":               {approval.Request{Approvers: []string{"ann"}, Escalate: &approval.Escalation{After: time.Hour, Approvers: []string{"\xfe"}}}, "no name of a person"},
		"nobody":                   {approval.Request{Approvers: []string{""}}, "no name of a person"},
		"more than there are":      {approval.Request{Approvers: []string{"ann"}, Need: 2}, "only 1 may approve"},
		"all but the starter":      {approval.Request{Approvers: []string{"ann", "eve"}, Starter: "user", Need: 2}, "only 1 may approve"},
		"too many":                 {approval.Request{Need: 101}, "the limit is 100"},
		"reminded at once":         {approval.Request{Remind: []time.Duration{0}}, "would remind after 0s"},
		"reminded too often":       {approval.Request{Expires: 1001 * time.Minute, Every: time.Minute}, "more than 1000 reminders"},
		"a title that is no text":  {approval.Request{Title: "a\x00b"}, "without NUL"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &board{}
			q := c.q
			q.Notify = b.notify
			w := pawl.Define("asks", func(c *pawl.Context, _ string) (approval.Decision, error) { return approval.Ask(c, "buy", q) })
			inBubble(t, b, func(h *pawltest.Harness) {
				run := pawltest.Start(h, w, "book", pawl.Attributes(map[string]any{"user": "eve"}))
				if _, err := pawltest.ResultError(h, run); !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				equal(t, "said", len(b.all()), 0)
			}, w)
		})
	}
}

// A decision by default is nobody's, whatever its request says; what people voted until then stays beside it.
func TestADefaultIsNobodysDecision(t *testing.T) {
	b := &board{}
	w := asks(approval.Request{Approvers: []string{"ann", "bob"}, Need: 2, Expires: time.Hour,
		OnExpire: &approval.Decision{Approved: true, By: "boss", Actor: "key:boss", Via: "phone", Comment: "silence is consent"}})
	inBubble(t, b, func(h *pawltest.Harness) {
		run := pawltest.Start(h, w, "book", pawl.ID("one"))
		h.AwaitHook("one")
		ref := pawl.Ref{ID: "one/buy"}
		a, err := approval.Get(h.Context(), h.Engine(), ref)
		if err == nil {
			_, err = approval.Decide(h.Context(), h.Engine(), ref, approval.Answer{Approved: true, By: "ann", Shown: a.Shown})
		}
		if err != nil {
			t.Fatal(err)
		}
		d := pawltest.Result(h, run)
		if !d.Approved || d.By != "" || d.Actor != "" || d.Via != "" || d.Comment != "silence is consent" || d.Shown != a.Shown || len(d.Votes) != 1 || d.Votes[0].By != "ann" {
			t.Errorf("%+v", d)
		}
		got, err := approval.Get(h.Context(), h.Engine(), ref)
		if err != nil || got.State != approval.Expired || got.Decision == nil || got.Decision.By != "" || len(got.Votes) != 1 {
			t.Errorf("%+v, %v", got, err)
		}
		// Who comes later, also with the vote that would have decided, is told that it is over.
		if _, err := approval.Decide(h.Context(), h.Engine(), ref, approval.Answer{Approved: true, By: "bob", Shown: a.Shown}); !errors.Is(err, approval.ErrExpired) {
			t.Errorf("too late: %v", err)
		}
		// What was decided is kept for as long as was said, and goes.
		time.Sleep(approval.DefaultKeep - time.Minute)
		if page, err := approval.List(h.Context(), h.Engine(), approval.Filter{State: approval.Expired}); err != nil || len(page.Items) != 1 {
			t.Errorf("%+v, %v", page, err)
		}
		time.Sleep(2 * time.Minute)
		if page, err := approval.List(h.Context(), h.Engine(), approval.Filter{State: approval.Expired}); err != nil || len(page.Items) != 0 {
			t.Errorf("%+v, %v", page, err)
		}
	}, w)
}

// What comes to an approval's hook and is no vote in its turn counts for nothing.
func TestWhatIsNoVoteCountsForNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		w := asks(approval.Request{Approvers: []string{"ann"}})
		e, _ := work(t, s, w)
		run := start(t, e, w, "one")
		a := asked(t, e, "one/buy")
		hooks, err := e.Hooks(t.Context(), pawl.Ref{ID: "one"})
		if err != nil || len(hooks) != 1 {
			t.Fatal(hooks, err)
		}
		for _, data := range []string{`{"approved":true,"by":"eve"}`, `{"slot":2,"approved":true,"by":"eve"}`, `{"slot":1,"expired":true}`, `"x"`, `null`} {
			if _, err := e.Deliver(t.Context(), pawl.Delivery{Run: pawl.Ref{ID: "one"}, Hook: hooks[0].Key, Data: json.RawMessage(data)}); err != nil && !errors.Is(err, pawl.ErrInput) {
				t.Fatal(err)
			}
		}
		if _, err := approval.Decide(t.Context(), e, pawl.Ref{ID: a.ID}, approval.Answer{By: "ann", Shown: a.Shown}); err != nil {
			t.Fatal(err)
		}
		d, err := run.Result(t.Context())
		equal(t, "decision", line(d.Approved, d.By, err), "false ann <nil>")
	})
}

// Of what was missed while no worker was there one notice is given: that others are asked now, if that was among it,
// however many reminders would have come since, and at the end nothing but the end.
func TestMissedEscalationsAreTold(t *testing.T) {
	b := &board{}
	w := asks(approval.Request{Approvers: []string{"ann"}, Notify: b.notify, BaseURL: base, Every: time.Hour, Expires: 10 * time.Hour,
		Escalate: &approval.Escalation{After: 2*time.Hour + time.Minute, Approvers: []string{"boss"}}})
	inBubble(t, b, func(h *pawltest.Harness) {
		for i, away := range []time.Duration{4*time.Hour + 30*time.Minute, 20 * time.Hour} {
			id := fmt.Sprint("run", i)
			run := pawltest.Start(h, w, "book", pawl.ID(id))
			h.AwaitHook(id)
			time.Sleep(time.Second)
			said := len(b.all())
			if _, err := h.Engine().Pause(h.Context(), pawl.Ref{ID: id}, "holidays"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(away)
			if _, err := h.Engine().Unpause(h.Context(), pawl.Ref{ID: id}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			want := []string{"escalated [ann boss] "}
			if away > 10*time.Hour {
				want = []string{"expired [] "}
			}
			got := b.all()[said:]
			if len(got) != 1 || !strings.HasPrefix(got[0], want[0]) {
				t.Errorf("after %v: %v, want %v", away, got, want)
			}
			if _, err := h.Engine().Cancel(h.Context(), pawl.Ref{ID: id}, ""); err != nil && !errors.Is(err, pawl.ErrEnded) {
				t.Fatal(err)
			}
			_, _ = pawltest.ResultError(h, run)
		}
	}, w)
}

// between is a store on which something happens before an approval is put on record.
type between struct {
	pawl.Store
	before atomic.Pointer[func()]
}

func (s *between) Commit(ctx context.Context, b *pawl.Batch) error {
	for _, w := range b.Writes {
		for _, p := range w.Puts {
			if p.Space == "approval" {
				if f := s.before.Swap(nil); f != nil {
					(*f)()
				}
			}
		}
	}
	return s.Store.Commit(ctx, b)
}

// Of two votes that come at once neither is lost from the record, whichever is written last.
func TestVotesAtOnceAreBothOnRecord(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		w := asks(approval.Request{Approvers: []string{"ann", "bob", "cid"}, Need: 3})
		e, _ := work(t, s, w)
		start(t, e, w, "one")
		a := asked(t, e, "one/buy")
		vote := func(e *pawl.Engine, by string) {
			if _, err := approval.Decide(t.Context(), e, pawl.Ref{ID: a.ID}, approval.Answer{Approved: true, By: by, Shown: a.Shown}); err != nil {
				t.Errorf("%s: %v", by, err)
			}
		}
		slow := &between{Store: s}
		bob := func() { vote(e, "bob") }
		slow.before.Store(&bob)
		vote(pawl.New(slow, &pawl.Options{Secret: secret}), "ann")
		a = asked(t, e, "one/buy")
		var by []string
		for _, v := range a.Votes {
			by = append(by, v.By)
		}
		equal(t, "votes", line(a.State, by, slow.before.Load() == nil), "pending [ann bob] true")
	})
}
