package database_test

import (
	"testing"

	"github.com/pawlrun/pawl/service/database"
	"github.com/pawlrun/pawl/service/servicetest"
)

func TestTheServiceKeepsItsPromises(t *testing.T) {
	dsn, db := openFile(t)
	servicetest.Check(t, open(t, database.Connection{DSN: dsn}), servicetest.Options{
		Examples: []servicetest.Example{{Action: "query", Params: `{"query": "SELECT 1 AS one"}`}, {Action: "execute", Params: `{"query": "INSERT INTO made VALUES (?)", "values": [1]}`}},
		Effects:  func() int { return count(t, db, "SELECT count(*) FROM made") },
	})
}
