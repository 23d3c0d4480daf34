package agent

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/sqlite"
)

func TestFailuresAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := sqliteStore(t, sqlite.Memory)
		e, c, o := pawl.New(store, nil), NewCache(nil), &oracle{takes: time.Second, text: "fine"}
		o.fails.Store(&llm.Error{Kind: llm.Overloaded, Provider: "p"})
		var all sync.WaitGroup
		for range 10 { // those who wait for the call share its failure
			all.Go(func() {
				if _, _, err := c.Generate(t.Context(), e, question("a"), time.Hour, o.call); llm.KindOf(err) != llm.Overloaded {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := o.calls.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
		o.fails.Store(nil)
		if _, source, err := NewCache(nil).Generate(t.Context(), pawl.New(store, nil), question("a"), time.Hour, o.call); err != nil || source != CacheMiss {
			t.Error(source, err)
		}
		// Nor is an answer that declined.
		declined := func(context.Context) (*llm.Response, error) {
			o.calls.Add(1)
			return &llm.Response{Refusal: "no", Finish: llm.FinishRefused}, nil
		}
		o.calls.Store(0)
		for range 2 {
			if resp, source, err := c.Generate(t.Context(), e, question("bad"), time.Hour, declined); err != nil || source != CacheMiss || resp.Refusal != "no" {
				t.Error(resp, source, err)
			}
		}
		time.Sleep(statsEvery)
	})
}

func TestAnErrorOfOnesOwnIsNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c, o := memory(t), NewCache(nil), &oracle{takes: time.Second, text: "fine"}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("no more money")
		var all sync.WaitGroup
		all.Go(func() {
			if _, _, err := c.Generate(ctx, e, question("a"), time.Hour, o.call); !errors.Is(err, why) {
				t.Error(err)
			}
		})
		synctest.Wait()
		for range 5 {
			all.Go(func() {
				if resp, _, err := c.Generate(t.Context(), e, question("a"), time.Hour, o.call); err != nil || resp.Text != "fine" {
					t.Error(resp, err)
				}
			})
		}
		time.Sleep(500 * time.Millisecond)
		cancel(why)
		all.Wait()
		if o.calls.Load() != 2 {
			t.Errorf("%d calls", o.calls.Load())
		}
		// A panic is its caller's too, and leaves no claim behind.
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is gone")
				}
			}()
			_, _, _ = c.Generate(t.Context(), e, question("b"), time.Hour, func(context.Context) (*llm.Response, error) { panic("oops") })
		}()
		began := time.Now()
		if _, source, err := c.Generate(t.Context(), e, question("b"), time.Hour, o.call); err != nil || source != CacheMiss || time.Since(began) != time.Second {
			t.Error(source, err, time.Since(began))
		}
		time.Sleep(statsEvery)
	})
}

// The worker that makes the call is killed: nothing prolongs its claim, and another worker
// takes over when that has run out, not before.
func TestAnotherTakesOverFromAWorkerThatDied(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt := &CacheOptions{Lease: 600 * time.Millisecond}
		dead, alive := pawl.New(open(), nil), pawl.New(open(), nil)
		name, err := func() (string, error) { k := question("a"); return k.name() }()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		h, err := NewCache(opt).claim(flightKey{dead, name}, 0)
		if err != nil {
			t.Fatal(err)
		}
		h.stop() // the process is gone
		h.held.Wait()
		o := &oracle{text: "fine"}
		resp, source, err := NewCache(opt).Generate(t.Context(), alive, question("a"), time.Hour, o.call)
		if err != nil || resp.Text != "fine" || source != CacheMiss {
			t.Fatal(resp, source, err)
		}
		if took := time.Since(began); took < opt.Lease {
			t.Errorf("it took over after %v, while the claim held", took)
		}
		h.end(pawl.Put{Data: json.RawMessage(`{"answer":{"text":"of the dead"}}`), Until: time.Now().Add(time.Hour)}) // it was only slow
		if resp, source, err := NewCache(opt).Generate(t.Context(), alive, question("a"), time.Hour, o.call); err != nil || source != CacheHit || resp.Text != "fine" {
			t.Error(resp, source, err)
		}
	})
}

func TestAClaimHoldsForAsLongAsTheCallTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := sqliteStore(t, sqlite.Memory)
		o := &oracle{takes: 10 * time.Minute, text: "at last"}
		var all sync.WaitGroup
		for range 3 { // workers
			e, c := pawl.New(store, nil), NewCache(nil)
			all.Go(func() {
				if resp, _, err := c.Generate(t.Context(), e, question("a"), time.Hour, o.call); err != nil || resp.Text != "at last" {
					t.Error(resp, err)
				}
			})
		}
		all.Wait()
		if o.calls.Load() != 1 {
			t.Errorf("%d calls", o.calls.Load())
		}
		time.Sleep(statsEvery)
	})
}
