package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
)

// work is one try of a commit: load, think, store.
//
// The rows of all runs that the batch may change are locked and loaded first, in the order
// of their keys. What the batch says is then done to them in memory, one thing after the
// other, and what came of it is written with one statement per table. A batch of a thousand
// changes makes as many round trips as one of a single change.
//
// Invariants:
//   - a run in runs is locked by this transaction, or was made by it: nobody else changes it
//     until the commit;
//   - an inbox is read and written only by who holds the lock of its run. So a run that
//     suspends sees every message that was put before, and whoever puts one later sees that
//     it waits; and ids of messages, drawn under the lock, grow in the order in which the
//     run's owner can see them;
//   - locks are taken in one order: the worker, gates (limits, singletons), runs by key.
//     What can't be known beforehand is locked late; if that ends in a deadlock, the server
//     undoes one transaction, and it is tried again.
type work struct {
	*tx
	s   *Store
	b   *pawl.Batch
	now time.Time
	us  int64 // now

	runs  map[int64]*run
	named map[runName]*run
	room  int // how many runs may still be granted
	held  map[string]bool
	woke  bool // a run became claimable, or one held elsewhere got a message

	unread  map[int64][]pawl.Message // what came after Move.Seen, of runs that want to suspend
	stayed  []stay                   // they may not
	mail    []*message               // for runs that the worker holds
	tellAll []int64                  // runs whose worker is to be given all that lies in their inboxes
	grants  []grant
	heirs   []int64 // runs that have inherited messages
	buffer
}

type runName struct{ tenant, id string }

// message is one that this transaction puts into an inbox. Its id is known at the end.
type message struct {
	run int64
	pawl.Message
}

// stay is a change whose run may not leave its worker's hands: of the messages that this
// transaction puts, those before upto came first.
type stay struct {
	ch   *pawl.Change
	upto int
}

// grant is a run that becomes the worker's.
type grant struct {
	run   int64
	claim int // in b.Granted
}

// Commit implements pawl.Store.
func (s *Store) Commit(ctx context.Context, b *pawl.Batch) error {
	given := b.Said()
	woke, room := false, b.Room
	if b.Worker == 0 {
		room = 0
	}
	err := s.write(ctx, "commit", func(t *tx) error {
		given.Restore()
		w := &work{tx: t, s: s, b: b, room: room, now: b.Now, us: b.Now.UnixMicro(), runs: map[int64]*run{}}
		err := w.commit()
		woke = w.woke
		return err
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

func (w *work) commit() error {
	b := w.b
	if err := w.refuse(); err != nil {
		return err
	}
	plain := len(b.Starts)+len(b.Sends)+len(b.Orders)+len(b.Budgets)+len(b.Settles)+len(b.Writes) == 0 && !slices.ContainsFunc(b.Changes, asks)
	if !plain {
		w.begin()
	}
	if b.Worker != 0 {
		w.fence(b.Worker)
	}
	var early []*fresh
	if !plain {
		w.takeGates()
		early = w.insertEarly()
		w.loadRuns()
		if err := w.send(); err != nil {
			return err
		}
		if err := w.early(early); err != nil {
			return err
		}
	}
	for _, ch := range b.Changes {
		if err := w.change(ch); err != nil {
			return err
		}
	}
	if err := w.runHooks(); err != nil {
		return err
	}
	for _, st := range b.Starts {
		if st.Key == 0 && !st.Existed && st.Err == nil {
			if err := w.start(st); err != nil {
				return err
			}
		}
	}
	if err := w.sends(); err != nil {
		return err
	}
	for _, o := range b.Orders {
		if err := w.order(o); err != nil {
			return err
		}
	}
	if err := w.money(); err != nil {
		return err
	}
	if err := w.records(); err != nil {
		return err
	}
	w.flush()
	w.inboxes()
	if err := w.end(); err != nil {
		return err
	}
	w.answer()
	return nil
}

// asks reports whether a change needs to know of rows before it can be stored. One that
// does not is a few rows appended, and one round trip: the worker's lease is all its right.
func asks(ch *pawl.Change) bool {
	return ch.To != nil || len(ch.Hooks)+len(ch.Children)+len(ch.Cancels)+len(ch.Reserves)+len(ch.Settles) > 0
}

// change stores what one run has to say.
func (w *work) change(ch *pawl.Change) error {
	if ch.To != nil && !w.move(ch) {
		return nil
	}
	for i := range ch.Hooks {
		w.hook(ch, i)
	}
	for _, key := range ch.Unhooks {
		w.unhook(ch.Run, key)
	}
	for _, st := range ch.Children {
		if err := w.child(ch, st); err != nil {
			return err
		}
	}
	for i := range ch.Entries {
		w.append(ch.Run, &ch.Entries[i])
	}
	for _, id := range ch.Consumed {
		w.consume(ch.Run, id)
	}
	if len(ch.Waits)+len(ch.Hooks) > 0 {
		w.tie(ch.Run)
	}
	for _, wait := range ch.Waits {
		w.wait(ch.Run, wait.Key, wait.Event, 0)
	}
	for _, key := range ch.Unwaits {
		w.wait(ch.Run, key, "", 0)
	}
	for i := range ch.Chunks {
		w.chunk(ch.Run, &ch.Chunks[i])
	}
	w.attrs(ch.Run, ch.Attrs)
	if ch.Solo {
		w.solo = append(w.solo, ch.Run)
	}
	for _, child := range ch.Cancels {
		r, err := w.run(child)
		if err == nil {
			err = w.cancel(r, parentEnded)
		}
		if err != nil {
			return err
		}
	}
	for _, p := range ch.Puts {
		w.exec(`INSERT INTO records (space, key, version, until, data) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (space, key) DO UPDATE SET version = excluded.version, until = excluded.until, data = excluded.data`, p.Space, p.Key, w.us, microOrNil(p.Until), []byte(p.Data))
	}
	if ch.To == nil {
		return nil
	}
	r := w.runs[ch.Run]
	if ch.To.State.Terminal() {
		return w.ended(r, ch)
	}
	return w.release(r)
}

// child starts a run for another and tells its journal what came of it.
func (w *work) child(ch *pawl.Change, st *pawl.Start) error {
	if st.Key == 0 && !st.Existed && st.Err == nil {
		if st.Err = unfitStart(st); st.Err == nil {
			if err := w.start(st); err != nil {
				return err
			}
		}
	}
	for i := range ch.Entries {
		if e := &ch.Entries[i]; e.Kind == pawl.KindChild && e.Key == st.Run.ParentKey {
			e.Data, e.Failed = pawl.ChildEntry(st)
		}
	}
	return nil
}

// inboxes queues the queries for what lies in the inboxes of the runs that were granted, and
// of those whose worker does not know all of it. They come after all that was put there.
func (w *work) inboxes() {
	if len(w.tellAll) > 0 {
		w.rows(func(r pgx.CollectableRow) error {
			m, err := scanMessage(r)
			w.b.Mail = append(w.b.Mail, pawl.Mail{Run: m.run, Message: m.Message})
			return err
		}, "SELECT run, id, name, at, data FROM inbox WHERE run = ANY($1::bigint[]) ORDER BY id", w.tellAll)
	}
	if len(w.grants) == 0 {
		return
	}
	var keys []int64
	at := map[int64]int{}
	for _, g := range w.grants {
		if c := &w.b.Granted[g.claim]; c.Start == nil || w.mailed(g.run) || slices.Contains(w.heirs, g.run) {
			keys, at[g.run] = append(keys, g.run), g.claim
		}
	}
	if len(keys) == 0 {
		return
	}
	w.rows(func(r pgx.CollectableRow) error {
		m, err := scanMessage(r)
		c := &w.b.Granted[at[m.run]]
		c.Mail = append(c.Mail, m.Message)
		return err
	}, "SELECT run, id, name, at, data FROM inbox WHERE run = ANY($1::bigint[]) ORDER BY id", keys)
}

// answer fills in what is known only now: the ids of messages.
func (w *work) answer() {
	for _, st := range w.stayed {
		for _, m := range w.put[:st.upto] {
			if m.run == st.ch.Run && m.ID != 0 {
				st.ch.Mail = append(st.ch.Mail, m.Message)
			}
		}
	}
	for _, m := range w.mail {
		if m.ID != 0 { // 0: its run has ended since
			w.b.Mail = append(w.b.Mail, pawl.Mail{Run: m.run, Message: m.Message})
		}
	}
}
