package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
)

// Execution is what a run of a flow has done so far: made from the run, its journal and the ledger, and nothing else.
type Execution struct {
	WorkflowID  string     `json:"workflowId"`
	ExecutionID string     `json:"executionId"`
	Version     int        `json:"version"`
	Status      pawl.State `json:"status"`
	Reason      string     `json:"reason,omitempty"` // what it waits for, or why it stands still
	// Variables are as the steps behind the last one see them, those of branches not among them.
	Variables map[string]json.RawMessage `json:"variables"`
	// StepResults are by the step's id, each of its newest visit. A step that a run did not come to has none.
	StepResults map[string]StepResult `json:"stepResults"`
	// CostAccumulator is what the model calls of the run have cost, failed ones too, in US dollars, by the ledger. Null: a part
	// of it is not known; see Counted.
	CostAccumulator *float64 `json:"costAccumulator"`
	CostMicroUSD    *int64   `json:"costMicroUsd"`
	Counted
	// CurrentStep is the id of the step that is under way; "": none is. Current has all, those in branches too.
	CurrentStep string          `json:"currentStep"`
	Current     []CurrentStep   `json:"current"`
	Errors      []StepFailure   `json:"errors"` // of steps, in the order in which they came; at most 1,000
	StartedAt   time.Time       `json:"startedAt"`
	CompletedAt *time.Time      `json:"completedAt,omitempty"`
	Error       *Trouble        `json:"error,omitempty"`  // of a failed or cancelled run
	Output      json.RawMessage `json:"output,omitempty"` // of a completed one
	// Truncated says what was left out, in sentences; none: nothing was.
	Truncated []string `json:"truncated,omitempty"`
}

// StepResult is what a step brought. In JSON its output stands a second time under the step's outputVariable.
type StepResult struct {
	_            struct{}        `additionalProperties:"true"`
	Output       json.RawMessage `json:"output,omitempty"`
	RawOutput    string          `json:"rawOutput,omitempty"`  // what a model said
	TokenUsage   *TokenUsage     `json:"tokenUsage,omitempty"` // none: no model was asked, or the provider did not say
	Cost         *float64        `json:"cost"`                 // of all attempts of all visits, by the ledger, with that of the steps in it, in US dollars; null: a part of it is not known
	CostMicroUSD *int64          `json:"costMicroUsd"`
	Counted
	Status      string     `json:"status"` // pending, running, retrying, waiting, paused, blocked, completed, skipped, failed, timed out, cancelled
	StartedAt   time.Time  `json:"startedAt"`
	CompletedAt *time.Time `json:"completedAt,omitempty"`
	DurationMs  int64      `json:"durationMs"`
	Error       *Trouble   `json:"error,omitempty"`
	Attempts    []Attempt  `json:"attempts"` // of the newest visit, the newest 100
	Visits      int        `json:"visits"`   // how often the run came to the step
	History     []Visit    `json:"history,omitempty"`
	Next        string     `json:"next,omitempty"` // the step that followed, end or fail
	Key         string     `json:"key"`            // of its entries in the journal
	// Branches are those of a parallel, and the items of a map by their index.
	Branches map[string]BranchResult `json:"branches,omitempty"`

	variable string
}

// BranchResult is what a branch of a parallel, or the steps of an item, brought.
type BranchResult struct {
	Status string                `json:"status"` // running, completed, failed, cancelled
	Error  *Trouble              `json:"error,omitempty"`
	Steps  map[string]StepResult `json:"steps"`
}

// Visit is an earlier time that a run came to a step.
type Visit struct {
	Visit       int       `json:"visit"` // from 1
	Status      string    `json:"status"`
	StartedAt   time.Time `json:"startedAt"`
	CompletedAt time.Time `json:"completedAt"`
	Next        string    `json:"next,omitempty"`
	Error       *Trouble  `json:"error,omitempty"`
	Key         string    `json:"key"`
}

// TokenUsage is what a model has read and written.
type TokenUsage struct {
	PromptTokens     int `json:"promptTokens"`
	CompletionTokens int `json:"completionTokens"`
	TotalTokens      int `json:"totalTokens"`
}

// Trouble is an error for people.
type Trouble struct {
	Message string `json:"message"`
	Code    string `json:"code,omitempty"`
}

// StepFailure is an error and where it was.
type StepFailure struct {
	Trouble
	Step    string    `json:"step,omitempty"` // place of the step; "": the run's own
	Attempt int       `json:"attempt,omitempty"`
	At      time.Time `json:"at"`
	Final   bool      `json:"final"` // false: it was tried again
}

// CurrentStep is a step that is under way.
type CurrentStep struct {
	Step     string    `json:"step"`   // place: pay, notify/email/send, each[3]/send
	Type     string    `json:"type"`   // of the step
	Status   string    `json:"status"` // pending, running, retrying, waiting, paused, blocked
	Since    time.Time `json:"since"`
	WaitsFor string    `json:"waitsFor,omitempty"`
	Attempt  int       `json:"attempt,omitempty"` // the one that is next or under way, where one has failed
	Until    time.Time `json:"until,omitzero"`    // when it is tried again
}

// Attempt is one try of a step.
type Attempt struct {
	Attempt int         `json:"attempt"`
	EndedAt time.Time   `json:"endedAt"`
	TookMs  int64       `json:"tookMs"`
	Error   *Trouble    `json:"error,omitempty"`
	Calls   []ModelCall `json:"calls,omitempty"`
}

// ModelCall is a request that an attempt has made of a model. What was asked and answered, word for word, has
// agent.Asked.
type ModelCall struct {
	Why          string           `json:"why"` // ask, fallback, more room, repair
	Model        string           `json:"model"`
	Prompt       *agent.PromptUse `json:"prompt,omitempty"`     // of the registry
	TokenUsage   *TokenUsage      `json:"tokenUsage,omitempty"` // none: the provider did not say
	CostMicroUSD *int64           `json:"costMicroUsd"`         // null: it is not known
	Counted
	Cached    bool   `json:"cached,omitempty"`
	LatencyMs int64  `json:"latencyMs"`
	Error     string `json:"error,omitempty"`
}

// MarshalJSON writes the output a second time under the step's variable.
func (r StepResult) MarshalJSON() ([]byte, error) {
	type plain StepResult
	data, err := json.Marshal(plain(r))
	if err != nil || r.variable == "" || r.Output == nil {
		return data, err
	}
	name, err := json.Marshal(r.variable)
	if err != nil {
		return nil, err
	}
	if ownFields[r.variable] {
		return data, nil // it is no second name for the output
	}
	data = append(append(append(data[:len(data)-1], ','), name...), ':')
	return append(append(data, r.Output...), '}'), nil
}

// ownFields are the names of a result's fields.
var ownFields = func() map[string]bool {
	out := map[string]bool{}
	for _, name := range []string{
		"output", "rawOutput", "tokenUsage", "cost", "costMicroUsd", "countedMicroUsd", "assumedMicroUsd", "status", "startedAt", "completedAt", "durationMs", "error", "attempts", "visits", "history", "next", "key", "branches",
	} {
		out[name] = true
	}
	return out
}()

// Bounds of what an Execution holds.
const (
	maxLookedAt   = 20_000  // entries of the journal
	maxExecution  = 4 << 20 // bytes of values
	maxAttempts   = 100     // of a step
	maxHistory    = 100     // visits of a step before the newest
	maxErrors     = 1000
	lookTakesMost = 20 * time.Second
)

// Execution tells what a run of a flow has done, is doing and waits for. The run's flow is replayed over its journal,
// with no effects: see [pawl.Engine.Replay]. It looks at the first 20,000 entries of the journal and returns values of
// about 4 MiB; what is left out it says. pawl.ErrNotFound: the tenant has no such run, or it is of no flow.
func (r *Registry) Execution(ctx context.Context, tenant, runID string) (Execution, error) {
	ref := pawl.Ref{Tenant: tenant, ID: runID}
	info, err := r.engine.Get(ctx, ref)
	for tries := 1; err == nil; tries++ {
		var l *looked
		if l, err = r.look(ctx, ref, info); err != nil {
			break
		}
		if info, err = r.engine.Get(ctx, ref); err != nil {
			break
		}
		if info.State == l.info.State || tries == 3 { // else what was read is of two moments
			return l.execution(), nil
		}
	}
	return Execution{}, err
}

// looked is what is known of a run.
type looked struct {
	info   pawl.RunInfo
	flow   *Flow
	trail  *trail
	check  pawl.Check
	reason pawl.Reason
	end    *pawl.Entry // nil: it has not ended
	input  json.RawMessage
	facts  map[string]*noted // by the keys of journal and ledger
	cost   Counted
	left   int // how much was left out
	cut    []string
	room   int // bytes of values that may still be told
	failed []StepFailure
}

// look reads what there is of a run.
func (r *Registry) look(ctx context.Context, ref pawl.Ref, info pawl.RunInfo) (*looked, error) {
	f, err := r.flowOf(ctx, info)
	if err != nil {
		return nil, err
	}
	l := &looked{info: info, flow: f, trail: newTrail(), facts: map[string]*noted{}, room: maxExecution}
	more, err := l.readJournal(ctx, r.engine, ref)
	if err != nil {
		return nil, err
	}
	if more {
		l.cut = append(l.cut, fmt.Sprintf("the run's journal has more than %d entries: what came after those is not here, and what is under way is not known; read /api/runs/%s/journal for all", maxLookedAt, ref.ID))
	}
	if err := l.readLedger(ctx, r.engine, ref); err != nil {
		return nil, err
	}
	l.check, err = r.engine.Replay(ctx, ref, define(f, r.opt, l.trail), pawl.Replaying{Entries: maxLookedAt, Limit: lookTakesMost, Arrived: l.trail.seal})
	if err != nil {
		return nil, err
	}
	l.trail.seal() // it may not have arrived
	if !info.State.Terminal() {
		l.reason, err = r.engine.Reason(ctx, ref)
	}
	return l, err
}

// flowOf is the flow of a run. pawl.ErrNotFound if it is of none.
func (r *Registry) flowOf(ctx context.Context, info pawl.RunInfo) (*Flow, error) {
	number, err := strconv.Atoi(info.Version)
	if err != nil || number < 1 {
		return nil, fmt.Errorf("%w: run %s is of the workflow %s, which is no deployed flow", pawl.ErrNotFound, info.ID, info.Workflow)
	}
	f, err := r.Flow(ctx, info.Tenant, info.Workflow, number)
	if errors.Is(err, pawl.ErrNotFound) {
		return nil, fmt.Errorf("%w: run %s is of the workflow %s, which is no deployed flow", pawl.ErrNotFound, info.ID, info.Workflow)
	}
	return f, err
}
