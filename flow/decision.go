package flow

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
)

// decision asks a model a question whose answer has a known form.
type decision struct {
	models  []string // in the order in which they are asked; none: the program's
	prompt  value
	system  value
	ref     string // name or name@version of the registry's prompt, instead of prompt
	version int    // of ref; 0: the one that the run gets
	vars    *value // nil: the variables
	format  string
	values  []string    // of an enum
	within  agent.Range // of a number
	shape   *agent.Shape
	schema  *node // of JSON; nil: none is said
	routeOn Path
	call    agent.Call // what is the same in every run
}

func readDecision(f *findings, s *step, config *node, w World) worker {
	d := &decision{
		prompt: readValue(f, config.get("prompt")), system: readValue(f, config.get("system")), ref: config.get("promptRef").str(),
		format: config.get("outputFormat").str(), values: config.get("allowedValues").strs(), schema: config.get("outputSchema"),
	}
	d.readPrompt(f, config, w)
	if model := config.get("model").str(); model != "" {
		d.models = append(d.models, model)
	}
	d.models = append(d.models, config.get("models").strs()...)
	at := config
	if at == nil {
		at = s.at
	}
	if len(d.models) == 0 && w.Model == "" {
		f.fault(at, `give "model", or "models" to have some that are asked when it fails`, "no model is named")
	}
	switch prompt := config.get("prompt"); {
	case prompt == nil && d.ref == "":
		f.fault(at, "", `the field "prompt" is missing`)
	case prompt != nil && d.ref != "":
		f.fault(prompt, `leave out one of them`, "prompt and promptRef can't both be asked")
	}
	d.readShape(f, at, config)
	repairs := config.get("maxRepairs").int(defaultRepairs)
	temperature := config.get("temperature").float(defaultTemperature)
	d.call = agent.Call{
		Shape: d.shape, Repairs: &repairs, Temperature: &temperature, MaxTokens: config.get("maxTokens").int(0),
		Cache: agent.CacheFor{For: milliseconds(config.get("cacheTtlMs"))},
	}
	return d
}

// readPrompt reads which prompt of the registry is asked.
func (d *decision) readPrompt(f *findings, config *node, w World) {
	at, vars := config.get("promptRef"), config.get("vars")
	if vars != nil {
		v := readValue(f, vars)
		d.vars = &v
	}
	if at == nil {
		if vars != nil {
			f.fault(vars, `write "promptRef"`, "vars have no meaning without promptRef: a prompt of the document reads {{variables.name}} itself")
		}
		return
	}
	name, version, pinned := strings.Cut(d.ref, "@")
	d.ref = name
	if pinned {
		n, err := strconv.Atoi(version)
		if err != nil || n < 1 {
			f.fault(at, "write name, or name@3", "%q is no version of a prompt", version)
			return
		}
		d.version = n
	}
	if w.Prompt == nil {
		return
	}
	names, err := w.Prompt(name, d.version)
	if err != nil {
		f.fault(at, "put and activate it first: pawl prompts put, pawl prompts activate", "%v", err)
		return
	}
	for _, name := range names {
		if vars.is(objectKind) && vars.get(name) == nil {
			f.fault(vars, "", "the prompt %s needs the variable %q", at.text, name)
		}
	}
	for _, field := range vars.fieldsOf() {
		if !slices.Contains(names, field.name) {
			f.warn(field.at, f.did(field.name, names), "the prompt %s has no variable %q", at.text, field.name)
		}
	}
}

// readShape reads what the answer must be.
func (d *decision) readShape(f *findings, at, config *node) {
	var err error
	misplaced := func(format string, names ...string) {
		for _, name := range names {
			if n := config.get(name); n != nil {
				f.fault(n, fmt.Sprintf("set outputFormat to %q, or leave it out", format), "%s has no meaning for outputFormat %q", name, d.formatName())
			}
		}
	}
	switch d.format {
	case "enum":
		misplaced("number", "min", "max", "integer")
		misplaced("json", "outputSchema", "routeOn")
		if len(d.values) == 0 {
			f.fault(at, `give "allowedValues"`, "an enum needs the values that are allowed")
			return
		}
		d.shape, err = agent.OneOf(d.values...)
		at = config.get("allowedValues")
	case "number":
		misplaced("enum", "allowedValues")
		misplaced("json", "outputSchema", "routeOn")
		r := agent.Range{Integer: config.get("integer").yes()}
		for name, to := range map[string]**float64{"min": &r.Min, "max": &r.Max} {
			if n := config.get(name); n.is(numberKind) {
				v := n.float(0)
				*to = &v
			}
		}
		if r.Min != nil && r.Max != nil && *r.Min > *r.Max {
			f.fault(config.get("max"), "", "max is below min")
			return
		}
		d.within = r
		d.shape, err = agent.Number(r)
	case "json":
		misplaced("enum", "allowedValues")
		misplaced("number", "min", "max", "integer")
		if on := config.get("routeOn"); on.is(textKind) {
			if d.routeOn, err = ParsePath(on.text); err != nil {
				f.fault(on, "", "%v", err)
			}
		}
		schema := json.RawMessage(`{}`)
		if n := config.get("outputSchema"); n.is(objectKind) {
			if schema = schemaOf(f, n); schema == nil {
				return
			}
		} else if n == nil {
			f.fault(at, `give "outputSchema": the model is told of it and held to it; {"type": "object"} is any object`, "outputFormat json needs a schema of what the answer holds")
			return
		}
		d.shape, err = agent.JSON(schema)
	default:
		misplaced("enum", "allowedValues")
		misplaced("number", "min", "max", "integer")
		misplaced("json", "outputSchema", "routeOn")
		if d.format == "boolean" {
			d.shape = agent.Boolean()
		}
	}
	if err != nil {
		f.fault(at, "", "%v", err)
	}
}

func (d *decision) formatName() string {
	if d.format == "" {
		return "text"
	}
	return d.format
}

func (d *decision) work(x *run, c *pawl.Context, s *step, in *scope) (result, error) {
	in.trail.asks(c, s, in)
	call, err := d.question(&x.opt, in)
	if err != nil {
		return result{}, refuse(c, s, err)
	}
	answer, output, err := x.ask(c, s, call, func(a *agent.Answer) (any, error) {
		if a.Value == nil {
			return a.Text, nil
		}
		v, err := decode(a.Value)
		if err != nil {
			return nil, fmt.Errorf("the answer of step %s: %w", s.id, err)
		}
		return v, nil
	})
	if err != nil {
		return result{}, err
	}
	r := result{raw: answer.Text, usage: &answer.Usage, cost: answer.Cost, guess: answer.Guess, output: output}
	if d.routeOn != nil {
		object, _ := r.output.(map[string]any)
		if r.by, err = d.routeOn.Lookup(object); err != nil {
			return result{}, fmt.Errorf("step %s: routeOn: %w", s.id, err)
		}
	}
	return r, nil
}

// question is what the step asks.
func (d *decision) question(opt *Options, in *scope) (agent.Call, error) {
	call := d.call
	if err := d.fill(&call, in); err != nil {
		return call, err
	}
	if names := slices.Clone(d.models); len(names) > 0 {
		for i, name := range names {
			names[i] = opt.model(name)
		}
		call.Model, call.Fallbacks = names[0], names[1:]
	} else {
		call.Model = opt.Model
	}
	return call, nil
}

// fill makes the words of the question.
func (d *decision) fill(call *agent.Call, in *scope) error {
	system, err := asked(d.system, in)
	if err != nil {
		return err
	}
	call.System = agent.UntrustedRule
	if system != "" {
		call.System = system + "\n\n" + agent.UntrustedRule
	}
	if d.ref == "" {
		call.Prompt, err = asked(d.prompt, in)
		return err
	}
	call.Template = &agent.Prompt{Name: d.ref, Version: d.version, Loose: true}
	call.Vars = map[string]any{}
	if d.vars == nil {
		if over(in.variables, maxMade) {
			return pawl.Fatal(fmt.Errorf("all variables are over %d bytes of JSON; name those that the prompt needs in vars", maxMade))
		}
		for name, v := range in.variables {
			call.Vars[name], _ = marked("", part{}, v) // it has no error
		}
		return nil
	}
	filled := newFilling(in.root)
	for name, v := range d.vars.fields {
		if v.template != nil {
			call.Vars[name], err = v.template.text(filled, marked)
		} else {
			call.Vars[name], err = v.fill(filled)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// asked is a text of a question.
func asked(v value, in *scope) (string, error) {
	if v.template == nil {
		text, _ := v.constant.(string)
		return text, nil
	}
	return v.template.text(newFilling(in.root), marked)
}

// marked puts data from outside between marks, so that it can't pass for a part of the question. Numbers, truths and
// what a filter calls trusted stand as they are.
func marked(_ string, p part, v any) (string, error) {
	text := textOf(v)
	switch v.(type) {
	case string, []any, map[string]any:
		if !slices.ContainsFunc(p.filters, func(f filter) bool { return f.name == "trusted" }) {
			return agent.Untrusted(text), nil
		}
	}
	return text, nil
}

func (d *decision) reads(f func(at *node, u use)) {
	d.prompt.reads(f)
	d.system.reads(f)
	if d.vars != nil {
		d.vars.reads(f)
	}
}
