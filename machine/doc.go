// Package machine writes goto state machines as ordinary durable workflows.
//
// A machine is a set of named states over one value of a type S. A state is a function that
// changes the value and returns exactly one outcome: [Goto] another state, [Fork] to several
// that are joined once, [Wait] for the outside world, [Done], or [Fail].
//
//	type Parity struct{ Number int; Is string }
//
//	m, err := machine.Define("parity-check", "check", []machine.State[Parity]{
//		{Name: "check", Do: func(ctx context.Context, p *Parity) (machine.Next, error) {
//			if p.Number%2 == 0 {
//				return machine.Goto("even"), nil
//			}
//			return machine.Goto("odd"), nil
//		}, To: []string{"even", "odd"}},
//		{Name: "even", Do: …, To: []string{machine.End}},
//		{Name: "odd", Do: …, To: []string{machine.End}},
//	}, nil)
//
// A [Machine] is a [pawl.Definition]: an engine registers it, and its runs are runs like
// all others, to be attached to, listed, cancelled, retried, forked and awaited.
//
// # What is promised
//
// A visit of a state is one step of the run, named after the state (check, check#2, …). So
// its function runs at least once per visit, its outcome and the changed value are recorded
// exactly once, and the StepID of [pawl.InfoOf] is the key to hand to the outside world. An
// error is tried again as the state's Step options say; every attempt begins with the value
// as it was before the visit. Branches of a fork work on copies and are joined exactly once,
// whatever crashes; what each made of its copy goes to the join state by the branch's name.
//
// # What it never does
//
// It has no store, no queue and no clock of its own: it uses nothing but what package pawl
// exports. It wakes no waiting run: only the update it waits for, its timeout or an operator
// does. It starts no run of a machine that does not hold together: [Define] refuses it.
package machine
