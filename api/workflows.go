package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/pawlrun/pawl"
)

// Workflow is a workflow that the server can start.
type Workflow struct {
	Name     string       `json:"name"`
	Version  string       `json:"version,omitempty" doc:"Of the code that new runs get, where it has a name."`
	Doc      string       `json:"doc,omitempty" doc:"What it does."`
	Internal bool         `json:"internal,omitempty" doc:"Other code starts it; lists for people leave it out."`
	Fields   []pawl.Field `json:"fields,omitempty" doc:"Of the input, where they are known."`
	Mermaid  string       `json:"mermaid,omitempty" doc:"Of a state machine that is looked at by its name: its states and the gotos between them, as Mermaid text."`
}

// WorkflowList is all workflows, sorted by name.
type WorkflowList struct {
	Items []Workflow `json:"items"`
}

type nameInput struct {
	Name string `path:"name"`
}

func (s *server) workflowRoutes() {
	add(s, route{id: "workflows", method: http.MethodGet, path: "/api/workflows", scope: RunsRead, summary: "List what the server can start"},
		func(context.Context, *struct{}) (*output[WorkflowList], error) {
			list := WorkflowList{Items: []Workflow{}}
			for _, name := range s.engine.Workflows() {
				w, err := s.workflow(name)
				if err != nil {
					return nil, err
				}
				list.Items = append(list.Items, w)
			}
			return &output[WorkflowList]{list}, nil
		})
	add(s, route{id: "workflow", method: http.MethodGet, path: "/api/workflows/{name}", scope: RunsRead, summary: "Look at a workflow"},
		func(_ context.Context, in *nameInput) (*output[Workflow], error) {
			if !slices.Contains(s.engine.Workflows(), in.Name) {
				return nil, unknownWorkflow(s.engine, in.Name)
			}
			w, err := s.workflow(in.Name)
			if err != nil {
				return nil, err
			}
			if s.opt.Draw != nil {
				w.Mermaid = s.opt.Draw(in.Name)
			}
			return &output[Workflow]{w}, nil
		})
}

// workflow tells of a workflow what the engine knows.
func (s *server) workflow(name string) (Workflow, error) {
	w, err := s.engine.Workflow(name)
	return Workflow{Name: w.Name, Version: w.Version, Doc: w.Doc, Internal: w.Internal, Fields: w.Fields}, err
}

func unknownWorkflow(e *pawl.Engine, name string) error {
	p := problemOf(pawl.ErrUnknown)
	p.Detail = fmt.Sprintf("no workflow is called %q here", name)
	p.Hint = suggest(name, e.Workflows())
	return p
}
