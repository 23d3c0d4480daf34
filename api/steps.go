package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
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
	Cost     *int64        `json:"cost" doc:"In millionths of a US dollar; of an attempt under way, what is reserved. Null: a part of it is not known, as the price of a model is not, or the provider did not say what a call used."`
	Counted  int64         `json:"counted,omitempty" doc:"What budgets count, with what was assumed."`
	Assumed  int64         `json:"assumed,omitempty" doc:"The part of counted that was assumed."`
	Attempts []Attempt     `json:"attempts" doc:"The newest 100."`
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
	NextCursor string `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last so far. After a retry a page may have fewer than limit, or none."`
}

type stepsInput struct {
	ID     string `path:"id"`
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"500"`
}

func (s *server) stepRoutes() {
	add(s, route{id: "steps", method: http.MethodGet, path: "/api/runs/{id}/steps", scope: RunsRead, summary: "List a run's steps, with their attempts and costs"}, s.steps)
}

// manyAttempts is how many attempts of a step are listed, the newest.
const manyAttempts = 100

// stepMark is where a page begins in the journal.
type stepMark struct {
	after   int64 // the seq of the entry before
	retried bool  // the run was retried before that
}

func (m stepMark) String() string {
	text := strconv.FormatInt(m.after+1, 10)
	if m.retried {
		text += "r"
	}
	return mark("step:", text)
}

func readStepMark(cursor string) (stepMark, error) {
	text, err := readMark("step:", cursor)
	if err != nil || text == "" {
		return stepMark{after: -1}, err
	}
	digits, retried := strings.CutSuffix(text, "r")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 {
		return stepMark{}, badRequest("cursor is %q, which is no cursor of this list: take nextCursor of the page before, as it is", cursor)
	}
	return stepMark{n - 1, retried}, nil
}

// steps reads the journal from where the page begins, until all that it has of the page's steps is
// told: attempts of a step may be far from each other, but most steps have ended with their first. A step
// belongs where its first entry is.
func (s *server) steps(ctx context.Context, in *stepsInput) (*output[StepPage], error) {
	run := runRef(ctx, in.ID)
	begin, err := readStepMark(in.Cursor)
	if err != nil {
		return nil, err
	}
	all, at := []*Step{}, map[string]*Step{}
	unsure := map[string]bool{} // steps that may have been on a page before
	open, retried := 0, begin.retried
	var next *stepMark
	for e, err := range s.engine.JournalAfter(ctx, run, begin.after) {
		if err != nil {
			return nil, err
		}
		if e.Kind == pawl.KindOrder && e.Key == "$retry" { // steps that failed begin anew, with attempt 1
			retried = true
		}
		if e.Kind != pawl.KindStep && e.Kind != pawl.KindAttempt {
			continue
		}
		step := at[e.Key]
		switch first := e.Attempt <= 1 && next == nil; {
		case step != nil:
			if step.State != StepCompleted {
				open--
			}
		case !first:
			continue
		case len(all) == in.Limit:
			next = &stepMark{e.Seq - 1, retried}
		default:
			step = &Step{Key: e.Key, Name: pawl.NameOf(e.Key)}
			all, at[e.Key] = append(all, step), step
			if begin.after >= 0 && (retried || e.Kind == pawl.KindStep && e.Failed) { // which ends one whose time is over, too
				unsure[e.Key] = true
			}
		}
		if step != nil {
			if step.add(e); step.State != StepCompleted {
				open++
			}
		}
		if next != nil && open == 0 {
			break
		}
	}
	if err := s.dropListed(ctx, run, begin.after, at, unsure); err != nil {
		return nil, err
	}
	if len(at) > 0 {
		if err := s.addCosts(ctx, run, at); err != nil {
			return nil, err
		}
	}
	page := StepPage{Items: []Step{}}
	for _, step := range all {
		if at[step.Key] != nil {
			page.Items = append(page.Items, *step)
		}
	}
	if next != nil {
		page.NextCursor = next.String()
	}
	return &output[StepPage]{page}, nil
}

// dropListed drops the steps that have an entry before a page: they belong to one before.
func (s *server) dropListed(ctx context.Context, run pawl.Ref, last int64, steps map[string]*Step, unsure map[string]bool) error {
	if len(unsure) == 0 {
		return nil
	}
	for e, err := range s.engine.Journal(ctx, run) {
		if err != nil || e.Seq > last {
			return err
		}
		if unsure[e.Key] && (e.Kind == pawl.KindStep || e.Kind == pawl.KindAttempt) {
			delete(steps, e.Key)
		}
	}
	return nil
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
	p.Seq, p.Ended, p.Took, p.Attempts = e.Seq, e.At, p.Took+e.Took, append(p.Attempts[max(len(p.Attempts)-manyAttempts+1, 0):], a)
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
				if step.Counted += c.Amount; c.Guess {
					step.Assumed += c.Amount
				}
			}
			f.After = c.ID
		}
		if len(page) < f.Limit {
			break
		}
	}
	for _, step := range steps {
		if step.Assumed == 0 {
			step.Cost = &step.Counted
		}
	}
	return nil
}
