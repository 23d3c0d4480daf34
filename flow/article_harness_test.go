package flow_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// operator is somebody who deploys documents to a server and runs them.
type operator struct {
	*server
	t     *testing.T
	desk  *desk
	model *llmtest.Scripted
}

// eachOperator runs f on each store, with a desk, a model that answers by rules, and what change makes of the options.
func eachOperator(t *testing.T, rules []llmtest.Rule, change func(*flow.Options), f func(t *testing.T, o *operator)) {
	t.Helper()
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		o := &operator{t: t, desk: &desk{}, model: llmtest.Script(rules...)}
		opt := options(t, o.desk)
		prices, err := llm.DefaultPrices().With("test", []byte(`{"prices": [{"provider": "test", "model": "m", "input": 1000000, "output": 2000000}]}`))
		if err != nil {
			t.Fatal(err)
		}
		opt.Models = agent.New(agent.Options{Providers: map[string]llm.Model{"test": o.model}, Prices: prices})
		if change != nil {
			change(&opt)
		}
		o.server = serve(t, open(), opt)
		f(t, o)
	})
}

// run deploys a document and runs it, and returns the run and how it ended.
func (o *operator) run(doc, variables string) (id, out string, err error) {
	o.t.Helper()
	d := o.deploys(o.t, doc)
	run, err := o.StartRun(o.t.Context(), d.ID, json.RawMessage(variables))
	if err != nil {
		o.t.Fatal(err)
	}
	data, err := pawl.Attach[json.RawMessage](o.Engine, run.ID).Result(o.t.Context())
	return run.ID, string(data), err
}

// says is run of a document that must complete with an output.
func (o *operator) says(doc, variables, want string) (id string) {
	o.t.Helper()
	id, out, err := o.run(doc, variables)
	if err != nil || out != want {
		o.t.Errorf("of %s it is %s, %v; want %s", variables, out, err, want)
	}
	return id
}

// breaks is run of a document that must fail, with words in its error.
func (o *operator) breaks(doc, variables string, words ...string) (id string) {
	o.t.Helper()
	id, out, err := o.run(doc, variables)
	if err == nil {
		o.t.Errorf("of %s it completed with %s, want an error", variables, out)
		return id
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			o.t.Errorf("of %s the error is %q, want %q in it", variables, err, word)
		}
	}
	return id
}

// refused deploys a document that must be refused with exactly these problems: "pointer: message", or the beginning of it.
func (o *operator) refused(doc string, want ...string) {
	o.t.Helper()
	_, err := o.Deploy(o.t.Context(), flow.Deployment{Document: []byte(doc)})
	told(o.t, err, want...)
}

// journal is all that the store keeps of a run, as text.
func (o *operator) journal(run string) string {
	o.t.Helper()
	var b strings.Builder
	for e, err := range o.Engine.Journal(o.t.Context(), pawl.Ref{ID: run}) {
		if err != nil {
			o.t.Fatal(err)
		}
		data, err := json.Marshal(e)
		if err != nil {
			o.t.Fatal(err)
		}
		b.Write(data)
		b.WriteString(string(e.Data) + "\n")
	}
	return b.String()
}

// told holds an error of a deployment against the faults that must be told, in the order of the document.
func told(t testing.TB, err error, want ...string) {
	t.Helper()
	var found flow.Problems
	if !errors.As(err, &found) {
		t.Errorf("the error is %v, want problems", err)
		return
	}
	var got []string
	for _, p := range found.Faults() {
		line := p.Pointer + ": " + p.Message
		if p.Hint != "" {
			line += "; " + p.Hint
		}
		if got = append(got, line); p.Line == 0 || p.Column == 0 {
			t.Errorf("it is not said where: %+v", p)
		}
	}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("told is\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// warned returns what a document is warned of, though it is deployed.
func warned(t testing.TB, doc string) (out []string) {
	t.Helper()
	f, err := flow.Parse([]byte(doc), world())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.Warnings {
		out = append(out, p.Pointer+": "+p.Message)
	}
	return out
}
