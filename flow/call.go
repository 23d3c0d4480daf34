package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	params  *params
	allow   []string // parameters into which a model's words may flow
}

// ofCall are the fields of a service step's config that are no parameters. A parameter of such a name stands in params.
var ofCall = []string{"service", "action", "params", "outputVariable", "allowModel"}

func readCall(f *findings, config *node, w World) worker {
	k := &call{service: config.get("service").str(), allow: config.get("allowModel").strs()}
	k.action = findAction(f, config, w)
	k.params = readParams(f, k.service+"."+k.action.Name, k.action, parametersOf(f, config, ofCall), true)
	for i, name := range k.allow {
		if _, is := k.params.fields[name]; !is {
			f.fault(config.get("allowModel").items[i], f.did(name, sortedNames(k.params.fields)), "the step has no parameter %q", name)
		}
	}
	return k
}

// parametersOf is an object of the parameters in a config: those that stand beside its own fields, and those in params.
func parametersOf(f *findings, config *node, own []string) *node {
	all := &node{kind: objectKind}
	if config != nil {
		all = &node{kind: objectKind, in: config.in, name: config.name, index: config.index, line: config.line, column: config.column}
	}
	for _, field := range config.fieldsOf() {
		if !slices.Contains(own, field.name) {
			all.fields = append(all.fields, field)
		}
	}
	within := config.get("params")
	if !within.is(objectKind) {
		return all // that it must be one is said by the shape
	}
	for _, field := range within.fields {
		if all.get(field.name) != nil {
			f.fault(field.at, "keep one of the two", "the parameter %q stands beside params too", field.name)
			continue
		}
		all.fields = append(all.fields, field)
	}
	return all
}

// findAction finds the action that a config names by service and action. It is empty if there is none, which is said.
func findAction(f *findings, config *node, w World) service.Action {
	name := config.get("service").str()
	named := config.get("service")
	if !named.is(textKind) {
		return service.Action{}
	}
	found := w.Services[name]
	if found == nil {
		names := sortedNames(w.Services)
		hint := w.Unset[name]
		if hint == "" {
			hint = f.did(name, names)
		}
		if hint == "" && len(names) > 0 {
			hint = "there are " + strings.Join(names, ", ")
		}
		f.fault(named, hint, "there is no service %q", name)
		return service.Action{}
	}
	_, action, err := w.Services.Find(name, config.get("action").str())
	if err != nil {
		var names []string
		for _, a := range found.Actions() {
			names = append(names, a.Name)
		}
		hint := f.did(config.get("action").str(), names)
		if hint == "" {
			hint = "it has " + strings.Join(names, ", ")
		}
		f.fault(config.get("action"), hint, "the service %s has no action %q", name, config.get("action").str())
	}
	return action
}

func (k *call) work(x *run, c *pawl.Context, s *step, in *scope) (result, error) {
	v, err := x.work(c, s, func(ctx context.Context) (json.RawMessage, error) {
		root, secrets, err := x.withSecrets(ctx, k.params.reads, in)
		if err != nil {
			return nil, err
		}
		data, err := k.params.fill(root)
		if err != nil {
			return nil, service.NewRedactor(secrets...).Error(err) // a fault may quote what does not fit
		}
		return x.call(ctx, k.service, service.Call{Action: k.action.Name, Params: data}, secrets)
	})
	return result{output: v}, err
}

// call carries out an action of a service, as a part of the step of ctx. Secrets that come back are taken out of what goes
// into the journal.
func (x *run) call(ctx context.Context, name string, c service.Call, secrets []string) (json.RawMessage, error) {
	found, _, err := x.opt.Services.Find(name, c.Action)
	if hint := x.opt.Unset[name]; found == nil && hint != "" { // it was there when the flow was deployed
		return nil, &service.Error{Code: service.Invalid, Message: fmt.Sprintf("there is no service %q; %s", name, hint)}
	}
	if err != nil {
		return nil, err
	}
	c.Key = pawl.InfoOf(ctx).StepID
	redact := service.NewRedactor(secrets...)
	if len(secrets) > 0 {
		defer func() { // a panic's text is kept too
			if p := recover(); p != nil {
				if text := fmt.Sprint(p); redact.Text(text) != text {
					p = redact.Text(text)
				}
				panic(p)
			}
		}()
	}
	answer, err := x.guarded(ctx, name, found, c, redact)
	if err != nil {
		return nil, err
	}
	if deeper(answer, maxNesting) {
		return nil, pawl.Fatal(fmt.Errorf("what the service %s returned is nested more than %d deep", name, maxNesting))
	}
	data, err := redact.JSON(answer)
	if err != nil {
		return nil, pawl.Fatal(fmt.Errorf("what the service %s returned has no JSON form: %w", name, redact.Error(err)))
	}
	return data, nil
}

// withSecrets is the scope with the secrets and the addresses of webhooks that something reads, and what of them must not be told.
func (x *run) withSecrets(ctx context.Context, reads func(func(at *node, u use)), in *scope) (root map[string]any, values []string, failed error) {
	secrets, webhooks := map[string]any{}, map[string]any{}
	reads(func(_ *node, u use) {
		if len(u.path) != 2 || failed != nil {
			return
		}
		name := u.path[1].Name
		if hook := in.callbacks.named[name]; u.path[0].Name == "webhooks" && hook != nil && webhooks[name] == nil {
			webhooks[name], values = hook.URL(), append(values, hook.Token())
		}
		if u.path[0].Name != "secrets" {
			return
		}
		if _, is := secrets[name]; is {
			return
		}
		if x.opt.Secret == nil {
			failed = pawl.Fatal(fmt.Errorf("there is no secret %q: the program knows none", name))
			return
		}
		secret, err := x.opt.Secret(ctx, pawl.InfoOf(ctx).Tenant, name)
		if err != nil {
			if failed = fmt.Errorf("secret %q: %w", name, err); errors.Is(err, pawl.ErrNotFound) {
				failed = pawl.Fatal(failed) // it will not be there in a second either
			}
			return
		}
		secrets[name] = secret
		values = append(values, secret)
	})
	if failed != nil || len(values) == 0 {
		return in.root, nil, failed
	}
	root = maps.Clone(in.root)
	root["secrets"], root["webhooks"] = secrets, webhooks
	return root, values, nil
}

// chooses is the first place of an address if it stands where intoURL refuses it, else nil.
func (t *template) chooses() Path {
	if !t.whole() {
		before := t.parts[0].text
		if _, behind, is := strings.Cut(before, "://"); !is || !strings.ContainsAny(behind, "/?") {
			for _, p := range t.parts {
				if p.path != nil {
					return p.path
				}
			}
		}
	}
	return nil
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

func (k *call) reads(f func(at *node, u use)) { k.params.reads(f) }
