package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/pawlrun/pawl"
)

// The states of a step.
const (
	StepRetrying  = "retrying" // an attempt has failed, and another is made or will be
	StepCompleted = "completed"
	StepFailed    = "failed"
)

// Step is what a run's journal tells of one step. A step whose first attempt is under way is
// not in it yet.
type Step struct {
	Key      string        `json:"key"`
	Name     string        `json:"name" doc:"The key without what tells occurrences apart."`
	State    string        `json:"state" enum:"retrying,completed,failed"`
	Seq      int64         `json:"seq" doc:"Of its newest entry in the journal, which has the result."`
	Ended    time.Time     `json:"ended" doc:"When its newest attempt ended."`
	Next     time.Time     `json:"next,omitzero" doc:"When it is tried again."`
	Took     time.Duration `json:"took" doc:"All attempts together, in nanoseconds."`
	Cost     int64         `json:"cost,omitempty" doc:"In millionths of a US dollar; of an attempt under way, what is reserved."`
	Attempts []Attempt     `json:"attempts"`
}

// Attempt is one try of a step's body.
type Attempt struct {
	Attempt int           `json:"attempt"`
	Ended   time.Time     `json:"ended"`
	Took    time.Duration `json:"took" doc:"In nanoseconds."`
	Error   *pawl.Failure `json:"error,omitempty"`
}

// StepPage is a page of a run's steps, in the order in which their first attempts ended.
type StepPage struct {
	Items      []Step `json:"items"`
	NextCursor string `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last so far."`
}

type stepsInput struct {
	ID     string `path:"id"`
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"500"`
}

func (s *server) stepRoutes() {
	add(s, route{id: "steps", method: http.MethodGet, path: "/api/runs/{id}/steps", scope: RunsRead, summary: "List a run's steps, with their attempts and costs"}, s.steps)
}

// steps reads the whole journal: attempts of a step may be far from each other in it.
func (s *server) steps(ctx context.Context, in *stepsInput) (*output[StepPage], error) {
	run := runRef(ctx, in.ID)
	begin, err := readNumber("step:", in.Cursor)
	if err != nil {
		return nil, err
	}
	all, at := []*Step{}, map[string]*Step{}
	n := int64(0) // steps seen
	for e, err := range s.engine.Journal(ctx, run) {
		if err != nil {
			return nil, err
		}
		if e.Kind != pawl.KindStep && e.Kind != pawl.KindAttempt {
			continue
		}
		step, seen := at[e.Key]
		if !seen {
			if n++; n > begin && n <= begin+int64(in.Limit) {
				step = &Step{Key: e.Key, Name: pawl.NameOf(e.Key)}
				all = append(all, step)
			}
			at[e.Key] = step // nil: of another page
		}
		if step != nil {
			step.add(e)
		}
	}
	page := StepPage{Items: []Step{}}
	if len(all) > 0 {
		if err := s.addCosts(ctx, run, at); err != nil {
			return nil, err
		}
	}
	for _, step := range all {
		page.Items = append(page.Items, *step)
	}
	if last := begin + int64(in.Limit); n > last {
		page.NextCursor = mark("step:", strconv.FormatInt(last, 10))
	}
	return &output[StepPage]{page}, nil
}

// add takes in an entry of the step.
func (p *Step) add(e pawl.Entry) {
	a := Attempt{Attempt: max(e.Attempt, 1), Ended: e.At, Took: e.Took}
	p.State, p.Next = StepCompleted, time.Time{}
	switch {
	case e.Kind == pawl.KindAttempt:
		var note struct { // as the core writes it
			Next time.Time `json:"next"`
		}
		_ = json.Unmarshal(e.Data, &note) // of what can't be read the failure says so
		p.State, p.Next, a.Error = StepRetrying, note.Next, e.Failure()
	case e.Failed:
		p.State, a.Error = StepFailed, e.Failure()
	}
	p.Seq, p.Ended, p.Took, p.Attempts = e.Seq, e.At, p.Took+e.Took, append(p.Attempts, a)
}

// addCosts adds what the ledger says of the steps.
func (s *server) addCosts(ctx context.Context, run pawl.Ref, steps map[string]*Step) error {
	f := pawl.ChargeFilter{Tenant: run.Tenant, RunID: run.ID, Meter: pawl.USD, Limit: 1000}
	for {
		page, err := s.engine.Charges(ctx, f)
		if err != nil {
			return err
		}
		for _, c := range page {
			if step := steps[c.Step]; step != nil {
				step.Cost += c.Amount
			}
			f.After = c.ID
		}
		if len(page) < f.Limit {
			return nil
		}
	}
}
