package flow

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Attempts that bring more than was thought are at work as many at a time as there is room for; none waits for ever, and all is given back.
func TestWhatIsLargerThanThoughtWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &step{id: "a"}
		g := &gate{known: map[*step]int{s: 256 << 10}, kinds: map[string]int{}}
		var asking, working, most, done atomic.Int32
		for range 100 {
			go func() {
				var p pass
				_, err := passing(g, s, &p, func(ctx context.Context) (int, error) {
					asking.Add(1)
					time.Sleep(time.Second) // all ask at once
					g.more(ctx, 4<<20)
					n := working.Add(1)
					defer working.Add(-1)
					for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
					}
					time.Sleep(time.Second)
					return 0, nil
				})(t.Context())
				if err != nil {
					t.Error(err)
				}
				g.close(s, &p, 0)
				done.Add(1)
			}()
		}
		synctest.Wait()
		if n := asking.Load(); n != maxAtWork/(256<<10) {
			t.Errorf("%d ask at once", n)
		}
		time.Sleep(time.Hour)
		g.mu.Lock()
		defer g.mu.Unlock()
		if done.Load() != 100 || most.Load() != maxAtWork/(4<<20) || g.taken != 0 {
			t.Errorf("%d are done, %d were at work at once, %d bytes are taken", done.Load(), most.Load(), g.taken)
		}
	})
}

// Who is given up before there is room for it takes none.
func TestNobodyWaitsForRoomInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &step{id: "a"}
		g := &gate{known: map[*step]int{s: 100}, kinds: map[string]int{}}
		g.take(maxAtWork - 10)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var p pass
		began := time.Now()
		_, err := passing(g, s, &p, func(context.Context) (int, error) {
			t.Error("it is at work")
			return 0, nil
		})(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute || g.taken != maxAtWork-10 {
			t.Errorf("%v after %v, %d bytes are taken", err, time.Since(began), g.taken)
		}
	})
}

// What is large is not held up by what is small and keeps coming.
func TestTheLargeComesBeforeTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		large, small := &step{id: "large"}, &step{id: "small"}
		g := &gate{known: map[*step]int{large: 1, small: 1 << 20}, kinds: map[string]int{}}
		work := func(s *step, body func(ctx context.Context)) {
			var p pass
			if _, err := passing(g, s, &p, func(ctx context.Context) (int, error) { body(ctx); return 0, nil })(t.Context()); err != nil {
				t.Error(err)
			}
			g.close(s, &p, 0)
		}
		for i := range 100 {
			go func() {
				time.Sleep(time.Duration(i) * 50 * time.Millisecond)
				for range 100 {
					work(small, func(context.Context) { time.Sleep(time.Second) })
				}
			}()
		}
		time.Sleep(10 * time.Second)
		work(large, func(ctx context.Context) {
			began := time.Now()
			g.more(ctx, 4*maxAtWork)
			if took := time.Since(began); took > 2*time.Second { // those who are at work take one
				t.Errorf("it took %v", took)
			}
		})
		time.Sleep(time.Hour)
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.taken != 0 || g.larger != 0 {
			t.Errorf("%d bytes are taken, %d wait", g.taken, g.larger)
		}
	})
}
