package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
)

// hook registers the i-th hook of a change, takes its token over, or tells who has it.
func (t *tx) hook(ch *pawl.Change, i int) error {
	h := &ch.Hooks[i]
	me, _, err := t.get(ch.Run)
	if err != nil {
		return err
	}
	space := pawl.TokenSpace(me.Tenant, h.Token)
	var owner pawl.HookRef
	var run int64
	var free, live, public bool
	found, err := t.one("SELECT r.id, h.key, h.run, h.until, h.public FROM hooks h JOIN runs r ON r.key = h.run WHERE h.token = ? AND h.space = ?",
		[]any{h.Token, space}, func(r row) error {
			owner, run = pawl.HookRef{Run: r.str(0), Hook: r.str(1)}, r.int(2)
			live, public = r.null(3), r.int(4) != 0
			free = !live && r.int(3) <= t.us || run == ch.Run && owner.Hook == h.Key
			return nil
		})
	if err != nil {
		return err
	}
	h.Owner = ""
	switch {
	case !found || free:
	case h.Claim && !public:
		if err := ch.Took(i, owner); err != nil {
			return err
		}
		if live {
			if _, err := t.deliver(run, pawl.MsgClaim+owner.Hook, pawl.ClaimNotice(h.Token, pawl.HookRef{Run: me.ID, Hook: h.Key})); err != nil {
				return err
			}
		}
	default:
		h.Owner = owner.Run
		for i := range ch.Entries {
			if e := &ch.Entries[i]; e.Kind == pawl.KindHook && e.Key == h.Key {
				e.Failed, e.Data = true, mustJSON(pawl.ConflictFailure(h.Token, h.Owner))
			}
		}
		return nil
	}
	return t.register(h, &me, space)
}

// register writes the row of a hook, over whatever has its token.
func (t *tx) register(h *pawl.HookSpec, run *pawl.RunInfo, space string) error {
	_, err := t.exec(`INSERT OR REPLACE INTO hooks (token, space, run, key, tenant, kind, meta, schema, public, at, hold, remember)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		h.Token, space, run.Key, h.Key, run.Tenant, h.Kind, raw(h.Meta), raw(h.Schema), h.Public, t.us, h.Hold.Microseconds(), h.Remember.Microseconds())
	return err
}

// unhook takes a hook away, at the wish of its run.
func (t *tx) unhook(run int64, key string) error {
	_, err := t.exec("DELETE FROM hooks WHERE run = ? AND key = ? AND remember = 0", run, key)
	if err == nil {
		_, err = t.exec("UPDATE hooks SET closed = 1, until = ?1, forget = ?1 + remember WHERE run = ?2 AND key = ?3 AND until IS NULL", t.us, run, key)
	}
	return err
}

// unhookAll takes away the hooks of a run that has ended. Those of one that may be retried stay
// for as long as it does.
func (t *tx) unhookAll(run int64, state pawl.State) error {
	failed := boolean(state == pawl.Failed)
	if failed == 0 {
		if _, err := t.exec("DELETE FROM hooks WHERE run = ? AND hold = 0 AND remember = 0", run); err != nil {
			return err
		}
	}
	_, err := t.exec("UPDATE hooks SET until = ?1 + hold, forget = iif(?2, NULL, ?1 + hold + remember) WHERE run = ?3 AND until IS NULL", t.us, failed, run)
	return err
}

const hookCols = "h.run, h.key, h.token, h.meta, h.schema, h.public, h.at, h.id, h.kind, h.until, h.remember"

func scanHook(r row) pawl.HookInfo {
	return pawl.HookInfo{
		Run: pawl.RunInfo{Key: r.int(0)}, Key: r.str(1), Token: r.str(2), Meta: r.bytes(3), Schema: r.bytes(4), Public: r.int(5) != 0, At: r.time(6),
		ID: r.int(7), Kind: r.str(8), Until: r.time(9),
	}
}

// findHook finds a hook by its token. ErrEnded: it is over, and held or remembered.
func (c *conn) findHook(tenant, token string, us int64) (h pawl.HookInfo, err error) {
	known := false
	found, err := c.one("SELECT "+hookCols+" FROM hooks h WHERE h.token = ? AND h.space = ?", []any{token, pawl.TokenSpace(tenant, token)}, func(r row) error {
		h = scanHook(r)
		known = r.null(9) || r.int(9)+r.int(10) > us
		return nil
	})
	if err == nil && (!found || !known) {
		return pawl.HookInfo{}, fmt.Errorf("%w: no live hook has this token", pawl.ErrNotFound)
	}
	if err == nil {
		h.Run, _, err = c.get(h.Run.Key)
	}
	if err == nil {
		err = pawl.HookEnded(&h)
	}
	return h, err
}

// FindHook implements pawl.Store.
func (s *Store) FindHook(ctx context.Context, tenant, token string, now time.Time) (h pawl.HookInfo, err error) {
	err = s.read(ctx, func(c *conn) error {
		h, err = c.findHook(tenant, token, now.UnixMicro())
		return err
	})
	return h, err
}

// ListHooks implements pawl.Store.
func (s *Store) ListHooks(ctx context.Context, f pawl.HookFilter) (out []pawl.HookInfo, err error) {
	err = s.read(ctx, func(c *conn) error {
		out, err = c.hooks(f)
		return err
	})
	return out, err
}

func (c *conn) hooks(f pawl.HookFilter) (out []pawl.HookInfo, err error) {
	q, args := "SELECT "+hookCols+" FROM hooks h WHERE h.id > ?", []any{f.After}
	and := func(cond string, a ...any) {
		q += " AND " + cond
		args = append(args, a...)
	}
	switch {
	case f.Run != 0:
		and("h.run = ?", f.Run)
	case !f.AllTenants:
		and("h.tenant = ?", f.Tenant)
	}
	if f.Key != "" {
		and("h.key = ?", f.Key)
	}
	if f.Kind != "" {
		and("h.kind = ? AND h.kind <> ''", f.Kind)
	}
	if f.TokenPrefix != "" {
		and("h.token >= ? AND h.token < ?", f.TokenPrefix, cmp.Or(pawl.PrefixEnd(f.TokenPrefix), "\xff"))
	}
	if !f.Ended {
		and("h.until IS NULL")
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	and("true ORDER BY h.id LIMIT ?", min(limit, 1000))
	err = c.query(q, args, func(r row) error {
		out = append(out, scanHook(r))
		return nil
	})
	for i := range out {
		if err == nil {
			out[i].Run, _, err = c.get(out[i].Run.Key)
		}
	}
	return out, err
}
