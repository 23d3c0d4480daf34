package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
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
		take := func(tokens int64) (*Slot, time.Duration) {
			began := time.Now()
			s, err := pacer.Take(t.Context(), e, "b", tokens, 0)
			if err != nil {
				t.Fatal(err)
			}
			return s, time.Since(began).Round(time.Millisecond)
		}
		s, _ := take(1000) // all there is
		s.Done(400, Seen{})
		if _, waited := take(600); waited != 0 {
			t.Errorf("600 were given back, and 600 took %v", waited)
		}
		s, waited := take(100)
		if waited != time.Second {
			t.Errorf("100 at 100 a second took %v", waited)
		}
		s.Done(300, Seen{})
		if s, waited = take(100); waited != 3*time.Second {
			t.Errorf("100 after a debt of 200 took %v", waited)
		}
		s.Done(-1, Seen{}) // not known: it stays as estimated
		if s, waited = take(5000); waited != 10*time.Second {
			t.Errorf("more than there ever is took %v, not until the bucket was full", waited)
		}
		s.Done(-1, Seen{Refused: true}) // used none
		if _, waited = take(1000); waited != 0 {
			t.Errorf("1000 after a refused call took %v", waited)
		}
	})
}

func TestHostileBuckets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memory(t)
		pacer := NewPacer(map[string]Limit{"": {Requests: 10, Tokens: -5, Burst: -time.Hour, Per: -1}})
		for _, name := range []string{"", strings.Repeat("x", 257), "a\x00b", "\xff"} {
			if _, err := pacer.Take(t.Context(), e, name, 0, 0); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("%.20q: %v", name, err)
			}
		}
		if _, err := pacer.Take(t.Context(), nil, "b", 0, 0); !errors.Is(err, pawl.ErrInput) || !pawl.IsFatal(err) {
			t.Error(err)
		}
		if _, err := e.Write(t.Context(), pawl.Put{Space: paceSpace, Key: "bad", Data: []byte(`{"at":"noon"}`)}); err != nil {
			t.Fatal(err)
		}
		if _, err := pacer.Take(t.Context(), e, "bad", 0, 0); err == nil || !strings.Contains(err.Error(), "delete record") {
			t.Error(err)
		}
		if _, err := e.Write(t.Context(), pawl.Put{Space: paceSpace, Key: "bad", If: pawl.AnyVersion}); err != nil {
			t.Fatal(err)
		}
		huge := int64(1) << 62
		for _, tokens := range []int64{-huge, huge, 0} {
			s, err := pacer.Take(t.Context(), e, fmt.Sprint("t", tokens), tokens, int(tokens))
			if err != nil {
				t.Fatal(err)
			}
			s.Done(huge, Seen{RequestsLimit: huge, RequestsLeft: -huge, RequestsReset: -1, TokensLimit: -1, TokensLeft: huge, Wait: -1, Refused: tokens == 0})
		}
		time.Sleep(time.Second)
		if _, err := pacer.State(t.Context(), e); err != nil {
			t.Error(err)
		}
	})
	if wait := (Seen{Wait: 365 * 24 * time.Hour}).sane().Wait; wait != 24*time.Hour {
		t.Errorf("a provider may stop a bucket for %v", wait)
	}
	for _, name := range []string{BucketName("p\x00", "\xff\xfe", ""), BucketName("p", strings.Repeat("é", 300), "secret"), BucketName("p", strings.Repeat("x", 500), "")} {
		if len(name) > 256 || strings.Contains(name, "secret") {
			t.Errorf("%d bytes: %.60q", len(name), name)
		}
	}
	if a, b := BucketName("p", "m", "key 1"), BucketName("p", "m", "key 2"); a == b || !strings.HasPrefix(a, "p/m/") {
		t.Error(a, b)
	}
}

// A record that a clock an hour ahead has written stops nobody for an hour.
func TestAClockThatRunsAheadStopsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memory(t)
		ahead := time.Now().Add(time.Hour).UnixNano()
		data := fmt.Sprintf(`{"at":%d,"requests":{"zero":%d},"tokens":{},"blocked":%d}`, ahead, ahead, ahead+int64(time.Second))
		if _, err := e.Write(t.Context(), pawl.Put{Space: paceSpace, Key: "b", Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := NewPacer(map[string]Limit{"": {Requests: 10}}).Take(t.Context(), e, "b", 0, 0); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < time.Second || took > 8*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
