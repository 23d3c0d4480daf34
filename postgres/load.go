package postgres

import (
	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
)

// takeGates queues the locks of the limits and singletons that the batch may touch.
func (w *work) takeGates() {
	var keys []int64
	var names []string
	start := func(st *pawl.Start) {
		if st.Run.Single != "" {
			names = append(names, "singleton "+st.Run.Single)
		}
	}
	for _, ch := range w.b.Changes {
		if ch.To != nil {
			keys = append(keys, ch.Run)
		}
		keys = append(keys, ch.Cancels...)
		for _, st := range ch.Children {
			start(st)
		}
	}
	for _, st := range w.b.Starts {
		if st.Err == nil {
			start(st)
		}
	}
	var ids, tenants []string
	for _, o := range w.b.Orders {
		if o.Verb == pawl.VerbCancel || o.Verb == pawl.VerbPause {
			ids, tenants = append(ids, clean(o.RunID)), append(tenants, clean(o.Tenant))
		}
	}
	if len(keys)+len(ids)+len(names) > 0 {
		w.gates(w.s.schema, keys, ids, tenants, names, w.gate)
	}
}

// gate notes that the lock of a gate is held.
func (w *work) gate(name string) {
	if w.held == nil {
		w.held = map[string]bool{}
	}
	w.held[name] = true
}

// loadRuns queues the lock of all runs that are known to be touched, and what to know of them.
func (w *work) loadRuns() {
	var keys, ends, suspends, seen []int64
	var names, tenants, tokens, spaces, events, publishers, claimed []string
	var claimers []int64
	for _, ch := range w.b.Changes {
		for i := range ch.Hooks {
			if h := &ch.Hooks[i]; h.Claim {
				claimers, claimed = append(claimers, ch.Run), append(claimed, clean(h.Token))
			}
		}
		if ch.To != nil || len(ch.Hooks)+len(ch.Waits) > 0 || ch.Solo {
			keys = append(keys, ch.Run)
		}
		keys = append(keys, ch.Cancels...)
		switch m := ch.To; {
		case m == nil:
		case m.State.Terminal():
			ends = append(ends, ch.Run)
		case m.State == pawl.Waiting, m.State == pawl.Paused:
			suspends, seen = append(suspends, ch.Run), append(seen, m.Seen)
		}
	}
	for _, m := range w.b.Sends {
		switch {
		case m.Err != nil:
		case m.Publish != "":
			events, publishers = append(events, m.Publish), append(publishers, m.Tenant)
		case m.Token != "":
			tokens, spaces = append(tokens, m.Token), append(spaces, pawl.TokenSpace(m.Tenant, m.Token))
		default:
			names, tenants = append(names, m.RunID), append(tenants, m.Tenant)
		}
	}
	for _, o := range w.b.Orders {
		for _, o := range append([]*pawl.Order{o}, o.Also...) {
			names, tenants = append(names, o.RunID), append(tenants, o.Tenant)
		}
	}
	load := func(r pgx.CollectableRow) error {
		run, err := scanRun(r)
		if err == nil {
			w.keep(run)
		}
		return err
	}
	switch {
	case len(names)+len(tokens)+len(events)+len(claimed) > 0:
		for i := range names { // what is no text is no run's
			names[i], tenants[i] = clean(names[i]), clean(tenants[i])
		}
		w.rows(load, lockNamedRuns, keys, ends, names, tenants, cleanAll(tokens), cleanAll(spaces), cleanAll(events), claimers, claimed, cleanAll(publishers))
	case len(keys) > 0:
		w.rows(load, lockRuns, keys, ends)
	}
	if len(suspends) > 0 {
		w.unread = map[int64][]pawl.Message{}
		// A statement of its own, after the lock: its snapshot has what the lock waited for.
		w.rows(func(r pgx.CollectableRow) error {
			m, err := scanMessage(r)
			w.unread[m.run] = append(w.unread[m.run], m.Message)
			return err
		}, `SELECT i.run, i.id, i.name, i.at, i.data FROM unnest($1::bigint[], $2::bigint[]) AS u (run, seen)
			JOIN inbox AS i ON i.run = u.run AND i.id > u.seen ORDER BY i.id`, suspends, seen)
	}
}

const lockRuns = `SELECT ` + runCols + ` FROM runs WHERE key = ANY(ARRAY(
		SELECT unnest($1::bigint[]) UNION SELECT parent FROM runs WHERE key = ANY($2::bigint[]) AND parent IS NOT NULL AND NOT detached
	)) ORDER BY key FOR UPDATE`

var lockNamedRuns = `SELECT ` + runCols + ` FROM runs WHERE key = ANY(ARRAY(
		SELECT unnest($1::bigint[]) UNION SELECT parent FROM runs WHERE key = ANY($2::bigint[]) AND parent IS NOT NULL AND NOT detached
		UNION SELECT r.key FROM unnest($3::text[], $4::text[]) AS u (id, tenant) JOIN runs AS r ON r.id = u.id AND r.tenant = u.tenant
		UNION SELECT run FROM hooks WHERE (token, space) IN (SELECT * FROM unnest($5::text[], $6::text[]))
		UNION SELECT w.run ` + waitersSQL("$7", "$10") + `
		UNION SELECT h.run FROM unnest($8::bigint[], $9::text[]) AS u (run, token) JOIN runs AS r ON r.key = u.run JOIN hooks AS h ON h.token = u.token AND h.space = r.tenant
	)) ORDER BY key FOR UPDATE`
