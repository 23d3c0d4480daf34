package trigger

import (
	"fmt"
	"slices"
	"time"
)

// row is a schedule as it is stored, with what is under way. It changes by compare-and-swap only,
// together with the lines of the ledger that tell of the change:
//
//   - A slot leaves Next for the Queue, or for the ledger as skipped, in one write. So it is
//     decided once, whoever decides.
//   - What is in the Queue is started under the id of its slot and then leaves it, again in one
//     write with its line. A crash between leaves it there, and the next one's start finds the run.
//   - Claimed keeps others from doing the same meanwhile. It is a courtesy: if it runs out, two
//     start the same run, which is one run.
type row struct {
	Schedule
	Queue   []pending `json:"queue,omitempty"`
	Due     time.Time `json:"due,omitzero"`      // where its entry in the index of due rows is; zero: it has none
	Deleted bool      `json:"deleted,omitempty"` // it goes when what is claimed is done
}

// pending is an occurrence that is to be started.
type pending struct {
	Slot     time.Time `json:"slot"`
	Cause    Cause     `json:"cause"`
	Overlap  Overlap   `json:"overlap"`
	Run      string    `json:"run"`
	Since    time.Time `json:"since"`
	Attempts int       `json:"attempts,omitempty"`
	Claimed  time.Time `json:"claimed,omitzero"` // somebody is at it until then
	Retry    time.Time `json:"retry,omitzero"`   // not before
	Told     bool      `json:"told,omitempty"`   // the ledger says that it waits
	Cancel   bool      `json:"cancel,omitempty"` // the runs before it were told to end
}

const (
	late       = time.Minute      // a slot fired later than that was missed
	claimFor   = 10 * time.Second // how long whoever starts a slot is left alone
	mostAtOnce = 20               // starts of one turn
	mostWalked = 100_000          // slots of one turn
	mostLines  = 100              // skipped slots with a line each; more of them share one
	giveUp     = 24 * time.Hour   // after which a start that fails is not tried again
)

// missedSlot begins the reason of a slot that nobody fired in time and that is not caught up.
const missedSlot = "missed: "

func (q *pending) line(now time.Time, outcome Outcome, format string, args ...any) Occurrence {
	return Occurrence{Slot: q.Slot, Cause: q.Cause, Outcome: outcome, Reason: fmt.Sprintf(format, args...), Run: q.Run, At: now, Attempts: q.Attempts, Retry: q.Retry}
}

// come moves the slots that are due out of Next. more: there are further ones.
func (r *row) come(now time.Time) (lines []Occurrence, more bool, err error) {
	if r.Paused || r.Deleted || r.Next.IsZero() {
		return nil, false, nil
	}
	next, err := r.timer()
	if err != nil {
		return nil, false, err
	}
	var onTime, missed []time.Time // missed: the newest maxBuffered
	var old many                   // those before
	slot, walked := r.Next, 0
	for ; !slot.IsZero() && walked < mostWalked; slot, walked = next(slot), walked+1 {
		due := r.due(slot, next)
		if due.After(now) {
			break
		}
		if now.Sub(due) <= late {
			onTime = append(onTime, slot)
			continue
		}
		if missed = append(missed, slot); len(missed) > maxBuffered {
			old.add(missed[0])
			missed = missed[1:]
		}
	}
	r.Next = slot
	if walked == mostWalked && len(missed) > 0 { // which of these are the newest is not known yet
		r.Next = missed[0]
		return r.skip(nil, now, &old, missedSlot+"nobody fired it in time, and there were too many to catch up"), true, nil
	}
	missed, lines = r.catchUp(missed, &old, len(onTime) > 0, now)
	for _, slot := range append(missed, onTime...) {
		lines = r.arrive(lines, now, pending{Slot: slot, Cause: ByTime, Overlap: r.Overlap, Run: r.RunID(slot), Since: now})
	}
	return lines, false, nil
}

// many is a row of slots that share their fate.
type many struct {
	slots []time.Time // while they are few
	first time.Time
	last  time.Time
	count int
}

func (m *many) add(slots ...time.Time) {
	for _, slot := range slots {
		if m.count == 0 {
			m.first = slot
		}
		m.last = slot
		if m.count++; m.count <= mostLines {
			m.slots = append(m.slots, slot)
		}
	}
}

func (r *row) skip(lines []Occurrence, now time.Time, m *many, reason string) []Occurrence {
	if m.count > mostLines {
		return append(lines, Occurrence{Slot: m.first, Last: m.last, Count: m.count, Cause: ByTime, Outcome: Skipped, Reason: reason, At: now})
	}
	for _, slot := range m.slots {
		lines = append(lines, Occurrence{Slot: slot, Cause: ByTime, Outcome: Skipped, Reason: reason, At: now})
	}
	return lines
}

// catchUp returns those of the missed slots that are fired all the same.
func (r *row) catchUp(missed []time.Time, old *many, onTime bool, now time.Time) (fire []time.Time, lines []Occurrence) {
	outside := 0 // older than the window
	if r.CatchUpWindow > 0 {
		for outside < len(missed) && now.Sub(missed[outside]) > r.CatchUpWindow {
			outside++
		}
	}
	if outside > 0 {
		old.add(missed[:outside]...)
		lines = r.skip(lines, now, old, fmt.Sprintf(missedSlot+"nobody fired it until %s, and slots older than %v are not caught up", clock(now), r.CatchUpWindow))
		missed, old = missed[outside:], &many{}
	}
	keep, why := 0, "missed slots are not caught up"
	switch r.CatchUp {
	case CatchUpNone:
	case CatchUpAll:
		if keep = r.CatchUpMax; keep == 0 {
			keep = 100
		}
		why = fmt.Sprintf("only the newest %d missed slots are caught up", keep)
	default:
		why = "a later slot stands for it"
		if !onTime {
			keep = 1
		}
	}
	keep = min(keep, len(missed))
	old.add(missed[:len(missed)-keep]...)
	return missed[len(missed)-keep:], r.skip(lines, now, old, fmt.Sprintf(missedSlot+"nobody fired it until %s, and %s", clock(now), why))
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// arrive puts an occurrence into the queue, or skips it, as its policy says.
func (r *row) arrive(lines []Occurrence, now time.Time, q pending) []Occurrence {
	if q.Overlap == "" {
		q.Overlap = Skip
	}
	busy := len(r.Live) > 0 || len(r.Queue) > 0
	waits, room := 0, 1 // without a run one may start, and one wait for that
	if len(r.Live) == 0 && !slices.ContainsFunc(r.Queue, func(p pending) bool { return !p.Claimed.IsZero() }) {
		room = 2
	}
	for _, p := range r.Queue {
		if p.Claimed.IsZero() {
			waits++
		}
	}
	switch {
	case len(r.Queue) >= maxBuffered:
		return append(lines, q.line(now, Skipped, "%d slots wait already", len(r.Queue)))
	case q.Overlap == Skip && busy:
		return append(lines, q.line(now, Skipped, "%s", r.before()))
	case q.Overlap == BufferOne && waits >= room:
		return append(lines, q.line(now, Skipped, "%s, and slot %s waits for that already", r.before(), slotText(r.Queue[len(r.Queue)-1].Slot)))
	case q.Overlap == CancelOld:
		r.Queue = slices.DeleteFunc(r.Queue, func(p pending) bool {
			displaced := p.Claimed.IsZero() && p.Overlap == CancelOld
			if displaced {
				lines = append(lines, p.line(now, Skipped, "slot %s came before it could start", slotText(q.Slot)))
			}
			return displaced
		})
	}
	r.Queue = append(r.Queue, q)
	return lines
}

// before says what an occurrence would overlap with.
func (r *row) before() string {
	if n := len(r.Live); n > 0 {
		return fmt.Sprintf("run %s of this schedule has not ended", r.Live[n-1])
	}
	if len(r.Queue) > 0 {
		return fmt.Sprintf("slot %s of this schedule is still being started", slotText(r.Queue[0].Slot))
	}
	return "an earlier one has not ended"
}

// claim picks what is to be started now, and says whether live runs are to be cancelled for it.
func (r *row) claim(now time.Time) (lines []Occurrence, claimed []pending, cancel bool) {
	busy := len(r.Live) > 0
	for i := range r.Queue {
		q := &r.Queue[i]
		resting := q.Claimed.After(now) || q.Retry.After(now)
		switch {
		case len(claimed) == mostAtOnce || resting && q.Overlap == Allow:
			continue
		case resting:
			busy = true
			continue
		case busy && q.Overlap != Allow:
			if q.Overlap == CancelOld && !q.Cancel && len(r.Live) > 0 {
				q.Cancel, cancel = true, true
			}
			if !q.Told {
				q.Told = true
				lines = append(lines, q.line(now, Buffered, "%s", r.before()))
			}
			continue
		}
		busy = busy || q.Overlap != Allow
		q.Attempts++
		q.Claimed, q.Retry = now.Add(claimFor), time.Time{}
		lines = append(lines, q.line(now, Starting, ""))
		claimed = append(claimed, *q)
	}
	return lines, claimed, cancel
}

// wake is when somebody has to look at the row again, whatever happens; zero: never. blocked: something
// waits for a run to end, or for somebody who knows the workflow.
func (r *row) wake(now time.Time) (at time.Time, blocked bool) {
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if !r.Paused && !r.Next.IsZero() && !r.Deleted {
		due := r.Next
		if next, err := r.timer(); err == nil { // else whoever looks is told
			due = r.due(r.Next, next)
		}
		sooner(due)
	}
	for _, q := range r.Queue {
		switch {
		case q.Claimed.After(now):
			sooner(q.Claimed)
		case q.Retry.After(now):
			sooner(q.Retry)
		case !q.Told: // nobody has looked at it
			sooner(now)
		default:
			blocked = true
		}
	}
	return at, blocked
}

// result takes an occurrence that was tried out of the queue, or leaves it there for another
// attempt. It reports false if it is not there any more: somebody else was faster.
func (r *row) result(o Occurrence) bool {
	i := slices.IndexFunc(r.Queue, func(q pending) bool { return q.Run == o.Run && q.Cause == o.Cause })
	if i < 0 {
		return false
	}
	if o.Outcome == Retrying {
		q := &r.Queue[i]
		q.Claimed, q.Retry, q.Told = time.Time{}, o.Retry, true
		return true
	}
	r.Queue = slices.Delete(r.Queue, i, i+1)
	if o.Outcome == Started && !slices.Contains(r.Live, o.Run) {
		r.Live = append(r.Live, o.Run)
		r.Live = r.Live[max(len(r.Live)-maxLive, 0):]
	}
	return true
}

// stop drops what waits for its slot's sake and was not begun.
func (r *row) stop(now time.Time, reason string, all bool) (lines []Occurrence) {
	r.Queue = slices.DeleteFunc(r.Queue, func(q pending) bool {
		drop := q.Claimed.IsZero() && (all || q.Cause == ByTime)
		if drop {
			lines = append(lines, q.line(now, Skipped, "%s", reason))
		}
		return drop
	})
	return lines
}

// resume goes on behind the slots that have passed.
func (r *row) resume(now time.Time) ([]Occurrence, error) {
	next, err := r.timer()
	if err != nil {
		return nil, err
	}
	var passed many
	for slot := r.Next; !slot.IsZero() && !slot.After(now) && passed.count < mostWalked; slot = next(slot) {
		passed.add(slot)
	}
	if passed.count == mostWalked {
		passed.last, passed.count = now, mostWalked
	}
	why := "the schedule was paused"
	if r.Reason != "" {
		why += ": " + r.Reason
	}
	lines := r.skip(nil, now, &passed, why)
	r.Paused, r.Reason = false, ""
	if passed.count > 0 {
		r.Next = next(now)
	}
	return lines, nil
}

// told is the schedule as others see it.
func (r *row) told() Schedule {
	s := r.Schedule
	s.Waiting = len(r.Queue)
	return s
}
