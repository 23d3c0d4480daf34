package trigger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

type order struct {
	N int `json:"n"`
}

var (
	taker = pawl.Define("taker", func(c *pawl.Context, in order) (int, error) { return in.N, nil })
	// waits takes n orders with an even number, also of the last hour.
	waits = pawl.Define("waits", func(c *pawl.Context, n int) (out []int, err error) {
		for range n {
			o, err := WaitFor[order](c, "order", Where("event.data.n % 2 == 0"), LookBack(time.Hour), Timeout(time.Hour))
			if err != nil {
				return out, err
			}
			out = append(out, o.N)
		}
		return out, nil
	})
	plainWait = pawl.Define("plain", func(c *pawl.Context, _ any) (int, error) {
		o, err := pawl.WaitFor[order](c, "order")
		return o.N, err
	})
)

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func TestAnEventStartsRunsAndReachesThoseThatWait(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), taker, waits, plainWait)
		background(t, e.Run)
		for _, s := range []Subscription{
			{ID: "all", Event: "order", Workflow: "taker"},
			{ID: "big", Event: "order", Where: "event.data.n > 100", Workflow: "taker"},
			{ID: "wrong", Event: "order", Where: "event.data.missing > 100", Workflow: "taker"},
			{ID: "other", Event: "orders", Workflow: "taker"},
			{ID: "theirs", Event: "order", Workflow: "taker", Tenant: "acme"},
		} {
			if _, err := Subscribe(t.Context(), e, s); err != nil {
				t.Fatal(err)
			}
		}
		publish := func(id string, n int) Published {
			t.Helper()
			p, err := Publish(t.Context(), e, Event{ID: id, Name: "order", Data: order{n}})
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		if p := publish("e1", 2); len(p.Runs) != 1 || p.Repeated || p.Pending || len(p.Errors) != 1 || !strings.Contains(p.Errors[0], "missing") {
			t.Errorf("%+v", p)
		}
		w, err := waits.Start(t.Context(), e, 3)
		if err != nil {
			t.Fatal(err)
		}
		old, err := plainWait.Start(t.Context(), e, nil)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "both wait", func() bool {
			for _, id := range []string{w.ID(), old.ID()} {
				if info, err := e.Get(t.Context(), pawl.Ref{ID: id}); err != nil || info.State != pawl.Waiting {
					return false
				}
			}
			return true
		})
		if p := publish("e2", 3); p.Waiters != 1 { // the plain one; the other wants even ones
			t.Errorf("%+v", p)
		}
		if p := publish("e3", 400); len(p.Runs) != 2 || p.Waiters != 1 {
			t.Errorf("%+v", p)
		}
		if p := publish("e3", 400); len(p.Runs) != 2 || !p.Repeated {
			t.Errorf("%+v", p)
		}
		publish("e4", 6)
		got, err := w.Result(t.Context())
		if err != nil || fmt.Sprint(got) != "[2 400 6]" {
			t.Errorf("it took %v, %v", got, err)
		}
		if got, err := old.Result(t.Context()); err != nil || got != 3 {
			t.Errorf("the plain wait took %v, %v", got, err)
		}
		runs, err := e.List(t.Context(), pawl.Filter{Workflow: "taker"})
		if err != nil || len(runs) != 5 {
			t.Errorf("%d runs, %v; want 4 of all and 1 of big", len(runs), err)
		}
	})
}

func TestNoEventIsLostBetweenLookingAndWaiting(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), waits)
		background(t, e.Run)
		other := client(t, open())
		const n = 20
		var runs []*pawl.Run[[]int]
		published := make(chan error)
		go func() { // while they begin to wait, and while they go on to the next wait
			for i := range n {
				if _, err := Publish(context.Background(), other, Event{ID: fmt.Sprint(i), Name: "order", Data: order{2 * i}}); err != nil {
					published <- err
					return
				}
			}
			published <- nil
		}()
		for range 5 {
			r, err := waits.Start(t.Context(), e, n)
			if err != nil {
				t.Fatal(err)
			}
			runs = append(runs, r)
		}
		if err := <-published; err != nil {
			t.Fatal(err)
		}
		for _, r := range runs {
			ctx, stop := context.WithTimeout(t.Context(), 60*time.Second)
			got, err := r.Result(ctx)
			stop()
			seen := map[int]bool{}
			for _, n := range got {
				seen[n] = true
			}
			if err != nil || len(got) != n || len(seen) != n {
				t.Errorf("run %s took %v, %v; want each of %d once", r.ID(), got, err, n)
			}
		}
	})
}

func TestAPublisherThatDiesIsFinishedByARunner(t *testing.T) {
	for point := range 4 { // the event, the start, what is told, the end
		for _, after := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s, err := sqlite.Open(sqlite.Memory, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				e := client(t, s, taker)
				if _, err := Subscribe(t.Context(), e, Subscription{ID: "all", Event: "order", Workflow: "taker"}); err != nil {
					t.Fatal(err)
				}
				n := 0
				d := &dying{Store: s, after: after, fatal: func(*pawl.Batch) bool { n++; return n == point+1 }}
				_, err = Publish(t.Context(), client(t, d, taker), Event{ID: "e", Name: "order", Data: order{1}})
				want := 1
				if point == 0 && !after {
					want = 0
					if err == nil {
						t.Error("it was published, and is not there")
					}
				} else if point > 0 && err != nil {
					t.Errorf("death %d: %v, but the event is there", point, err)
				}
				fire(t, e, 30*time.Second)
				if runs, err := e.List(t.Context(), pawl.Filter{}); err != nil || len(runs) != want {
					t.Errorf("death %d (after: %v): %d runs, %v", point, after, len(runs), err)
				}
				if p, err := Publish(t.Context(), e, Event{ID: "e", Name: "order", Data: order{1}}); err != nil || p.Repeated != (want == 1) || p.Pending {
					t.Errorf("death %d (after: %v): published again: %+v, %v", point, after, p, err)
				}
			})
		}
	}
}

func TestMatchesThatAreRefused(t *testing.T) {
	for source, want := range map[string]string{
		"":                             "empty",
		"event.":                       "ends too early",
		"1 + 1":                        "must yield bool",
		"evnt.data":                    `there is nothing called "evnt"; did you mean "event"?`,
		strings.Repeat("true||", 4000): "the limit is 16384",
		"event.data.reverse() == 'X'":  `there is no function "reverse"`,
	} {
		_, err := ParseMatch(source)
		var fault *MatchError
		if !errors.As(err, &fault) || !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", source, err, want)
		}
	}
}

func TestMatchesAreBounded(t *testing.T) {
	list := "[" + strings.TrimSuffix(strings.Repeat("1,", 500), ",") + "]"
	m, err := ParseMatch("event.data.all(a, event.data.all(b, event.data.all(c, a == b && b == c)))")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := m.Fits(t.Context(), "", "", []byte(list)); err == nil || !strings.Contains(err.Error(), "the limit is 100000 steps") {
		t.Errorf("a costly one: %v", err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := m.Fits(ctx, "", "", []byte(list)); err == nil {
		t.Error("it went on behind the end of its context")
	}
	for source, want := range map[string]bool{
		"event.data.n == 3 && event.data.f > 1 && event.data.n % 2 == 1": true,
		"has(event.data.x) && event.data.x == 1":                         false,
		"event.name == 'e' && event.id in ['7', '8']":                    true,
		"event.data.s.startsWith('ab') && event.data.s.matches('b$')":    true,
	} {
		m, err := ParseMatch(source)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := m.Fits(t.Context(), "7", "e", []byte(`{"n": 3, "f": 1.5, "s": "ab"}`)); err != nil || got != want {
			t.Errorf("%s: %v, %v", source, got, err)
		}
	}
}

// A name that the core refuses is refused before anything is kept.
func TestEventsNeedAName(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := pawl.New(open(), nil)
		for _, name := range []string{"", "$x", "a\x00b", "\xff", strings.Repeat("n", 257)} {
			if _, err := Publish(t.Context(), e, Event{Name: name}); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("event %q: %v", name, err)
			}
			if _, err := Subscribe(t.Context(), e, Subscription{ID: "s", Event: name, Workflow: "w"}); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("subscription to %q: %v", name, err)
			}
		}
	})
}
