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
	"github.com/pawlrun/pawl/internal/spelling"
)

// Kinds of workflows.
const (
	KindCode = "code" // a function of the program
	KindFlow = "flow" // a document that was deployed
)

// Workflow is a workflow that the server can start.
type Workflow struct {
	Name     string          `json:"name" doc:"By which it is started; of a flow, its id."`
	Kind     string          `json:"kind" enum:"code,flow" doc:"A function of the program, or a document that was deployed."`
	Title    string          `json:"title,omitempty" doc:"Of a flow, its name for people."`
	Version  string          `json:"version,omitempty" doc:"Of the code that new runs get, where it has a name; of a flow, the active version."`
	Doc      string          `json:"doc,omitempty" doc:"What it does."`
	Internal bool            `json:"internal,omitempty" doc:"Other code starts it; lists for people leave it out."`
	Fields   []pawl.Field    `json:"fields,omitempty" doc:"Of the input, where they are known; of a flow that is looked at by its name."`
	Inputs   json.RawMessage `json:"inputs,omitempty" doc:"Of a flow that is looked at by its name: JSON Schema of its variables."`
	// WorstCase is of a flow that is looked at by its name.
	WorstCase *WorstCase `json:"worstCase,omitempty" doc:"Of a flow that is looked at by its name: what a run of the active version takes at most."`
	Mermaid   string     `json:"mermaid,omitempty" doc:"Of a state machine that is looked at by its name: its states and the gotos between them, as Mermaid text."`
	FlowState
}

// FlowState is how a flow stands. Of other workflows it is empty.
type FlowState struct {
	Active   int          `json:"active,omitempty" doc:"Of a flow, the version with which runs start; left out: none."`
	Previous int          `json:"previous,omitempty" doc:"The version that was active before, to which a rollback returns."`
	Latest   int          `json:"latest,omitempty" doc:"The highest version."`
	Canary   *flow.Canary `json:"canary,omitempty" doc:"A version that a share of the starts gets."`
	Changed  time.Time    `json:"changed,omitzero"`
	By       string       `json:"by,omitempty" doc:"Who changed it last."`
	Revision int64        `json:"revision,omitempty" doc:"Another after each change."`
	ETag     string       `json:"etag,omitempty" doc:"Names the revision, for If-Match."`
}

// WorkflowPage is a page of workflows, by name.
type WorkflowPage struct {
	Items      []Workflow `json:"items"`
	NextCursor string     `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last."`
}

type workflowsInput struct {
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"500"`
}

type workflowInput struct {
	ID string `path:"id"`
}

type workflowOutput struct {
	ETag string `header:"ETag" doc:"Names a flow's revision, for If-Match."`
	Body Workflow
}

func (s *server) workflowRoutes() {
	add(s, route{id: "workflows", method: http.MethodGet, path: "/api/workflows", scope: RunsRead, summary: "List what the server can start, by name"}, s.workflows)
	add(s, route{id: "workflow", method: http.MethodGet, path: "/api/workflows/{id}", scope: RunsRead, summary: "Look at a workflow"}, s.workflow)
}

// workflows merges the program's workflows and the tenant's flows, both by name.
func (s *server) workflows(ctx context.Context, in *workflowsInput) (*output[WorkflowPage], error) {
	after, err := readMark("workflow:", in.Cursor)
	if err != nil {
		return nil, err
	}
	var flows []flow.Info
	if s.opt.Flows != nil {
		if flows, err = s.opt.Flows.List(ctx, tenantOf(ctx), after, in.Limit+1); err != nil {
			return nil, err
		}
	}
	code := slices.DeleteFunc(s.code(), func(name string) bool { return name <= after })
	page := WorkflowPage{Items: []Workflow{}}
	for len(code) > 0 || len(flows) > 0 {
		if n := len(page.Items); n == in.Limit {
			page.NextCursor = mark("workflow:", page.Items[n-1].Name)
			break
		}
		if len(code) == 0 || len(flows) > 0 && flows[0].ID < code[0] {
			page.Items, flows = append(page.Items, flowOf(flows[0])), flows[1:]
			continue
		}
		w, err := s.ofCode(code[0])
		if err != nil {
			return nil, err
		}
		page.Items, code = append(page.Items, w), code[1:]
	}
	return &output[WorkflowPage]{page}, nil
}

func (s *server) workflow(ctx context.Context, in *workflowInput) (*workflowOutput, error) {
	if s.opt.Flows != nil {
		info, err := s.opt.Flows.Get(ctx, tenantOf(ctx), in.ID)
		if err == nil {
			return s.flowWhole(ctx, info)
		}
		if !errors.Is(err, pawl.ErrNotFound) {
			return nil, err
		}
	}
	if !slices.Contains(s.code(), in.ID) {
		return nil, s.unknownWorkflow(ctx, in.ID)
	}
	w, err := s.ofCode(in.ID)
	if err == nil && s.opt.Draw != nil {
		w.Mermaid = s.opt.Draw(in.ID)
	}
	return &workflowOutput{Body: w}, err
}

// code are the names of the workflows that are no flows. Those are each a tenant's own, and the engine knows the names of
// all.
func (s *server) code() []string {
	names := s.engine.Workflows()
	if s.opt.Flows == nil {
		return names
	}
	return slices.DeleteFunc(names, s.opt.Flows.Is)
}

// ofCode tells of a workflow what the engine knows.
func (s *server) ofCode(name string) (Workflow, error) {
	w, err := s.engine.Workflow(name)
	return Workflow{Name: w.Name, Kind: KindCode, Version: w.Version, Doc: w.Doc, Internal: w.Internal, Fields: w.Fields}, err
}

func flowOf(i flow.Info) Workflow {
	w := Workflow{Name: i.ID, Kind: KindFlow, Title: i.Name, FlowState: FlowState{
		Active: i.Active, Previous: i.Previous, Latest: i.Latest, Canary: i.Canary, Changed: i.Changed, By: i.By, Revision: i.Revision, ETag: revisionTag(i.Revision),
	}}
	if i.Active != 0 {
		w.Version = strconv.Itoa(i.Active)
	}
	return w
}

// flowWhole adds what the active version takes.
func (s *server) flowWhole(ctx context.Context, info flow.Info) (*workflowOutput, error) {
	out := &workflowOutput{ETag: revisionTag(info.Revision), Body: flowOf(info)}
	if info.Active == 0 {
		return out, nil
	}
	var err error
	if out.Body.Inputs, err = s.opt.Flows.Inputs(ctx, tenantOf(ctx), info.ID, info.Active); err == nil {
		out.Body.Fields = fieldsOfSchema(out.Body.Inputs)
	}
	if err == nil {
		var worst WorstCase
		worst, err = s.opt.Flows.WorstCaseOf(ctx, tenantOf(ctx), info.ID, info.Active)
		out.Body.WorstCase = &worst
	}
	return out, err
}

// fieldsOfSchema are the properties of an object's JSON Schema, as far as it names them: those that are required first, in
// the order in which it says so.
func fieldsOfSchema(schema json.RawMessage) (fields []pawl.Field) {
	var of struct {
		Properties map[string]struct {
			Type any
			Enum []json.RawMessage
		}
		Required []string
	}
	if schema == nil || json.Unmarshal(schema, &of) != nil {
		return nil
	}
	var others []string
	for name := range of.Properties {
		if !slices.Contains(of.Required, name) {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	for i, name := range slices.Concat(of.Required, others) {
		p := of.Properties[name]
		kind, _ := p.Type.(string)
		switch {
		case kind == "" && len(p.Enum) > 0 && !slices.ContainsFunc(p.Enum, func(v json.RawMessage) bool { return v[0] != '"' }):
			kind = "string"
		case !slices.Contains([]string{"string", "number", "integer", "boolean", "array", "object"}, kind):
			kind = "any"
		}
		fields = append(fields, pawl.Field{Name: name, Kind: kind, Optional: i >= len(of.Required), Values: p.Enum})
	}
	return fields
}

// learn tells the engine of a flow of the tenant that another process has deployed a moment ago, and that is about to be
// started. That there is none is for the start to say.
func (s *server) learn(ctx context.Context, workflow string) error {
	if s.opt.Flows == nil || workflow == "" {
		return nil
	}
	if _, err := s.engine.Workflow(workflow); err == nil {
		return nil
	}
	if _, err := s.opt.Flows.Find(ctx, tenantOf(ctx), workflow); err != nil && !errors.Is(err, pawl.ErrUnknown) && !errors.Is(err, pawl.ErrInput) {
		return err
	}
	return nil
}

// unknownWorkflow is the problem of a name by which the caller can start nothing. It names none of another tenant's flows.
func (s *server) unknownWorkflow(ctx context.Context, name string) error {
	p := problemOf(pawl.ErrUnknown)
	p.Detail = fmt.Sprintf("no workflow is called %q here", name)
	known := slices.DeleteFunc(s.code(), func(name string) bool {
		info, err := s.engine.Workflow(name)
		return err == nil && info.Internal // nobody means those
	})
	if s.opt.Flows != nil {
		flows, err := s.opt.Flows.List(ctx, tenantOf(ctx), "", 500)
		if err != nil {
			return err
		}
		for _, f := range flows {
			known = append(known, f.ID)
		}
	}
	slices.Sort(known)
	p.Hint = spelling.Choice(name, known)
	return p
}
