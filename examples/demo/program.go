package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// Program is the command line of an example: which store, which run, which models.
type Program struct {
	*Found

	store string
	id    string
}

// Parse parses the flags, those of the caller and its own, and finds the models as [Source]
// says. It warns if a script will answer, and ends the process if there is no such model.
func Parse() *Program {
	var p Program
	var source Source
	flag.StringVar(&p.store, "store", "pawl.db", "the file that holds the runs")
	flag.StringVar(&p.id, "id", "", "the run's id; without it the same input always means the same run")
	source.Flags(flag.CommandLine)
	pace := flag.Duration("pace", time.Second, "how long the scripted model takes for an answer")
	flag.Parse()
	if flag.NArg() > 0 {
		usage("%q is no flag; quote texts of several words, see -help", flag.Arg(0))
	}
	source.Script = Paced(*pace)
	found, err := source.Models()
	if err != nil {
		usage("%v", err)
	}
	p.Found = found
	if found.Model.Scripted {
		fmt.Fprint(os.Stderr, Warning)
	}
	return &p
}

func usage(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(2)
}

// Watch is called beside a run, with an engine to look at it and signal it. It returns
// when ctx ends, and may return earlier.
type Watch func(ctx context.Context, e *pawl.Engine, runID string)

// Run runs w with the input in, prints on the standard error what happens, and returns
// the result. A run that is there already goes on where it was, one that failed is tried
// again, and one that has completed is only read. If there is no result Run says why and
// ends the process.
func Run[In, Out any](p *Program, w *pawl.Workflow[In, Out], in In, watch ...Watch) Out {
	// The first Ctrl-C ends the engine in order: steps under way may finish. The second
	// ends the process, and that is no harm either.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	quiet := context.AfterFunc(ctx, func() {
		stop()
		fmt.Fprintln(os.Stderr, "stopping when the calls under way have ended; Ctrl-C again stops at once")
	})
	defer quiet()

	out, err := run(ctx, p, w, in, watch)
	switch {
	case err == nil:
		return out
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "stopped; the same command goes on from here")
		os.Exit(130)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
	panic("unreachable")
}

func run[In, Out any](ctx context.Context, p *Program, w *pawl.Workflow[In, Out], in In, watch []Watch) (out Out, err error) {
	store, err := sqlite.Open(p.store, nil)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	engine := pawl.New(store, nil)
	if err := engine.Register(w); err != nil {
		return out, err
	}

	id := p.id
	if id == "" {
		id = idOf(w.Name(), in)
	}
	known, err := look(ctx, engine, id)
	if err != nil {
		return out, err
	}
	handle, err := w.Start(ctx, engine, in, pawl.ID(id))
	if errors.Is(err, pawl.ErrConflict) {
		return out, fmt.Errorf("%w; give the new run another -id", err)
	}
	if err != nil {
		return out, err
	}

	// The engine works until the run has ended, or ctx does.
	work, end := context.WithCancel(ctx)
	worked := make(chan error, 1)
	go func() { worked <- engine.Run(work) }()
	defer func() {
		end()
		err = errors.Join(err, <-worked)
	}()
	for _, f := range watch {
		go f(work, engine, id)
	}
	if err := follow(work, engine, id, known); err != nil {
		return out, err
	}
	if err := tellCosts(ctx, engine, id); err != nil {
		return out, err
	}
	return handle.Result(ctx)
}

// tellCosts prints what the run has paid, by model: the sums of the ledger.
func tellCosts(ctx context.Context, e *pawl.Engine, id string) error {
	costs, err := e.Costs(ctx, pawl.CostFilter{ChargeFilter: pawl.ChargeFilter{RunID: id, Family: true}, By: pawl.ByItem})
	for _, c := range costs {
		text := fmt.Sprintf("%10s $%.6f for %d calls of %s", "", float64(c.Amount-c.Guessed)/1e6, c.Charges, c.Key)
		if c.Guessed > 0 {
			text += fmt.Sprintf(", and what is not known, for which budgets count $%.6f", float64(c.Guessed)/1e6)
		}
		fmt.Fprintln(os.Stderr, text)
	}
	return err
}

// idOf derives the run's id from its input, so that the same command means the same run.
func idOf(workflow string, in any) string {
	b, err := json.Marshal(in)
	if err != nil {
		return "" // Start will say what is wrong with the input
	}
	sum := sha256.Sum256(b)
	return workflow + "-" + hex.EncodeToString(sum[:4])
}

// look finds out what is recorded of the run, and gives a failed one another chance.
func look(ctx context.Context, e *pawl.Engine, id string) (recorded int64, err error) {
	ref := pawl.Ref{ID: id}
	info, err := e.Get(ctx, ref)
	if errors.Is(err, pawl.ErrNotFound) {
		fmt.Fprintf(os.Stderr, "run %s: new\n", id)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, err := range e.Journal(ctx, ref) {
		if err != nil {
			return 0, err
		}
		recorded++
	}
	fmt.Fprintf(os.Stderr, "run %s: here since %s, %s\n", id, info.Created.Local().Format(time.DateTime), info.State)
	if info.State == pawl.Failed {
		fmt.Fprintf(os.Stderr, "it failed (%s): trying again\n", info.Reason)
		_, err = e.Retry(ctx, ref)
	}
	return recorded, err
}
