package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/trigger/dbchange"
	"github.com/spf13/cobra"
)

func (a *app) databasesCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "databases", Aliases: []string{"database"}, Short: "Prepare databases whose changes start runs",
		Long: `Prepare databases whose changes start runs. Triggers of the type database-change with a table need an outbox
there: triggers of the database that write down what changes. Those with a query need nothing.

The databases are those of the settings: see "config show".`,
		Example: a.examples("databases list --config pawl.yaml", "databases plan shop orders --config pawl.yaml"),
	}, a.databasesListCommand(),
		a.outboxCommand("plan", "Show what install-outbox would do",
			"Show the statements of install-outbox, for whoever has the rights to run them. Nothing is changed.", dbchange.Outbox.Plan, false),
		a.outboxCommand("install-outbox", "Have a table's changes written down",
			`Make the tables pawl_outbox and pawl_outbox_readers beside a table, and triggers on it that write down what changes, in
the same transaction, while there is a source that asks for it. Again, it makes what is missing, and drops the
triggers of operations that are not named. It takes a role that owns the table and may create tables in its
schema; those who write the table need no further rights.`, dbchange.Outbox.Plan, true),
		a.outboxCommand("uninstall", "Undo install-outbox",
			`Drop the triggers of a table, and the outbox when no other table needs it. Changes that were not taken yet start no
run. What is not there is not an error.`, dbchange.Outbox.PlanUninstall, true))
}

func (a *app) databasesListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the databases of the settings",
		Long:    `List the databases of the settings, without passwords.`,
		Example: a.examples("databases list", "databases list --config pawl.yaml -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, _, err := a.settings(cmd.Flags())
			if err != nil {
				return err
			}
			type shown struct {
				Name string `json:"name"`
				At   string `json:"at"`
			}
			items := []shown{}
			for _, name := range slices.Sorted(maps.Keys(s.Databases)) {
				one := s.Databases[name]
				at := one.DSNFile
				if at == "" {
					at = shownURL(one.DSN)
				}
				items = append(items, shown{name, at})
			}
			body, err := json.Marshal(map[string]any{"items": items})
			if err != nil {
				return err
			}
			return a.show(view{body: body, of: shown{}, list: true, name: "name", table: func() {
				if len(items) == 0 {
					a.note("no databases; name them in the file of settings: databases: {NAME: {dsnFile: FILE}}")
					return
				}
				var rows [][]any
				for _, one := range items {
					rows = append(rows, []any{one.Name, one.At})
				}
				a.table(columns{"NAME", "AT"}, rows)
			}})
		},
	}
	cmd.Flags().String("config", "", "file with settings, YAML (default $PAWL_CONFIG, or none)")
	return cmd
}

// outboxCommand is a command about one table of one database.
func (a *app) outboxCommand(name, short, long string, plan func(dbchange.Outbox, context.Context, dbchange.Connection) ([]string, error), do bool) *cobra.Command {
	var operations []string
	var o dbchange.Outbox
	cmd := &cobra.Command{
		Use: name + " DATABASE TABLE", Short: short, Long: long,
		Example: a.examples("databases "+name+" shop orders --config pawl.yaml", "databases "+name+" shop sales.orders"),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("%s needs the name of a DATABASE of the settings, and a TABLE, such as orders or sales.orders", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			s, _, err := a.settings(cmd.Flags())
			if err != nil {
				return err
			}
			dsns, err := s.Databases.read()
			if err != nil {
				return a.usage("%w", err)
			}
			all := &watchedDatabases{dsns: dsns}
			defer func() { err = errors.Join(err, all.close()) }()
			c, err := all.connect(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			o.Table = args[1]
			for _, op := range operations {
				o.Operations = append(o.Operations, dbchange.Operation(op))
			}
			statements, err := plan(o, cmd.Context(), c)
			if errors.Is(err, pawl.ErrInput) {
				return a.usage("%w", err)
			}
			if err != nil {
				return err
			}
			switch {
			case !do:
				for _, statement := range statements {
					if clean(statement) != statement { // without them it would be another statement
						return errors.New("a name in the statements has signs that a terminal obeys, so they are not shown: install-outbox carries them out")
					}
				}
				for _, statement := range statements {
					a.out.line("%s;", strings.TrimSuffix(statement, ";"))
				}
				return nil
			case name == "uninstall":
				if err := o.Uninstall(cmd.Context(), c); err != nil {
					return err
				}
				a.note("table %s of database %s is watched by no triggers of pawl any more", o.Table, args[0])
				return nil
			}
			if err := o.Install(cmd.Context(), c); err != nil {
				return err
			}
			a.note("changes of table %s in database %s are written down for sources that ask for them", o.Table, args[0])
			return nil
		},
	}
	flags := cmd.Flags()
	flags.String("config", "", "file with settings, YAML (default $PAWL_CONFIG, or none)")
	if name != "uninstall" {
		flags.StringSliceVar(&operations, "operation", nil, "insert, update or delete; repeatable (default all)")
		flags.BoolVar(&o.Quiet, "quiet-triggers", false, "without NOTIFY, which has commits to the table wait for each other")
		a.complete(cmd, "operation", "insert", "update", "delete")
	}
	return cmd
}
