package postgres

import (
	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
)

// hookOp registers a hook, or gives one back.
type hookOp struct {
	run  int64
	key  string         // given back, if spec is nil
	spec *pawl.HookSpec // of ch
	ch   *pawl.Change
}

func (w *work) hook(ch *pawl.Change, h *pawl.HookSpec) {
	w.hookOps, w.hooksLive = append(w.hookOps, hookOp{ch.Run, h.Key, h, ch}), true
}

func (w *work) unhook(run int64, key string) {
	w.hookOps = append(w.hookOps, hookOp{run: run, key: key})
}

// hookUpsert takes a token that is free, or whose hold has ended, or that is the hook's
// own already. The index on tokens decides between two that want it at the same moment.
const hookUpsert = `INSERT INTO hooks (token, run, key, meta, schema, public, at, hold) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
	ON CONFLICT (token) DO UPDATE SET made = DEFAULT, run = excluded.run, key = excluded.key, meta = excluded.meta, schema = excluded.schema,
		public = excluded.public, at = excluded.at, hold = excluded.hold, until = NULL
		WHERE hooks.until <= $7 OR hooks.run = excluded.run AND hooks.key = excluded.key`

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
			w.exec("DELETE FROM hooks WHERE run = $1 AND key = $2", op.run, op.key)
		}
		return nil
	}
	w.flushCleared()
	for try := 0; len(ops) > 0; try++ {
		var refused []hookOp
		for _, op := range ops {
			h := op.spec
			if h == nil {
				w.exec("DELETE FROM hooks WHERE run = $1 AND key = $2", op.run, op.key)
				continue
			}
			h.Owner = ""
			w.count(func(n int64) {
				if n == 0 {
					refused = append(refused, op)
				}
			}, hookUpsert, h.Token, op.run, h.Key, []byte(h.Meta), []byte(h.Schema), h.Public, w.us, h.Hold.Microseconds())
		}
		if err := w.send(); err != nil || len(refused) == 0 {
			return err
		}
		for _, op := range refused {
			w.rows(func(row pgx.CollectableRow) error { return row.Scan(&op.spec.Owner) },
				"SELECT r.id FROM hooks AS h JOIN runs AS r ON r.key = h.run WHERE h.token = $1", op.spec.Token)
		}
		if err := w.send(); err != nil {
			return err
		}
		ops = nil
		for _, op := range refused {
			if op.spec.Owner == "" && try < 10 { // it was given back between the two statements
				ops = append(ops, op)
				continue
			}
			for i := range op.ch.Entries {
				if e := &op.ch.Entries[i]; e.Kind == pawl.KindHook && e.Key == op.spec.Key {
					e.Failed, e.Data = true, mustJSON(pawl.ConflictFailure(op.spec.Token, op.spec.Owner))
				}
			}
		}
	}
	return nil
}
