package main

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/storetest/pgtest"
	"github.com/pawlrun/pawl/trigger/dbchange"
)

// Names of a database's columns are whatever its people have chosen: a plan with one that a terminal would obey is not shown.
func TestAPlanCommandsNoTerminal(t *testing.T) {
	t.Chdir(t.TempDir())
	shop, err := sql.Open("sqlite", "shop.db")
	if err != nil {
		t.Fatal(err)
	}
	defer shop.Close()
	if _, err := shop.Exec("CREATE TABLE good (id integer, item text); CREATE TABLE bad (id integer, \"it\x1b[2Jem\" text)"); err != nil {
		t.Fatal(err)
	}
	env := environment{"PAWL_DATABASES": "{shop: 'sqlite:shop.db'}"}
	pawlWith(t, env, "", "databases", "plan", "shop", "good").want(t, 0, "CREATE TRIGGER")
	if got := pawlWith(t, env, "", "databases", "plan", "shop", "bad"); strings.Contains(got.stdout+got.stderr, "\x1b[2J") {
		t.Errorf("%q", got.stdout+got.stderr)
	} else {
		got.want(t, 1, "install-outbox")
	}
}

// A row of a database that the settings name comes to its workflow on "pawl serve", by an outbox that the command line made.
func TestAChangeOfADatabaseComesToItsWorkflow(t *testing.T) {
	t.Chdir(t.TempDir())
	storeURL := pgtest.URL(t)
	for name, at := range map[string]struct{ driver, dsn, open string }{
		"postgres": {driver: "pgx", dsn: pgtest.URL(t)},
		"sqlite":   {driver: "sqlite", dsn: "sqlite:" + filepath.Join(t.TempDir(), "a shop?.db")},
	} {
		t.Run(name, func(t *testing.T) {
			open := at.dsn
			if path, is := strings.CutPrefix(at.dsn, "sqlite:"); is {
				open = "file:" + strings.NewReplacer(" ", "%20", "?", "%3F").Replace(path)
			}
			shop, err := sql.Open(at.driver, open)
			if err != nil {
				t.Fatal(err)
			}
			defer shop.Close()
			if _, err := shop.Exec("CREATE TABLE orders (id integer PRIMARY KEY, item text)"); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "pawl.yaml")
			dsn := filepath.Join(t.TempDir(), "dsn")
			if err := os.WriteFile(dsn, []byte(at.dsn+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte("databases: {shop: {dsnFile: "+dsn+"}}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			env := environment{"PAWL_CONFIG": file, "PAWL_SECRET": strings.Repeat("s", 32)}
			pawlWith(t, env, "", "databases", "list").want(t, 0, "shop", dsn)
			pawlWith(t, env, "", "databases", "plan", "shop", "orders").want(t, 0, "CREATE TRIGGER")
			pawlWith(t, env, "", "databases", "install-outbox", "shop", "orders", "--operation", "insert").want(t, 0)
			pawlWith(t, env, "", "databases", "install-outbox", "ship", "orders").want(t, 3, `did you mean "shop"?`)
			pawlWith(t, env, "", "databases", "install-outbox", "shop", "nothing").want(t, 3, "there is no table")
			pawlWith(t, env, "", "databases", "install-outbox", "shop", "orders", "--operation", "look").want(t, 2, "look")

			store, err := postgres.Open(t.Context(), storeURL, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			e := pawl.New(store, nil)
			defer e.Close()
			if err := e.Register(exampleWorkflows(demo.Scripted(demo.Paced(0)))...); err != nil {
				t.Fatal(err)
			}
			sources := dbchange.Sources{Engine: e}
			if _, err := sources.Put(t.Context(), dbchange.Source{ID: name, Workflow: "webhook-demo", Connection: "shop", Table: "orders", Interval: 50 * time.Millisecond}); err != nil {
				t.Fatal(err)
			}
			_, stop := serving(t, env, "--store", storeURL)
			var st dbchange.Status
			wait := func(what string, f func() bool) {
				t.Helper()
				for end := time.Now().Add(time.Minute); !f(); time.Sleep(50 * time.Millisecond) {
					if st, err = sources.Status(t.Context(), "", name); err != nil || time.Now().After(end) {
						t.Fatalf("%s does not happen: %+v, %v", what, st, err)
					}
				}
			}
			wait("a look", func() bool { return !st.LastPoll.IsZero() })
			for i := range 3 {
				if _, err := shop.Exec(fmt.Sprintf("INSERT INTO orders VALUES (%d, 'tea')", i)); err != nil {
					t.Fatal(err)
				}
			}
			// The server has examples only, and this one takes no rows: each is refused by its own check.
			wait("the end of three rows", func() bool { return st.Rows+st.Refused == 3 })
			if !strings.Contains(st.LastRefused, "changeRecord") {
				t.Errorf("%+v", st)
			}
			if out := stop(); strings.Contains(out.stderr, "panic") {
				t.Error(out.stderr)
			}
			pawlWith(t, env, "", "databases", "uninstall", "shop", "orders").want(t, 0)
			if _, err := shop.Exec("SELECT count(*) FROM pawl_outbox"); err == nil {
				t.Error("the outbox is still there")
			}
		})
	}
}

func TestSettingsOfDatabasesShowNoPassword(t *testing.T) {
	env := environment{"PAWL_DATABASES": "{shop: 'postgres://u:hunter2@db/shop', lite: {dsn: 'sqlite:x.db'}}"}
	out := pawlWith(t, env, "", "config", "show").want(t, 0, "db/shop", "sqlite:x.db").stdout
	out += pawlWith(t, env, "", "databases", "list", "-o", "json").want(t, 0, "db/shop").stdout
	if strings.Contains(out, "hunter2") {
		t.Errorf("a password is shown: %s", out)
	}
	for value, want := range map[string]string{
		"{shop: {}}":              "give one of dsn and dsnFile",
		"{'a b': 'sqlite:x'}":     "the name",
		"{shop: 'oracle://x/y'}":  "begins with",
		"[1]":                     "are written as",
		"{shop: {dns: x}}":        "are written as",
		"{shop: {dsnFile: gone}}": "gone",
	} {
		pawlWith(t, environment{"PAWL_DATABASES": value}, "", "config", "show").want(t, 2, want)
	}
}
