package flow

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// Passage is a step that a run comes to, or leaves.
type Passage struct {
	Step string // its id
	At   string // its place in the document: "/steps/2"; of a step in a branch "/steps/2/config/branches/0/steps/1"
	Over bool   // the run leaves it
	// Of a step that is over:
	Status string // completed, skipped, failed, timed out
	To     string // the step that follows, end or fail; "": the run, or the branch, ends here by an error
	// Passed are the places of [Flow.Points] that the run has come by.
	Passed []string
	// Variables are those that the next step sees. The map is the receiver's own, the values in it are not to be changed.
	Variables map[string]any
}

// enters tells that a run has come to a step.
func (x *run) enters(s *step) {
	if x.trace != nil {
		x.trace(Passage{Step: s.id, At: s.at.pointer()})
	}
}

// leaves tells that a step is over, and where the run goes on.
func (x *run) leaves(s *step, in *scope, r result, way target) {
	if x.trace == nil {
		return
	}
	p := Passage{Step: s.id, At: s.at.pointer(), Over: true, Status: r.status, To: way.to, Variables: maps.Clone(in.variables)}
	if p.Status == "" {
		p.Status = "completed"
	}
	held := r.status != "skipped" || r.failed != nil // else its condition did not
	if held {
		p.Passed = append(p.Passed, s.at.pointer())
	}
	if s.when != nil {
		p.Passed = append(p.Passed, whenPoint(s, held))
	}
	if way.at != nil {
		p.Passed = append(p.Passed, way.at.pointer())
	}
	x.trace(p)
}

// whenPoint names one side of the condition of a step.
func whenPoint(s *step, holds bool) string {
	return s.at.get("when").pointer() + "=" + strconv.FormatBool(holds)
}

// Point is something in a flow that a run can do: carry out a step, go a way, find a condition true or false.
type Point struct {
	At           string // names it: the place in the document, and of a condition which way it went
	Step         string
	Kind         string // step, next, when
	Says         string // a few words for people: "billing leads to ask"
	Line, Column int
}

// Points are all of a flow, in its order.
func (f *Flow) Points() []Point { return pointsOf(f.main, nil) }

func pointsOf(g graph, out []Point) []Point {
	for _, s := range g.steps {
		add := func(at *node, pointer, kind, format string, args ...any) {
			out = append(out, Point{pointer, s.id, kind, fmt.Sprintf(format, args...), at.line, at.column})
		}
		add(s.at, s.at.pointer(), "step", "the step is carried out")
		if s.when != nil {
			at := s.at.get("when")
			for _, holds := range []bool{true, false} {
				add(at, whenPoint(s, holds), "when", "when %s is %v", s.when.source, holds)
			}
		}
		for _, t := range s.targets() {
			add(t.at, t.at.pointer(), "next", "%s", strings.TrimSpace(s.saysWay(t)+" leads to "+t.to))
		}
		switch w := s.work.(type) {
		case *parallel:
			for _, b := range w.branches {
				out = pointsOf(b.graph, out)
			}
		case *each:
			out = pointsOf(w.graph, out)
		}
	}
	return out
}

// saysWay says what makes a run go a way.
func (s *step) saysWay(t target) string {
	switch {
	case t.at == s.at.get("fallbackStep"):
		return "a failure"
	case t.at == s.at.get("config").get("onTimeout"):
		return "a timeout"
	}
	for _, f := range s.next.at.fieldsOf() {
		if f.value == t.at {
			return f.name
		}
	}
	if s.next.at.is(listKind) {
		for _, item := range s.next.at.items {
			if item.get("to") == t.at {
				if when := item.get("when").str(); when != "" {
					return when
				}
				return "else"
			}
		}
	}
	return "the step"
}

// Decode reads JSON or YAML as documents of flows are read: strictly, with the limits of a flow, whole numbers with all their
// digits. where tells the line and the column of a place in it, an RFC 6901 pointer; of one that is not there, those of what it
// would be in. The error is of type [Problems].
func Decode(data []byte) (value any, where func(pointer string) (line, column int), err error) {
	root, err := readDocument(data)
	var bad *syntaxError
	if errors.As(err, &bad) {
		f := &findings{}
		f.fault(&bad.at, bad.hint, "%s", bad.message)
		return nil, nil, f.sorted()
	}
	return root.value(), func(pointer string) (line, column int) {
		n := root
		for name := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
			name = strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
			var inner *node
			if i, err := strconv.Atoi(name); err == nil && n.is(listKind) && i >= 0 && i < len(n.items) {
				inner = n.items[i]
			} else {
				inner = n.get(name)
			}
			if inner == nil {
				break
			}
			n = inner
		}
		return n.line, n.column
	}, nil
}
