package flow

import "strings"

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
