package postgres

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// deliver puts a message into a run's inbox and makes the run claimable, or the batch's
// worker's, if it waits. It returns the run as it was before.
func (w *work) deliver(r *run, name string, data json.RawMessage) pawl.RunInfo {
	info := r.RunInfo
	if r.State.Terminal() && !lastsIn(r.State, name) {
		return info
	}
	m := &message{run: r.Key, Message: pawl.Message{Name: name, Data: data, At: w.now}}
	w.put = append(w.put, m)
	if !r.ties {
		r.ties, r.dirty = true, true
	}
	switch {
	case r.State.Terminal():
	case r.granted: // its claim will have all that lies in its inbox
	case r.Worker != 0 && r.Worker == w.b.Worker:
		w.tell(r, m)
	case r.Worker != 0:
		w.woke = true
		r.dirty = r.dirty || !r.untold
		r.untold = true
	case r.State == pawl.Waiting && r.Gate == "":
		w.wake(r)
	}
	return info
}

// lastsIn reports whether a message for a run that has ended is kept for the case that it is
// retried: how a child of a failed run ended, which has no other way to know.
func lastsIn(s pawl.State, message string) bool {
	return s == pawl.Failed && strings.HasPrefix(message, pawl.MsgChild)
}

// tell gives the batch's worker a message for a run that it holds. A worker takes the newest
// message that it was told of for a sign that it knows all older ones: those that others
// have put, and that it may not have fetched yet, come first.
func (w *work) tell(r *run, m *message) {
	if r.untold {
		r.untold, r.dirty = false, true
		w.tellAll = append(w.tellAll, r.Key)
	}
	if !slices.Contains(w.tellAll, r.Key) {
		w.mail = append(w.mail, m)
	}
}

// wake makes a waiting run the batch's worker's, if that has room, and claimable if not.
func (w *work) wake(r *run) {
	b := w.b
	w.touch(r)
	if w.room > 0 && w.knows(r.Workflow) && r.Limits == "" {
		w.room--
		r.State, r.Worker, r.rank, r.Due, r.untold, r.granted = pawl.Running, b.Worker, none, time.Time{}, false, true
		r.Epoch++
		w.grants = append(w.grants, grant{r.Key, len(b.Granted)})
		b.Granted = append(b.Granted, pawl.Claim{Info: r.RunInfo})
		return
	}
	w.woke = true
	if r.rank == none {
		r.rank = w.rank(r.Priority)
	}
}

func (w *work) knows(workflow string) bool {
	for _, name := range w.b.Workflows {
		if name == workflow {
			return true
		}
	}
	return false
}

// rank is the place in the queue: the time, moved by a second per point of priority.
func (w *work) rank(priority int) int64 { return w.us - int64(priority)*1e6 }
