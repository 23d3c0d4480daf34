package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pawlrun/pawl"
)

// filter builds a condition and its arguments.
type filter struct {
	cond []string
	args []any
}

// and adds a condition, in which ? stands for the value.
func (f *filter) and(cond string, value any) {
	f.args = append(f.args, value)
	f.cond = append(f.cond, strings.ReplaceAll(cond, "?", fmt.Sprintf("$%d", len(f.args))))
}

// arg adds a value that is in no condition, and returns what stands for it.
func (f *filter) arg(value any) string {
	f.args = append(f.args, value)
	return fmt.Sprintf("$%d", len(f.args))
}

func (f *filter) String() string { return strings.Join(f.cond, " AND ") }

// Budgets implements pawl.Store.
func (s *Store) Budgets(ctx context.Context, f pawl.BudgetFilter, now time.Time) (out []pawl.Budget, err error) {
	var where filter
	if f.ID != 0 {
		where.and("b.id = ?", f.ID)
	} else {
		where.and("b.tenant = ?", clean(f.Tenant))
	}
	if f.Name != "" {
		where.and("b.name = ?", clean(f.Name))
	}
	if f.Run != 0 {
		where.and("b.run = ?", f.Run)
	}
	if f.Shared {
		where.cond = append(where.cond, "b.run IS NULL")
	}
	if f.After != "" {
		where.and("b.name > ?", clean(f.After))
	}
	query := "SELECT " + budgetCols + " FROM budgets AS b WHERE " + where.String() + " ORDER BY b.name LIMIT " + where.arg(f.Limit)
	err = s.read(ctx, "list budgets", func(c *pgxpool.Conn) error {
		out, err = collect(ctx, c, func(row pgx.CollectableRow) (pawl.Budget, error) {
			b, err := scanBudget(row)
			b.Roll(now)
			return *b, err
		}, query, where.args...)
		return err
	})
	return out, err
}

const cut = "c.settled IS NULL AND NOT EXISTS (SELECT FROM runs AS r WHERE r.key = c.run AND r.worker <> 0 AND r.epoch = c.epoch)"

// family is the rest of what finds the ids of a run, of its descendants, and of the runs that
// they went on as.
const family = `
	UNION SELECT r.key FROM tree AS t JOIN runs AS p ON p.key = t.key CROSS JOIN LATERAL (
		SELECT key FROM runs WHERE parent = p.key AND NOT detached UNION ALL SELECT key FROM runs WHERE id = p.next AND tenant = p.tenant) AS r)
	SELECT id FROM runs WHERE key IN (SELECT key FROM tree)))`

// charged is the condition that f makes on charges c.
func charged(f *pawl.ChargeFilter, ofAll bool) (where filter) {
	if ofAll {
		where.and("?::boolean", true)
	} else {
		where.and("c.tenant = ?", clean(f.Tenant))
	}
	run := f.RunID
	if f.Family && run != "" {
		id := where.arg(clean(run))
		where.cond = append(where.cond, "(c.run_id = "+id+" OR c.run_id IN (WITH RECURSIVE tree (key) AS (SELECT key FROM runs WHERE tenant = "+where.arg(clean(f.Tenant))+" AND id = "+id+family)
		run = ""
	}
	for _, eq := range []struct{ col, want string }{{"run_id", run}, {"workflow", f.Workflow}, {"meter", f.Meter}, {"item", f.Item}, {"step", f.Step}} {
		if eq.want != "" {
			where.and("c."+eq.col+" = ?", clean(eq.want))
		}
	}
	if f.Under != "" { // what begins with the branch's key and a slash
		where.and("c.step >= ?", clean(f.Under+"/"))
		where.and("c.step < ?", clean(f.Under+"0"))
	}
	if !f.From.IsZero() {
		where.and("c.at >= ?", f.From.UnixMicro())
	}
	if !f.To.IsZero() {
		where.and("c.at < ?", f.To.UnixMicro())
	}
	return where
}

// Charges implements pawl.Store.
func (s *Store) Charges(ctx context.Context, f pawl.ChargeFilter) (out []pawl.Charge, err error) {
	where := charged(&f, false)
	if f.Open {
		where.cond = append(where.cond, "c.settled IS NULL")
	}
	if f.Cut {
		where.cond = append(where.cond, cut)
	}
	where.and("c.id > ?", f.After)
	query := `SELECT c.id, c.tenant, c.run_id, c.workflow, c.step, c.attempt, c.meter, c.item, c.reserved, c.amount, c.settled IS NULL, ` + cut + `, c.guess, c.at, c.settled, c.detail, c.version, c.label
		FROM charges AS c WHERE ` + where.String() + " ORDER BY c.id LIMIT " + where.arg(f.Limit)
	err = s.read(ctx, "list charges", func(c *pgxpool.Conn) error {
		out, err = collect(ctx, c, scanCharge, query, where.args...)
		return err
	})
	return out, err
}

func scanCharge(row pgx.CollectableRow) (c pawl.Charge, err error) {
	var at int64
	var settled *int64
	err = row.Scan(&c.ID, &c.Tenant, &c.RunID, &c.Workflow, &c.Step, &c.Attempt, &c.Meter, &c.Item, &c.Reserved, &c.Amount, &c.Open, &c.Cut, &c.Guess, &at, &settled, (*[]byte)(&c.Detail), &c.Version, &c.Label)
	c.At, c.Settled = fromMicro(&at), fromMicro(settled)
	return c, err
}

// costKeys are what sums are made by.
var costKeys = map[pawl.CostBy]string{
	pawl.ByAll: "''", pawl.ByRun: "c.run_id", pawl.ByStep: "c.step", pawl.ByItem: "c.item", pawl.ByWorkflow: "c.workflow", pawl.ByTenant: "c.tenant",
	pawl.ByVersion: "c.version", pawl.ByLabel: "c.label",
	pawl.ByDay: "to_char(to_timestamp(c.at / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}

// Costs implements pawl.Store.
func (s *Store) Costs(ctx context.Context, f pawl.CostFilter) (out []pawl.Cost, err error) {
	where := charged(&f.ChargeFilter, f.By == pawl.ByTenant)
	query := `SELECT ` + costKeys[f.By] + `, c.meter, count(*), sum(c.amount)::bigint, coalesce(sum(c.amount) FILTER (WHERE c.settled IS NULL), 0)::bigint,
		coalesce(sum(c.amount) FILTER (WHERE c.guess), 0)::bigint, count(DISTINCT c.run_id) FROM charges AS c WHERE ` + where.String() + " GROUP BY 1, 2"
	err = s.read(ctx, "sum charges", func(c *pgxpool.Conn) error {
		out, err = collect(ctx, c, func(row pgx.CollectableRow) (c pawl.Cost, err error) {
			err = row.Scan(&c.Key, &c.Meter, &c.Charges, &c.Amount, &c.Open, &c.Guessed, &c.Times)
			return c, err
		}, query, where.args...)
		return err
	})
	return out, err
}
