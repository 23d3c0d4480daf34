package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

// finding is what came of one check of "pawl doctor".
type finding struct {
	Check string   `json:"check"`
	State string   `json:"state"` // ok, warn or fail
	Says  string   `json:"says"`
	Next  []string `json:"next,omitempty"` // what to do
}

type doctor struct {
	a        *app
	findings []finding
}

func (d *doctor) add(check, state, says string, next ...string) {
	d.findings = append(d.findings, finding{check, state, says, next})
}

// searched is how many of the newest runs in a state are looked through.
const searched = 5000

// Limits beyond which the doctor has something to say.
const (
	skewWarn  = 2 * time.Second // the Date header has whole seconds only
	slowFsync = 20 * time.Millisecond
	overdue   = 30 * time.Second // several times what a worker may take to notice
)

func (a *app) doctorCommand() *cobra.Command {
	cmd := a.local(&cobra.Command{
		Use: "doctor", Short: "Look for what is wrong, and say what to do about it",
		Long: `Look for what is wrong with the server and with this machine's settings, and say what to do about
it. It changes nothing, but for a small file that it writes beside the store, to measure the disk, if
the store is a file of this machine. The exit code is 1 if something is wrong.`,
		Example: a.examples("doctor", "doctor --config pawl.yaml -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor{a: a}
			d.settings(cmd)
			if err := a.connect(); err != nil {
				d.add("context", "fail", err.Error(), nextOf(err)...)
			} else {
				d.server(cmd.Context())
			}
			return d.tell()
		},
	})
	a.configFlags(cmd)
	return cmd
}

func nextOf(err error) []string {
	var e *exitError
	if errors.As(err, &e) {
		return e.next
	}
	return nil
}

// settings checks the server's settings as they are here, and the disk of its store.
func (d *doctor) settings(cmd *cobra.Command) {
	s, _, err := d.a.settings(cmd.Flags())
	if err != nil {
		d.add("settings", "fail", err.Error(), nextOf(err)...)
		return
	}
	d.add("settings", "ok", "can be read")
	if strings.Contains(s.Store, "://") {
		return
	}
	if _, err := os.Stat(s.Store); err != nil {
		return // the store is not here
	}
	took, err := fsyncTimes(filepath.Dir(s.Store), 20)
	switch {
	case err != nil:
		d.add("disk", "fail", fmt.Sprintf("the directory of %s can't be written: %v", s.Store, err), "free space, or give the server's user the right to write there")
	case took > slowFsync:
		d.add("disk", "warn", fmt.Sprintf("an fsync beside %s takes %s: each commit waits for one", s.Store, millis(took)), "put the store on a local SSD", "measure: "+d.a.self+" bench --dir "+shellQuote(filepath.Dir(s.Store)))
	default:
		d.add("disk", "ok", fmt.Sprintf("an fsync beside %s takes %s", s.Store, millis(took)))
	}
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1fms", ms(d)) }

// server checks what a client can see of the server.
func (d *doctor) server(ctx context.Context) {
	a := d.a
	health, err := a.client.Health(ctx)
	if err != nil {
		err = a.explain(err, "RUN")
		d.add("server", "fail", err.Error(), nextOf(err)...)
		return
	}
	answer := a.last
	d.add("server", "ok", fmt.Sprintf("answers at %s in %s", a.client.Address(), millis(answer.took)))
	if own := versionsOf().Version; health.Version != "" && health.Version != own {
		d.add("version", "warn", fmt.Sprintf("the server is %s, this program %s", health.Version, own), "use the program of the server's version")
	} else {
		d.add("version", "ok", "server and program are "+own)
	}
	d.clock(answer)
	if _, err := a.client.Ready(ctx); err != nil {
		d.add("store", "fail", err.Error(), "look into the server's log")
	} else {
		d.add("store", "ok", "the engine runs and its store answers")
	}
	switch stats, err := a.client.Stats(ctx); {
	case err != nil:
		err = a.explain(err, "RUN")
		d.add("workers", "fail", err.Error(), nextOf(err)...)
		return // the others would say the same
	case stats.Workers == 0:
		d.add("workers", "fail", "no worker is alive: nothing moves", "start one: a server, or your own program with the workflows")
	default:
		d.add("workers", "ok", fmt.Sprintf("%d alive", stats.Workers))
	}
	d.runs(ctx)
}

func (d *doctor) clock(answer answered) {
	if answer.at.IsZero() {
		return
	}
	skew := answer.at.Sub(answer.sent.Add(answer.took / 2).Truncate(time.Second))
	if skew.Abs() > skewWarn {
		d.add("clock", "warn", fmt.Sprintf("the server's clock is %s apart from this machine's", skew.Abs()), "set both clocks by NTP: signatures and deadlines depend on them")
		return
	}
	d.add("clock", "ok", "server and this machine agree")
}

// runs looks for runs that nobody seems to move.
func (d *doctor) runs(ctx context.Context) {
	a := d.a
	late := func(run pawl.RunInfo) bool {
		if run.State == pawl.Waiting {
			return !run.Due.IsZero() && time.Since(run.Due) > overdue
		}
		begun := run.Updated
		if run.NotBefore.After(begun) {
			begun = run.NotBefore
		}
		return run.Gate == "" && time.Since(begun) > overdue
	}
	for _, c := range []struct {
		check, what string
		states      []pawl.State
		bad         func(pawl.RunInfo) bool
		next        []string
	}{
		{"ready", "ready that nobody takes", []pawl.State{pawl.Pending}, late,
			[]string{"see that a process with these workflows runs: " + a.hint("workflows list"), "see one: " + a.hint("runs list --state pending")}},
		{"timers", "waiting for a time that is over", []pawl.State{pawl.Waiting}, late,
			[]string{"see that a process with these workflows runs: " + a.hint("workflows list"), "see one: " + a.hint("runs list --state waiting -o wide")}},
		{"blocked", "blocked", []pawl.State{pawl.Blocked}, func(pawl.RunInfo) bool { return true },
			[]string{"see why: " + a.hint("runs list --state blocked"), "when the cause is mended: " + a.hint("runs retry --state blocked")}},
	} {
		n, all, err := a.count(ctx, c.states, c.bad)
		switch {
		case err != nil:
			err = a.explain(err, "RUN")
			d.add(c.check, "fail", err.Error(), nextOf(err)...)
			return // the next would be the same
		case n > 0:
			d.add(c.check, "fail", fmt.Sprintf("%s %s", runsOf(n), c.what), c.next...)
		case !all:
			d.add(c.check, "ok", fmt.Sprintf("none of the newest %d runs %s", searched, c.what))
		default:
			d.add(c.check, "ok", "no runs "+c.what)
		}
	}
}

// count counts runs of which bad is true, among the newest. all: there are no others.
func (a *app) count(ctx context.Context, states []pawl.State, bad func(pawl.RunInfo) bool) (n int, all bool, err error) {
	q := api.RunQuery{States: states, Limit: 500}
	for range searched / q.Limit {
		page, err := a.client.Runs(ctx, q)
		if err != nil {
			return n, false, err
		}
		for _, run := range page.Items {
			if bad(run) {
				n++
			}
		}
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			return n, true, nil
		}
	}
	return n, false, nil
}

func (d *doctor) tell() error {
	a, failed := d.a, 0
	for _, f := range d.findings {
		if f.State == "fail" {
			failed++
		}
	}
	body, err := json.Marshal(map[string]any{"items": d.findings})
	if err != nil {
		return err
	}
	if err := a.show(view{body: body, of: finding{}, list: true, name: "check", table: func() {
		for _, f := range d.findings {
			mark := map[string]style{"ok": a.out.green("✓"), "warn": a.out.yellow("!"), "fail": a.out.red("✗")}[f.State]
			a.out.line("%s %-9s %s", mark, f.Check, f.Says)
			for _, next := range f.Next {
				a.out.line("            %s", style(clean(next)))
			}
		}
	}}); err != nil {
		return err
	}
	switch failed {
	case 0:
		return nil
	case 1:
		return &exitError{code: exitFailure, err: errors.New("1 check failed")}
	}
	return &exitError{code: exitFailure, err: fmt.Errorf("%d checks failed", failed)}
}
