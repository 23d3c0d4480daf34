package draft

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
)

// Workflow is the name of the workflow that writes drafts.
const Workflow = "flow.generate"

// Request asks for a draft.
type Request struct {
	Tenant string
	Words  string // what the flow is to do, or, of a change, what is to be otherwise: 1 to MaxWords bytes
	Flow   string // the flow that is to be changed, which must have an active version; "": a new one is to be written
	Model  string // is asked; "": Options.Model
	By     string // who asks
	ID     string // of the draft; "": a new one. The same ID again is the same draft
}

// Outcome is the result of a run that wrote a draft.
type Outcome struct {
	Draft        string `json:"draft"`
	WorkflowID   string `json:"workflowId,omitempty"`
	Faults       int    `json:"faults"` // that stop it from being approved
	Turns        int    `json:"turns"`
	CostMicroUSD int64  `json:"costMicroUsd"`    // what budgets count
	Guess        bool   `json:"guess,omitempty"` // a part of it is assumed
	Gone         bool   `json:"gone,omitempty"`  // it was deleted while it was written
}

// request is the input of a run. What is asked for stands in the draft: who can start runs can't make drafts by that.
type request struct{}

// Generate lets a run write a draft, and returns when that is durable; see [Drafts.Wait]. A draft with the request's ID that
// is there is returned as it stands.
// pawl.ErrInput: there is nothing, or too much, to read; pawl.ErrNotFound, pawl.ErrState: no flow is to be changed; a *FullError.
func (s *Drafts) Generate(ctx context.Context, q Request) (Draft, error) {
	q.Words = strings.TrimSpace(q.Words)
	switch {
	case q.Words == "":
		return Draft{}, fmt.Errorf("%w: say in words what the flow is to do", pawl.ErrInput)
	case len(q.Words) > MaxWords || !utf8.ValidString(q.Words):
		return Draft{}, fmt.Errorf("%w: the words have %d bytes, the limit is %d bytes of UTF-8", pawl.ErrInput, len(q.Words), MaxWords)
	}
	if q.ID != "" {
		if d, err := s.read(ctx, q.Tenant, q.ID); !errors.Is(err, pawl.ErrNotFound) {
			if err == nil && d.State == Writing {
				err = s.start(ctx, q.Tenant, d.ID) // the process may have ended before that
			}
			d.Existed = true
			return d, err
		}
	}
	d := Draft{ID: cmp.Or(q.ID, newID()), State: Writing, Words: q.Words, By: q.By, Model: q.Model, WorkflowID: q.Flow, Change: q.Flow != ""}
	if d.Change {
		head, err := s.flows.Get(ctx, q.Tenant, q.Flow)
		if err != nil {
			return d, err
		}
		if d.Base = head.Active; d.Base == 0 {
			return d, fmt.Errorf("%w: no version of flow %s is active that could be changed: activate one", pawl.ErrState, q.Flow)
		}
	}
	if err := s.add(ctx, q.Tenant, &d, &body{}); err != nil {
		return d, err
	}
	return d, s.start(ctx, q.Tenant, d.ID)
}

func newID() string {
	return "draft_" + strings.ToLower(randomText())
}

// add stores a new draft.
func (s *Drafts) add(ctx context.Context, tenant string, d *Draft, b *body) error {
	more, err := s.room(ctx, tenant)
	if err != nil {
		return err
	}
	d.Created = time.Now().UTC()
	d.Expires = d.Created.Add(s.opt.Keep)
	return s.write(ctx, tenant, *d, b, more...)
}

func (s *Drafts) start(ctx context.Context, tenant, id string) error {
	_, err := s.engine.StartRun(ctx, Workflow, json.RawMessage("{}"), pawl.ID(id), pawl.Tenant(tenant))
	return err
}

// Wait waits until a draft is written, or its run has ended otherwise, or ctx.
func (s *Drafts) Wait(ctx context.Context, tenant, id string) error {
	_, _, err := s.engine.Wait(ctx, tenant, id)
	if errors.Is(err, pawl.ErrNotFound) { // a person wrote it, or its run is gone
		return nil
	}
	return err
}

// Workflow is the workflow that writes drafts. Register it with each engine that keeps runs of the store.
func (s *Drafts) Workflow() pawl.Definition { return s.work }

func (s *Drafts) define() *pawl.Workflow[request, Outcome] {
	return pawl.Define(Workflow, s.generate, pawl.Internal(), pawl.BudgetUSD(s.opt.BudgetUSD),
		pawl.Doc("Writes a draft of a flow from a person's words; a person approves it."))
}

// question is what a run was asked for, as it was when it began.
type question struct {
	Words    string          `json:"words"`
	Model    string          `json:"model"`
	Flow     string          `json:"flow,omitempty"`
	Document json.RawMessage `json:"document,omitempty"` // of the version that is to be changed
	Others   []string        `json:"others,omitempty"`   // names of workflows that it may call
}

// generate asks the model, lets it mend what is wrong as often as it may, and stores what has the fewest faults.
func (s *Drafts) generate(c *pawl.Context, _ request) (Outcome, error) {
	q, err := pawl.Step(c, "request", func(ctx context.Context) (question, error) { return s.at(ctx).question(ctx) })
	if err != nil {
		return Outcome{}, err
	}
	call := agent.Call{Model: s.model(cmp.Or(q.Model, s.opt.Model)), System: s.instructions(q), Messages: []llm.Message{llm.User(q.text())}, MaxTokens: firstTokens, Temperature: new(0.1)}
	best, out := judgment{}, Outcome{Draft: c.RunID()}
	model := call.Model
	for ; out.Turns < s.opt.Turns; out.Turns++ {
		answer, err := agent.Ask(c, s.opt.Models, "write", call)
		switch {
		case err != nil && (out.Turns == 0 || errors.Is(err, pawl.ErrCancelled)):
			return out, cmp.Or(s.fail(c, err), err)
		case err != nil: // what was paid for is kept
			best.Problems = append(best.Problems, flow.Problem{Message: fmt.Sprintf("the model could not be asked to mend the rest: %v", err), Warning: true})
		}
		if err != nil {
			break
		}
		out.CostMicroUSD, out.Guess = out.CostMicroUSD+answer.Cost, out.Guess || answer.Guess
		model = answer.Model
		judged, err := pawl.Step(c, "check", func(ctx context.Context) (judgment, error) { return s.at(ctx).judge(ctx, q, answer.Text) })
		if err != nil {
			return out, err
		}
		if out.Turns == 0 || judged.faults() <= best.faults() {
			best = judged
		}
		if judged.faults() == 0 {
			out.Turns++
			break
		}
		said := answer.Message()
		if said.Content = cut(said.Content, maxAgain); said.Content == "" {
			said.Content = "(nothing)"
		}
		call.Known = len(call.Messages)
		call.Messages = append(call.Messages[:call.Known:call.Known], said, llm.User(judged.repair()))
	}
	out.WorkflowID, out.Faults = best.Flow, best.faults()
	there, err := pawl.Step(c, "keep", func(ctx context.Context) (bool, error) { return s.at(ctx).keep(ctx, out, model, best) })
	out.Gone = !there
	return out, err
}

const (
	firstTokens = 8192
	maxAgain    = 64 << 10 // bytes of an answer that the model is shown again
)

func (s *Drafts) model(name string) string {
	if s.opt.Provider == nil || name == "" || strings.Contains(name, "/") {
		return name
	}
	return s.opt.Provider(name) + "/" + name
}

// question reads what the run of ctx was asked for.
func (s *Drafts) question(ctx context.Context) (q question, err error) {
	info := pawl.InfoOf(ctx)
	d, err := s.read(ctx, info.Tenant, info.RunID)
	if errors.Is(err, pawl.ErrNotFound) {
		return q, pawl.Fatal(fmt.Errorf("%w: runs of %s are started by asking for a draft: POST /api/workflows/generate", err, Workflow))
	}
	if err != nil {
		return q, err
	}
	q = question{Words: d.Words, Model: d.Model}
	if d.Change {
		q.Flow = d.WorkflowID
		stored, err := s.flows.Version(ctx, info.Tenant, d.WorkflowID, d.Base)
		if errors.Is(err, pawl.ErrNotFound) {
			return q, pawl.Fatal(err)
		}
		if err != nil {
			return q, err
		}
		q.Document = stored.Document
	}
	q.Others, err = s.callable(ctx, info.Tenant)
	return q, err
}

// maxOthers bounds how many flows a model is told of.
const maxOthers = 100

// callable are the flows of a tenant and the workflows of the program, as far as a model is told of them.
func (s *Drafts) callable(ctx context.Context, tenant string) (names []string, err error) {
	flows, err := s.flows.List(ctx, tenant, "", maxOthers)
	for _, f := range flows {
		if f.Active != 0 {
			names = append(names, f.ID)
		}
	}
	for _, name := range s.engine.Workflows() {
		if w, err := s.engine.Workflow(name); err == nil && !w.Internal && !s.flows.Is(name) && len(names) < maxOthers {
			names = append(names, name)
		}
	}
	return names, err
}

// fail notes why no draft came of a run.
func (s *Drafts) fail(c *pawl.Context, cause error) error {
	return pawl.Do(c, "fail", func(ctx context.Context) error {
		s, info := s.at(ctx), pawl.InfoOf(ctx)
		d, err := s.read(ctx, info.Tenant, info.RunID)
		if err != nil || d.State != Writing {
			return ignoreGone(err)
		}
		d.State, d.Error = Failed, cut(cause.Error(), MaxComment)
		return s.write(ctx, info.Tenant, d, nil)
	})
}

func ignoreGone(err error) error {
	if errors.Is(err, pawl.ErrNotFound) {
		return nil
	}
	return err
}

// keep stores what was written, and reports whether the draft is still there.
func (s *Drafts) keep(ctx context.Context, out Outcome, model string, best judgment) (bool, error) {
	info := pawl.InfoOf(ctx)
	d, err := s.read(ctx, info.Tenant, info.RunID)
	switch {
	case errors.Is(err, pawl.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case d.State != Writing: // by an attempt of which nothing was heard
		return true, nil
	}
	d.State, d.Model, d.Turns, d.Faults, d.Digest = Open, model, out.Turns, out.Faults, digestOf(best.Text)
	if !out.Guess {
		d.CostMicroUSD = &out.CostMicroUSD
	}
	if !d.Change {
		d.WorkflowID = best.Flow
	}
	return true, s.write(ctx, info.Tenant, d, &body{best.Text, best.Problems})
}
