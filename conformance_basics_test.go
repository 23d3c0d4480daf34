package pawl_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// addTen adds 2, 3 and 5 in three steps.
func addTen(name string) *pawl.Workflow[int, int] {
	return pawl.Define(name, func(c *pawl.Context, n int) (int, error) {
		for _, more := range []int{2, 3, 5} {
			var err error
			n, err = pawl.Step(c, "add", func(context.Context) (int, error) { return n + more, nil })
			if err != nil {
				return 0, err
			}
		}
		return n, nil
	})
}

func TestB1_001_addTen(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		one, other := addTen("addTen"), pawl.Define("other", func(c *pawl.Context, n int) (int, error) {
			return pawl.Step(c, "add", func(context.Context) (int, error) { return n - 1, nil })
		})
		n := boot(t, open(), nil, one, other)
		r, o := start(n, one, 123), start(n, other, 123)
		equal(t, "result", result(n, r), 133)
		equal(t, "result of a workflow with a step of the same name", result(n, o), 122)

		info := n.info(r.ID())
		equal(t, "state", info.State, pawl.Completed)
		equal(t, "workflow", info.Workflow, "addTen")
		all := n.journal(r.ID())
		equal(t, "entries", len(all), 5)
		equal(t, "input", string(all[0].Data), "123")
		equal(t, "output", string(all[4].Data), "133")
		equal(t, "steps", n.keys(r.ID(), pawl.KindStep), []string{"add", "add#2", "add#3"})
	})
}

func TestB1_003_promiseAll(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		// Each branch waits for the one that was started after it, so that they end in reverse.
		ended := []chan none{make(chan none), make(chan none), make(chan none), make(chan none)}
		close(ended[3])
		w := pawl.Define("all", func(c *pawl.Context, _ none) (string, error) {
			var fs []*pawl.Future[string]
			for i, s := range []string{"a", "b", "c"} {
				fs = append(fs, pawl.Go(c, s, func(c *pawl.Context) (string, error) {
					up, err := pawl.Step(c, "upper", func(ctx context.Context) (string, error) {
						select {
						case <-ended[i+1]:
							return strings.ToUpper(s), nil
						case <-ctx.Done():
							return "", context.Cause(ctx)
						}
					})
					if err != nil {
						return "", err
					}
					return up, pawl.Do(c, "end", func(context.Context) error { close(ended[i]); return nil })
				}))
			}
			out, err := pawl.All(c, fs...)
			return strings.Join(out, ""), err
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "result", result(n, r), "ABC")
		ups := slices.DeleteFunc(n.keys(r.ID(), pawl.KindStep), func(key string) bool { return strings.HasSuffix(key, "end") })
		equal(t, "order in which they ended", ups, []string{"c/upper", "b/upper", "a/upper"})
	})
}

func sleeper(d time.Duration) *pawl.Workflow[none, time.Duration] {
	return pawl.Define("sleeper", func(c *pawl.Context, _ none) (time.Duration, error) {
		began := c.Now()
		if err := c.Sleep(d); err != nil {
			return 0, err
		}
		return c.Now().Sub(began), nil
	})
}

func TestB1_010_sleeping(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := sleeper(300 * time.Millisecond)
		n := boot(t, open(), nil, w)
		began := time.Now()
		if slept := complete(n, w, none{}); slept < 300*time.Millisecond {
			t.Errorf("by the workflow's clock it slept %v", slept)
		}
		if took := time.Since(began); took < 300*time.Millisecond {
			t.Errorf("it slept %v", took)
		}
	})
}

// The same with the ten hours that nobody waits for.
func TestB1_010_sleepingLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		w := sleeper(10 * time.Hour)
		e := pawl.New(s, &pawl.Options{Poll: time.Minute, Lease: 10 * time.Minute})
		if err := e.Register(w); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- e.Run(ctx) }()
		began := time.Now()
		r, err := w.Start(ctx, e, none{})
		if err != nil {
			t.Fatal(err)
		}
		slept, err := r.Result(ctx)
		if err != nil || slept < 10*time.Hour {
			t.Errorf("slept %v, error %v", slept, err)
		}
		if took := time.Since(began); took < 10*time.Hour || took > 10*time.Hour+time.Minute {
			t.Errorf("it took %v", took)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestB1_011_parallelSleep(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		const d = 500 * time.Millisecond
		w := pawl.Define("parallel", func(c *pawl.Context, _ none) (time.Duration, error) {
			began := c.Now()
			_, err := pawl.Map(c, "nap", make([]int, 10), func(c *pawl.Context, _ int) (none, error) { return none{}, c.Sleep(d) })
			return c.Now().Sub(began), err
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		result(n, r)
		sleeps := n.journal(r.ID(), pawl.KindSleep)
		equal(t, "sleeps", len(sleeps), 10)
		first := n.journal(r.ID(), pawl.KindInput)[0].At
		end := n.journal(r.ID(), pawl.KindResult)[0].At
		if took := end.Sub(first); took < d || took >= 10*d {
			t.Errorf("ten sleeps of %v at the same time took %v", d, took)
		}
	})
}

func TestB1_017_fetch(t *testing.T) {
	type todo struct {
		UserID    int    `json:"userId"`
		ID        int    `json:"id"`
		Title     string `json:"title"`
		Completed bool   `json:"completed"`
	}
	want := todo{1, 1, "delectus aut autem", false}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var asked atomic.Int64
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if err := json.NewEncoder(w).Encode(want); err != nil {
				t.Error(err)
			}
		}))
		defer srv.Close()
		w := pawl.Define("fetch", func(c *pawl.Context, url string) (todo, error) {
			v, err := pawl.Step(c, "get", func(ctx context.Context) (v todo, err error) {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
				if err != nil {
					return v, err
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					return v, err
				}
				defer resp.Body.Close()
				return v, json.NewDecoder(resp.Body).Decode(&v)
			})
			if err != nil {
				return v, err
			}
			return v, c.Sleep(50 * time.Millisecond) // and a replay
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, srv.URL)
		equal(t, "result", result(n, r), want)
		equal(t, "requests", asked.Load(), 1)
		equal(t, "claims", n.info(r.ID()).Epoch, 2)
	})
}

func addStep(a, b int) func(context.Context) (int, error) {
	return func(context.Context) (int, error) { return a + b, nil }
}

func TestB1_018_stepDirectCall(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		direct, err := addStep(3, 5)(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w := pawl.Define("direct", func(c *pawl.Context, _ none) (int, error) { return pawl.Step(c, "add", addStep(3, 5)) })
		n := boot(t, open(), nil, w)
		equal(t, "as a step", complete(n, w, none{}), direct)
		equal(t, "called", direct, 8)
	})
}

type metadata struct {
	Label, RunID, Workflow, Step, StepID string
	Attempt                              int
	First                                time.Time
}

// describe is a helper that gets nothing but a step's context.
func describe(ctx context.Context, label string) metadata {
	i := pawl.InfoOf(ctx)
	return metadata{label, i.RunID, i.Workflow, i.Step, i.StepID, i.Attempt, i.FirstStarted}
}

func TestB1_020_metadataFromHelper(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("metadata", func(c *pawl.Context, label string) (metadata, error) {
			return pawl.Step(c, "describe", func(ctx context.Context) (metadata, error) {
				inner, cancel := context.WithCancel(ctx)
				defer cancel()
				return describe(inner, label), nil
			})
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, "smoke-test")
		got := result(n, r)
		if got.First.IsZero() {
			t.Error("the first attempt's start is not told")
		}
		got.First = time.Time{}
		equal(t, "metadata", got, metadata{"smoke-test", r.ID(), "metadata", "describe", r.ID() + "/describe", 1, time.Time{}})
		equal(t, "outside a step", pawl.InfoOf(t.Context()), pawl.Info{})
	})
}

func TestB1_021_resilientStart(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := addTen("addTen")
		var refused atomic.Int64
		s := &cut{Store: open(), before: func(b *pawl.Batch) error {
			if len(b.Starts) > 0 && refused.CompareAndSwap(0, 1) {
				return errors.New("500 Internal Server Error")
			}
			return nil
		}}
		n := boot(t, s, nil, w)
		n.until("the worker to join", func() bool { st, err := n.Stats(n.ctx); return err == nil && st.Workers == 1 })
		r := start(n, w, 123)
		equal(t, "result", result(n, r), 133)
		equal(t, "refusals", refused.Load(), 1)
		all, err := n.List(n.ctx, pawl.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "runs", len(all), 1)
	})
}

// A start says what was stored: the run with its attributes, or the run that was there.
func TestB1_021_startTellsWhatItMet(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("once", func(c *pawl.Context, _ none) (none, error) { return none{}, c.Sleep(time.Hour) }, pawl.Singleton(pawl.KeyOf(func(none) string { return "one" })))
		n := client(t, open(), nil, w)
		tell := func(opts ...pawl.StartOption) string {
			info, err := n.StartRun(n.ctx, "once", nil, opts...)
			return fmt.Sprint(info.ID, " ", info.Existed, " ", info.Attrs, " ", err)
		}
		attrs := pawl.Attributes(map[string]any{"a": 1, "b": "x"})
		equal(t, "a new run", tell(pawl.ID("first"), attrs), "first false map[a:1 b:x] <nil>")
		equal(t, "its id again", tell(pawl.ID("first")), "first true map[a:1 b:x] <nil>")
		equal(t, "its singleton key", tell(pawl.ID("second"), pawl.Attributes(map[string]any{"a": 2})), "first true map[a:1 b:x] <nil>")
		equal(t, "a handle", start(n, w, none{}, pawl.ID("third")).Existed(), true)
	})
}

// A client without a worker has no lease to wait by: it is told at once, and nothing was stored.
func TestB1_021_startErrorIsTold(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := addTen("addTen")
		broken := errors.New("500 Internal Server Error")
		n := client(t, &cut{Store: open(), before: func(*pawl.Batch) error { return broken }}, nil, w)
		_, err := w.Start(n.ctx, n.Engine, 123)
		is(t, err, broken)
		all, err := n.List(n.ctx, pawl.Filter{})
		equal(t, "runs stored", fmt.Sprint(len(all), err), "0 <nil>")
	})
}
