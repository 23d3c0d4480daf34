package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/internal/spelling"
	"github.com/spf13/cobra"
)

func (a *app) checkCommand() *cobra.Command {
	var store, workflow, secretFile string
	cmd := &cobra.Command{
		Use: "check", Short: "See whether this program's workflows fit the runs under way",
		Long: `Replay the journals of all runs that have not ended with the workflows of this program, before
it takes their traffic: no step is run, nothing is written. The exit code is 1 if a run would
be blocked. The store is read directly, so a SQLite file must not be in use by a server.

Hooks need the secret of the server that made them, from --secret-file, PAWL_SECRET,
PAWL_SECRET_FILE, or the file beside the store. Without it all but the hooks' tokens is checked.

This program has the example workflows. For your own, call Engine.Check in your program.`,
		Example: a.examples("check", "check --store postgres://db.example.com/pawl -o jsonl"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.check(cmd.Context(), store, secretFile, workflow) },
	}
	cmd.Flags().StringVar(&store, "store", "./pawl.db", "where the runs are kept: a file, or a postgres:// URL")
	cmd.Flags().StringVar(&secretFile, "secret-file", "", "file with the secret that tokens and links are made of (default beside the store)")
	cmd.Flags().StringVar(&workflow, "workflow", "", "only runs of this workflow")
	return cmd
}

func (a *app) check(ctx context.Context, where, secretFile, workflow string) (err error) {
	if !strings.Contains(where, "://") {
		if _, err := os.Stat(where); err != nil {
			return a.usage("--store: %w", err) // it would be made
		}
	}
	secret, err := a.checkSecret(where, secretFile)
	if err != nil {
		return err
	}
	store, err := a.openStore(ctx, where)
	if err != nil {
		return err
	}
	engine := pawl.New(store, &pawl.Options{Secret: secret})
	defer func() { err = errors.Join(err, engine.Close(), store.Close()) }()
	if err := engine.Register(exampleWorkflows(demo.Scripted(demo.Paced(time.Millisecond)))...); err != nil {
		return err
	}
	s := defaultSettings()
	if err := a.envSettings(&s, map[string]string{}); err != nil {
		return err
	}
	services, err := a.servicesBeside(s, nil, flowsHere())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, services.close()) }()
	flows, err := a.flows(ctx, engine, services, scriptedModels(0))
	if err != nil {
		return err
	}
	if _, err := a.drafts(engine, flows, scriptedModels(0)); err != nil {
		return err
	}
	list := struct {
		Items []pawl.Check `json:"items"`
	}{[]pawl.Check{}}
	bad, bare := 0, 0
	for c, err := range engine.Check(ctx, pawl.Filter{Workflow: workflow}) {
		if err != nil {
			return err
		}
		switch {
		case c.NoSecret:
			bare++
		case c.Diverged != "":
			bad++
		}
		list.Items = append(list.Items, c)
	}
	if known := engine.Workflows(); workflow != "" && len(list.Items) == 0 && !slices.Contains(known, workflow) {
		return a.usage("--workflow: this program has no workflow %q, and no run under way is of one; %s", workflow, spelling.Choice(workflow, known))
	}
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := a.show(view{body: body, of: pawl.Check{}, list: true, table: func() { a.checkTable(list.Items) }}); err != nil {
		return err
	}
	if bare > 0 {
		a.note("no secret is given, so tokens of hooks were not checked (runs with some: %d): give --secret-file, PAWL_SECRET or PAWL_SECRET_FILE, as to the server", bare)
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

// checkSecret is the secret that dev and serve would use for a store. None is made; nil: there is none.
func (a *app) checkSecret(store, file string) ([]byte, error) {
	s := defaultSettings()
	if err := a.envSettings(&s, map[string]string{}); err != nil {
		return nil, err
	}
	if file != "" {
		s.Secret, s.SecretFile = "", file
	}
	if s.Store = store; s.Secret == "" && s.SecretFile == "" {
		file = store + ".secret"
		if strings.Contains(store, "://") {
			file = "pawl.secret" // where dev keeps it
		}
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		s.SecretFile = file
	} else if s.Secret == "" {
		if _, err := os.Stat(s.SecretFile); err != nil {
			return nil, a.usage("the secret: %w", err) // it would be made
		}
	}
	return a.secret(s)
}

// checkTable shows what does not fit, and what the code has not asked for when it comes to something new.
func (a *app) checkTable(checks []pawl.Check) {
	fits := 0
	var rows [][]any
	for _, c := range checks {
		switch {
		case c.Diverged != "" && !c.NoSecret:
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
