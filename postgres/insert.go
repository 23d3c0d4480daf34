package postgres

import (
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
)

// fresh is a run about to be inserted.
type fresh struct {
	st     *pawl.Start
	state  pawl.State
	epoch  int64
	worker int64
	rank   int64
	due    int64
	gate   string
	single string
	limits string
}

// shape decides how a start begins its life. room: whether the worker may have it at once.
func (w *work) shape(st *pawl.Start, gate, single string, room bool) *fresh {
	f := &fresh{st: st, state: pawl.Pending, rank: none, due: none, gate: gate, single: single}
	now := !st.Run.NotBefore.After(w.now)
	if now {
		f.rank = w.rank(st.Run.Priority)
	} else {
		f.due = st.Run.NotBefore.UnixMicro()
	}
	if len(st.Run.Limits) > 0 {
		f.limits = string(mustJSON(st.Run.Limits))
	}
	if room && st.Run.Eager && now && gate == "" && f.limits == "" && st.Copy == nil && w.knows(st.Run.Workflow) {
		f.state, f.epoch, f.worker, f.rank = pawl.Running, 1, w.b.Worker, none
	}
	return f
}

// ties reports whether the run's end will touch other rows than its own.
func (f *fresh) ties() bool { return f.st.Run.Parent != 0 || f.st.Run.Single != "" || f.limits != "" }

// insertEarly queues the insertion of all runs that depend on nothing but their id, in one
// statement and before any row is locked.
func (w *work) insertEarly() (list []*fresh) {
	room := w.room
	add := func(st *pawl.Start) {
		if st.Run.Single != "" {
			return
		}
		f := w.shape(st, "", "", room > 0)
		if f.worker != 0 {
			room--
		}
		list = append(list, f)
	}
	for _, ch := range w.b.Changes {
		if ch.To != nil { // a move may be refused, and the children with it
			continue
		}
		for _, st := range ch.Children {
			if unfitStart(st) == nil {
				add(st)
			}
		}
	}
	for _, st := range w.b.Starts {
		if st.Err == nil {
			add(st)
		}
	}
	w.insert(list)
	return list
}

const runInsert = `INSERT INTO runs (id, tenant, workflow, version, state, epoch, worker, rank, due, gate, priority, created, updated,
	not_before, deadline, parent, parent_key, detached, ties, single, singleton, limits, keep, seed, forked, trace)
	SELECT id, tenant, workflow, nullif(version, ''), state, epoch, worker, nullif(rank, -9223372036854775808), nullif(due, -9223372036854775808),
		nullif(gate, ''), nullif(priority, 0), $1, $1, nullif(not_before, -9223372036854775808), nullif(deadline, -9223372036854775808),
		nullif(parent, 0), nullif(parent_key, ''), detached, ties, CASE WHEN singleton <> '' AND gate <> 'singleton ' || singleton THEN singleton END, nullif(singleton, ''), nullif(limits, ''), keep, seed, nullif(forked, ''), nullif(trace, '')
	FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::text[], $12::integer[],
		$13::bigint[], $14::bigint[], $15::bigint[], $16::text[], $17::boolean[], $18::boolean[], $19::text[], $20::text[], $21::bigint[], $22::bigint[], $23::text[], $24::text[])
		WITH ORDINALITY AS u (id, tenant, workflow, version, state, epoch, worker, rank, due, gate, priority,
			not_before, deadline, parent, parent_key, detached, ties, singleton, limits, keep, seed, forked, trace, n)
	ORDER BY n ON CONFLICT (id, tenant) DO NOTHING RETURNING key, id, tenant`

// insert queues the insertion of runs whose ids are free. The others get no key.
func (w *work) insert(list []*fresh) {
	if len(list) == 0 {
		return
	}
	text := func(field func(r *pawl.NewRun) string) []string {
		return column(list, func(f *fresh) string { return field(&f.st.Run) })
	}
	number := func(field func(r *pawl.NewRun) int64) []int64 {
		return column(list, func(f *fresh) int64 { return field(&f.st.Run) })
	}
	byName := map[runName]*pawl.Start{}
	for i := len(list) - 1; i >= 0; i-- { // the first of two with one id is the one that is stored
		byName[runName{list[i].st.Run.Tenant, list[i].st.Run.ID}] = list[i].st
	}
	w.rows(func(row pgx.CollectableRow) error {
		var key int64
		var name runName
		err := row.Scan(&key, &name.id, &name.tenant)
		if st := byName[name]; st != nil {
			st.Key = key
		}
		return err
	}, runInsert, w.us,
		text(func(r *pawl.NewRun) string { return r.ID }), text(func(r *pawl.NewRun) string { return r.Tenant }),
		text(func(r *pawl.NewRun) string { return r.Workflow }), text(func(r *pawl.NewRun) string { return r.Version }),
		column(list, func(f *fresh) int16 { return int16(f.state) }), column(list, func(f *fresh) int64 { return f.epoch }),
		column(list, func(f *fresh) int64 { return f.worker }), column(list, func(f *fresh) int64 { return f.rank }),
		column(list, func(f *fresh) int64 { return f.due }), column(list, func(f *fresh) string { return f.gate }),
		column(list, func(f *fresh) int32 { return int32(f.st.Run.Priority) }),
		number(func(r *pawl.NewRun) int64 { return micro(r.NotBefore) }), number(func(r *pawl.NewRun) int64 { return micro(r.Deadline) }),
		number(func(r *pawl.NewRun) int64 { return r.Parent }),
		text(func(r *pawl.NewRun) string { return r.ParentKey }),
		column(list, func(f *fresh) bool { return f.st.Run.Detached }), column(list, func(f *fresh) bool { return f.ties() }),
		text(func(r *pawl.NewRun) string { return r.Single }), column(list, func(f *fresh) string { return f.limits }),
		number(func(r *pawl.NewRun) int64 { return keep(r.Keep) }), number(func(r *pawl.NewRun) int64 { return r.Seed }),
		text(func(r *pawl.NewRun) string { return r.ForkedFrom }), text(func(r *pawl.NewRun) string { return r.Trace }))
}

// stored goes on with a run that insert has stored.
func (w *work) stored(f *fresh) error {
	st := f.st
	n := &st.Run
	at := time.UnixMicro(w.us).UTC()
	st.Info = pawl.RunInfo{
		Key: st.Key, ID: n.ID, Tenant: n.Tenant, Workflow: n.Workflow, Version: n.Version, State: f.state, Epoch: f.epoch, Worker: f.worker,
		Priority: n.Priority, Created: at, Updated: at, NotBefore: n.NotBefore, Deadline: n.Deadline, ParentKey: n.ParentKey,
		ParentRun: n.Parent, Seed: n.Seed, Detached: n.Detached, Keep: n.Keep, Forked: n.ForkedFrom, Trace: n.Trace, Gate: f.gate, Limits: f.limits,
	}
	if f.due != none {
		st.Info.Due = fromMicro(&f.due)
	}
	r := w.keep(&run{RunInfo: st.Info, rank: f.rank, expires: none, single: f.single, ties: f.ties()})
	w.append(st.Key, &pawl.Entry{Kind: pawl.KindInput, At: w.now, Data: n.Input})
	w.attrs(st.Key, n.Attrs)
	for i := range n.Budgets {
		b := n.Budgets[i]
		b.Name, b.Tenant, b.Run = pawl.RunBudgetName(n.ID, b.Meter), n.Tenant, n.ID
		b.Roll(w.now)
		w.insertBudget(&b, st.Key)
	}
	if st.Copy != nil {
		if err := w.copy(st.Key, st.Copy); err != nil {
			return err
		}
	}
	switch {
	case f.worker != 0:
		r.granted = true
		w.room--
		w.grants = append(w.grants, grant{st.Key, len(w.b.Granted)})
		w.b.Granted = append(w.b.Granted, pawl.Claim{Info: st.Info, Start: st})
	case f.gate != "":
	case f.due == none:
		w.woke = true
	default:
		w.due(n.NotBefore)
	}
	return nil
}

// keep is a retention in microseconds; one shorter than that is still negative if it was.
func keep(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	return d.Microseconds()
}
