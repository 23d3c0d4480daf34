package flow

import (
	"encoding/json"
	"fmt"
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
var roots = []string{"variables", "stepResults", "steps", "trigger", "workflowId", "executionId", "version", "startedAt", "costAccumulator", "item", "index", "secrets", "webhooks"}

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
		switch {
		case u.optional || second == "":
		case there.has("variable:" + second):
			k.mayBeSkipped(at, second, u, steps)
		default:
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
		} else if u.changed {
			k.f.fault(at, "write {{"+u.path.String()+"}}", "{{%s}}: a secret is sent as it is, without ? and filters, so that it is known where it comes back", u.path)
		} else {
			k.secret(at, second, "calls with it fail", nil)
		}
	case "webhooks":
		k.callback(s, at, second, u, steps)
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
	for _, p := range s.params() {
		for _, v := range p.fields {
			v.each(func(here *node, _ *template) { k.sent[here] = true })
		}
	}
	return k.sent[at]
}

// params are those that a step gives to services.
func (s *step) params() (all []*params) {
	switch w := s.work.(type) {
	case *call:
		all = append(all, w.params)
	case *wait:
		for _, n := range w.notices {
			all = append(all, n.params)
		}
	case *agentWork:
		for _, t := range w.tools {
			if t.with != nil {
				all = append(all, t.with)
			}
		}
	}
	return all
}

// mayBeSkipped warns of a variable that a step sets which may be skipped, where no start is sure to give it.
func (k *checker) mayBeSkipped(at *node, name string, u use, steps *around) {
	if slices.Contains(k.inputs().Required, name) {
		return
	}
	first := ""
	for a := steps; a != nil; a = a.outer {
		for _, id := range a.by["variable:"+name] {
			if !a.own[id].skips() {
				return
			}
			if first == "" || id < first {
				first = id
			}
		}
	}
	if first != "" {
		k.f.warn(at, "say what stands for it then: "+u.instead(), "{{%s}}: step %q sets it, and may be skipped", u.path, first)
	}
}

// variable checks the name of a variable that no step is sure to have set.
func (k *checker) variable(s *step, at *node, name string, u use, steps *around) {
	inputs := k.inputs()
	if slices.Contains(inputs.Required, name) {
		return // whatever steps make of it
	}
	if id := steps.sets("variable:" + name); id != "" {
		k.f.fault(at, "let all ways set it, let inputs require it, or say what stands for it: "+u.instead(), "{{%s}}: step %q sets %q, but is not on every way to step %q", u.path, id, name, s.id)
		return
	}
	_, is := inputs.Properties[name]
	if within := k.inner()[name]; within != "" && !is {
		hint := fmt.Sprintf("read it below stepResults.%s, or say what stands for it: %s", within, u.instead())
		if inputs.Properties == nil { // a start may give it
			k.f.warn(at, hint, "{{%s}}: steps within step %q set it, which only they see", u.path, within)
		} else {
			k.f.fault(at, hint, "{{%s}}: steps within step %q set it, which only they see", u.path, within)
		}
		return
	}
	if inputs.Properties == nil {
		return // nobody says what a run starts with
	}
	switch {
	case !is:
		hint := k.f.did(name, inputs.names)
		if hint == "" && u.condition && strings.Contains(name, "-") {
			hint = "if it is a subtraction, put spaces around the -"
		}
		k.f.fault(at, hint, "{{%s}}: inputs have no %q, and no step sets it", u.path, name)
	default:
		k.f.warn(at, "let inputs require it, or say what stands for it: "+u.instead(), "{{%s}}: a run may start without %q, and then the step fails", u.path, name)
	}
}

// inner are the variables that steps of branches and maps set, by the outermost step around them.
func (k *checker) inner() map[string]string {
	if k.within == nil {
		k.within = map[string]string{}
		for _, s := range k.flow.main.steps {
			for _, inner := range s.graphs() {
				inner.each(func(of *step) {
					for fact := range of.brings() {
						if name, is := strings.CutPrefix(fact, "variable:"); is && k.within[name] == "" {
							k.within[name] = s.id
						}
					}
				})
			}
		}
	}
	return k.within
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
	if of.skips() && !u.optional && !failed(u.path) {
		k.f.warn(at, "say what stands for it then: "+u.instead(), "{{%s}}: step %q may be skipped, and then has no output", u.path, id)
	}
	k.field(at, of, u, 2)
}

// field checks what is read of a step's result, from the n-th part of a path on.
func (k *checker) field(at *node, of *step, u use, n int) {
	if len(u.path) <= n {
		return
	}
	fields := resultFields
	if of.variable != "" {
		fields = append(slices.Clone(fields), of.variable)
	}
	branches, is := of.work.(*parallel)
	if is {
		fields = append(slices.Clone(fields), "branches")
	}
	switch name := u.path[n]; {
	case name.IsIndex || !slices.Contains(fields, name.Name):
		hint := k.f.did(name.Name, fields)
		if hint == "" {
			hint = "the output of step " + of.id + " is " + append(slices.Clone(u.path[:n]), Segment{Name: "output"}).String()
		}
		k.f.fault(at, hint, "{{%s}}: the result of step %q has no %q", u.path, of.id, name.Name)
	case len(u.path) == n+1:
	case name.Name == "branches":
		k.branch(at, of, branches, u, n+1, []string{"steps"})
	case is && (name.Name == "output" || name.Name == of.variable):
		k.branch(at, of, branches, u, n+1, []string{"branchId", "status", "results", "output", "error"})
	case name.Name == "output" || name.Name == of.variable:
		k.below(at, of, u, n+1)
	}
}

// branch checks what is read of a branch, whose name is the n-th part of a path.
func (k *checker) branch(at *node, of *step, p *parallel, u use, n int, fields []string) {
	ids := make([]string, len(p.branches))
	for i, b := range p.branches {
		ids[i] = b.id
	}
	which := slices.Index(ids, u.path[n].Name)
	if which < 0 {
		k.f.fault(at, k.f.did(u.path[n].Name, ids), "{{%s}}: step %q has no branch %q", u.path, of.id, u.path[n].Name)
		return
	}
	if len(u.path) == n+1 {
		return
	}
	switch name := u.path[n+1].Name; {
	case !slices.Contains(fields, name):
		hint := k.f.did(name, fields)
		if hint == "" {
			hint = "write " + append(slices.Clone(u.path[:n+1]), Segment{Name: fields[0]}).String()
		}
		k.f.fault(at, hint, "{{%s}}: a branch has no %q", u.path, name)
	case len(u.path) > n+2 && (name == "steps" || name == "results"):
		inner := p.branches[which].graph
		id := u.path[n+2].Name
		if inner.by[id] == nil {
			k.f.fault(at, k.f.did(id, sortedNames(inner.by)), "{{%s}}: branch %q of step %q has no step %q", u.path, ids[which], of.id, id)
			return
		}
		k.field(at, inner.by[id], u, n+3)
	}
}

// skips reports whether the step may be skipped.
func (s *step) skips() bool { return s.at.get("when") != nil || s.onFailure == "skip" }

// failed reports whether a path asks how a step ended, which is also there when it failed.
func failed(p Path) bool {
	return len(p) > 2 && (p[2].Name == "status" || p[2].Name == "error")
}

// below checks what is read of an output whose form is known, from the n-th part of a path on.
func (k *checker) below(at *node, of *step, u use, n int) {
	name := u.path[n]
	switch w := of.work.(type) {
	case *decision:
		switch w.format {
		case "", "text", "enum", "number", "boolean":
			k.f.fault(at, "", "{{%s}}: the output of step %q is of outputFormat %s, and has nothing in it", u.path, of.id, w.formatName())
		case "json":
			schema := k.answer(of)
			if schema.Properties == nil || name.IsIndex {
				return
			}
			if _, is := schema.Properties[name.Name]; !is {
				k.f.fault(at, k.f.did(name.Name, schema.names), "{{%s}}: the outputSchema of step %q has no %q", u.path, of.id, name.Name)
			}
		}
	case *wait:
		if names := []string{"approved", "by", "comment", "at", "form"}; w.what == "approval" && !slices.Contains(names, name.Name) {
			k.f.fault(at, k.f.did(name.Name, names), "{{%s}}: a decision has no %q", u.path, name.Name)
		}
	}
}
