package flow

import (
	"fmt"
	"strings"
)

// Graph is a flow as nodes and edges, to be drawn: as data, as [Graph.Mermaid] or as [Graph.SVG].
type Graph struct {
	ID    string      `json:"id,omitempty"`   // the flow's; of a branch its name
	Name  string      `json:"name,omitempty"` // says it to people
	Run   string      `json:"run,omitempty"`  // of which the way is marked
	State string      `json:"state,omitempty"`
	Nodes []GraphNode `json:"nodes"`
	Edges []GraphEdge `json:"edges"`
}

// GraphNode is a step, or one of start, end and fail.
type GraphNode struct {
	ID       string  `json:"id"`
	Type     string  `json:"type"` // of the step; start, end, fail; missing: no step has this id
	Label    string  `json:"label"`
	Detail   string  `json:"detail,omitempty"` // what it does, in a few words
	Branches []Graph `json:"branches,omitempty"`

	Visits int    `json:"visits,omitempty"` // of the run
	Status string `json:"status,omitempty"` // of the newest visit
}

// GraphEdge leads from a step to one that may follow.
type GraphEdge struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Label string `json:"label,omitempty"`
	Kind  string `json:"kind"`            // next, fallback, timeout
	Taken int    `json:"taken,omitempty"` // how often the run went this way
}

// Graph draws a flow: its steps, where they lead and when, with branches as graphs of their own.
func (f *Flow) Graph() Graph { return draw(f.ID, f.Name, f.main) }

// Sketch is the graph of a document that may have faults, as far as it says anything: a step that another leads to and
// that is not there is drawn as missing. The error is of type [Problems]: there is no flow in it at all.
func Sketch(data []byte) (Graph, error) {
	if f, err := Parse(data, World{}); err == nil {
		return f.Graph(), nil
	} else if root, bad := readDocument(data); bad != nil || root.kind != objectKind || !root.get("steps").is(listKind) {
		return Graph{}, err
	} else {
		f := read(&findings{}, root, World{})
		return draw(f.ID, f.Name, f.main), nil
	}
}

// startNode is where a graph begins. No step has that id: it begins with another sign.
const startNode = "(start)"

func draw(id, name string, of graph) Graph {
	g := Graph{ID: id, Name: name, Nodes: []GraphNode{}, Edges: []GraphEdge{}}
	if len(of.steps) == 0 {
		return g
	}
	there := map[string]bool{}
	add := func(n GraphNode) {
		if !there[n.ID] {
			there[n.ID] = true
			g.Nodes = append(g.Nodes, n)
		}
	}
	add(GraphNode{ID: startNode, Type: "start", Label: "start"})
	g.Edges = append(g.Edges, GraphEdge{From: startNode, To: of.steps[0].id, Kind: "next"})
	for _, s := range of.steps {
		n := GraphNode{ID: s.id, Type: s.kind, Label: s.at.get("name").str(), Detail: s.detail()}
		if n.Label == "" {
			n.Label = s.id
		}
		if s.when != nil {
			n.Detail = strings.TrimPrefix(n.Detail+", when "+s.when.source, ", ")
		}
		switch w := s.work.(type) {
		case *parallel:
			for _, b := range w.branches {
				n.Branches = append(n.Branches, draw(b.id, "", b.graph))
			}
		case *each:
			n.Branches = append(n.Branches, draw("for each", "", w.graph))
		}
		add(n)
	}
	for _, s := range of.steps {
		for _, e := range s.edges() {
			g.lead(e)
			switch {
			case e.To == End || e.To == Fail:
				add(GraphNode{ID: e.To, Type: e.To, Label: e.To})
			default:
				add(GraphNode{ID: e.To, Type: "missing", Label: e.To, Detail: "there is no such step"})
			}
		}
	}
	return g
}

// lead adds an edge; those between the same steps become one.
func (g *Graph) lead(e GraphEdge) {
	for i := range g.Edges {
		if old := &g.Edges[i]; old.From == e.From && old.To == e.To {
			if e.Label != "" {
				old.Label = strings.TrimPrefix(old.Label+", "+e.Label, ", ")
			}
			return
		}
	}
	g.Edges = append(g.Edges, e)
}

// edges are the ways out of a step, with what decides.
func (s *step) edges() (out []GraphEdge) {
	add := func(to, label, kind string) {
		if to != "" {
			out = append(out, GraphEdge{From: s.id, To: to, Label: label, Kind: kind})
		}
	}
	switch n := s.next; {
	case n.at.is(objectKind):
		for _, field := range n.at.fields {
			label := field.name
			if label == "default" && len(n.at.fields) == 1 {
				label = ""
			}
			add(field.value.str(), label, "next")
		}
	case n.at.is(listKind):
		for _, item := range n.at.items {
			label := item.get("when").str()
			if label == "" && len(n.at.items) > 1 {
				label = "else"
			}
			add(item.get("to").str(), label, "next")
		}
	default:
		add(n.to, "", "next")
	}
	if s.onFailure == "fallback" {
		add(s.fallback, "on failure", "fallback")
	}
	if s.kind == "wait" {
		add(s.at.get("config").get("onTimeout").str(), "on timeout", "timeout")
	}
	return out
}

// detail says in a few words what a step does.
func (s *step) detail() string {
	config := s.at.get("config")
	text := func(names ...string) string {
		var words []string
		for _, name := range names {
			if word := config.get(name).str(); word != "" {
				words = append(words, word)
			}
		}
		return strings.Join(words, " ")
	}
	switch s.kind {
	case "ai-decision":
		model := config.get("model").str()
		if model == "" {
			model = strings.Join(config.get("models").strs(), ", ")
		}
		return strings.TrimSpace(model + " " + text("outputFormat"))
	case "service":
		return text("service", "action")
	case "transform":
		if set := config.get("set").fieldsOf(); len(set) > 0 {
			var names []string
			for _, field := range set {
				names = append(names, field.name)
			}
			return "sets " + strings.Join(names, ", ")
		}
		return text("expression")
	case "wait":
		if at := config.get("timeoutMs"); config.get("for").str() == "delay" && at.is(numberKind) {
			return "for " + milliseconds(at).String()
		}
		return "for " + text("for", "event")
	case "parallel":
		if mode := text("failureMode"); mode != "" {
			return mode
		}
	case "map":
		return "over " + text("over")
	case "workflow":
		return text("workflow")
	case "agent":
		return text("model")
	}
	return ""
}

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
