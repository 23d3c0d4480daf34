package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest"
)

// takes is a workflow that returns its input, and the time at which it began, after it has waited for an event if its input says so.
var takes = pawl.Define("takes", func(c *pawl.Context, in json.RawMessage) (string, error) {
	began, err := pawl.Step(c, "began", func(context.Context) (time.Time, error) { return time.Now(), nil })
	if err != nil {
		return "", err
	}
	var of struct{ Hold bool }
	if json.Unmarshal(in, &of) == nil && of.Hold {
		if _, err := pawl.WaitFor[any](c, "go"); err != nil {
			return "", err
		}
	}
	return began.UTC().Format("15:04:05 ") + string(in), nil
})

// owns makes these the triggers of an owner.
func owns(t *testing.T, e *pawl.Engine, want Owned) {
	t.Helper()
	puts, err := Replace(t.Context(), e, "", "flow:f", want)
	if err == nil {
		_, err = e.Write(t.Context(), puts...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// controlled is a subscription to the event order with a control.
func controlled(c *Control) Owned {
	return Owned{Events: []Subscription{{ID: "flow:f:0", Owner: "flow:f", Event: "order", Workflow: "takes", Control: c}}}
}

func publishes(t *testing.T, e *pawl.Engine, id, data string) Published {
	t.Helper()
	p, err := Publish(t.Context(), e, Event{ID: id, Name: "order", Data: json.RawMessage(data)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// took are the results of all runs of takes, oldest run first.
func took(t *testing.T, e *pawl.Engine) (out []string) {
	t.Helper()
	runs, err := e.List(t.Context(), pawl.Filter{Workflow: "takes", Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(runs)
	for _, run := range runs {
		info, entry, err := e.Wait(t.Context(), "", run.ID)
		if err != nil {
			t.Fatal(err)
		}
		var said string
		if info.State == pawl.Completed {
			_ = json.Unmarshal(entry.Data, &said)
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s", info.State, said)))
	}
	return out
}

func equalLines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\ngot  %q\nwant %q", what, got, want)
	}
}

// inVirtualTime runs f on a store in memory, with an engine and a Runner at work. It is midnight.
func inVirtualTime(t *testing.T, f func(t *testing.T, e *pawl.Engine)) {
	synctest.Test(t, func(t *testing.T) {
		store, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer closeNow(t, store)
		e := client(t, store, takes)
		stopEngine := background(t, e.Run)
		stopRunner := background(t, (&Runner{Engine: e}).Run)
		defer stopEngine()
		defer stopRunner()
		f(t, e)
	})
}

func closeNow(t *testing.T, s pawl.Store) {
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestDebounceStartsTheNewestWhenNothingMoreComes(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, e *pawl.Engine) {
		owns(t, e, controlled(&Control{Debounce: &Debounce{Period: time.Minute, Timeout: 2 * time.Minute, Key: "event.data.of"}}))
		first := publishes(t, e, "1", `{"of": "a", "n": 1}`)
		publishes(t, e, "2", `{"of": 7, "n": 2}`)
		time.Sleep(30 * time.Second)
		p := publishes(t, e, "3", `{"of": "a", "n": 3}`)
		if again := publishes(t, e, "3", `{"of": "a", "n": 3}`); !again.Repeated || p.Runs[0] != first.Runs[0] || again.Runs[0] != p.Runs[0] {
			t.Errorf("the run of all: %+v, %+v, %+v", first, p, again)
		}
		time.Sleep(59 * time.Second) // 01:29
		equalLines(t, "before", took(t, e), `completed 00:01:00 {"of":7,"n":2}`)
		for n := range 5 { // 01:29, 01:44 …: the timeout is at 02:00, and then another begins
			publishes(t, e, fmt.Sprint("more", n), fmt.Sprintf(`{"of": "a", "n": %d}`, 10+n))
			time.Sleep(15 * time.Second)
		}
		time.Sleep(time.Hour)
		equalLines(t, "after", took(t, e), `completed 00:01:00 {"of":7,"n":2}`, `completed 00:02:00 {"of":"a","n":12}`, `completed 00:03:29 {"of":"a","n":14}`)
		if bad := publishes(t, e, "bad", `{"n": 1}`); len(bad.Errors) != 1 || !strings.Contains(bad.Errors[0], `has no field "of"`) {
			t.Errorf("an event without the key: %+v", bad)
		}
	})
}

func TestABatchStartsWhenItIsFullOrOld(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, e *pawl.Engine) {
		owns(t, e, controlled(&Control{Batch: &Batch{MaxSize: 3, Timeout: time.Hour}}))
		for n := range 4 {
			publishes(t, e, fmt.Sprint(n), fmt.Sprint(n))
			time.Sleep(time.Minute)
		}
		time.Sleep(2 * time.Hour)
		large := `"` + strings.Repeat("x", 600<<10) + `"`
		publishes(t, e, "large", large)
		publishes(t, e, "larger", large) // both are more than a batch may have
		time.Sleep(time.Minute)
		runs := took(t, e)
		if len(runs) != 3 || len(runs[2]) < 600<<10 || len(runs[2]) > 700<<10 {
			t.Fatalf("%d runs", len(runs))
		}
		equalLines(t, "runs", runs[:2], `completed 00:02:00 {"events":[0,1,2]}`, `completed 01:03:00 {"events":[3]}`)
		time.Sleep(2 * time.Hour)
		if n := len(took(t, e)); n != 4 {
			t.Errorf("%d runs, want that of the second large one too", n)
		}
		for _, space := range []string{gateSpace, itemSpace, dueSpace} {
			if left, err := e.Records(t.Context(), space, "", "", 10); err != nil || len(left) > 0 {
				t.Errorf("%s holds %d records, %v", space, len(left), err)
			}
		}
	})
}

func TestRunsBeyondARateWait(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, e *pawl.Engine) {
		owns(t, e, controlled(&Control{RateLimit: &RateLimit{Limit: 2, Period: time.Hour, Key: "event.data.of"}}))
		for n := range 4 {
			publishes(t, e, fmt.Sprint(n), fmt.Sprintf(`{"of": %t}`, n == 3))
		}
		time.Sleep(2 * time.Hour)
		equalLines(t, "runs", took(t, e), `completed 00:00:00 {"of":false}`, `completed 00:00:00 {"of":false}`, `completed 01:00:00 {"of":false}`, `completed 00:00:00 {"of":true}`)
	})
}

func TestASingletonSkipsOrCancels(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, e *pawl.Engine) {
		owns(t, e, controlled(&Control{Singleton: &Singleton{Key: "event.data.of"}}))
		hold := func(id, of string) Published {
			p := publishes(t, e, id, fmt.Sprintf(`{"of":%q,"hold":true}`, of))
			time.Sleep(time.Second)
			return p
		}
		first := hold("1", "a")
		if skipped := hold("2", "a"); len(skipped.Errors) != 1 || !strings.Contains(skipped.Errors[0], "skipped, as run "+first.Runs[0]) {
			t.Errorf("%+v", skipped)
		}
		hold("3", "b")
		for _, id := range []string{"1", "3"} {
			if err := e.Signal(t.Context(), "flow:f:0@"+hashOf(id), "go", nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		equalLines(t, "skip", took(t, e), `completed 00:00:00 {"of":"a","hold":true}`, `completed 00:00:02 {"of":"b","hold":true}`)

		owns(t, e, controlled(&Control{Singleton: &Singleton{Key: "event.data.of", Cancel: true}}))
		hold("4", "a")
		hold("5", "a")
		if err := e.Signal(t.Context(), "flow:f:0@"+hashOf("5"), "go", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		equalLines(t, "cancel", took(t, e)[2:], `cancelled`, `completed 00:00:05 {"of":"a","hold":true}`)
		l := launch{trigger: "flow:f:0", workflow: "takes", run: "flow:f:0@" + hashOf("5"), input: json.RawMessage(`{"of":"a","hold":true}`), bounds: bounds{Single: "x", Cancel: true}}
		if info, err := l.start(t.Context(), e); err != nil || !info.Existed || info.ID != l.run {
			t.Errorf("the same start again is another run: %+v, %v", info, err)
		}
	})
}

// Many deliver at once, from two servers; each delivery is in one batch, and a webhook's repeat is in none.
func TestBatchesTakeEachDeliveryOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		a, b := client(t, open(), takes), client(t, open(), takes)
		background(t, a.Run)
		for _, e := range []*pawl.Engine{a, b} {
			background(t, (&Runner{Engine: e, Poll: 20 * time.Millisecond}).Run)
		}
		owns(t, a, Owned{Routes: []Route{{ID: "flow:f:0", Owner: "flow:f", Path: "/x", Workflow: "takes", Scheme: None, Dedupe: "/n", Control: &Control{Batch: &Batch{MaxSize: 7, Timeout: 300 * time.Millisecond}}}}})
		r, err := FindRoute(t.Context(), a, "/x")
		if err != nil {
			t.Fatal(err)
		}
		var runs sync.Map
		var all sync.WaitGroup
		const n = 60
		for i := range n {
			for _, e := range []*pawl.Engine{a, b} { // one of them is a repeat
				all.Go(func() {
					got, err := r.Accept(t.Context(), e, Arrival{Method: "POST", Body: fmt.Appendf(nil, `{"n": %d}`, i)})
					if err != nil || !got.Waits {
						t.Errorf("%+v, %v", got, err)
					}
					if first, there := runs.LoadOrStore(i, got.Run); there && first != got.Run {
						t.Errorf("delivery %d is told to be part of two runs", i)
					}
				})
			}
		}
		all.Wait()
		seen := map[int]int{}
		eventually(t, "all batches are started", func() bool {
			list, err := a.List(t.Context(), pawl.Filter{Workflow: "takes", States: []pawl.State{pawl.Completed}, Limit: 1000})
			if err != nil {
				t.Fatal(err)
			}
			clear(seen)
			for _, info := range list {
				for entry, err := range a.Journal(t.Context(), pawl.Ref{ID: info.ID}) {
					var in struct{ Events []struct{ N int } }
					if err != nil || json.Unmarshal(entry.Data, &in) != nil || len(in.Events) == 0 || len(in.Events) > 7 {
						t.Fatalf("input %s, %v", entry.Data, err)
					}
					for _, e := range in.Events {
						if seen[e.N]++; func() bool { run, _ := runs.Load(e.N); return run != info.ID }() {
							t.Errorf("delivery %d is in another run than was told", e.N)
						}
					}
					break
				}
			}
			return len(seen) == n
		})
		for i, times := range seen {
			if times != 1 {
				t.Errorf("delivery %d is in %d runs", i, times)
			}
		}
	})
}

// Whatever dies, and whenever, what was accepted is started once.
func TestGatheredDeliveriesSurviveCrashes(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), takes)
		background(t, e.Run)
		owns(t, e, Owned{Routes: []Route{{ID: "flow:f:0", Owner: "flow:f", Path: "/x", Workflow: "takes", Scheme: None, Dedupe: "/n", Control: &Control{Batch: &Batch{MaxSize: 2, Timeout: time.Hour, Key: "event.data.of"}}}}})
		r, err := FindRoute(t.Context(), e, "/x")
		if err != nil {
			t.Fatal(err)
		}
		quiet := slog.New(slog.DiscardHandler)
		dead := errors.New("the process is dead")
		want := 0
		for _, lose := range []bool{false, true} {
			for at := 1; ; at++ {
				var died atomic.Bool
				victim := client(t, storetest.Faulty(open(), func(method string, n int) storetest.Fault {
					if method != "Commit" || n < at {
						return storetest.Fault{}
					}
					died.Store(true)
					if n == at && lose {
						return storetest.Fault{Lose: true}
					}
					return storetest.Fault{Err: dead}
				}), takes)
				due := func() int {
					left, err := e.Records(t.Context(), dueSpace, "", "", 100)
					if err != nil {
						t.Fatal(err)
					}
					return len(left)
				}
				send := func(e *pawl.Engine) {
					for n := range 2 {
						_, _ = r.Accept(t.Context(), e, Arrival{Method: "POST", Body: fmt.Appendf(nil, `{"n": "%d %t %d", "of": "%d %t"}`, at, lose, n, at, lose)})
					}
				}
				send(victim)
				stop := background(t, func(ctx context.Context) error {
					_ = (&Runner{Engine: victim, Poll: 10 * time.Millisecond, Logger: quiet}).Run(ctx)
					return nil
				})
				eventually(t, "it has died, or is done", func() bool { return died.Load() || due() == 0 })
				stop()
				send(e) // the sender tries again
				want++
				stop = background(t, (&Runner{Engine: e, Poll: 10 * time.Millisecond}).Run)
				eventually(t, "all is started", func() bool { return due() == 0 })
				stop()
				runs := took(t, e)
				if last := runs[len(runs)-1]; len(runs) != want || !strings.Contains(last, fmt.Sprintf(`"%d %t 0"`, at, lose)) || !strings.Contains(last, fmt.Sprintf(`"%d %t 1"`, at, lose)) {
					t.Fatalf("commit %d, lost %t: %d runs, want %d; the last has %s", at, lose, len(runs), want, last)
				}
				if !died.Load() {
					if at < 5 {
						t.Errorf("there were %d commits, which can't be all", at-1)
					}
					break
				}
			}
		}
	})
}

// What a trial finds at a place is what a request has there: nothing at that of a credential.
func TestATrialSeesNoCredentials(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), quick)
		r := Route{ID: "flow:r:0", Owner: "flow:r", Path: "/r", Workflow: "quick", Scheme: None, Input: Places{"by": "/headers/authorization"}}
		var nothing *PlaceError
		if got, err := r.Try(t.Context(), Sample{Data: []byte(`{}`), Headers: map[string]string{"authorization": "Bearer x"}}); !errors.As(err, &nothing) {
			t.Errorf("%s, %v", got.Input, err)
		}
		for _, name := range []string{"Authorization", "Proxy-Authorization", "Cookie"} {
			r.Input = Places{"by": "/headers/" + strings.ToLower(name)}
			if got, err := r.Accept(t.Context(), e, Arrival{Method: "POST", Header: http.Header{name: {"x"}}, Body: []byte(`{}`)}); !errors.As(err, &nothing) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	})
}
