package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// deed is an order that can be given to one run or to many.
type deed struct {
	verb   string
	past   string
	doing  string       // the order stands, and the run has yet to follow it; "": it takes effect at once
	states []pawl.State // of the runs that it can be meant for, where --state does not say
	do     func(ctx context.Context, id string) (api.Run, error)
}

// alive are the states of runs that have not ended.
var alive = []pawl.State{pawl.Pending, pawl.Running, pawl.Waiting, pawl.Paused, pawl.Blocked}

// bulk are the flags of an order to many runs.
type bulk struct {
	picking
	all, yes, dry bool
	parallel      int
}

// bulkResult is what came of an order to many runs.
type bulkResult struct {
	Matched int          `json:"matched"`
	Done    int          `json:"done"`
	Skipped int          `json:"skipped"` // had moved on meanwhile, so that the order no longer fitted
	Failed  []bulkFailed `json:"failed"`
	DryRun  bool         `json:"dryRun,omitempty"`
	IDs     []string     `json:"ids"` // those that it was done to; with --dry-run would be
}

type bulkFailed struct {
	ID    string `json:"id"`
	Error string `json:"error"`
}

// deedCommand is the command of an order: to the runs that are named, or to those that the
// flags pick.
func (a *app) deedCommand(d deed, short, long string, examples ...string) *cobra.Command {
	var b bulk
	cmd := &cobra.Command{
		Use: d.verb + " RUN…", Short: short,
		Long: long + `

Without a RUN the order goes to all runs that the flags pick. They are counted first, and you are asked; -y answers
yes, --dry-run only counts.`,
		Example:           a.examples(append(examples, "runs "+d.verb+" --workflow research-agent --older 2h --dry-run")...),
		ValidArgsFunction: a.names(a.runIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			picked := !b.none() || b.all
			switch {
			case len(args) > 0 && picked:
				return a.usage("name runs or pick them by flags, not both")
			case len(args) == 0 && !picked:
				return a.usage("%s needs a RUN, or flags that pick runs such as --workflow, --state or --older; --all means every one", cmd.CommandPath())
			case b.parallel < 1 || b.parallel > 64:
				return a.usage("--parallel is %d; it is a number from 1 to 64", b.parallel)
			case len(args) == 1 && !b.dry:
				id, err := a.runID(ctx, args[0])
				if err != nil {
					return a.explain(err, args[0])
				}
				run, err := d.do(ctx, id)
				if err != nil {
					return a.explain(err, args[0])
				}
				if d.verb == "delete" {
					return a.toldGone(run)
				}
				if d.doing != "" && run.State.String() != d.past {
					return a.told(run, d.doing)
				}
				return a.told(run, d.past)
			case len(args) > 0:
				b.yes = true // whoever names runs means them
				ids := make([]string, len(args))
				for i, arg := range args {
					var err error
					if ids[i], err = a.runID(ctx, arg); err != nil {
						return a.explain(err, arg)
					}
				}
				return a.toAll(ctx, d, b, ids, "")
			}
			ids, what, err := a.pickRuns(ctx, d, b)
			if err != nil {
				return err
			}
			return a.toAll(ctx, d, b, ids, what)
		},
	}
	a.pickingFlags(cmd, &b.picking)
	flags := cmd.Flags()
	flags.BoolVar(&b.all, "all", false, "every run in a state in which this can be done")
	flags.BoolVarP(&b.yes, "yes", "y", false, "don't ask")
	flags.BoolVar(&b.dry, "dry-run", false, "say which runs it would be, and do nothing")
	flags.IntVar(&b.parallel, "parallel", 8, "how many requests are made at once, at most 64")
	return cmd
}

// pickRuns finds the runs that the flags mean, and says how many there are of each kind.
func (a *app) pickRuns(ctx context.Context, d deed, b bulk) (ids []string, what string, err error) {
	q, err := a.runQuery(&b.picking)
	if err != nil {
		return nil, "", err
	}
	if q.States == nil {
		q.States = d.states
	}
	q.Limit = 500
	count := map[string]int{}
	for {
		page, err := a.client.Runs(ctx, q)
		if err != nil {
			return nil, "", err
		}
		for _, run := range page.Items {
			ids = append(ids, run.ID)
			count[run.State.String()+" "+run.Workflow]++
		}
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			break
		}
	}
	var kinds []string
	for _, kind := range slices.SortedFunc(maps.Keys(count), func(x, y string) int { return count[y] - count[x] }) {
		kinds = append(kinds, fmt.Sprintf("%d %s", count[kind], kind))
	}
	if len(kinds) > 6 {
		kinds = append(kinds[:6], "…")
	}
	return ids, strings.Join(kinds, ", "), nil
}

// toAll gives the order to all, if that is what the person wants.
func (a *app) toAll(ctx context.Context, d deed, b bulk, ids []string, what string) error {
	res := bulkResult{Matched: len(ids), Failed: []bulkFailed{}, IDs: []string{}, DryRun: b.dry}
	switch {
	case len(ids) == 0:
		a.note("no run fits")
		return a.bulkTold(d, res)
	case b.dry:
		if what != "" {
			a.note("%s", what)
		}
		res.IDs = ids
		return a.bulkTold(d, res)
	case !b.yes:
		question := fmt.Sprintf("%s %s: %s?", d.verb, runsOf(len(ids)), what)
		in, ok := a.stdin.(*os.File)
		if !ok || !term.IsTerminal(int(in.Fd())) {
			return &exitError{exitUsage, errors.New(question + " nobody is there to be asked"), []string{"if you mean it, add -y", "see which they are: add --dry-run"}}
		}
		if !a.agreed(in, question) {
			a.note("nothing was done")
			return nil
		}
	}
	var mu sync.Mutex
	bar := a.bar(len(ids))
	queue := make(chan string)
	var workers sync.WaitGroup
	for range min(b.parallel, len(ids)) {
		workers.Go(func() {
			for id := range queue {
				_, err := d.do(ctx, id)
				mu.Lock()
				switch {
				case err == nil:
					res.Done++
					res.IDs = append(res.IDs, id)
				case errors.Is(err, pawl.ErrEnded), errors.Is(err, pawl.ErrState), errors.Is(err, pawl.ErrNotFound) && what != "":
					res.Skipped++
				case ctx.Err() == nil:
					res.Failed = append(res.Failed, bulkFailed{id, err.Error()})
				}
				bar.show(res.Done+res.Skipped+len(res.Failed), len(res.Failed))
				mu.Unlock()
			}
		})
	}
	for _, id := range ids {
		select {
		case queue <- id:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(queue)
	workers.Wait()
	bar.end()
	if err := a.bulkTold(d, res); err != nil {
		return err
	}
	left := res.Matched - res.Done - res.Skipped - len(res.Failed)
	switch {
	case ctx.Err() != nil && left > 0:
		return fmt.Errorf("%w: %s were not reached", context.Cause(ctx), runsOf(left))
	case len(res.Failed) > 0:
		next := []string{"give the same order again: what is done is done"}
		for _, f := range res.Failed[:min(len(res.Failed), 10)] {
			next = append(next, clean(f.ID+": "+f.Error))
		}
		return &exitError{exitFailure, fmt.Errorf("%s failed", runsOf(len(res.Failed))), next}
	}
	return nil
}

// agreed asks a question on the terminal. Anything but yes is no.
func (a *app) agreed(in *os.File, question string) bool {
	fmt.Fprintf(a.stderr, "%s [y/N] ", clean(question))
	line, _ := bufio.NewReader(in).ReadString('\n') // an error is no yes
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

func (a *app) bulkTold(d deed, res bulkResult) error {
	if a.output == "name" {
		for _, id := range res.IDs {
			a.out.line("%s", id)
		}
		return nil
	}
	body, err := json.Marshal(res)
	if err != nil {
		return err
	}
	return a.show(view{body: body, of: res, table: func() {
		switch {
		case res.DryRun:
			for _, id := range res.IDs {
				a.out.line("%s", id)
			}
			a.note("would %s %s", d.verb, runsOf(res.Matched))
		case res.Matched == 0:
		default:
			text := fmt.Sprintf("%s %d of %s", d.past, res.Done, runsOf(res.Matched))
			if res.Skipped > 0 {
				text += fmt.Sprintf("; %d had moved on", res.Skipped)
			}
			if n := len(res.Failed); n > 0 {
				text += fmt.Sprintf("; %d failed", n)
			}
			a.out.line("%s", text)
		}
	}})
}

func runsOf(n int) string {
	if n == 1 {
		return "1 run"
	}
	return fmt.Sprintf("%d runs", n)
}

// bar is how far a long work has come, drawn on one line of a terminal.
type bar struct {
	a     *app
	all   int
	drawn time.Time
	on    bool
}

func (a *app) bar(all int) *bar {
	p := a.printerOn(a.stderr)
	return &bar{a: a, all: all, on: p.tty && !a.quiet}
}

func (b *bar) show(done, failed int) {
	if !b.on || time.Since(b.drawn) < 50*time.Millisecond && done < b.all {
		return
	}
	b.drawn = time.Now()
	const width = 30
	full := width * done / b.all
	text := fmt.Sprintf("\r\x1b[K[%s%s] %d of %d", strings.Repeat("#", full), strings.Repeat("-", width-full), done, b.all)
	if failed > 0 {
		text += fmt.Sprintf(", %d failed", failed)
	}
	fmt.Fprint(b.a.stderr, text)
}

// end takes the line away.
func (b *bar) end() {
	if b.on {
		fmt.Fprint(b.a.stderr, "\r\x1b[K")
	}
}
