package saga_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/order-saga/saga"
	"github.com/pawlrun/pawl/machine"
	"github.com/pawlrun/pawl/pawltest"
)

var book = saga.Order{Item: "book", Cents: 1290}

func define(t *testing.T, w saga.World) *machine.Machine[saga.Order] {
	t.Helper()
	m, err := saga.New(w, 0)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What was done is undone, the last deed first; what was not done is not.
func TestOrders(t *testing.T) {
	paid, refused := true, false
	for name, c := range map[string]struct {
		fails string
		paid  *bool // nil: nobody says anything
		deeds []string
		why   string // the order fails; "": it does not
	}{
		"all is well":     {"", &paid, []string{"reserve book", "charge 12.90", "ship book"}, ""},
		"no stock":        {"reserve", nil, nil, "reserve book: refused"},
		"no money":        {"charge", nil, []string{"reserve book", "release #1"}, "charge 12.90: refused"},
		"not paid":        {"", nil, []string{"reserve book", "charge 12.90", "refund #2", "release #1"}, "nobody paid in time"},
		"refused":         {"", &refused, []string{"reserve book", "charge 12.90", "refund #2", "release #1"}, "the payment was refused"},
		"lost on the way": {"ship", &paid, []string{"reserve book", "charge 12.90", "refund #2", "release #1"}, "ship book: refused"},
	} {
		t.Run(name, func(t *testing.T) {
			world := &saga.Ledger{File: filepath.Join(t.TempDir(), "ledger"), Fails: c.fails}
			m := define(t, world)
			pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
				began := time.Now()
				run := pawltest.Start(h, m.Workflow, machine.Input[saga.Order]{State: book})
				if c.paid != nil { // before or after it is asked for: no matter
					if err := saga.Paid(h.Context(), h.Engine(), m, run.ID(), *c.paid); err != nil {
						t.Fatal(err)
					}
				}
				got, err := pawltest.ResultError(h, run)
				switch {
				case c.why == "" && (err != nil || got.Parcel != "#3" || got.Why != ""):
					t.Errorf("the order is %+v, %v", got, err)
				case c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)):
					t.Errorf("the order failed with %v, want %s", err, c.why)
				}
				if waited := time.Since(began) >= saga.Patience; waited != (name == "not paid") {
					t.Errorf("it took %v", time.Since(began))
				}
			}, m)
			deeds, err := world.Deeds()
			if err != nil && c.deeds != nil {
				t.Fatal(err)
			}
			if !slices.Equal(deeds, c.deeds) {
				t.Errorf("done was %q, want %q", deeds, c.deeds)
			}
		})
	}
}

// heeds is a world that counts deeds by their keys, as pawltest compares them.
type heeds struct {
	pawltest.Effects
	refuses string
}

func (w *heeds) do(ctx context.Context, deed, what string) (string, error) {
	if deed == w.refuses {
		return "", pawl.Fatal(errors.New(deed + " refused"))
	}
	w.Do(ctx, deed+" "+what)
	return "no. of " + deed, nil
}

func (w *heeds) Reserve(ctx context.Context, _, item string) (string, error) {
	return w.do(ctx, "reserve", item)
}
func (w *heeds) Charge(ctx context.Context, _ string, cents int) (string, error) {
	return w.do(ctx, "charge", fmt.Sprint(cents))
}
func (w *heeds) Ship(ctx context.Context, _, item string) (string, error) {
	return w.do(ctx, "ship", item)
}
func (w *heeds) Release(ctx context.Context, _, r string) error {
	_, err := w.do(ctx, "release", r)
	return err
}
func (w *heeds) Refund(ctx context.Context, _, c string) error {
	_, err := w.do(ctx, "refund", c)
	return err
}

// Killed at each of its commits, an order does and undoes the same, with the same keys.
func TestOrdersSurviveCrashes(t *testing.T) {
	for _, refuses := range []string{"", "ship"} {
		t.Run("refuses "+refuses, func(t *testing.T) {
			world := &heeds{refuses: refuses}
			m := define(t, world)
			pawltest.CrashEverywhere(t, m.Workflow, machine.Input[saga.Order]{State: book},
				pawltest.WithEffects(&world.Effects),
				pawltest.WithDriver(func(h *pawltest.Harness, runID string) {
					h.AwaitEvent(runID, "machine:charge")
					if err := saga.Paid(h.Context(), h.Engine(), m, runID, true); err != nil {
						panic(err)
					}
				}))
		})
	}
}

// Nobody pays: the crash must not let the three days begin anew, nor end early.
func TestAnUnpaidOrderSurvivesCrashes(t *testing.T) {
	world := &heeds{}
	pawltest.CrashEverywhere(t, define(t, world).Workflow, machine.Input[saga.Order]{State: book}, pawltest.WithEffects(&world.Effects))
}

func TestWrongOrdersAreRefused(t *testing.T) {
	m := define(t, &heeds{})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		for _, o := range []saga.Order{{Cents: 1}, {Item: "book"}} {
			if _, err := m.Start(h.Context(), h.Engine(), o); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("%+v: %v", o, err)
			}
		}
	}, m)
}
