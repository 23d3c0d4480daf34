package flow

import (
	"fmt"
	"strings"
)

// Mermaid draws the graph as a Mermaid flowchart, which GitHub, GitLab and mermaid.live show.
func (g Graph) Mermaid() string {
	m := &mermaid{classes: map[string][]string{}}
	m.line(0, "flowchart TD")
	m.graph(g, 1)
	for _, c := range []struct{ class, style string }{
		{"completed", "fill:#dafbe1,stroke:#1a7f37,color:#1f2328"}, {"failed", "fill:#ffebe9,stroke:#cf222e,color:#1f2328"},
		{"current", "fill:#ddf4ff,stroke:#0969da,stroke-width:3px,color:#1f2328"}, {"skipped", "stroke-dasharray:4 3"}, {"missing", "fill:#ffebe9,stroke:#cf222e,stroke-dasharray:4 3,color:#1f2328"},
	} {
		if ids := m.classes[c.class]; ids != nil {
			m.line(1, "classDef %s %s", c.class, c.style)
			m.line(1, "class %s %s", strings.Join(ids, ","), c.class)
		}
	}
	if m.taken != nil {
		m.line(1, "linkStyle %s stroke-width:3px", strings.Join(m.taken, ","))
	}
	return m.b.String()
}

type mermaid struct {
	b       strings.Builder
	nodes   int
	edges   int
	taken   []string
	classes map[string][]string
}

func (m *mermaid) line(depth int, format string, args ...any) {
	m.b.WriteString(strings.Repeat("    ", depth))
	fmt.Fprintf(&m.b, format, args...)
	m.b.WriteByte('\n')
}

// shapes are what a node of a type is put into.
var shapes = map[string][2]string{
	"start": {"([", "])"}, "end": {"([", "])"}, "fail": {"([", "])"}, "ai-decision": {"{", "}"}, "wait": {"{{", "}}"}, "workflow": {"[[", "]]"}, "transform": {"(", ")"},
}

func (m *mermaid) graph(g Graph, depth int) {
	ids := map[string]string{} // of our own, as names may be words of the language, such as end
	for i := range g.Nodes {
		n := &g.Nodes[i]
		m.nodes++
		id := fmt.Sprintf("n%d", m.nodes)
		ids[n.ID] = id
		if class := classOf(n); class != "" {
			m.classes[class] = append(m.classes[class], id)
		}
		text := MermaidText(n.Label)
		for _, more := range []string{n.Detail, n.facts()} {
			if more != "" {
				text += "<br/>" + MermaidText(cutText(more, 60))
			}
		}
		if len(n.Branches) > 0 {
			m.line(depth, "subgraph %s[\"%s\"]", id, text)
			for j, b := range n.Branches {
				m.line(depth+1, "subgraph %sb%d[\"%s\"]", id, j+1, MermaidText(b.ID))
				m.graph(b, depth+2)
				m.line(depth+1, "end")
			}
			m.line(depth, "end")
			continue
		}
		shape, is := shapes[n.Type]
		if !is {
			shape = [2]string{"[", "]"}
		}
		m.line(depth, "%s%s\"%s\"%s", id, shape[0], text, shape[1])
	}
	for _, e := range g.Edges {
		arrow := "-->"
		if e.Kind != "next" {
			arrow = "-.->"
		}
		label := cutText(e.Label, 60)
		if e.Taken > 1 {
			label = strings.TrimSpace(fmt.Sprintf("%s %d×", label, e.Taken))
		}
		if label != "" {
			arrow += "|\"" + MermaidText(label) + "\"|"
		}
		m.line(depth, "%s %s %s", ids[e.From], arrow, ids[e.To])
		if e.Taken > 0 {
			m.taken = append(m.taken, fmt.Sprint(m.edges))
		}
		m.edges++
	}
}

// classOf is how a node is coloured.
func classOf(n *GraphNode) string {
	switch n.Status {
	case "completed", "skipped", "failed":
		return n.Status
	case "timed out", "cancelled":
		return "failed"
	case "":
		if n.Type == "missing" {
			return "missing"
		}
		return ""
	}
	return "current"
}

// MermaidText writes what Mermaid or a browser would take for its own as entities. A % could begin a directive,
// wherever it stands.
func MermaidText(s string) string { return inMermaid.Replace(oneLine(s)) }

var inMermaid = strings.NewReplacer(`"`, "#quot;", "<", "#lt;", ">", "#gt;", "&", "#amp;", ";", "#59;", "`", "#96;", `\`, "#92;", "#", "#35;", "%", "#37;")

// oneLine has blanks for line ends and control signs.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, s)
}

// cutText cuts a text to so many characters.
func cutText(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
