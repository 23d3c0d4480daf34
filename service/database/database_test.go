//go:build unix

package database_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/service/database"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

func TestValuesKeepTheirTypes(t *testing.T) {
	each(t, func(t *testing.T, k kind, dsn string, db *sql.DB) {
		s := open(t, database.Connection{DSN: dsn})
		table, want := "", ""
		switch k.name {
		case "postgres":
			table = "CREATE TABLE v (i bigint, d numeric(30,4), f float8, b boolean, n text, t text, j jsonb, at timestamptz, day date, raw bytea)"
			want = `[{"i":9007199254740993,"d":12345678901234567890.1200,"f":0.1,"b":true,"n":null,"t":"a'b\\c\"\n☃","j":{"a": [1, "x"]},"at":"2026-01-02T03:04:05.678Z","day":"2026-01-02","raw":"AP8="}]`
		case "mariadb":
			table = "CREATE TABLE v (i bigint, d decimal(30,4), f double, b boolean, n text, t text, j json, at datetime(3), day date, raw varbinary(9))"
			want = `[{"i":9007199254740993,"d":12345678901234567890.1200,"f":0.1,"b":1,"n":null,"t":"a'b\\c\"\n☃","j":"{\"a\":[1,\"x\"]}","at":"2026-01-02T03:04:05.678Z","day":"2026-01-02","raw":"AP8="}]`
		case "sqlite":
			table = "CREATE TABLE v (i integer, d numeric, f real, b boolean, n text, t text, j text, at datetime, day date, raw blob)"
			want = `[{"i":9007199254740993,"d":"12345678901234567890.1200x","f":0.1,"b":1,"n":null,"t":"a'b\\c\"\n☃","j":"{\"a\":[1,\"x\"]}","at":"2026-01-02T03:04:05.678Z","day":"2026-01-02","raw":"AP8="}]`
		}
		run(t, db, table)
		decimal, at := any(json.Number("12345678901234567890.1200")), "2026-01-02 03:04:05.678"
		raw := map[string]string{"postgres": `'\x00ff'`, "mariadb": "x'00ff'", "sqlite": "x'00ff'"}[k.name]
		if k.name == "sqlite" {
			decimal = "12345678901234567890.1200x" // a number with so many digits is none of SQLite's
		}
		if k.name == "postgres" {
			at += "+00"
		}
		out, err := call(t, s, "execute", "k", k.q("INSERT INTO v VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, "+raw+")"),
			[]any{json.Number("9007199254740993"), decimal, 0.1, true, nil, "a'b\\c\"\n☃", map[string]any{"a": []any{1, "x"}}, at, "2026-01-02"})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "written", out.RowCount, 1)
		compact := strings.NewReplacer(`{"a": [1, "x"]}`, `{"a":[1,"x"]}`)
		equal(t, "rows", compact.Replace(rows(t, s, "SELECT * FROM v")), compact.Replace(want))
		equal(t, "found by values", rows(t, s, k.q("SELECT i FROM v WHERE i = ? AND f = ? AND t = ?"), json.Number("9007199254740993"), 0.1, "a'b\\c\"\n☃"), `[{"i":9007199254740993}]`)
		equal(t, "nothing found", rows(t, s, "SELECT i FROM v WHERE 1 = 0"), `[]`)
	})
}

// Further types of PostgreSQL, and values that JSON has no form for.
func TestTypesOfPostgres(t *testing.T) {
	dsn, _ := openPostgres(t)
	s := open(t, database.Connection{DSN: dsn})
	got := rows(t, s, `SELECT 'NaN'::float8 AS nan, 'Infinity'::numeric AS inf, 0.1::float4 AS small, 'infinity'::timestamptz AS ever, '2026-01-02 03:04:05'::timestamp AS local,
		'{1,2}'::int[] AS list, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS id, 32767::smallint AS n, '1 day'::interval AS span, 'null'::jsonb AS j, '1.50'::numeric AS price, 'x'::"char" AS c, '10.0.0.0/8'::cidr AS net`)
	equal(t, "rows", got, `[{"nan":"NaN","inf":"Infinity","small":0.1,"ever":"infinity","local":"2026-01-02T03:04:05Z","list":"{1,2}","id":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11","n":32767,"span":"1 day","j":null,"price":1.50,"c":"x","net":"10.0.0.0/8"}]`)
	equal(t, "values by context", rows(t, s, `SELECT $1::int + 1 AS a, $2 || 'x' AS b, $3::jsonb ->> 'k' AS c, $4::boolean AS d`, 5, "t", map[string]any{"k": "v"}, false), `[{"a":6,"b":"tx","c":"v","d":false}]`)
}

func TestAQueryCantWrite(t *testing.T) {
	statements := map[string][]string{
		"": {"INSERT INTO t VALUES (2)", "UPDATE t SET n = 2", "DELETE FROM t", "/* SELECT */ DELETE FROM t", "-- SELECT\nDELETE FROM t", "DROP TABLE t", "CREATE TABLE u (n int)",
			"BEGIN", "COMMIT", "SELECT 1; DELETE FROM t", "SELECT 1;;SELECT 2", ";", "", "SELECT 'a", "/*"},
		"postgres": {"WITH d AS (DELETE FROM t RETURNING n) SELECT * FROM d", "EXPLAIN ANALYZE DELETE FROM t", "SELECT nextval('s')", "SELECT wipe()", "SELECT n INTO u FROM t", "SELECT n FROM t FOR UPDATE",
			"SET TRANSACTION READ WRITE", "SELECT set_config('transaction_read_only', 'off', false), wipe()", "COPY t TO '/tmp/x'", "SELECT $$a"},
		"mariadb": {"WITH d AS (SELECT 1) DELETE FROM t", "SELECT n FROM t INTO OUTFILE '/tmp/pawl-outfile'", "SELECT /*! n INTO OUTFILE '/tmp/pawl-outfile' FROM */ t", "SELECT wipe()", "REPLACE INTO t VALUES (2)", "SELECT 1 # \n; DELETE FROM t", "CALL wipes()",
			"SELECT '\\'' ; DELETE FROM t -- '",
			// What is a comment, or quoted, depends on the server's sql_mode, and on control signs.
			`SELECT n, "a\" INTO OUTFILE '/tmp/pawl-outfile' FROM t -- "`, "SELECT n FROM t --\x7f'\nINTO OUTFILE '/tmp/pawl-outfile' -- '"},
		"sqlite": {"WITH d AS (SELECT 1) DELETE FROM t", "PRAGMA query_only = 0", "ATTACH 'x.db' AS x", "VACUUM", "VACUUM INTO 'x.db'", "REPLACE INTO t VALUES (2)", "SELECT [a;b]; DELETE FROM t", "SELECT load_extension('x')", "EXPLAIN SELECT 1; DELETE FROM t",
			"EXPLAIN PRAGMA query_only = 0", "explain query plan PRAGMA trusted_schema = 1", "EXPLAIN /**/ ATTACH 'x.db' AS x", "EXPLAIN", "EXPLAIN QUERY PLAN",
			"SELECT '\\'; DELETE FROM t --'"},
	}
	each(t, func(t *testing.T, k kind, dsn string, db *sql.DB) {
		run(t, db, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
		switch k.name {
		case "postgres":
			run(t, db, "CREATE SEQUENCE s", "CREATE FUNCTION wipe() RETURNS int LANGUAGE sql AS 'DELETE FROM t; SELECT 1'")
		case "mariadb":
			run(t, db, "CREATE FUNCTION wipe() RETURNS int MODIFIES SQL DATA BEGIN DELETE FROM t; RETURN 1; END", "CREATE PROCEDURE wipes() DELETE FROM t")
		}
		reads, s := with(t, database.Options{Connections: map[string]database.Connection{"main": {DSN: dsn}}}), open(t, database.Connection{DSN: dsn})
		for _, statement := range append(statements[""], statements[k.name]...) {
			_, err := call(t, reads, "query", "k", statement, nil)
			var e *service.Error
			if !errors.As(err, &e) || e.Code != service.Forbidden && e.Code != service.Invalid {
				t.Errorf("%s: got %v, want it refused", statement, err)
			}
		}
		equal(t, "rows", count(t, db, "SELECT count(*) FROM t WHERE n = 1"), 1)
		_, err := call(t, reads, "query", "k", "DELETE FROM t", nil)
		refused(t, "hint", err, service.Forbidden, "use the action execute")
		for _, statement := range append(statements[""], statements[k.name]...) { // where execute is allowed, query takes the six verbs of execute, and no more
			switch verb, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(statement, "/* SELECT */ "), "-- SELECT\n"), " "); verb {
			case "INSERT", "UPDATE", "DELETE", "REPLACE":
				continue
			}
			if _, err := call(t, s, "query", "k", statement, nil); err == nil {
				t.Errorf("%s: it is not refused where execute is allowed", statement)
			}
		}
		equal(t, "rows", count(t, db, "SELECT count(*) FROM t WHERE n = 1"), 1)
		written, err := call(t, s, "query", "k", "INSERT INTO t VALUES (5)", nil)
		if err != nil || written.RowCount != 1 {
			t.Errorf("a query that writes where execute is allowed: %+v, %v", written, err)
		}
		run(t, db, "DELETE FROM t WHERE n = 5")
		for _, statement := range []string{"DROP TABLE t", "BEGIN", "COMMIT", "SET x = 1", "PRAGMA query_only = 0", "ATTACH 'x' AS y", "CREATE TABLE u (n int)", "DELETE FROM t; DELETE FROM t"} {
			_, err := call(t, s, "execute", "k", statement, nil)
			var e *service.Error
			if !errors.As(err, &e) || !e.Fatal() {
				t.Errorf("execute %s: got %v, want it refused", statement, err)
			}
		}
		equal(t, "rows", count(t, db, "SELECT count(*) FROM t"), 1)
	})
}

// What is bound is a value, whatever is in it.
func TestNothingIsInjected(t *testing.T) {
	each(t, func(t *testing.T, k kind, dsn string, db *sql.DB) {
		run(t, db, "CREATE TABLE t (n varchar(200))")
		s := open(t, database.Connection{DSN: dsn})
		for _, text := range []string{`'; DROP TABLE t; --`, `\'; DROP TABLE t; --`, "\\", `"`, "$1", "?", "ʼ'＇", "-1", "1 OR 1=1", "%", "{{secrets.x}}", "\u2028", "%' OR '1'='1"} {
			if _, err := call(t, s, "execute", "k", k.q("INSERT INTO t VALUES (?)"), []any{text}); err != nil {
				t.Errorf("%q: %v", text, err)
			}
			var want strings.Builder
			e := json.NewEncoder(&want)
			e.SetEscapeHTML(true)
			if err := e.Encode(text); err != nil {
				t.Fatal(err)
			}
			equal(t, text, rows(t, s, k.q("SELECT n FROM t WHERE n = ?"), text), `[{"n":`+strings.TrimSpace(want.String())+`}]`)
		}
		equal(t, "rows", count(t, db, "SELECT count(*) FROM t"), 13)
	})
}

func TestLimits(t *testing.T) {
	slow := map[string]string{"postgres": "SELECT pg_sleep(60)", "mariadb": "SELECT SLEEP(60)", "sqlite": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) AS n FROM r"}
	each(t, func(t *testing.T, k kind, dsn string, db *sql.DB) {
		s := open(t, database.Connection{DSN: dsn})
		numbers := "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < ?) SELECT n FROM r"
		if k.name == "postgres" {
			numbers = "SELECT n FROM generate_series(1, $1::int) AS n"
		}
		out, err := call(t, s, "query", "k", numbers, []any{1000})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "rows", out.RowCount, 1000)
		_, err = call(t, s, "query", "k", numbers, []any{1001})
		if k.name == "mariadb" && err == nil { // which ends a recursion at 1,000 by itself
			_, err = call(t, s, "query", "k", numbers, []any{900}, `"maxRows": 899`)
		}
		refused(t, "rows", err, service.TooLarge, "maxRows")
		_, err = call(t, s, "query", "k", numbers, []any{100}, `"maxBytes": 500`)
		refused(t, "bytes", err, service.TooLarge, "maxBytes")
		_, err = call(t, s, "query", "k", k.q("SELECT ? AS x"), []any{strings.Repeat("x", 1<<20+1)})
		refused(t, "a value", err, service.Forbidden, "1048576")
		_, err = call(t, s, "query", "k", k.q("SELECT ? AS x"), []any{[]string{strings.Repeat("x", 1<<20)}})
		refused(t, "a value as JSON", err, service.Forbidden, "1048576")
		_, err = call(t, s, "query", "k", "SELECT 1 /*"+strings.Repeat("x", 1<<20)+"*/", nil)
		refused(t, "a statement", err, service.Forbidden, "1048576")
		list := make([]any, 17)
		for i := range list {
			list[i] = strings.Repeat("x", 1<<20)
		}
		_, err = call(t, s, "query", "k", "SELECT 1 AS x", list)
		if k.name == "sqlite" {
			refused(t, "values without places", err, service.Invalid, "0 places")
		} else {
			refused(t, "all values", err, service.Forbidden, "16777216")
		}
		_, err = call(t, s, "query", "k", "SELECT 1 AS a, 2 AS a", nil)
		refused(t, "a name twice", err, service.Invalid, "AS")
		_, err = call(t, s, "query", "k", "SELECT 1 AS a", nil, `"maxRows": 0`)
		refused(t, "a limit", err, service.Invalid, "maxRows")
		_, err = call(t, s, "query", "k", k.q("SELECT ? AS a"), nil)
		refused(t, "too few values", err, service.Invalid, "")
		_, err = call(t, s, "query", "k", "SELECT 1 AS a", []any{1})
		refused(t, "too many values", err, service.Invalid, "")
		_, err = call(t, s, "query", "k", slow[k.name], nil, `"timeoutMs": 300`)
		refused(t, "time", err, service.TimedOut, "within 300ms")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			data, _ := json.Marshal(map[string]any{"query": slow[k.name]})
			_, err := s.Call(ctx, service.Call{Params: data})
			ended <- err
		}()
		time.AfterFunc(200*time.Millisecond, cancel)
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: got %v", err)
			}
		case <-time.After(50 * time.Second):
			t.Fatal("the call goes on after its context ended")
		}
		equal(t, "afterwards", rows(t, s, "SELECT 1 AS a"), `[{"a":1}]`)
	})
}

// A result of which only the beginning is taken costs no more than that: nobody waits for a billion rows that nobody wants.
func TestTheRestOfALargeResultIsNotRead(t *testing.T) {
	endless := map[string]string{"postgres": "SELECT generate_series(1, 1000000000) AS n", "mariadb": "SELECT seq AS n FROM seq_1_to_1000000000", "sqlite": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r"}
	each(t, func(t *testing.T, k kind, dsn string, _ *sql.DB) {
		s := open(t, database.Connection{DSN: dsn, MaxOpen: 1})
		if k.name == "postgres" {
			endless[k.name] = "SELECT n FROM (SELECT generate_series(1, 1000000000) AS n) AS x"
		}
		for range 3 {
			began := time.Now()
			_, err := call(t, s, "query", "k", endless[k.name], nil, `"timeoutMs": 600000`, `"maxRows": 10`)
			refused(t, "rows", err, service.TooLarge, "maxRows")
			if took := time.Since(began); took > time.Minute {
				t.Errorf("it took %v", took)
			}
		}
		equal(t, "afterwards", rows(t, s, "SELECT 1 AS a"), `[{"a":1}]`)
	})
}

// A value that is larger than any result may be is not held in memory.
func TestAValueOfAnySizeIsRefused(t *testing.T) {
	huge := map[string]string{"postgres": "SELECT repeat('x', 50000000) AS x", "mariadb": "SELECT REPEAT('x', 100000000) AS x", "sqlite": "SELECT zeroblob(50000000) AS x"}
	each(t, func(t *testing.T, k kind, dsn string, db *sql.DB) {
		if k.name == "mariadb" {
			run(t, db, "SET GLOBAL max_allowed_packet = 268435456")
			defer run(t, db, "SET GLOBAL max_allowed_packet = 16777216")
		}
		s := open(t, database.Connection{DSN: dsn})
		_, err := call(t, s, "query", "k", huge[k.name], nil)
		refused(t, "a value", err, service.TooLarge, "")
		equal(t, "afterwards", rows(t, s, "SELECT 1 AS a"), `[{"a":1}]`)
	})
}

// Rows count that a statement finds, also where it changes nothing in them.
func TestWhatIsCounted(t *testing.T) {
	each(t, func(t *testing.T, k kind, dsn string, db *sql.DB) {
		run(t, db, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)")
		s := open(t, database.Connection{DSN: dsn})
		for statement, want := range map[string]int64{"UPDATE t SET n = 1 WHERE n = 1": 1, "UPDATE t SET n = n": 2, "DELETE FROM t WHERE n = 5": 0, "WITH x AS (SELECT 2 AS m) SELECT m FROM x": 1} {
			action := "execute"
			if strings.HasPrefix(statement, "WITH") {
				action = "query"
			}
			out, err := call(t, s, action, "k", statement, nil)
			if err != nil {
				t.Errorf("%s: %v", statement, err)
				continue
			}
			equal(t, statement, out.RowCount, want)
		}
	})
}

func TestARepeatedAttemptDoesNothingTwice(t *testing.T) {
	each(t, func(t *testing.T, k kind, dsn string, db *sql.DB) {
		s := open(t, database.Connection{DSN: dsn, Once: true, MaxOpen: 8})
		equal(t, "effect", s.Actions()[1].Effect, service.Once)
		run(t, db, "CREATE TABLE t (n int)")
		insert := k.q("INSERT INTO t VALUES (?)")
		_, err := call(t, s, "execute", "k", insert, []any{1})
		refused(t, "without its table", err, service.Invalid, "CREATE TABLE pawl_calls")
		ddl := database.CallsTable
		if k.name == "mariadb" {
			ddl = database.CallsTableMySQL
		}
		run(t, db, ddl)
		_, err = call(t, s, "execute", "", insert, []any{1})
		refused(t, "without a key", err, service.Invalid, "key")
		_, err = call(t, s, "execute", "failed", "INSERT INTO missing VALUES (1)", nil)
		refused(t, "that fails", err, service.Invalid, "missing")
		equal(t, "calls kept", count(t, db, "SELECT count(*) FROM pawl_calls"), 0)
		returning := insert
		if k.name != "mysql" {
			returning += " RETURNING n"
		}
		var all sync.WaitGroup
		results := make([]string, 12)
		for i := range results {
			all.Go(func() {
				for range 20 { // a lock that is waited for too long is worth another try
					out, err := call(t, s, "execute", "run/"+fmt.Sprint(i%3), returning, []any{i % 3})
					var e *service.Error
					if errors.As(err, &e) && !e.Fatal() {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					data, err := json.Marshal(out)
					if err != nil {
						t.Error(err)
					}
					results[i] = string(data)
					return
				}
			})
		}
		all.Wait()
		for i, got := range results {
			equal(t, "result", got, fmt.Sprintf(`{"rows":[{"n":%d}],"columns":["n"],"rowCount":1}`, i%3))
		}
		equal(t, "rows", count(t, db, "SELECT count(*) FROM t"), 3)
		equal(t, "calls kept", count(t, db, "SELECT count(*) FROM pawl_calls WHERE result IS NOT NULL"), 3)
		if _, err := call(t, s, "execute", "run/0", "DELETE FROM t", nil); err != nil {
			t.Error(err)
		}
		equal(t, "rows", count(t, db, "SELECT count(*) FROM t"), 3)
	})
}

func TestErrorsHaveTheirCodes(t *testing.T) {
	each(t, func(t *testing.T, k kind, dsn string, db *sql.DB) {
		run(t, db, "CREATE TABLE t (n int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
		s := open(t, database.Connection{DSN: dsn})
		_, err := call(t, s, "query", "k", "SELECT FROM WHERE", nil)
		refused(t, "syntax", err, service.Invalid, "syntax")
		_, err = call(t, s, "query", "k", "SELECT * FROM missing", nil)
		refused(t, "a table that is not there", err, service.Invalid, "missing")
		_, err = call(t, s, "execute", "k", "INSERT INTO t VALUES (1)", nil)
		refused(t, "a key twice", err, service.Invalid, "")
		held, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		wait := func(statements ...string) {
			t.Helper()
			for _, statement := range statements {
				if _, err := held.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
		}
		if k.name == "postgres" {
			run(t, db, `CREATE FUNCTION clash() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$`)
			_, err = call(t, s, "execute", "k", "SELECT clash()", nil)
			refused(t, "serialization", err, service.Unavailable, "40001")
			wait("BEGIN", "UPDATE t SET n = 1")
			_, err = call(t, s, "execute", "k", "UPDATE t SET n = 3", nil, `"timeoutMs": 500`)
			refused(t, "a lock", err, service.TimedOut, "nothing was changed")
		} else {
			wait(map[string]string{"mariadb": "BEGIN", "sqlite": "BEGIN IMMEDIATE"}[k.name], "UPDATE t SET n = 1 WHERE n = 1", "INSERT INTO t VALUES (9)")
			_, err = call(t, s, "execute", "k", "UPDATE t SET n = 3 WHERE n = 1", nil)
			refused(t, "a lock", err, service.Unavailable, "")
		}
		wait("ROLLBACK")
	})
}

// What a statement leaves in its session is not there for the next one, which may be another flow's.
func TestSessionsAreClean(t *testing.T) {
	dsn, db := openPostgres(t)
	s := open(t, database.Connection{DSN: dsn, MaxOpen: 1})
	run(t, db, "CREATE TABLE t (n int)")
	for _, action := range []string{"query", "execute"} {
		if _, err := call(t, s, action, "k", "SELECT pg_advisory_lock(7)::text AS a, set_config('my.secret', 'told', false) AS b", nil); err != nil {
			t.Fatal(err)
		}
		equal(t, "the setting", rows(t, s, "SELECT coalesce(current_setting('my.secret', true), '') AS v"), `[{"v":""}]`)
		equal(t, "locks", count(t, db, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), 0)
	}
	dsn, db = openMaria(t)
	s = open(t, database.Connection{DSN: dsn, MaxOpen: 1})
	if _, err := call(t, s, "query", "k", "SELECT GET_LOCK('l', 0) AS a, @told := 5 AS b", nil); err != nil {
		t.Fatal(err)
	}
	equal(t, "the variable", rows(t, s, "SELECT @told AS v"), `[{"v":null}]`)
	for until := time.Now().Add(time.Minute); count(t, db, "SELECT IS_FREE_LOCK('l')") != 1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the lock stays")
		}
	}
}

func TestSecretsStandInNoError(t *testing.T) {
	socket, err := maria.start()
	if err != nil {
		t.Fatal(err)
	}
	address := overTCP(t, socket)
	db := admin(t, "mysql", "root@unix("+socket+")/")
	run(t, db, "CREATE USER IF NOT EXISTS 'ann'@'%' IDENTIFIED BY 'hush hush 17'", "CREATE DATABASE IF NOT EXISTS seen", "GRANT SELECT ON seen.* TO 'ann'@'%'", "FLUSH PRIVILEGES")
	run(t, db, "CREATE TABLE IF NOT EXISTS seen.t (n int)")
	if got := rows(t, open(t, database.Connection{DSN: "mysql://ann:" + url.PathEscape("hush hush 17") + "@" + address + "/seen"}), "SELECT 1 AS a"); got != `[{"a":1}]` {
		t.Errorf("over TCP: %s", got)
	}
	_, err = call(t, open(t, database.Connection{DSN: "mysql://ann:" + url.PathEscape("hush hush 17") + "@" + address + "/seen"}), "execute", "k", "INSERT INTO t VALUES (1)", nil)
	refused(t, "without rights", err, service.Denied, "denied")
	postgres, _ := openPostgres(t)
	for _, test := range []struct{ dsn, code string }{
		{"mysql://ann:s3cr3t-word@" + address + "/seen", service.Denied},
		{"mysql://ann:s3cr3t-word@127.0.0.1:1/seen", service.Unavailable},
		{"mysql://ann:" + url.PathEscape("hush hush 17") + "@" + address + "/missing", service.Denied},
		{"postgres://ann:s3cr3t-word@127.0.0.1:1/x", service.Unavailable},
		{strings.Replace(postgres, "postgres@", "s3cr3t-word-role:s3cr3t-word@", 1), service.Denied},
		{strings.Replace(postgres, "/pawl_", "/none_", 1), service.NotFound},
		{"sqlite:" + filepath.Join(t.TempDir(), "none.db"), service.NotFound},
	} {
		s := open(t, database.Connection{DSN: test.dsn})
		for _, action := range []string{"query", "execute"} {
			_, err := call(t, s, action, "k", "SELECT 1 AS a", nil)
			refused(t, test.dsn, err, test.code, "main")
			if err != nil && (strings.Contains(err.Error(), ":s3cr3t-word") || strings.Contains(err.Error(), "hush")) {
				t.Errorf("a secret is told: %v", err)
			}
		}
		if path, is := strings.CutPrefix(test.dsn, "sqlite:"); is {
			if _, err := os.Stat(path); err == nil {
				t.Error("the file was made")
			}
		}
	}
}

// A server that goes and comes back costs the calls in between, and no more.
func TestAServerThatComesBack(t *testing.T) {
	server, err := pgtest.Start(pgtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	s := open(t, database.Connection{DSN: server.URL()})
	equal(t, "before", rows(t, s, "SELECT 1 AS a"), `[{"a":1}]`)
	ended := make(chan error, 1)
	go func() {
		_, err := s.Call(t.Context(), service.Call{Params: json.RawMessage(`{"query": "SELECT pg_sleep(120)"}`)})
		ended <- err
	}()
	db := admin(t, "pgx", server.URL())
	for until := time.Now().Add(time.Minute); count(t, db, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'") != 1; {
		if time.Now().After(until) {
			t.Fatal("the query never began")
		}
	}
	if err := server.Crash(); err != nil {
		t.Fatal(err)
	}
	refused(t, "cut", <-ended, service.Unavailable, "main")
	_, err = call(t, s, "query", "k", "SELECT 1 AS a", nil)
	refused(t, "gone", err, service.Unavailable, "main")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	equal(t, "back", rows(t, s, "SELECT 1 AS a"), `[{"a":1}]`)
}

func TestManyAtOnce(t *testing.T) {
	each(t, func(t *testing.T, k kind, dsn string, db *sql.DB) {
		run(t, db, "CREATE TABLE t (n int)")
		s := open(t, database.Connection{DSN: dsn})
		var all sync.WaitGroup
		for i := range 24 {
			all.Go(func() {
				if _, err := call(t, s, "execute", fmt.Sprint(i), k.q("INSERT INTO t VALUES (?)"), []any{i}); err != nil {
					t.Error(err)
				}
				if _, err := call(t, s, "query", "k", "SELECT count(*) AS n FROM t", nil); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		equal(t, "rows", count(t, db, "SELECT count(*) FROM t"), 24)
	})
}

func TestWhatActionsTell(t *testing.T) {
	reads := with(t, database.Options{Connections: map[string]database.Connection{"a": {DSN: "postgres://x@127.0.0.1:1/x"}}})
	equal(t, "actions", len(reads.Actions()), 1)
	_, err := call(t, reads, "execute", "k", "DELETE FROM t", nil)
	refused(t, "execute", err, service.Invalid, "no connection")
	both := with(t, database.Options{Connections: map[string]database.Connection{"a": {DSN: "postgres://x@127.0.0.1:1/x"}, "b": {DSN: "mysql://x@127.0.0.1:1/x", Execute: true}}})
	equal(t, "actions", len(both.Actions()), 2)
	equal(t, "effect", both.Actions()[1].Effect, service.Writes)
	for _, a := range both.Actions() {
		if !json.Valid(a.Params) || !json.Valid(a.Result) {
			t.Errorf("%s has a schema that is no JSON", a.Name)
		}
	}
	_, err = call(t, both, "execute", "k", "DELETE FROM t", nil, `"connection": "a"`)
	refused(t, "execute", err, service.Forbidden, "not allowed on the connection a")
	_, err = call(t, both, "query", "k", "DELETE FROM t", nil, `"connection": "a"`)
	refused(t, "hint", err, service.Forbidden, "does not allow")
	_, err = call(t, both, "query", "k", "SELECT 1", nil)
	refused(t, "no name", err, service.Invalid, `["a" "b"]`)
	_, err = call(t, both, "query", "k", "SELECT 1", nil, `"dsn": "x"`)
	refused(t, "an unknown field", err, service.Invalid, "dsn")
	out, err := both.Call(t.Context(), service.Call{Params: json.RawMessage(`{"connection": "a", "query": "SELECT $1", "values": [1]}`), DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "plan", out.(service.Plan).Would, "query a: SELECT $1")
}

func TestAddressesThatCantBe(t *testing.T) {
	for _, dsn := range []string{"", "x", "postgres://user:s3cr3t-word@host:port/x", "postgres://user:s3cr3t-word@host/x?sslmode=wrong", "mysql://user:s3cr3t-word@host", "mysql://host/x", "mysql://u:s3cr3t-word@h/x?allowAllFiles=true",
		"mysql://u:s3cr3t-word@h/x?tls=maybe", "mysql://u:s3cr3t-word%@h/x", "sqlite:", "sqlite::memory:", "sqlite:x?mode=rwc", "sqlite:" + t.TempDir(), "mongodb://u:s3cr3t-word@h/x", "user:s3cr3t-word@tcp(h)/x"} {
		_, err := database.New(database.Options{Connections: map[string]database.Connection{"a": {DSN: dsn}}})
		if err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", dsn, err)
		}
	}
	for _, opt := range []database.Options{{}, {Connections: map[string]database.Connection{"a b": {DSN: "sqlite:x"}}}, {Connections: map[string]database.Connection{"a": {DSN: "sqlite:x", Once: true}}},
		{Connections: map[string]database.Connection{"a": {DSN: "sqlite:x"}}, Timeout: time.Hour}, {Connections: map[string]database.Connection{"a": {DSN: "sqlite:x"}}, MaxRows: -1}} {
		if _, err := database.New(opt); err == nil {
			t.Errorf("%+v is taken", opt)
		}
	}
}
