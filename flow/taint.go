package flow

import (
	"reflect"
	"slices"

	"github.com/pawlrun/pawl/service"
)

// words finds what a model may have written: its words may say anything, so they must not choose who is written to and
// which address is called. What it could only choose from, values of an enum, numbers and truths, is not meant.
type words map[string]bool // "step:id", "variable:name", "item:id of the map"; "step:" and "variable:" if there is one

// wordsOf finds them in a graph and those in it. Each step is looked at once, and what it may hand on goes no way twice: a document
// may have its steps in any order.
func wordsOf(g graph) words {
	t := words{}
	h := hands{on: map[string][]string{}}
	h.graph(g, "")
	for len(h.found) > 0 {
		key := h.found[len(h.found)-1]
		h.found = h.found[:len(h.found)-1]
		if !t[key] {
			t[key] = true
			h.found = append(h.found, h.on[key]...)
		}
	}
	return t
}

// hands are what steps hand on: if a model may have written what one key is of, it may have written what others are of.
type hands struct {
	on    map[string][]string
	found []string // keys that are known to be a model's
}

// give lets what paths lead to come to keys.
func (h *hands) give(uses []use, item string, to ...string) {
	for _, u := range uses {
		if key, always := leadsTo(u.path, item); always {
			h.found = append(h.found, to...)
		} else if key != "" {
			h.on[key] = append(h.on[key], to...)
		}
	}
}

// graph goes through steps. Item is the key of the item that they see; "": they see none.
func (h *hands) graph(g graph, item string) {
	for _, s := range g.steps {
		h.step(s, item)
	}
}

func (h *hands) step(s *step, item string) {
	own := "step:" + s.id
	h.on[own] = append(h.on[own], "step:")
	if s.variable != "" {
		h.on[own] = append(h.on[own], "variable:"+s.variable, "variable:")
	}
	inner := func(g graph, item string) {
		h.graph(g, item)
		for _, in := range g.steps {
			h.on["step:"+in.id] = append(h.on["step:"+in.id], own)
		}
	}
	switch w := s.work.(type) {
	case *decision:
		if w.format == "json" || w.format == "text" || w.format == "" {
			h.found = append(h.found, own)
		}
	case *child, *agentWork:
		h.found = append(h.found, own)
	case *transform:
		h.give(w.expression.paths(), item, own)
		for name, c := range w.set {
			h.give(c.paths(), item, own, "variable:"+name, "variable:")
		}
	case *parallel:
		for _, b := range w.branches {
			inner(b.graph, item)
		}
	case *each:
		of := "item:" + s.id
		h.give(w.over.paths(), item, of, own)
		inner(w.graph, of)
	}
}

// leadsTo is the key of what a path leads to; "": nothing that a model could have written. Always: it is a model's.
func leadsTo(p Path, item string) (key string, always bool) {
	second := ""
	if len(p) > 1 {
		second = p[1].Name
	}
	switch p[0].Name {
	case "variables":
		return "variable:" + second, false
	case "stepResults", "steps":
		if len(p) > 2 {
			if p[2].Name == "rawOutput" || p[2].Name == "error" && !(len(p) > 3 && p[3].Name == "code") { // an error quotes what did not fit
				return "", true
			}
			if !slices.Contains([]string{"output", "branches"}, p[2].Name) && slices.Contains(resultFields, p[2].Name) {
				return "", false
			}
		}
		return "step:" + second, false
	case "item":
		return item, false
	case "output":
		return "", true
	case "approval": // of a notice: what is shown may be a model's words
		return "", !slices.Contains([]string{"id", "what", "link", "button", "approver", "expires"}, second)
	}
	return "", false
}

// read reports whether a path may lead to what a model wrote. Item is the key of the item that is seen there. With steps it looks at what their
// outputs may be.
func (t words) read(p Path, item string, steps *around) bool {
	key, always := leadsTo(p, item)
	if !always && len(p) > 3 && (p[0].Name == "stepResults" || p[0].Name == "steps") {
		if d, is := workOf(steps.find(p[1].Name)).(*decision); is && d.chosen(p[3:]) {
			return false
		}
	}
	return always || t[key]
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
func (k *checker) trust(g graph, item string, steps *around) {
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
			k.trust(w.graph, "item:"+s.id, newAround(w.graph, steps))
		}
	}
}

func (k *checker) trustIn(of *params, allow []string, item string, steps *around) {
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
