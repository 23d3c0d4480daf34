package flow

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/service"
)

// Reach is one thing that a flow can do outside of itself, or that lets the outside in: for who decides whether it may.
type Reach struct {
	Kind string `json:"kind"`           // trigger, model, service, tool, workflow, database, secret, webhook
	What string `json:"what"`           // what is reached, as far as the document says it
	Step string `json:"step,omitempty"` // that does it; within others with their ids
	// Care says why to look twice: what is reached depends on a run's data or on a model's words, or is open to anybody. "": nothing does.
	Care string `json:"care,omitempty"`
}

func (r Reach) String() string {
	text := r.Kind + " " + r.What
	if r.Step != "" {
		text += " (" + r.Step + ")"
	}
	if r.Care != "" {
		text += " — CARE: " + r.Care
	}
	return text
}

// reach is all that the flow can do.
func (f *Flow) reach() []Reach {
	out := reaches{}
	for _, s := range f.starts {
		switch s.kind {
		case "webhook":
			r := Reach{Kind: "trigger", What: s.route.Path}
			if s.open() {
				r.Care = "whoever reaches the server can start runs"
			}
			out.add(r)
			if s.route.Secret != "" {
				out.add(Reach{Kind: "secret", What: s.route.Secret})
			}
		case "database-change":
			out.add(Reach{Kind: "database", What: s.at.get("dsn").str()})
		}
	}
	out.graph(f.main, "")
	return out
}

// reaches are gathered, each once.
type reaches []Reach

func (all *reaches) add(r Reach) {
	if !slices.Contains(*all, r) {
		*all = append(*all, r)
	}
}

func (all *reaches) graph(g graph, in string) {
	for _, s := range g.steps {
		at := in + s.id
		switch w := s.work.(type) {
		case *decision:
			all.models(at, w.models)
		case *call:
			all.call(at, w)
		case *child:
			all.add(Reach{Kind: "workflow", What: w.name, Step: at})
		case *wait:
			for _, n := range w.notices {
				all.call(at, n.call)
			}
			if w.what == "webhook" {
				all.add(Reach{Kind: "webhook", What: "an address of its own, which whoever knows it can call", Step: at})
			}
		case *agentWork:
			all.agent(at, w)
		case *parallel:
			for _, b := range w.branches {
				all.graph(b.graph, at+"/"+b.id+"/")
			}
		case *each:
			all.graph(w.graph, at+"/")
		}
		s.work.reads(func(_ *node, u use) {
			if u.path[0].Name == "secrets" && len(u.path) > 1 {
				all.add(Reach{Kind: "secret", What: u.path[1].Name, Step: at})
			}
		})
	}
}

func (all *reaches) models(at string, names []string) {
	if len(names) == 0 {
		names = []string{"that of the server"}
	}
	for _, name := range names {
		all.add(Reach{Kind: "model", What: name, Step: at})
	}
}

func (all *reaches) call(at string, k *call) {
	r := Reach{Kind: "service", What: k.words(), Step: at}
	if k.action.Name == "" {
		r.Care = "the server has no such action"
	}
	for _, n := range k.params.naming(k.action) {
		if n.chosen {
			r.Care = fmt.Sprintf("the run's data choose %s", n.name)
		}
	}
	if len(k.allow) > 0 {
		r.Care = "a model's words may choose " + strings.Join(k.allow, ", ")
	}
	all.add(r)
}

func (all *reaches) agent(at string, k *agentWork) {
	model := []string{}
	if k.model != "" {
		model = append(model, k.model)
	}
	all.models(at, model)
	for _, t := range k.tools {
		r := Reach{Kind: "tool", What: t.use, Step: at}
		var fixed []string
		for _, n := range t.with.naming(t.action) {
			fixed = append(fixed, fmt.Sprintf("%s %s", n.name, short(n.value)))
		}
		if len(fixed) > 0 {
			r.What += ", " + strings.Join(fixed, ", ")
		}
		switch {
		case t.approve:
		case t.server != "":
			r.Care = "the model calls all that this server offers, and no person is asked"
		case t.flow != "":
			r.Care = "the model starts it by itself, and no person is asked"
		case t.action.Name == "":
			r.Care = "the server has no such action"
		case len(k.allow) > 0:
			r.Care = "the model may choose " + strings.Join(k.allow, ", ") + ", and no person is asked"
		case t.action.Effect != service.Reads:
			r.Care = "the model calls it by itself, and no person is asked"
		}
		all.add(r)
	}
}

// naming is a parameter that says who or what is reached.
type naming struct {
	name   string
	value  *node
	chosen bool // by the run's data
}

// naming are the parameters that say who or what is reached, in the document's order.
func (p *params) naming(action service.Action) (out []naming) {
	var schema map[string]any
	if p == nil || json.Unmarshal(action.Params, &schema) != nil {
		return nil
	}
	k := &paramCheck{root: schema}
	properties, _ := schema["properties"].(map[string]any)
	for _, name := range sortedNames(p.fields) {
		leaf := k.resolve(properties[name])
		if leaf[service.Trusted] != true {
			continue
		}
		v := p.fields[name]
		n := naming{name: name, value: v.at}
		v.each(func(at *node, t *template) {
			n.chosen = n.chosen || !onlySecrets(t) && !(leaf["x-pawl-fill"] == string(service.FillURL) && fixedHost(at.text))
		})
		out = append(out, n)
	}
	return out
}

// onlySecrets reports whether a template puts in nothing but secrets.
func onlySecrets(t *template) bool {
	return !slices.ContainsFunc(t.paths(), func(u use) bool { return u.path[0].Name != "secrets" })
}

// fixedHost reports whether the host of an address stands before its first place.
func fixedHost(address string) bool {
	before, _, _ := strings.Cut(address, "{{")
	_, host, is := strings.Cut(before, "://")
	return is && strings.Contains(host, "/")
}
