//go:build unix

package database_test

import (
	"database/sql"
	"testing"

	"github.com/pawlrun/pawl/service/database"
	"github.com/pawlrun/pawl/service/servicetest"
)

func TestTheServiceKeepsItsPromises(t *testing.T) {
	each(t, func(t *testing.T, k kind, dsn string, db *sql.DB) {
		run(t, db, "CREATE TABLE t (n int)")
		servicetest.Check(t, open(t, database.Connection{DSN: dsn}), servicetest.Options{
			Examples: []servicetest.Example{{Params: `{"query": "SELECT 1 AS a"}`}, {Action: "execute", Params: `{"query": "INSERT INTO t VALUES (1)"}`}},
			Slow:     servicetest.Example{Params: map[string]string{"postgres": `{"query": "SELECT pg_sleep(60)"}`, "mariadb": `{"query": "SELECT SLEEP(60)"}`, "sqlite": `{"query": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) AS n FROM r"}`}[k.name]},
			Effects:  func() int { return count(t, db, "SELECT count(*) FROM t") },
		})
	})
}
