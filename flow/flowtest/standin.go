package flowtest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/internal/spelling"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/service"
)

// told is what a case says in a part of it, by the id of a step, and how much of that has been taken.
type told struct {
	field string
	what  map[string]any
	taken map[string]int
}

// take is the next of what is told for a step. Caller holds the trial's mu.
func (t *told) take(id string) (v any, there bool, err error) {
	v, there = t.what[id]
	if !there {
		return nil, false, nil
	}
	t.taken[id]++
	if list, is := v.([]any); is {
		if t.taken[id] > len(list) {
			return nil, true, fmt.Errorf("%s.%s has %d in its list, and a further one is needed", t.field, id, len(list))
		}
		v = list[t.taken[id]-1]
	}
	return v, true, nil
}

// left says what nobody asked for.
func (t *told) left() (out []string) {
	for _, id := range sorted(t.what) {
		list, is := t.what[id].([]any)
		switch n := t.taken[id]; {
		case n == 0:
			out = append(out, fmt.Sprintf("%s.%s was not used: the run did not ask for it", t.field, id))
		case is && n < len(list):
			out = append(out, fmt.Sprintf("%s.%s: %d of %d were used", t.field, id, n, len(list)))
		}
	}
	return out
}

// failure is the error that an answer stands for: {"error": {"code", "message"}}.
func failure(v any) (code, message string, is bool) {
	object, _ := v.(map[string]any)
	inner, is := object["error"].(map[string]any)
	if !is || len(object) != 1 {
		return "", "", false
	}
	code, _ = inner["code"].(string)
	if message, _ = inner["message"].(string); message == "" {
		message = "the case says that it fails"
	}
	return code, message, true
}

// say is the model: it answers for the step that asks.
func (t *trial) say(ctx context.Context, req *llm.Request) (*llm.Response, error) {
	n := t.doc.nodeOf(pawl.InfoOf(ctx).Step)
	refuse := func(format string, args ...any) (*llm.Response, error) {
		return nil, &llm.Error{Kind: llm.BadRequest, Provider: llmtest.ProviderName, Model: req.Model, Message: fmt.Sprintf(format, args...)}
	}
	if n == nil {
		t.fault("a model was asked by %q, which is no step of the flow", pawl.InfoOf(ctx).Step)
		return refuse("no step of the flow asks")
	}
	t.mu.Lock()
	v, there, err := t.answers.take(n.id)
	t.mu.Unlock()
	switch {
	case !there:
		t.fault("the model was asked by %s, and the case has no answer: add it to answers", n.id)
		return refuse("the case has no answer for %s", n.id)
	case err != nil:
		t.fault("the model was asked by %s once more: %v", n.id, err)
		return refuse("%v", err)
	}
	if code, message, is := failure(v); is {
		kind := llm.Kind(code)
		if kind == "" {
			kind = llm.BadRequest
		}
		return nil, &llm.Error{Kind: kind, Provider: llmtest.ProviderName, Model: req.Model, Message: message}
	}
	if text, is := v.(string); is {
		return &llm.Response{Text: text}, nil
	}
	if object, is := v.(map[string]any); is && n.kind == "agent" {
		if calls, is := object["toolCalls"].([]any); is {
			return toolCalls(calls, req, refuse)
		}
	}
	data, err := json.Marshal(v)
	if err != nil {
		return refuse("%v", err)
	}
	return &llm.Response{Text: string(data)}, nil
}

func toolCalls(calls []any, req *llm.Request, refuse func(string, ...any) (*llm.Response, error)) (*llm.Response, error) {
	var known []string
	for _, tool := range req.Tools {
		known = append(known, tool.Name)
	}
	r := &llm.Response{}
	for i, one := range calls {
		call, _ := one.(map[string]any)
		name, _ := call["name"].(string)
		if !slices.Contains(known, name) {
			return refuse("there is no tool %q; %s", name, spelling.Choice(name, known))
		}
		args := call["arguments"]
		if args == nil {
			args = map[string]any{}
		}
		data, err := json.Marshal(args)
		if err != nil {
			return refuse("%v", err)
		}
		r.ToolCalls = append(r.ToolCalls, llm.ToolCall{ID: fmt.Sprintf("call-%d-%d", len(req.Messages), i+1), Name: name, Arguments: string(data)})
	}
	return r, nil
}

// standIn stands for a service: it has its actions, and reaches nobody.
type standIn struct {
	t       *trial
	actions []service.Action
}

func (s *standIn) Actions() []service.Action { return slices.Clone(s.actions) }

func (s *standIn) Call(ctx context.Context, c service.Call) (any, error) {
	n := s.t.doc.nodeOf(pawl.InfoOf(ctx).Step)
	if n == nil {
		return nil, &service.Error{Code: service.Invalid, Message: "no step of the flow calls"}
	}
	for _, a := range s.actions {
		if a.Name != c.Action && c.Action != "" {
			continue
		}
		if err := a.Check(c.Params); err != nil {
			return nil, err
		}
		break
	}
	params, err := decode(c.Params)
	if err != nil {
		return nil, &service.Error{Code: service.Invalid, Message: err.Error()}
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.t.calls[n.id] = append(s.t.calls[n.id], params)
	v, there, err := s.t.services.take(n.id)
	switch {
	case err != nil:
		s.t.faults = append(s.t.faults, fmt.Sprintf("%s called its service once more: %v", n.id, err))
		return nil, &service.Error{Code: service.Invalid, Message: err.Error()}
	case !there:
		return map[string]any{}, nil
	}
	if code, message, is := failure(v); is {
		if code == "" {
			code = service.Invalid
		}
		return nil, &service.Error{Code: code, Message: message}
	}
	return v, nil
}

// anyObject is the schema of a service that is not known here.
var anyObject = json.RawMessage(`{"type":"object"}`)

// world is the services that a flow names: those that are known, and of the others what it says of them.
func world(data []byte, known service.Set) (set service.Set, unknown []string) {
	set = maps.Clone(known)
	if set == nil {
		set = service.Set{}
	}
	value, _, err := flow.Decode(data)
	root, is := value.(map[string]any)
	if err != nil || !is {
		return set, nil
	}
	add := func(name, action string) {
		if name == "" || known[name] != nil {
			return
		}
		s, _ := set[name].(*standIn)
		if s == nil {
			s = &standIn{}
			set[name] = s
			unknown = append(unknown, name)
		}
		if action == "" {
			action = "default"
		}
		if !slices.ContainsFunc(s.actions, func(a service.Action) bool { return a.Name == action }) {
			s.actions = append(s.actions, service.Action{Name: action, Doc: "not known here", Params: anyObject, Effect: service.Writes})
		}
	}
	steps, _ := root["steps"].([]any)
	walk(steps, func(step map[string]any) {
		config, _ := step["config"].(map[string]any)
		text := func(name string) string { s, _ := config[name].(string); return s }
		if step["type"] == "service" {
			add(text("service"), text("action"))
		}
		notices, _ := config["notify"].([]any)
		for _, one := range notices {
			notice, _ := one.(map[string]any)
			name, _ := notice["service"].(string)
			action, _ := notice["action"].(string)
			add(name, action)
		}
		tools, _ := config["tools"].([]any)
		for _, tool := range tools {
			use, is := tool.(string)
			if object, other := tool.(map[string]any); !is && other {
				use, _ = object["use"].(string)
			}
			if name, action, is := strings.Cut(use, "."); is && !strings.Contains(use, ":") {
				add(name, action)
			}
		}
	})
	slices.Sort(unknown)
	return set, unknown
}

// stands replaces the services of a world for a case.
func (t *trial) stands(set service.Set) service.Set {
	out := service.Set{}
	for name, s := range set {
		out[name] = &standIn{t, s.Actions()}
	}
	return out
}

// childError is a child that the case lets fail.
type childError struct{ code, message string }

func (e *childError) Error() string     { return e.message }
func (e *childError) ErrorCode() string { return e.code }
func (e *childError) Fatal() bool       { return true }

// children are the workflows that the flow runs.
func (t *trial) children() (defs []pawl.Definition) {
	seen := map[string]bool{t.doc.flow.ID: true}
	add := func(name string) {
		if name != "" && !seen[name] {
			seen[name] = true
			defs = append(defs, pawl.Define(name, func(c *pawl.Context, in json.RawMessage) (json.RawMessage, error) {
				return pawl.Step(c, "answer", func(ctx context.Context) (json.RawMessage, error) { return t.child(ctx, in) })
			}, pawl.Version("1")))
		}
	}
	for _, id := range sorted(t.doc.nodes) {
		n := t.doc.nodes[id]
		if n.kind == "workflow" {
			add(n.is("workflow"))
		}
		tools, _ := n.config["tools"].([]any)
		for _, tool := range tools {
			use, is := tool.(string)
			if object, other := tool.(map[string]any); !is && other {
				use, _ = object["use"].(string)
			}
			if kind, name, _ := strings.Cut(use, ":"); kind == "flow" || kind == "workflow" {
				add(name)
			}
		}
	}
	return defs
}

// child answers for a child.
func (t *trial) child(ctx context.Context, in json.RawMessage) (json.RawMessage, error) {
	info, err := pawl.EngineOf(ctx).Get(ctx, pawl.Ref{ID: pawl.InfoOf(ctx).RunID})
	if err != nil {
		return nil, err
	}
	n := t.doc.nodeOf(info.ParentKey)
	if n == nil {
		return nil, &childError{"invalid", fmt.Sprintf("no step of the flow has started %s", info.Workflow)}
	}
	input, err := decode(in)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls[n.id] = append(t.calls[n.id], input)
	v, there, err := t.childs.take(n.id)
	if !there {
		err = fmt.Errorf("the case has no output of it: add it to children")
	}
	if err != nil {
		t.faults = append(t.faults, fmt.Sprintf("%s runs the workflow %s: %v", n.id, info.Workflow, err))
		return nil, &childError{"invalid", err.Error()}
	}
	if code, message, is := failure(v); is {
		return nil, &childError{code, message}
	}
	return json.Marshal(v)
}
