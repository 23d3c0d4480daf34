package api

import (
	"encoding/json"
	"time"

	"github.com/pawlrun/pawl"
)

// Run is what the API tells of a run. Lists leave Result and Error out.
type Run struct {
	pawl.RunInfo
	Result json.RawMessage `json:"result,omitempty"` // of a completed run; of one that went on as another (Next), nothing
	Error  *pawl.Failure   `json:"error,omitempty"`  // of a failed or cancelled run
}

// RunPage is a page of runs, newest first.
type RunPage struct {
	Items      []pawl.RunInfo `json:"items"`
	NextCursor string         `json:"nextCursor,omitempty"` // where the next page begins; empty: this is the last
}

// RunQuery picks runs for [Client.Runs]. Zero fields do not restrict.
type RunQuery struct {
	Workflow string
	States   []pawl.State
	Attrs    map[string]string
	Cursor   string
	Limit    int // 0 means 50; at most 500
}

// EntryPage is a page of a run's journal, in order.
type EntryPage struct {
	Items     []pawl.Entry `json:"items"`
	NextAfter *int64       `json:"nextAfter,omitempty"` // the after of the next page; absent: there is none yet
}

// Workflow is a workflow that the server can start.
type Workflow struct {
	Name string `json:"name"`
}

// WorkflowList is all workflows, sorted by name.
type WorkflowList struct {
	Items []Workflow `json:"items"`
}

// StreamList tells what streams a run has written.
type StreamList struct {
	Items []pawl.StreamInfo `json:"items"`
}

// ChunkPage is a page of a stream, as far as it is there.
type ChunkPage struct {
	Items    []pawl.Chunk `json:"items"`
	NextFrom int64        `json:"nextFrom"` // the from of the next page
	HasMore  bool         `json:"hasMore"`  // there is more now
	Done     bool         `json:"done"`     // this was the last page: the stream was closed, or its run has ended
}

// FeedQuery picks what [Client.Feed] tells. Zero fields do not restrict.
type FeedQuery struct {
	Workflow string
	Run      string
	States   []pawl.State
	Attrs    map[string]string
	Types    []pawl.FeedType
	Kinds    []pawl.Kind // of entries
}

// Hook is a live hook of a run: who has its token can send to it.
type Hook struct {
	Key    string          `json:"key"`
	Token  string          `json:"token"`
	Meta   json.RawMessage `json:"meta,omitempty"`
	Schema json.RawMessage `json:"schema,omitempty"`
	Public bool            `json:"public,omitempty"`
	At     time.Time       `json:"at"`
}

// HookList is the live hooks of a run, in the order of their making.
type HookList struct {
	Items []Hook `json:"items"`
}

// Why says what a run is waiting for.
type Why struct {
	State pawl.State `json:"state"`
	Why   string     `json:"why"` // one sentence
}

// CostQuery picks what [Client.Costs] sums. Zero fields do not restrict.
type CostQuery struct {
	By       pawl.CostBy // what to sum apart; "" all in one
	Run      string
	Family   bool // with Run: also of its children, of theirs, and of runs that these went on as
	Workflow string
	Step     string
	Item     string    // what was bought: a model, as provider/model
	Meter    string    // usd, or what a program counts besides
	From, To time.Time // by when the cost was incurred
}

// CostList is sums of the ledger, largest first, at most 1,000.
type CostList struct {
	Items []pawl.Cost `json:"items"`
}

// StartRequest asks for a new run. Durations are written as in Go: 90s, 1h30m.
type StartRequest struct {
	Workflow   string          `json:"workflow,omitempty"` // may be left out where the path names it
	Input      json.RawMessage `json:"input,omitempty"`
	ID         string          `json:"id,omitempty"` // makes the start idempotent
	Attributes map[string]any  `json:"attributes,omitempty"`
	Priority   *int            `json:"priority,omitempty"` // nil: the workflow's own
	Delay      string          `json:"delay,omitempty"`    // start no sooner than this from now
	Timeout    string          `json:"timeout,omitempty"`  // cancel the run after this
	// BudgetUSD is the most that the run and its children may cost: a step that would go
	// beyond fails. nil: what the workflow says.
	BudgetUSD *float64  `json:"budgetUsd,omitempty"`
	Deadline  time.Time `json:"deadline,omitzero"`
	// OnConflict says what happens when the id or the singleton key is taken: existing
	// (the default), reject, cancel_old or queue.
	OnConflict string `json:"onConflict,omitempty"`
}

// ReasonRequest is the body of a cancel or a pause. It may be left out.
type ReasonRequest struct {
	Reason string `json:"reason,omitempty"`
}

// WakeRequest is the body of a wake. Left out, it wakes all timed waits of the run.
type WakeRequest struct {
	Key  string          `json:"key,omitempty"`  // the one wait to end
	Data json.RawMessage `json:"data,omitempty"` // what that wait returns
}

// ForkRequest is the body of a fork. Left out, the run is done again from its start.
type ForkRequest struct {
	From    string                     `json:"from,omitempty"`    // key of the step to begin again at
	Input   json.RawMessage            `json:"input,omitempty"`   // another input; only without From
	Results map[string]json.RawMessage `json:"results,omitempty"` // other results of steps before From
	ID      string                     `json:"id,omitempty"`      // of the new run
}

// Accepted answers what was sent to a hook: the run that has it now.
type Accepted struct {
	Run string `json:"run"`
}

// Published answers a published event.
type Published struct {
	Event string `json:"event"`
}

// Health is the answer of /healthz and /readyz.
type Health struct {
	Status  string `json:"status"` // ok
	Name    string `json:"name"`   // pawl
	Version string `json:"version,omitempty"`
}

// The types of [Event].
const (
	EventEntry = "entry" // a journal entry; its id is the entry's seq
	EventState = "state" // the run's row has changed: a Run
	EventChunk = "chunk" // of a stream; its id is the chunk's index
	EventRun   = "run"   // of the feed: a run's row has changed; its id is opaque
	EventStep  = "step"  // of the feed: an entry was appended to a run's journal
	EventGap   = "gap"   // of the feed: what came before is not told; list anew
	EventEnd   = "end"   // the last one: the run has ended (a Run), or the stream has
	EventError = "error" // the last one: a Problem
)

// Event is what a live view sends.
type Event struct {
	Type string
	ID   string          // empty where the type has none
	Data json.RawMessage // as it came

	Entry *pawl.Entry    // EventEntry
	Run   *Run           // EventState, and EventEnd of a run
	Chunk *pawl.Chunk    // EventChunk
	Item  *pawl.FeedItem // EventRun, EventStep, EventGap
}

// policies are the names of [pawl.Policy] on the wire.
var policies = map[string]pawl.Policy{
	"existing": pawl.ReturnExisting, "reject": pawl.Reject, "cancel_old": pawl.CancelOld, "queue": pawl.Queue,
}
