package trigger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pawlrun/pawl"
)

// TriggerOptions say how a schedule is fired by hand.
type TriggerOptions struct {
	// Once names the request: another with the same name starts nothing and tells of the first.
	Once string
	// Overlap is used in place of the schedule's. "" means the schedule's.
	Overlap Overlap
}

// Trigger fires a schedule now, paused or not, and returns what became of it: Started when
// this engine knows the workflow, nothing speaks against it and no [Runner] was faster; else what the ledger says so far. ErrNotFound, ErrInput.
func (s Schedules) Trigger(ctx context.Context, tenant, id string, opt TriggerOptions) (Occurrence, error) {
	if err := checkOverlap(opt.Overlap); err != nil {
		return Occurrence{}, fmt.Errorf("%w: %w", pawl.ErrInput, err)
	}
	var q pending
	_, err := s.existing(ctx, tenant, id, func(r *row, now time.Time) ([]Occurrence, error) {
		slot := now.UTC().Truncate(time.Microsecond)
		q = pending{Slot: slot, Cause: ByHand, Overlap: opt.Overlap, Run: r.RunID(slot), Since: now}
		if opt.Once != "" {
			sum := sha256.Sum256([]byte(opt.Once))
			q.Run = r.ID + "@" + hex.EncodeToString(sum[:16])
			if i := slices.IndexFunc(r.Queue, func(p pending) bool { return p.Run == q.Run }); i >= 0 {
				q = r.Queue[i]
				return nil, errSame
			}
			info, err := s.Engine.Get(ctx, pawl.Ref{Tenant: tenant, ID: q.Run})
			if err == nil {
				if at, err := time.Parse(time.RFC3339, info.Attrs[SlotAttribute]); err == nil {
					q.Slot = at
				}
				return nil, errSame
			}
			if !errors.Is(err, pawl.ErrNotFound) {
				return nil, err
			}
		}
		if q.Overlap == "" {
			q.Overlap = r.Overlap
		}
		if err := s.refresh(ctx, r); err != nil {
			return nil, err
		}
		return r.arrive(nil, now, q), nil
	})
	if err != nil {
		return Occurrence{}, err
	}
	if _, err := s.turn(ctx, tenant, id); err != nil && !errors.Is(err, errNobody) { // the ledger says that
		return Occurrence{}, err
	}
	o := Occurrence{Schedule: id, Slot: q.Slot, Cause: ByHand, Outcome: Starting, Run: q.Run, At: q.Since}
	record, err := s.Engine.Record(ctx, occurrenceSpace+tenant, occurrenceKey(id, q.Slot, ByHand))
	switch {
	case errors.Is(err, pawl.ErrNotFound): // no Runner has come to it
		return o, nil
	case err != nil:
		return o, err
	}
	return o, json.Unmarshal(record.Data, &o)
}

// BackfillSlots returns the slots that Backfill with the same times would fire, and fires none. Its
// errors are those of Backfill.
func (s Schedules) BackfillSlots(ctx context.Context, tenant, id string, from, to time.Time, overlap Overlap) ([]time.Time, error) {
	if err := checkOverlap(overlap); err != nil {
		return nil, fmt.Errorf("%w: %w", pawl.ErrInput, err)
	}
	r, _, err := s.read(ctx, tenant, id)
	if err == nil && (r.Revision == 0 || r.Deleted) {
		err = fmt.Errorf("%w: schedule %.128q", pawl.ErrNotFound, id)
	}
	if err != nil {
		return nil, err
	}
	return r.between(time.Now(), from, to)
}

// Backfill fires the slots from from on and before to, oldest first, and returns how many there
// are. Slots that have had their run keep it: none runs twice. overlap "" means BufferAll: one
// after the other. ErrInput: to lies in the future, or there are more than 1,000. ErrNotFound.
func (s Schedules) Backfill(ctx context.Context, tenant, id string, from, to time.Time, overlap Overlap) (n int, err error) {
	if overlap == "" {
		overlap = BufferAll
	}
	if err := checkOverlap(overlap); err != nil {
		return 0, fmt.Errorf("%w: %w", pawl.ErrInput, err)
	}
	_, err = s.existing(ctx, tenant, id, func(r *row, now time.Time) ([]Occurrence, error) {
		slots, err := r.between(now, from, to)
		if err != nil {
			return nil, err
		}
		if n = len(slots); n == 0 {
			return nil, errSame
		}
		if err := s.refresh(ctx, r); err != nil {
			return nil, err
		}
		var lines []Occurrence
		for _, slot := range slots {
			lines = r.arrive(lines, now, pending{Slot: slot, Cause: ByBackfill, Overlap: overlap, Run: r.RunID(slot), Since: now})
		}
		return lines, nil
	})
	return n, err
}

// between returns the slots from from on and before to, of which there must be room for all.
func (r *row) between(now, from, to time.Time) (slots []time.Time, err error) {
	if to.After(now) {
		return nil, fmt.Errorf("%w: backfill of schedule %s up to %s, which is not yet over", pawl.ErrInput, r.ID, clock(to))
	}
	if !from.Before(to) {
		return nil, fmt.Errorf("%w: backfill of schedule %s from %s to %s: there is nothing between", pawl.ErrInput, r.ID, clock(from), clock(to))
	}
	next, err := r.timer()
	if err != nil {
		return nil, err
	}
	room := maxBuffered - len(r.Queue)
	for slot := next(from.Add(-1)); !slot.IsZero() && slot.Before(to); slot = next(slot) {
		if slots = append(slots, slot); len(slots) > room {
			return nil, fmt.Errorf("%w: backfill of schedule %s: there are more than %d slots before %s, and no more can wait: do it in parts", pawl.ErrInput, r.ID, room, clock(to))
		}
	}
	return slots, nil
}
