package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pawlrun/pawl"
)

// hookOp registers a hook, or gives one back.
type hookOp struct {
	run int64
	key string       // given back, if ch is nil
	ch  *pawl.Change // whose hook i is registered
	i   int
}

func (op *hookOp) spec() *pawl.HookSpec { return &op.ch.Hooks[op.i] }

func (w *work) hook(ch *pawl.Change, i int) {
	w.hookOps, w.hooksLive = append(w.hookOps, hookOp{ch.Run, ch.Hooks[i].Key, ch, i}), true
}

func (w *work) unhook(run int64, key string) {
	w.hookOps = append(w.hookOps, hookOp{run: run, key: key})
}

// hookUpsert takes a token that is free, or whose hold has ended, or that is the hook's
// own already. The index on tokens decides between two that want it at the same moment.
const hookUpsert = hookTake + ` WHERE hooks.until <= $7 OR hooks.run = excluded.run AND hooks.key = excluded.key`

// hookTake takes a token, whoever has it. The row stays, so that who reads it meets either owner.
const hookTake = `INSERT INTO hooks (token, run, key, meta, schema, public, at, hold, tenant, kind, remember, space)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
	ON CONFLICT (token, space) DO UPDATE SET made = DEFAULT, run = excluded.run, key = excluded.key, meta = excluded.meta, schema = excluded.schema,
		public = excluded.public, at = excluded.at, hold = excluded.hold, tenant = excluded.tenant, kind = excluded.kind, remember = excluded.remember,
		closed = false, until = NULL, forget = NULL`

// runHooks registers hooks and gives others back, in order, and tells the journals of those
// whose token is taken.
func (w *work) runHooks() error {
	ops := w.hookOps
	if len(ops) == 0 {
		return nil
	}
	live := w.hooksLive
	w.hookOps, w.hooksLive = nil, false
	if !live {
		for _, op := range ops {
			w.takeAway(op)
		}
		return nil
	}
	w.flushCleared()
	for try := 0; len(ops) > 0; try++ {
		var refused []hookOp
		for _, op := range ops {
			if op.ch == nil {
				w.takeAway(op)
				continue
			}
			h, query := op.spec(), hookUpsert
			h.Owner = ""
			if h.Claim {
				taken, err := w.claimToken(op)
				if err != nil {
					return err
				}
				if taken {
					query = hookTake
				}
			}
			w.count(func(n int64) {
				if n == 0 {
					refused = append(refused, op)
				}
			}, query, h.Token, op.run, h.Key, []byte(h.Meta), []byte(h.Schema), h.Public, w.us, h.Hold.Microseconds(), w.tenant(op.run), h.Kind, h.Remember.Microseconds(), w.space(op))
		}
		if err := w.send(); err != nil || len(refused) == 0 {
			return err
		}
		for _, op := range refused {
			w.rows(func(row pgx.CollectableRow) error { return row.Scan(&op.spec().Owner) },
				"SELECT r.id FROM hooks AS h JOIN runs AS r ON r.key = h.run WHERE h.token = $1 AND h.space = $2 AND (h.public OR NOT $3)", op.spec().Token, w.space(op), op.spec().Claim)
		}
		if err := w.send(); err != nil {
			return err
		}
		ops = nil
		for _, op := range refused {
			h := op.spec()
			if h.Owner == "" && try < 10 { // it was given back between the two statements, or may be claimed
				ops = append(ops, op)
				continue
			}
			for i := range op.ch.Entries {
				if e := &op.ch.Entries[i]; e.Kind == pawl.KindHook && e.Key == h.Key {
					e.Failed, e.Data = true, mustJSON(pawl.ConflictFailure(h.Token, h.Owner))
				}
			}
		}
	}
	return nil
}

// tenant is that of a run that this transaction has locked.
func (w *work) tenant(run int64) string {
	if r := w.runs[run]; r != nil {
		return r.Tenant
	}
	return ""
}

func (w *work) space(op hookOp) string { return pawl.TokenSpace(w.tenant(op.run), op.spec().Token) }

// claimToken tells the owner of a token, if it is live, that another hook takes it over. taken: it
// may be; the row of the hook is locked.
func (w *work) claimToken(op hookOp) (taken bool, err error) {
	var from runKey
	var until *int64
	var id string
	var found, public bool
	h := op.spec()
	w.rows(func(row pgx.CollectableRow) error {
		found = true
		return row.Scan(&from.run, &from.key, &until, &public, &id)
	}, "SELECT h.run, h.key, h.until, h.public, r.id FROM hooks AS h JOIN runs AS r ON r.key = h.run WHERE h.token = $1 AND h.space = $2 FOR UPDATE OF h", h.Token, w.space(op))
	if err := w.send(); err != nil {
		return false, err
	}
	free := until != nil && *until <= w.us || from == runKey{op.run, op.key}
	if !found || free || public {
		return false, nil
	}
	if err := op.ch.Took(op.i, pawl.HookRef{Run: id, Hook: from.key}); err != nil {
		return false, err
	}
	if until != nil {
		return true, nil
	}
	r, err := w.run(from.run)
	me := w.runs[op.run]
	if err != nil || r == nil || me == nil {
		return true, err
	}
	w.deliver(r, pawl.MsgClaim+from.key, pawl.ClaimNotice(h.Token, pawl.HookRef{Run: me.ID, Hook: h.Key}))
	return true, nil
}

// takeAway queues that a hook is given back. One that is remembered stays, and is over.
func (w *work) takeAway(op hookOp) {
	w.exec("DELETE FROM hooks WHERE run = $1 AND key = $2 AND remember = 0", op.run, op.key)
	w.exec("UPDATE hooks SET closed = true, until = $3, forget = $3 + remember WHERE run = $1 AND key = $2 AND NOT closed", op.run, op.key, w.us)
}

const hookCols = "h.run, h.key, h.token, h.meta, h.schema, h.public, h.at, h.made, h.kind, h.until"

func scanHook(row pgx.CollectableRow) (pawl.HookInfo, error) {
	var h pawl.HookInfo
	var at int64
	var until *int64
	err := row.Scan(&h.Run.Key, &h.Key, &h.Token, (*[]byte)(&h.Meta), (*[]byte)(&h.Schema), &h.Public, &at, &h.ID, &h.Kind, &until)
	h.At, h.Until = fromMicro(&at), fromMicro(until)
	return h, err
}

// FindHook implements pawl.Store.
func (s *Store) FindHook(ctx context.Context, tenant, token string, now time.Time) (h pawl.HookInfo, err error) {
	if !isText(token) || !isText(tenant) {
		return h, fmt.Errorf("%w: no live hook has this token", pawl.ErrNotFound)
	}
	err = s.read(ctx, "find a hook", func(c *pgxpool.Conn) error {
		h, err = one(ctx, c, scanHook, "SELECT "+hookCols+" FROM hooks AS h WHERE h.token = $1 AND h.space = $2 AND (h.until IS NULL OR h.until + h.remember > $3)",
			token, pawl.TokenSpace(tenant, token), now.UnixMicro())
		if err == nil {
			h.Run, err = one(ctx, c, scanInfo, runByKey, h.Run.Key)
		}
		if errors.Is(err, pawl.ErrNotFound) {
			h, err = pawl.HookInfo{}, fmt.Errorf("%w: no live hook has this token", pawl.ErrNotFound)
		}
		if err == nil {
			err = pawl.HookEnded(&h)
		}
		return err
	})
	return h, err
}

// ListHooks implements pawl.Store.
func (s *Store) ListHooks(ctx context.Context, f pawl.HookFilter) (out []pawl.HookInfo, err error) {
	err = s.read(ctx, "list hooks", func(c *pgxpool.Conn) error {
		out, err = hooks(ctx, c, f)
		return err
	})
	return out, err
}

func hooks(ctx context.Context, c *pgxpool.Conn, f pawl.HookFilter) ([]pawl.HookInfo, error) {
	if !isText(f.Tenant) || !isText(f.Key) || !isText(f.Kind) || !isText(f.TokenPrefix) {
		return nil, nil
	}
	args := []any{f.After}
	arg := func(a any) string {
		args = append(args, a)
		return fmt.Sprintf("$%d", len(args))
	}
	where := []string{"h.made > $1"}
	and := func(cond string, a any) { where = append(where, cond+arg(a)) }
	switch {
	case f.Run != 0:
		and("h.run = ", f.Run)
	case !f.AllTenants:
		and("h.tenant = ", f.Tenant)
	}
	if f.Key != "" {
		and("h.key = ", f.Key)
	}
	if f.Kind != "" {
		and("h.kind <> '' AND h.kind = ", f.Kind)
	}
	if f.TokenPrefix != "" {
		and("h.token >= ", f.TokenPrefix)
		if end := pawl.PrefixEnd(f.TokenPrefix); end != "" {
			and("h.token < ", end)
		}
	}
	if !f.Ended {
		where = append(where, "h.until IS NULL")
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	out, err := collect(ctx, c, scanHook, "SELECT "+hookCols+" FROM hooks AS h WHERE "+strings.Join(where, " AND ")+" ORDER BY h.made LIMIT "+arg(min(limit, 1000)), args...)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	keys := make([]int64, len(out))
	for i := range out {
		keys[i] = out[i].Run.Key
	}
	runs, err := collect(ctx, c, scanInfo, "SELECT "+runCols+" FROM runs WHERE key = ANY($1::bigint[])", keys)
	byKey := map[int64]pawl.RunInfo{}
	for _, r := range runs {
		byKey[r.Key] = r
	}
	for i := range out {
		out[i].Run = byKey[out[i].Run.Key]
	}
	return out, err
}
