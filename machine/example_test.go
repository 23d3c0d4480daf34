package machine_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/machine"
	"github.com/pawlrun/pawl/sqlite"
)

// Parity is what the machine of Example works on.
type Parity struct {
	Number int
	Is     string
}

func Example() {
	done := func(is string) func(context.Context, *Parity) (machine.Next, error) {
		return func(_ context.Context, p *Parity) (machine.Next, error) {
			p.Is = is
			return machine.Done(), nil
		}
	}
	m, err := machine.Define("parity-check", "check", []machine.State[Parity]{
		{Name: "check", Do: func(_ context.Context, p *Parity) (machine.Next, error) {
			if p.Number%2 == 0 {
				return machine.Goto("even"), nil
			}
			return machine.Goto("odd"), nil
		}, To: []string{"even", "odd"}},
		{Name: "even", Do: done("even"), To: []string{machine.End}},
		{Name: "odd", Do: done("odd"), To: []string{machine.End}},
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	e, stop := engine(m)
	defer stop()

	ctx := context.Background()
	run, err := m.Start(ctx, e, Parity{Number: 7})
	if err != nil {
		log.Fatal(err)
	}
	out, err := run.Result(ctx)
	fmt.Println(out.Number, "is", out.Is, err)
	fmt.Print(m.Mermaid())
	// Output:
	// 7 is odd <nil>
	// stateDiagram-v2
	//     state "check" as s1
	//     state "even" as s2
	//     state "odd" as s3
	//     [*] --> s1
	//     s1 --> s2
	//     s1 --> s3
	//     s2 --> [*]
	//     s3 --> [*]
}

// Leave waits for a person, and for a fortnight at most.
func ExampleMachine_Continue() {
	type Leave struct {
		Who      string
		Approved bool
	}
	m, err := machine.Define("leave", "ask", []machine.State[Leave]{
		{Name: "ask", Do: func(context.Context, *Leave) (machine.Next, error) {
			return machine.Wait("decide").Timeout(14*24*time.Hour, "decide"), nil
		}},
		{Name: "decide", Do: func(_ context.Context, l *Leave) (machine.Next, error) {
			if !l.Approved {
				return machine.Fail(errors.New("not approved")), nil
			}
			return machine.Done(), nil
		}},
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	e, stop := engine(m)
	defer stop()

	ctx := context.Background()
	run, err := m.Start(ctx, e, Leave{Who: "ann"})
	if err != nil {
		log.Fatal(err)
	}
	id := pawl.Ref{ID: run.ID()}
	approve := func(l *Leave) error { l.Approved = true; return nil }
	// The run has only been started: it may not wait yet.
	for err = m.Continue(ctx, e, id, approve); errors.Is(err, pawl.ErrState); err = m.Continue(ctx, e, id, approve) {
		time.Sleep(10 * time.Millisecond)
	}
	out, rerr := run.Result(ctx)
	fmt.Println(out.Who, out.Approved, err, rerr)
	fmt.Println(errors.Is(m.Continue(ctx, e, id, approve), pawl.ErrEnded))
	// Output:
	// ann true <nil> <nil>
	// true
}

// Two branches work at the same time, each on its own copy; Join puts together what they made.
func ExampleFork() {
	type Text struct {
		Words []string
		Loud  string
		Count int
	}
	m, err := machine.Define("text", "split", []machine.State[Text]{
		{Name: "split", Do: func(context.Context, *Text) (machine.Next, error) {
			return machine.Fork("merge", "count", "shout"), nil
		}},
		{Name: "count", Do: func(_ context.Context, t *Text) (machine.Next, error) {
			t.Count = len(t.Words)
			return machine.Goto("merge"), nil
		}},
		{Name: "shout", Do: func(_ context.Context, t *Text) (machine.Next, error) {
			t.Loud = strings.ToUpper(strings.Join(t.Words, " "))
			return machine.Goto("merge"), nil
		}},
		{Name: "merge", Join: func(t *Text, branches map[string]Text) error {
			t.Count, t.Loud = branches["count"].Count, branches["shout"].Loud
			return nil
		}, Do: func(context.Context, *Text) (machine.Next, error) { return machine.Done(), nil }},
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	e, stop := engine(m)
	defer stop()
	run, err := m.Start(context.Background(), e, Text{Words: []string{"mind", "the", "gap"}})
	if err != nil {
		log.Fatal(err)
	}
	out, err := run.Result(context.Background())
	fmt.Println(out.Count, out.Loud, err)
	// Output: 3 MIND THE GAP <nil>
}

// A machine that does not hold together is refused before anything runs.
func ExampleDefine() {
	stay := func(context.Context, *int) (machine.Next, error) { return machine.Goto("poll"), nil }
	_, err := machine.Define("polls", "poll", []machine.State[int]{
		{Name: "poll", Do: stay, To: []string{"poll", "report"}},
		{Name: "report", Do: stay, To: []string{"poll"}},
	}, nil)
	fmt.Println(err)
	// Output:
	// machine polls has 3 problems:
	//   - from state "poll" no end can be reached; declare a way to one that has End in its To
	//   - from state "report" no end can be reached; declare a way to one that has End in its To
	//   - the loop "poll" → "poll" has no limit; set MaxVisits on one of its states (negative: without limit on purpose)
}

func engine(defs ...pawl.Definition) (*pawl.Engine, func()) {
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		log.Fatal(err)
	}
	e := pawl.New(store, &pawl.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := e.Register(defs...); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	return e, func() {
		cancel()
		if err := errors.Join(<-done, store.Close()); err != nil {
			log.Fatal(err)
		}
	}
}
