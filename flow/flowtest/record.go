package flowtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
)

// Record makes a case of a run that has completed or failed: of its input, and of what its steps brought. The document is that of
// the version that the run had. notes say what the case does not hold, as the run does not tell it: the earlier outputs of a step that it
// came to several times, and the tools that an agent called.
func Record(x flow.Execution, input json.RawMessage, doc []byte) (c Case, notes []string, err error) {
	if x.Status != pawl.Completed && x.Status != pawl.Failed {
		return c, nil, fmt.Errorf("%w: run %s is %s: a case is made of a run that has completed or failed", pawl.ErrState, x.ExecutionID, x.Status)
	}
	set, _ := world(doc, nil)
	f, err := flow.Parse(doc, flow.World{Services: set, Model: model})
	if err != nil {
		return c, nil, fmt.Errorf("the flow of run %s: %w", x.ExecutionID, err)
	}
	d, err := newDocument(f)
	if err != nil {
		return c, nil, err
	}
	c = Case{Name: "as in run " + x.ExecutionID, Answers: map[string]any{}, Services: map[string]any{}, Waits: map[string]any{}, Children: map[string]any{}}
	if len(input) > 0 {
		v, err := decode(input)
		if err != nil {
			return c, nil, err
		}
		c.Input, _ = v.(map[string]any)
	}
	r := recorder{d: d, c: &c, values: map[string][]any{}}
	r.notes = append(r.notes, x.Truncated...)
	if err := r.steps(x.StepResults, ""); err != nil {
		return c, r.notes, err
	}
	for id, list := range r.values {
		into := map[string]map[string]any{"ai-decision": c.Answers, "agent": c.Answers, "service": c.Services, "wait": c.Waits, "workflow": c.Children}[d.nodes[id].kind]
		if into[id] = any(list); len(list) == 1 {
			if into[id] = list[0]; isList(list[0]) {
				into[id] = list
			}
		}
	}
	c.Expect.Status = x.Status.String()
	c.Expect.Path = pathOf(d, x.StepResults)
	if x.Status == pawl.Completed {
		c.Expect.HasOutput = true
		if len(x.Output) > 0 {
			if c.Expect.Output, err = decode(x.Output); err != nil {
				return c, r.notes, err
			}
		}
	}
	return c, r.notes, nil
}

func isList(v any) bool { _, is := v.([]any); return is }

// recorder gathers what steps were given.
type recorder struct {
	d      *document
	c      *Case
	values map[string][]any // by step
	notes  []string
}

func (r *recorder) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// steps takes the results of a graph, in the order of their ids; those of branches and items too.
func (r *recorder) steps(results map[string]flow.StepResult, at string) error {
	for _, id := range sorted(results) {
		s, n := results[id], r.d.nodes[id]
		if n == nil {
			continue
		}
		for _, name := range inner(s.Branches) {
			if err := r.steps(s.Branches[name].Steps, at+id+"["+name+"]/"); err != nil {
				return err
			}
		}
		if n.kind == "transform" || n.kind == "parallel" || n.kind == "map" || s.Status == "skipped" && s.Error == nil || n.is("for") == "delay" {
			continue
		}
		v, err := given(n, s)
		if err != nil {
			return fmt.Errorf("step %s%s: %w", at, id, err)
		}
		if s.Visits > 1 {
			r.note("%s%s was come to %d times, and the run tells the last output only: the case has it for each; write a list", at, id, s.Visits)
		}
		for range max(s.Visits, 1) {
			r.values[id] = append(r.values[id], v)
		}
		if n.kind == "agent" && n.config["tools"] != nil {
			r.note("%s%s: the case has the last answer of the agent, and not the tools that it called; write them as toolCalls", at, id)
		}
	}
	return nil
}

// inner are names of branches, items of a map by their number.
func inner(of map[string]flow.BranchResult) []string {
	names := sorted(of)
	for i := range names {
		if _, err := strconv.Atoi(names[i]); err != nil {
			return names
		}
	}
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	return names
}

// given is what a step was given, as a case says it.
func given(n *node, s flow.StepResult) (any, error) {
	if s.Error != nil {
		if n.kind == "wait" {
			return map[string]any{"timeout": true}, nil
		}
		failed := map[string]any{"message": s.Error.Message}
		if s.Error.Code != "" {
			failed["code"] = s.Error.Code
		}
		return map[string]any{"error": failed}, nil
	}
	if (n.kind == "ai-decision" || n.kind == "agent") && s.RawOutput != "" {
		return s.RawOutput, nil
	}
	if len(s.Output) == 0 {
		return nil, errors.New("its output is not there")
	}
	v, err := decode(s.Output)
	if err != nil {
		return nil, err
	}
	object, _ := v.(map[string]any)
	switch {
	case n.is("for") == "approval":
		out := map[string]any{"approved": object["approved"]}
		for _, name := range []string{"by", "comment", "form"} {
			if value := object[name]; value != nil && value != "" {
				out[name] = value
			}
		}
		return out, nil
	case n.is("for") == "webhook":
		return object["body"], nil
	}
	return v, nil
}

// pathOf is the way through the main graph.
func pathOf(d *document, results map[string]flow.StepResult) (path []string) {
	taken := map[string]int{}
	for id := d.main[0].id; id != ""; {
		s, is := results[id]
		if path = append(path, id); !is {
			return path // an end
		}
		next := s.Next
		if i := taken[id]; i < len(s.History) {
			next = s.History[i].Next
		} else if i > len(s.History) {
			return path // it is told no further
		}
		taken[id]++
		id = next
	}
	return path
}

// AddTo adds the case to what a file of cases holds, or makes one. As YAML it is added as text, so that comments stay. The error is a file
// to which it can't be added.
func (c Case) AddTo(file []byte, asJSON bool) ([]byte, error) {
	first := len(bytes.TrimSpace(file)) == 0
	if !first {
		there, err := ReadCases(file)
		if err != nil {
			return nil, err
		}
		for name, n := c.Name, 2; ; n++ {
			if !named(there, c.Name) {
				break
			}
			c.Name = fmt.Sprintf("%s (%d)", name, n)
		}
	}
	if asJSON {
		if !first {
			return nil, errors.New("a case is added to YAML only; give a new file")
		}
		data, err := json.MarshalIndent(map[string]any{"cases": []any{c.wire()}}, "", "  ")
		return append(data, '\n'), err
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode([]any{c.wire()}); err != nil {
		return nil, err
	}
	if first {
		return append([]byte("cases:\n"), indent(b.String(), "  ")...), nil
	}
	margin := ""
	if m := lastItem.FindSubmatch(file); m != nil {
		margin = string(m[1])
	}
	made := append(bytes.TrimRight(file, "\n"), '\n')
	made = append(made, indent(b.String(), margin)...)
	if _, err := ReadCases(made); err != nil {
		return nil, fmt.Errorf("a case can't be added to it as text; give a new file: %w", err)
	}
	return made, nil
}

var lastItem = regexp.MustCompile(`(?m)^( *)- `)

func named(cases Cases, name string) bool {
	for _, c := range cases {
		if c.Name == name {
			return true
		}
	}
	return false
}

func indent(text, margin string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			b.WriteString(margin)
		}
		b.WriteString(line)
	}
	return b.String()
}

// wireCase is a case as its file has it.
type wireCase struct {
	Name     string         `json:"name" yaml:"name"`
	Input    map[string]any `json:"input,omitempty" yaml:"input,omitempty"`
	Answers  map[string]any `json:"answers,omitempty" yaml:"answers,omitempty"`
	Services map[string]any `json:"services,omitempty" yaml:"services,omitempty"`
	Waits    map[string]any `json:"waits,omitempty" yaml:"waits,omitempty"`
	Children map[string]any `json:"children,omitempty" yaml:"children,omitempty"`
	Expect   map[string]any `json:"expect,omitempty" yaml:"expect,omitempty"`
}

func (c *Case) wire() wireCase {
	e := map[string]any{}
	if c.Expect.Path != nil {
		e["path"] = c.Expect.Path
	}
	if c.Expect.Status != "" {
		e["status"] = c.Expect.Status
	}
	if c.Expect.HasOutput {
		e["output"] = c.Expect.Output
	}
	if c.Expect.Variables != nil {
		e["variables"] = c.Expect.Variables
	}
	if c.Expect.Calls != nil {
		e["calls"] = c.Expect.Calls
	}
	if c.Expect.Error != "" {
		e["error"] = c.Expect.Error
	}
	return wireCase{c.Name, c.Input, c.Answers, c.Services, c.Waits, c.Children, e}
}
