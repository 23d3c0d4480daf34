package agent

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// counting counts the transactions that write records, and the reads of them.
type counting struct {
	pawl.Store
	writes, reads atomic.Int64
	fail          atomic.Bool
	slow          atomic.Int64 // nanoseconds that a commit takes
	every         atomic.Int64 // so many commits one does; 0: all
}

func (s *counting) Commit(ctx context.Context, b *pawl.Batch) error {
	if s.fail.Load() && len(b.Writes) > 0 {
		return errors.New("the disk is full")
	}
	s.writes.Add(int64(len(b.Writes)))
	if n := s.every.Load(); n == 0 || s.writes.Load()%n == 0 {
		time.Sleep(time.Duration(s.slow.Load()))
	}
	return s.Store.Commit(ctx, b)
}

func (s *counting) Records(ctx context.Context, space, prefix, after string, limit int, now time.Time) ([]pawl.Record, error) {
	s.reads.Add(1)
	return s.Store.Records(ctx, space, prefix, after, limit, now)
}

func TestPacingCostsFewWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Store: sqliteStore(t, sqlite.Memory)}
		e := pawl.New(store, nil)
		pacer := NewPacer(map[string]Limit{"limited": {Requests: 1000, Per: time.Second}})
		call := func(bucket string, n int) time.Duration {
			store.writes.Store(0)
			store.reads.Store(0)
			began := time.Now()
			var all sync.WaitGroup
			for range n {
				all.Go(func() {
					s, err := pacer.Take(t.Context(), e, bucket, 10, 0)
					if err != nil {
						t.Error(err)
						return
					}
					s.Done(10, Seen{})
				})
			}
			all.Wait()
			return time.Since(began)
		}
		took := call("limited", 10000)
		if took < 9*time.Second || took > 10100*time.Millisecond || store.writes.Load() > 130 || store.reads.Load() > 5 {
			t.Errorf("10,000 calls at 1,000/s took %v, %d writes and %d reads", took, store.writes.Load(), store.reads.Load())
		}
		store.writes.Store(0)
		var all sync.WaitGroup
		for range 1000 { // they come at the rate at which they are let go
			all.Go(func() {
				if _, err := pacer.Take(t.Context(), e, "limited", 0, 0); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		all.Wait()
		if store.writes.Load() > 25 {
			t.Errorf("1,000 calls, one a millisecond, took %d writes", store.writes.Load())
		}
		time.Sleep(time.Minute)
		if took := call("free", 10000); took != 0 || store.writes.Load() != 0 || store.reads.Load() > 1 {
			t.Errorf("10,000 calls without a limit took %v, %d writes and %d reads", took, store.writes.Load(), store.reads.Load())
		}
	})
}

func TestAStoreThatFailsIsToldToTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Store: sqliteStore(t, sqlite.Memory)}
		e := pawl.New(store, nil)
		pacer := NewPacer(map[string]Limit{"": {Requests: 10}})
		store.fail.Store(true)
		began := time.Now()
		_, err := pacer.Take(t.Context(), e, "b", 0, 0)
		if err == nil || !strings.Contains(err.Error(), `bucket "b"`) || !strings.Contains(err.Error(), "the disk is full") || pawl.IsFatal(err) {
			t.Error(err)
		}
		if took := time.Since(began); took < patience || took > patience+time.Second {
			t.Errorf("it was told after %v", took)
		}
		store.fail.Store(false)
		if _, err := pacer.Take(t.Context(), e, "b", 0, 0); err != nil {
			t.Error(err)
		}
	})
}

// A store that takes its time is asked earlier; what it is late with does not go all at once.
func TestASlowStoreCostsLittleOfTheRate(t *testing.T) {
	for _, slow := range []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, 400 * time.Millisecond, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			store := &counting{Store: sqliteStore(t, sqlite.Memory)}
			store.slow.Store(int64(slow))
			e := pawl.New(store, nil)
			pacer := NewPacer(map[string]Limit{"": {Requests: 50, Per: time.Second}})
			var mu sync.Mutex
			var last time.Time
			var all sync.WaitGroup
			began := time.Now()
			for range 500 {
				all.Go(func() {
					if _, err := pacer.Take(t.Context(), e, "b", 0, 0); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if apart := time.Since(last); apart < 20*time.Millisecond-time.Microsecond {
						t.Errorf("with commits of %v, two calls are %v apart", slow, apart)
					}
					last = time.Now()
				})
			}
			all.Wait()
			if took := time.Since(began); took > 10200*time.Millisecond+2*slow {
				t.Errorf("with commits of %v, 500 calls at 50 a second took %v", slow, took)
			}
		})
	}
}

// Of a store that stands still now and again nothing piles up: who comes later with a higher
// priority does not wait behind calls that should have gone long ago.
func TestStallsDoNotAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Store: sqliteStore(t, sqlite.Memory)}
		store.slow.Store(int64(1200 * time.Millisecond))
		store.every.Store(4)
		e := pawl.New(store, nil)
		pacer := NewPacer(map[string]Limit{"": {Requests: 50, Per: time.Second}})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 5000 {
			all.Go(func() { _, _ = pacer.Take(ctx, e, "b", 0, 0) })
		}
		time.Sleep(60 * time.Second)
		began := time.Now()
		if _, err := pacer.Take(t.Context(), e, "b", 0, 9); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		cancel()
		all.Wait()
		time.Sleep(10 * time.Second) // what the store is in the middle of
	})
}
