package flow

import (
	"reflect"
	"slices"

	"github.com/pawlrun/pawl/service"
)

// words finds what a model may have written: its words may say anything, so they must not choose who is written to and
// which address is called. What it could only choose from, values of an enum, numbers and truths, is not meant.
type words map[string]bool // "step:id", "variable:name", "variable:" if there is one, "item:id of the map"

// wordsOf goes through a flow's steps until nothing new is found.
func wordsOf(g graph) words {
	t := words{}
	for before := -1; before < len(t); {
		before = len(t)
		t.graph(g, false)
	}
	return t
}

func (t words) graph(g graph, item bool) (any bool) {
	for _, s := range g.steps {
		if t.step(s, item) {
			any = true
		}
	}
	return any
}

// step marks what a step brings, and reports whether a model may have written it.
func (t words) step(s *step, item bool) bool {
	wrote := false
	switch w := s.work.(type) {
	case *decision:
		wrote = w.format == "json" || w.format == "text" || w.format == ""
	case *child, *agentWork:
		wrote = true
	case *transform:
		for _, u := range w.expression.paths() {
			wrote = wrote || t.read(u.path, item, nil)
		}
		for name, c := range w.set {
			for _, u := range c.paths() {
				if t.read(u.path, item, nil) {
					wrote, t["variable:"+name], t["variable:"] = true, true, true
				}
			}
		}
	case *parallel:
		for _, b := range w.branches {
			wrote = t.graph(b.graph, item) || wrote
		}
	case *each:
		over := false
		for _, u := range w.over.paths() {
			over = over || t.read(u.path, item, nil)
		}
		if over {
			t["item:"+s.id] = true
		}
		wrote = t.graph(w.graph, over) || over
	}
	if wrote {
		t["step:"+s.id] = true
		if s.variable != "" {
			t["variable:"+s.variable], t["variable:"] = true, true
		}
	}
	return wrote
}

// read reports whether a path may lead to what a model wrote. With steps it looks at what their outputs may be.
func (t words) read(p Path, item bool, steps *around) bool {
	second := ""
	if len(p) > 1 {
		second = p[1].Name
	}
	switch p[0].Name {
	case "variables":
		if second != "" {
			return t["variable:"+second]
		}
		return t["variable:"]
	case "stepResults", "steps":
		if second == "" {
			return len(t) > 0
		}
		if len(p) > 2 {
			if p[2].Name == "rawOutput" || p[2].Name == "error" && !(len(p) > 3 && p[3].Name == "code") { // an error quotes what did not fit
				return true
			}
			if !slices.Contains([]string{"output", "branches"}, p[2].Name) && slices.Contains(resultFields, p[2].Name) {
				return false
			}
		}
		if d, is := workOf(steps.find(second)).(*decision); is && len(p) > 3 && d.chosen(p[3:]) {
			return false
		}
		return t["step:"+second]
	case "item":
		return item
	case "output":
		return true
	case "approval": // of a notice: what is shown may be a model's words
		return !slices.Contains([]string{"id", "what", "link", "button", "approver", "expires"}, second)
	}
	return false
}

func workOf(s *step) worker {
	if s == nil {
		return nil
	}
	return s.work
}

// chosen reports whether what lies below an output of JSON could only be chosen from what its schema names.
func (d *decision) chosen(below Path) bool {
	at := d.schema
	for _, segment := range below {
		if segment.IsIndex {
			at = at.get("items")
		} else {
			at = at.get("properties").get(segment.Name)
		}
	}
	kinds := at.get("type").strs()
	return at.get("enum") != nil || at.get("const") != nil || len(kinds) == 1 && slices.Contains([]string{"boolean", "integer", "number"}, kinds[0])
}

// trusted reports whether a part of a schema says who or what is reached, in itself or in what it is combined of. With
// below it looks at all that lies in it too, as for a value that is filled in whole.
func trusted(k *paramCheck, schema any, below bool) bool {
	return says(k, schema, below, func(leaf map[string]any) bool { return leaf[service.Trusted] == true })
}

// unwritten reports whether a part of a schema, or of what lies in it, takes no templates.
func unwritten(k *paramCheck, schema any) bool {
	return says(k, schema, true, func(leaf map[string]any) bool { return leaf["x-pawl-fill"] == string(service.FillNone) })
}

func says(k *paramCheck, schema any, below bool, is func(leaf map[string]any) bool) bool {
	seen := map[uintptr]bool{}
	var look func(schema any) bool
	look = func(schema any) bool {
		if list, is := schema.([]any); is {
			return slices.ContainsFunc(list, look)
		}
		leaf := k.resolve(schema)
		at := reflect.ValueOf(leaf).Pointer()
		if leaf == nil || seen[at] {
			return false
		}
		seen[at] = true
		if is(leaf) {
			return true
		}
		for _, key := range []string{"anyOf", "oneOf", "allOf", "if", "then", "else"} {
			if look(leaf[key]) {
				return true
			}
		}
		if !below {
			return false
		}
		for _, key := range []string{"items", "prefixItems", "additionalProperties"} {
			if look(leaf[key]) {
				return true
			}
		}
		for _, key := range []string{"properties", "patternProperties"} {
			named, _ := leaf[key].(map[string]any)
			for _, one := range named {
				if look(one) {
					return true
				}
			}
		}
		return false
	}
	return look(schema)
}

// trust checks that no words of a model choose who is written to.
func (k *checker) trust(g graph, item bool, steps *around) {
	for _, s := range g.steps {
		switch w := s.work.(type) {
		case *call:
			k.trustIn(w.params, w.allow, item, steps)
		case *wait:
			for _, n := range w.notices {
				k.trustIn(n.params, n.allow, item, steps)
			}
		case *agentWork:
			for _, t := range w.tools {
				if t.with != nil {
					k.trustIn(t.with, w.allow, item, steps)
				}
			}
		case *parallel:
			for _, b := range w.branches {
				k.trust(b.graph, item, newAround(b.graph, steps))
			}
		case *each:
			k.trust(w.graph, k.words["item:"+s.id], newAround(w.graph, steps))
		}
	}
}

func (k *checker) trustIn(of *params, allow []string, item bool, steps *around) {
	for _, p := range of.trusted {
		for _, u := range p.paths() {
			if !slices.Contains(allow, p.param) && k.words.read(u.path, item, steps) {
				hint := `choose it with next and an enum, let an approval stand before it and write "allowModel": ["` + p.param + `"], or take it from elsewhere`
				if k.world.ByModel {
					hint = "write it down, take it from the variables that a run starts with, or choose between steps with next and an enum"
				}
				k.f.fault(p.at, hint,
					"{{%s}}: a model may have written it, and %s of %s says who or what is reached", u.path, p.param, of.of)
			}
		}
	}
}
