package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/secret"
	"github.com/pawlrun/pawl/service"
)

// standIn is in the place of a service whose settings are not there, in development. It holds calls against the rules of the real one,
// prints what would be sent, and sends nothing. What it answers fits the action's schema, means nothing, and says where it is from.
type standIn struct {
	service.Service        // the real one, with settings that lead nowhere
	name            string // of the service
	why             string // what to set to have the real one
	out             *printer
	secrets         *secret.Store
}

// standIns puts a stand-in wherever a service lacks its settings, of those too that the flows of a folder have with them.
func (c *called) standIns(a *app, s settings, secrets *secret.Store, flows string) error {
	if s.Services == "" && flows != "" {
		s.Services = servicesOf(flows)
	}
	s.MCP = nil // what they offer is known by asking them alone
	unset, err := a.servicesOr(s, nil, true)
	if err != nil {
		return err
	}
	c.closers = append(c.closers, unset.close)
	for name, why := range c.unset {
		if real := unset.set[name]; real != nil {
			c.set[name] = standIn{real, name, why, a.out, secrets}
			c.stands[name] = why
			delete(c.unset, name)
		}
	}
	return nil
}

// Actions are those of the real service. Whoever deploys a flow that calls one is told that nothing is sent.
func (s standIn) Actions() (all []service.Action) {
	for _, action := range s.Service.Actions() {
		schema := map[string]any{"type": "object"}
		if len(action.Params) > 0 {
			if err := json.Unmarshal(action.Params, &schema); err != nil {
				panic(err) // it was read when the service was made
			}
		}
		schema[service.Note] = fmt.Sprintf("%s is a stand-in here, which sends nothing; %s", s.name, s.why)
		data, err := json.Marshal(schema)
		if err != nil {
			panic(err) // it was JSON
		}
		action.Params = data
		all = append(all, action)
	}
	return all
}

// Call sends nothing.
func (s standIn) Call(ctx context.Context, c service.Call) (any, error) {
	c.DryRun = true
	if _, err := s.Service.Call(ctx, c); err != nil {
		return nil, err
	}
	if err := s.show(ctx, c); err != nil {
		return nil, err
	}
	return s.answer(ctx, c.Action)
}

// answer makes up a result.
func (s standIn) answer(ctx context.Context, name string) (any, error) {
	actions := s.Service.Actions()
	at := max(slices.IndexFunc(actions, func(a service.Action) bool { return a.Name == name }), 0)
	out := map[string]any{}
	if schema := actions[at].Result; len(schema) > 0 {
		made, err := llmtest.Echo().Answer(ctx, &llm.Request{Schema: &llm.Schema{JSON: schema}})
		if err != nil {
			return nil, err
		}
		if json.Unmarshal([]byte(made.Text), &out) != nil || out == nil {
			return json.RawMessage(made.Text), nil // no object: a list, a text
		}
	}
	withoutNothing(out)
	out["standIn"] = "nothing was sent: " + s.why
	return out, nil
}

// withoutNothing takes items out of lists of which nothing is known, such as the rows of a database: there are none.
func withoutNothing(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, field := range v {
			v[name] = withoutNothing(field)
		}
	case []any:
		return slices.DeleteFunc(v, func(item any) bool {
			fields, is := withoutNothing(item).(map[string]any)
			return item == nil || is && len(fields) == 0
		})
	}
	return v
}

// show prints a call: whose it is, and what would be sent.
func (s standIn) show(ctx context.Context, c service.Call) error {
	var params map[string]any
	in := json.NewDecoder(bytes.NewReader(c.Params))
	in.UseNumber()
	if err := in.Decode(&params); err != nil {
		return err
	}
	info := pawl.InfoOf(ctx)
	known, err := s.known(ctx, info.Tenant)
	if err != nil {
		return err
	}
	hidden := service.NewRedactor(known...)
	action := c.Action
	if action == "" {
		action = s.Service.Actions()[0].Name
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(params)) {
		text, is := params[name].(string)
		if !is {
			data, err := json.Marshal(params[name])
			if err != nil {
				return err
			}
			text = string(data)
		}
		text = cut(hidden.Text(text), maxShown)
		fmt.Fprintf(&b, "\n    %s: %s", name, strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n      "))
	}
	s.out.line("%s %s.%s of %s in run %s is not sent: %s is a stand-in; %s%s", s.out.yellow("○"), s.name, action, info.Step, info.RunID, s.name, s.why, b.String())
	return nil
}

// maxShown is how many characters of a parameter are shown.
const maxShown = 4000

// known are the values of a tenant's secrets: what is printed holds none of them.
func (s standIn) known(ctx context.Context, tenant string) (all []string, _ error) {
	for after := ""; ; {
		page, err := s.secrets.List(ctx, tenant, "", after, 0)
		if err != nil {
			return nil, err
		}
		for _, one := range page {
			values, err := s.secrets.Values(ctx, tenant, one.Name)
			if err != nil {
				return nil, err
			}
			all = append(all, values...)
			after = one.Name
		}
		if len(page) == 0 {
			return all, nil
		}
	}
}
