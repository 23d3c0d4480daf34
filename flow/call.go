package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/service"
)

// call calls a service.
type call struct {
	service string
	action  service.Action
	params  map[string]value
	fills   map[string]service.Fill // of parameters at the top; of those below, none differ
}

// ofCall are the fields of a service step's config that are no parameters.
var ofCall = []string{"service", "action", "outputVariable", "allowModel"}

func readCall(f *findings, config *node, w World) worker {
	k := &call{service: config.get("service").str(), params: map[string]value{}}
	for _, field := range config.fieldsOf() {
		if !slices.Contains(ofCall, field.name) {
			k.params[field.name] = readValue(f, field.value)
		}
	}
	named := config.get("service")
	if !named.is(textKind) {
		return k
	}
	found := w.Services[k.service]
	if found == nil {
		names := make([]string, 0, len(w.Services))
		for name := range w.Services {
			names = append(names, name)
		}
		slices.Sort(names)
		hint := did(k.service, names)
		if hint == "" {
			hint = "there are " + strings.Join(names, ", ")
		}
		f.fault(named, hint, "there is no service %q", k.service)
		return k
	}
	_, action, err := w.Services.Find(k.service, config.get("action").str())
	if err != nil {
		var names []string
		for _, a := range found.Actions() {
			names = append(names, a.Name)
		}
		hint := did(config.get("action").str(), names)
		if hint == "" {
			hint = "it has " + strings.Join(names, ", ")
		}
		f.fault(config.get("action"), hint, "the service %s has no action %q", k.service, config.get("action").str())
		return k
	}
	k.action = action
	k.checkParams(f, config)
	return k
}

// checkParams holds the parameters against the action's schema as far as they are known before a run.
func (k *call) checkParams(f *findings, config *node) {
	var schema struct {
		Properties map[string]json.RawMessage `json:"properties"`
		Required   []string                   `json:"required"`
		Additional any                        `json:"additionalProperties"`
	}
	if err := json.Unmarshal(k.action.Params, &schema); err != nil {
		f.fault(config.get("service"), "", "the service %s describes its action %s with something else than a JSON Schema: %v", k.service, k.action.Name, err)
		return
	}
	names := make([]string, 0, len(schema.Properties))
	for name := range schema.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	k.fills = map[string]service.Fill{}
	for _, field := range config.fields {
		if slices.Contains(ofCall, field.name) {
			continue
		}
		property, known := schema.Properties[field.name]
		if !known && schema.Additional == false {
			hint := did(field.name, names)
			if hint == "" {
				hint = "it takes " + strings.Join(names, ", ")
			}
			f.fault(field.at, hint, "the action %s of %s has no parameter %q", k.action.Name, k.service, field.name)
			continue
		}
		var leaf struct {
			Fill service.Fill `json:"x-pawl-fill"`
		}
		if known && json.Unmarshal(property, &leaf) == nil {
			k.fills[field.name] = leaf.Fill
		}
		holds := false
		k.params[field.name].each(func(*node, *template) { holds = true })
		switch {
		case holds && leaf.Fill == service.FillNone:
			f.fault(field.value, "bind values instead, as values: [\"{{…}}\"] with $1 in the text", "%s takes no templates", field.name)
		case !holds && known:
			if err := fits(property, field.value.value()); err != nil {
				f.fault(field.value, "", "%v", err)
			}
		}
	}
	for _, name := range schema.Required {
		if config.get(name) == nil {
			f.fault(config, "", "the action %s of %s needs the parameter %q", k.action.Name, k.service, name)
		}
	}
}

func (k *call) work(x *run, c *pawl.Context, s *step, in *scope) (result, error) {
	out, err := pawl.Step(c, s.id, func(ctx context.Context) (json.RawMessage, error) {
		found, _, err := x.opt.Services.Find(k.service, k.action.Name)
		if err != nil {
			return nil, err
		}
		params, err := k.fill(ctx, x, in)
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(params)
		if err != nil {
			return nil, pawl.Fatal(err)
		}
		answer, err := found.Call(ctx, service.Call{Action: k.action.Name, Params: data, Key: pawl.InfoOf(ctx).StepID})
		if err != nil {
			return nil, err
		}
		return json.Marshal(answer)
	}, s.options()...)
	if err != nil {
		return result{}, err
	}
	v, err := decode(out)
	return result{output: v}, err
}

// fill makes the parameters. Secrets are found now, and stay in this call.
func (k *call) fill(ctx context.Context, x *run, in *scope) (map[string]any, error) {
	root, err := x.withSecrets(ctx, k, in)
	if err != nil {
		return nil, err
	}
	params := make(map[string]any, len(k.params))
	for name, v := range k.params {
		switch k.fills[name] {
		case service.FillURL:
			if v.template != nil && !v.template.whole() {
				params[name], err = v.template.text(root, intoURL)
				break
			}
			params[name], err = v.fill(root)
		case service.FillHTML:
			params[name], err = v.fillHTML(root)
		default:
			params[name], err = v.fill(root)
		}
		if err != nil {
			return nil, err
		}
	}
	return params, nil
}

// withSecrets is the scope with the secrets that the call names.
func (x *run) withSecrets(ctx context.Context, k *call, in *scope) (map[string]any, error) {
	var root map[string]any
	var failed error
	secrets := map[string]any{}
	k.reads(func(_ *node, u use) {
		if u.path[0].Name != "secrets" || len(u.path) != 2 || failed != nil {
			return
		}
		name := u.path[1].Name
		if x.opt.Secret == nil {
			failed = pawl.Fatal(fmt.Errorf("there is no secret %q: the program knows none", name))
			return
		}
		secret, err := x.opt.Secret(ctx, pawl.InfoOf(ctx).Tenant, name)
		if err != nil {
			failed = fmt.Errorf("secret %q: %w", name, err)
		}
		secrets[name] = secret
	})
	if failed != nil {
		return nil, failed
	}
	root = make(map[string]any, len(in.root)+1)
	for name, v := range in.root {
		root[name] = v
	}
	root["secrets"] = secrets
	return root, nil
}

// intoURL escapes what is put into an address for its place: its path, or its query. It can't be put where the scheme
// and the host stand, so that data can't choose who is called.
func intoURL(before string, p part, v any) (string, error) {
	_, behind, is := strings.Cut(before, "://")
	switch text := textOf(v); {
	case (text == "." || text == "..") && !strings.Contains(behind, "?"):
		return "", pawl.Fatal(fmt.Errorf("{{%s}} is %q, which would lead to another address", p.path, text))
	case strings.ContainsAny(behind, "?"):
		return url.QueryEscape(text), nil
	case is && strings.Contains(behind, "/"):
		return url.PathEscape(text), nil
	}
	return "", pawl.Fatal(fmt.Errorf("{{%s}} stands where the scheme and the host of an address belong", p.path))
}

func (k *call) reads(f func(at *node, u use)) {
	for _, name := range sortedNames(k.params) {
		k.params[name].reads(f)
	}
}
