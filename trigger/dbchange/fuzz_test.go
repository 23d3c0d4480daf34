package dbchange

import (
	"database/sql"
	"strings"
	"testing"

	_ "modernc.org/sqlite"
)

// A query that is taken stays in its parentheses, as SQLite reads it: nothing behind them is carried out.
func FuzzBind(f *testing.F) {
	for _, text := range []string{"SELECT id FROM t WHERE id > $1", "SELECT id FROM t WHERE id > ?); DELETE FROM t; --", "SELECT '$1' || ?1 -- )", "SELECT [a)] , `)`, \")\" /* ) */ FROM t WHERE id > ?", "SELECT $1 /*", "SELECT ';' , $1;", "VALUES (?1)", "SELECT $1 FROM t -- \n) AS x; DELETE FROM t; /*"} {
		f.Add(text)
	}
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		f.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	f.Cleanup(func() { _ = db.Close() })
	if _, err := db.Exec("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2)"); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := bind(text, Postgres); err != nil && err.Error() == "" {
			t.Error("an error without words")
		}
		query, err := bind(text, SQLite)
		if err != nil || strings.Contains(strings.ToLower(query), "recursive") {
			return
		}
		if rows, err := db.Query("SELECT * FROM (\n"+query+"\n) AS pawl_q LIMIT 3", 0); err == nil {
			for rows.Next() {
			}
			_ = rows.Close()
		}
		var n, all int
		if err := db.QueryRow("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM sqlite_master)").Scan(&n, &all); err != nil || n != 2 || all != 1 {
			t.Fatalf("%q: %d rows, %d tables, %v", text, n, all, err)
		}
	})
}

// A table's name is quoted so that it is read as the same, and is one name for SQLite.
func FuzzTable(f *testing.F) {
	for _, text := range []string{"orders", "sales.orders", `"a.b"."c""d"`, `"`, "a.", `a"b`, `"a"b`, "'; DROP TABLE x; --"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := parseTable(text)
		if err != nil {
			return
		}
		again, err := parseTable(name.quoted())
		if len(name.quoted()) <= maxTable && (err != nil || again != name) {
			t.Errorf("%q is quoted as %s, and read as %+v, %v", text, name.quoted(), again, err)
		}
		if inner := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(quoted(name.name), `"`), `"`), `""`, ""); strings.Contains(inner, `"`) {
			t.Errorf("%q breaks out of its quotes: %s", text, quoted(name.name))
		}
	})
}
