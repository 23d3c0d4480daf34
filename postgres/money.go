package postgres

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
)

// account is what a commit knows of money. The rows of all budgets that it may change are
// locked in the order of their ids, after the rows of runs; what is reserved and settled is
// counted in memory, and written with one statement per table.
type account struct {
	on      map[bought][]int64     // the budgets that apply
	charges map[int64]*charge      // that are settled
	budgets map[int64]*pawl.Budget // locked
	changed map[int64]bool         // of these budgets
	roomier map[int64]bool         // more is left than before
	fresh   []*reservation
}

// bought tells which budgets apply: those of a run, for a meter.
type bought struct {
	run   int64
	meter string
}

type reservation struct {
	*pawl.Reserve
	run int64
	on  []int64 // each with its since behind it
}

type charge struct {
	reserved   int64
	on         []int64
	done, live bool
	settle     *pawl.Settle
}

const budgetCols = `b.id, b.tenant, b.name, b.meter, b.cap, b.per, b.waits, coalesce(b.run_id, ''), coalesce(b.workflow, ''), coalesce(b.attr, ''), coalesce(b.value, ''),
	b.extra, b.spent, b.reserved, b.since`

func scanBudget(row pgx.CollectableRow) (*pawl.Budget, error) {
	b := &pawl.Budget{}
	var per, since int64
	err := row.Scan(&b.ID, &b.Tenant, &b.Name, &b.Meter, &b.Limit, &per, &b.Wait, &b.Run, &b.Workflow, &b.Attr, &b.Value, &b.Extra, &b.Spent, &b.Reserved, &since)
	b.Per = time.Duration(per) * time.Microsecond
	if since != 0 {
		b.Since = time.UnixMicro(since).UTC()
	}
	return b, err
}

func sinceOf(b *pawl.Budget) int64 { return microOr0(b.Since) }

// bounds finds the budgets that apply to runs: their own and those of the runs above them,
// which a detached child is not under, and those that runs share.
const bounds = `WITH RECURSIVE want AS (SELECT * FROM unnest($1::bigint[], $2::text[]) AS u (run, meter)),
	up (run, meter, key) AS (SELECT run, meter, run FROM want UNION SELECT up.run, up.meter, p.parent FROM up JOIN runs AS p ON p.key = up.key WHERE p.parent IS NOT NULL AND NOT p.detached)
	SELECT up.run, up.meter, b.id FROM up JOIN budgets AS b ON b.run = up.key AND b.meter = up.meter
	UNION
	SELECT want.run, want.meter, b.id FROM want JOIN runs AS r ON r.key = want.run JOIN budgets AS b ON b.tenant = r.tenant AND b.meter = want.meter AND b.run IS NULL
		WHERE (b.workflow IS NULL OR b.workflow = r.workflow)
		AND (b.attr IS NULL OR EXISTS (SELECT FROM attrs AS a WHERE a.run = r.key AND a.name = b.attr AND a.value = convert_to(b.value, 'UTF8')))
	ORDER BY 3`

// money reserves and settles, in the order of the batch.
func (w *work) money() error {
	a := &account{
		on: map[bought][]int64{}, charges: map[int64]*charge{}, budgets: map[int64]*pawl.Budget{}, changed: map[int64]bool{}, roomier: map[int64]bool{},
	}
	var changes []*pawl.Change
	for _, ch := range w.b.Changes {
		if ch.Err == nil && len(ch.Reserves)+len(ch.Settles) > 0 {
			changes = append(changes, ch)
		}
	}
	if len(changes)+len(w.b.Settles)+len(w.b.Budgets) == 0 {
		return nil
	}
	w.flushRest() // attributes say which budgets apply
	if err := w.lockBudgets(a, changes); err != nil {
		return err
	}
	for _, ch := range changes {
		for _, s := range ch.Settles {
			w.settle(a, s, false)
		}
		for _, r := range ch.Reserves {
			w.reserve(a, ch.Run, r)
		}
	}
	for _, o := range w.b.Budgets {
		if err := w.budget(a, o); err != nil {
			return err
		}
	}
	for _, s := range w.b.Settles {
		w.settle(a, s, true)
	}
	w.flushMoney(a)
	for _, id := range slices.Sorted(maps.Keys(a.roomier)) {
		if b := a.budgets[id]; b != nil {
			if err := w.wakeFor(b, b.Left()); err != nil {
				return err
			}
		}
	}
	return nil
}

// lockBudgets finds out which budgets are concerned, and locks them.
func (w *work) lockBudgets(a *account, changes []*pawl.Change) error {
	var runs, charges []int64
	var meters, tenants, names []string
	settle := func(s *pawl.Settle) {
		if a.charges[s.Charge] == nil {
			a.charges[s.Charge] = &charge{}
			charges = append(charges, s.Charge)
		}
	}
	for _, ch := range changes {
		for _, s := range ch.Settles {
			settle(s)
		}
		for _, r := range ch.Reserves {
			if of := (bought{ch.Run, r.Meter}); a.on[of] == nil {
				a.on[of] = []int64{}
				runs, meters = append(runs, of.run), append(meters, of.meter)
			}
		}
	}
	for _, s := range w.b.Settles {
		settle(s)
	}
	for _, o := range w.b.Budgets {
		tenants, names = append(tenants, clean(o.Budget.Tenant)), append(names, clean(o.Budget.Name))
	}
	ids := map[int64]bool{}
	if len(runs) > 0 {
		w.rows(func(row pgx.CollectableRow) error {
			var of bought
			var id int64
			err := row.Scan(&of.run, &of.meter, &id)
			a.on[of] = append(a.on[of], id)
			ids[id] = true
			return err
		}, bounds, runs, meters)
	}
	if len(charges) > 0 {
		w.rows(func(row pgx.CollectableRow) error {
			var id int64
			c := &charge{}
			err := row.Scan(&id, &c.reserved, &c.on, &c.done, &c.live)
			a.charges[id] = c
			for i := 0; i < len(c.on); i += 2 {
				ids[c.on[i]] = true
			}
			return err
		}, `SELECT c.id, c.reserved, c.budgets, c.settled IS NOT NULL, EXISTS (SELECT FROM runs AS r WHERE r.key = c.run AND r.worker <> 0 AND r.epoch = c.epoch)
			FROM charges AS c WHERE c.id = ANY($1::bigint[]) ORDER BY c.id FOR UPDATE`, charges)
	}
	if len(names) > 0 {
		w.rows(func(row pgx.CollectableRow) error {
			var id int64
			err := row.Scan(&id)
			ids[id] = true
			return err
		}, "SELECT b.id FROM unnest($1::text[], $2::text[]) AS u (tenant, name) JOIN budgets AS b ON b.tenant = u.tenant AND b.name = u.name", tenants, names)
	}
	if err := w.send(); err != nil || len(ids) == 0 {
		return err
	}
	w.rows(func(row pgx.CollectableRow) error {
		b, err := scanBudget(row)
		if b.Roll(w.now) {
			a.changed[b.ID] = true
		}
		a.budgets[b.ID] = b
		return err
	}, "SELECT "+budgetCols+" FROM budgets AS b WHERE b.id = ANY($1::bigint[]) ORDER BY b.id FOR UPDATE", slices.Sorted(maps.Keys(ids)))
	return w.send()
}

// reserve sets an amount aside on all budgets that apply, or on none.
func (w *work) reserve(a *account, run int64, res *pawl.Reserve) {
	var on []*pawl.Budget
	waits := false
	for _, id := range a.on[bought{run, res.Meter}] {
		if b := a.budgets[id]; b != nil { // nil: it was deleted since
			on = append(on, b)
			waits = waits || b.Wait
		}
	}
	if waits { // it waited for one of them before
		w.wait(run, res.Key, "", 0)
	}
	for _, b := range on {
		if b.Left() >= res.Most {
			continue
		}
		res.Over = new(*b)
		if b.Wait {
			w.tie(run)
			w.wait(run, res.Key, b.Event(), res.Most)
		}
		return
	}
	r := &reservation{Reserve: res, run: run, on: []int64{}}
	for _, b := range on {
		b.Reserved += res.Most
		a.changed[b.ID] = true
		r.on = append(r.on, b.ID, sinceOf(b))
	}
	a.fresh = append(a.fresh, r)
}

// settle gives back what was reserved and not spent. A charge that is settled stays as it is.
func (w *work) settle(a *account, s *pawl.Settle, byHand bool) {
	c := a.charges[s.Charge]
	switch {
	case c.on == nil:
		s.Err = fmt.Errorf("%w: there is no such charge", pawl.ErrNotFound)
	case c.done:
		s.Err = fmt.Errorf("%w: it is settled", pawl.ErrState)
	case c.live && byHand:
		s.Err = fmt.Errorf("%w: its step is under way", pawl.ErrState)
	}
	if s.Err != nil {
		return
	}
	c.done, c.settle = true, s
	for i := 0; i+1 < len(c.on); i += 2 {
		b := a.budgets[c.on[i]]
		if b == nil || sinceOf(b) != c.on[i+1] { // of a period that has ended, nothing is counted any more
			continue
		}
		b.Reserved -= c.reserved
		b.Spent += s.Amount
		a.changed[b.ID] = true
		if s.Amount < c.reserved && b.Wait {
			a.roomier[b.ID] = true
		}
	}
}

// budget carries out what an operator wants of a budget, and writes the record that goes with it.
func (w *work) budget(a *account, o *pawl.BudgetOrder) error {
	var old *pawl.Budget
	for _, b := range a.budgets {
		if b.Tenant == o.Budget.Tenant && b.Name == o.Budget.Name {
			old = b
		}
	}
	if old == nil && o.Verb != pawl.BudgetSet {
		o.Err = fmt.Errorf("%w: there is no such budget", pawl.ErrNotFound)
		return nil
	}
	if o.Err = o.Refuses(old); o.Err != nil {
		return nil
	}
	if o.With == nil {
		return w.orderOn(a, old, o)
	}
	with := &pawl.Write{Puts: []pawl.Put{*o.With}}
	there, err := w.lockRecords(with)
	if err != nil {
		return err
	}
	if o.Err = there.refuses(with); o.Err != nil {
		return nil
	}
	if err := w.orderOn(a, old, o); err != nil || o.Err != nil {
		return err
	}
	w.store(there, with)
	return nil
}

// orderOn carries out an order on a budget; nil: there is none yet.
func (w *work) orderOn(a *account, old *pawl.Budget, o *pawl.BudgetOrder) error {
	switch o.Verb {
	case pawl.BudgetDelete:
		o.Info = *old
		w.exec("DELETE FROM budgets WHERE id = $1", old.ID)
		delete(a.budgets, old.ID)
		return w.wakeFor(old, 1<<62)
	case pawl.BudgetTopUp:
		if limit := old.Limit + old.Extra + o.By; limit < 0 {
			o.Info, o.Err = *old, fmt.Errorf("%w: that would make its limit %d", pawl.ErrInput, limit)
			return nil
		}
		old.Extra += o.By
		a.changed[old.ID], a.roomier[old.ID] = true, true
		o.Info = *old
		return nil
	}
	return w.setBudget(a, old, o)
}

// setBudget makes a budget, or changes the one that has its name.
func (w *work) setBudget(a *account, old *pawl.Budget, o *pawl.BudgetOrder) error {
	b := o.Budget
	run := int64(0)
	if b.Run != "" {
		w.rows(func(row pgx.CollectableRow) error { return row.Scan(&run) }, "SELECT key FROM runs WHERE tenant = $1 AND id = $2", clean(b.Tenant), clean(b.Run))
		if err := w.send(); err != nil {
			return err
		}
		if run == 0 {
			o.Err = fmt.Errorf("%w: run %s", pawl.ErrNotFound, b.Run)
			return nil
		}
	}
	b.ID, b.Extra, b.Spent, b.Reserved, b.Since = 0, 0, 0, 0, time.Time{}
	if old == nil {
		b.Roll(w.now)
		w.insertBudget(&b, run)
		if err := w.send(); err != nil {
			return err
		}
		o.Info = b
		return nil
	}
	if old.Meter != b.Meter {
		o.Info, o.Err = *old, fmt.Errorf("%w: it counts %s; delete it, and make another for %s", pawl.ErrInput, old.Meter, b.Meter)
		return nil
	}
	b.ID = old.ID
	if old.Per == b.Per {
		b.Extra, b.Spent, b.Reserved, b.Since = old.Extra, old.Spent, old.Reserved, old.Since
	}
	b.Roll(w.now)
	*old = b
	w.exec(`UPDATE budgets SET per = $2, waits = $3, run = nullif($4, 0), run_id = nullif($5, ''), workflow = nullif($6, ''), attr = nullif($7, ''),
		value = CASE WHEN $7 <> '' THEN $8::text END WHERE id = $1`, b.ID, b.Per.Microseconds(), b.Wait, run, b.Run, b.Workflow, b.Attr, b.Value)
	a.changed[b.ID], a.roomier[b.ID] = true, true
	o.Info = b
	return nil
}

// insertBudget queues the insertion of a budget, which gets its id with the send.
func (w *work) insertBudget(b *pawl.Budget, run int64) {
	w.rows(func(row pgx.CollectableRow) error { return row.Scan(&b.ID) },
		`INSERT INTO budgets (tenant, name, meter, cap, per, waits, run, run_id, workflow, attr, value, extra, spent, reserved, since)
		VALUES ($1, $2, $3, $4, $5, $6, nullif($7, 0), nullif($8, ''), nullif($9, ''), nullif($10, ''), CASE WHEN $10 <> '' THEN $11::text END, 0, 0, 0, $12) RETURNING id`,
		b.Tenant, b.Name, b.Meter, b.Limit, b.Per.Microseconds(), b.Wait, run, b.Run, b.Workflow, b.Attr, b.Value, sinceOf(b))
}

// flushMoney queues what was reserved and settled.
func (w *work) flushMoney(a *account) {
	var changed []*pawl.Budget
	for _, id := range slices.Sorted(maps.Keys(a.changed)) {
		if b := a.budgets[id]; b != nil {
			changed = append(changed, b)
		}
	}
	if len(changed) > 0 {
		number := func(field func(b *pawl.Budget) int64) []int64 { return column(changed, field) }
		w.exec(`UPDATE budgets AS b SET cap = u.cap, extra = u.extra, spent = u.spent, reserved = u.reserved, since = u.since
			FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) AS u (id, cap, extra, spent, reserved, since) WHERE b.id = u.id`,
			number(func(b *pawl.Budget) int64 { return b.ID }), number(func(b *pawl.Budget) int64 { return b.Limit }), number(func(b *pawl.Budget) int64 { return b.Extra }),
			number(func(b *pawl.Budget) int64 { return b.Spent }), number(func(b *pawl.Budget) int64 { return b.Reserved }), number(sinceOf))
	}
	var settled []*charge
	for _, id := range slices.Sorted(maps.Keys(a.charges)) {
		if c := a.charges[id]; c.settle != nil {
			settled = append(settled, c)
		}
	}
	if len(settled) > 0 {
		w.exec(`UPDATE charges AS c SET amount = u.amount, guess = u.guess, settled = $5, detail = u.detail
			FROM unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::bytea[]) AS u (id, amount, guess, detail) WHERE c.id = u.id`,
			column(settled, func(c *charge) int64 { return c.settle.Charge }), column(settled, func(c *charge) int64 { return c.settle.Amount }),
			column(settled, func(c *charge) bool { return c.settle.Guess }), column(settled, func(c *charge) []byte { return c.settle.Detail }), w.us)
	}
	for _, r := range a.fresh {
		w.rows(func(row pgx.CollectableRow) error { return row.Scan(&r.Charge) },
			`INSERT INTO charges (run, epoch, run_id, tenant, workflow, step, attempt, meter, item, reserved, amount, guess, at, budgets, label, version)
			SELECT key, epoch, id, tenant, workflow, $2, $3, $4, $5, $6, $6, false, $7, $8::bigint[], $9, coalesce(version, '') FROM runs WHERE key = $1 RETURNING id`,
			r.run, r.Key, r.Attempt, r.Meter, r.Item, r.Most, w.us, r.on, r.Label)
	}
}

// wakeFor wakes the steps that wait for a budget and now fit into what is left, in the order
// of their runs. They reserve what they need themselves. The budget's row is locked, so a
// step that is refused later is refused for what is left then.
func (w *work) wakeFor(b *pawl.Budget, left int64) error {
	type waiter struct {
		runKey
		need int64
	}
	var all []waiter
	w.flushWaits()
	w.rows(func(row pgx.CollectableRow) error {
		var of waiter
		err := row.Scan(&of.run, &of.key, &of.need)
		all = append(all, of)
		return err
	}, "SELECT run, key, need FROM waits WHERE event = $1 AND need <= $2 ORDER BY run, key", b.Event(), left)
	if err := w.send(); err != nil {
		return err
	}
	for _, of := range all {
		if of.need > left {
			continue
		}
		left -= of.need
		w.wait(of.run, of.key, "", 0)
		r, err := w.run(of.run)
		if err != nil {
			return err
		}
		if r != nil {
			w.deliver(r, pawl.MsgEvent+b.Event(), nil)
		}
	}
	return nil
}
