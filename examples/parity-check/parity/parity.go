// Package parity is the smallest machine with a choice: begin, check, even or odd, end.
package parity

import (
	"context"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/machine"
)

// Number is what the machine works on.
type Number struct {
	Number int    `json:"number"`
	Parity string `json:"parity,omitempty"`
}

// New makes the machine "parity-check".
func New() (*machine.Machine[Number], error) {
	return machine.Define("parity-check", "begin", []machine.State[Number]{
		{Name: "begin", Do: begin, To: []string{"check"}},
		{Name: "check", Do: check, To: []string{"even", "odd"}},
		{Name: "even", Do: is("even"), To: []string{"end"}},
		{Name: "odd", Do: is("odd"), To: []string{"end"}},
		{Name: "end", Do: end, To: []string{machine.End}},
	}, &machine.Options{Workflow: []pawl.Option{pawl.Doc("Says whether a number is even or odd: the smallest machine with a choice.")}})
}

func begin(context.Context, *Number) (machine.Next, error) { return machine.Goto("check"), nil }

func check(_ context.Context, n *Number) (machine.Next, error) {
	if n.Number%2 == 0 {
		return machine.Goto("even"), nil
	}
	return machine.Goto("odd"), nil
}

func is(parity string) func(context.Context, *Number) (machine.Next, error) {
	return func(_ context.Context, n *Number) (machine.Next, error) {
		n.Parity = parity
		return machine.Goto("end"), nil
	}
}

func end(context.Context, *Number) (machine.Next, error) { return machine.Done(), nil }
