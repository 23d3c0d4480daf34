package trigger

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Overlap says what becomes of a slot that comes while a run of the same schedule has not ended.
type Overlap string

// The policies for overlaps. A run that waits, is paused or is blocked has not ended.
const (
	Skip      Overlap = "skip"       // the slot is left out. The default.
	BufferOne Overlap = "buffer_one" // it starts when the run has ended; one slot waits at most, further ones are left out
	BufferAll Overlap = "buffer_all" // all wait, one after the other, up to 1,000
	CancelOld Overlap = "cancel_old" // the run is cancelled, and the slot starts when it has ended
	Allow     Overlap = "allow"      // it starts at once
)

// CatchUp says what becomes of slots that nobody was there to fire. A slot is missed if no
// Runner came to it within a minute.
type CatchUp string

// The policies for missed slots.
const (
	CatchUpLast CatchUp = "last" // the newest is fired, unless one on time is due too. The default.
	CatchUpNone CatchUp = "none" // none is fired
	CatchUpAll  CatchUp = "all"  // the newest CatchUpMax are fired
)

// Schedule is a row that says which workflow to start when. Exactly one of Cron, Every and At is given.
type Schedule struct {
	ID       string          `json:"id"` // letters, digits, ".", "_", "-", ":"; at most 128; one with [OwnedPrefix] is an owner's
	Tenant   string          `json:"tenant,omitempty"`
	Workflow string          `json:"workflow"`
	Input    json.RawMessage `json:"input,omitempty"` // of every run; without it null

	Cron  string        `json:"cron,omitempty"` // see [Cron]
	Every time.Duration `json:"every,omitzero"` // whole seconds, counted from 1970 in UTC; in JSON nanoseconds
	At    time.Time     `json:"at,omitzero"`    // once
	Zone  string        `json:"zone,omitempty"` // IANA name; "" is UTC, or the CRON_TZ of Cron
	Gap   Gap           `json:"gap,omitempty"`  // "" means after
	Fold  Fold          `json:"fold,omitempty"` // "" means once
	Start time.Time     `json:"start,omitzero"` // no slot before
	End   time.Time     `json:"end,omitzero"`   // no slot after
	// Jitter delays each slot by a time from 0 up to it, or up to the next slot, which is fixed for the slot. At most 24 h.
	Jitter time.Duration `json:"jitter,omitzero"`

	Overlap Overlap `json:"overlap,omitempty"`
	CatchUp CatchUp `json:"catchUp,omitempty"`
	// CatchUpWindow is how old a missed slot may be to be fired; 0 is no bound.
	CatchUpWindow time.Duration `json:"catchUpWindow,omitzero"`
	// CatchUpMax is how many CatchUpAll fires. 0 means 100; at most 1,000.
	CatchUpMax int `json:"catchUpMax,omitempty"`

	Paused bool   `json:"paused,omitempty"`
	Reason string `json:"reason,omitempty"` // why it is paused

	Attributes map[string]string `json:"attributes,omitempty"` // of every run, besides "schedule" and "slot"
	BudgetUSD  float64           `json:"budgetUSD,omitempty"`  // of every run; 0: none
	Priority   int               `json:"priority,omitempty"`
	// Keep is how long its occurrences are remembered. 0 means 30 days.
	Keep time.Duration `json:"keep,omitzero"`

	// Owner is who alone changes it: see [Owned]. "": everybody may.
	Owner string `json:"owner,omitempty"`

	// Told by Schedules, not given to it but for Revision, see Put.
	Revision int64     `json:"revision,omitempty"` // another after each Put, Pause and Resume
	Created  time.Time `json:"created,omitzero"`
	Updated  time.Time `json:"updated,omitzero"`
	Next     time.Time `json:"next,omitzero"`     // the slot that comes next; zero: none
	Waiting  int       `json:"waiting,omitempty"` // slots that wait to be started
	Live     []string  `json:"live,omitempty"`    // ids of its newest runs of which it is not known that they have ended
}

// Attributes of the runs that schedules start.
const (
	ScheduleAttribute = "schedule" // the schedule's id
	SlotAttribute     = "slot"     // RFC 3339, in UTC
)

// Bounds of a schedule.
const (
	maxScheduleID = 128
	maxOwnedID    = 160 // of one that has the name of its owner in it
	maxTenant     = 128
	maxBuffered   = 1000
	maxLive       = 100
	keepDefault   = 30 * 24 * time.Hour
)

// check says what is wrong with a schedule: ErrInput.
func (s *Schedule) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: schedule %.128q: %s", pawl.ErrInput, s.ID, fmt.Sprintf(format, args...))
	}
	if err := CheckID(s.ID); err != nil {
		return bad("its id %v", err)
	}
	if err := checkTenant(s.Tenant); err != nil {
		return bad("%v", err)
	}
	given := 0
	for _, is := range []bool{s.Cron != "", s.Every != 0, !s.At.IsZero()} {
		if is {
			given++
		}
	}
	switch {
	case s.Workflow == "":
		return bad("name the workflow that it starts")
	case len(s.Input) > 0 && !json.Valid(s.Input):
		return bad("its input is not JSON")
	case given != 1:
		return bad("give exactly one of cron, every and at; there are %d", given)
	case s.Every != 0 && badEvery(s.Every) != "":
		return bad("every: %s", badEvery(s.Every))
	case s.Jitter < 0 || s.Jitter > 24*time.Hour:
		return bad("its jitter is %v; it must be from 0 to 24h", s.Jitter)
	case !s.End.IsZero() && s.End.Before(s.Start):
		return bad("it ends at %s, before it starts", s.End.Format(time.RFC3339))
	case !slices.Contains([]Gap{"", GapAfter, GapSkip}, s.Gap):
		return bad("gap %q is unknown; there are after and skip", s.Gap)
	case !slices.Contains([]Fold{"", FoldOnce, FoldTwice}, s.Fold):
		return bad("fold %q is unknown; there are once and twice", s.Fold)
	case !slices.Contains([]CatchUp{"", CatchUpLast, CatchUpNone, CatchUpAll}, s.CatchUp):
		return bad("catchUp %q is unknown; there are last, none and all", s.CatchUp)
	case s.CatchUpWindow < 0 || s.CatchUpMax < 0 || s.CatchUpMax > 1000:
		return bad("catchUpWindow must not be negative, catchUpMax is from 0 to 1000")
	case s.Keep < 0 || s.BudgetUSD < 0:
		return bad("keep and budgetUSD must not be negative")
	}
	if err := checkOverlap(s.Overlap); err != nil {
		return bad("%v", err)
	}
	for name, value := range s.Attributes {
		if name == ScheduleAttribute || name == SlotAttribute {
			return bad("attribute %q is set by the schedule itself", name)
		}
		if len(name) > 256 || len(value) > 256 {
			return bad("attribute %.40q is longer than 256 bytes", name)
		}
	}
	if _, err := LoadZone(s.Zone); err != nil {
		return bad("%v", err)
	}
	if _, err := s.timer(); err != nil {
		return bad("%v", err)
	}
	return nil
}

// CheckID says what is wrong with the id of something that starts runs, as one of a schedule.
func CheckID(id string) error {
	if id == "" || len(id) > maxScheduleID && !(strings.HasPrefix(id, OwnedPrefix) && len(id) <= maxOwnedID) {
		return fmt.Errorf("must have 1 to %d bytes", maxScheduleID)
	}
	for _, r := range id {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-' || r == ':') {
			return fmt.Errorf("may have letters, digits, '.', '_', '-' and ':' only, not %q", r)
		}
	}
	return nil
}

func checkTenant(tenant string) error {
	if len(tenant) > maxTenant {
		return fmt.Errorf("the tenant's name is %d bytes long, the limit is %d", len(tenant), maxTenant)
	}
	return nil
}

func checkOverlap(o Overlap) error {
	if !slices.Contains([]Overlap{"", Skip, BufferOne, BufferAll, CancelOld, Allow}, o) {
		return fmt.Errorf("overlap %q is unknown; there are skip, buffer_one, buffer_all, cancel_old and allow", o)
	}
	return nil
}

// timer finds slots: the first after a time, zero for none.
func (s *Schedule) timer() (func(after time.Time) time.Time, error) {
	var next func(time.Time) time.Time
	switch {
	case s.Cron != "":
		c, err := parseCron(s.Cron, s.Zone, s.Gap, s.Fold)
		if err != nil {
			return nil, err
		}
		next = c.Next
	case s.Every != 0:
		next = (&Cron{every: s.Every, zone: time.UTC}).Next
	default:
		at := s.At.Truncate(time.Second)
		next = func(after time.Time) time.Time {
			if at.After(after) {
				return at
			}
			return time.Time{}
		}
	}
	return func(after time.Time) time.Time {
		if !s.Start.IsZero() && after.Before(s.Start) {
			after = s.Start.Add(-1)
		}
		t := next(after)
		if t.IsZero() || !s.End.IsZero() && t.After(s.End) {
			return time.Time{}
		}
		return t.UTC()
	}, nil
}

// Slots returns the first n slots after a time, whether it is paused or not; fewer when no more
// come.
func (s *Schedule) Slots(after time.Time, n int) ([]time.Time, error) {
	next, err := s.timer()
	if err != nil {
		return nil, err
	}
	var out []time.Time
	for t := next(after); !t.IsZero() && len(out) < n; t = next(t) {
		out = append(out, t)
	}
	return out, nil
}

// Describe says in words when it comes.
func (s *Schedule) Describe() string {
	switch {
	case s.Cron != "":
		c, err := parseCron(s.Cron, s.Zone, s.Gap, s.Fold)
		if err != nil {
			return err.Error()
		}
		return c.Describe()
	case s.Every != 0:
		return "every " + spoken(s.Every)
	}
	return "once, at " + s.At.UTC().Format(time.RFC3339)
}

// RunID is the id of the run of a slot: the same wherever it is fired.
func (s *Schedule) RunID(slot time.Time) string { return s.ID + "@" + slotText(slot) }

func slotText(slot time.Time) string { return slot.UTC().Format("2006-01-02T15:04:05.999999Z") }

// due is when a slot is fired. next finds the slot behind it, which it does not pass: slots are fired in their order, and one that others have held up
// would count as missed.
func (s *Schedule) due(slot time.Time, next func(after time.Time) time.Time) time.Time {
	if s.Jitter <= 0 {
		return slot
	}
	most := s.Jitter
	if then := next(slot); !then.IsZero() {
		most = min(most, then.Sub(slot))
	}
	sum := sha256.Sum256([]byte(s.Tenant + "\x00" + s.ID + "\x00" + slotText(slot)))
	delay := time.Duration(binary.BigEndian.Uint64(sum[:8]) % uint64(most))
	return slot.Add(delay.Truncate(time.Microsecond)) // as it is kept
}

// sameTimes reports whether two schedules have the same slots.
func (s *Schedule) sameTimes(o *Schedule) bool {
	return s.Cron == o.Cron && s.Every == o.Every && s.At.Equal(o.At) && s.Zone == o.Zone && s.Gap == o.Gap && s.Fold == o.Fold &&
		s.Start.Equal(o.Start) && s.End.Equal(o.End)
}

func (s *Schedule) keep() time.Duration { return cmp.Or(s.Keep, keepDefault) }

// options are those of a run of one slot.
func (s *Schedule) options(id string, slot time.Time) []pawl.StartOption {
	attrs := map[string]any{ScheduleAttribute: s.ID, SlotAttribute: slotText(slot)}
	for name, value := range s.Attributes {
		attrs[name] = value
	}
	opts := []pawl.StartOption{pawl.ID(id), pawl.Tenant(s.Tenant), pawl.Attributes(attrs)}
	if s.Priority != 0 {
		opts = append(opts, pawl.Priority(s.Priority))
	}
	if s.BudgetUSD > 0 {
		opts = append(opts, pawl.BudgetUSD(s.BudgetUSD))
	}
	return opts
}
