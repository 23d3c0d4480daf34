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
}

// A record that a clock an hour ahead has written stops nobody for an hour.
func TestAClockThatRunsAheadStopsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memory(t)
		ahead := time.Now().Add(time.Hour).UnixNano()
		data := fmt.Sprintf(`{"at":%d,"requests":{"zero":%d},"tokens":{},"blocked":%d,"queues":{"dead":{"callers":9,"rank":0,"at":%d}}}`, ahead, ahead, ahead+int64(time.Second), ahead)
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
