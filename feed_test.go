package pawl_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/storetest"
)

func openSQLite(t *testing.T) pawl.Store { return sqliteStores(t).open() }

// tidings reads items of a feed until one makes done true.
func tidings(t *testing.T, r *pawl.FeedReader, done func(pawl.FeedItem) bool) (all []pawl.FeedItem) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		items, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("the feed: %v; so far it told %v", err, itemLines(all))
		}
		for _, it := range items {
			if all = append(all, it); done(it) {
				return all
			}
		}
	}
}

func itemLines(items []pawl.FeedItem) (out []string) {
	for _, it := range items {
		if it.Type == pawl.FeedStep {
			out = append(out, fmt.Sprint(it.Run, " ", it.Kind, " ", it.Key))
		} else {
			out = append(out, fmt.Sprint(it.Run, " ", it.Type, " ", it.State))
		}
	}
	return out
}

func openFeed(t *testing.T, e *pawl.Engine, f pawl.FeedFilter, after string) *pawl.FeedReader {
	t.Helper()
	r, err := e.OpenFeed(t.Context(), f, after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func ended(id string) func(pawl.FeedItem) bool {
	return func(it pawl.FeedItem) bool { return it.Run == id && it.State.Terminal() && it.Type == pawl.FeedRun }
}

func feedWork() *pawl.Workflow[none, string] {
	return pawl.Define("work", func(c *pawl.Context, _ none) (string, error) {
		for _, name := range []string{"one", "two"} {
			if err := pawl.Do(c, name, func(context.Context) error { return nil }); err != nil {
				return "", err
			}
		}
		if _, err := pawl.WaitFor[none](c, "go"); err != nil {
			return "", err
		}
		return "done", pawl.Do(c, "three", func(context.Context) error { return nil })
	})
}

// What one engine does, another one on the same store tells of: each entry once and in
// order, and the states, also those that leave no entry.
func TestTheFeedTellsWhatAnotherEngineDoes(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := feedWork()
		n := boot(t, open(), nil, w)
		other := pawl.New(open(), nil)
		for _, e := range []*pawl.Engine{n.Engine, other} {
			r := openFeed(t, e, pawl.FeedFilter{}, "")
			run := start(n, w, none{})
			waits := tidings(t, r, func(it pawl.FeedItem) bool {
				return it.Run == run.ID() && it.State == pawl.Waiting && it.Type == pawl.FeedRun
			})
			n.signal(run.ID(), "go", none{})
			all := append(waits, tidings(t, r, ended(run.ID()))...)
			var entries []string
			for i, it := range all {
				if it.Run != run.ID() {
					t.Errorf("item %d is of run %s", i, it.Run)
				}
				if it.Type == pawl.FeedStep {
					entries = append(entries, fmt.Sprint(it.Seq, it.Key))
					equal(t, "workflow", it.Workflow, "work")
				}
				if it.Kind == pawl.KindStep && (it.Attempt != 1 || it.At.IsZero()) {
					t.Errorf("a step is told as %+v", it)
				}
			}
			var want []string
			for e, err := range n.Journal(n.ctx, pawl.Ref{ID: run.ID()}) {
				n.ok(err)
				want = append(want, fmt.Sprint(e.Seq, e.Key))
			}
			equal(t, "entries", entries, want)
		}
	})
}

func TestTheFeedHasFilters(t *testing.T) {
	w, x := feedWork(), pawl.Define("other", func(c *pawl.Context, _ none) (none, error) {
		return none{}, pawl.Do(c, "s", func(context.Context) error { return nil })
	})
	n := boot(t, openSQLite(t), nil, w, x)
	readers := map[string]*pawl.FeedReader{}
	for name, f := range map[string]pawl.FeedFilter{
		"all": {AllTenants: true}, "tenant": {Tenant: "acme"}, "workflow": {AllTenants: true, Workflow: "work"}, "run": {Run: "b"},
		"states": {States: []pawl.State{pawl.Waiting}, Types: []pawl.FeedType{pawl.FeedRun}}, "attrs": {AllTenants: true, Attrs: map[string]string{"color": "red"}},
		"kinds": {Types: []pawl.FeedType{pawl.FeedStep}, Kinds: []pawl.Kind{pawl.KindResult}},
	} {
		readers[name] = openFeed(t, n.Engine, f, "")
	}
	start(n, w, none{}, pawl.ID("a"))
	n.reaches("a", pawl.Waiting)
	start(n, x, none{}, pawl.ID("b"))
	n.reaches("b", pawl.Completed)
	start(n, x, none{}, pawl.ID("c"), pawl.Tenant("acme"), pawl.Attributes(map[string]any{"color": "red"}))
	tidings(t, readers["all"], ended("c"))
	start(n, x, none{}, pawl.ID("z")) // the last one that some of the filters take
	n.reaches("z", pawl.Completed)
	n.signal("a", "go", none{})
	for name, want := range map[string]string{"tenant": "c", "workflow": "a", "run": "b", "states": "a", "attrs": "c", "kinds": "abz"} {
		seen := ""
		last := want[len(want)-1:]
		for _, it := range tidings(t, readers[name], func(it pawl.FeedItem) bool {
			return it.Run == last && (it.State.Terminal() || name == "states")
		}) {
			if !strings.Contains(want, it.Run) {
				t.Errorf("%s: an item of run %s", name, it.Run)
			}
			seen += it.Run
		}
		if name == "kinds" && seen != "bz" && seen != "baz" && seen != "bza" {
			t.Errorf("results that were told: %q", seen)
		}
	}
}

func TestTheFeedGoesOnWhereAReaderWas(t *testing.T) {
	w := feedWork()
	n := boot(t, openSQLite(t), nil, w)
	r := openFeed(t, n.Engine, pawl.FeedFilter{}, "")
	run := start(n, w, none{})
	whole := tidings(t, r, func(it pawl.FeedItem) bool { return it.State == pawl.Waiting && it.Type == pawl.FeedRun })
	r.Close()
	again := openFeed(t, n.Engine, pawl.FeedFilter{}, whole[0].ID) // none is open, but the feed still is
	n.signal(run.ID(), "go", none{})
	rest := tidings(t, again, ended(run.ID()))
	equal(t, "what comes next", rest[0].ID, whole[1].ID)
	equal(t, "and so on", itemLines(rest[:len(whole)-1]), itemLines(whole[1:]))

	for _, strange := range []string{"another-3", whole[0].ID + "000"} {
		r := openFeed(t, n.Engine, pawl.FeedFilter{}, strange)
		items, err := r.Next(t.Context())
		n.ok(err)
		equal(t, "after "+strange, items[0].Type, pawl.FeedGap)
		if len(items) > 1 {
			t.Errorf("behind the gap come %v", itemLines(items[1:]))
		}
		if _, err := n.OpenFeed(t.Context(), pawl.FeedFilter{}, items[0].ID); err != nil {
			t.Errorf("to go on after a gap: %v", err)
		}
	}
	if _, err := n.OpenFeed(t.Context(), pawl.FeedFilter{}, "nonsense"); !errors.Is(err, pawl.ErrInput) {
		t.Errorf("after nonsense: %v", err)
	}
}

// A reader that can't keep up is told so once, and holds up nobody.
func TestAFeedReaderThatSleepsIsToldOfAGap(t *testing.T) {
	w := pawl.Define("many", func(c *pawl.Context, _ none) (none, error) {
		_, err := pawl.Map(c, "m", make([]none, 17_000), func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "s", func(context.Context) error { return nil })
		})
		return none{}, err
	})
	w2 := feedWork()
	n := boot(t, openSQLite(t), nil, w, w2)
	sleeper, awake := openFeed(t, n.Engine, pawl.FeedFilter{}, ""), openFeed(t, n.Engine, pawl.FeedFilter{Types: []pawl.FeedType{pawl.FeedRun}}, "")
	run := start(n, w, none{})
	tidings(t, awake, ended(run.ID()))
	items, err := sleeper.Next(t.Context())
	n.ok(err)
	equal(t, "the first item", items[0].Type, pawl.FeedGap)
	after := start(n, w2, none{})
	rest := tidings(t, sleeper, func(it pawl.FeedItem) bool { return it.Run == after.ID() })
	for _, it := range rest {
		if it.Type == pawl.FeedGap {
			t.Error("the gap is told twice")
		}
	}
}

// A thousand readers of a run's stream, journal and of the feed cost the store what one does.
func TestReadersShareWhatIsReadOfTheStore(t *testing.T) {
	calls := func(readers int) map[string]int64 {
		var chunks, journal, lookup, news atomic.Int64
		counts := map[string]*atomic.Int64{"Chunks": &chunks, "Journal": &journal, "Lookup": &lookup, "News": &news}
		store := storetest.Faulty(openSQLite(t), func(method string, _ int) storetest.Fault {
			if c := counts[method]; c != nil {
				c.Add(1)
			}
			return storetest.Fault{}
		})
		const size = 100
		w := pawl.Define("talks", func(c *pawl.Context, _ none) (none, error) {
			if _, err := pawl.WaitFor[none](c, "go"); err != nil {
				return none{}, err
			}
			for range size {
				err := pawl.Do(c, "say", func(ctx context.Context) error { return pawl.StreamOf(ctx, "s").Write("word") })
				if err != nil {
					return none{}, err
				}
			}
			return none{}, nil
		})
		n := boot(t, store, nil, w)
		run := start(n, w, none{})
		n.reaches(run.ID(), pawl.Waiting)
		var all sync.WaitGroup
		for range readers {
			s, err := n.OpenStream(n.ctx, pawl.Ref{ID: run.ID()}, "s", 0)
			n.ok(err)
			j, err := n.OpenJournal(n.ctx, pawl.Ref{ID: run.ID()}, -1)
			n.ok(err)
			f := openFeed(t, n.Engine, pawl.FeedFilter{}, "")
			all.Go(func() {
				defer s.Close()
				next := int64(0)
				for chunks, err := s.Next(n.ctx); err == nil; chunks, err = s.Next(n.ctx) {
					for _, c := range chunks {
						if c.Index != next {
							t.Errorf("chunk %d comes where %d should", c.Index, next)
						}
						next++
					}
				}
				if next != size {
					t.Errorf("a reader saw %d chunks, want %d", next, size)
				}
			})
			all.Go(func() {
				defer j.Close()
				next := int64(0)
				for entries, err := j.Next(n.ctx); err == nil; entries, err = j.Next(n.ctx) {
					for _, e := range entries {
						if e.Seq != next {
							t.Errorf("entry %d comes where %d should", e.Seq, next)
						}
						next++
					}
				}
				if next < size {
					t.Errorf("a reader saw %d entries", next)
				}
			})
			all.Go(func() { tidings(t, f, ended(run.ID())) })
		}
		for _, c := range counts {
			c.Store(0)
		}
		n.signal(run.ID(), "go", none{})
		all.Wait()
		out := map[string]int64{}
		for name, c := range counts {
			out[name] = c.Load()
		}
		return out
	}
	one, many := calls(1), calls(300)
	for name, n := range many {
		if most := 2*one[name] + 50; n > most {
			t.Errorf("300 readers cost %d calls of %s, one costs %d", n, name, one[name])
		}
	}
	t.Logf("one reader: %v; 300: %v", one, many)
}

// Who reads slowly, or comes late, gets all of it from the store.
func TestALateReaderOfAStreamMissesNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		const size = 3000
		w := pawl.Define("long", func(c *pawl.Context, _ none) (none, error) {
			err := pawl.Do(c, "write", func(ctx context.Context) error {
				for i := range size {
					if err := pawl.StreamOf(ctx, "s").Write(i); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return none{}, err
			}
			_, err = pawl.WaitFor[none](c, "go")
			return none{}, err
		})
		n := boot(t, open(), nil, w)
		run := start(n, w, none{})
		ref := pawl.Ref{ID: run.ID()}
		early, err := n.OpenStream(n.ctx, ref, "s", 0)
		n.ok(err)
		defer early.Close()
		n.reaches(run.ID(), pawl.Waiting)
		late, err := n.OpenStream(n.ctx, ref, "s", -10)
		n.ok(err)
		defer late.Close()
		equal(t, "the start of -10", late.Start(), int64(size-10))
		equal(t, "the tail", late.Tail(), int64(size-1))
		end, err := n.OpenStream(n.ctx, ref, "s", pawl.FromEnd)
		n.ok(err)
		defer end.Close()
		equal(t, "the start at the end", end.Start(), int64(size))
		n.signal(run.ID(), "go", none{})
		for _, r := range []*pawl.Reader[pawl.Chunk]{early, late, end} {
			next := r.Start()
			chunks, err := r.Next(n.ctx)
			for ; err == nil; chunks, err = r.Next(n.ctx) {
				for _, c := range chunks {
					equal(t, "index", c.Index, next)
					equal(t, "data", string(c.Data), fmt.Sprint(next))
					next++
				}
			}
			equal(t, "how it ended", err.Error(), "EOF")
			equal(t, "chunks from "+fmt.Sprint(r.Start()), next, int64(size))
		}
		page, err := n.Chunks(n.ctx, ref, "s", -2, 1)
		n.ok(err)
		equal(t, "a page", fmt.Sprint(page.Items[0].Index, page.Next, page.More, page.Done), fmt.Sprint(size-2, size-1, true, false))
	})
}

// A run that is taken up again after its end is followed by who comes then, though others
// still read what was before.
func TestAReaderThatComesAfterARetryIsNotSentAway(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	w := pawl.Define("flaky", func(c *pawl.Context, _ none) (string, error) {
		return pawl.Step(c, "s", func(context.Context) (string, error) {
			if broken.Load() {
				return "", pawl.Fatal(errors.New("out of order"))
			}
			return "fine", nil
		})
	})
	n := boot(t, openSQLite(t), nil, w)
	run := start(n, w, none{})
	n.reaches(run.ID(), pawl.Failed)
	old, err := n.OpenJournal(n.ctx, pawl.Ref{ID: run.ID()}, -1) // holds the source
	n.ok(err)
	defer old.Close()
	if _, err := old.Next(n.ctx); err != nil {
		t.Fatal(err)
	}
	broken.Store(false)
	_, err = n.Retry(n.ctx, pawl.Ref{ID: run.ID()})
	n.ok(err)
	var last pawl.Entry
	for e, err := range n.Follow(n.ctx, pawl.Ref{ID: run.ID()}, -1) {
		n.ok(err)
		last = e
	}
	equal(t, "the last entry", fmt.Sprint(last.Kind, last.Failed), "result false")
}
