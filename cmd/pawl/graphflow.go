package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
)

// isDocument reports whether an argument is a file with a flow, by its name.
func isDocument(name string) bool {
	return slices.ContainsFunc([]string{".json", ".yaml", ".yml"}, func(end string) bool { return strings.HasSuffix(name, end) })
}

// drawFile draws the flow in a file, with its faults.
func (a *app) drawFile(file string) error {
	if a.output == "dot" {
		return a.usage("-o dot is for runs of code; of a flow there are mermaid and svg")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return a.usage("%w", err)
	}
	g, err := flow.Sketch(data)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	switch {
	case a.output == "svg":
		text, err := g.SVG()
		if err != nil {
			return err
		}
		a.out.line("%s", strings.TrimRight(text, "\n"))
	case a.drawing():
		a.out.line("%s", strings.TrimRight(g.Mermaid(), "\n"))
	default:
		body, err := json.Marshal(g)
		if err != nil {
			return err
		}
		return a.data(view{body: body, of: g, name: "id"})
	}
	return nil
}

// drawFlow draws a flow of the server, and the way of a run, if one is named.
func (a *app) drawFlow(ctx context.Context, id, run string) error {
	q := api.GraphQuery{Run: run, Format: "mermaid"}
	switch {
	case a.output == "dot":
		return a.usage("-o dot is for runs of code; of a flow there are mermaid and svg")
	case a.output == "svg":
		q.Format = "svg"
	case !a.drawing():
		q.Format = "json"
	}
	data, err := a.client.WorkflowGraph(ctx, id, q)
	if err != nil {
		return err
	}
	if q.Format == "json" {
		return a.data(view{body: data, of: flow.Graph{}, name: "id"})
	}
	a.out.line("%s", strings.TrimRight(string(data), "\n"))
	return nil
}
