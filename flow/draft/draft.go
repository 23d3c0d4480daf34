package draft

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
)

// State is how a draft stands.
type State string

// The states.
const (
	Writing  State = "writing"  // a model is at it
	Open     State = "open"     // it waits for somebody to decide
	Approved State = "approved" // it was deployed
	Rejected State = "rejected"
	Failed   State = "failed" // no model could be asked
)

// Draft is what there is of a draft, without its text.
type Draft struct {
	ID           string    `json:"id"` // also of the run that wrote it
	State        State     `json:"state"`
	WorkflowID   string    `json:"workflowId,omitempty"` // the flow that it would deploy, as far as that is known
	Change       bool      `json:"change,omitempty"`     // it changes a flow that is there
	Base         int       `json:"base,omitempty"`       // the version that was active when it was made; it is approved while that still is. 0: none was
	Words        string    `json:"words,omitempty"`      // what was asked for, or what its author says of it
	By           string    `json:"by,omitempty"`         // who asked, or wrote it
	Model        string    `json:"model,omitempty"`      // that wrote it, or is asked to; "": a person
	Turns        int       `json:"turns,omitempty"`      // how often the model was asked
	CostMicroUSD *int64    `json:"costMicroUsd"`         // of its answers, in millionths of a US dollar; null: it is not known, or not yet
	Digest       string    `json:"digest,omitempty"`     // SHA-256 of the text, as hex: it is approved by this
	Faults       int       `json:"faults,omitempty"`     // problems because of which it can't be approved
	Error        string    `json:"error,omitempty"`      // of one that failed
	Created      time.Time `json:"created"`
	Expires      time.Time `json:"expires"` // it is gone from then on
	Decided      *Decided  `json:"decided,omitempty"`
	Version      int       `json:"version,omitempty"` // that it was deployed as
	Existed      bool      `json:"existed,omitempty"` // of the answer to who asked for it: it was there already

	revision int64
}

// Decided is who has decided on a draft.
type Decided struct {
	By      string    `json:"by,omitempty"`
	Comment string    `json:"comment,omitempty"`
	At      time.Time `json:"at"`
}

// body is the rest of a draft.
type body struct {
	Text     string        `json:"text"`
	Problems flow.Problems `json:"problems,omitempty"`
}

// Options say how drafts are written and kept. The zero value asks no model.
type Options struct {
	Models *agent.Models // that write; nil: a run that wants one fails, and says so
	Model  string        // is asked where a request names none
	// Provider finds the provider of a model that is named without one, as [flow.Options] has it.
	Provider func(model string) string
	// Turns is how often a model is asked for one draft at most: once, and then to mend what is wrong. 0: 3; at most 10.
	Turns int
	// BudgetUSD is what the answers for one draft may cost. 0: 0.50.
	BudgetUSD float64
	// MaxOpen is how many drafts of a tenant may wait at a time, those that are being written among them. 0: 100; at most 500.
	MaxOpen int
	// Keep is how long a draft is kept after it was made, and again after it was decided. 0: 30 days.
	Keep time.Duration
}

// Limits of a draft.
const (
	MaxText    = 256 << 10 // bytes of a flow
	MaxWords   = 20_000    // bytes of what is asked for
	MaxComment = 2_000     // bytes
	maxTurns   = 10
	maxOpen    = 500
	maxDecided = 100 // of a tenant; older ones make room
)

// Drafts are the drafts of a store. It is safe for concurrent use.
type Drafts struct {
	engine *pawl.Engine
	flows  *flow.Registry
	opt    Options
	work   *pawl.Workflow[request, Outcome]
	// by makes the drafts of another engine of the store, for tests in which runs go from engine to engine.
	by func(*pawl.Engine) *Drafts
}

// at are the drafts by the engine that carries out the step of ctx.
func (s *Drafts) at(ctx context.Context) *Drafts {
	if s.by != nil {
		return s.by(pawl.EngineOf(ctx))
	}
	return s
}

// New makes the drafts of an engine's store, of flows of that store. Register [Drafts.Workflow] with the engine.
func New(e *pawl.Engine, flows *flow.Registry, opt Options) *Drafts {
	opt.Turns = min(cmp.Or(max(opt.Turns, 0), 3), maxTurns)
	opt.BudgetUSD = cmp.Or(opt.BudgetUSD, 0.5)
	opt.MaxOpen = min(cmp.Or(max(opt.MaxOpen, 0), 100), maxOpen)
	opt.Keep = cmp.Or(opt.Keep, 30*24*time.Hour)
	if opt.Models == nil {
		opt.Models = agent.New(agent.Options{})
	}
	d := &Drafts{engine: e, flows: flows, opt: opt}
	d.work = d.define()
	return d
}

// digestOf names a text.
func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
