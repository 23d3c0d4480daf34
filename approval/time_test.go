package approval_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/pawltest"
)

// board keeps what people were told.
type board struct {
	mu    sync.Mutex
	since time.Time
	said  []string
	links map[string]string
	fail  map[approval.What]int // how many times a notice is to fail
}

func (b *board) notify(_ context.Context, n approval.Notice) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail[n.What] > 0 {
		b.fail[n.What]--
		return errors.New("no mail today")
	}
	var to []string
	for _, l := range n.Links {
		if b.links == nil {
			b.links = map[string]string{}
		}
		to, b.links[l.Approver] = append(to, l.Approver), l.URL
	}
	b.said = append(b.said, fmt.Sprintf("%s %v %s", n.What, to, time.Since(b.since).Truncate(time.Minute)))
	return nil
}

func (b *board) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.said)
}

// inBubble runs f in virtual time, on a harness with a secret.
func inBubble(t *testing.T, b *board, f func(h *pawltest.Harness), defs ...pawl.Definition) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b.since = time.Now()
		f(pawltest.NewWith(t, pawl.Options{Secret: secret}, defs...))
	})
}

const base = "https://pawl.example.org"

func TestJ51_peopleAreRemindedAndOthersAsked(t *testing.T) {
	b := &board{}
	w := asks(approval.Request{
		Approvers: []string{"ann", "bob"}, Notify: b.notify, BaseURL: base, Need: 2, Expires: 4 * 24 * time.Hour,
		Remind: []time.Duration{time.Hour}, Every: 24 * time.Hour, Escalate: &approval.Escalation{After: 36 * time.Hour, Approvers: []string{"boss", "ann"}},
	})
	inBubble(t, b, func(h *pawltest.Harness) {
		run := pawltest.Start(h, w, "book", pawl.ID("one"))
		h.AwaitHook("one")
		ref := pawl.Ref{ID: "one/buy"}
		decide := func(by string) error {
			a, err := approval.Get(h.Context(), h.Engine(), ref)
			if err == nil {
				_, err = approval.Decide(h.Context(), h.Engine(), ref, approval.Answer{Approved: true, By: by, Shown: a.Shown})
			}
			return err
		}
		time.Sleep(30 * time.Hour)
		if err := decide("boss"); !errors.Is(err, approval.ErrNotAllowed) {
			t.Errorf("boss, too early: %v", err)
		}
		time.Sleep(time.Minute)
		if err := decide("bob"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Hour)
		if err := decide("boss"); err != nil {
			t.Error(err)
		}
		d := pawltest.Result(h, run)
		equal(t, "decision", line(d.Approved, len(d.Votes), d.By), "true 2 boss")
		equal(t, "said", b.all(), []string{"asked [ann bob] 0s", "reminder [ann bob] 1h0m0s", "reminder [ann bob] 24h0m0s", "escalated [ann boss] 36h0m0s", "reminder [ann boss] 48h0m0s", "decided [] 50h1m0s"})
		events, err := approval.History(h.Context(), h.Engine(), ref)
		equal(t, "history", line(strings.Join(told(events), ", "), err), "asked, notified-asked, notified-reminder, notified-reminder, refused boss: only ann, bob may, approved bob, notified-escalated, notified-reminder, approved boss, notified-decided <nil>")
	}, w)
}

func TestNobodyDecides(t *testing.T) {
	for _, c := range []struct {
		name string
		on   *approval.Decision
		want string
	}{
		{"an error", nil, "expired"},
		{"a default", &approval.Decision{Approved: true, Comment: "silence is consent"}, "true silence is consent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &board{}
			w := asks(approval.Request{Approvers: []string{"ann"}, OnExpire: c.on, Notify: b.notify})
			inBubble(t, b, func(h *pawltest.Harness) {
				run := pawltest.Start(h, w, "book", pawl.ID("one"))
				var got string
				if d, err := pawltest.ResultError(h, run); errors.Is(err, pawl.ErrTimeout) && strings.Contains(err.Error(), "approval one/buy expired at") {
					got = "expired"
				} else {
					got = line(d.Approved, d.Comment+d.By)
				}
				equal(t, "result", got, c.want)
				equal(t, "time", time.Since(b.since).Truncate(time.Minute), approval.DefaultExpires)
				equal(t, "said", b.all(), []string{"asked [] 0s", "expired [] 168h0m0s"})
				_, err := approval.Decide(h.Context(), h.Engine(), pawl.Ref{ID: "one/buy"}, approval.Answer{By: "ann", Approved: true})
				if !errors.Is(err, approval.ErrExpired) {
					t.Errorf("too late: %v", err)
				}
				page, err := approval.List(h.Context(), h.Engine(), approval.Filter{State: approval.Expired})
				equal(t, "listed", line(len(page.Items), err), "1 <nil>")
				// It is forgotten in the end.
				time.Sleep(approval.DefaultKeep + time.Hour)
				page, err = approval.List(h.Context(), h.Engine(), approval.Filter{State: approval.Expired})
				equal(t, "listed after its time", line(len(page.Items), err), "0 <nil>")
			}, w)
		})
	}
}

// While no worker is there reminders are not given; then one is, not all that were missed.
func TestMissedRemindersAreOne(t *testing.T) {
	b := &board{}
	w := asks(approval.Request{Approvers: []string{"ann"}, Notify: b.notify, Every: time.Hour, Expires: 10 * time.Hour})
	inBubble(t, b, func(h *pawltest.Harness) {
		run := pawltest.Start(h, w, "book", pawl.ID("one"))
		h.AwaitHook("one")
		time.Sleep(time.Minute)
		if _, err := h.Engine().Pause(h.Context(), pawl.Ref{ID: "one"}, "holidays"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4*time.Hour + 30*time.Minute)
		if _, err := h.Engine().Unpause(h.Context(), pawl.Ref{ID: "one"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		equal(t, "said", b.all(), []string{"asked [] 0s", "reminder [] 4h31m0s", "reminder [] 5h0m0s"})
		if _, err := h.Engine().Pause(h.Context(), pawl.Ref{ID: "one"}, "holidays"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(40 * time.Hour)
		_, err := approval.Decide(h.Context(), h.Engine(), pawl.Ref{ID: "one/buy"}, approval.Answer{By: "ann", Approved: true})
		if !errors.Is(err, approval.ErrExpired) {
			t.Errorf("after its time, in a run that is paused: %v", err)
		}
		page, err := approval.List(h.Context(), h.Engine(), approval.Filter{})
		equal(t, "pending", line(len(page.Items), err), "0 <nil>")
		if _, err := h.Engine().Unpause(h.Context(), pawl.Ref{ID: "one"}); err != nil {
			t.Fatal(err)
		}
		if _, err := pawltest.ResultError(h, run); !errors.Is(err, pawl.ErrTimeout) {
			t.Error(err)
		}
		equal(t, "said", b.all()[3:], []string{"expired [] 45h31m0s"})
	}, w)
}

// A decision and the end meet at one moment: what the decider is told is what the run takes.
func TestADecisionInTheLastMoment(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		w := asks(approval.Request{Approvers: []string{"ann"}, Expires: 200 * time.Millisecond})
		e, _ := work(t, s, w)
		var all sync.WaitGroup
		var in atomic.Int32
		for i := range 60 {
			id := fmt.Sprint("m", i)
			run := start(t, e, w, id)
			all.Go(func() {
				a := asked(t, e, id+"/buy")
				time.Sleep(time.Until(a.Expires) - time.Duration(i)*500*time.Microsecond + 3*time.Millisecond)
				_, told := approval.Decide(t.Context(), e, pawl.Ref{ID: a.ID}, approval.Answer{Approved: true, By: "ann", Shown: a.Shown})
				d, err := run.Result(t.Context())
				switch {
				case told == nil && err == nil && d.By == "ann":
					in.Add(1)
				case errors.Is(told, approval.ErrExpired) && errors.Is(err, pawl.ErrTimeout):
				default:
					t.Errorf("the decider was told %v, the run took %v, %v", told, d, err)
				}
			})
		}
		all.Wait()
		t.Logf("in time: %d of 60", in.Load())
	})
}

func TestANoticeThatFails(t *testing.T) {
	b := &board{fail: map[approval.What]int{approval.Asked: 1, approval.Reminder: 99, approval.WasDecided: 99}}
	w := asks(approval.Request{Approvers: []string{"ann"}, Notify: b.notify, Remind: []time.Duration{time.Hour}})
	inBubble(t, b, func(h *pawltest.Harness) {
		run := pawltest.Start(h, w, "book", pawl.ID("one"))
		h.AwaitHook("one")
		time.Sleep(2 * time.Hour)
		a, err := approval.Get(h.Context(), h.Engine(), pawl.Ref{ID: "one/buy"})
		if err == nil {
			_, err = approval.Decide(h.Context(), h.Engine(), pawl.Ref{ID: "one/buy"}, approval.Answer{By: "ann", Shown: a.Shown})
		}
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "decision", pawltest.Result(h, run).By, "ann")
		events, err := approval.History(h.Context(), h.Engine(), pawl.Ref{ID: "one/buy"})
		said := strings.Join(told(events), ", ")
		if err != nil || !strings.Contains(said, `notified-reminder: step "buy/notify-reminder" failed after 4 attempts: no mail today`) || !strings.HasSuffix(said, "no mail today") {
			t.Errorf("%s %v", said, err)
		}
	}, w)
	// Nobody can be asked: that is the run's error, and a retry asks again.
	b = &board{fail: map[approval.What]int{approval.Asked: 1}}
	w = asks(approval.Request{Approvers: []string{"ann"}, Notify: b.notify, NotifyOptions: []pawl.StepOption{pawl.MaxAttempts(1)}})
	inBubble(t, b, func(h *pawltest.Harness) {
		run := pawltest.Start(h, w, "book", pawl.ID("one"))
		if _, err := pawltest.ResultError(h, run); err == nil || !strings.Contains(err.Error(), "no mail today") {
			t.Fatal(err)
		}
		if _, err := approval.Get(h.Context(), h.Engine(), pawl.Ref{ID: "one/buy"}); err != nil {
			t.Error(err)
		}
		if _, err := h.Engine().Retry(h.Context(), pawl.Ref{ID: "one"}); err != nil {
			t.Fatal(err)
		}
		h.AwaitState("one", pawl.Waiting)
		a, err := approval.Get(h.Context(), h.Engine(), pawl.Ref{ID: "one/buy"})
		if err == nil {
			_, err = approval.Decide(h.Context(), h.Engine(), pawl.Ref{ID: "one/buy"}, approval.Answer{By: "ann", Approved: true, Shown: a.Shown})
		}
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "decision", pawltest.Result(h, run).By, "ann")
	}, w)
}

// A fork from behind the asking has an approval of its own, for the time that was left.
func TestAForkHasAnApprovalOfItsOwn(t *testing.T) {
	b := &board{}
	w := asks(approval.Request{Approvers: []string{"ann"}, Notify: b.notify, BaseURL: base, Remind: []time.Duration{24 * time.Hour}})
	inBubble(t, b, func(h *pawltest.Harness) {
		run := pawltest.Start(h, w, "book", pawl.ID("one"))
		h.AwaitHook("one")
		time.Sleep(time.Hour)
		a, err := approval.Get(h.Context(), h.Engine(), pawl.Ref{ID: "one/buy"})
		if err == nil {
			_, err = approval.Decide(h.Context(), h.Engine(), pawl.Ref{ID: "one/buy"}, approval.Answer{By: "ann", Approved: true, Shown: a.Shown})
		}
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "decision", pawltest.Result(h, run).By, "ann")
		from := ""
		for _, entry := range h.Journal("one") {
			if entry.Kind == pawl.KindPayload && !entry.Failed {
				from = entry.Key
			}
		}
		time.Sleep(100 * 24 * time.Hour)
		said := len(b.all())
		fork, err := h.Engine().Fork(h.Context(), pawl.Ref{ID: "one"}, pawl.ForkOptions{From: from, ID: "two"})
		if err != nil {
			t.Fatal(err)
		}
		h.AwaitState("two", pawl.Waiting)
		if _, err := approval.Decide(h.Context(), h.Engine(), pawl.Ref{ID: "one/buy"}, approval.Answer{By: "ann", Shown: a.Shown}); err == nil {
			t.Error("the original was decided again")
		}
		time.Sleep(25 * time.Hour)
		if got := b.all()[said:]; len(got) != 1 || !strings.HasPrefix(got[0], "reminder [ann]") {
			t.Errorf("the fork said %v", got)
		}
		token := strings.TrimPrefix(b.links["ann"], base+approval.LinkPath)
		got, err := approval.Links{Engine: h.Engine()}.Decide(h.Context(), token, approval.Answer{Approved: false})
		if err != nil || got.Run != "two" {
			t.Fatalf("decided %v: %v", got.Run, err)
		}
		d := pawltest.Result(h, pawl.Attach[approval.Decision](h.Engine(), fork.ID))
		equal(t, "decision", line(d.Approved, d.By), "false ann")
		// One from behind the decision has that.
		if _, err := h.Engine().Fork(h.Context(), pawl.Ref{ID: "two"}, pawl.ForkOptions{From: "buy/record", ID: "three"}); err != nil {
			t.Fatal(err)
		}
		d = pawltest.Result(h, pawl.Attach[approval.Decision](h.Engine(), "three"))
		equal(t, "decision", line(d.Approved, d.By), "false ann")
	}, w)
}
