package flow

import (
	"fmt"
	"strings"
)

// Mark shows in a graph what a run has done: which steps it came to, how often and how they stand, and which ways
// it went. Of items of a map it shows all together.
func (g Graph) Mark(x Execution) Graph {
	g = g.mark([]map[string]StepResult{x.StepResults}, x.Status.String())
	g.Run, g.State = x.ExecutionID, x.Status.String()
	return g
}

func (g Graph) mark(of []map[string]StepResult, state string) Graph {
	nodes, edges := make([]GraphNode, len(g.Nodes)), make([]GraphEdge, len(g.Edges))
	copy(nodes, g.Nodes)
	copy(edges, g.Edges)
	g.Nodes, g.Edges = nodes, edges
	taken := map[[2]string]int{}
	came := false
	for i := range nodes {
		n := &nodes[i]
		branches := map[string][]map[string]StepResult{}
		for _, results := range of {
			r, is := results[n.ID]
			if !is {
				continue
			}
			came = true
			n.Visits += r.Visits
			if worth[r.Status] >= worth[n.Status] {
				n.Status = r.Status
			}
			taken[[2]string{n.ID, r.Next}]++
			for _, v := range r.History {
				taken[[2]string{n.ID, v.Next}]++
			}
			for name, b := range r.Branches {
				if n.Type == "map" {
					name = "for each"
				}
				branches[name] = append(branches[name], b.Steps)
			}
		}
		if len(n.Branches) > 0 {
			inner := make([]Graph, len(n.Branches))
			for j, b := range n.Branches {
				inner[j] = b.mark(branches[b.ID], "")
			}
			n.Branches = inner
		}
	}
	ends := map[string]int{}
	for i := range edges {
		e := &edges[i]
		e.Taken = taken[[2]string{e.From, e.To}]
		if e.From == startNode && came {
			e.Taken = len(of)
		}
		ends[e.To] += e.Taken
	}
	for i := range nodes {
		switch n := &nodes[i]; n.Type {
		case "start":
			if came {
				n.Visits, n.Status = len(of), "completed"
			}
		case "end", "fail":
			if n.Visits = ends[n.ID]; n.Visits > 0 {
				n.Status = map[string]string{"end": "completed", "fail": "failed"}[n.Type]
			}
		}
	}
	return g
}

// worth is which status says most, of several of one step.
var worth = map[string]int{
	"": 0, "skipped": 1, "completed": 2, "cancelled": 3, "pending": 4, "timed out": 5, "failed": 6, "waiting": 7, "paused": 7, "blocked": 7, "retrying": 8, "running": 9,
}

// signs are how a status is shown to those who see no colours.
var signs = map[string]string{
	"completed": "✓", "failed": "✗", "skipped": "–", "cancelled": "⊘", "timed out": "✗", "running": "▶", "retrying": "↻", "waiting": "…", "pending": "…", "paused": "‖", "blocked": "‖",
}

// facts are what a marked node says of the run.
func (n *GraphNode) facts() string {
	if n.Status == "" {
		return ""
	}
	text := strings.TrimSpace(signs[n.Status] + " " + n.Status)
	if n.Visits > 1 {
		text += fmt.Sprintf(" %d×", n.Visits)
	}
	return text
}
