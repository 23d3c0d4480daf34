package flowtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/internal/spelling"
)

// Cases are those of one flow, as its file holds them.
type Cases []Case

// Case is one run, and what must come of it. Values are as JSON has them; whole numbers are int64.
type Case struct {
	Name  string
	Line  int            // in the file; 0: not known
	Input map[string]any // the variables
	// Answers of models, by the id of the step. A text is what the model says; any other value is said as JSON; {"error": {"code",
	// "message"}} fails the call; of an agent, {"toolCalls": [{"name", "arguments"}]} calls tools. A list is taken in order, one for each call.
	Answers map[string]any
	// Services are what calls of service steps return, by the id of the step, those of an agent's tools by that of the agent, and those
	// that tell people of an approval by that of the wait: a value, or {"error": {"code", "message"}}, or a list of these, taken in order. Left out, a call returns {}.
	Services map[string]any
	// Waits are what waits get: of an approval {"approved", "by", "comment", "form"}, the data of an event, the body of a request; or
	// {"timeout": true}. A list is taken in order.
	Waits map[string]any
	// Children are outputs of workflow steps, or {"error": {"code", "message"}}. A list is taken in order.
	Children map[string]any
	Expect   Expect
}

// Expect is what must come of a run. What is left out is not looked at, but a run must complete unless Status, Error or Path say
// that it fails.
type Expect struct {
	Path      []string       // steps of the main graph in order, with end or fail behind them
	Status    string         // completed, failed
	Output    any            // equal
	HasOutput bool           // Output is given, which may be null
	Variables map[string]any // contained in those at the end
	// Calls are parameters that are contained in those of a step's call, by the id of the step: of a service, of what tells people of an
	// approval, or the input of a child. A list
	// is of all calls in order; null: there must be none.
	Calls map[string]any
	Error string // contained in the run's error
}

// Problem is something that is wrong with a file of cases. See [flow.Problem].
type Problem = flow.Problem

// ReadCases reads a file of cases, YAML or JSON. The error is of type [flow.Problems] and holds everything that is wrong.
func ReadCases(data []byte) (Cases, error) {
	root, where, err := flow.Decode(data)
	if err != nil {
		return nil, err
	}
	r := &caseReader{where: where}
	var cases Cases
	top := r.object("", root, "cases", "$schema")
	list, is := top["cases"].([]any)
	if !is || len(list) == 0 {
		if len(r.found) == 0 {
			r.fault("/cases", "write cases: and below it - name: …", "the file has no cases")
		}
		return nil, r.found
	}
	seen := map[string]bool{}
	for i, one := range list {
		at := "/cases/" + strconv.Itoa(i)
		c := r.one(at, one)
		if seen[c.Name] && c.Name != "" {
			r.fault(at+"/name", "", "another case is called %q too", c.Name)
		}
		seen[c.Name] = true
		cases = append(cases, c)
	}
	if len(r.found) > 0 {
		return nil, r.found
	}
	return cases, nil
}

// caseReader gathers what is wrong.
type caseReader struct {
	where func(string) (line, column int)
	found flow.Problems
}

func (r *caseReader) fault(at, hint, format string, args ...any) {
	line, column := r.where(at)
	r.found = append(r.found, Problem{Pointer: at, Line: line, Column: column, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// object reads an object whose fields are known; none are known: any.
func (r *caseReader) object(at string, v any, known ...string) map[string]any {
	if v == nil {
		return nil
	}
	object, is := v.(map[string]any)
	if !is {
		r.fault(at, "", "it must be an object")
		return nil
	}
	if len(known) > 0 {
		for _, name := range sorted(object) {
			if !slices.Contains(known, name) {
				r.fault(at+"/"+name, spelling.Choice(name, known), "there is no field %q", name)
			}
		}
	}
	return object
}

func (r *caseReader) text(at string, v any) string {
	text, is := v.(string)
	if !is && v != nil {
		r.fault(at, "", "it must be a text")
	}
	return text
}

func (r *caseReader) one(at string, v any) Case {
	fields := r.object(at, v, "name", "input", "answers", "services", "waits", "children", "expect")
	part := func(name string) map[string]any { return r.object(at+"/"+name, fields[name]) }
	c := Case{Name: r.text(at+"/name", fields["name"]), Input: part("input"), Answers: part("answers"), Services: part("services"), Waits: part("waits"), Children: part("children")}
	c.Line, _ = r.where(at)
	if fields != nil && c.Name == "" {
		r.fault(at, "give it a name: it is told when the case fails", "a case has no name")
	}
	at += "/expect"
	expect := r.object(at, fields["expect"], "path", "status", "output", "variables", "calls", "error")
	e := Expect{Status: r.text(at+"/status", expect["status"]), Error: r.text(at+"/error", expect["error"]), Variables: r.object(at+"/variables", expect["variables"]), Calls: r.object(at+"/calls", expect["calls"])}
	e.Output, e.HasOutput = expect["output"]
	if e.Status != "" && e.Status != "completed" && e.Status != "failed" {
		r.fault(at+"/status", "write completed or failed", "there is no status %q", e.Status)
	}
	if path := expect["path"]; path != nil {
		list, is := path.([]any)
		if !is {
			r.fault(at+"/path", "write [first, second, end]", "it must be a list of steps")
		}
		for i, id := range list {
			e.Path = append(e.Path, r.text(at+"/path/"+strconv.Itoa(i), id))
		}
	}
	c.Expect = e
	return c
}

// check says which names of a case are none of the flow's.
func (c *Case) check(d *document) (faults []string) {
	look := func(field string, of map[string]any, kinds ...string) {
		var known []string
		for _, id := range sorted(d.nodes) {
			if slices.Contains(kinds, d.nodes[id].kind) {
				known = append(known, id)
			}
		}
		for _, id := range sorted(of) {
			if slices.Contains(known, id) {
				continue
			}
			hint := spelling.Choice(id, known)
			if n := d.nodes[id]; n != nil {
				hint = fmt.Sprintf("%s is of type %s", id, n.kind)
			}
			faults = append(faults, fmt.Sprintf("%s: the flow has no step %q of type %s; %s", field, id, strings.Join(kinds, " or "), hint))
		}
	}
	look("answers", c.Answers, "ai-decision", "agent")
	look("services", c.Services, "service", "agent", "wait")
	look("waits", c.Waits, "wait", "agent")
	look("children", c.Children, "workflow", "agent")
	look("expect.calls", c.Expect.Calls, "service", "workflow", "agent", "wait")
	var main []string
	for _, n := range d.main {
		main = append(main, n.id)
	}
	main = append(main, flow.End, flow.Fail)
	for _, id := range c.Expect.Path {
		if !slices.Contains(main, id) {
			faults = append(faults, fmt.Sprintf("expect.path: the main graph has no step %q; %s", id, spelling.Choice(id, main)))
		}
	}
	for _, id := range sorted(c.Waits) {
		if n := d.nodes[id]; n != nil && n.kind == "wait" {
			if err := n.takesWait(c.Waits[id]); err != nil {
				faults = append(faults, fmt.Sprintf("waits.%s: %v", id, err))
			}
		}
	}
	return faults
}

// takesWait reports why a wait can't be given something.
func (n *node) takesWait(v any) error {
	if n.is("for") == "delay" {
		return errors.New("a delay takes no answer: it is not waited for")
	}
	all := inOrder(v)
	for _, one := range all {
		if timesOut(one) && len(all) > 1 {
			return errors.New("timeout can't stand in a list: write {timeout: true}, and other cases for the rest")
		}
		if timesOut(one) && n.config["timeoutMs"] == nil && n.is("for") != "approval" {
			return errors.New("it can't time out: the step has no timeoutMs")
		}
		if object, is := one.(map[string]any); n.is("for") == "approval" && !timesOut(one) {
			if _, told := object["approved"].(bool); !is || !told {
				return errors.New("an approval needs {approved: true} or {approved: false}, and may have by, comment and form")
			}
		}
	}
	return nil
}

func timesOut(v any) bool {
	object, is := v.(map[string]any)
	return is && len(object) == 1 && object["timeout"] == true
}

// inOrder is the list of a value that may be one.
func inOrder(v any) []any {
	if list, is := v.([]any); is {
		return list
	}
	return []any{v}
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// words is a value for people, as JSON.
func words(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if text := []rune(string(data)); len(text) > 300 {
		return string(text[:300]) + "…"
	}
	return string(data)
}
