package sqlite

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
)

const runInsert = `INSERT INTO runs (key, id, tenant, workflow, version, state, epoch, worker, rank, due, gate, priority, created, updated,
	not_before, deadline, parent, parent_key, detached, ties, single, singleton, limits, keep, seed, forked, trace)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id, tenant) DO NOTHING`

// start stores a new run, or tells of the one that is there.
func (t *tx) start(st *pawl.Start) error {
	run := &st.Run
	for n := 2; ; n++ {
		done, err := t.tryStart(st)
		if done || err != nil {
			return err
		}
		// The id is taken.
		old, found, err := t.lookup(run.Tenant, run.ID)
		if err != nil || !found {
			return errors.Join(err, fmt.Errorf("run %s is there and is not", run.ID))
		}
		switch {
		case st.Policy == pawl.Reject:
			st.Info, st.Existed, st.Err = old, true, fmt.Errorf("%w: id %s is taken by a run that is %s", pawl.ErrExists, run.ID, old.State)
			return nil
		case st.Policy == pawl.CancelOld, st.Policy == pawl.Queue:
			base := run.ID
			if n > 2 {
				base = base[:len(base)-len(fmt.Sprintf("~%d", n-1))]
			}
			run.ID = fmt.Sprintf("%s~%d", base, n)
			continue
		}
		return t.existing(st, old)
	}
}

// existing answers a start with the run that is there.
func (t *tx) existing(st *pawl.Start, old pawl.RunInfo) error {
	st.Key, st.Info, st.Existed = old.Key, old, true
	if old.Workflow != st.Run.Workflow {
		st.Err = fmt.Errorf("%w: id %s belongs to a run of %s", pawl.ErrConflict, old.ID, old.Workflow)
		return nil
	}
	if old.ID != st.Run.ID {
		return nil // met by its singleton key
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err := t.one("SELECT data FROM journal WHERE run = ? AND seq = 0", []any{old.Key}, func(r row) error {
		if !bytes.Equal(r.bytes(0), st.Run.Input) {
			st.Err = fmt.Errorf("%w: run %s of %s", pawl.ErrConflict, old.ID, old.Workflow)
		}
		return nil
	})
	return err
}

// tryStart stores the run unless its id is taken.
func (t *tx) tryStart(st *pawl.Start) (done bool, err error) {
	run := &st.Run
	b := t.b
	var gate, rank, due, limits any
	single := text(run.Single)
	if run.Single != "" {
		var holder pawl.RunInfo
		held, err := t.one("SELECT "+runCols+" FROM runs WHERE single = ?", []any{run.Single}, func(r row) error { holder = scanRun(r); return nil })
		if err != nil {
			return false, err
		}
		if held {
			switch st.Policy {
			case pawl.ReturnExisting:
				return true, t.existing(st, holder)
			case pawl.Reject:
				st.Info, st.Existed = holder, true
				st.Err = fmt.Errorf("%w: run %s holds the singleton key", pawl.ErrExists, holder.ID)
				return true, nil
			}
			gate, single = "singleton "+run.Single, nil
		}
	}
	now := !run.NotBefore.After(t.now)
	if now {
		rank = t.rank(run.Priority)
	} else {
		due = run.NotBefore
	}
	if len(run.Limits) > 0 {
		limits = string(mustJSON(run.Limits))
	}
	state, epoch, worker := pawl.Pending, int64(0), int64(0)
	eager := run.Eager && now && gate == nil && limits == nil && st.Copy == nil && b.Worker != 0 && t.room > 0 && t.knows(run.Workflow)
	if eager {
		state, epoch, worker, rank = pawl.Running, 1, b.Worker, nil
	}
	key := t.nextRun + 1
	n, err := t.exec(runInsert, key, run.ID, run.Tenant, run.Workflow, text(run.Version), int64(state), epoch, worker, rank, due, gate,
		orNull(int64(run.Priority)), t.us, t.us, timeOrNull(run.NotBefore), run.Deadline, orNull(run.Parent), text(run.ParentKey),
		orNull(boolean(run.Detached)), boolean(run.Parent != 0 || run.Single != "" || limits != nil), single, text(run.Single), limits, keep(run.Keep), run.Seed, text(run.ForkedFrom), text(run.Trace))
	if err != nil || n == 0 {
		return false, err
	}
	t.nextRun = key
	if gate != nil && st.Policy == pawl.CancelOld {
		if err := t.cancelHolder(run.Single); err != nil {
			return false, err
		}
	}
	st.Key = key
	st.Info = pawl.RunInfo{
		Key: key, ID: run.ID, Tenant: run.Tenant, Workflow: run.Workflow, Version: run.Version, State: state, Epoch: epoch, Worker: worker,
		Priority: run.Priority, Created: t.now, Updated: t.now, NotBefore: run.NotBefore, Deadline: run.Deadline, ParentKey: run.ParentKey,
		ParentRun: run.Parent, Seed: run.Seed, Detached: run.Detached, Keep: run.Keep, Forked: run.ForkedFrom, Trace: run.Trace,
	}
	if g, ok := gate.(string); ok {
		st.Info.Gate = g
	}
	st.Info.Created = time.UnixMicro(t.us).UTC()
	t.append(key, &pawl.Entry{Kind: pawl.KindInput, At: t.now, Data: run.Input})
	if err := t.attrs(key, run.Attrs); err != nil {
		return false, err
	}
	if st.Copy != nil {
		if err := t.copy(key, st.Copy); err != nil {
			return false, err
		}
	}
	switch {
	case eager:
		t.room--
		b.Granted = append(b.Granted, pawl.Claim{Info: st.Info, Start: st})
	case gate != nil:
	case now:
		t.woke = true
	case b.Due.IsZero() || run.NotBefore.Before(b.Due):
		b.Due = run.NotBefore
	}
	return true, nil
}

// keep is a retention in microseconds; one shorter than that is still negative if it was.
func keep(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	return d.Microseconds()
}

func orNull(n int64) any {
	if n == 0 {
		return nil
	}
	return n
}

func boolean(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func timeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

// copy gives a fork its first entries.
func (t *tx) copy(run int64, c *pawl.Copy) error {
	if err := t.flush(); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO journal (run, seq, kind, key, at, took, data)
		SELECT ?, seq, kind, key, at, took, data FROM journal WHERE run = ? AND seq > 0 AND seq < ?
		AND seq NOT IN (SELECT value FROM json_each(?) WHERE value IS NOT NULL)`, run, c.From, c.Until, string(mustJSON(c.Omit)))
	if err != nil {
		return err
	}
	for _, e := range c.Replace {
		_, err := t.exec("UPDATE journal SET kind = ?, data = ? WHERE run = ? AND seq = ?", kindOf(&e), raw(e.Data), run, e.Seq)
		if err != nil {
			return err
		}
	}
	_, err = t.exec("DELETE FROM journal WHERE run = ? AND (kind & 127) IN (?, ?)", run, int64(pawl.KindOrder), int64(pawl.KindDrift))
	return err
}

func (t *tx) cancelHolder(single string) error {
	var key int64
	found, err := t.one("SELECT key FROM runs WHERE single = ?", []any{single}, func(r row) error { key = r.int(0); return nil })
	if err != nil || !found {
		return err
	}
	return t.cancel(key, json.RawMessage(`{"reason":"a newer run was started in its place"}`))
}

// order carries out what an operator wants.
func (t *tx) order(o *pawl.Order) error {
	info, found, err := t.lookup(o.Tenant, o.RunID)
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
				int64(pawl.Paused), text(reason(o.Data)), t.us, info.Key)
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
			err = t.retry(&info, o)
		default:
			return refuse("only a failed or blocked run can be retried")
		}
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

func reason(data json.RawMessage) string {
	var o struct {
		Reason string `json:"reason"`
	}
	_ = json.Unmarshal(data, &o) // an order that is no JSON has no reason
	return o.Reason
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

// retry reopens a failed run: the journal says which failures are to be forgotten.
func (t *tx) retry(info *pawl.RunInfo, o *pawl.Order) error {
	t.woke = true
	if err := t.note(info.Key, pawl.Entry{Kind: pawl.KindOrder, Key: "$retry", At: t.now, Data: o.Data}); err != nil {
		return err
	}
	_, err := t.exec(`UPDATE runs SET state = ?, reason = NULL, ended = NULL, expires = NULL, rank = ?, epoch = epoch + 1, strikes = NULL,
		deadline = CASE WHEN deadline <= ? THEN NULL ELSE deadline END, updated = ? WHERE key = ?`,
		int64(pawl.Pending), t.rank(info.Priority), t.us, t.us, info.Key)
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

// note appends an entry to the journal of a run that nobody holds.
func (t *tx) note(run int64, e pawl.Entry) error {
	if err := t.flush(); err != nil {
		return err
	}
	_, err := t.one("SELECT max(seq) FROM journal WHERE run = ?", []any{run}, func(r row) error { e.Seq = r.int(0) + 1; return nil })
	t.append(run, &e)
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
	f := &pawl.Failure{Message: reason(data), Type: "order", Code: "cancelled"}
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
		"DELETE FROM chunks WHERE run = ?", "DELETE FROM attrs WHERE run = ?", "DELETE FROM slots WHERE run = ?", "DELETE FROM runs WHERE key = ?",
	} {
		if _, err := t.exec(q, run); err != nil {
			return err
		}
	}
	return nil
}
