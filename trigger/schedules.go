package trigger

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
)

// Schedules keeps schedules in the store of an engine, and tells of them. They belong to the store:
// no process that ends takes one along. All methods are safe for concurrent use in many processes.
type Schedules struct{ Engine *pawl.Engine }

// AnyRevision lets Put write over whatever is there.
const AnyRevision = -1

// RevisionError reports a change of a schedule or a subscription that is not of the revision it was to be of. It is a
// pawl.ErrConflict. Nothing was written.
type RevisionError struct {
	ID   string
	Want int64 // 0: it was to be new
	Have int64 // 0: there is none
	of   string
}

func (e *RevisionError) Error() string {
	of := cmp.Or(e.of, "schedule")
	switch {
	case e.Want == 0:
		return fmt.Sprintf("%s %s is there already, with revision %d", of, e.ID, e.Have)
	case e.Have == 0:
		return fmt.Sprintf("%s %s is not there any more", of, e.ID)
	}
	return fmt.Sprintf("%s %s has revision %d and not %d: somebody has changed it; read it again", of, e.ID, e.Have, e.Want)
}

// Is makes it an ErrConflict.
func (e *RevisionError) Is(target error) bool { return target == pawl.ErrConflict }

// IfRevision lets a change be made only of a schedule or a subscription that has this revision: else
// *[RevisionError]. It is decided in the write.
type IfRevision int64

// holds decides on a schedule as it is now.
func holds(must []IfRevision, id string, have int64) error {
	for _, want := range must {
		if int64(want) != have {
			return &RevisionError{ID: id, Want: int64(want), Have: have}
		}
	}
	return nil
}

// Put writes a schedule. Revision is what it must have: 0 it must be new, [AnyRevision] whichever;
// else *RevisionError. One that is there already and stays the same is not written. If its times
// are new, it begins with the first slot from now on; else it goes on where it is, with what
// it has missed. ErrInput: it can't be, such as a date that has passed.
func (s Schedules) Put(ctx context.Context, sch Schedule) (Schedule, error) {
	if err := errors.Join(ownable("schedule", sch.ID, sch.Owner), sch.check()); err != nil {
		return Schedule{}, err
	}
	return s.change(ctx, sch.Tenant, sch.ID, func(r *row, now time.Time) ([]Occurrence, error) {
		have := r.Revision
		if r.Deleted {
			have = 0
		}
		if sch.Revision >= 0 && sch.Revision != have {
			return nil, &RevisionError{ID: sch.ID, Want: sch.Revision, Have: have}
		}
		return r.become(sch, now)
	})
}

// become makes the row that of a schedule. errSame: it is already.
func (r *row) become(sch Schedule, now time.Time) (lines []Occurrence, err error) {
	if len(sch.Input) > 0 {
		var buf bytes.Buffer
		_ = json.Compact(&buf, sch.Input) // it is JSON
		sch.Input = buf.Bytes()
	}
	there := r.Revision != 0 && !r.Deleted
	if there && same(r.Schedule, sch) {
		return nil, errSame
	}
	old := r.Schedule
	r.Schedule, r.Deleted = sch, false
	r.Created, r.Updated, r.Live = old.Created, now, old.Live
	r.Revision = max(old.Revision+1, now.UnixMicro()) // no number comes again after a delete
	r.Next = old.Next
	if !there || !old.sameTimes(&sch) {
		next, err := sch.timer()
		if err != nil {
			return nil, err
		}
		if r.Next = next(now); r.Next.IsZero() {
			return nil, fmt.Errorf("%w: schedule %s: no slot comes any more (%s)", pawl.ErrInput, sch.ID, sch.Describe())
		}
	}
	if !there {
		r.Created = now
	}
	switch {
	case sch.Paused:
		lines = r.stop(now, "the schedule was paused", false)
	case old.Paused && there:
		r.Reason = old.Reason
		return r.resume(now)
	}
	if !sch.Paused {
		r.Reason = ""
	}
	return lines, nil
}

// remove takes the schedule away.
func (r *row) remove(now time.Time) []Occurrence {
	r.Deleted = true
	return r.stop(now, "the schedule was deleted", true)
}

// same compares what Put was given with what is there.
func same(a, b Schedule) bool {
	plain := func(s Schedule) []byte {
		s.Revision, s.Created, s.Updated, s.Next, s.Waiting, s.Live = 0, time.Time{}, time.Time{}, time.Time{}, 0, nil
		if !s.Paused {
			s.Reason = ""
		}
		s.At, s.Start, s.End = s.At.UTC(), s.Start.UTC(), s.End.UTC()
		data, _ := json.Marshal(s)
		return data
	}
	return bytes.Equal(plain(a), plain(b))
}

// Get returns a schedule. ErrNotFound.
func (s Schedules) Get(ctx context.Context, tenant, id string) (Schedule, error) {
	r, _, err := s.read(ctx, tenant, id)
	if err == nil && (r.Revision == 0 || r.Deleted) {
		err = fmt.Errorf("%w: schedule %.128q", pawl.ErrNotFound, id)
	}
	if err != nil {
		return Schedule{}, err
	}
	return r.told(), nil
}

// List returns a page of a tenant's schedules whose id begins with prefix and comes after
// after, in the order of their ids. limit 0 means 100; at most 1,000. A page may be shorter than
// limit; the last is empty.
func (s Schedules) List(ctx context.Context, tenant, prefix, after string, limit int) ([]Schedule, error) {
	for {
		page, err := s.Engine.Records(ctx, scheduleSpace+tenant, prefix, after, limit)
		if err != nil {
			return nil, fmt.Errorf("list schedules: %w", err)
		}
		var out []Schedule
		for _, record := range page {
			var r row
			if err := json.Unmarshal(record.Data, &r); err != nil {
				return nil, fmt.Errorf("schedule %s: %w", record.Key, err)
			}
			if after = record.Key; !r.Deleted {
				out = append(out, r.told())
			}
		}
		if len(out) > 0 || len(page) == 0 {
			return out, nil
		}
	}
}

// Pause stops a schedule: no slot is fired, and none that waits. What was asked for by hand goes
// on. A second Pause changes the reason. ErrNotFound, *RevisionError.
func (s Schedules) Pause(ctx context.Context, tenant, id, reason string, must ...IfRevision) (Schedule, error) {
	return s.existing(ctx, tenant, id, func(r *row, now time.Time) ([]Occurrence, error) {
		if err := errors.Join(theirs("schedule", id, r.Owner), holds(must, id, r.Revision)); err != nil {
			return nil, err
		}
		if r.Paused && r.Reason == reason {
			return nil, errSame
		}
		r.Paused, r.Reason, r.Updated, r.Revision = true, reason, now, max(r.Revision+1, now.UnixMicro())
		return r.stop(now, "the schedule was paused", false), nil
	})
}

// Resume lets a paused schedule go on with the next slot. Those that have passed are in its ledger
// as skipped; Backfill fires them. ErrNotFound. One that is not paused stays as it is.
func (s Schedules) Resume(ctx context.Context, tenant, id string, must ...IfRevision) (Schedule, error) {
	return s.existing(ctx, tenant, id, func(r *row, now time.Time) ([]Occurrence, error) {
		if err := errors.Join(theirs("schedule", id, r.Owner), holds(must, id, r.Revision)); err != nil {
			return nil, err
		}
		if !r.Paused {
			return nil, errSame
		}
		r.Updated, r.Revision = now, max(r.Revision+1, now.UnixMicro())
		return r.resume(now)
	})
}

// Delete removes a schedule. Its runs go on; its ledger stays until it is old. ErrNotFound.
func (s Schedules) Delete(ctx context.Context, tenant, id string, must ...IfRevision) error {
	_, err := s.existing(ctx, tenant, id, func(r *row, now time.Time) ([]Occurrence, error) {
		if err := errors.Join(theirs("schedule", id, r.Owner), holds(must, id, r.Revision)); err != nil {
			return nil, err
		}
		return r.remove(now), nil
	})
	return err
}

// Next returns the next n slots from now on, also of a paused schedule. ErrNotFound.
func (s Schedules) Next(ctx context.Context, tenant, id string, n int) ([]time.Time, error) {
	sch, err := s.Get(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	return sch.Slots(time.Now(), min(n, 1000))
}

// errSame lets a change end without a write.
var errSame = errors.New("nothing to change")

func (s Schedules) read(ctx context.Context, tenant, id string) (*row, int64, error) {
	r := &row{}
	if err := CheckID(id); err != nil {
		return nil, 0, fmt.Errorf("%w: schedule %.128q: its id %w", pawl.ErrNotFound, id, err)
	}
	record, err := s.Engine.Record(ctx, scheduleSpace+tenant, id)
	switch {
	case errors.Is(err, pawl.ErrNotFound):
		return r, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("schedule %s: %w", id, err)
	}
	if err := json.Unmarshal(record.Data, r); err != nil {
		return nil, 0, fmt.Errorf("schedule %s: its record can't be read: %w", id, err)
	}
	return r, record.Version, nil
}

func (s Schedules) existing(ctx context.Context, tenant, id string, f func(*row, time.Time) ([]Occurrence, error)) (Schedule, error) {
	return s.change(ctx, tenant, id, func(r *row, now time.Time) ([]Occurrence, error) {
		if r.Revision == 0 || r.Deleted {
			return nil, fmt.Errorf("%w: schedule %.128q", pawl.ErrNotFound, id)
		}
		return f(r, now)
	})
}

// change applies f to what is there, again if somebody else was faster.
func (s Schedules) change(ctx context.Context, tenant, id string, f func(*row, time.Time) ([]Occurrence, error)) (Schedule, error) {
	for {
		r, version, err := s.read(ctx, tenant, id)
		if err != nil {
			return Schedule{}, err
		}
		now := time.Now().UTC()
		lines, err := f(r, now)
		if errors.Is(err, errSame) {
			return r.told(), nil
		}
		if err != nil {
			return Schedule{}, err
		}
		_, err = s.write(ctx, r, version, lines, now)
		if err == nil {
			return r.told(), nil
		}
		var faster *pawl.RecordConflictError
		if !errors.As(err, &faster) {
			return Schedule{}, fmt.Errorf("schedule %s: %w", id, err)
		}
	}
}

// write stores a row over the version that was read, with its lines and its place in the index.
func (s Schedules) write(ctx context.Context, r *row, version int64, lines []Occurrence, now time.Time) (int64, error) {
	puts, err := r.puts(version, lines, now)
	if err != nil {
		return 0, err
	}
	versions, err := s.Engine.Write(ctx, puts...)
	if err != nil {
		return 0, err
	}
	return versions[0], nil
}

// puts are what write writes.
func (r *row) puts(version int64, lines []Occurrence, now time.Time) ([]pawl.Put, error) {
	old := r.Due
	due, blocked := r.wake(now)
	if blocked { // it is due from now on, until it can be done: who looks in vain writes nothing
		due = now
	}
	if r.Due = (time.Time{}); !due.IsZero() {
		r.Due = due.UTC().Truncate(time.Microsecond)
	}
	put := pawl.Put{Space: scheduleSpace + r.Tenant, Key: r.ID, If: version}
	if r.Deleted && len(r.Queue) == 0 {
		r.Due = time.Time{}
	} else {
		data, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		put.Data = data
	}
	puts := []pawl.Put{put}
	if !old.IsZero() && !old.Equal(r.Due) {
		puts = append(puts, pawl.Put{Space: dueSpace, Key: r.dueKey(old), If: pawl.AnyVersion})
	}
	if !r.Due.IsZero() && !old.Equal(r.Due) {
		data, _ := json.Marshal(dueEntry{Tenant: r.Tenant, ID: r.ID})
		puts = append(puts, pawl.Put{Space: dueSpace, Key: r.dueKey(r.Due), If: pawl.AnyVersion, Data: data})
	}
	byKey := map[string]int{} // the last word on a slot counts
	for _, line := range lines {
		p := r.occurrence(line)
		if i, twice := byKey[p.Key]; twice {
			puts[i] = p
			continue
		}
		byKey[p.Key] = len(puts)
		puts = append(puts, p)
	}
	return puts, nil
}

// dueEntry is what the index of due rows holds.
type dueEntry struct {
	Tenant string `json:"tenant,omitempty"`
	ID     string `json:"id,omitempty"`
	Event  string `json:"event,omitempty"` // the key of an event, in place of an id

	Gate  string     `json:"gate,omitempty"` // the key of a gate, in place of an id
	Run   string     `json:"run,omitempty"`  // a run that has ended, in place of an id
	Seq   int64      `json:"seq,omitempty"`  // of its last entry
	State pawl.State `json:"state,omitempty"`
}

func (s *Schedule) dueKey(due time.Time) string { return dueKey(due, "s", s.Tenant, s.ID) }

// dueKey sorts by time. What it is of is a hash: names may be longer than a key.
func dueKey(due time.Time, kind, tenant, id string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + tenant + "\x00" + id))
	return dueTime(due) + "." + hex.EncodeToString(sum[:16])
}

func dueTime(t time.Time) string { return fmt.Sprintf("%016d", max(t.UnixMicro(), 0)) }
