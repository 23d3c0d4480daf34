package postgres

import (
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
)

// sends puts messages where they belong.
func (w *work) sends() error {
	if len(w.b.Sends) == 0 {
		return nil
	}
	var tokens, spaces, events, tenants []string
	for _, m := range w.b.Sends {
		switch {
		case m.Err != nil:
		case m.Publish != "":
			events, tenants = append(events, clean(m.Publish)), append(tenants, clean(m.Tenant))
		case m.Token != "":
			tokens, spaces = append(tokens, clean(m.Token)), append(spaces, clean(pawl.TokenSpace(m.Tenant, m.Token)))
		}
	}
	hooks := map[tokenIn]*hooked{}
	if len(tokens) > 0 {
		// Their runs are locked; the rows of the hooks are too, so that a hook that is given
		// back at this moment either gets the payload or makes the answer ErrEnded.
		w.rows(func(row pgx.CollectableRow) error {
			var token tokenIn
			var h hooked
			err := row.Scan(&token.token, &token.space, &h.run, &h.key, &h.over, &h.made)
			hooks[token] = &h
			return err
		}, `SELECT token, space, run, key, until, made FROM hooks WHERE (token, space) IN (SELECT * FROM unnest($1::text[], $2::text[])) AND (until IS NULL OR until + remember > $3)
			ORDER BY token, space FOR SHARE`, tokens, spaces, w.us)
	}
	waiting := map[eventIn][]int64{}
	if len(events) > 0 {
		w.flushWaits()
		w.rows(func(row pgx.CollectableRow) error {
			var event eventIn
			var run int64
			err := row.Scan(&event.event, &event.tenant, &run)
			waiting[event] = append(waiting[event], run)
			return err
		}, "SELECT DISTINCT u.event, u.tenant, w.run "+waitersSQL("$1", "$2")+" ORDER BY w.run", events, tenants)
	}
	once := w.remembered()
	if err := w.send(); err != nil {
		return err
	}
	for _, m := range w.b.Sends {
		if m.Err == nil && m.Once != nil {
			if known, err := once.repeats(m); known || err != nil {
				if err != nil {
					return err
				}
				continue
			}
		}
		var err error
		switch {
		case m.Err != nil:
		case m.Publish != "":
			err = w.publish(m, waiting[eventIn{m.Publish, m.Tenant}])
		case m.Token != "":
			err = w.toHook(m, hooks)
		default:
			err = w.toRun(m)
		}
		if err != nil {
			return err
		}
		if m.Err == nil && !m.Moved && m.Once != nil {
			w.remember(once, m)
		}
	}
	return nil
}

// eventIn is an event in its tenant.
type eventIn struct{ event, tenant string }

// waitersSQL is where the runs are that wait for events of tenants, as w.run: no other tenant's
// runs are read or locked for an event, whatever it is called.
func waitersSQL(events, tenants string) string {
	return "FROM unnest(" + events + "::text[], " + tenants + "::text[]) AS u (event, tenant) JOIN waits AS w ON w.event = u.event JOIN runs AS r ON r.key = w.run AND r.tenant = u.tenant"
}

func (w *work) publish(m *pawl.Send, waiting []int64) error {
	for _, key := range waiting {
		r, err := w.run(key)
		if err != nil {
			return err
		}
		if r != nil && !r.State.Terminal() {
			w.deliver(r, m.Name, m.Data)
			m.Count++
		}
	}
	return nil
}

// hooked is a hook that a message is for.
type hooked struct {
	runKey
	over *int64 // set: it is closed or its run has ended
	made int64
}

// tokenIn is a token in its space.
type tokenIn struct{ token, space string }

func (w *work) toHook(m *pawl.Send, hooks map[tokenIn]*hooked) error {
	if h := hooks[tokenIn{m.Token, pawl.TokenSpace(m.Tenant, m.Token)}]; h != nil {
		r, err := w.run(h.run)
		switch {
		case err != nil:
			return err
		case r == nil:
		case h.over != nil || r.State.Terminal():
			m.Info = r.RunInfo
			m.Err = pawl.HookEnded(&pawl.HookInfo{Run: r.RunInfo, Until: w.now})
			return nil
		case m.RunID != "" && r.ID != m.RunID:
			m.Err = fmt.Errorf("%w: another run has claimed the token of the hook of run %s", pawl.ErrEnded, m.RunID)
			return nil
		case m.Hook != 0 && h.made != m.Hook:
			m.Moved = true
			return nil
		default:
			m.Moved = false
			m.Info = w.deliver(r, pawl.MsgHook+h.key, m.Data)
			return nil
		}
	}
	m.Err = fmt.Errorf("%w: no live hook has this token", pawl.ErrNotFound)
	return nil
}

func (w *work) toRun(m *pawl.Send) error {
	r, err := w.current(w.named[runName{m.Tenant, m.RunID}])
	switch {
	case err != nil:
		return err
	case r == nil:
		m.Err = fmt.Errorf("%w: run %s", pawl.ErrNotFound, m.RunID)
	case r.State.Terminal():
		m.Info, m.Err = r.RunInfo, fmt.Errorf("%w: run %s is %s", pawl.ErrEnded, m.RunID, r.State)
	default:
		m.Info = w.deliver(r, m.Name, m.Data)
	}
	return nil
}
