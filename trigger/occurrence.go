package trigger

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/pawlrun/pawl"
)

// Outcome is what became of a slot.
type Outcome string

// The outcomes. Starting, Buffered and Retrying go on to one of the others.
const (
	Starting Outcome = "starting" // it is being started now
	Buffered Outcome = "buffered" // it waits for an earlier run to end
	Retrying Outcome = "retrying" // it could not be started, and is tried again
	Started  Outcome = "started"
	Skipped  Outcome = "skipped" // Reason says why
	Failed   Outcome = "failed"  // it can't be started; Reason says why
)

// Cause is why an occurrence is there.
type Cause string

// The causes.
const (
	ByTime     Cause = "time"     // its slot came
	ByHand     Cause = "hand"     // Schedules.Trigger
	ByBackfill Cause = "backfill" // Schedules.Backfill
)

// Occurrence is a line of a schedule's ledger: what became of one slot.
type Occurrence struct {
	Schedule string    `json:"schedule"`
	Slot     time.Time `json:"slot"`
	Cause    Cause     `json:"cause"`
	Outcome  Outcome   `json:"outcome"`
	Reason   string    `json:"reason,omitempty"` // a sentence
	Run      string    `json:"run,omitempty"`    // its run's id, also while it is not yet started
	At       time.Time `json:"at"`               // when this was written
	Attempts int       `json:"attempts,omitempty"`
	Retry    time.Time `json:"retry,omitzero"` // Retrying: when it is tried again
	// Last and Count are set on a line that stands for many skipped slots, from Slot to Last. Count
	// is how many there were, if they were counted.
	Last  time.Time `json:"last,omitzero"`
	Count int       `json:"count,omitempty"`
}

// Records of package trigger. A tenant has spaces of its own; the index of what is due is one for
// all, so that a Runner finds it with one look.
const (
	scheduleSpace   = "trigger.schedules:"
	occurrenceSpace = "trigger.occurrences:"
	dueSpace        = "trigger.due"
)

// occurrenceKey lets the newest slot of a schedule come first.
func occurrenceKey(id string, slot time.Time, cause Cause) string {
	key := fmt.Sprintf("%s@%019d", id, math.MaxInt64-slot.UnixMicro())
	if cause != ByTime {
		key += "." + string(cause) // beside the slot's own line
	}
	return key
}

func (s *Schedule) occurrence(o Occurrence) pawl.Put {
	o.Schedule = s.ID
	data, _ := json.Marshal(o) // it has nothing that could fail
	return pawl.Put{Space: occurrenceSpace + s.Tenant, Key: occurrenceKey(s.ID, o.Slot, o.Cause), If: pawl.AnyVersion, Data: data, Until: o.At.Add(s.keep())}
}

// Occurrences returns a page of a schedule's ledger, newest slot first, and the cursor of the
// next page; "" begins, and is returned at the end. limit 0 means 100; at most 1,000. The ledger of a
// schedule that was deleted is there until its lines have grown old.
func (s Schedules) Occurrences(ctx context.Context, tenant, id, cursor string, limit int) ([]Occurrence, string, error) {
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 1000)
	if err := CheckID(id); err != nil {
		return nil, "", fmt.Errorf("%w: schedule %.128q: its id %w", pawl.ErrInput, id, err)
	}
	after := ""
	if cursor != "" {
		after = id + "@" + cursor
	}
	page, err := s.Engine.Records(ctx, occurrenceSpace+tenant, id+"@", after, limit)
	if err != nil {
		return nil, "", fmt.Errorf("occurrences of schedule %s: %w", id, err)
	}
	out := make([]Occurrence, len(page))
	for i, r := range page {
		if err := json.Unmarshal(r.Data, &out[i]); err != nil {
			return nil, "", fmt.Errorf("occurrence %s of schedule %s: %w", r.Key, id, err)
		}
	}
	if len(page) < limit {
		return out, "", nil
	}
	return out, page[len(page)-1].Key[len(id)+1:], nil
}
