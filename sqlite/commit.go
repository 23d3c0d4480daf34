package sqlite

import (
	"context"

	"github.com/pawlrun/pawl"
)

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
		for _, o := range b.Budgets {
			if err := t.budget(o); err != nil {
				return err
			}
		}
		for _, s := range b.Settles {
			if err := t.settle(s, true); err != nil {
				return err
			}
		}
		for _, w := range b.Writes {
			if err := t.record(w); err != nil {
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
		if err := t.hook(ch, i); err != nil {
			return err
		}
	}
	for _, key := range ch.Unhooks {
		if err := t.unhook(ch.Run, key); err != nil {
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
		if _, err := t.exec("INSERT INTO chunks (run, stream, idx, at, closed, data, step, attempt, epoch, first) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			ch.Run, c.Stream, c.Index, c.At, c.Closed, raw(c.Data), c.Step, c.Attempt, c.Epoch, c.First); err != nil {
			return err
		}
	}
	if err := t.attrs(ch.Run, ch.Attrs); err != nil {
		return err
	}
	for _, s := range ch.Settles {
		if err := t.settle(s, false); err != nil {
			return err
		}
	}
	for _, r := range ch.Reserves {
		if err := t.reserve(ch, r); err != nil {
			return err
		}
	}
	if ch.Solo {
		if _, err := t.exec("UPDATE runs SET solo = 1 WHERE key = ?", ch.Run); err != nil {
			return err
		}
	}
	for _, child := range ch.Cancels {
		if err := t.cancel(child, parentEnded); err != nil {
			return err
		}
	}
	if len(ch.Puts) > 0 {
		if err := t.put(&pawl.Write{Puts: ch.Puts}, make([]int64, len(ch.Puts))); err != nil {
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
