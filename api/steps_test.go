package api_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// allSteps reads the steps of a run by pages.
func (h *house) allSteps(id string, limit int) (all []api.Step, pages int) {
	h.t.Helper()
	for cursor := ""; ; {
		page, err := h.client.Steps(h.t.Context(), id, cursor, limit)
		if err != nil {
			h.t.Fatal(err)
		}
		all, pages = append(all, page.Items...), pages+1
		if cursor = page.NextCursor; cursor == "" {
			return all, pages
		}
	}
}

// Whatever the pages, each step is listed once, with all its attempts: where they lie far apart, where
// a step has failed, and where the run was retried.
func TestPagesOfStepsHaveEachStepOnce(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	mixed := pawl.Define("mixed", func(c *pawl.Context, _ any) (any, error) {
		tried := 0
		slow := pawl.Go(c, "slow", func(c *pawl.Context) (any, error) {
			return pawl.Step(c, "late", func(context.Context) (any, error) {
				if tried++; tried == 1 {
					return nil, pawl.RetryAfter(errors.New("not yet"), 300*time.Millisecond)
				}
				return nil, nil
			})
		})
		for i := range 4 {
			_ = pawl.Do(c, fmt.Sprint("a", i), func(context.Context) error { return nil })
			_ = pawl.Do(c, fmt.Sprint("bad", i), func(context.Context) error { return pawl.Fatal(errors.New("no")) })
		}
		if _, err := slow.Wait(c); err != nil {
			return nil, err
		}
		if err := pawl.Do(c, "charge", func(context.Context) error {
			if broken.Load() {
				return pawl.Fatal(errors.New("card declined"))
			}
			return nil
		}); err != nil {
			return nil, err
		}
		for i := range 3 {
			if err := pawl.Do(c, fmt.Sprint("z", i), func(context.Context) error { return nil }); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	eachHouse(t, func(t *testing.T, h *house) {
		broken.Store(true)
		id := h.start("mixed", "null")
		h.until(id, pawl.Failed)
		check := func(want int) {
			t.Helper()
			whole, _ := h.allSteps(id, 500)
			if len(whole) != want {
				t.Fatalf("%d steps, want %d: %+v", len(whole), want, whole)
			}
			for _, limit := range []int{1, 2, 3, 5} {
				all, _ := h.allSteps(id, limit)
				if !reflect.DeepEqual(all, whole) {
					t.Errorf("by pages of %d:\n%+v\nat once:\n%+v", limit, all, whole)
				}
			}
		}
		check(10)
		broken.Store(false)
		if _, err := h.client.Retry(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		h.until(id, pawl.Completed)
		check(13)
		whole, _ := h.allSteps(id, 500)
		for _, s := range whole {
			want := api.StepCompleted
			if len(s.Key) == 4 && s.Key[:3] == "bad" {
				want = api.StepFailed
			}
			attempts := 1
			if s.Name == "slow/late" || s.Key == "charge" {
				attempts = 2
			}
			if s.State != want || len(s.Attempts) != attempts {
				t.Errorf("%+v", s)
			}
		}
	}, mixed)
}

// What a page costs does not grow with the journal around it.
func TestAPageOfALongRunIsAPage(t *testing.T) {
	const n = 12_000
	eachStoreAlone(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{})
		id := h.start("steps", fmt.Sprintf(`{"n":%d}`, n))
		h.untilWithin(id, pawl.Completed, 5*time.Minute)
		measure := func(cursor string) (next string, bytes uint64, took time.Duration) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			page, err := h.client.Steps(t.Context(), id, cursor, 100)
			took = time.Since(began)
			runtime.ReadMemStats(&after)
			if err != nil || len(page.Items) != 100 {
				t.Fatal(len(page.Items), err)
			}
			return page.NextCursor, after.TotalAlloc - before.TotalAlloc, took
		}
		measure("")
		next, first, t1 := measure("")
		var last uint64
		var t2 time.Duration
		for range 100 {
			next, last, t2 = measure(next)
		}
		t.Logf("%d steps: the first page allocated %d KiB in %v, the 101st %d KiB in %v", n, first>>10, t1, last>>10, t2)
		if last > 4<<20 || last > 3*first {
			t.Errorf("a page in the middle of %d steps allocated %d bytes, the first %d", n, last, first)
		}
	})
}
