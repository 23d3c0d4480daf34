package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// tx is a write transaction. There is one at a time, and its buffers are used again.
type tx struct {
	*conn
	rows    []pending // journal entries that flush will insert
	nextRun int64
	nextMsg int64
	now     time.Time
	us      int64 // now
	b       *pawl.Batch
	room    int            // what is left of b.Room
	woke    bool           // a run became claimable, or one held elsewhere got a message
	untold  map[int64]bool // runs that got a message from another than their worker since that was told all
	told    []int64        // those that it is told of in this transaction
}

type pending struct {
	run int64
	e   *pawl.Entry
}

func (t *tx) init(c *conn) error {
	t.conn = c
	t.untold = map[int64]bool{}
	_, err := c.one("SELECT coalesce(max(key), 0) FROM runs", nil, func(r row) error { t.nextRun = r.int(0); return nil })
	if err != nil {
		return err
	}
	_, err = c.one("SELECT coalesce(max(id), 0) FROM inbox", nil, func(r row) error { t.nextMsg = r.int(0); return nil })
	// Ids of messages grow beyond those that were taken: a run remembers the newest it saw.
	t.nextMsg = max(t.nextMsg, time.Now().UnixMicro())
	return err
}

func (t *tx) begin() {
	t.rows = t.rows[:0]
	t.woke = false
	t.b = nil
	for _, run := range t.told { // the last transaction was committed
		delete(t.untold, run)
	}
	t.told = t.told[:0]
}

// forget drops what a rolled-back transaction had to say.
func (t *tx) forget() { t.rows, t.told = t.rows[:0], t.told[:0] }

func (t *tx) at(now time.Time) { t.now, t.us = now, now.UnixMicro() }

// Commit implements pawl.Store.
func (s *Store) Commit(ctx context.Context, b *pawl.Batch) error {
	woke, given := false, b.Said()
	b.Unanswer()
	err := s.write(func(t *tx) error {
		t.at(b.Now)
		t.b, t.room = b, b.Room
		if b.Worker != 0 {
			if err := t.fence(b.Worker); err != nil {
				return err
			}
		}
		for _, ch := range b.Changes {
			if err := t.change(ch); err != nil {
				return err
			}
		}
		for _, st := range b.Starts {
			if err := t.start(st); err != nil {
				return err
			}
		}
		for _, m := range b.Sends {
			if err := t.send(m); err != nil {
				return err
			}
		}
		for _, o := range b.Orders {
			if err := t.order(o); err != nil {
				return err
			}
		}
		woke = t.woke
		return nil
	})
	if err != nil {
		given.Restore()
		return err
	}
	if woke {
		b.Ready = true
		s.hint()
	}
	return nil
}

// fence refuses a worker that was declared dead. In this store nothing else can commit
// between the check and the transaction's end.
func (t *tx) fence(worker int64) error {
	found, err := t.one("SELECT 1 FROM workers WHERE id = ?", []any{worker}, func(row) error { return nil })
	if err == nil && !found {
		err = pawl.ErrFenced
	}
	return err
}

// change stores what one run has to say.
func (t *tx) change(ch *pawl.Change) error {
	untied := false
	if ch.To != nil {
		refused, free, err := t.move(ch)
		if err != nil || refused {
			return err
		}
		untied = free
	}
	for i := range ch.Hooks {
		if err := t.hook(ch, &ch.Hooks[i]); err != nil {
			return err
		}
	}
	for _, key := range ch.Unhooks {
		if _, err := t.exec("DELETE FROM hooks WHERE run = ? AND key = ?", ch.Run, key); err != nil {
			return err
		}
	}
	for _, st := range ch.Children {
		if err := t.start(st); err != nil {
			return err
		}
		for i := range ch.Entries {
			if e := &ch.Entries[i]; e.Kind == pawl.KindChild && e.Key == st.Run.ParentKey {
				e.Data, e.Failed = pawl.ChildEntry(st)
			}
		}
	}
	for i := range ch.Entries {
		t.append(ch.Run, &ch.Entries[i])
	}
	for _, id := range ch.Consumed {
		if _, err := t.exec("DELETE FROM inbox WHERE id = ? AND run = ?", id, ch.Run); err != nil {
			return err
		}
	}
	if len(ch.Waits)+len(ch.Hooks) > 0 {
		if err := t.tie(ch.Run); err != nil {
			return err
		}
	}
	for _, w := range ch.Waits {
		if _, err := t.exec("INSERT OR REPLACE INTO waits (run, key, event) VALUES (?, ?, ?)", ch.Run, w.Key, w.Event); err != nil {
			return err
		}
	}
	for _, key := range ch.Unwaits {
		if _, err := t.exec("DELETE FROM waits WHERE run = ? AND key = ?", ch.Run, key); err != nil {
			return err
		}
	}
	for _, c := range ch.Chunks {
		if _, err := t.exec("INSERT INTO chunks (run, stream, idx, at, closed, data) VALUES (?, ?, ?, ?, ?, ?)",
			ch.Run, c.Stream, c.Index, c.At, c.Closed, raw(c.Data)); err != nil {
			return err
		}
	}
	if err := t.attrs(ch.Run, ch.Attrs); err != nil {
		return err
	}
	if ch.Solo {
		if _, err := t.exec("UPDATE runs SET solo = 1 WHERE key = ?", ch.Run); err != nil {
			return err
		}
	}
	for _, child := range ch.Cancels {
		if err := t.cancel(child, json.RawMessage(`{"reason":"its parent has ended"}`)); err != nil {
			return err
		}
	}
	if ch.To != nil && ch.To.State.Terminal() && !untied {
		return t.ended(ch)
	}
	return nil
}

func (t *tx) attrs(run int64, attrs []pawl.Attr) error {
	for _, a := range attrs {
		var err error
		if a.Value == nil {
			_, err = t.exec("DELETE FROM attrs WHERE run = ? AND name = ?", run, a.Name)
		} else {
			_, err = t.exec("INSERT OR REPLACE INTO attrs (run, name, value) VALUES (?, ?, ?)", run, a.Name, *a.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tie says that the run's end touches other rows than its own.
func (t *tx) tie(run int64) error {
	_, err := t.exec("UPDATE runs SET ties = 1 WHERE key = ? AND ties = 0", run)
	return err
}

// append buffers an entry; flush inserts them all with few statements.
func (t *tx) append(run int64, e *pawl.Entry) { t.rows = append(t.rows, pending{run, e}) }

const journalCols = 7

var journalInsert = func() map[int]string {
	m := map[int]string{}
	for _, n := range []int{1, 4, 16, 64} {
		m[n] = "INSERT INTO journal (run, seq, kind, key, at, took, data) VALUES " + strings.Repeat(", (?, ?, ?, ?, ?, ?, ?)", n)[2:]
	}
	return m
}()

// kindOf is what the journal's column kind holds.
func kindOf(e *pawl.Entry) int64 {
	kind := int64(e.Kind) | int64(e.Attempt)<<8
	if e.Failed {
		kind |= 1 << 7
	}
	return kind
}

func (t *tx) flush() error {
	var args [64 * journalCols]any
	for rows := t.rows; len(rows) > 0; {
		n := 1
		for _, size := range []int{64, 16, 4} {
			if len(rows) >= size {
				n = size
				break
			}
		}
		for i, p := range rows[:n] {
			a := args[i*journalCols:]
			a[0], a[1], a[2], a[3], a[4], a[5], a[6] = p.run, p.e.Seq, kindOf(p.e), p.e.Key, p.e.At, int64(p.e.Took), raw(p.e.Data)
		}
		if _, err := t.exec(journalInsert[n], args[:n*journalCols]...); err != nil {
			return fmt.Errorf("append to the journal: %w", err)
		}
		rows = rows[n:]
	}
	t.rows = t.rows[:0]
	return nil
}

const moveRun = `UPDATE runs SET state = ?, reason = ?, worker = 0, rank = NULL, due = ?, updated = ?, ended = ?, expires = ?, next = ?, seen = ?, strikes = NULL, solo = NULL
	WHERE key = ? AND epoch = ? AND worker = ?`

// move takes a run out of its worker's hands, if the change is of its owner's. refused: the
// change must not be stored (ch.Err), as it comes from an owner that was superseded.
func (t *tx) move(ch *pawl.Change) (refused, untied bool, err error) {
	m := ch.To
	stays := false
	if m.State == pawl.Waiting || m.State == pawl.Paused {
		err := t.query("SELECT id, name, data, at FROM inbox WHERE run = ? AND id > ? ORDER BY id", []any{ch.Run, m.Seen}, func(r row) error {
			ch.Mail = append(ch.Mail, pawl.Message{ID: r.int(0), Name: r.str(1), Data: r.bytes(2), At: r.time(3)})
			return nil
		})
		if err != nil {
			return false, false, err
		}
		stays = len(ch.Mail) > 0
	}
	if stays {
		found, err := t.one("SELECT 1 FROM runs WHERE key = ? AND epoch = ? AND worker = ?", []any{ch.Run, ch.Epoch, t.b.Worker}, func(row) error { return nil })
		if !found {
			ch.Err, ch.Mail = pawl.ErrFenced, nil
		}
		return !found, false, err
	}
	var ended, expires any
	if m.State.Terminal() {
		ended = t.us
		if m.Keep >= 0 {
			expires = t.us + m.Keep.Microseconds()
		}
	}
	var next any
	if m.Next != nil {
		next = m.Next.Run.ID
	}
	args := []any{int64(m.State), text(m.Reason), m.Due, t.us, ended, expires, next, orNull(m.Seen), ch.Run, ch.Epoch, t.b.Worker}
	if m.State.Terminal() && m.Next == nil { // most runs have nothing to do with others
		n, err := t.exec(moveRun+" AND ties = 0", args...)
		if n > 0 || err != nil {
			return false, true, err
		}
	}
	n, err := t.exec(moveRun, args...)
	if err != nil {
		return false, false, err
	}
	if n == 0 {
		ch.Err = pawl.ErrFenced
		return true, false, nil
	}
	if !m.Due.IsZero() && (t.b.Due.IsZero() || m.Due.Before(t.b.Due)) {
		t.b.Due = m.Due
	}
	if !m.State.Terminal() {
		return false, false, t.release(ch.Run)
	}
	return false, false, nil
}

// text is s, or NULL when it is empty.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// release gives back the run's places under concurrency limits and lets the next ones in.
func (t *tx) release(run int64) error {
	var keys []string
	err := t.query("SELECT limited FROM slots WHERE run = ?", []any{run}, func(r row) error {
		keys = append(keys, r.str(0))
		return nil
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	if _, err := t.exec("DELETE FROM slots WHERE run = ?", run); err != nil {
		return err
	}
	for _, k := range keys {
		if err := t.admit("limit " + k); err != nil {
			return err
		}
	}
	return nil
}

// admit opens a gate for the first in its queue.
func (t *tx) admit(gate string) error {
	n, err := t.exec("UPDATE runs SET gate = NULL WHERE key = (SELECT key FROM runs WHERE gate = ? ORDER BY rank, key LIMIT 1)", gate)
	t.woke = t.woke || n > 0
	return err
}

// stepAside lets others past a run that was let in under these limits and did not take its
// place: nobody else would tell them.
func (t *tx) stepAside(limits string) error {
	var all []pawl.RunLimit
	if limits == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(limits), &all); err != nil {
		return err
	}
	for _, l := range all {
		if l.Per != 0 {
			continue
		}
		room := false
		_, err := t.one("SELECT count(*) FROM slots WHERE limited = ?", []any{l.Key}, func(r row) error { room = r.int(0) < int64(l.N); return nil })
		if err == nil && room {
			err = t.admit("limit " + l.Key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ended does what the end of a run means to others: its parent, its successor, those who
// queue behind it, the holders of its hooks.
func (t *tx) ended(ch *pawl.Change) error {
	var result json.RawMessage
	for i := range ch.Entries {
		if ch.Entries[i].Kind == pawl.KindResult {
			result = ch.Entries[i].Data
		}
	}
	return t.afterEnd(ch.Run, ch.To.State, result, ch.To.Next)
}

func (t *tx) afterEnd(run int64, state pawl.State, result json.RawMessage, next *pawl.Start) error {
	var info pawl.RunInfo
	var parent int64
	var single, limits string
	_, err := t.one("SELECT id, workflow, parent, parent_key, detached, single, limits FROM runs WHERE key = ?", []any{run}, func(r row) error {
		info = pawl.RunInfo{Key: run, ID: r.str(0), Workflow: r.str(1), ParentKey: r.str(3), Detached: r.int(4) != 0}
		parent, single, limits = r.int(2), r.str(5), r.str(6)
		return nil
	})
	if err != nil {
		return err
	}
	if t.untold[run] {
		t.told = append(t.told, run)
	}
	if limits != "" {
		if err := t.release(run); err != nil {
			return err
		}
	}
	for _, q := range []string{"DELETE FROM inbox WHERE run = ?", "DELETE FROM waits WHERE run = ?", "DELETE FROM hooks WHERE run = ? AND hold = 0"} {
		if _, err := t.exec(q, run); err != nil {
			return err
		}
	}
	if _, err := t.exec("UPDATE hooks SET until = ? + hold WHERE run = ?", t.us, run); err != nil {
		return err
	}
	if single != "" {
		if _, err := t.exec("UPDATE runs SET single = NULL WHERE key = ?", run); err != nil {
			return err
		}
		if next == nil {
			if err := t.passSingle(single); err != nil {
				return err
			}
		}
	}
	if next != nil {
		next.Run.Single, next.Run.Parent, next.Run.ParentKey, next.Run.Detached = single, parent, info.ParentKey, info.Detached
		if limits != "" {
			if err := json.Unmarshal([]byte(limits), &next.Run.Limits); err != nil {
				return fmt.Errorf("limits of run %s: %w", info.ID, err)
			}
		}
		if err := t.start(next); err != nil {
			return err
		}
		if next.Err != nil {
			return fmt.Errorf("%w: the run that was to go on in its place: %w", pawl.ErrRefused, next.Err)
		}
		return nil
	}
	if parent != 0 && !info.Detached {
		_, err := t.deliver(parent, pawl.MsgChild+info.ParentKey, pawl.ChildEnd(info, state, result))
		return err
	}
	return nil
}

// passSingle gives a singleton key to the run that has queued for it longest.
func (t *tx) passSingle(single string) error {
	n, err := t.exec("UPDATE runs SET gate = NULL, ties = 1, single = ? WHERE key = (SELECT key FROM runs WHERE gate = ? ORDER BY key LIMIT 1)", single, "singleton "+single)
	t.woke = t.woke || n > 0
	return err
}

// hook registers a hook or tells who has its token.
func (t *tx) hook(ch *pawl.Change, h *pawl.HookSpec) error {
	var free bool
	found, err := t.one("SELECT r.id, h.until, h.run = ? AND h.key = ? FROM hooks h JOIN runs r ON r.key = h.run WHERE h.token = ?",
		[]any{ch.Run, h.Key, h.Token}, func(r row) error {
			free = !r.null(1) && r.int(1) <= t.us || r.int(2) != 0
			h.Owner = r.str(0)
			return nil
		})
	if err != nil {
		return err
	}
	if found && !free {
		for i := range ch.Entries {
			if e := &ch.Entries[i]; e.Kind == pawl.KindHook && e.Key == h.Key {
				e.Failed, e.Data = true, mustJSON(pawl.ConflictFailure(h.Token, h.Owner))
			}
		}
		return nil
	}
	h.Owner = ""
	_, err = t.exec("INSERT OR REPLACE INTO hooks (token, run, key, meta, schema, public, at, hold) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		h.Token, ch.Run, h.Key, raw(h.Meta), raw(h.Schema), h.Public, t.us, h.Hold.Microseconds())
	return err
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of our own types
	}
	return b
}

// send puts a message where it belongs.
func (t *tx) send(m *pawl.Send) error {
	switch {
	case m.Publish != "":
		var runs []int64
		err := t.query("SELECT DISTINCT w.run FROM waits w JOIN runs r ON r.key = w.run WHERE w.event = ? AND r.tenant = ?", []any{m.Publish, m.Tenant}, func(r row) error {
			runs = append(runs, r.int(0))
			return nil
		})
		for _, run := range runs {
			if err == nil {
				_, err = t.deliver(run, m.Name, m.Data)
			}
		}
		m.Count = len(runs)
		return err
	case m.Token != "":
		var run int64
		var key string
		found, err := t.one("SELECT run, key FROM hooks WHERE token = ? AND until IS NULL", []any{m.Token}, func(r row) error {
			run, key = r.int(0), r.str(1)
			return nil
		})
		if err != nil {
			return err
		}
		if !found {
			m.Err = fmt.Errorf("%w: no live hook has this token", pawl.ErrNotFound)
			return nil
		}
		m.Info, err = t.deliver(run, pawl.MsgHook+key, m.Data)
		return err
	}
	info, found, err := t.lookup(m.Tenant, m.RunID)
	switch {
	case err != nil:
		return err
	case !found:
		m.Err = fmt.Errorf("%w: run %s", pawl.ErrNotFound, m.RunID)
	case info.State.Terminal():
		m.Info, m.Err = info, fmt.Errorf("%w: run %s is %s", pawl.ErrEnded, m.RunID, info.State)
	default:
		m.Info, err = t.deliver(info.Key, m.Name, m.Data)
	}
	return err
}

// deliver puts a message into a run's inbox and makes the run claimable, or the batch's
// worker's, if it waits.
func (t *tx) deliver(run int64, name string, data json.RawMessage) (pawl.RunInfo, error) {
	info, found, err := t.get(run)
	if err != nil || !found || info.State.Terminal() {
		return info, err
	}
	t.nextMsg++
	msg := pawl.Message{ID: t.nextMsg, Name: name, Data: data, At: t.now}
	if _, err := t.exec("INSERT INTO inbox (id, run, name, at, data) VALUES (?, ?, ?, ?, ?)", msg.ID, run, name, t.us, raw(data)); err != nil {
		return info, err
	}
	if err := t.tie(run); err != nil {
		return info, err
	}
	switch {
	case info.Worker != 0 && info.Worker == t.b.Worker:
		return info, t.tell(run, msg)
	case info.Worker != 0:
		t.untold[run] = true
		t.woke = true
	case info.State == pawl.Waiting && info.Gate == "":
		return info, t.wake(&info)
	}
	return info, nil
}

// tell gives the batch's worker a message for a run that it holds. A worker takes the newest
// message that it was told of for a sign that it knows all older ones: those that others
// have sent, and that it may not have fetched yet, come first.
func (t *tx) tell(run int64, msg pawl.Message) error {
	all := []pawl.Message{msg}
	if t.untold[run] {
		var err error
		if all, err = t.inbox(run); err != nil {
			return err
		}
		t.told = append(t.told, run)
	}
	for _, m := range all {
		t.b.Mail = append(t.b.Mail, pawl.Mail{Run: run, Message: m})
	}
	return nil
}

// wake makes a waiting run the batch's worker's, if that has room, and claimable if not.
func (t *tx) wake(info *pawl.RunInfo) error {
	b := t.b
	if b.Worker != 0 && t.room > 0 && t.knows(info.Workflow) && info.Limits == "" {
		t.room--
		c, err := t.grant(info.Key, b.Worker)
		b.Granted = append(b.Granted, c)
		return err
	}
	t.woke = true
	_, err := t.exec("UPDATE runs SET rank = coalesce(rank, ?), updated = ? WHERE key = ?", t.rank(info.Priority), t.us, info.Key)
	return err
}

func (t *tx) knows(workflow string) bool {
	for _, w := range t.b.Workflows {
		if w == workflow {
			return true
		}
	}
	return false
}

// rank is the place in the queue: the time, moved by a second per point of priority.
func (t *tx) rank(priority int) int64 { return t.us - int64(priority)*1e6 }

// grant makes a run a worker's, with what is in its inbox.
func (t *tx) grant(run, worker int64) (pawl.Claim, error) {
	var c pawl.Claim
	_, err := t.one(`UPDATE runs SET state = ?, worker = ?, epoch = epoch + 1, rank = NULL, due = NULL, updated = ? WHERE key = ? RETURNING `+runCols,
		[]any{int64(pawl.Running), worker, t.us, run}, func(r row) error {
			c.Info = scanRun(r)
			return nil
		})
	if err != nil {
		return c, err
	}
	c.Mail, err = t.inbox(run)
	return c, err
}

func (t *tx) inbox(run int64) (mail []pawl.Message, err error) {
	err = t.query("SELECT id, name, data, at FROM inbox WHERE run = ? ORDER BY id", []any{run}, func(r row) error {
		mail = append(mail, pawl.Message{ID: r.int(0), Name: r.str(1), Data: r.bytes(2), At: r.time(3)})
		return nil
	})
	return mail, err
}

// runCols are the columns that scanRun reads.
const runCols = `key, id, tenant, workflow, version, state, reason, epoch, worker, priority, created, updated, ended, due,
	not_before, deadline, parent_key, gate, strikes, seed, detached, keep, next, forked, trace, limits, parent`

func scanRun(r row) pawl.RunInfo {
	return pawl.RunInfo{
		Key: r.int(0), ID: r.str(1), Tenant: r.str(2), Workflow: r.str(3), Version: r.str(4),
		State: pawl.State(r.int(5)), Reason: r.str(6), Epoch: r.int(7), Worker: r.int(8), Priority: int(r.int(9)),
		Created: r.time(10), Updated: r.time(11), Ended: r.time(12), Due: r.time(13), NotBefore: r.time(14), Deadline: r.time(15),
		ParentKey: r.str(16), Gate: r.str(17), Strikes: int(r.int(18)), Seed: r.int(19), Detached: r.int(20) != 0,
		Keep: time.Duration(r.int(21)) * time.Microsecond, Next: r.str(22), Forked: r.str(23), Trace: r.str(24), Limits: r.str(25), ParentRun: r.int(26),
	}
}

func (c *conn) get(run int64) (info pawl.RunInfo, found bool, err error) {
	found, err = c.one("SELECT "+runCols+" FROM runs WHERE key = ?", []any{run}, func(r row) error {
		info = scanRun(r)
		return nil
	})
	return info, found, err
}

func (c *conn) lookup(tenant, id string) (info pawl.RunInfo, found bool, err error) {
	found, err = c.one("SELECT "+runCols+" FROM runs WHERE id = ? AND tenant = ?", []any{id, tenant}, func(r row) error {
		info = scanRun(r)
		return nil
	})
	return info, found, err
}
