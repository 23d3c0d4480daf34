package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/trigger"
)

// ScheduleRequest says what to start when. Exactly one of Cron, Every and At is given.
type ScheduleRequest struct {
	Workflow string          `json:"workflow" doc:"What is started."`
	Input    json.RawMessage `json:"input,omitempty" doc:"Of every run; left out: null."`

	Cron   string    `json:"cron,omitempty" doc:"Five fields, or six with seconds in front; @daily and the like; @every 90s."`
	Every  string    `json:"every,omitempty" doc:"Such as 15m: whole seconds, counted from 1970 in UTC."`
	At     time.Time `json:"at,omitzero" doc:"Once, then."`
	Zone   string    `json:"zone,omitempty" doc:"The cron expression's time zone by its IANA name; left out: UTC."`
	Gap    string    `json:"gap,omitempty" doc:"A wall time that does not exist: after it (left out), or skip."`
	Fold   string    `json:"fold,omitempty" doc:"A wall time that comes twice: once (left out), or twice."`
	Start  time.Time `json:"start,omitzero" doc:"No slot comes before."`
	End    time.Time `json:"end,omitzero" doc:"No slot comes after."`
	Jitter string    `json:"jitter,omitempty" doc:"Delays each slot by a time from 0 up to this, at most 24h, and not beyond the next slot."`

	Overlap       string `json:"overlap,omitempty" doc:"When the run before has not ended: skip (left out), buffer_one, buffer_all, cancel_old or allow."`
	CatchUp       string `json:"catchUp,omitempty" doc:"Slots that nobody was there to fire: last (left out), none or all."`
	CatchUpWindow string `json:"catchUpWindow,omitempty" doc:"How old a missed slot may be to be fired; left out: as old as it is."`
	CatchUpMax    int    `json:"catchUpMax,omitempty" doc:"How many missed slots all fires; left out: 100, at most 1000."`

	Paused bool   `json:"paused,omitempty"`
	Reason string `json:"reason,omitempty" doc:"Why it is paused."`

	Attributes map[string]string `json:"attributes,omitempty" doc:"Of every run, besides schedule and slot."`
	BudgetUSD  float64           `json:"budgetUsd,omitempty" doc:"The most that each run may cost; left out: no bound."`
	Priority   int               `json:"priority,omitempty"`
	Keep       string            `json:"keep,omitempty" doc:"How long what became of its slots is remembered; left out: 720h."`
}

// Schedule is a schedule as it is: what was asked for, and how it stands.
type Schedule struct {
	ID string `json:"id"`
	ScheduleRequest
	Tenant      string    `json:"tenant,omitempty"`
	Description string    `json:"description" doc:"When it comes, in words."`
	Revision    int64     `json:"revision" doc:"Another after each change."`
	ETag        string    `json:"etag" doc:"Names the revision, for If-Match."`
	Created     time.Time `json:"created"`
	Updated     time.Time `json:"updated"`
	Next        time.Time `json:"next,omitzero" doc:"The slot that comes next; left out: none does."`
	Waiting     int       `json:"waiting,omitempty" doc:"Slots that wait to be started."`
	Live        []string  `json:"live,omitempty" doc:"Ids of its newest runs that have not ended, as far as is known."`
	// Last is what became of its newest slot; nil: none has come, or it is forgotten.
	Last *trigger.Occurrence `json:"last,omitempty" doc:"What became of its newest slot."`
}

// SchedulePage is a page of schedules, by id.
type SchedulePage struct {
	Items      []Schedule `json:"items"`
	NextCursor string     `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last."`
}

// OccurrencePage is a page of what became of a schedule's slots, newest slot first.
type OccurrencePage struct {
	Items      []trigger.Occurrence `json:"items"`
	NextCursor string               `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last."`
}

// SlotList is when a schedule comes.
type SlotList struct {
	Items []time.Time `json:"items"`
}

// TriggerRequest is the body of a schedule that is fired by hand. It may be left out.
type TriggerRequest struct {
	Overlap string `json:"overlap,omitempty" doc:"In place of the schedule's."`
}

func scheduleOf(s trigger.Schedule) Schedule {
	text := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return d.String()
	}
	return Schedule{
		ID: s.ID, Tenant: s.Tenant, Description: s.Describe(), Revision: s.Revision, ETag: revisionTag(s.Revision),
		Created: s.Created, Updated: s.Updated, Next: s.Next, Waiting: s.Waiting, Live: s.Live,
		ScheduleRequest: ScheduleRequest{
			Workflow: s.Workflow, Input: s.Input, Cron: s.Cron, Every: text(s.Every), At: s.At, Zone: s.Zone, Gap: string(s.Gap), Fold: string(s.Fold),
			Start: s.Start, End: s.End, Jitter: text(s.Jitter), Overlap: string(s.Overlap), CatchUp: string(s.CatchUp), CatchUpWindow: text(s.CatchUpWindow),
			CatchUpMax: s.CatchUpMax, Paused: s.Paused, Reason: s.Reason, Attributes: s.Attributes, BudgetUSD: s.BudgetUSD, Priority: s.Priority, Keep: text(s.Keep),
		},
	}
}

// schedule reads a request.
func (q *ScheduleRequest) schedule(tenant, id string) (trigger.Schedule, error) {
	s := trigger.Schedule{
		ID: id, Tenant: tenant, Workflow: q.Workflow, Input: q.Input, Cron: q.Cron, At: q.At, Zone: q.Zone, Gap: trigger.Gap(q.Gap), Fold: trigger.Fold(q.Fold),
		Start: q.Start, End: q.End, Overlap: trigger.Overlap(q.Overlap), CatchUp: trigger.CatchUp(q.CatchUp), CatchUpMax: q.CatchUpMax,
		Paused: q.Paused, Reason: q.Reason, Attributes: q.Attributes, BudgetUSD: q.BudgetUSD, Priority: q.Priority,
	}
	for _, d := range []struct {
		name, text string
		into       *time.Duration
	}{{"every", q.Every, &s.Every}, {"jitter", q.Jitter, &s.Jitter}, {"catchUpWindow", q.CatchUpWindow, &s.CatchUpWindow}, {"keep", q.Keep, &s.Keep}} {
		if d.text == "" {
			continue
		}
		var err error
		if *d.into, err = duration("field "+d.name, d.text); err != nil {
			return s, err
		}
	}
	return s, nil
}

type schedulesInput struct {
	Q      string `query:"q" doc:"Only those whose id begins so."`
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
}

type scheduleInput struct {
	ID string `path:"id"`
}

type putScheduleInput struct {
	ID    string `path:"id"`
	Match string `header:"If-Match" doc:"The ETag that the schedule must still have."`
	None  string `header:"If-None-Match" enum:"*" doc:"*: it must be new."`
	Body  ScheduleRequest
}

type deleteScheduleInput struct {
	ID    string `path:"id"`
	Match string `header:"If-Match" doc:"The ETag that the schedule must still have."`
}

type pauseScheduleInput struct {
	ID    string `path:"id"`
	Match string `header:"If-Match" doc:"The ETag that the schedule must still have."`
	Body  ReasonRequest
}

type resumeScheduleInput struct {
	ID    string `path:"id"`
	Match string `header:"If-Match" doc:"The ETag that the schedule must still have."`
	Body  Empty
}

type triggerScheduleInput struct {
	ID   string `path:"id"`
	Body TriggerRequest
}

// BackfillRequest is the body of a backfill: the slots from from on and before to are fired.
type BackfillRequest struct {
	From    time.Time `json:"from" doc:"From then on."`
	To      time.Time `json:"to" doc:"Before then; it must have passed."`
	Overlap string    `json:"overlap,omitempty" doc:"When a run of the schedule has not ended; left out: buffer_all, one after the other."`
	DryRun  bool      `json:"dryRun,omitempty" doc:"Only say how many there are."`
}

// Backfill says which slots a backfill fires.
type Backfill struct {
	Slots  int       `json:"slots" doc:"How many there are, at most 1000."`
	First  time.Time `json:"first,omitzero"`
	Last   time.Time `json:"last,omitzero"`
	DryRun bool      `json:"dryRun,omitempty" doc:"Nothing was fired."`
}

type backfillInput struct {
	ID   string `path:"id"`
	Body BackfillRequest
}

type occurrencesInput struct {
	ID     string `path:"id"`
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
}

type slotsInput struct {
	ID    string `path:"id"`
	Limit int    `query:"limit" default:"10" minimum:"1" maximum:"500"`
}

type occurrenceOutput struct {
	Replayed string `header:"Idempotency-Replayed" doc:"true: the request was carried out before."`
	Body     trigger.Occurrence
}

type scheduleOutput struct {
	ETag string `header:"ETag" doc:"Names its revision, for If-Match."`
	Body Schedule
}

func (s *server) scheduleRoutes() {
	all := trigger.Schedules{Engine: s.engine}
	get := func(id, path, summary string) route {
		return route{id: id, method: http.MethodGet, path: path, scope: RunsRead, summary: summary}
	}
	change := func(method, id, path, summary string) route {
		return route{id: id, method: method, path: path, scope: SchedulesWrite, summary: summary}
	}
	add(s, get("schedules", "/api/schedules", "List schedules, by id"), s.schedules)
	add(s, get("schedule", "/api/schedules/{id}", "Look at a schedule"), func(ctx context.Context, in *scheduleInput) (*scheduleOutput, error) {
		out, err := scheduled(all.Get(ctx, tenantOf(ctx), in.ID))
		if err == nil {
			out.Body.Last, err = s.lastSlot(ctx, in.ID)
		}
		return out, err
	})
	add(s, get("occurrences", "/api/schedules/{id}/occurrences", "Read what became of a schedule's slots, newest first"), s.occurrences)
	add(s, get("nextSlots", "/api/schedules/{id}/next", "Tell when a schedule comes next"), func(ctx context.Context, in *slotsInput) (*output[SlotList], error) {
		slots, err := all.Next(ctx, tenantOf(ctx), in.ID, in.Limit)
		return &output[SlotList]{SlotList{append([]time.Time{}, slots...)}}, err
	})
	add(s, change(http.MethodPut, "putSchedule", "/api/schedules/{id}", "Make or change a schedule"), s.putSchedule)
	remove := change(http.MethodDelete, "deleteSchedule", "/api/schedules/{id}", "Remove a schedule; its runs go on")
	remove.status = http.StatusNoContent
	add(s, remove, func(ctx context.Context, in *deleteScheduleInput) (*noOutput, error) {
		return &noOutput{}, s.ifSchedule(ctx, in.ID, in.Match, func(must ...trigger.IfRevision) error {
			return all.Delete(ctx, tenantOf(ctx), in.ID, must...)
		})
	})
	add(s, change(http.MethodPost, "pauseSchedule", "/api/schedules/{id}/pause", "Stop a schedule until it is resumed"), func(ctx context.Context, in *pauseScheduleInput) (*scheduleOutput, error) {
		var now trigger.Schedule
		err := s.ifSchedule(ctx, in.ID, in.Match, func(must ...trigger.IfRevision) (err error) {
			now, err = all.Pause(ctx, tenantOf(ctx), in.ID, in.Body.Reason, must...)
			return err
		})
		return scheduled(now, err)
	})
	add(s, change(http.MethodPost, "resumeSchedule", "/api/schedules/{id}/resume", "Let a schedule go on with the next slot"), func(ctx context.Context, in *resumeScheduleInput) (*scheduleOutput, error) {
		var now trigger.Schedule
		err := s.ifSchedule(ctx, in.ID, in.Match, func(must ...trigger.IfRevision) (err error) {
			now, err = all.Resume(ctx, tenantOf(ctx), in.ID, must...)
			return err
		})
		return scheduled(now, err)
	})
	add(s, change(http.MethodPost, "backfillSchedule", "/api/schedules/{id}/backfill", "Fire slots of a schedule that have passed"), s.backfillSchedule)
	fire := change(http.MethodPost, "triggerSchedule", "/api/schedules/{id}/trigger", "Fire a schedule now, paused or not")
	fire.once, fire.queues = true, true
	add(s, fire, s.triggerSchedule)
}

func (s *server) triggerSchedule(ctx context.Context, in *triggerScheduleInput) (*occurrenceOutput, error) {
	once, err := s.once(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now().Truncate(time.Microsecond) // as the ledger has it
	o, err := trigger.Schedules{Engine: s.engine}.Trigger(ctx, tenantOf(ctx), in.ID, trigger.TriggerOptions{Once: once.id, Overlap: trigger.Overlap(in.Body.Overlap)})
	return &occurrenceOutput{Replayed: once.replayed(o.At.Before(now)), Body: o}, err
}

// backfillSchedule may be repeated: a slot that has had its run keeps it.
func (s *server) backfillSchedule(ctx context.Context, in *backfillInput) (*output[Backfill], error) {
	q := in.Body
	if q.From.IsZero() || q.To.IsZero() {
		return nil, badRequest(`a backfill needs the fields "from" and "to", two times that have passed`)
	}
	all := trigger.Schedules{Engine: s.engine}
	slots, err := all.BackfillSlots(ctx, tenantOf(ctx), in.ID, q.From, q.To, trigger.Overlap(q.Overlap))
	if err != nil {
		return nil, err
	}
	out := Backfill{Slots: len(slots), DryRun: q.DryRun}
	if len(slots) > 0 {
		out.First, out.Last = slots[0], slots[len(slots)-1]
	}
	if !q.DryRun {
		out.Slots, err = all.Backfill(ctx, tenantOf(ctx), in.ID, q.From, q.To, trigger.Overlap(q.Overlap))
	}
	return &output[Backfill]{out}, err
}

func scheduled(sch trigger.Schedule, err error) (*scheduleOutput, error) {
	if err != nil {
		return nil, err
	}
	return &scheduleOutput{ETag: revisionTag(sch.Revision), Body: scheduleOf(sch)}, nil
}

// schedules fills a page: one of the engine's may be shorter than was asked for.
func (s *server) schedules(ctx context.Context, in *schedulesInput) (*output[SchedulePage], error) {
	after, err := readMark("schedule:", in.Cursor)
	if err != nil {
		return nil, err
	}
	page := SchedulePage{Items: []Schedule{}}
	for {
		found, err := trigger.Schedules{Engine: s.engine}.List(ctx, tenantOf(ctx), in.Q, after, in.Limit+1)
		if err != nil {
			return nil, err
		}
		for _, sch := range found {
			if len(page.Items) == in.Limit {
				page.NextCursor = mark("schedule:", page.Items[in.Limit-1].ID)
				return &output[SchedulePage]{page}, nil
			}
			shown := scheduleOf(sch)
			if shown.Last, err = s.lastSlot(ctx, sch.ID); err != nil {
				return nil, err
			}
			page.Items = append(page.Items, shown)
			after = sch.ID
		}
		if len(found) == 0 {
			return &output[SchedulePage]{page}, nil
		}
	}
}

func (s *server) putSchedule(ctx context.Context, in *putScheduleInput) (*scheduleOutput, error) {
	sch, err := in.Body.schedule(tenantOf(ctx), in.ID)
	if err != nil {
		return nil, err
	}
	revision, err := revisionOf(in.Match)
	if err != nil {
		return nil, err
	}
	if err := s.startable(ctx, tenantOf(ctx), &in.Body); err != nil {
		return nil, err
	}
	if in.Match == "*" { // there must be one
		if err := s.matchSchedule(ctx, in.ID, in.Match); err != nil {
			return nil, err
		}
	}
	switch {
	case in.None != "": // 0: it must be new
	case revision == 0:
		sch.Revision = trigger.AnyRevision
	default:
		sch.Revision = revision
	}
	out, err := trigger.Schedules{Engine: s.engine}.Put(ctx, sch)
	return scheduled(out, lostChange(err))
}

// ifSchedule does something to a schedule if it has the revision of an If-Match, which is decided in the write.
func (s *server) ifSchedule(ctx context.Context, id, match string, do func(must ...trigger.IfRevision) error) error {
	if err := s.matchSchedule(ctx, id, match); err != nil {
		return err
	}
	revision, err := revisionOf(match)
	if err != nil || revision == 0 {
		if err == nil {
			err = do()
		}
		return err
	}
	return lostChange(do(trigger.IfRevision(revision)))
}

// startable refuses what no slot could start. A server that works no runs does not know the workflows.
func (s *server) startable(ctx context.Context, tenant string, q *ScheduleRequest) error {
	if err := s.learn(ctx, q.Workflow); err != nil || q.Workflow == "" {
		return err
	}
	if len(s.code()) == 0 && (s.opt.Flows == nil || !s.opt.Flows.Is(q.Workflow)) {
		return nil
	}
	err := s.engine.Accepts(ctx, tenant, q.Workflow, q.Input)
	if errors.Is(err, pawl.ErrUnknown) {
		return s.unknownWorkflow(ctx, q.Workflow)
	}
	return err
}

// matchSchedule holds a schedule against an If-Match.
func (s *server) matchSchedule(ctx context.Context, id, match string) error {
	if match == "" {
		return nil
	}
	now, err := trigger.Schedules{Engine: s.engine}.Get(ctx, tenantOf(ctx), id)
	if err != nil {
		return err
	}
	return matches(match, revisionTag(now.Revision))
}

// lastSlot is what became of the newest slot of a schedule; nil: none has come.
func (s *server) lastSlot(ctx context.Context, id string) (*trigger.Occurrence, error) {
	found, _, err := trigger.Schedules{Engine: s.engine}.Occurrences(ctx, tenantOf(ctx), id, "", 1)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

func (s *server) occurrences(ctx context.Context, in *occurrencesInput) (*output[OccurrencePage], error) {
	at, err := readMark("slot:", in.Cursor)
	if err != nil {
		return nil, err
	}
	all := trigger.Schedules{Engine: s.engine}
	found, next, err := all.Occurrences(ctx, tenantOf(ctx), in.ID, at, in.Limit)
	if err == nil && len(found) == 0 && at == "" { // nothing has become of a slot; or there is no such schedule
		_, err = all.Get(ctx, tenantOf(ctx), in.ID)
	}
	if err != nil {
		return nil, err
	}
	page := OccurrencePage{Items: append([]trigger.Occurrence{}, found...)}
	if next != "" {
		page.NextCursor = mark("slot:", next)
	}
	return &output[OccurrencePage]{page}, nil
}
