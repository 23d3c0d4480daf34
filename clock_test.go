package pawl_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// TestTheClockIsTheSameInEveryReplay, after each kind of durable call, whether it was recorded
// in another life of the worker or just now.
func TestTheClockIsTheSameInEveryReplay(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var mu sync.Mutex
		told := map[string][]int64{}
		child := pawl.Define("child", func(*pawl.Context, none) (none, error) { return none{}, nil })
		w := pawl.Define("clock", func(c *pawl.Context, _ none) (none, error) {
			tell := func(c *pawl.Context, after string) {
				mu.Lock()
				defer mu.Unlock()
				told[after] = append(told[after], c.Now().UnixMicro())
			}
			// A pause that is no durable call, so that a clock that stands still shows.
			pause := func() { time.Sleep(2 * time.Millisecond) }
			do := func(what string, err error) error { tell(c, what); pause(); return err }
			err := errors.Join(
				do("attributes", c.SetAttributes(map[string]any{"a": 1})),
				do("stream", c.Stream("s").Write(1)),
				do("sleep", c.Sleep(time.Millisecond)),
				do("step", pawl.Do(c, "step", func(context.Context) error { return nil })),
			)
			c.Version("change", 1)
			pause()
			tell(c, "version")
			h, herr := pawl.NewHook[none](c)
			err = errors.Join(err, do("hook", herr), do("close", h.Close(c)))
			_, cerr := child.Spawn(c, none{})
			_, werr := pawl.WaitFor[none](c, "never", pawl.Timeout(time.Millisecond))
			tell(c, "timeout")
			err = errors.Join(err, do("child", cerr))
			if !errors.Is(werr, pawl.ErrTimeout) {
				err = errors.Join(err, werr)
			}
			in, cancel := pawl.WithTimeout(c, time.Hour)
			err = errors.Join(err, do("scope", nil))
			f := pawl.Go(in, "branch", func(c *pawl.Context) (none, error) {
				err := c.Sleep(time.Hour)
				tell(c, "interrupted")
				return none{}, err
			})
			cancel(nil)
			if _, ferr := f.Wait(c); !errors.Is(ferr, pawl.ErrCancelled) {
				err = errors.Join(err, ferr, errors.New("not cancelled"))
			}
			tell(c, "join")
			pause()
			_, gerr := pawl.WaitFor[none](c, "go")
			tell(c, "event")
			return none{}, errors.Join(err, gerr)
		})
		n := boot(t, open(), replays(), w, child)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		n.signal(r.ID(), "go", none{})
		result(n, r)
		for after, times := range told {
			if after == "event" {
				continue
			}
			if len(times) < 2 || len(slices.Compact(times)) != 1 {
				t.Errorf("after %s: %v", after, times)
			}
		}
	})
}
