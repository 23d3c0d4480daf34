package flow_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/trigger"
	"github.com/pawlrun/pawl/trigger/dbchange"
)

// Rows of a database start runs of the flow's active version, and none when it has none.
func TestJ48_rowsOfADatabaseStartRunsOfTheActiveVersion(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		shop, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "shop.db")+"?_pragma=busy_timeout(30000)")
		if err != nil {
			t.Fatal(err)
		}
		defer shop.Close()
		exec := func(statement string) {
			t.Helper()
			if _, err := shop.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
		exec("CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, item TEXT)")
		exec("INSERT INTO orders (item) VALUES ('a')")
		c := dbchange.Connection{DB: shop, Dialect: dbchange.SQLite}
		if err := (dbchange.Outbox{Table: "orders"}).Install(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		runner := dbchange.Runner{Engine: s.Engine, Poll: 50 * time.Millisecond, Connect: func(context.Context, string) (dbchange.Connection, error) { return c, nil }}
		go func() { ended <- runner.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		const query = `{"type": "database-change", "dsn": "shop", "query": "SELECT id, item FROM orders WHERE id > $1", "cursor": "id", "existing": true, "pollIntervalMs": 100}`
		const table = `{"type": "database-change", "dsn": "shop", "table": "orders", "operations": ["update"], "pollIntervalMs": 100}`
		s.deploys(t, triggered("f", "one", query+","+table))
		sources := dbchange.Sources{Engine: s.Engine}
		wait := func(what string, f func() bool) {
			t.Helper()
			for end := time.Now().Add(time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("it does not happen: %s", what)
				}
			}
		}
		wait("both are watched", func() bool {
			for _, id := range []string{"flow:f:0", "flow:f:1"} {
				if st, err := sources.Status(t.Context(), "", id); err != nil || st.LastPoll.IsZero() {
					return false
				}
			}
			return true
		})
		exec("UPDATE orders SET item = 'b'")
		var runs []pawl.RunInfo
		wait("two runs", func() bool {
			runs, err = s.Engine.List(t.Context(), pawl.Filter{Workflow: "f", States: []pawl.State{pawl.Completed}})
			if err != nil {
				t.Fatal(err)
			}
			return len(runs) == 2
		})
		for _, run := range runs {
			_, result, err := s.Wait(t.Context(), "", run.ID)
			if err != nil {
				t.Fatal(err)
			}
			want := `"changeRecord":{"id":1,"item":"a"}`
			if run.Attrs[trigger.TriggerAttribute] == "flow:f:1" {
				want = `"previousRecord":{"id":1,"item":"a"}`
			}
			if !strings.Contains(string(result.Data), want) {
				t.Errorf("run %s has %s, want %s", run.ID, result.Data, want)
			}
		}
		s.deploys(t, triggered("f", "two", query+","+table)) // it goes on where it is
		exec("INSERT INTO orders (item) VALUES ('c')")
		wait("a third run", func() bool { return len(s.runs(t, "", "f")) >= 3 })
		byVersion := map[string]int{}
		for _, run := range s.runs(t, "", "f") {
			byVersion[run.Version]++
			s.result(t, "", run.ID)
		}
		equal(t, "runs by version", fmt.Sprint(byVersion), "map[1:2 2:1]")
		if _, err := s.Deactivate(t.Context(), "", "f", "ann", 0); err != nil {
			t.Fatal(err)
		}
		if left, err := sources.List(t.Context(), "", "", 0); err != nil || len(left) != 0 {
			t.Errorf("of a flow without an active version there is %+v, %v", left, err)
		}
		fired, err := s.Fire(t.Context(), "", "f", 0, trigger.Sample{Data: json.RawMessage(`{"id": 7}`)}, true)
		if err != nil || !fired.Matched || string(fired.Variables) != `{"changeRecord":{"id":7}}` {
			t.Errorf("a sample: %+v, %v", fired, err)
		}
	})
}

func TestAFaultyDatabaseTriggerIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"type": "database-change", "dsn": "shop"}`:                                                                            "exactly one of query and table",
		`{"type": "database-change", "dsn": "shop", "query": "SELECT id FROM o", "cursor": "id"}`:                               "does not name the cursor's value",
		`{"type": "database-change", "dsn": "shop", "query": "SELECT id FROM o WHERE id > $1"}`:                                 "name the column that grows",
		`{"type": "database-change", "dsn": "shop", "query": "SELECT 1 WHERE 1 > $1", "cursor": "x", "operations": ["insert"]}`: "operations belong to a table",
		`{"type": "database-change", "dsn": "shop", "table": "a.b.c"}`:                                                          "SCHEMA.NAME",
		`{"type": "database-change", "dsn": "postgres://u:p@h/d", "table": "a"}`:                                                "does not stand in a flow",
		`{"type": "database-change", "table": "a"}`:                                                                             `"dsn" is missing`,
	} {
		_, err := flow.Parse([]byte(triggered("f", "one", text)), world())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// A deployment looks whether the database can be watched: what can't be is refused, with its place; a database that does not
// answer is warned of.
func TestADeploymentLooksAtTheDatabasesThatStartRuns(t *testing.T) {
	shop, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "shop.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shop.Close() }) // behind the parallel tests
	if _, err := shop.Exec("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)"); err != nil {
		t.Fatal(err)
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt := options(t, &desk{})
		opt.Databases = func(_ context.Context, name string) (dbchange.Connection, error) {
			switch name {
			case "shop":
				return dbchange.Connection{DB: shop, Dialect: dbchange.SQLite}, nil
			case "down":
				return dbchange.Connection{}, errors.New("connection refused")
			}
			return dbchange.Connection{}, fmt.Errorf("%w: there is no database %q", pawl.ErrNotFound, name)
		}
		s := serve(t, open(), opt)
		watching := func(config string) string { return triggered("f", "one", `{"type": "database-change", `+config+`}`) }
		for config, want := range map[string]string{
			`"dsn": "shop", "query": "SELECT id, item FROM orders WHERE id > $1", "cursor": "id"`:  "",
			`"dsn": "shop", "query": "SELECT id, itm FROM orders WHERE id > $1", "cursor": "id"`:   "no such column: itm",
			`"dsn": "shop", "query": "SELECT id, item FROM orders WHERE id > $1", "cursor": "ids"`: "ids",
			`"dsn": "shop", "table": "orders"`:                                                     "install-outbox",
			`"dsn": "shp", "table": "orders"`:                                                      `there is no database "shp"`,
		} {
			_, err := s.Try(t.Context(), flow.Deployment{Document: []byte(watching(config))})
			var found flow.Problems
			switch {
			case want == "" && err == nil:
			case want == "" || !errors.As(err, &found) || len(found.Faults()) != 1 || !strings.Contains(found[0].Message, want) || strings.Contains(found[0].Message, "pawl: ") || found[0].Pointer != "/triggers/0":
				t.Errorf("%s: %v, want %q", config, err, want)
			}
		}
		done, err := s.Deploy(t.Context(), flow.Deployment{Document: []byte(watching(`"dsn": "down", "table": "orders"`))})
		if err != nil || !strings.Contains(done.Warnings.Error(), "connection refused") {
			t.Errorf("%+v, %v", done.Warnings, err)
		}
	})
}
