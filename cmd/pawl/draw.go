package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/machine"
)

// drawn is a definition that can be drawn before it runs: a state machine.
type drawn interface {
	Name() string
	Mermaid(seen ...machine.Edge) string
}

// drawings draws those of the workflows that can be, for the API.
func drawings(defs []pawl.Definition) func(workflow string) string {
	texts := map[string]string{}
	for _, def := range defs {
		if d, ok := def.(drawn); ok {
			texts[d.Name()] = d.Mermaid()
		}
	}
	return func(workflow string) string { return texts[workflow] }
}

// shapes are what a node of a kind is put into; others into a box.
var shapes = map[string][2]string{
	"start": {"([", "])"}, "end": {"([", "])"}, "child": {"[[", "]]"}, "event": {">", "]"}, "payload": {">", "]"},
	"hook": {"{{", "}}"}, "sleep": {"(", ")"}, "wait": {"(", ")"},
}

// colours are those of states; others have none.
var colours = []struct{ state, fill string }{
	{"completed", "#d3f5d3"}, {"failed", "#f8d0d0"}, {"retrying", "#fbe9b7"}, {"waiting", "#fbe9b7"},
}

// mermaid draws the graph as a Mermaid flowchart.
func (g *graph) mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart TD\n")
	classes := map[string][]string{}
	for _, n := range g.Nodes {
		shape, ok := shapes[n.Kind]
		if !ok {
			shape = [2]string{"[", "]"}
		}
		lines := g.label(&n)
		for i := range lines {
			lines[i] = flow.MermaidText(lines[i])
		}
		fmt.Fprintf(&b, "    %s%s\"%s\"%s\n", n.ID, shape[0], strings.Join(lines, "<br/>"), shape[1])
		classes[n.State] = append(classes[n.State], n.ID)
	}
	for _, e := range g.Edges {
		arrow := "-->"
		if e.Joined {
			arrow = "-.->"
		}
		fmt.Fprintf(&b, "    %s %s %s\n", e.From, arrow, e.To)
	}
	for _, c := range colours {
		if ids := classes[c.state]; ids != nil {
			fmt.Fprintf(&b, "    classDef %s fill:%s,color:#222\n    class %s %s\n", c.state, c.fill, strings.Join(ids, ","), c.state)
		}
	}
	return b.String()
}

// inDot writes a text that Graphviz takes for nothing but text.
var inDot = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// dot draws the graph in the language of Graphviz.
func (g *graph) dot() string {
	var b strings.Builder
	b.WriteString("digraph run {\n    node [shape=box, style=\"rounded,filled\", fillcolor=white]\n")
	for _, n := range g.Nodes {
		lines := g.label(&n)
		for i := range lines {
			lines[i] = inDot.Replace(lines[i])
		}
		fill := ""
		for _, c := range colours {
			if c.state == n.State {
				fill = fmt.Sprintf(", fillcolor=%q", c.fill)
			}
		}
		fmt.Fprintf(&b, "    %s [label=\"%s\"%s]\n", n.ID, strings.Join(lines, `\n`), fill)
	}
	for _, e := range g.Edges {
		dashed := ""
		if e.Joined {
			dashed = " [style=dashed]"
		}
		fmt.Fprintf(&b, "    %s -> %s%s\n", e.From, e.To, dashed)
	}
	b.WriteString("}\n")
	return b.String()
}

// label is what stands in a node: its name, and below how it came out, when, and how long it took.
func (g *graph) label(n *graphNode) (lines []string) {
	kind := n.Kind + " "
	if n.Kind == "step" || n.Kind == "start" || n.Kind == "hook" || n.Kind == "sleep" || n.Kind == "wait" || n.Kind == "end" {
		kind = "" // the name says it, or the shape
	}
	if name := cut(oneLine(kind+n.Name), 80); name != "" {
		lines = append(lines, name)
	}
	if n.Run != "" {
		lines = append(lines, cut(oneLine(n.Run), 80))
	}
	var facts []string
	if n.State != "" {
		facts = append(facts, cut(oneLine(n.State), 80))
	}
	if n.Tries > 1 {
		facts = append(facts, fmt.Sprintf("attempt %d", n.Tries))
	}
	if n.Took > 0 {
		facts = append(facts, took(time.Duration(n.Took*float64(time.Millisecond))))
	}
	if !n.At.IsZero() {
		at := n.At.UTC().Format(time.RFC3339)
		if begin := g.Nodes[0].At; n.Kind != "start" {
			at = "+" + took(n.At.Sub(begin))
		}
		facts = append(facts, at)
	}
	return append(lines, strings.Join(facts, ", "))
}
