package pawl_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

type attrs = map[string]any

func TestB1_134_attributesAtStart(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("attributes", func(c *pawl.Context, _ none) (none, error) {
			return none{}, c.SetAttributes(attrs{"phase": "done"})
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{}, pawl.Attributes(attrs{"sourceAtStart": "api"}))
		result(n, r)
		equal(t, "attributes", n.info(r.ID()).Attrs, map[string]string{"sourceAtStart": "api", "phase": "done"})
		for _, c := range []struct {
			want  map[string]string
			found int
		}{{map[string]string{"sourceAtStart": "api", "phase": "done"}, 1}, {map[string]string{"phase": "other"}, 0}} {
			runs, err := n.List(n.ctx, pawl.Filter{Attrs: c.want})
			equal(t, fmt.Sprint("found by ", c.want), fmt.Sprint(len(runs), err), fmt.Sprint(c.found, nil))
		}
	})
}

func TestB1_135_reservedAttributes(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("reserved", func(c *pawl.Context, _ none) (string, error) {
			err := c.SetAttributes(attrs{"$seeded": "x"})
			return fmt.Sprint(errors.Is(err, pawl.ErrInput)), nil
		})
		n := boot(t, open(), nil, w)
		_, err := w.Start(n.ctx, n.Engine, none{}, pawl.Attributes(attrs{"$seeded": "x"}))
		is(t, err, pawl.ErrInput)
		runs, err := n.List(n.ctx, pawl.Filter{})
		equal(t, "runs of the refused start", fmt.Sprint(len(runs), err), "0 <nil>")
		r := start(n, w, none{})
		equal(t, "refused in the workflow", result(n, r), "true")
		equal(t, "attributes", len(n.info(r.ID()).Attrs), 0)
		equal(t, "entries", len(n.journal(r.ID(), pawl.KindAttributes)), 0)
	})
}

func TestB1_136_setAttributes(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("attributes", func(c *pawl.Context, v int) (int, error) {
			for _, m := range []attrs{{"phase": "begun", "input": v}, {"phase": "done"}, {"input": nil}} {
				if err := c.SetAttributes(m); err != nil {
					return 0, err
				}
				if err := c.Sleep(20 * time.Millisecond); err != nil { // and a replay
					return 0, err
				}
			}
			return 3 * v, nil
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, 7)
		equal(t, "result", result(n, r), 21)
		equal(t, "attributes", n.info(r.ID()).Attrs, map[string]string{"phase": "done"})
		sets := n.journal(r.ID(), pawl.KindAttributes)
		equal(t, "sets", len(sets), 3)
		for i, want := range []string{`{"input":7,"phase":"begun"}`, `{"phase":"done"}`, `{"input":null}`} {
			equal(t, fmt.Sprint("set ", i+1), string(sets[i].Data), want)
		}
		noTrouble(n, []string{r.ID()})
	})
}

// A step's body sets attributes with SetAttributes and its own context, and they are seen while
// it is under way. The *Context refuses when a body reaches for it. A replay sets nothing twice.
func TestB1_137_attributesFromAStep(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := pawl.Define("inside", func(c *pawl.Context, v int) (int, error) {
			if err := c.SetAttributes(attrs{"phase": "begun", "source": "workflow"}); err != nil {
				return 0, err
			}
			got, err := pawl.Step(c, "step", func(ctx context.Context) (int, error) {
				if err := misused(c.SetAttributes(attrs{"phase": "refused"}), "SetAttributes", "a step's body"); err != nil {
					return 0, pawl.Fatal(err)
				}
				if err := pawl.SetAttributes(ctx, attrs{"phase": "step-done", "source": "step-body", "input": v}); err != nil {
					return 0, err
				}
				return 4 * v, g.pass(ctx)
			})
			if err != nil {
				return 0, err
			}
			return got, c.Sleep(20 * time.Millisecond) // and a replay
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, 9)
		g.wait(t)
		want := map[string]string{"phase": "step-done", "source": "step-body", "input": "9"}
		equal(t, "attributes while the step is under way", n.info(r.ID()).Attrs, want)
		equal(t, "ended steps", len(n.journal(r.ID(), pawl.KindStep)), 0)
		runs, err := n.List(n.ctx, pawl.Filter{Attrs: want})
		equal(t, "found by them", fmt.Sprint(len(runs), err), "1 <nil>")
		g.open()
		equal(t, "result", result(n, r), 36)
		equal(t, "attributes", n.info(r.ID()).Attrs, want)
		equal(t, "sets", len(n.journal(r.ID(), pawl.KindAttributes)), 2)
		noTrouble(n, []string{r.ID()})
	})
}

func TestB1_139_setAttributesParallel(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g, came := newGate(), atomic.Int64{}
		w := pawl.Define("parallel", func(c *pawl.Context, _ none) (none, error) {
			_, err := pawl.Map(c, "set", []string{"a", "b", "c"}, func(c *pawl.Context, name string) (none, error) {
				if err := pawl.Do(c, "together", func(ctx context.Context) error { // none sets before all are there
					if came.Add(1) == 3 {
						g.open()
					}
					return g.pass(ctx)
				}); err != nil {
					return none{}, err
				}
				return none{}, c.SetAttributes(attrs{name: int(name[0]-'a') + 1})
			})
			return none{}, err
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		result(n, r)
		equal(t, "attributes", n.info(r.ID()).Attrs, map[string]string{"a": "1", "b": "2", "c": "3"})
		equal(t, "sets", len(n.journal(r.ID(), pawl.KindAttributes)), 3)
	})
}

func TestB1_140_attributesOfAFailedRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("throws", func(c *pawl.Context, _ none) (none, error) {
			if err := c.SetAttributes(attrs{"phase": "before"}); err != nil {
				return none{}, err
			}
			return none{}, errors.New("after")
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "state", failure(n, r).State, pawl.Failed)
		equal(t, "attributes", n.info(r.ID()).Attrs, map[string]string{"phase": "before"})
	})
}

func TestB1_142_invalidAttributesAtStart(t *testing.T) {
	many := attrs{}
	for i := range 65 {
		many[fmt.Sprint("a", i)] = "v"
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := addTen("addTen")
		n := boot(t, open(), nil, w)
		for what, c := range map[string]struct {
			m    attrs
			want error
		}{
			"empty name":      {attrs{"": "v"}, pawl.ErrInput},
			"long name":       {attrs{strings.Repeat("n", 257): "v"}, pawl.ErrTooLarge},
			"long value":      {attrs{"a": strings.Repeat("v", 257)}, pawl.ErrTooLarge},
			"no JSON":         {attrs{"a": make(chan int)}, pawl.ErrEncoding},
			"too many":        {many, pawl.ErrTooLarge},
			"at the limit +1": {attrs{"ok": "ok", "a": strings.Repeat("ä", 129)}, pawl.ErrTooLarge},
		} {
			_, err := w.Start(n.ctx, n.Engine, 1, pawl.Attributes(c.m))
			if !errors.Is(err, c.want) {
				t.Errorf("%s: got %v, want %v", what, err, c.want)
			}
		}
		runs, err := n.List(n.ctx, pawl.Filter{})
		equal(t, "runs", fmt.Sprint(len(runs), err), "0 <nil>")
	})
}

func TestB1_143_retention(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("retained", func(c *pawl.Context, n int) (int, error) {
			return n, errors.Join(c.SetAttributes(attrs{"a": 1}), c.Stream("s").Write(n))
		}, pawl.Retention(time.Hour, pawl.Completed))
		kept := pawl.Define("kept", func(c *pawl.Context, n int) (int, error) { return n, errors.New("kept") },
			pawl.Retention(time.Hour, pawl.Completed))
		store := open()
		n := boot(t, store, nil, w, kept)
		r, k := start(n, w, 1, pawl.ID("one")), start(n, kept, 1)
		equal(t, "result", result(n, r), 1)
		equal(t, "state", failure(n, k).State, pawl.Failed)
		info := n.info(r.ID())
		purged, err := store.Purge(n.ctx, info.Ended.Add(time.Hour-time.Microsecond), 100)
		equal(t, "purged before its time", fmt.Sprint(purged, err), "0 <nil>")
		equal(t, "result before its time", result(n, r), 1)
		purged, err = store.Purge(n.ctx, info.Ended.Add(time.Hour), 100)
		equal(t, "purged", fmt.Sprint(purged, err), "1 <nil>")

		_, err = r.Result(n.ctx)
		is(t, err, pawl.ErrNotFound)
		_, err = n.Get(n.ctx, pawl.Ref{ID: r.ID()})
		is(t, err, pawl.ErrNotFound)
		err = nil
		for _, err = range n.Journal(n.ctx, pawl.Ref{ID: r.ID()}) {
			break
		}
		is(t, err, pawl.ErrNotFound)
		entries, err := store.Journal(n.ctx, info.Key, -1, 100)
		equal(t, "entries left", fmt.Sprint(len(entries), err), "0 <nil>")
		chunks, err := store.Chunks(n.ctx, info.Key, "s", 0, 100)
		equal(t, "chunks left", fmt.Sprint(len(chunks), err), "0 <nil>")
		runs, err := n.List(n.ctx, pawl.Filter{Attrs: map[string]string{"a": "1"}})
		equal(t, "runs found by its attributes", fmt.Sprint(len(runs), err), "0 <nil>")
		equal(t, "a run that ended otherwise", n.info(k.ID()).State, pawl.Failed)
		equal(t, "its id is free", complete(n, w, 2, pawl.ID("one")), 2)
	})
}
