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
	Name    string `json:"name"`
	Mermaid string `json:"mermaid,omitempty" doc:"Of a state machine that is looked at by its name: its states and the gotos between them, as Mermaid text."`
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
				list.Items = append(list.Items, Workflow{Name: name})
			}
			return &output[WorkflowList]{list}, nil
		})
	add(s, route{id: "workflow", method: http.MethodGet, path: "/api/workflows/{name}", scope: RunsRead, summary: "Look at a workflow"},
		func(_ context.Context, in *nameInput) (*output[Workflow], error) {
			if !slices.Contains(s.engine.Workflows(), in.Name) {
				return nil, unknownWorkflow(s.engine, in.Name)
			}
			w := Workflow{Name: in.Name}
			if s.opt.Draw != nil {
				w.Mermaid = s.opt.Draw(in.Name)
			}
			return &output[Workflow]{w}, nil
		})
}

func unknownWorkflow(e *pawl.Engine, name string) error {
	p := problemOf(pawl.ErrUnknown)
	p.Detail = fmt.Sprintf("no workflow is called %q here", name)
	p.Hint = suggest(name, e.Workflows())
	return p
}
