package flow

import (
	"bytes"
	"encoding/json"
	"slices"

	closed "github.com/pawlrun/pawl/internal/schema"
	"github.com/pawlrun/pawl/service"
)

// lists finds how many items the maps of a flow go over at most, as far as JSON Schemas say that: of inputs, of answers, of what
// a wait takes and a service returns. What nothing is said of has as many as all maps of a run together may have.
type lists struct {
	flow    *Flow
	steps   map[string][]*step // by their ids: one in a branch may be called as one in another
	setters map[string][]*step // by the variables that they set
	spots   map[*step]spot
	maps    map[*each]*step
	found   map[*each]int64
	schemas map[*step]schema
	left    int // paths that are followed for one map
}

// spot is where a step stands.
type spot struct {
	in    *step // the map around it; nil: none
	there known // what is there when it begins
}

// maxFollowed bounds how many paths are followed for one map: steps may read each other's results in circles.
const maxFollowed = 200

func newLists(f *Flow) *lists {
	l := &lists{flow: f, steps: map[string][]*step{}, setters: map[string][]*step{}, spots: map[*step]spot{}, maps: map[*each]*step{}, found: map[*each]int64{}, schemas: map[*step]schema{}}
	l.graph(f.main, known{}, nil)
	return l
}

func (l *lists) graph(g graph, before known, in *step) {
	if len(g.steps) == 0 {
		return
	}
	ways := newWays(g, before)
	for _, s := range g.steps {
		at := spot{in, known{ways: ways, step: s}}
		l.spots[s] = at
		l.steps[s.id] = append(l.steps[s.id], s)
		names := []string{s.variable}
		if t, is := s.work.(*transform); is {
			names = append(names, sortedNames(t.set)...)
		}
		for _, name := range names {
			if name != "" && !slices.Contains(l.setters[name], s) {
				l.setters[name] = append(l.setters[name], s)
			}
		}
		around := in
		if w, is := s.work.(*each); is {
			around, l.maps[w] = s, s
		}
		for _, inner := range s.graphs() {
			l.graph(inner, at.there, around)
		}
	}
}

// items is how many a map goes over at most.
func (l *lists) items(w *each) int64 {
	if _, is := l.found[w]; !is {
		l.left = maxFollowed
		l.found[w] = maxItems // if it leads to itself
		l.found[w] = l.condition(w.over, nil, l.maps[w])
	}
	return l.found[w]
}

// condition is how long the list is at most that stands at places of what an expression of a step has for a value.
func (l *lists) condition(c *condition, at []closed.Place, s *step) int64 {
	if c == nil || c.path == nil {
		return maxItems
	}
	places := make([]closed.Place, 0, len(c.path)+len(at))
	for _, p := range c.path {
		places = append(places, closed.Place{Name: p.Name, Item: p.IsIndex, Index: p.Index})
	}
	return l.path(append(places, at...), s)
}

// path is how long the list is at most that a path of a step leads to.
func (l *lists) path(path []closed.Place, s *step) int64 {
	if l.left--; l.left < 0 || len(path) == 0 {
		return maxItems
	}
	second := closed.Place{Item: true}
	if len(path) > 1 {
		second = path[1]
	}
	switch root := path[0].Name; {
	case root == "item" && l.spots[s].in != nil:
		around := l.spots[s].in
		return l.condition(around.work.(*each).over, append([]closed.Place{{Item: true, Index: -1}}, path[1:]...), around)
	case second.Item:
	case root == "variables":
		return l.variable(second.Name, path[2:], s)
	case root == "stepResults" || root == "steps":
		of := l.steps[second.Name]
		if len(path) < 3 || len(of) == 0 {
			return maxItems
		}
		high := int64(0)
		for _, one := range of {
			if name := path[2].Name; name != "output" && (name == "" || name != one.variable) {
				return maxItems
			}
			high = max(high, l.output(one, path[3:]))
		}
		return high
	}
	return maxItems
}

// variable is how long a list in a variable is at most: as it is at the start, unless a step has set it by then, or as any step sets it.
func (l *lists) variable(name string, at []closed.Place, s *step) (high int64) {
	sure := l.spots[s].there.has("variable:" + name)
	for _, by := range l.setters[name] {
		sure = sure && !by.skips()
		if t, is := by.work.(*transform); is && t.set[name] != nil {
			high = max(high, l.condition(t.set[name], at, by))
		}
		if by.variable == name {
			high = max(high, l.output(by, at))
		}
	}
	if sure {
		return high
	}
	if l.flow.Inputs == nil {
		return maxItems
	}
	return max(high, most(l.flow.inputs, append([]closed.Place{{Name: name}}, at...)))
}

// output is how long a list in a step's output is at most.
func (l *lists) output(s *step, at []closed.Place) int64 {
	config := s.at.get("config")
	switch w := s.work.(type) {
	case *decision, *agentWork:
		return most(l.schema(s, schemaText(config.get("outputSchema"))), at)
	case *call:
		return most(l.schema(s, w.result()), at)
	case *wait:
		within := map[string]string{"webhook": "body", "approval": "form"}[w.what]
		if within != "" {
			if len(at) == 0 || at[0].Name != within {
				return maxItems
			}
			at = at[1:]
		}
		return most(l.schema(s, w.schema), at)
	case *transform:
		switch {
		case w.set == nil:
			return l.condition(w.expression, at, s)
		case len(at) > 0 && w.set[at[0].Name] != nil:
			return l.condition(w.set[at[0].Name], at[1:], s)
		}
	case *each:
		if len(at) == 0 {
			return l.items(w)
		}
	}
	return maxItems
}

// result is the schema of what an action returns, with the lists that parameters of this call bound. See service.Most.
func (k *call) result() json.RawMessage {
	if !bytes.Contains(k.action.Result, []byte(service.Most)) {
		return k.action.Result
	}
	var tree any
	if json.Unmarshal(k.action.Result, &tree) != nil {
		return nil
	}
	var bind func(v any)
	bind = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, one := range v {
				bind(one)
			}
		case map[string]any:
			name, _ := v[service.Most].(string)
			if param := k.params.fields[name]; v["maxItems"] == nil && param.at.is(numberKind) {
				v["maxItems"] = param.at.value()
			}
			for _, one := range v {
				bind(one)
			}
		}
	}
	bind(tree)
	data, err := json.Marshal(tree)
	if err != nil {
		return nil
	}
	return data
}

// schema reads what a step's output must fit, once. Nothing is said where there is none.
func (l *lists) schema(s *step, text json.RawMessage) schema {
	known, is := l.schemas[s]
	if !is && text != nil {
		if made, err := compile(text); err == nil {
			known = made
		}
	}
	l.schemas[s] = known
	return known
}

// most is how many items a list has at most of which a schema tells.
func most(s schema, at []closed.Place) int64 {
	if s.Schema == nil {
		return maxItems
	}
	if n, is := s.MostItems(at); is {
		return min(int64(n), maxItems)
	}
	return maxItems
}
