package flow

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/service"
)

// agentWork lets a model work with tools until it has an answer.
type agentWork struct {
	model        string
	instructions value
	prompt       *value // nil: the variables
	tools        []*tool
	approvers    []string
	config       agent.Config // what is the same in every run
	allow        []string     // parameters that the model may choose though they name places or people
}

// tool is what a step's agent may call: an action of a service, a workflow, or all that a server offers.
type tool struct {
	at      *node
	use     string // as the document names it: service.action, flow:name, mcp:server
	doc     string
	input   json.RawMessage // schema of what the model gives
	approve bool
	service string
	action  service.Action
	with    *params  // parameters that the flow gives, of which the model does not know
	without []string // parameters that nobody gives
	flow    string
	server  string
}

func readAgent(f *findings, s *step, config *node, w World) worker {
	k := &agentWork{
		model: config.get("model").str(), instructions: readValue(f, config.get("instructions")),
		approvers: config.get("approvers").strs(), allow: config.get("allowModel").strs(),
		config: agent.Config{MaxTurns: config.get("maxTurns").int(0), MaxCost: int64(1e6 * config.get("maxCostUsd").float(0)), MaxTokens: config.get("maxTokens").int(0)},
	}
	temperature := config.get("temperature").float(defaultTemperature)
	k.config.Temperature = &temperature
	if at := config.get("prompt"); at != nil {
		v := readValue(f, at)
		k.prompt = &v
	}
	at := config
	if at == nil {
		at = s.at
	}
	if k.model == "" && w.Model == "" {
		f.fault(at, `give "model"`, "no model is named")
	}
	if n := config.get("outputSchema"); n.is(objectKind) {
		shape, err := agent.JSON(schemaText(n))
		if err != nil {
			f.fault(n, "", "it is no JSON Schema that a model can be held to: %v", err)
		}
		k.config.Shape = shape
	}
	approve := config.get("approve").strs()
	names := map[string]*tool{}
	if list := config.get("tools"); list.is(listKind) {
		for _, at := range list.items {
			t := readTool(f, at, w, k.allow, approve)
			t.approve = slices.Contains(approve, t.use)
			k.tools = append(k.tools, t)
			if other := names[t.name()]; other != nil {
				f.fault(at, fmt.Sprintf("the other one is at %s", other.at.pointer()), "two tools would be called %q", t.name())
			}
			names[t.name()] = t
		}
	}
	for i, use := range approve {
		if !slices.ContainsFunc(k.tools, func(t *tool) bool { return t.use == use }) {
			f.fault(config.get("approve").items[i], "name one of tools", "the step has no tool %q", use)
		}
	}
	if k.approvers != nil && approve == nil {
		f.fault(config.get("approvers"), `name the tools that need consent in "approve"`, "approvers have nothing to approve")
	}
	return k
}

func readTool(f *findings, at *node, w World, allow, approve []string) *tool {
	t := &tool{at: at, use: at.str()}
	var with *node
	if at.is(objectKind) {
		t.use, t.doc, with = at.get("use").str(), at.get("description").str(), at.get("with")
		if n := at.get("input"); n.is(objectKind) {
			t.input = schemaOf(f, n)
		}
	}
	only := func(what, name string, n *node) {
		if n != nil {
			f.fault(n, "leave it out", "%s has no meaning for a tool that is %s", name, what)
		}
	}
	switch kind, rest, _ := strings.Cut(t.use, ":"); {
	case kind == "flow" || kind == "workflow":
		t.flow = rest
		only("a workflow", "with", with)
		w.calls(f, at, rest)
		if t.input == nil {
			t.input = json.RawMessage(`{"type":"object"}`)
		}
	case kind == "mcp":
		t.server = rest
		only("a server", "with", with)
		only("a server", "input", at.get("input"))
		if w.Toolboxes != nil && !slices.Contains(w.Toolboxes, rest) {
			f.fault(at, f.did(rest, w.Toolboxes), "there is no server of tools called %q", rest)
		}
	default:
		only("a service", "input", at.get("input"))
		t.readAction(f, with, w, allow, slices.Contains(approve, t.use))
	}
	return t
}

// readAction reads a tool that is an action of a service.
func (t *tool) readAction(f *findings, with *node, w World, allow []string, asks bool) {
	name, action, _ := strings.Cut(t.use, ".")
	t.service = name
	said := func(text string) *node {
		return &node{kind: textKind, text: text, in: t.at.in, name: t.at.name, index: t.at.index, line: t.at.line, column: t.at.column}
	}
	config := &node{kind: objectKind, fields: []field{{name: "service", value: said(name)}}}
	if action != "" {
		config.fields = append(config.fields, field{name: "action", value: said(action)})
	}
	if t.action = findAction(f, config, w); t.action.Name == "" {
		return
	}
	var schema map[string]any
	d := json.NewDecoder(bytes.NewReader(t.action.Params))
	d.UseNumber()
	if err := d.Decode(&schema); err != nil {
		f.fault(t.at, "", "the schema of %s can't be used: %v", t.use, err)
		return
	}
	// The flow's own parameters are held against the schema without what the model gives, and the other way round.
	required := texts(schema["required"])
	given := func(name string) bool { return with.get(name) != nil }
	schema["required"] = []string{}
	data, err := json.Marshal(schema)
	if err == nil {
		t.with = readParams(f, t.use, service.Action{Name: t.action.Name, Params: data}, orEmpty(with, t.at), false)
		properties, _ := schema["properties"].(map[string]any)
		k := &paramCheck{root: schema}
		for _, name := range sortedNames(properties) {
			names := trusted(k, properties[name], true)
			switch free := asks || slices.Contains(allow, name); {
			case given(name):
				delete(properties, name)
			case free || !names && !unwritten(k, properties[name]):
			case !slices.Contains(required, name): // the model does not learn of it
				t.without = append(t.without, name)
				delete(properties, name)
			default:
				why := "the model would write %s of %s, which takes no templates either"
				if names {
					why = "the model would choose %s of %s, which says who or what is reached"
				}
				hint := fmt.Sprintf(`give it: {"use": %q, "with": {%q: …}}; or name the tool in "approve"`, t.use, name)
				if !w.ByModel {
					hint += `, or the parameter in "allowModel"`
				}
				f.fault(t.at, hint, why, name, t.use)
			}
		}
		if required = slices.DeleteFunc(required, given); len(required) > 0 {
			schema["required"] = required
		} else {
			delete(schema, "required")
		}
		t.input, err = json.Marshal(schema)
	}
	if err == nil {
		_, err = agent.JSON(t.input)
	}
	if err != nil {
		f.fault(t.at, "", "the schema of %s can't be given to a model: %v", t.use, err)
	}
}

func orEmpty(n, at *node) *node {
	if n != nil {
		return n
	}
	return &node{kind: objectKind, in: at.in, name: at.name, index: at.index, line: at.line, column: at.column}
}

// name is what the model calls a tool.
func (t *tool) name() string {
	name := t.use
	if t.flow != "" {
		name = t.flow
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(".: /", r) {
			return '_'
		}
		return r
	}, name)
}

func (k *agentWork) work(x *run, c *pawl.Context, s *step, in *scope) (result, error) {
	var task agent.Task
	instructions, err := asked(k.instructions, in)
	switch {
	case err != nil:
	case k.prompt != nil:
		task.Prompt, err = asked(*k.prompt, in)
	case over(in.variables, maxFilled):
		err = pawl.Fatal(fmt.Errorf("all variables are over %d bytes of JSON; write a prompt that names those that the agent needs", maxFilled))
	default:
		task.Prompt = agent.Untrusted(jsonOf(in.variables))
	}
	if err != nil {
		return result{}, refuse(c, s, err)
	}
	config := k.config
	config.Models, config.Model, config.Instructions = x.opt.Models, x.opt.Model, instructions+"\n\n"+agent.UntrustedRule
	if k.model != "" {
		config.Model = x.opt.model(k.model)
	}
	return under(c, s, func(c *pawl.Context) (result, error) {
		var err error
		if config.Tools, err = k.toolsOf(x, c, s, in); err != nil {
			return result{}, err
		}
		a, err := agent.NewAgent(s.id, config)
		if err != nil {
			return result{}, pawl.Do(c, "agent", func(context.Context) error { return pawl.Fatal(err) })
		}
		done, err := a.Within(c, task)
		r := result{output: done.Text, raw: done.Text, cost: done.Cost, guess: done.Guess, usage: &done.Usage}
		if err == nil && done.Value != nil {
			r.output, err = decode(done.Value)
		}
		return r, err
	})
}

// toolsOf makes the tools of a run.
func (k *agentWork) toolsOf(x *run, c *pawl.Context, s *step, in *scope) (all []agent.Tool, err error) {
	var below pawl.StartOption
	if slices.ContainsFunc(k.tools, func(t *tool) bool { return t.flow != "" }) {
		if below, err = x.descend(c, s); err != nil {
			return nil, err
		}
	}
	for _, t := range k.tools {
		made := []agent.Tool{t.made(x, s, in, below)}
		if t.server != "" {
			if made, err = t.offered(x, c); err != nil {
				return nil, err
			}
		}
		for _, one := range made {
			if t.approve {
				one = one.WithApproval(agent.Approval{Approvers: k.approvers, Request: approval.Request{BaseURL: x.opt.BaseURL}})
			}
			all = append(all, one)
		}
	}
	return all, nil
}

// made is a tool that calls a service or a workflow.
func (t *tool) made(x *run, s *step, in *scope, below pawl.StartOption) agent.Tool {
	if t.flow != "" {
		return agent.ChildNamed(t.name(), t.doc, t.flow, t.input, below)
	}
	doc := t.doc
	if doc == "" {
		doc = t.action.Doc
	}
	return agent.NewTool(t.name(), doc, t.input, func(ctx context.Context, args json.RawMessage) (string, error) {
		params, secrets, err := t.fill(ctx, x, in, args)
		if err != nil {
			return "", err
		}
		out, err := x.call(ctx, t.service, service.Call{Action: t.action.Name, Params: params}, secrets)
		return agent.Untrusted(string(out)), err
	}, s.options()...)
}

// fill puts what the flow gives to what the model gives.
func (t *tool) fill(ctx context.Context, x *run, in *scope, args json.RawMessage) (data json.RawMessage, secrets []string, err error) {
	root, secrets, err := x.withSecrets(ctx, t.with.reads, in)
	if err != nil {
		return nil, nil, err
	}
	all, err := t.with.values(root)
	if err != nil {
		return nil, nil, service.NewRedactor(secrets...).Error(err)
	}
	given, err := decode(args)
	if err != nil {
		return nil, nil, pawl.Fatal(err)
	}
	if given, is := given.(map[string]any); is {
		for name, v := range given {
			if _, fixed := all[name]; !fixed && !slices.Contains(t.without, name) { // the model knows none of these
				all[name] = v
			}
		}
	}
	data, err = json.Marshal(all)
	return data, secrets, err
}

// offered are the tools of a server, as it had them when the run came here.
func (t *tool) offered(x *run, c *pawl.Context) ([]agent.Tool, error) {
	box, is := x.opt.Toolboxes[t.server]
	if !is {
		return nil, pawl.Do(c, t.use, func(context.Context) error {
			return pawl.Fatal(fmt.Errorf("there is no server of tools called %q here; there are %q", t.server, slices.Sorted(maps.Keys(x.opt.Toolboxes))))
		})
	}
	list, err := pawl.Step(c, t.use, box.List)
	if err != nil {
		return nil, err
	}
	return box.Bind(list)
}

func (k *agentWork) reads(f func(at *node, u use)) {
	k.instructions.reads(f)
	if k.prompt != nil {
		k.prompt.reads(f)
	}
	for _, t := range k.tools {
		if t.with != nil {
			t.with.reads(f)
		}
	}
}
