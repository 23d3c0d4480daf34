package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/spf13/cobra"
)

func (a *app) checkCommand() *cobra.Command {
	var store, workflow string
	cmd := &cobra.Command{
		Use: "check", Short: "See whether this program's workflows fit the runs under way",
		Long: `Replay the journals of all runs that have not ended with the workflows of this program, before
it takes their traffic: no step is run, nothing is written. The exit code is 1 if a run would
be blocked. The store is read directly, so a SQLite file must not be in use by a server.

This program has the example workflows. For your own, call Engine.Check in your program.`,
		Example: a.examples("check", "check --store postgres://db.example.com/pawl -o jsonl"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.check(cmd.Context(), store, workflow) },
	}
	cmd.Flags().StringVar(&store, "store", "./pawl.db", "where the runs are kept: a file, or a postgres:// URL")
	cmd.Flags().StringVar(&workflow, "workflow", "", "only runs of this workflow")
	return cmd
}

func (a *app) check(ctx context.Context, where, workflow string) (err error) {
	if !strings.Contains(where, "://") {
		if _, err := os.Stat(where); err != nil {
			return a.usage("--store: %w", err) // it would be made
		}
	}
	store, err := a.openStore(ctx, where)
	if err != nil {
		return err
	}
	engine := pawl.New(store, nil)
	defer func() { err = errors.Join(err, engine.Close(), store.Close()) }()
	if err := engine.Register(exampleWorkflows(demo.Scripted(demo.Paced(time.Millisecond)))...); err != nil {
		return err
	}
	list := struct {
		Items []pawl.Check `json:"items"`
	}{[]pawl.Check{}}
	bad := 0
	for c, err := range engine.Check(ctx, pawl.Filter{Workflow: workflow}) {
		if err != nil {
			return err
		}
		if c.Diverged != "" {
			bad++
		}
		list.Items = append(list.Items, c)
	}
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := a.show(view{body: body, of: pawl.Check{}, list: true, table: func() { a.checkTable(list.Items) }}); err != nil {
		return err
	}
	switch {
	case bad == 1:
		err = errors.New("1 run does not fit")
	case bad > 1:
		err = fmt.Errorf("%d runs do not fit", bad)
	default:
		return nil
	}
	return &exitError{exitFailure, err, []string{"keep the old program for them, or let the code ask Context.Version which way to go"}}
}

// checkTable shows what does not fit, and what the code has not asked for when it comes to something new.
func (a *app) checkTable(checks []pawl.Check) {
	fits := 0
	var rows [][]any
	for _, c := range checks {
		switch {
		case c.Diverged != "":
			rows = append(rows, []any{c.Run.ID, c.Run.Workflow, a.out.red("blocks"), c.Diverged})
		case len(c.Drift) > 0:
			rows = append(rows, []any{c.Run.ID, c.Run.Workflow, a.out.yellow("drifts"), "not asked for before something new: " + strings.Join(c.Drift, ", ")})
			fallthrough
		default:
			fits++
		}
	}
	if rows != nil {
		a.table(columns{"RUN", "WORKFLOW", "WOULD", "WHY"}, rows)
	}
	if fits == 1 {
		a.out.line("1 run fits")
	} else {
		a.out.line("%d runs fit", fits)
	}
}
