package postgres

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
)

// parentEnded is the order with which a run cancels its children.
var parentEnded = json.RawMessage(`{"reason":"` + pawl.ReasonParentEnded + `"}`)

// order carries out what an operator wants.
func (w *work) order(o *pawl.Order) error {
	r := w.named[runName{o.Tenant, o.RunID}]
	if o.Verb != pawl.VerbRetry && o.Verb != pawl.VerbDelete { // these are of this very run
		var err error
		if r, err = w.current(r); err != nil {
			return err
		}
	}
	if r == nil {
		o.Err = fmt.Errorf("%w: run %s", pawl.ErrNotFound, o.RunID)
		return nil
	}
	o.Info = r.RunInfo
	refuse := func(why string) error {
		o.Err = fmt.Errorf("%w: it is %s; %s", pawl.ErrState, r.State, why)
		return nil
	}
	if r.State.Terminal() && o.Verb != pawl.VerbRetry && o.Verb != pawl.VerbDelete {
		o.Err = fmt.Errorf("%w: it is %s", pawl.ErrEnded, r.State)
		return nil
	}
	var err error
	switch o.Verb {
	case pawl.VerbCancel:
		err = w.cancel(r, o.Data)
	case pawl.VerbPause:
		switch {
		case r.State == pawl.Paused || r.State == pawl.Blocked:
			return refuse("nothing is there to pause")
		case r.Worker != 0:
			w.deliver(r, pawl.MsgPause, o.Data)
		default:
			// One that never began stays so. Behind a limit it stands in nobody's way; a
			// singleton it goes on to queue for.
			gate := r.Gate
			w.touch(r)
			r.State, r.Reason, r.rank, r.Due = pawl.Paused, clean(pawl.ReasonOf(o.Data)), none, time.Time{}
			if r.Epoch > 0 {
				r.Epoch++
			}
			if strings.HasPrefix(gate, "limit ") {
				r.Gate = ""
			}
			if gate == "" {
				err = w.stepAside(r.Limits)
			}
		}
	case pawl.VerbUnpause:
		if r.State != pawl.Paused && r.State != pawl.Blocked {
			return refuse("only a paused or blocked run can be resumed")
		}
		w.unpause(r)
	case pawl.VerbWake:
		if r.State == pawl.Pending && r.Epoch == 0 {
			if r.rank == none {
				r.rank = w.rank(r.Priority)
			}
			r.Due, r.NotBefore, r.dirty, w.woke = time.Time{}, time.Time{}, true, true
			break
		}
		w.deliver(r, pawl.MsgWake, o.Data)
	case pawl.VerbRetry:
		switch r.State {
		case pawl.Blocked:
			w.unpause(r)
		case pawl.Failed:
			err = w.retryAll(o)
			if o.Err != nil {
				return nil
			}
		default:
			return refuse("only a failed or blocked run can be retried")
		}
	case pawl.VerbMigrate:
		switch {
		case r.Worker != 0:
			return refuse("migrate it when it waits, or pause it first")
		case r.Epoch != o.Epoch:
			o.Err = fmt.Errorf("%w: it has gone on meanwhile; try again", pawl.ErrConflict)
			return nil
		}
		err = w.migrate(r, o)
	case pawl.VerbDelete:
		if !r.State.Terminal() {
			return refuse("cancel it first")
		}
		w.flush()
		w.delete([]int64{r.Key})
		delete(w.runs, r.Key)
		delete(w.named, runName{r.Tenant, r.ID})
		return nil
	}
	if err == nil {
		o.Info = r.RunInfo
	}
	return err
}

// migrate gives a run that nobody holds another version. Its epoch grows, so that no worker goes on with goroutines of
// the old one; one that waits is replayed, as the new one may wait for something else.
func (w *work) migrate(r *run, o *pawl.Order) error {
	if r.Epoch > 0 { // one that never began has no journal
		if err := w.note(r.Key, &pawl.Entry{Kind: pawl.KindOrder, Key: "$migrate", At: w.now, Data: o.Data}); err != nil {
			return err
		}
	}
	w.flush() // the run may have been started in this batch
	w.exec("UPDATE runs SET version = nullif($2, '') WHERE key = $1", r.Key, o.Version)
	w.touch(r)
	r.Version = o.Version
	if r.Epoch > 0 {
		r.Epoch++
	}
	if r.State == pawl.Waiting || r.State == pawl.Blocked {
		w.unpause(r)
	}
	return nil
}

// unpause lets a run go on: as it never began, or from its journal.
func (w *work) unpause(r *run) {
	w.touch(r)
	r.State, r.Reason = pawl.Pending, ""
	if r.NotBefore.After(w.now) {
		r.Due = r.NotBefore
		w.due(r.Due)
		return
	}
	w.woke = true
	r.rank, r.Due, r.Strikes = w.rank(r.Priority), time.Time{}, 0
}

// retryAll reopens a failed run, with the children that go on with it: all of them or none.
func (w *work) retryAll(o *pawl.Order) error {
	orders := append([]*pawl.Order{o}, o.Also...)
	type owner struct {
		run  int64
		id   string
		over bool // whoever asks takes the token
	}
	owners := map[tokenIn]owner{}
	var lost []reopened
	tokens, spaces := tokensOf(orders)
	w.rows(func(row pgx.CollectableRow) error {
		var token tokenIn
		var o owner
		err := row.Scan(&token.token, &token.space, &o.run, &o.id, &o.over)
		owners[token] = o
		return err
	}, `SELECT h.token, h.space, h.run, r.id, coalesce(h.until <= $3, false) FROM hooks AS h JOIN runs AS r ON r.key = h.run
		WHERE (h.token, h.space) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY h.token, h.space FOR UPDATE OF h`, tokens, spaces, w.us)
	if err := w.send(); err != nil {
		return err
	}
	for _, also := range orders {
		r := w.named[runName{also.Tenant, also.RunID}]
		if r == nil || r.State != pawl.Failed && r.State != pawl.Cancelled {
			o.Err = fmt.Errorf("%w: its child %s has changed meanwhile; try again", pawl.ErrState, also.RunID)
			return nil
		}
		for i := range also.Hooks {
			h := &also.Hooks[i]
			token := tokenIn{clean(h.Token), clean(pawl.TokenSpace(also.Tenant, h.Token))}
			switch by, is := owners[token]; {
			case is && by.run == r.Key:
			case is && !by.over:
				o.Err = &pawl.HookConflictError{Token: h.Token, RunID: by.id}
				return nil
			default:
				lost, owners[token] = append(lost, reopened{h, r, token}), owner{run: r.Key, id: r.ID}
			}
		}
	}
	for _, h := range lost {
		w.reopen(h)
	}
	w.flushInbox() // which may have what is to be dropped
	for i, also := range orders {
		r := w.named[runName{also.Tenant, also.RunID}]
		if err := w.retry(r, also); err != nil {
			return err
		}
		also.Info = r.RunInfo
		if i > 0 {
			w.exec("DELETE FROM inbox WHERE run = $1 AND name = $2", r.ParentRun, pawl.MsgChild+r.ParentKey)
		}
	}
	return nil
}

// tokensOf are the tokens that the orders name, each with its space.
func tokensOf(orders []*pawl.Order) (tokens, spaces []string) {
	for _, o := range orders {
		for _, h := range o.Hooks {
			tokens, spaces = append(tokens, clean(h.Token)), append(spaces, clean(pawl.TokenSpace(o.Tenant, h.Token)))
		}
	}
	return tokens, spaces
}

// reopened is a hook that a retry opens again, and whose row is gone.
type reopened struct {
	*pawl.HookSpec
	run *run
	tokenIn
}

// reopen makes the row of a hook anew. What had the token, and is over, is locked; if somebody takes
// one that had no row meanwhile, the transaction is begun again, and finds it taken.
func (w *work) reopen(h reopened) {
	w.exec("DELETE FROM hooks WHERE token = $1 AND space = $2", h.token, h.space)
	w.exec(`INSERT INTO hooks (token, run, key, meta, schema, public, at, hold, tenant, kind, remember, space) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		h.token, h.run.Key, clean(h.Key), []byte(h.Meta), []byte(h.Schema), h.Public, w.us, h.Hold.Microseconds(), h.run.Tenant, clean(h.Kind), h.Remember.Microseconds(), h.space)
}

// retry reopens a run: the journal says which failures are to be forgotten.
func (w *work) retry(r *run, o *pawl.Order) error {
	if err := w.note(r.Key, &pawl.Entry{Kind: pawl.KindOrder, Key: "$retry", At: w.now, Data: o.Data}); err != nil {
		return err
	}
	w.woke = true
	w.touch(r)
	r.State, r.Reason, r.Ended, r.expires, r.rank, r.Strikes = pawl.Pending, "", time.Time{}, none, w.rank(r.Priority), 0
	r.Epoch++
	if !r.Deadline.IsZero() && !r.Deadline.After(w.now) {
		r.Deadline = time.Time{}
	}
	w.exec("UPDATE hooks SET until = NULL, forget = NULL WHERE run = $1 AND NOT closed", r.Key)
	if len(o.Keys) > 0 { // what the children sent that it will not know of any more
		names := make([]string, len(o.Keys))
		for i, key := range o.Keys {
			names[i] = clean(pawl.MsgChild + key)
		}
		w.exec("DELETE FROM inbox WHERE run = $1 AND name = ANY($2::text[])", r.Key, names)
	}
	return w.retake(r)
}

// retake asks for the singleton key that a run had before it ended: it holds it again, or
// queues for it.
func (w *work) retake(r *run) error {
	var single string
	w.rows(func(row pgx.CollectableRow) error { return row.Scan(&single) }, "SELECT coalesce(singleton, '') FROM runs WHERE key = $1", r.Key)
	if err := w.send(); err != nil || single == "" {
		return err
	}
	if err := w.lockGate("singleton " + single); err != nil {
		return err
	}
	holder, err := w.holder(single)
	if err != nil {
		return err
	}
	if holder != nil {
		r.Gate = "singleton " + single
		return nil
	}
	w.exec("UPDATE runs SET single = $1 WHERE key = $2", single, r.Key)
	r.single = single
	return nil
}

// note appends an entry to the journal of a run that nobody holds.
func (w *work) note(run int64, e *pawl.Entry) error {
	w.rows(func(row pgx.CollectableRow) error { return row.Scan(&e.Seq) }, "SELECT coalesce(max(seq), -1) + 1 FROM journal WHERE run = $1", run)
	if err := w.send(); err != nil {
		return err
	}
	for _, p := range w.entries {
		if p.run == run {
			e.Seq = max(e.Seq, p.e.Seq+1)
		}
	}
	w.append(run, e)
	return nil
}

// cancel ends a run that was never worked at once, and tells the others.
func (w *work) cancel(r *run, data json.RawMessage) error {
	if r == nil || r.State.Terminal() && r.Next == "" {
		return nil
	}
	if r.State.Terminal() {
		return w.cancelAll(data, "SELECT key FROM runs WHERE tenant = $1 AND id = $2", r.Tenant, r.Next) // it may go on under another name
	}
	if r.Epoch > 0 && r.State != pawl.Blocked {
		if r.State == pawl.Paused || r.Gate != "" || r.Worker == 0 && r.Limits != "" { // to end it needs no place
			gate, limits := r.Gate, r.Limits
			w.touch(r)
			r.State, r.Reason, r.Gate, r.Limits, r.rank, w.woke = pawl.Pending, "", "", "", w.rank(r.Priority), true
			if gate == "" {
				if err := w.stepAside(limits); err != nil {
					return err
				}
			}
		}
		w.deliver(r, pawl.MsgCancel, data)
		return nil
	}
	f := &pawl.Failure{Message: pawl.ReasonOf(data), Type: "order", Code: "cancelled"}
	if f.Message == "" {
		f.Message = "cancelled"
	}
	result := mustJSON(f)
	if err := w.note(r.Key, &pawl.Entry{Kind: pawl.KindResult, At: w.now, Failed: true, Data: result}); err != nil {
		return err
	}
	gate := r.Gate
	w.touch(r)
	r.State, r.Reason, r.rank, r.Due, r.Gate, r.expires = pawl.Cancelled, clean(f.Message), none, time.Time{}, "", none
	r.Epoch++
	w.ends(r, r.Keep)
	err := w.cancelAll(json.RawMessage(`{"reason":"its parent has ended"}`),
		"SELECT key FROM runs WHERE parent = $1 AND NOT detached AND state NOT IN (4, 5, 6) ORDER BY key", r.Key)
	if err != nil {
		return err
	}
	if err := w.afterEnd(r, result, nil); err != nil || gate != "" {
		return err
	}
	return w.stepAside(r.Limits)
}

// cancelAll cancels the runs whose keys a query returns.
func (w *work) cancelAll(data json.RawMessage, query string, args ...any) error {
	var keys []int64
	w.rows(func(row pgx.CollectableRow) error {
		var key int64
		err := row.Scan(&key)
		keys = append(keys, key)
		return err
	}, query, args...)
	if err := w.send(); err != nil {
		return err
	}
	for _, key := range keys {
		r, err := w.run(key)
		if err != nil {
			return err
		}
		if err := w.cancel(r, data); err != nil {
			return err
		}
	}
	return nil
}

// delete queues the deletion of all that is of these runs.
func (t *tx) delete(runs []int64) {
	for _, table := range []string{"journal", "inbox", "waits", "hooks", "chunks", "attrs", "slots", "budgets"} {
		t.exec("DELETE FROM "+table+" WHERE run = ANY($1::bigint[])", runs)
	}
	t.exec("DELETE FROM runs WHERE key = ANY($1::bigint[])", runs)
}
