package sqlite

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/pawlrun/pawl"
)

// parentEnded is the order with which a run cancels its children.
var parentEnded = json.RawMessage(`{"reason":"` + pawl.ReasonParentEnded + `"}`)

// order carries out what an operator wants.
func (t *tx) order(o *pawl.Order) error {
	find := t.current
	if o.Verb == pawl.VerbRetry || o.Verb == pawl.VerbDelete { // of this very run
		find = t.lookup
	}
	info, found, err := find(o.Tenant, o.RunID)
	if err != nil {
		return err
	}
	if !found {
		o.Err = fmt.Errorf("%w: run %s", pawl.ErrNotFound, o.RunID)
		return nil
	}
	o.Info = info
	refuse := func(why string) error {
		o.Err = fmt.Errorf("%w: it is %s; %s", pawl.ErrState, info.State, why)
		return nil
	}
	if info.State.Terminal() && o.Verb != pawl.VerbRetry && o.Verb != pawl.VerbDelete {
		o.Err = fmt.Errorf("%w: it is %s", pawl.ErrEnded, info.State)
		return nil
	}
	switch o.Verb {
	case pawl.VerbCancel:
		err = t.cancel(info.Key, o.Data)
	case pawl.VerbPause:
		switch {
		case info.State == pawl.Paused || info.State == pawl.Blocked:
			return refuse("nothing is there to pause")
		case info.Worker != 0:
			_, err = t.deliver(info.Key, pawl.MsgPause, o.Data)
		default:
			// One that never began stays so. Behind a limit it stands in nobody's way; a
			// singleton it goes on to queue for.
			_, err = t.exec(`UPDATE runs SET state = ?, reason = ?, rank = NULL, due = NULL, epoch = epoch + (epoch > 0), updated = ?,
				gate = CASE WHEN gate LIKE 'limit %' THEN NULL ELSE gate END WHERE key = ?`,
				int64(pawl.Paused), text(pawl.ReasonOf(o.Data)), t.us, info.Key)
			if err == nil && info.Gate == "" {
				err = t.stepAside(info.Limits)
			}
		}
	case pawl.VerbUnpause:
		if info.State != pawl.Paused && info.State != pawl.Blocked {
			return refuse("only a paused or blocked run can be resumed")
		}
		err = t.unpause(&info)
	case pawl.VerbWake:
		if info.State == pawl.Pending && info.Epoch == 0 {
			_, err = t.exec("UPDATE runs SET rank = coalesce(rank, ?), due = NULL, not_before = NULL WHERE key = ?", t.rank(info.Priority), info.Key)
			t.woke = true
			break
		}
		_, err = t.deliver(info.Key, pawl.MsgWake, o.Data)
	case pawl.VerbRetry:
		switch info.State {
		case pawl.Blocked:
			err = t.unpause(&info)
		case pawl.Failed:
			err = t.retryAll(&info, o)
		default:
			return refuse("only a failed or blocked run can be retried")
		}
	case pawl.VerbMigrate:
		switch {
		case info.Worker != 0:
			return refuse("migrate it when it waits, or pause it first")
		case info.Epoch != o.Epoch:
			o.Err = fmt.Errorf("%w: it has gone on meanwhile; try again", pawl.ErrConflict)
			return nil
		}
		err = t.migrate(&info, o)
	case pawl.VerbDelete:
		if !info.State.Terminal() {
			return refuse("cancel it first")
		}
		err = t.delete(info.Key)
	}
	if err != nil || o.Err != nil || o.Verb == pawl.VerbDelete {
		return err
	}
	o.Info, _, err = t.get(info.Key)
	return err
}

// migrate gives a run that nobody holds another version. Its epoch grows, so that no worker goes on with goroutines of
// the old one; one that waits is replayed, as the new one may wait for something else.
func (t *tx) migrate(info *pawl.RunInfo, o *pawl.Order) error {
	if info.Epoch > 0 { // one that never began has no journal
		if err := t.note(info.Key, pawl.Entry{Kind: pawl.KindOrder, Key: "$migrate", At: t.now, Data: o.Data}); err != nil {
			return err
		}
	}
	if _, err := t.exec("UPDATE runs SET version = ?, epoch = epoch + (epoch > 0), updated = ? WHERE key = ?", text(o.Version), t.us, info.Key); err != nil {
		return err
	}
	if info.State == pawl.Waiting || info.State == pawl.Blocked {
		return t.unpause(info)
	}
	return nil
}

// unpause lets a run go on: as it never began, or from its journal.
func (t *tx) unpause(info *pawl.RunInfo) error {
	if info.NotBefore.After(t.now) {
		_, err := t.exec("UPDATE runs SET state = ?, reason = NULL, due = not_before, updated = ? WHERE key = ?", int64(pawl.Pending), t.us, info.Key)
		if t.b.Due.IsZero() || info.NotBefore.Before(t.b.Due) {
			t.b.Due = info.NotBefore
		}
		return err
	}
	t.woke = true
	_, err := t.exec("UPDATE runs SET state = ?, reason = NULL, rank = ?, due = NULL, strikes = NULL, updated = ? WHERE key = ?",
		int64(pawl.Pending), t.rank(info.Priority), t.us, info.Key)
	return err
}

// retryAll reopens a failed run, with the children that go on with it: all of them or none.
func (t *tx) retryAll(info *pawl.RunInfo, o *pawl.Order) error {
	orders := append([]*pawl.Order{o}, o.Also...)
	var hooks []reopened
	for _, o := range orders {
		info, found, err := t.lookup(o.Tenant, o.RunID)
		if err != nil {
			return err
		}
		o.Info = info
		if !found || info.State != pawl.Failed && info.State != pawl.Cancelled {
			orders[0].Err = fmt.Errorf("%w: its child %s has changed meanwhile; try again", pawl.ErrState, o.RunID)
			return nil
		}
		for i := range o.Hooks {
			h := reopened{&o.Hooks[i], &o.Info, pawl.TokenSpace(o.Tenant, o.Hooks[i].Token)}
			owner, lost, err := t.owner(&h)
			if j := slices.IndexFunc(hooks, func(x reopened) bool { return x.Token == h.Token && x.space == h.space }); j >= 0 {
				owner = hooks[j].run.ID
			}
			switch {
			case err != nil:
				return err
			case owner != "":
				orders[0].Err = &pawl.HookConflictError{Token: h.Token, RunID: owner}
				return nil
			case lost:
				hooks = append(hooks, h)
			}
		}
	}
	for _, h := range hooks {
		if err := t.register(h.HookSpec, h.run, h.space); err != nil {
			return err
		}
	}
	for i, o := range orders {
		if err := t.retry(&o.Info, o); err != nil {
			return err
		}
		if i > 0 {
			if _, err := t.exec("DELETE FROM inbox WHERE run = (SELECT parent FROM runs WHERE key = ?1) AND name = ? || (SELECT parent_key FROM runs WHERE key = ?1)", o.Info.Key, pawl.MsgChild); err != nil {
				return err
			}
		}
	}
	return nil
}

// reopened is a hook that a retry opens again.
type reopened struct {
	*pawl.HookSpec
	run   *pawl.RunInfo
	space string
}

// owner tells which other run has the token of a hook that is to be opened again. lost: the hook's
// row is gone.
func (t *tx) owner(h *reopened) (run string, lost bool, err error) {
	mine := false
	_, err = t.one("SELECT r.id, h.run, h.until FROM hooks h JOIN runs r ON r.key = h.run WHERE h.token = ? AND h.space = ?", []any{h.Token, h.space}, func(r row) error {
		mine = r.int(1) == h.run.Key
		if !mine && (r.null(2) || r.int(2) > t.us) {
			run = r.str(0)
		}
		return nil
	})
	return run, !mine, err
}

// retry reopens a run: the journal says which failures are to be forgotten.
func (t *tx) retry(info *pawl.RunInfo, o *pawl.Order) error {
	t.woke = true
	if err := t.note(info.Key, pawl.Entry{Kind: pawl.KindOrder, Key: "$retry", At: t.now, Data: o.Data}); err != nil {
		return err
	}
	_, err := t.exec(`UPDATE runs SET state = ?, reason = NULL, ended = NULL, expires = NULL, rank = ?, epoch = epoch + 1, strikes = NULL,
		deadline = CASE WHEN deadline <= ? THEN NULL ELSE deadline END, updated = ? WHERE key = ?`,
		int64(pawl.Pending), t.rank(info.Priority), t.us, t.us, info.Key)
	if err == nil {
		_, err = t.exec("UPDATE hooks SET until = NULL, forget = NULL WHERE run = ? AND closed = 0", info.Key)
	}
	for _, key := range o.Keys { // what the children sent that it will not know of any more
		if err == nil {
			_, err = t.exec("DELETE FROM inbox WHERE run = ? AND name = ?", info.Key, pawl.MsgChild+key)
		}
	}
	if err == nil {
		err = t.retake(info.Key)
	}
	return err
}

// retake asks for the singleton key that a run had before it ended: it holds it again, or
// queues for it.
func (t *tx) retake(run int64) error {
	n, err := t.exec("UPDATE runs SET gate = 'singleton ' || singleton WHERE key = ? AND singleton IN (SELECT single FROM runs WHERE single IS NOT NULL)", run)
	if err == nil && n == 0 {
		_, err = t.exec("UPDATE runs SET single = singleton WHERE key = ? AND singleton IS NOT NULL", run)
	}
	return err
}

// cancel ends a run that was never worked at once, and tells the others.
func (t *tx) cancel(run int64, data json.RawMessage) error {
	info, found, err := t.get(run)
	if err != nil || !found {
		return err
	}
	if info.State.Terminal() {
		if info.Next == "" {
			return nil
		}
		next, found, err := t.lookup(info.Tenant, info.Next) // it goes on under another name
		if err != nil || !found {
			return err
		}
		return t.cancel(next.Key, data)
	}
	if info.Epoch > 0 && info.State != pawl.Blocked {
		if info.State == pawl.Paused || info.Gate != "" || info.Worker == 0 && info.Limits != "" { // to end it needs no place
			_, err := t.exec("UPDATE runs SET state = ?, reason = NULL, gate = NULL, limits = NULL, rank = ?, updated = ? WHERE key = ?",
				int64(pawl.Pending), t.rank(info.Priority), t.us, run)
			if err == nil && info.Gate == "" {
				err = t.stepAside(info.Limits)
			}
			if err != nil {
				return err
			}
			t.woke = true
		}
		_, err = t.deliver(run, pawl.MsgCancel, data)
		return err
	}
	f := &pawl.Failure{Message: pawl.ReasonOf(data), Type: "order", Code: "cancelled"}
	if f.Message == "" {
		f.Message = "cancelled"
	}
	result := mustJSON(f)
	if err := t.note(run, pawl.Entry{Kind: pawl.KindResult, At: t.now, Failed: true, Data: result}); err != nil {
		return err
	}
	var expires any
	if info.Keep >= 0 {
		expires = t.us + info.Keep.Microseconds()
	}
	_, err = t.exec("UPDATE runs SET state = ?, reason = ?, rank = NULL, due = NULL, gate = NULL, epoch = epoch + 1, updated = ?, ended = ?, expires = ? WHERE key = ?",
		int64(pawl.Cancelled), f.Message, t.us, t.us, expires, run)
	if err != nil {
		return err
	}
	if err := t.afterEnd(run, pawl.Cancelled, result, nil); err != nil || info.Gate != "" {
		return err
	}
	return t.stepAside(info.Limits)
}

func (t *tx) delete(run int64) error {
	for _, q := range []string{
		"DELETE FROM journal WHERE run = ?", "DELETE FROM inbox WHERE run = ?", "DELETE FROM waits WHERE run = ?", "DELETE FROM hooks WHERE run = ?",
		"DELETE FROM chunks WHERE run = ?", "DELETE FROM attrs WHERE run = ?", "DELETE FROM slots WHERE run = ?", "DELETE FROM budgets WHERE run = ?",
		"DELETE FROM runs WHERE key = ?",
	} {
		if _, err := t.exec(q, run); err != nil {
			return err
		}
	}
	return nil
}
