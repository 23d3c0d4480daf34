package agent

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/pawltest"
)

func TestLimitsAreLearnedFromHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memory(t)
		pacer := NewPacer(nil)
		s, err := pacer.Take(t.Context(), e, "b", 500, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.Done(400, Seen{RequestsLimit: 600, RequestsLeft: 20, RequestsReset: 58 * time.Second, TokensLimit: 60000, TokensLeft: 50000, TokensReset: 10 * time.Second})
		synctest.Wait()
		state, err := pacer.State(t.Context(), e)
		if err != nil || len(state) != 1 {
			t.Fatal(state, err)
		}
		if g := state[0].Requests; g.Limit != 600 || g.Per != time.Minute || !g.Learned || g.Left != 20 {
			t.Errorf("requests: %+v", g)
		}
		if g := state[0].Tokens; g.Limit != 60000 || g.Per != time.Minute || g.Left != 50000 {
			t.Errorf("tokens: %+v", g)
		}
		other := NewPacer(nil) // another worker knows it too
		began := time.Now()
		for range 40 {
			if _, err := other.Take(t.Context(), e, "b", 1, 0); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 1900*time.Millisecond || took > 2100*time.Millisecond { // 20 at once, 20 at 10 a second
			t.Errorf("40 calls took %v", took)
		}
	})
}

// Others use the key too: what a call's answer says was left when that call was let in holds
// less what was taken since, and more by what came since.
func TestWhatWasLeftIsSeenInItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memory(t)
		pacer := NewPacer(nil)
		take := func() *Slot {
			s, err := pacer.Take(t.Context(), e, "b", 10, 0)
			if err != nil {
				t.Error(err)
			}
			return s
		}
		seen := Seen{RequestsLimit: 60, RequestsLeft: 59, TokensLimit: 6000, TokensLeft: 5990}
		take().Done(10, seen)
		time.Sleep(10 * time.Second)
		slow, began := take(), time.Now()
		for range 20 {
			go func() { take().Done(10, Seen{}) }()
		}
		time.Sleep(5 * time.Second)
		seen.RequestsLeft, seen.TokensLeft = 40, 1000
		slow.Done(10, seen)
		time.Sleep(time.Until(began.Add(6 * time.Second)))
		state, err := pacer.State(t.Context(), e)
		if err != nil || len(state) != 1 || state[0].Requests.Left != 40-20+6 || state[0].Tokens.Left != 1000-200+600 {
			t.Errorf("%+v %v", state, err)
		}
	})
}

// A step that is tried again does not begin to wait anew.
func TestAStepThatIsTriedAgainKeepsItsAge(t *testing.T) {
	pacer := NewPacer(map[string]Limit{"": {Requests: 4, Per: time.Second}})
	tried := make(chan struct{})
	var went atomic.Int64
	wf := pawl.Define("again", func(c *pawl.Context, _ struct{}) (int64, error) {
		return pawl.Step(c, "call", func(ctx context.Context) (int64, error) {
			if pawl.InfoOf(ctx).Attempt == 1 {
				close(tried)
				return 0, pawl.RetryAfter(errors.New("not now"), time.Second)
			}
			_, err := pacer.Take(ctx, pawl.EngineOf(ctx), "b", 0, 0)
			return went.Load(), err
		})
	})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		e := h.Engine()
		run, err := wf.Start(t.Context(), e, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		<-tried
		var all sync.WaitGroup
		for range 12 { // three seconds' worth
			all.Go(func() {
				if _, err := pacer.Take(t.Context(), e, "b", 0, 0); err != nil {
					t.Error(err)
				}
				went.Add(1)
			})
		}
		all.Wait()
		if before, err := run.Result(t.Context()); err != nil || before > 8 {
			t.Errorf("%d others went before it: %v", before, err)
		}
	}, wf)
}

// After a process was not let run for a while, those who go late fill the time of as many
// slots to come, once.
func TestRoomIsMadeForThoseWhoGoLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memory(t)
		pacer := NewPacer(map[string]Limit{"": {Requests: 1, Per: time.Second}})
		for i, want := range []time.Duration{0, 3 * time.Second, time.Second, time.Second} {
			began := time.Now()
			if _, err := pacer.Take(t.Context(), e, "b", 0, 0); err != nil || time.Since(began) != want {
				t.Errorf("call %d went after %v, not %v: %v", i, time.Since(began), want, err)
			}
			l := pacer.lane(e, "b")
			l.mu.Lock()
			switch i {
			case 0: // two are still to go
				l.late, l.out = 2*time.Second, 2
			case 1: // it stood still for an hour, with none to go
				l.late, l.out = time.Hour, 0
			}
			l.mu.Unlock()
		}
	})
}

func TestThePeriodOfALimitIsFoundOut(t *testing.T) {
	for _, c := range []struct {
		limit, left int64
		reset       time.Duration
		per         time.Duration
	}{
		{500, 499, 120 * time.Millisecond, time.Minute},
		{50, 49, time.Second, time.Minute},
		{50, 49, 0, time.Minute},
		{50, 10, 48 * time.Second, time.Minute},
		{50, 10, 800 * time.Millisecond, time.Second},
		{200, 100, 12 * time.Hour, 24 * time.Hour},
		{1000, 0, time.Hour, time.Hour},
		{10, 20, time.Hour, time.Minute},
	} {
		var g gauge
		if !g.learn(c.limit, c.left, c.reset) || g.Per != c.per {
			t.Errorf("%+v: %v", c, g.Per)
		}
		if g.learn(c.limit, c.left, c.reset) {
			t.Errorf("%+v: twice the same is news", c)
		}
	}
}

// what a bucket does after a refusal, by what else is known.
func TestARefusalStopsTheBucketWhereNothingBetterIsKnown(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit Limit
		seen  Seen
		stops time.Duration
	}{
		{"nothing known", Limit{}, Seen{Wait: 7 * time.Second}, 7 * time.Second},
		{"not even a wait", Limit{}, Seen{}, time.Second},
		{"a limit is configured", Limit{Requests: 6000}, Seen{Wait: 7 * time.Second}, 0},
		{"a header says there is room", Limit{}, Seen{Wait: 7 * time.Second, RequestsLimit: 6000, RequestsLeft: 3000}, 0},
		{"a header says nothing is left", Limit{Requests: 6000}, Seen{Wait: 7 * time.Second, TokensLimit: 10, TokensLeft: 0}, 7 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := memory(t)
				pacer, other := NewPacer(map[string]Limit{"": c.limit}), NewPacer(map[string]Limit{"": c.limit})
				s, err := pacer.Take(t.Context(), e, "b", 0, 0)
				if err != nil {
					t.Fatal(err)
				}
				c.seen.Refused = true
				s.Done(-1, c.seen)
				s.Done(-1, Seen{Refused: true, Wait: time.Hour}) // counts once
				synctest.Wait()
				began := time.Now()
				for _, p := range []*Pacer{pacer, other} {
					if _, err := p.Take(t.Context(), e, "b", 0, 0); err != nil {
						t.Fatal(err)
					}
				}
				if took := time.Since(began); took < c.stops || took > c.stops+100*time.Millisecond {
					t.Errorf("the next calls went after %v, not %v", took, c.stops)
				}
				state, err := pacer.State(t.Context(), e)
				if err != nil || len(state) != 1 || state[0].Refused != 1 {
					t.Errorf("%+v %v", state, err)
				}
			})
		})
	}
}

func TestTokensAreCorrectedAfterTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memory(t)
		pacer := NewPacer(map[string]Limit{"": {Tokens: 100, Per: time.Second, Burst: 10 * time.Second}})
		began := time.Now()
		for _, c := range []struct {
			what    string
			tokens  int64
			at      time.Duration
			used    int64
			refused bool
		}{
			{"all there is", 1000, 0, 400, false},
			{"what was given back", 600, 0, 600, false},
			{"what has come since", 100, time.Second, 300, false},
			{"after a debt of 200", 100, 4 * time.Second, -1, false}, // not known: it stays as estimated
			{"more than there ever is", 5000, 14 * time.Second, -1, true},
			{"after a refused call, which used none", 1000, 14 * time.Second, 1000, false},
		} {
			s, err := pacer.Take(t.Context(), e, "b", c.tokens, 0)
			if err != nil {
				t.Fatal(err)
			}
			if at := time.Since(began); at < c.at || at > c.at+linger {
				t.Errorf("%s was let go after %v, not %v", c.what, at, c.at)
			}
			s.Done(c.used, Seen{Refused: c.refused})
		}
		time.Sleep(time.Second)
	})
}

// Calls that nothing limited were not late: a refusal after them holds the bucket for as long
// as the provider asks, and no longer.
func TestARefusalOfABucketWithoutLimitsPasses(t *testing.T) {
	e, p := memory(t), NewPacer(nil)
	take := func() *Slot {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		s, err := p.Take(ctx, e, "b", 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for range 3 {
		take().Done(1, Seen{}) // the first finds out that there are no limits, the next are let go at once
	}
	refused := take()
	refused.Done(0, Seen{Refused: true, Wait: time.Second})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if all, err := p.State(t.Context(), e); err != nil || time.Now().After(end) {
			t.Fatalf("the refusal was not heard of: %v", err)
		} else if len(all) == 1 && all[0].Refused == 1 {
			break
		}
	}
	for range 3 {
		take().Done(1, Seen{})
	}
}
