package pawl_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
)

// The guards refuse moves that the table of states does not have. Every test that runs on
// eachStore runs under them, and so tries the table.
var (
	guardSQLite = `CREATE TRIGGER IF NOT EXISTS moves BEFORE UPDATE OF state ON runs WHEN (old.state, new.state) NOT IN (VALUES ` + movesSQL() + `)
		BEGIN SELECT raise(ABORT, 'no such move in the table of states'); END`
	guardPostgres = `CREATE FUNCTION pawl.moves() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN RAISE EXCEPTION 'no such move in the table of states: % to %', OLD.state, NEW.state USING ERRCODE = 'check_violation'; END $$;
		CREATE TRIGGER moves BEFORE UPDATE OF state ON pawl.runs FOR EACH ROW
			WHEN ((OLD.state, NEW.state) NOT IN (` + movesSQL() + `)) EXECUTE FUNCTION pawl.moves()`
)

// movesSQL lists the moves that the table allows, and those that are none.
func movesSQL() string {
	states := []pawl.State{pawl.Pending, pawl.Running, pawl.Waiting, pawl.Completed, pawl.Failed, pawl.Cancelled, pawl.Paused, pawl.Blocked}
	var all []string
	for _, from := range states {
		for _, to := range states {
			if from == to || from.CanMove(to) {
				all = append(all, fmt.Sprintf("(%d, %d)", from, to))
			}
		}
	}
	return strings.Join(all, ", ")
}

// TestTheGuardsRefuseMoves: or else the other tests would try nothing.
func TestTheGuardsRefuseMoves(t *testing.T) {
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := pawl.Define("short", func(*pawl.Context, none) (int, error) { return 1, nil })
			p := s.make(t)
			n := boot(t, p.open(), nil, w)
			result(n, start(n, w, none{}))
			runs := "runs"
			if s.name == "postgres" {
				runs = "pawl.runs"
			}
			for to, allowed := range map[pawl.State]bool{pawl.Completed: true, pawl.Waiting: false, pawl.Pending: false, pawl.Failed: false} {
				err := p.exec(fmt.Sprintf("UPDATE %s SET state = %d", runs, to))
				if allowed != (err == nil) || err != nil && !strings.Contains(err.Error(), "no such move") {
					t.Errorf("a completed run is made %s: %v", to, err)
				}
			}
		})
	}
}
