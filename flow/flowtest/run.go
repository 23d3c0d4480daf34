package flowtest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/sqlite"
)

// Options are how cases are run. The zero value is fit for use.
type Options struct {
	// Services are those that the flow is checked against: their schemas are used, and they are never called. What the flow names beyond
	// these takes any parameters.
	Services service.Set
	// Only, if not nil, picks cases by their names.
	Only func(name string) bool
	// Limit is how long one case may take. 0 means 30 s.
	Limit time.Duration
}

// Run takes a flow through its cases, one after the other. What is wrong with the document is an error of type [flow.Problems]; what is
// wrong with a case is in the report. The error of a ctx that ended ends all.
func Run(ctx context.Context, doc []byte, cases Cases, opt Options) (Report, error) {
	opt.Limit = cmp.Or(max(opt.Limit, 0), 30*time.Second)
	set, unknown := world(doc, opt.Services)
	f, err := flow.Parse(doc, flow.World{Services: set, Model: model})
	if err != nil {
		return Report{}, err
	}
	d, err := newDocument(f)
	if err != nil {
		return Report{}, err
	}
	r := Report{WorkflowID: f.ID, Cases: []Result{}}
	for _, name := range unknown {
		r.Notes = append(r.Notes, fmt.Sprintf("the service %s is not known here: its parameters were not checked", name))
	}
	for _, p := range f.Warnings {
		if p.Note {
			r.Notes = append(r.Notes, p.Message)
		}
	}
	passed := map[string]bool{}
	for i := range cases {
		c := &cases[i]
		if opt.Only != nil && !opt.Only(c.Name) {
			continue
		}
		t := newTrial(d, c, set)
		started := time.Now()
		one := Result{Name: c.Name, Line: c.Line, Path: []string{}}
		if one.Failures = c.check(d); len(one.Failures) == 0 {
			if err := t.run(ctx, opt.Limit); err != nil {
				if ctx.Err() != nil {
					return r, ctx.Err()
				}
				one.Failures = append(one.Failures, err.Error())
			}
			t.result(&one)
		}
		one.Passed = len(one.Failures) == 0
		one.TookMs = time.Since(started).Milliseconds()
		r.Cases = append(r.Cases, one)
		for at := range t.passed {
			passed[at] = true
		}
	}
	r.Coverage = coverageOf(f.Points(), passed)
	return r, nil
}

// model is what is asked where a step names none.
const model = llmtest.ProviderName + "/test"

// trial is one case under way.
type trial struct {
	doc *document
	c   *Case
	set service.Set

	mu                               sync.Mutex
	answers, services, waits, childs told
	calls                            map[string][]any // parameters, by step
	faults                           []string
	given                            map[string]bool // waits that have had their answer
	visits, open                     map[string]int  // of steps
	path                             []string
	passed                           map[string]bool
	variables                        map[string]any
	ended                            pawl.RunInfo
	output                           any
	trouble                          string // the error of a run that failed
}

func newTrial(d *document, c *Case, set service.Set) *trial {
	part := func(field string, of map[string]any) told { return told{field, of, map[string]int{}} }
	return &trial{
		doc: d, c: c, set: set, answers: part("answers", c.Answers), services: part("services", c.Services), waits: part("waits", c.Waits),
		childs: part("children", c.Children), calls: map[string][]any{}, given: map[string]bool{}, visits: map[string]int{}, open: map[string]int{},
		passed: map[string]bool{}, variables: c.Input,
	}
}

func (t *trial) fault(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if said := fmt.Sprintf(format, args...); !slices.Contains(t.faults, said) {
		t.faults = append(t.faults, said)
	}
}

// trace is told what the run does. A replay begins anew.
func (t *trial) trace(run string) func(flow.Passage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.path, t.visits, t.open, t.variables = nil, map[string]int{}, map[string]int{}, t.c.Input
	return func(p flow.Passage) {
		main := strings.Count(p.At, "/") == 2
		t.mu.Lock()
		defer t.mu.Unlock()
		if !p.Over {
			t.visits[p.Step]++
			t.open[p.Step]++
			if main {
				t.path = append(t.path, p.Step)
			}
			return
		}
		t.open[p.Step]--
		for _, at := range p.Passed {
			t.passed[at] = true
		}
		if t.doc.timesOutHere(t.c, p) { // nobody was asked to answer
			t.waits.taken[p.Step] = max(t.waits.taken[p.Step], 1)
		}
		if main {
			t.variables = p.Variables
			if p.To == flow.End || p.To == flow.Fail {
				t.path = append(t.path, p.To)
			}
		}
	}
}

// timesOutHere reports whether a step is a wait that the case lets time out.
func (d *document) timesOutHere(c *Case, p flow.Passage) bool {
	n := d.nodes[p.Step]
	return n != nil && n.kind == "wait" && timesOut(c.Waits[p.Step])
}

// models are a script behind the name of each provider, which costs nothing.
func (t *trial) models(providers []string) (*agent.Models, error) {
	script := llmtest.Script(llmtest.Rule{Answer: t.say})
	all := map[string]llm.Model{}
	var list []map[string]any
	for _, name := range providers {
		all[name] = script
		list = append(list, map[string]any{"provider": name, "model": "*", "input": 0, "output": 0})
	}
	data, err := json.Marshal(map[string]any{"prices": list})
	if err != nil {
		return nil, err
	}
	prices, err := (&llm.Prices{}).With("the prices of the script", data)
	if err != nil {
		return nil, err
	}
	return agent.New(agent.Options{Providers: all, Model: model, Prices: prices, Breaker: neverOpen()}), nil
}

// neverOpen is a circuit breaker that lets all calls pass: what fails in a case is meant to.
func neverOpen() *agent.Breaker { return agent.NewBreaker(&agent.BreakerOptions{Failures: 1 << 30}) }

// providers are those that the flow's models name.
func (d *document) providers() []string {
	out := []string{llmtest.ProviderName}
	for _, n := range d.nodes {
		names, _ := n.config["models"].([]any)
		for _, name := range append([]any{n.config["model"]}, names...) {
			text, _ := name.(string)
			if provider, _, is := strings.Cut(text, "/"); is && !slices.Contains(out, provider) {
				out = append(out, provider)
			}
		}
	}
	return out
}

// run carries the case out. An error is a run that could not be brought to its end.
func (t *trial) run(ctx context.Context, limit time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	data, err := t.doc.hurried(t.c)
	if err != nil {
		return err
	}
	services := t.stands(t.set)
	f, err := flow.Parse(data, flow.World{Services: services, Model: model})
	if err != nil {
		return err
	}
	models, err := t.models(t.doc.providers())
	if err != nil {
		return err
	}
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	silent := slog.New(slog.NewTextHandler(io.Discard, nil))
	engine := pawl.New(store, &pawl.Options{Logger: silent, ParkFor: time.Hour, Lease: time.Minute, Drain: time.Millisecond, Secret: []byte("a secret that nobody has to keep, for cases")})
	defs := append(t.children(), flow.Define(f, flow.Options{
		Models: models, Services: services, Model: model, Provider: func(string) string { return llmtest.ProviderName }, Logger: silent, Trace: t.trace,
		Breaker: neverOpen(),
		Secret:  func(_ context.Context, _, name string) (string, error) { return "the secret " + name, nil },
	}))
	if err := engine.Register(defs...); err != nil {
		return err
	}
	working, stop := context.WithCancel(ctx)
	over := make(chan error, 1)
	go func() { over <- engine.Run(working) }()
	defer func() {
		stop()
		if ended := <-over; ended != nil && !errors.Is(ended, context.Canceled) && !errors.Is(ended, context.DeadlineExceeded) {
			err = errors.Join(err, ended)
		}
	}()
	input, err := json.Marshal(t.c.Input)
	if err != nil {
		return err
	}
	if t.c.Input == nil {
		input = json.RawMessage("{}")
	}
	info, err := engine.StartRun(ctx, f.ID, input)
	if err != nil {
		return fmt.Errorf("the run could not be started: %w", err)
	}
	if err := t.attend(ctx, engine, pawl.Ref{ID: info.ID}); err != nil {
		return err
	}
	ended, last, err := engine.Wait(ctx, "", info.ID)
	if err != nil {
		return err
	}
	t.ended = ended
	switch {
	case last.Failed:
		t.trouble = last.Failure().Message
		return nil
	case len(last.Data) > 0:
		t.output, err = decode(last.Data)
	}
	return err
}
