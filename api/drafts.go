package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/flow/draft"
)

// GenerateRequest says in words what a flow is to do, or what is to be otherwise in one that is there.
type GenerateRequest struct {
	Description string `json:"description" doc:"What the flow is to do, or what is to be otherwise: at most 20,000 bytes."`
	Model       string `json:"model,omitempty" doc:"That is asked, as provider/model; left out: the server's."`
}

// Generated is a draft that a model wrote. Nothing of it was deployed.
type Generated struct {
	DraftID string `json:"draftId"`
	DraftView
}

// DraftView is a draft with all that is needed to decide on it.
type DraftView struct {
	draft.Draft
	Text        string            `json:"text,omitempty" doc:"What would be deployed, byte by byte; of an answer that is no JSON how it begins."`
	Workflow    json.RawMessage   `json:"workflow,omitempty" doc:"The same as JSON; left out: it can't be read."`
	Problems    []Finding         `json:"problems" doc:"Because of which it can't be approved."`
	Warnings    []Finding         `json:"warnings"`
	Explanation *flow.Explanation `json:"explanation,omitempty" doc:"Made of the text by the server; no model has a say in it."`
	Mermaid     string            `json:"mermaid,omitempty" doc:"The flow drawn, as Mermaid text."`
	WorstCase   *flow.WorstCase   `json:"worstCase,omitempty" doc:"What a run takes at most, where it can be deployed."`
	Diff        *flow.Comparison  `json:"diff,omitempty" doc:"Of a change: what it says otherwise than the version that it was made for."`
}

func draftView(v draft.View) DraftView {
	return DraftView{v.Draft, v.Text, v.Workflow, append([]Finding{}, findingsOf(v.Problems, false)...), append([]Finding{}, findingsOf(v.Problems, true)...), v.Explanation, v.Mermaid, v.WorstCase, v.Diff}
}

// DraftPage is a page of drafts, newest first, without their texts.
type DraftPage struct {
	Items      []draft.Draft `json:"items"`
	NextCursor string        `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last."`
}

// ApproveDraftRequest approves a draft that was looked at.
type ApproveDraftRequest struct {
	Digest   string `json:"digest" doc:"Of the draft as it was shown."`
	Comment  string `json:"comment,omitempty" doc:"At most 2,000 bytes."`
	Activate *bool  `json:"activate,omitempty" doc:"false: keep the version, and let runs start with the one that is active."`
}

// RejectDraftRequest rejects a draft.
type RejectDraftRequest struct {
	Digest  string `json:"digest,omitempty" doc:"Of the draft as it was shown; left out: whatever it is."`
	Comment string `json:"comment,omitempty" doc:"At most 2,000 bytes."`
}

// ApprovedDraft is a draft that was approved, and what came of deploying it.
type ApprovedDraft struct {
	Draft    draft.Draft `json:"draft"`
	Deployed Deployed    `json:"deployed"`
}

type generateInput struct {
	Wait string `query:"wait" doc:"Answer when the draft is written, or after this, at most 10m; left out: 2m."`
	Body GenerateRequest
}

type generateChangeInput struct {
	ID   string `path:"id"`
	Wait string `query:"wait" doc:"Answer when the draft is written, or after this, at most 10m; left out: 2m."`
	Body GenerateRequest
}

type generatedOutput struct {
	Status   int
	Location string `header:"Location" doc:"The path of the draft."`
	Replayed string `header:"Idempotency-Replayed" doc:"true: the request was carried out before."`
	Body     Generated
}

type proposeInput struct {
	Comment string `query:"comment" doc:"What it is for."`
}

type proposedOutput struct {
	Location string `header:"Location" doc:"The path of the draft."`
	Replayed string `header:"Idempotency-Replayed" doc:"true: the request was carried out before."`
	Body     DraftView
}

type draftsInput struct {
	State    draft.State `query:"state" enum:"writing,open,approved,rejected,failed" doc:"Left out: any."`
	Workflow string      `query:"workflow" doc:"The flow that they would deploy."`
	Cursor   string      `query:"cursor"`
	Limit    int         `query:"limit" default:"50" minimum:"1" maximum:"500"`
}

type draftInput struct {
	ID string `path:"id"`
}

type approveDraftInput struct {
	ID   string `path:"id"`
	Body ApproveDraftRequest
}

type rejectDraftInput struct {
	ID   string `path:"id"`
	Body RejectDraftRequest
}

type ofVersionInput struct {
	ID      string `path:"id"`
	Version int    `query:"version" minimum:"1" doc:"Left out: the active one, or else the highest."`
}

// DraftPath is the path of a draft's resource.
func DraftPath(id string) string { return "/api/drafts/" + segment(id) }

func (s *server) draftRoutes() {
	add(s, route{id: "generate", method: http.MethodPost, path: "/api/workflows/generate", scope: DraftsWrite, once: true, queues: true, also: []int{http.StatusAccepted}, summary: "Let a model write a flow from words",
		about: "What comes of it is a draft: checked, explained, and deployed by nobody but who approves it. 202: it is still being written, look at the draft."},
		func(ctx context.Context, in *generateInput) (*generatedOutput, error) {
			return s.generate(ctx, "", in.Wait, in.Body)
		})
	add(s, route{id: "generateChange", method: http.MethodPost, path: "/api/workflows/{id}/generate", scope: DraftsWrite, once: true, queues: true, also: []int{http.StatusAccepted}, summary: "Let a model change a flow as words say",
		about: "The draft has the differences to the active version, step by step. It can be approved as long as that version is active."},
		func(ctx context.Context, in *generateChangeInput) (*generatedOutput, error) {
			return s.generate(ctx, in.ID, in.Wait, in.Body)
		})
	add(s, route{id: "propose", method: http.MethodPost, path: "/api/drafts", scope: DraftsWrite, text: true, once: true, summary: "Propose a flow for somebody's approval",
		about: "It must be one that could be deployed: 400 has everything that is wrong in errors."}, s.propose)
	add(s, route{id: "drafts", method: http.MethodGet, path: "/api/drafts", scope: WorkflowsRead, summary: "List drafts, newest first"}, s.drafts)
	add(s, route{id: "draft", method: http.MethodGet, path: "/api/drafts/{id}", scope: WorkflowsRead, summary: "Look at a draft: explained, drawn and compared"}, s.draft)
	add(s, route{id: "approveDraft", method: http.MethodPost, path: "/api/drafts/{id}/approve", scope: WorkflowsWrite, summary: "Deploy a draft as it was shown",
		about: "409: it was decided, is another than the digest says, or another version is active than when it was made."}, s.approveDraft)
	add(s, route{id: "rejectDraft", method: http.MethodPost, path: "/api/drafts/{id}/reject", scope: WorkflowsWrite, summary: "Reject a draft"}, s.rejectDraft)
	add(s, route{id: "deleteDraft", method: http.MethodDelete, path: "/api/drafts/{id}", scope: DraftsWrite, status: http.StatusNoContent, summary: "Withdraw a draft on which nobody has decided"}, s.deleteDraft)
	add(s, route{id: "explain", method: http.MethodGet, path: "/api/workflows/{id}/explain", scope: WorkflowsRead, summary: "Say in words what a flow does, step by step, and all that it reaches"}, s.explain)
	add(s, route{id: "exportWorkflow", method: http.MethodGet, path: "/api/workflows/{id}/export", scope: WorkflowsRead, summary: "Read the document of a flow as it can be deployed elsewhere",
		about: "With the number of its version. Prompts of the registry, secrets and the flows that it calls are named in it and do not go along."}, s.exportFlow)
}

// draftsOf returns the drafts of the store, or the problem of a server that has none.
func (s *server) draftsOf() (*draft.Drafts, error) {
	if s.opt.Drafts == nil {
		p := newProblem(http.StatusNotFound, codeNoRoute, "this server keeps no drafts")
		p.Hint = "set api.Options.Drafts, as to a draft.Drafts"
		return nil, p
	}
	return s.opt.Drafts, nil
}

// usualWait is how long a caller who says nothing waits for a model.
const usualWait = 2 * time.Minute

func (s *server) generate(ctx context.Context, id, waits string, q GenerateRequest) (*generatedOutput, error) {
	drafts, err := s.draftsOf()
	if err != nil {
		return nil, err
	}
	if q.Description == "" {
		return nil, badRequest("the body needs the field \"description\": what the flow is to do, in words")
	}
	wait := span{usualWait}
	if waits != "" {
		if wait.Duration, err = duration("wait", waits); err != nil {
			return nil, err
		}
	}
	if err := wait.atMost(maxWait); err != nil {
		return nil, err
	}
	once, err := s.once(ctx)
	if err != nil {
		return nil, err
	}
	tenant := tenantOf(ctx)
	d, err := drafts.Generate(ctx, draft.Request{Tenant: tenant, Words: q.Description, Flow: id, Model: q.Model, By: callerOf(ctx).name, ID: once.id})
	exchangeOf(ctx).stored() // what follows may be a long wait
	if err != nil {
		return nil, s.noFlow(id, err)
	}
	if wait.Duration > 0 && d.State == draft.Writing {
		if _, err := s.tell(ctx, pawl.RunInfo{Tenant: tenant, ID: d.ID}, wait.Duration, http.StatusOK); err != nil {
			return nil, err
		}
		var done context.CancelFunc
		ctx, done = context.WithTimeout(exchangeOf(ctx).r.Context(), callLimit)
		defer done()
	}
	v, err := drafts.Get(ctx, tenant, d.ID)
	if err != nil {
		return nil, err
	}
	v.Existed = d.Existed
	out := &generatedOutput{Status: http.StatusOK, Location: DraftPath(d.ID), Replayed: once.replayed(d.Existed), Body: Generated{d.ID, draftView(v)}}
	if v.State == draft.Writing {
		out.Status = http.StatusAccepted
	}
	return out, nil
}

func (s *server) propose(ctx context.Context, in *proposeInput) (*proposedOutput, error) {
	drafts, err := s.draftsOf()
	if err != nil {
		return nil, err
	}
	data, err := sentFlow(ctx)
	if err != nil {
		return nil, err
	}
	once, err := s.once(ctx)
	if err != nil {
		return nil, err
	}
	d, err := drafts.Propose(ctx, draft.Proposal{Tenant: tenantOf(ctx), Document: data, By: callerOf(ctx).name, Comment: in.Comment, ID: once.id})
	if err != nil {
		return nil, err
	}
	v, err := drafts.Get(ctx, tenantOf(ctx), d.ID)
	v.Existed = d.Existed
	return &proposedOutput{Location: DraftPath(d.ID), Replayed: once.replayed(d.Existed), Body: draftView(v)}, err
}

func (s *server) drafts(ctx context.Context, in *draftsInput) (*output[DraftPage], error) {
	drafts, err := s.draftsOf()
	if err != nil {
		return nil, err
	}
	after, err := readMark("draft:", in.Cursor)
	if err != nil {
		return nil, err
	}
	items, next, err := drafts.List(ctx, tenantOf(ctx), draft.Filter{State: in.State, WorkflowID: in.Workflow, After: after, Limit: in.Limit})
	page := DraftPage{Items: items}
	if next != "" {
		page.NextCursor = mark("draft:", next)
	}
	return &output[DraftPage]{page}, err
}

func (s *server) draft(ctx context.Context, in *draftInput) (*output[DraftView], error) {
	drafts, err := s.draftsOf()
	if err != nil {
		return nil, err
	}
	v, err := drafts.Get(ctx, tenantOf(ctx), in.ID)
	return &output[DraftView]{draftView(v)}, err
}

func (s *server) approveDraft(ctx context.Context, in *approveDraftInput) (*output[ApprovedDraft], error) {
	drafts, err := s.draftsOf()
	if err != nil {
		return nil, err
	}
	d, done, err := drafts.Approve(ctx, draft.Verdict{
		Tenant: tenantOf(ctx), ID: in.ID, By: callerOf(ctx).name, Comment: in.Body.Comment, Digest: in.Body.Digest, Inactive: in.Body.Activate != nil && !*in.Body.Activate,
	})
	if err != nil {
		return nil, err
	}
	return &output[ApprovedDraft]{ApprovedDraft{d, deployedOf(done)}}, nil
}

func (s *server) rejectDraft(ctx context.Context, in *rejectDraftInput) (*output[draft.Draft], error) {
	drafts, err := s.draftsOf()
	if err != nil {
		return nil, err
	}
	d, err := drafts.Reject(ctx, draft.Verdict{Tenant: tenantOf(ctx), ID: in.ID, By: callerOf(ctx).name, Comment: in.Body.Comment, Digest: in.Body.Digest})
	return &output[draft.Draft]{d}, err
}

func (s *server) deleteDraft(ctx context.Context, in *draftInput) (*noOutput, error) {
	drafts, err := s.draftsOf()
	if err != nil {
		return nil, err
	}
	return &noOutput{}, drafts.Delete(ctx, tenantOf(ctx), in.ID)
}

// storedFlow returns a version of a flow; 0: the active one, or else the highest.
func (s *server) storedFlow(ctx context.Context, id string, version int) (flow.Stored, error) {
	flows, err := s.flows()
	if err != nil {
		return flow.Stored{}, err
	}
	if version == 0 {
		info, err := flows.Get(ctx, tenantOf(ctx), id)
		if err != nil {
			return flow.Stored{}, s.noFlow(id, err)
		}
		if version = info.Active; version == 0 {
			version = info.Latest
		}
	}
	stored, err := flows.Version(ctx, tenantOf(ctx), id, version)
	return stored, s.noFlow(id, err)
}

func (s *server) explain(ctx context.Context, in *ofVersionInput) (*output[flow.Explanation], error) {
	stored, err := s.storedFlow(ctx, in.ID, in.Version)
	if err != nil {
		return nil, err
	}
	e, err := flow.Explain(stored.Document, s.opt.Flows.World())
	return &output[flow.Explanation]{e}, err
}

func (s *server) exportFlow(ctx context.Context, in *ofVersionInput) (*output[json.RawMessage], error) {
	stored, err := s.storedFlow(ctx, in.ID, in.Version)
	if err != nil {
		return nil, err
	}
	var document map[string]json.RawMessage
	if err := json.Unmarshal(stored.Document, &document); err != nil {
		return nil, err
	}
	if document["version"], err = json.Marshal(stored.Version); err != nil {
		return nil, err
	}
	data, err := json.Marshal(document)
	return &output[json.RawMessage]{data}, err
}
