package postgres

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
)

// run is a row of runs that this transaction has locked.
type run struct {
	pawl.RunInfo
	rank    int64 // none: not claimable
	expires int64 // or none
	single  string
	ties    bool // its end touches other rows than its own
	solo    bool
	untold  bool  // others than its worker have put messages that its worker may not know of
	seen    int64 // the newest message that it knew of when it began to wait

	dirty   bool // to be written
	granted bool // in this transaction
}

// none is NULL in columns of numbers and times.
const none = math.MinInt64

// runCols are the columns that scanRun reads.
const runCols = `key, id, tenant, workflow, coalesce(version, ''), state, coalesce(reason, ''), epoch, worker, coalesce(priority, 0), created, updated,
	ended, due, not_before, deadline, coalesce(parent_key, ''), coalesce(gate, ''), coalesce(strikes, 0), seed, detached, coalesce(keep, 0),
	coalesce(next, ''), coalesce(forked, ''), coalesce(trace, ''), coalesce(limits, ''), coalesce(parent, 0), rank, expires, coalesce(single, ''), ties, solo, coalesce(seen, 0), untold`

func scanRun(row pgx.CollectableRow, more ...any) (*run, error) {
	r := &run{}
	var created, updated, keep int64
	var state int16
	var ended, due, notBefore, deadline, rank, expires *int64
	dest := append([]any{&r.Key, &r.ID, &r.Tenant, &r.Workflow, &r.Version, &state, &r.Reason, &r.Epoch, &r.Worker, &r.Priority, &created, &updated,
		&ended, &due, &notBefore, &deadline, &r.ParentKey, &r.Gate, &r.Strikes, &r.Seed, &r.Detached, &keep,
		&r.Next, &r.Forked, &r.Trace, &r.Limits, &r.ParentRun, &rank, &expires, &r.single, &r.ties, &r.solo, &r.seen, &r.untold}, more...)
	err := row.Scan(dest...)
	r.State, r.Keep = pawl.State(state), time.Duration(keep)*time.Microsecond
	r.Created, r.Updated = fromMicro(&created), fromMicro(&updated)
	r.Ended, r.Due, r.NotBefore, r.Deadline = fromMicro(ended), fromMicro(due), fromMicro(notBefore), fromMicro(deadline)
	r.rank, r.expires = orNone(rank), orNone(expires)
	return r, err
}

func fromMicro(us *int64) time.Time {
	if us == nil {
		return time.Time{}
	}
	return time.UnixMicro(*us).UTC()
}

func orNone(n *int64) int64 {
	if n == nil {
		return none
	}
	return *n
}

// micro is t for a column; none is NULL.
func micro(t time.Time) int64 {
	if t.IsZero() {
		return none
	}
	return t.UnixMicro()
}

func scanMessage(row pgx.CollectableRow) (message, error) {
	var m message
	var at int64
	err := row.Scan(&m.run, &m.ID, &m.Name, &at, (*[]byte)(&m.Data))
	m.At = fromMicro(&at)
	return m, err
}

func (w *work) keep(r *run) *run {
	if old := w.runs[r.Key]; old != nil {
		return old
	}
	w.runs[r.Key] = r
	if w.named == nil {
		w.named = map[runName]*run{}
	}
	w.named[runName{r.Tenant, r.ID}] = r
	return r
}

// run returns a run, locked; nil: there is none.
func (w *work) run(key int64) (*run, error) {
	if r := w.runs[key]; r != nil {
		return r, nil
	}
	var found *run
	w.rows(func(row pgx.CollectableRow) error {
		r, err := scanRun(row)
		found = r
		return err
	}, "SELECT "+runCols+" FROM runs WHERE key = $1 FOR UPDATE", key)
	if err := w.send(); err != nil || found == nil {
		return nil, err
	}
	return w.keep(found), nil
}

func (w *work) touch(r *run) {
	r.Updated, r.dirty = w.now, true
}

// move takes a run out of its worker's hands, if the change is of its owner's. stored: the
// rest of the change is to be stored; if not, it comes from an owner that was superseded.
func (w *work) move(ch *pawl.Change) (stored bool) {
	m := ch.To
	r := w.runs[ch.Run]
	if r == nil || r.Epoch != ch.Epoch || r.Worker != w.b.Worker || r.Worker == 0 {
		ch.Err = pawl.ErrFenced
		return false
	}
	if m.State == pawl.Waiting || m.State == pawl.Paused {
		for _, msg := range w.unread[ch.Run] {
			if msg.ID > m.Seen {
				ch.Mail = append(ch.Mail, msg)
			}
		}
		if m.Seen != math.MaxInt64 && w.mailed(ch.Run) {
			w.stayed = append(w.stayed, stay{ch, len(w.put)})
			return true
		}
		if len(ch.Mail) > 0 {
			return true
		}
	}
	w.touch(r)
	r.State, r.Reason, r.Worker, r.rank, r.Due, r.Strikes, r.solo, r.seen = m.State, clean(m.Reason), 0, none, m.Due, 0, false, m.Seen
	r.Ended, r.expires = time.Time{}, none
	if m.State.Terminal() {
		w.ends(r, m.Keep)
	}
	if m.Next != nil {
		r.Next = m.Next.Run.ID
	} else {
		r.Next = ""
	}
	if !m.Due.IsZero() {
		w.due(m.Due)
	}
	return true
}

// ends notes when a run has ended and until when it is kept.
func (w *work) ends(r *run, keep time.Duration) {
	r.Ended = w.now
	if keep >= 0 {
		r.expires = w.us + keep.Microseconds()
	}
}

// due tells the engine when a run of this batch is to be woken.
func (w *work) due(t time.Time) {
	if w.b.Due.IsZero() || t.Before(w.b.Due) {
		w.b.Due = t
	}
}

// mailed reports whether this transaction has put a message into the run's inbox.
func (w *work) mailed(run int64) bool {
	for _, m := range w.put {
		if m.run == run {
			return true
		}
	}
	return false
}

// ended does what the end of a run means to others: its parent, its successor, those who
// queue behind it, the holders of its hooks.
func (w *work) ended(r *run, ch *pawl.Change) error {
	var result json.RawMessage
	for i := range ch.Entries {
		if ch.Entries[i].Kind == pawl.KindResult {
			result = ch.Entries[i].Data
		}
	}
	return w.afterEnd(r, result, ch.To.Next)
}

func (w *work) afterEnd(r *run, result json.RawMessage, next *pawl.Start) error {
	if !r.ties && next == nil {
		return nil
	}
	if err := w.release(r); err != nil {
		return err
	}
	if next != nil {
		w.flushInbox() // what was taken does not move
		w.flushRest()  // what was set does
	}
	w.clear(r, next)
	single := r.single
	if single != "" {
		if err := w.lockGate("singleton " + single); err != nil {
			return err
		}
		w.exec("UPDATE runs SET single = NULL WHERE key = $1", r.Key)
		r.single = ""
		if next == nil {
			if err := w.passSingle(single); err != nil {
				return err
			}
		}
	}
	if next != nil {
		next.Run.Single, next.Run.Parent, next.Run.ParentKey, next.Run.Detached = single, r.ParentRun, r.ParentKey, r.Detached
		if r.Limits != "" {
			if err := json.Unmarshal([]byte(r.Limits), &next.Run.Limits); err != nil {
				return fmt.Errorf("limits of run %s: %w", r.ID, err)
			}
		}
		if err := w.start(next); err != nil {
			return err
		}
		if next.Err != nil {
			return fmt.Errorf("%w: the run that was to go on in its place: %w", pawl.ErrRefused, next.Err)
		}
		w.inherit(r.Key, next)
		return nil
	}
	if r.ParentRun != 0 && !r.Detached {
		parent, err := w.run(r.ParentRun)
		if err != nil || parent == nil {
			return err
		}
		w.deliver(parent, pawl.MsgChild+r.ParentKey, pawl.ChildEnd(r.RunInfo, r.State, result))
	}
	return nil
}

// inherit gives the run that goes on in another's place what was sent to that and not taken,
// its attributes and its budgets. What lies in its inbox for hooks, children and timers was
// its own.
func (w *work) inherit(run int64, next *pawl.Start) {
	w.exec("UPDATE budgets SET run = $2, run_id = $3 WHERE run = $1", run, next.Key, next.Run.ID)
	w.exec("INSERT INTO attrs (run, name, value) SELECT $2, name, value FROM attrs WHERE run = $1 ON CONFLICT DO NOTHING", run, next.Key)
	w.exec("UPDATE inbox SET run = $2 WHERE run = $1 AND name LIKE 'event:%' AND name NOT LIKE 'event:$%'", run, next.Key)
	w.tie(next.Key)
	w.heirs = append(w.heirs, next.Key)
}

// current is r, or the run that has gone on in its place.
func (w *work) current(r *run) (*run, error) {
	for r != nil && r.Next != "" {
		key := int64(0)
		w.rows(func(row pgx.CollectableRow) error { return row.Scan(&key) }, "SELECT key FROM runs WHERE tenant = $1 AND id = $2", r.Tenant, r.Next)
		if err := w.send(); err != nil || key == 0 {
			return nil, err
		}
		var err error
		if r, err = w.run(key); err != nil {
			return nil, err
		}
	}
	return r, nil
}
