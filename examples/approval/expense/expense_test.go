package expense_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/examples/approval/expense"
	"github.com/pawlrun/pawl/pawltest"
)

var laptop = expense.Expense{Employee: "eve", What: "a laptop", Cents: 150000}

// office is where notices and money go.
type office struct {
	told pawltest.Effects
	paid pawltest.Effects
	mu   sync.Mutex // a notice that took too long may still be under way
	said []string
}

func (o *office) config() expense.Config {
	return expense.Config{
		Limit: 10000, Approvers: []string{"ann", "eve"}, Boss: "cid", Patience: 48 * time.Hour,
		Notify: func(ctx context.Context, n approval.Notice) error {
			if o.told.Do(ctx, string(n.What)) {
				o.mu.Lock()
				defer o.mu.Unlock()
				o.said = append(o.said, string(n.What))
			}
			return nil
		},
		Pay: func(ctx context.Context, _ string, cents int, account string) error {
			o.paid.Do(ctx, fmt.Sprint(cents, account))
			return nil
		},
	}
}

var byEve = pawl.Attributes(map[string]any{expense.Starter: "eve"})

func TestSmallSumsNeedNobody(t *testing.T) {
	var o office
	w := expense.New(o.config())
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, w, expense.Expense{Employee: "eve", What: "pens", Cents: 500}, byEve)
		if got := pawltest.Result(h, run); got.Cents != 500 || got.By != "" || len(o.said) != 0 {
			t.Errorf("paid was %+v, said %v", got, o.said)
		}
	}, w)
}

func TestTheBossIsAskedWhenNobodyElseAnswers(t *testing.T) {
	var o office
	w := expense.New(o.config())
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, w, laptop, byEve)
		ref := pawl.Ref{ID: run.ID() + "/pay"}
		decide := func(by string) error {
			a, err := approval.Get(h.Context(), h.Engine(), ref)
			if err == nil {
				_, err = approval.Decide(h.Context(), h.Engine(), ref, approval.Answer{Approved: true, By: by, Shown: a.Shown, Form: []byte(`{"account":"office","cents":120000}`)})
			}
			return err
		}
		time.Sleep(47 * time.Hour)
		for _, by := range []string{"eve", "cid"} { // who spent it, and who is not asked yet
			if err := decide(by); err == nil {
				t.Errorf("%s has approved it", by)
			}
		}
		time.Sleep(2 * time.Hour)
		if err := decide("cid"); err != nil {
			t.Fatal(err)
		}
		if got := pawltest.Result(h, run); got != (expense.Paid{Cents: 120000, Account: "office", By: "cid"}) {
			t.Errorf("paid was %+v", got)
		}
		if want := []string{"asked", "reminder", "escalated", "decided"}; !slices.Equal(o.said, want) {
			t.Errorf("said was %v", o.said)
		}
	}, w)
}

func TestWhatNobodyLooksAtIsNotPaid(t *testing.T) {
	var o office
	w := expense.New(o.config())
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		if got := pawltest.Result(h, pawltest.Start(h, w, laptop, byEve)); got.Cents != 0 || got.Comment == "" {
			t.Errorf("paid was %+v", got)
		}
	}, w)
}

// The worker dies at each of its commits: the money is paid once.
func TestMoneyIsPaidOnce(t *testing.T) {
	var o office
	w := expense.New(o.config())
	pawltest.CrashEverywhere(t, w, laptop, pawltest.WithStart(byEve), pawltest.WithEffects(&o.paid, &o.told),
		pawltest.WithDriver(func(h *pawltest.Harness, id string) {
			h.AwaitHook(id)
			ref := pawl.Ref{ID: id + "/pay"}
			a, err := approval.Get(h.Context(), h.Engine(), ref)
			if err == nil {
				_, err = approval.Decide(h.Context(), h.Engine(), ref, approval.Answer{Approved: true, By: "ann", Shown: a.Shown, Form: []byte(`{"account":"office"}`)})
			}
			if err != nil {
				t.Errorf("decide: %v", err)
			}
		}))
}
