package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/trigger"
	"github.com/pawlrun/pawl/trigger/dbchange"
)

// TriggerInfo is a trigger of a flow.
type TriggerInfo struct {
	N      int             `json:"n"` // its place in the document, from 0
	ID     string          `json:"id"`
	Type   string          `json:"type"`
	Config json.RawMessage `json:"config"`         // as the document has it
	Active bool            `json:"active"`         // it starts runs; false: no version of the flow is active
	Next   time.Time       `json:"next,omitzero"`  // of a schedule: the slot that comes next
	Words  string          `json:"words,omitzero"` // of a schedule: when it comes
}

// Fired is what came of trying a trigger.
type Fired struct {
	Trigger   string          `json:"trigger"` // its id
	Type      string          `json:"type"`
	Matched   bool            `json:"matched"`               // a run would start, unless Problem says why not
	Variables json.RawMessage `json:"variables,omitempty"`   // of the run
	Version   int             `json:"version,omitempty"`     // that the run has, or would have now
	Run       string          `json:"executionId,omitempty"` // the run that was started
	Problem   string          `json:"problem,omitempty"`     // why none is
}

// Triggers are those of a flow's active version, or of the latest if none is active. pawl.ErrNotFound.
func (r *Registry) Triggers(ctx context.Context, tenant, id string) ([]TriggerInfo, error) {
	f, head, err := r.current(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	out := make([]TriggerInfo, len(f.starts))
	for n, s := range f.starts {
		config := *s.at
		out[n] = TriggerInfo{N: n, ID: triggerID(id, n), Type: s.kind, Config: schemaText(&config), Active: head.Active != 0}
		if s.kind == "schedule" {
			out[n].Words = s.schedule.Describe()
			sch, err := trigger.Schedules{Engine: r.engine}.Get(ctx, tenant, triggerID(id, n))
			if err != nil && !errors.Is(err, pawl.ErrNotFound) {
				return nil, err
			}
			out[n].Next = sch.Next
		}
	}
	return out, nil
}

// current is the active version of a flow, or the latest.
func (r *Registry) current(ctx context.Context, tenant, id string) (*Flow, Info, error) {
	head, err := r.head(ctx, tenant, id)
	if err != nil {
		return nil, head, err
	}
	number := head.Active
	if number == 0 {
		number = head.Latest
	}
	stored, err := r.Version(ctx, tenant, id, number)
	if err != nil {
		return nil, head, err
	}
	f, err := reread(stored.Document, r.World())
	if err != nil {
		return nil, head, fmt.Errorf("version %d of flow %s: %w", number, id, err)
	}
	f.Version = number
	return f, head, nil
}

// Fire tries a trigger of a flow, by its place in the document, with a sample: it says whether that fits, which variables are made of it, and
// which version a run has. Unless it is a dry run it starts that run, at once whatever debounce, batch, rateLimit and
// singleton say, with the attribute [trigger.TestAttribute]. The triggers are those of the active version, or of the latest if none is active.
// What the sample lacks, and what the flow refuses, is the Problem. pawl.ErrNotFound: there is no such flow or trigger. pawl.ErrInput: the sample is not JSON.
func (r *Registry) Fire(ctx context.Context, tenant, id string, n int, sample trigger.Sample, dryRun bool) (Fired, error) {
	f, head, err := r.current(ctx, tenant, id)
	if err != nil {
		return Fired{}, err
	}
	if n < 0 || n >= len(f.starts) {
		return Fired{}, fmt.Errorf("%w: flow %s has %d triggers, and none with the number %d", pawl.ErrNotFound, id, len(f.starts), n)
	}
	if len(sample.Data) > 0 && !json.Valid(sample.Data) {
		return Fired{}, fmt.Errorf("%w: the data of the sample is not JSON", pawl.ErrInput)
	}
	s := f.starts[n]
	s.event.ID, s.route.ID = triggerID(id, n), triggerID(id, n)
	fired := Fired{Trigger: triggerID(id, n), Type: s.kind}
	trial, err := s.try(ctx, sample)
	if err != nil {
		fired.Problem = why(err)
		return fired, nil
	}
	fired.Matched, fired.Variables = trial.Matched, trial.Input
	if !trial.Matched {
		fired.Problem = "the event does not fit where"
		return fired, nil
	}
	opts := []pawl.StartOption{pawl.Tenant(tenant)}
	if head.Active == 0 {
		opts = append(opts, pawl.AtVersion(strconv.Itoa(f.Version)))
	}
	var version string
	if dryRun {
		version, err = r.engine.CheckStart(ctx, id, trial.Input, opts...)
	} else {
		var info pawl.RunInfo
		info, err = trigger.Test(ctx, r.engine, tenant, fired.Trigger, id, trial.Input, opts...)
		fired.Run, version = info.ID, info.Version
	}
	switch {
	case errors.Is(err, pawl.ErrInput), errors.Is(err, pawl.ErrTooLarge):
		fired.Problem = why(err)
		return fired, nil
	case err != nil:
		return fired, err
	}
	fired.Version, err = strconv.Atoi(version)
	return fired, err
}

// try makes of a sample what would start a run.
func (s *start) try(ctx context.Context, sample trigger.Sample) (trigger.Trial, error) {
	switch s.kind {
	case "event":
		return s.event.Try(ctx, sample)
	case "webhook":
		return s.route.Try(ctx, sample)
	case "schedule":
		return trigger.Trial{Matched: true, Input: s.schedule.Input}, nil
	}
	if s.kind == "database-change" { // the sample is the row
		row := sample.Data
		if len(row) == 0 {
			row = json.RawMessage("{}")
		}
		input, err := json.Marshal(dbchange.Change{Row: row, Table: s.change.Table})
		return trigger.Trial{Matched: true, Input: input}, err
	}
	input := sample.Data // somebody starts it
	if len(input) == 0 {
		input = json.RawMessage("{}")
	}
	return trigger.Trial{Matched: true, Input: input}, nil
}
