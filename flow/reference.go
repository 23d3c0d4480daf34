package flow

import (
	"encoding/json"
	"slices"
	"strings"
)

// references checks that what templates and conditions read is there on every way to their step.
func (k *checker) references(g graph, before known, outer *around, in inside) {
	ways := newWays(g, before)
	steps := newAround(g, outer)
	for _, s := range g.steps {
		there := known{ways: ways, step: s}
		look := func(at *node, u use) { k.reference(s, at, u, there, steps, in) }
		for _, u := range s.when.paths() {
			look(s.at.get("when"), u)
		}
		if _, is := s.work.(*parallel); !is { // its branches are looked at as graphs
			s.work.reads(look)
		}
		after := known{ways: ways, step: s, completed: s.brings()}
		for _, w := range s.next.when {
			for _, u := range w.when.paths() {
				if u.path[0].Name != "output" {
					k.reference(s, w.at.get("when"), u, after, steps, in)
				}
			}
		}
		_, item := s.work.(*each)
		for _, inner := range s.graphs() {
			k.graph(inner, there, steps, inside{item: in.item || item})
		}
	}
}

// roots are the names with which a path may begin.
var roots = []string{"variables", "stepResults", "steps", "trigger", "workflowId", "executionId", "version", "startedAt", "costAccumulator", "item", "index", "secrets"}

// reference checks one path.
func (k *checker) reference(s *step, at *node, u use, there known, steps *around, in inside) {
	root := u.path[0].Name
	second := ""
	if len(u.path) > 1 {
		second = u.path[1].Name
	}
	switch root {
	case "variables":
		k.read["variable:"+second] = true
		if !u.optional && second != "" && !there.has("variable:"+second) {
			k.variable(s, at, second, u, steps)
		}
	case "stepResults", "steps":
		if second == "" {
			return
		}
		k.read["step:"+second] = true
		k.stepResult(s, at, second, u, there, steps)
	case "secrets":
		if u.condition || !k.sends(s, at) {
			k.f.fault(at, "", "{{%s}}: secrets go to services only", u.path)
		} else if len(u.path) != 2 {
			k.f.fault(at, "name one: {{secrets.name}}", "{{%s}} names no secret", u.path)
		}
	case "item", "index":
		if !in.item {
			k.f.fault(at, "", "{{%s}}: there is an %s only within the steps of a map", u.path, root)
		}
	default:
		if !slices.Contains(roots, root) {
			hint := k.f.did(root, roots)
			if hint == "" && u.condition && len(u.path) == 1 {
				hint = "a text stands in quotes: '" + root + "'"
			}
			if steps.find(root) != nil {
				hint = "write stepResults." + u.path.String()
			}
			k.f.fault(at, hint, "{{%s}}: there is nothing called %q", u.path, root)
		}
	}
}

// answer is what the outputSchema of a decision says.
func (k *checker) answer(of *step) *said {
	if k.answers == nil {
		k.answers = map[*step]*said{}
	}
	if k.answers[of] == nil {
		k.answers[of] = saidIn(schemaText(of.at.get("config").get("outputSchema")))
	}
	return k.answers[of]
}

// sends reports whether a place of the document is a parameter of a service, which may hold secrets.
func (k *checker) sends(s *step, at *node) bool {
	if k.sender == s {
		return k.sent[at]
	}
	k.sender, k.sent = s, map[*node]bool{} // the step is looked at as a whole: its places come one after the other
	var all []*params
	switch w := s.work.(type) {
	case *call:
		all = append(all, w.params)
	case *agentWork:
		for _, t := range w.tools {
			if t.with != nil {
				all = append(all, t.with)
			}
		}
	}
	for _, p := range all {
		for _, v := range p.fields {
			v.each(func(here *node, _ *template) { k.sent[here] = true })
		}
	}
	return k.sent[at]
}

// variable checks the name of a variable that no step is sure to have set.
func (k *checker) variable(s *step, at *node, name string, u use, steps *around) {
	if id := steps.sets("variable:" + name); id != "" {
		k.f.fault(at, "let all ways set it, or say what stands for it: "+u.instead(), "{{%s}}: step %q sets %q, but is not on every way to step %q", u.path, id, name, s.id)
		return
	}
	inputs := k.inputs()
	if inputs.Properties == nil {
		return // nobody says what a run starts with
	}
	_, is := inputs.Properties[name]
	switch {
	case !is:
		hint := k.f.did(name, inputs.names)
		if hint == "" && u.condition && strings.Contains(name, "-") {
			hint = "if it is a subtraction, put spaces around the -"
		}
		k.f.fault(at, hint, "{{%s}}: inputs have no %q, and no step sets it", u.path, name)
	case !slices.Contains(inputs.Required, name):
		k.f.warn(at, "let inputs require it, or say what stands for it: "+u.instead(), "{{%s}}: a run may start without %q, and then the step fails", u.path, name)
	}
}

// said is what a JSON Schema says of the names of an object, as far as the checks ask.
type said struct {
	Properties map[string]json.RawMessage `json:"properties"`
	Required   []string                   `json:"required"`

	names []string // of Properties, sorted
}

// saidIn reads a schema of the document; what is none says nothing.
func saidIn(data json.RawMessage) *said {
	s := &said{}
	if data == nil || json.Unmarshal(data, s) != nil {
		return &said{}
	}
	s.names = sortedNames(s.Properties)
	return s
}

// inputs is what the flow says of the variables with which a run starts.
func (k *checker) inputs() *said {
	if k.starts == nil {
		k.starts = saidIn(k.flow.Inputs)
	}
	return k.starts
}

// resultFields are what there is of each step.
var resultFields = []string{"output", "rawOutput", "tokenUsage", "cost", "status", "startedAt", "completedAt", "error"}

// stepResult checks what is read of a step's result.
func (k *checker) stepResult(s *step, at *node, id string, u use, there known, steps *around) {
	of := steps.find(id)
	if of == nil {
		k.f.fault(at, k.f.did(id, steps.all()), "{{%s}}: there is no step %q here", u.path, id)
		return
	}
	if !there.has("step:"+id) && !u.optional && !failed(u.path) {
		if id == s.id {
			k.f.fault(at, "", "{{%s}}: step %q reads its own result", u.path, id)
		} else {
			k.f.fault(at, "let all ways go over it, or say what stands for it: "+u.instead(), "{{%s}}: step %q is not on every way to step %q", u.path, id, s.id)
		}
		return
	}
	if (of.when != nil || of.onFailure == "skip") && !u.optional && !failed(u.path) {
		k.f.warn(at, "say what stands for it then: "+u.instead(), "{{%s}}: step %q may be skipped, and then has no output", u.path, id)
	}
	if len(u.path) < 3 {
		return
	}
	fields := resultFields
	if of.variable != "" {
		fields = append(slices.Clone(fields), of.variable)
	}
	if _, is := of.work.(*parallel); is {
		fields = append(slices.Clone(fields), "branches")
	}
	third := u.path[2]
	switch {
	case third.IsIndex || !slices.Contains(fields, third.Name):
		hint := k.f.did(third.Name, fields)
		if hint == "" {
			hint = "the output of step " + id + " is " + Path{u.path[0], u.path[1], {Name: "output"}}.String()
		}
		k.f.fault(at, hint, "{{%s}}: the result of step %q has no %q", u.path, id, third.Name)
	case (third.Name == "output" || third.Name == of.variable) && len(u.path) > 3:
		k.below(at, of, u)
	}
}

// failed reports whether a path asks how a step ended, which is also there when it failed.
func failed(p Path) bool {
	return len(p) > 2 && (p[2].Name == "status" || p[2].Name == "error")
}

// below checks what is read of an output whose form is known.
func (k *checker) below(at *node, of *step, u use) {
	fourth := u.path[3]
	switch w := of.work.(type) {
	case *decision:
		switch w.format {
		case "", "text", "enum", "number", "boolean":
			k.f.fault(at, "", "{{%s}}: the output of step %q is of outputFormat %s, and has nothing in it", u.path, of.id, w.formatName())
		case "json":
			schema := k.answer(of)
			if schema.Properties == nil || fourth.IsIndex {
				return
			}
			if _, is := schema.Properties[fourth.Name]; !is {
				k.f.fault(at, k.f.did(fourth.Name, schema.names), "{{%s}}: the outputSchema of step %q has no %q", u.path, of.id, fourth.Name)
			}
		}
	case *parallel:
		ids := make([]string, len(w.branches))
		for i, b := range w.branches {
			ids[i] = b.id
		}
		if !slices.Contains(ids, fourth.Name) {
			k.f.fault(at, k.f.did(fourth.Name, ids), "{{%s}}: step %q has no branch %q", u.path, of.id, fourth.Name)
		}
	case *wait:
		if names := []string{"approved", "by", "comment", "at", "form"}; w.what == "approval" && !slices.Contains(names, fourth.Name) {
			k.f.fault(at, k.f.did(fourth.Name, names), "{{%s}}: a decision has no %q", u.path, fourth.Name)
		}
	}
}
