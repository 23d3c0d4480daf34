package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/pawlrun/pawl"
)

// send puts a message where it belongs, once if it has a name.
func (t *tx) send(m *pawl.Send) error {
	if m.Once == nil {
		return t.route(m)
	}
	space, key := m.Place()
	var first json.RawMessage
	found, err := t.one("SELECT data FROM records WHERE space = ? AND key = ? AND until > ?", []any{space, key, t.us}, func(r row) error {
		first = r.bytes(0)
		return nil
	})
	switch {
	case err != nil:
		return err
	case found:
		return m.Repeats(first)
	}
	if err := t.route(m); err != nil || m.Err != nil || m.Moved {
		return err
	}
	w := &pawl.Write{Puts: []pawl.Put{{Space: space, Key: key, If: pawl.AnyVersion, Data: m.Remembers(), Until: m.Once.Until}}}
	return t.record(w)
}

func (t *tx) route(m *pawl.Send) error {
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
		h, err := t.findHook(m.Tenant, m.Token, t.us)
		if errors.Is(err, pawl.ErrNotFound) || errors.Is(err, pawl.ErrEnded) {
			m.Info, m.Err = h.Run, err
			return nil
		}
		if err == nil && m.RunID != "" && h.Run.ID != m.RunID {
			m.Err = fmt.Errorf("%w: another run has claimed the token of the hook of run %s", pawl.ErrEnded, m.RunID)
			return nil
		}
		if m.Moved = err == nil && m.Hook != 0 && h.ID != m.Hook; m.Moved {
			return nil
		}
		if err == nil {
			m.Info, err = t.deliver(h.Run.Key, pawl.MsgHook+h.Key, m.Data)
		}
		return err
	}
	info, found, err := t.current(m.Tenant, m.RunID)
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

// current finds the run with an id, or the one that has gone on in its place.
func (t *tx) current(tenant, id string) (info pawl.RunInfo, found bool, err error) {
	info, found, err = t.lookup(tenant, id)
	for err == nil && found && info.Next != "" {
		info, found, err = t.lookup(tenant, info.Next)
	}
	return info, found, err
}

// deliver puts a message into a run's inbox and makes the run claimable, or the batch's
// worker's, if it waits.
func (t *tx) deliver(run int64, name string, data json.RawMessage) (pawl.RunInfo, error) {
	info, found, err := t.get(run)
	if err != nil || !found || info.State.Terminal() && !lastsIn(info.State, name) {
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
	case info.State.Terminal():
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

// lastsIn reports whether a message for a run that has ended is kept for the case that it is
// retried: how a child of a failed run ended, which has no other way to know.
func lastsIn(s pawl.State, message string) bool {
	return s == pawl.Failed && strings.HasPrefix(message, pawl.MsgChild)
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
