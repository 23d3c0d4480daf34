package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
)

// Finding is one thing that is wrong with a flow, or odd about it.
type Finding struct {
	Pointer string `json:"pointer" doc:"RFC 6901, as /steps/2/config/prompt; empty: the whole document."`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty" doc:"What to write instead, where that is known."`
}

// FindingOf tells of a problem what callers are told.
func FindingOf(p flow.Problem) Finding {
	return Finding{p.Pointer, p.Line, p.Column, p.Message, p.Hint}
}

// Deployed is what came of a deployment.
type Deployed struct {
	Success    bool      `json:"success"` // always
	WorkflowID string    `json:"workflowId"`
	Version    int       `json:"version"`
	Existed    bool      `json:"existed,omitempty" doc:"The same document was deployed before, as this version."`
	Active     int       `json:"active,omitempty" doc:"The version with which runs start now; left out: none."`
	DryRun     bool      `json:"dryRun,omitempty" doc:"Nothing was deployed: this is what would come of it."`
	Warnings   []Finding `json:"warnings,omitempty"`
	WorstCase  WorstCase `json:"worstCase"`
}

// Validation is what is wrong with a document.
type Validation struct {
	Valid      bool       `json:"valid" doc:"It can be deployed."`
	WorkflowID string     `json:"workflowId,omitempty" doc:"Of a valid document, its id."`
	Version    int        `json:"version,omitempty" doc:"The number that the document gives itself, or that it was deployed under."`
	Errors     []Finding  `json:"errors"`
	Warnings   []Finding  `json:"warnings"`
	WorstCase  *WorstCase `json:"worstCase,omitempty" doc:"Of a valid document."`
}

// WorstCase is what a run of a flow takes at most and at least; null has no bound of its own, and open says why.
type WorstCase = flow.WorstCase

// FlowVersion is a version of a flow. It never changes.
type FlowVersion struct {
	WorkflowID string          `json:"workflowId"`
	Version    int             `json:"version"`
	Hash       string          `json:"hash" doc:"SHA-256 of what the document says, its number left out."`
	Deployed   time.Time       `json:"deployed"`
	By         string          `json:"by,omitempty"`
	Document   json.RawMessage `json:"document,omitempty" doc:"Of a version that is looked at by its number."`
}

// FlowVersionPage is a page of versions, in their order.
type FlowVersionPage struct {
	Items      []FlowVersion `json:"items"`
	NextCursor string        `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last so far."`
}

// ActivateFlowRequest says which version new runs get.
type ActivateFlowRequest struct {
	Version int      `json:"version"`
	Percent *float64 `json:"percent,omitempty" doc:"The share of the starts that get it, above 0 and up to 100, beside the active version; left out: all, it becomes the active one."`
}

type deployInput struct {
	Activate bool `query:"activate" default:"true" doc:"false: keep the version, and let runs start with the one that is active."`
	DryRun   bool `query:"dryRun" doc:"Check all of it and deploy nothing."`
}

type validateFlowInput struct {
	ID      string `path:"id"`
	Version int    `query:"version" minimum:"1" doc:"Without a body, the version to check; left out: the active one, or else the highest."`
}

type flowVersionsInput struct {
	ID     string `path:"id"`
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
}

type flowVersionInput struct {
	ID      string `path:"id"`
	Version int    `path:"n" minimum:"1"`
}

type activateFlowInput struct {
	ID    string `path:"id"`
	Match string `header:"If-Match" doc:"The ETag that the flow must still have."`
	Body  ActivateFlowRequest
}

type changeFlowInput struct {
	ID    string `path:"id"`
	Match string `header:"If-Match" doc:"The ETag that the flow must still have."`
	Body  Empty
}

type schemaOutput struct {
	Cache string `header:"Cache-Control"`
	Body  json.RawMessage
}

func (s *server) flowRoutes() {
	add(s, route{id: "deploy", method: http.MethodPost, path: "/api/workflows", scope: WorkflowsWrite, text: true, once: true, summary: "Deploy a flow",
		about: "All of it is checked first: 400 has everything that is wrong in errors. The same document again is the same version; another one under a number that is taken is 409."}, s.deploy)
	add(s, route{id: "validate", method: http.MethodPost, path: "/api/workflows/validate", scope: WorkflowsRead, text: true, summary: "Say all that is wrong with a flow, and deploy nothing"},
		func(ctx context.Context, _ *struct{}) (*output[Validation], error) { return s.validate(ctx, "") })
	add(s, route{id: "validateWorkflow", method: http.MethodPost, path: "/api/workflows/{id}/validate", scope: WorkflowsRead, text: true, summary: "Check a document for a flow; without a body, a version that is there",
		about: "A version that is there is held against what the server has now: services may have gone since it was deployed."}, s.validateFlow)
	get := func(id, path, summary string) route {
		return route{id: id, method: http.MethodGet, path: path, scope: WorkflowsRead, summary: summary}
	}
	change := func(id, path, summary string) route {
		return route{id: id, method: http.MethodPost, path: path, scope: WorkflowsWrite, summary: summary}
	}
	add(s, get("workflowVersions", "/api/workflows/{id}/versions", "List the versions of a flow, oldest first"), s.flowVersions)
	add(s, get("workflowVersion", "/api/workflows/{id}/versions/{n}", "Read a version of a flow"), s.flowVersion)
	add(s, change("activateWorkflow", "/api/workflows/{id}/activate", "Let new runs have a version of a flow, all or a share of them"), s.activateFlow)
	add(s, change("rollbackWorkflow", "/api/workflows/{id}/rollback", "End a canary; if there is none, return to the version that was active before"),
		func(ctx context.Context, in *changeFlowInput) (*workflowOutput, error) {
			return s.changeFlow(ctx, in, (*flow.Registry).Rollback)
		})
	s.migrateRoute()
	s.backtestRoute()
	add(s, change("deactivateWorkflow", "/api/workflows/{id}/deactivate", "Let no new run of a flow start; those that are there go on"),
		func(ctx context.Context, in *changeFlowInput) (*workflowOutput, error) {
			return s.changeFlow(ctx, in, (*flow.Registry).Deactivate)
		})
	add(s, route{id: "flowSchema", method: http.MethodGet, path: "/api/schema/flow.json", scope: public, summary: "The JSON Schema of flows, for editors"},
		func(context.Context, *struct{}) (*schemaOutput, error) {
			return &schemaOutput{Cache: "public, max-age=3600", Body: flow.Schema()}, nil
		})
}

// flows returns the flows of the store, or the problem of a server that has none.
func (s *server) flows() (*flow.Registry, error) {
	if s.opt.Flows == nil {
		p := newProblem(http.StatusNotFound, codeNoRoute, "this server keeps no flows")
		p.Hint = "set api.Options.Flows, as to a flow.Registry"
		return nil, p
	}
	return s.opt.Flows, nil
}

// sentFlow is the flow in the body of a request.
func sentFlow(ctx context.Context) ([]byte, error) {
	if data := exchangeOf(ctx).data; data != nil {
		return data, nil
	}
	return nil, badRequest("the body is empty: it is the flow, as JSON or YAML")
}

func (s *server) deploy(ctx context.Context, in *deployInput) (*output[Deployed], error) {
	flows, err := s.flows()
	if err != nil {
		return nil, err
	}
	data, err := sentFlow(ctx)
	if err != nil {
		return nil, err
	}
	do := flows.Try
	if !in.DryRun {
		if _, err := s.once(ctx); err != nil { // done twice it is the same
			return nil, err
		}
		do = flows.Deploy
	}
	d, err := do(ctx, flow.Deployment{Tenant: tenantOf(ctx), Document: data, By: callerOf(ctx).name, Inactive: !in.Activate})
	if err != nil {
		return nil, err
	}
	out := deployedOf(d)
	out.DryRun = in.DryRun
	return &output[Deployed]{out}, nil
}

func deployedOf(d flow.Deployed) Deployed {
	return Deployed{Success: true, WorkflowID: d.ID, Version: d.Version, Existed: d.Existed, Active: d.Active, Warnings: findingsOf(d.Warnings, true), WorstCase: d.WorstCase}
}

// validate checks the body, which must be of the flow id unless that is empty.
func (s *server) validate(ctx context.Context, id string) (*output[Validation], error) {
	flows, err := s.flows()
	if err != nil {
		return nil, err
	}
	data, err := sentFlow(ctx)
	if err != nil {
		return nil, err
	}
	return validated(ctx, data, flows, id)
}

func validated(ctx context.Context, data []byte, flows *flow.Registry, id string) (*output[Validation], error) {
	v := Validation{}
	world := flows.WorldOf(ctx, tenantOf(ctx))
	if scopes := callerOf(ctx).scopes; !allows(scopes, SecretsRead) && !allows(scopes, WorkflowsWrite) {
		world.Secret = nil // who may neither list secrets nor use them does not find out by asking which there are
	}
	f, err := flow.Parse(data, world)
	found, bad := errors.AsType[flow.Problems](err)
	if err != nil && !bad {
		return nil, err
	}
	if f != nil {
		v.Valid, v.WorkflowID, v.Version, found = true, f.ID, f.Version, f.Warnings
		worst := flows.WorstCase(ctx, tenantOf(ctx), f)
		v.WorstCase = &worst
	}
	v.Errors, v.Warnings = append([]Finding{}, findingsOf(found, false)...), append([]Finding{}, findingsOf(found, true)...)
	if f != nil && id != "" && f.ID != id {
		v.Valid = false
		v.Errors = append(v.Errors, Finding{Pointer: "/id", Message: fmt.Sprintf("it is the flow %q, not %q", f.ID, id)})
	}
	return &output[Validation]{v}, nil
}

func (s *server) validateFlow(ctx context.Context, in *validateFlowInput) (*output[Validation], error) {
	if exchangeOf(ctx).data != nil {
		if in.Version != 0 {
			return nil, badRequest("version names one that is there, and the body is another: give one of them")
		}
		return s.validate(ctx, in.ID)
	}
	flows, err := s.flows()
	if err != nil {
		return nil, err
	}
	number := in.Version
	if number == 0 {
		info, err := flows.Get(ctx, tenantOf(ctx), in.ID)
		if err != nil {
			return nil, s.noFlow(in.ID, err)
		}
		if number = info.Active; number == 0 {
			number = info.Latest
		}
	}
	stored, err := flows.Version(ctx, tenantOf(ctx), in.ID, number)
	if err != nil {
		return nil, s.noFlow(in.ID, err)
	}
	out, err := validated(ctx, stored.Document, flows, in.ID)
	if err == nil {
		out.Body.WorkflowID, out.Body.Version = in.ID, number
	}
	return out, err
}

func (s *server) flowVersions(ctx context.Context, in *flowVersionsInput) (*output[FlowVersionPage], error) {
	flows, err := s.flows()
	if err != nil {
		return nil, err
	}
	after, err := readNumber("version:", in.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := flows.Versions(ctx, tenantOf(ctx), in.ID, int(after), in.Limit+1)
	if err == nil && len(found) == 0 && after == 0 {
		_, err = flows.Get(ctx, tenantOf(ctx), in.ID)
	}
	if err != nil {
		return nil, s.noFlow(in.ID, err)
	}
	page := FlowVersionPage{Items: []FlowVersion{}}
	for _, v := range found[:min(len(found), in.Limit)] {
		page.Items = append(page.Items, versionOf(v, false))
	}
	if len(found) > in.Limit {
		page.NextCursor = mark("version:", strconv.Itoa(found[in.Limit-1].Version))
	}
	return &output[FlowVersionPage]{page}, nil
}

func (s *server) flowVersion(ctx context.Context, in *flowVersionInput) (*output[FlowVersion], error) {
	flows, err := s.flows()
	if err != nil {
		return nil, err
	}
	v, err := flows.Version(ctx, tenantOf(ctx), in.ID, in.Version)
	if err != nil {
		return nil, s.noFlow(in.ID, err)
	}
	return &output[FlowVersion]{versionOf(v, true)}, nil
}

func versionOf(s flow.Stored, whole bool) FlowVersion {
	v := FlowVersion{WorkflowID: s.ID, Version: s.Version, Hash: s.Hash, Deployed: s.Deployed, By: s.By}
	if whole {
		v.Document = s.Document
	}
	return v
}

func (s *server) activateFlow(ctx context.Context, in *activateFlowInput) (*workflowOutput, error) {
	if in.Body.Version < 1 {
		return nil, badRequest(`the body needs the field "version", a number from 1`)
	}
	percent := 100.0
	if in.Body.Percent != nil {
		percent = *in.Body.Percent
	}
	return s.changeFlow(ctx, &changeFlowInput{ID: in.ID, Match: in.Match}, func(r *flow.Registry, ctx context.Context, tenant, id, by string, revision int64) (flow.Info, error) {
		return r.Activate(ctx, tenant, id, in.Body.Version, percent, by, revision)
	})
}

// changeFlow does something to a flow if it has the revision of an If-Match, which is decided in the write.
func (s *server) changeFlow(ctx context.Context, in *changeFlowInput, do func(r *flow.Registry, ctx context.Context, tenant, id, by string, revision int64) (flow.Info, error)) (*workflowOutput, error) {
	flows, err := s.flows()
	if err != nil {
		return nil, err
	}
	revision, err := revisionOf(in.Match)
	if err != nil {
		return nil, err
	}
	info, err := do(flows, ctx, tenantOf(ctx), in.ID, callerOf(ctx).name, revision)
	if revision != 0 && errors.Is(err, pawl.ErrConflict) {
		return nil, matches(revisionTag(revision), "another")
	}
	if err != nil {
		return nil, s.noFlow(in.ID, err)
	}
	return &workflowOutput{ETag: revisionTag(info.Revision), Body: flowOf(info)}, nil
}

// noFlow says of a workflow of the program why it has no versions.
func (s *server) noFlow(id string, err error) error {
	if errors.Is(err, pawl.ErrNotFound) && slices.Contains(s.code(), id) {
		return newProblem(http.StatusNotFound, problemOf(pawl.ErrNotFound).Code, "%s is a workflow of the program: only flows, which are deployed, have versions here", id)
	}
	return err
}

// findingsOf are the faults, or the warnings, of what was found.
func findingsOf(found flow.Problems, warnings bool) (out []Finding) {
	for _, p := range found {
		if p.Warning == warnings {
			out = append(out, FindingOf(p))
		}
	}
	return out
}

// faulty is the problem of a flow that can't be deployed.
func faulty(found flow.Problems) *Problem {
	p := newProblem(http.StatusBadRequest, "input", "the flow can't be deployed: %s", found.Faults()[0])
	p.Errors, p.Warnings = findingsOf(found, false), findingsOf(found, true)
	if n := len(p.Errors); n > 1 {
		p.Detail += fmt.Sprintf(" (and %d more problems)", n-1)
	}
	return p
}
