package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

const budgetCols = `b.id, b.tenant, b.name, b.meter, b.cap, b.per, b.waits, b.run_id, b.workflow, b.attr, b.value, b.extra, b.spent, b.reserved, b.since`

func scanBudget(r row) pawl.Budget {
	b := pawl.Budget{
		ID: r.int(0), Tenant: r.str(1), Name: r.str(2), Meter: r.str(3), Limit: r.int(4), Per: time.Duration(r.int(5)) * time.Microsecond, Wait: r.int(6) != 0,
		Run: r.str(7), Workflow: r.str(8), Attr: r.str(9), Value: r.str(10), Extra: r.int(11), Spent: r.int(12), Reserved: r.int(13),
	}
	if since := r.int(14); since != 0 {
		b.Since = time.UnixMicro(since).UTC()
	}
	return b
}

func since(b *pawl.Budget) int64 {
	if b.Since.IsZero() {
		return 0
	}
	return b.Since.UnixMicro()
}

// bounds are the budgets that apply to a run: its own and those of the runs above it, which
// a detached child is not under, and those that runs share.
const bounds = `WITH RECURSIVE up (key) AS (SELECT ?1 UNION SELECT p.parent FROM up JOIN runs p ON p.key = up.key WHERE p.parent IS NOT NULL AND p.detached IS NULL)
	SELECT ` + budgetCols + ` FROM up JOIN budgets b ON b.run = up.key WHERE b.meter = ?2
	UNION ALL
	SELECT ` + budgetCols + ` FROM runs r JOIN budgets b ON b.tenant = r.tenant AND b.meter = ?2 AND b.run IS NULL
	WHERE r.key = ?1 AND (b.workflow IS NULL OR b.workflow = r.workflow)
	AND (b.attr IS NULL OR EXISTS (SELECT 1 FROM attrs a WHERE a.run = r.key AND a.name = b.attr AND a.value = b.value))
	ORDER BY 1`

// reserve sets an amount aside on all budgets that apply, or on none.
func (t *tx) reserve(ch *pawl.Change, res *pawl.Reserve) error {
	var all []pawl.Budget
	err := t.query(bounds, []any{ch.Run, res.Meter}, func(r row) error {
		all = append(all, scanBudget(r))
		return nil
	})
	if err != nil {
		return err
	}
	waits := false
	for i := range all {
		b := &all[i]
		waits = waits || b.Wait
		if b.Roll(t.now) {
			if _, err := t.exec("UPDATE budgets SET since = ?, spent = 0, reserved = 0, extra = 0 WHERE id = ?", since(b), b.ID); err != nil {
				return err
			}
		}
	}
	if waits { // it waited for one of them before
		if _, err := t.exec("DELETE FROM waits WHERE run = ? AND key = ? AND need IS NOT NULL", ch.Run, res.Key); err != nil {
			return err
		}
	}
	for i := range all {
		b := &all[i]
		if b.Left() >= res.Most {
			continue
		}
		res.Over = b
		if !b.Wait {
			return nil
		}
		if err := t.tie(ch.Run); err != nil {
			return err
		}
		_, err := t.exec("INSERT OR REPLACE INTO waits (run, key, event, need) VALUES (?, ?, ?, ?)", ch.Run, res.Key, b.Event(), res.Most)
		return err
	}
	var on any
	if len(all) > 0 {
		var held [][2]int64
		for i := range all {
			held = append(held, [2]int64{all[i].ID, since(&all[i])})
			if _, err := t.exec("UPDATE budgets SET reserved = reserved + ? WHERE id = ?", res.Most, all[i].ID); err != nil {
				return err
			}
		}
		on = string(mustJSON(held))
	}
	_, err = t.one(`INSERT INTO charges (run, epoch, run_id, tenant, workflow, step, attempt, meter, item, label, reserved, amount, guess, at, budgets, version)
		SELECT key, epoch, id, tenant, workflow, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, coalesce(version, '') FROM runs WHERE key = ? RETURNING id`,
		[]any{res.Key, res.Attempt, res.Meter, res.Item, res.Label, res.Most, res.Most, t.us, on, ch.Run}, func(r row) error { res.Charge = r.int(0); return nil })
	return err
}

// settle gives back what was reserved and not spent. A charge that is settled stays as it is.
func (t *tx) settle(s *pawl.Settle, byHand bool) error {
	var reserved int64
	var on string
	var done, live bool
	found, err := t.one(`SELECT c.reserved, c.budgets, c.settled IS NOT NULL, EXISTS (SELECT 1 FROM runs r WHERE r.key = c.run AND r.worker <> 0 AND r.epoch = c.epoch)
		FROM charges c WHERE c.id = ?`, []any{s.Charge}, func(r row) error {
		reserved, on, done, live = r.int(0), r.str(1), r.int(2) != 0, r.int(3) != 0
		return nil
	})
	switch {
	case err != nil:
		return err
	case !found:
		s.Err = fmt.Errorf("%w: there is no such charge", pawl.ErrNotFound)
	case done:
		s.Err = fmt.Errorf("%w: it is settled", pawl.ErrState)
	case live && byHand:
		s.Err = fmt.Errorf("%w: its step is under way", pawl.ErrState)
	}
	if s.Err != nil {
		return nil
	}
	if _, err := t.exec("UPDATE charges SET amount = ?, guess = ?, settled = ?, detail = ? WHERE id = ?", s.Amount, s.Guess, t.us, raw(s.Detail), s.Charge); err != nil {
		return err
	}
	if on == "" {
		return nil
	}
	var held [][2]int64
	if err := json.Unmarshal([]byte(on), &held); err != nil {
		return fmt.Errorf("budgets of charge %d: %w", s.Charge, err)
	}
	for _, h := range held { // of a period that has ended, nothing is counted any more
		n, err := t.exec("UPDATE budgets SET reserved = reserved - ?, spent = spent + ? WHERE id = ? AND since = ?", reserved, s.Amount, h[0], h[1])
		if err == nil && n > 0 && s.Amount < reserved {
			err = t.makeRoom(h[0])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// makeRoom wakes the steps that wait for a budget and now fit into it, in the order of
// their runs. They reserve what they need themselves.
func (t *tx) makeRoom(budget int64) error {
	var b pawl.Budget
	found, err := t.one("SELECT "+budgetCols+" FROM budgets b WHERE b.id = ?", []any{budget}, func(r row) error { b = scanBudget(r); return nil })
	if err != nil || !found {
		return err
	}
	b.Roll(t.now)
	return t.wakeFor(&b, b.Left())
}

func (t *tx) wakeFor(b *pawl.Budget, left int64) error {
	type waiter struct {
		run, need int64
		key       string
	}
	var all []waiter
	err := t.query("SELECT run, key, need FROM waits WHERE event = ? AND need <= ? ORDER BY run, key", []any{b.Event(), left}, func(r row) error {
		all = append(all, waiter{r.int(0), r.int(2), r.str(1)})
		return nil
	})
	if err != nil {
		return err
	}
	for _, w := range all {
		if w.need > left {
			continue
		}
		left -= w.need
		if _, err := t.exec("DELETE FROM waits WHERE run = ? AND key = ?", w.run, w.key); err != nil {
			return err
		}
		if _, err := t.deliver(w.run, pawl.MsgEvent+b.Event(), nil); err != nil {
			return err
		}
	}
	return nil
}

// budget carries out what an operator wants of a budget, and writes the record that goes with it.
func (t *tx) budget(o *pawl.BudgetOrder) error {
	var old *pawl.Budget
	if _, err := t.one("SELECT "+budgetCols+" FROM budgets b WHERE b.tenant = ? AND b.name = ?", []any{o.Budget.Tenant, o.Budget.Name}, func(r row) error {
		b := scanBudget(r)
		b.Roll(t.now)
		old = &b
		return nil
	}); err != nil {
		return err
	}
	if old == nil && o.Verb != pawl.BudgetSet {
		o.Err = fmt.Errorf("%w: there is no such budget", pawl.ErrNotFound)
		return nil
	}
	if o.Err = o.Refuses(old); o.Err != nil {
		return nil
	}
	if o.With == nil {
		return t.orderOn(o, old)
	}
	with := &pawl.Write{Puts: []pawl.Put{*o.With}}
	have, err := t.versions(with)
	if err != nil || with.Err != nil {
		o.Err = with.Err
		return err
	}
	if err := t.orderOn(o, old); err != nil || o.Err != nil {
		return err
	}
	return t.put(with, have)
}

// orderOn carries out an order on a budget; nil: there is none yet.
func (t *tx) orderOn(o *pawl.BudgetOrder, old *pawl.Budget) error {
	switch o.Verb {
	case pawl.BudgetDelete:
		o.Info = *old
		if _, err := t.exec("DELETE FROM budgets WHERE id = ?", old.ID); err != nil {
			return err
		}
		return t.wakeFor(old, 1<<62)
	case pawl.BudgetTopUp:
		if limit := old.Limit + old.Extra + o.By; limit < 0 {
			o.Info, o.Err = *old, fmt.Errorf("%w: that would make its limit %d", pawl.ErrInput, limit)
			return nil
		}
		old.Extra += o.By
		o.Info = *old
		if _, err := t.exec("UPDATE budgets SET extra = ?, spent = ?, reserved = ?, since = ? WHERE id = ?", old.Extra, old.Spent, old.Reserved, since(old), old.ID); err != nil {
			return err
		}
		return t.makeRoom(old.ID)
	}
	b := o.Budget
	var run int64
	if b.Run != "" {
		info, there, err := t.lookup(b.Tenant, b.Run)
		if err != nil {
			return err
		}
		if !there {
			o.Err = fmt.Errorf("%w: run %s", pawl.ErrNotFound, b.Run)
			return nil
		}
		run = info.Key
	}
	b.ID, b.Extra, b.Spent, b.Reserved, b.Since = 0, 0, 0, 0, time.Time{}
	if old != nil {
		o.Info = *old
		if old.Meter != b.Meter {
			o.Err = fmt.Errorf("%w: it counts %s; delete it, and make another for %s", pawl.ErrInput, old.Meter, b.Meter)
			return nil
		}
		b.ID = old.ID
		if old.Per == b.Per {
			b.Extra, b.Spent, b.Reserved, b.Since = old.Extra, old.Spent, old.Reserved, old.Since
		}
	}
	b.Roll(t.now)
	if err := t.setBudget(&b, run); err != nil {
		return err
	}
	o.Info = b
	return t.makeRoom(b.ID)
}

// setBudget writes a budget, and gives it an id if it has none.
func (t *tx) setBudget(b *pawl.Budget, run int64) error {
	_, err := t.one(`INSERT INTO budgets (id, tenant, name, meter, cap, per, waits, run, run_id, workflow, attr, value, extra, spent, reserved, since)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET cap = excluded.cap, per = excluded.per, waits = excluded.waits,
		run = excluded.run, run_id = excluded.run_id, workflow = excluded.workflow, attr = excluded.attr, value = excluded.value,
		extra = excluded.extra, spent = excluded.spent, reserved = excluded.reserved, since = excluded.since RETURNING id`,
		[]any{orNull(b.ID), b.Tenant, b.Name, b.Meter, b.Limit, b.Per.Microseconds(), b.Wait, orNull(run), text(b.Run), text(b.Workflow), text(b.Attr), valueOf(b),
			b.Extra, b.Spent, b.Reserved, since(b)}, func(r row) error { b.ID = r.int(0); return nil })
	return err
}

func valueOf(b *pawl.Budget) any {
	if b.Attr == "" {
		return nil
	}
	return b.Value
}

// Budgets implements pawl.Store.
func (s *Store) Budgets(ctx context.Context, f pawl.BudgetFilter, now time.Time) (out []pawl.Budget, err error) {
	var cond []string
	var args []any
	and := func(c string, a ...any) { cond, args = append(cond, c), append(args, a...) }
	switch {
	case f.ID != 0:
		and("b.id = ?", f.ID)
	default:
		and("b.tenant = ?", f.Tenant)
	}
	if f.Name != "" {
		and("b.name = ?", f.Name)
	}
	if f.Run != 0 {
		and("b.run = ?", f.Run)
	}
	if f.Shared {
		and("b.run IS NULL")
	}
	if f.After != "" {
		and("b.name > ?", f.After)
	}
	err = s.read(ctx, func(c *conn) error {
		return c.query("SELECT "+budgetCols+" FROM budgets b WHERE "+strings.Join(cond, " AND ")+" ORDER BY b.name LIMIT ?", append(args, f.Limit), func(r row) error {
			b := scanBudget(r)
			b.Roll(now)
			out = append(out, b)
			return nil
		})
	})
	return out, err
}

const cut = "c.settled IS NULL AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.key = c.run AND r.worker <> 0 AND r.epoch = c.epoch)"

// family are the ids of a run, of its descendants, and of the runs that they went on as.
const family = `WITH RECURSIVE tree (key) AS (SELECT key FROM runs WHERE tenant = ? AND id = ?
	UNION SELECT r.key FROM tree t JOIN runs r ON r.parent = t.key AND NOT coalesce(r.detached, 0)
	UNION SELECT n.key FROM tree t JOIN runs p ON p.key = t.key JOIN runs n ON n.id = p.next AND n.tenant = p.tenant)
	SELECT id FROM runs WHERE key IN (SELECT key FROM tree)`

// charged is the condition that f makes on charges c.
func charged(f *pawl.ChargeFilter, ofAll bool) (string, []any) {
	cond, args := []string{"c.tenant = ?"}, []any{f.Tenant}
	if ofAll {
		cond, args = []string{"TRUE"}, nil
	}
	and := func(c string, a ...any) { cond, args = append(cond, c), append(args, a...) }
	run := f.RunID
	if f.Family && run != "" {
		and("(c.run_id = ? OR c.run_id IN ("+family+"))", run, f.Tenant, run)
		run = ""
	}
	for _, eq := range []struct{ col, want string }{{"run_id", run}, {"workflow", f.Workflow}, {"meter", f.Meter}, {"item", f.Item}, {"step", f.Step}} {
		if eq.want != "" {
			and("c."+eq.col+" = ?", eq.want)
		}
	}
	if f.Under != "" {
		and("c.step >= ? AND c.step < ?", f.Under+"/", f.Under+"0") // what begins with the branch's key and a slash
	}
	if !f.From.IsZero() {
		and("c.at >= ?", f.From)
	}
	if !f.To.IsZero() {
		and("c.at < ?", f.To)
	}
	return strings.Join(cond, " AND "), args
}

// Charges implements pawl.Store.
func (s *Store) Charges(ctx context.Context, f pawl.ChargeFilter) (out []pawl.Charge, err error) {
	cond, args := charged(&f, false)
	if f.Open {
		cond += " AND c.settled IS NULL"
	}
	if f.Cut {
		cond += " AND " + cut
	}
	args = append(args, f.After, f.Limit)
	err = s.read(ctx, func(c *conn) error {
		return c.query(`SELECT c.id, c.tenant, c.run_id, c.workflow, c.step, c.attempt, c.meter, c.item, c.reserved, c.amount, c.settled IS NULL, `+cut+`, c.guess, c.at, c.settled, c.detail, c.version, c.label
			FROM charges c WHERE `+cond+" AND c.id > ? ORDER BY c.id LIMIT ?", args, func(r row) error {
			out = append(out, pawl.Charge{
				ID: r.int(0), Tenant: r.str(1), RunID: r.str(2), Workflow: r.str(3), Step: r.str(4), Attempt: int(r.int(5)), Meter: r.str(6), Item: r.str(7),
				Reserved: r.int(8), Amount: r.int(9), Open: r.int(10) != 0, Cut: r.int(11) != 0, Guess: r.int(12) != 0, At: r.time(13), Settled: r.time(14), Detail: r.bytes(15), Version: r.str(16), Label: r.str(17),
			})
			return nil
		})
	})
	return out, err
}

// costKeys are what sums are made by.
var costKeys = map[pawl.CostBy]string{
	pawl.ByAll: "''", pawl.ByRun: "c.run_id", pawl.ByStep: "c.step", pawl.ByItem: "c.item", pawl.ByWorkflow: "c.workflow",
	pawl.ByTenant: "c.tenant", pawl.ByVersion: "c.version", pawl.ByLabel: "c.label",
	pawl.ByDay: "strftime('%Y-%m-%d', c.at / 1000000, 'unixepoch')",
}

// Costs implements pawl.Store.
func (s *Store) Costs(ctx context.Context, f pawl.CostFilter) (out []pawl.Cost, err error) {
	cond, args := charged(&f.ChargeFilter, f.By == pawl.ByTenant)
	err = s.read(ctx, func(c *conn) error {
		return c.query(`SELECT `+costKeys[f.By]+`, c.meter, count(*), sum(c.amount), sum(iif(c.settled IS NULL, c.amount, 0)), sum(iif(c.guess, c.amount, 0)), count(DISTINCT c.run_id)
			FROM charges c WHERE `+cond+" GROUP BY 1, 2", args, func(r row) error {
			out = append(out, pawl.Cost{Key: r.str(0), Meter: r.str(1), Charges: r.int(2), Amount: r.int(3), Open: r.int(4), Guessed: r.int(5), Times: r.int(6)})
			return nil
		})
	})
	return out, err
}
