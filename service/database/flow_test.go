//go:build unix

package database_test

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/service/database"
	"github.com/pawlrun/pawl/sqlite"
)

// The page tells the table that Once needs as it is.
func TestThePageTellsTheTable(t *testing.T) {
	page, err := os.ReadFile("../../docs/services.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), database.CallsTable) {
		t.Error("the page has another table of calls")
	}
}

// Each connection has a circuit of its own: a database that is down keeps nobody from another one.
func TestEachConnectionIsAPlaceOfItsOwn(t *testing.T) {
	dsn, _ := openFile(t)
	s := with(t, database.Options{Connections: map[string]database.Connection{"a": {DSN: dsn}, "b": {DSN: dsn}}})
	for params, want := range map[string]string{`{"connection": "a", "query": "SELECT 1"}`: "a", `{"connection": "b"}`: "b", `{"query": "SELECT 1"}`: "", `[`: "", `{"connection": "other"}`: ""} {
		equal(t, params, s.Endpoint(service.Call{Params: json.RawMessage(params)}), want)
	}
}

// TestJ14_aFlowBindsValues: what a flow fills in is bound with its type, and never put into the text of a statement.
func TestJ14_aFlowBindsValues(t *testing.T) {
	dsn, db := openFile(t)
	run(t, db, "CREATE TABLE t (n integer, name text)")
	services := service.Set{"db": open(t, database.Connection{DSN: dsn})}
	parse := func(config string) (*flow.Flow, error) {
		return flow.Parse([]byte(`{"id": "f", "steps": [{"id": "w", "type": "service", "config": `+config+`, "next": "r", "retryPolicy": {"maxAttempts": 1}},
			{"id": "r", "type": "service", "config": {"service": "db", "query": "SELECT n, typeof(n) AS kind, name FROM t"}, "next": "end"}]}`), flow.World{Services: services})
	}
	for config, word := range map[string]string{
		`{"service": "db", "action": "execute", "query": "INSERT INTO t VALUES ('{{variables.n}}')"}`:  "takes no templates",
		`{"service": "db", "action": "execute", "connection": "other", "query": "DELETE FROM t"}`:      "connection",
		`{"service": "db", "action": "execute", "connection": "{{variables.c}}", "query": "SELECT 1"}`: "takes no templates",
		`{"service": "db", "action": "drop", "query": "DROP TABLE t"}`:                                 "no action",
	} {
		if _, err := parse(config); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: got %v, want %q", config, err, word)
		}
	}
	for _, query := range []string{"SELECT {{variables.n}}", "SELECT '{{{{'", "SELECT {{?variables.n}}", "{{variables.query}}", "SELECT 1 -- ${{variables.n}}"} { // no place, not even the whole of it
		if _, err := parse(`{"service": "db", "query": "` + query + `"}`); err == nil || !strings.Contains(err.Error(), "query takes no templates") {
			t.Errorf("%s: got %v", query, err)
		}
	}
	f, err := parse(`{"service": "db", "action": "execute", "query": "INSERT INTO t VALUES (?, ?)", "values": ["{{variables.n}}", "{{variables.name}}"]}`)
	if err != nil {
		t.Fatal(err)
	}
	kinds, err := flow.Parse([]byte(`{"id": "kinds", "steps": [{"id": "a", "type": "service", "config": {"service": "db", "query": "SELECT typeof(?) AS n, typeof(?) AS f, typeof(?) AS yes, typeof(?) AS none, typeof(?) AS text, ? AS o, ? AS mixed",
		"values": ["{{variables.n}}", "{{variables.f}}", "{{variables.yes}}", "{{variables.none}}", "{{variables.text}}", "{{variables.o}}", "n={{variables.n}}"]}, "next": "end"}]}`), flow.World{Services: services})
	if err != nil {
		t.Fatal(err)
	}
	w, k := flow.Define(f, flow.Options{Services: services}), flow.Define(kinds, flow.Options{Services: services})
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	engine := pawl.New(store, &pawl.Options{Poll: 20 * time.Millisecond})
	if err := engine.Register(w, k); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	result := func(variables string, w ...*pawl.Workflow[flow.Variables, json.RawMessage]) (json.RawMessage, error) {
		var in flow.Variables
		if err := json.Unmarshal([]byte(variables), &in); err != nil {
			t.Fatal(err)
		}
		r, err := w[0].Start(ctx, engine, in)
		if err != nil {
			t.Fatal(err)
		}
		return r.Result(ctx)
	}
	out, err := result(`{"n": 9007199254740993, "name": "'); DROP TABLE t; -- {{variables.n}}"}`, w)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "result", string(out), `{"columns":["n","kind","name"],"rowCount":1,"rows":[{"kind":"integer","n":9007199254740993,"name":"'); DROP TABLE t; -- {{variables.n}}"}]}`)
	if _, err := result(`{"n": 1}`, w); err == nil || !strings.Contains(err.Error(), "variables.name") {
		t.Errorf("what is missing was bound: %v", err)
	}
	equal(t, "rows", count(t, db, "SELECT count(*) FROM t"), 1)
	out, err = result(`{"n": 7, "f": 0.5, "yes": true, "none": null, "text": "7", "o": {"a": [1]}}`, k)
	if err != nil || !strings.Contains(string(out), `{"f":"real","mixed":"n=7","n":"integer","none":"null","o":"{\"a\":[1]}","text":"text","yes":"integer"}`) {
		t.Errorf("the kinds are %s, %v", out, err)
	}
}
