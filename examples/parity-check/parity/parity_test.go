package parity_test

import (
	"slices"
	"testing"

	"github.com/pawlrun/pawl/examples/parity-check/parity"
	"github.com/pawlrun/pawl/machine"
	"github.com/pawlrun/pawl/pawltest"
)

func TestExactlyOneSideIsVisited(t *testing.T) {
	m, err := parity.New()
	if err != nil {
		t.Fatal(err)
	}
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		for n, side := range map[int]string{0: "even", 7: "odd", -3: "odd", 12: "even"} {
			run := pawltest.Start(h, m.Workflow, machine.Input[parity.Number]{State: parity.Number{Number: n}})
			if got := pawltest.Result(h, run); got.Number != n || got.Parity != side {
				t.Errorf("%d: got %+v", n, got)
			}
			if got, want := h.Keys(run.ID()), []string{"begin", "check", side, "end"}; !slices.Equal(got, want) {
				t.Errorf("%d: it went %q, want %q", n, got, want)
			}
		}
	}, m)
}

func TestItSurvivesCrashes(t *testing.T) {
	m, err := parity.New()
	if err != nil {
		t.Fatal(err)
	}
	pawltest.CrashEverywhere(t, m.Workflow, machine.Input[parity.Number]{State: parity.Number{Number: 7}})
}
