package templates_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/service/database"
	"github.com/pawlrun/pawl/service/email"
	"github.com/pawlrun/pawl/templates"
	"go.yaml.in/yaml/v3"
)

// testCase is a case of a template's file of cases, with the fields that templates use.
type testCase struct {
	Name     string
	Input    map[string]any
	Answers  map[string]any
	Services map[string]any
	Waits    map[string]map[string]any
	Expect   struct {
		Path      []string
		Status    string
		Output    any
		Variables map[string]any
		Calls     map[string]map[string]any
		Error     string
	}
}

func casesOf(t testing.TB, of templates.Template) []testCase {
	t.Helper()
	var file struct{ Cases []testCase }
	if err := yaml.Unmarshal([]byte(of.Cases()), &file); err != nil || len(file.Cases) == 0 {
		t.Fatalf("%s has %d cases: %v", of.Name, len(file.Cases), err)
	}
	return file.Cases
}

// realServices are the services that a template needs, as pawl makes them: of nothing but settings that look like real ones.
func realServices(t testing.TB, of templates.Template) service.Set {
	t.Helper()
	must := func(s service.Service, err error) service.Service {
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	set := service.Set{}
	web, err := service.NewHTTP(service.HTTPOptions{})
	set["http"] = must(web, err)
	slack, err := service.NewSlack(service.SlackOptions{Token: "xoxb-1-test"})
	set["slack"] = must(slack, err)
	mail, err := email.New(email.Options{Host: "smtp.example.org", From: "Pawl <pawl@example.org>"})
	set["email"] = must(mail, err)
	data, err := database.New(database.Options{Connections: map[string]database.Connection{"main": {DSN: "postgres://pawl@db.example.org/main", Execute: true, Once: true}}})
	set["database"] = must(data, err)
	for name, description := range of.Services() {
		made, err := service.Describe([]byte(description), service.DescribeOptions{
			Secret: func(context.Context, string) (string, error) { return "s3cret", nil },
			Env: func(name string) (string, bool) {
				return "https://" + strings.ToLower(strings.TrimSuffix(name, "_URL")) + ".example.org", true
			},
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if made.Name() != name {
			t.Errorf("services/%s.yaml describes %s", name, made.Name())
		}
		set[name] = made
	}
	return set
}

// recorder stands in for the other side of real services: they check each call and make the request of it, which is not sent,
// and the case says what comes back.
type recorder struct {
	answers map[string]any
	effects pawltest.Effects
	mu      sync.Mutex
	nodes   map[string]node
	calls   map[string][]map[string]any // by the node's id
	steps   map[string]bool             // that have called
}

// keys are the steps that have called, sorted: what is done twice by one key is done once.
func (r *recorder) keys() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.steps))
}

func (r *recorder) around(set service.Set) service.Set {
	out := service.Set{}
	for name, real := range set {
		out[name] = recorded{real, r}
	}
	return out
}

// calling is the id of the node that calls: a step of a service, or a wait that tells people.
func (r *recorder) calling(ctx context.Context) string {
	for part := range strings.FieldsFuncSeq(pawl.InfoOf(ctx).Step, func(c rune) bool { return c == '/' || c == '#' || c == ':' }) {
		if n := r.nodes[part]; n.Config.Service != "" || n.Config.For != "" {
			return part
		}
	}
	return path.Base(pawl.InfoOf(ctx).Step)
}

type recorded struct {
	service.Service
	by *recorder
}

func (s recorded) Call(ctx context.Context, c service.Call) (any, error) {
	node := s.by.calling(ctx)
	var params map[string]any
	if err := json.Unmarshal(c.Params, &params); err != nil {
		return nil, err
	}
	c.DryRun = true
	if _, err := s.Service.Call(ctx, c); err != nil {
		return nil, err
	}
	s.by.effects.Do(ctx, pawl.InfoOf(ctx).Step)
	s.by.mu.Lock()
	s.by.calls[node] = append(s.by.calls[node], params)
	s.by.steps[pawl.InfoOf(ctx).Step] = true
	s.by.mu.Unlock()
	answer, is := s.by.answers[node]
	if !is {
		return map[string]any{}, nil
	}
	if m, is := answer.(map[string]any); is && len(m) == 1 {
		if e, is := m["error"].(map[string]any); is {
			return nil, &service.Error{Code: fmt.Sprint(e["code"]), Message: fmt.Sprint(e["message"])}
		}
	}
	return answer, nil
}

// node is what the harness reads of a step.
type node struct {
	ID     string
	Config struct {
		Service, Prompt, For string
		Approvers            []string
		Notify               []map[string]any
		TimeoutMs            int `yaml:"timeoutMs"`
		RemindMs             int `yaml:"remindMs"`

		Steps    []node
		Branches []struct{ Steps []node }
	}
}

func nodesOf(t testing.TB, of templates.Template) (top []node, all map[string]node) {
	t.Helper()
	var doc struct{ Steps []node }
	if err := yaml.Unmarshal([]byte(of.Flow()), &doc); err != nil {
		t.Fatal(err)
	}
	all = map[string]node{}
	var add func(list []node)
	add = func(list []node) {
		for _, n := range list {
			all[n.ID] = n
			add(n.Config.Steps)
			for _, b := range n.Config.Branches {
				add(b.Steps)
			}
		}
	}
	add(doc.Steps)
	return doc.Steps, all
}

// script answers by the case's answers. Of a list it gives the n-th where the run comes to the step for the n-th time: a question that is
// asked again after a crash has the same answer.
func script(nodes map[string]node, answers map[string]any) llm.Model {
	return llmtest.Script(llmtest.Rule{Answer: func(ctx context.Context, _ *llm.Request) (*llm.Response, error) {
		asks, visit := "", 1
		for part := range strings.SplitSeq(pawl.InfoOf(ctx).Step, "/") {
			id, rest, again := strings.Cut(part, "#")
			id, _, _ = strings.Cut(id, ":")
			if nodes[id].Config.Prompt == "" {
				continue
			}
			asks = id
			if again {
				rest, _, _ = strings.Cut(rest, ":")
				visit, _ = strconv.Atoi(rest)
			}
			break
		}
		answer, is := answers[asks]
		if list, several := answer.([]any); several && visit >= 1 && visit <= len(list) {
			answer = list[visit-1]
		}
		if fields, failing := answer.(map[string]any); !is || failing && len(fields) == 1 && fields["error"] != nil {
			return nil, &llm.Error{Kind: llm.Auth, Provider: llmtest.ProviderName, Message: "the case has no answer of " + asks}
		}
		if text, is := answer.(string); is {
			return &llm.Response{Text: text}, nil
		}
		data, err := json.Marshal(answer)
		return &llm.Response{Text: string(data)}, err
	}})
}

// options are those of a program that runs a case.
func options(t testing.TB, of templates.Template, c testCase) (flow.Options, *recorder) {
	t.Helper()
	_, nodes := nodesOf(t, of)
	prices, err := llm.DefaultPrices().With("test", []byte(`{"prices": [{"provider": "test", "model": "m", "input": 1000000, "output": 2000000}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{answers: c.Services, nodes: nodes, calls: map[string][]map[string]any{}, steps: map[string]bool{}}
	return flow.Options{
		Models: agent.New(agent.Options{Providers: map[string]llm.Model{"test": script(nodes, c.Answers)}, Prices: prices}),
		Model:  "test/m", Services: r.around(realServices(t, of)),
	}, r
}

func define(t testing.TB, of templates.Template, opt flow.Options) *pawl.Workflow[flow.Variables, json.RawMessage] {
	t.Helper()
	f, err := flow.Parse([]byte(of.Flow()), flow.World{Services: opt.Services, Model: opt.Model})
	if err != nil {
		t.Fatal(err)
	}
	return flow.Define(f, opt)
}

// variables are a case's input, as it comes over HTTP.
func variables(t testing.TB, input map[string]any) (v flow.Variables) {
	t.Helper()
	data, err := json.Marshal(input)
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// people do what the case says of waits, each when the run has come to it.
func people(t testing.TB, h *pawltest.Harness, runID string, c testCase) {
	for _, id := range slices.Sorted(maps.Keys(c.Waits)) {
		w := c.Waits[id]
		if w["timeout"] == true {
			continue
		}
		asked, is := asking(t, h, runID, id)
		if !is {
			return
		}
		answer := approval.Answer{Approved: w["approved"] == true, By: fmt.Sprint(w["by"]), Shown: asked.Shown}
		answer.Comment, _ = w["comment"].(string)
		if form, is := w["form"]; is {
			answer.Form, _ = json.Marshal(form)
		}
		if _, err := approval.Decide(h.Context(), h.Engine(), pawl.Ref{ID: asked.ID}, answer); err != nil && !errors.Is(err, pawl.ErrConflict) && !errors.Is(err, pawl.ErrState) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// asking is the approval of a wait, as soon as it is asked, which may be days of virtual time later.
func asking(t testing.TB, h *pawltest.Harness, runID, id string) (approval.Approval, bool) {
	for pause := time.Second; ; pause = min(2*pause, time.Hour) {
		open, err := approval.List(h.Context(), h.Engine(), approval.Filter{Run: runID})
		if err == nil {
			if i := slices.IndexFunc(open.Items, func(a approval.Approval) bool { return path.Base(a.ID) == id }); i >= 0 {
				return open.Items[i], true
			}
		}
		if h.Info(runID).State.Terminal() || h.Context().Err() != nil {
			t.Errorf("%s was never asked: %v", id, err)
			return approval.Approval{}, false
		}
		time.Sleep(pause)
	}
}

// sameJSON compares values as JSON: 9 and 9.0 are the same.
func sameJSON(t testing.TB, got, want any) bool {
	t.Helper()
	return reflect.DeepEqual(plain(t, got), plain(t, want))
}

// sameButTimes compares results that may say when something was decided.
func sameButTimes(_ string, a, b json.RawMessage) bool {
	var all [2]map[string]any
	for i, data := range []json.RawMessage{a, b} {
		if json.Unmarshal(data, &all[i]) != nil {
			return string(a) == string(b)
		}
		delete(all[i], "at")
	}
	return reflect.DeepEqual(all[0], all[1])
}

// contains reports whether all that want says is in got.
func contains(t testing.TB, got, want any) bool {
	t.Helper()
	fields, is := plain(t, want).(map[string]any)
	if !is {
		return sameJSON(t, got, want)
	}
	object, _ := plain(t, got).(map[string]any)
	for name, v := range fields {
		if !contains(t, object[name], v) {
			return false
		}
	}
	return object != nil
}

func plain(t testing.TB, v any) (out any) {
	t.Helper()
	data, is := v.(json.RawMessage)
	if !is {
		var err error
		if data, err = json.Marshal(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return out
}
