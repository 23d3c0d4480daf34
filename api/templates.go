package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/templates"
)

// Template is a flow that is complete, to begin with.
type Template struct {
	Name  string `json:"name"`
	Title string `json:"title" doc:"What it is, in some words."`
	About string `json:"about" doc:"What it does, in a sentence or two."`
	// Of one template only:
	Flow     string            `json:"flow,omitempty" doc:"The document, as YAML: what POST /api/workflows takes."`
	Cases    string            `json:"cases,omitempty" doc:"The cases by which it is tested, as YAML."`
	Input    json.RawMessage   `json:"input,omitempty" doc:"Variables with which a run can be started."`
	Page     string            `json:"page,omitempty" doc:"What to change and what it needs, as Markdown."`
	Services map[string]string `json:"services,omitempty" doc:"Descriptions of the services that it needs besides pawl's own, by name, as YAML."`
}

// TemplateList are all templates, by name, without their documents.
type TemplateList struct {
	Items []Template `json:"items"`
}

type templateInput struct {
	Name string `path:"name"`
}

func (s *server) templateRoutes() {
	add(s, route{id: "templates", method: http.MethodGet, path: "/api/templates", scope: WorkflowsRead, summary: "List templates of flows, by name"},
		func(context.Context, *struct{}) (*output[TemplateList], error) {
			list := TemplateList{Items: []Template{}}
			for _, t := range templates.List() {
				list.Items = append(list.Items, Template{Name: t.Name, Title: t.Title, About: t.About})
			}
			return &output[TemplateList]{list}, nil
		})
	add(s, route{id: "template", method: http.MethodGet, path: "/api/templates/{name}", scope: WorkflowsRead, summary: "Read a template: its flow, cases, input and page"},
		func(_ context.Context, in *templateInput) (*output[Template], error) {
			t, is := templates.Get(in.Name)
			if !is {
				return nil, newProblem(http.StatusNotFound, problemOf(pawl.ErrNotFound).Code, "there is no template %q; GET /api/templates lists them", in.Name)
			}
			return &output[Template]{Template{
				Name: t.Name, Title: t.Title, About: t.About, Flow: t.Flow(), Cases: t.Cases(), Input: json.RawMessage(t.Input()), Page: t.Page(), Services: t.Services(),
			}}, nil
		})
}
