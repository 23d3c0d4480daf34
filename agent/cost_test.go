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
}

func (s *counting) Commit(ctx context.Context, b *pawl.Batch) error {
	if s.fail.Load() && len(b.Writes) > 0 {
		return errors.New("the disk is full")
	}
	s.writes.Add(int64(len(b.Writes)))
	time.Sleep(time.Duration(s.slow.Load()))
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
		if took := call("limited", 10000); took < 9*time.Second || took > 10100*time.Millisecond || store.writes.Load() > 130 || store.reads.Load() > 5 {
			t.Errorf("10,000 calls at 1,000/s took %v, %d writes and %d reads", took, store.writes.Load(), store.reads.Load())
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
