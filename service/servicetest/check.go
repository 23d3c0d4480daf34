// Package servicetest holds a [service.Service] against what each must do. It is for tests:
//
//	func TestTheService(t *testing.T) {
//		servicetest.Check(t, crm, servicetest.Options{Examples: []servicetest.Example{{Action: "find", Params: `{"name": "Ada"}`}}})
//	}
package servicetest

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl/internal/schema"
	"github.com/pawlrun/pawl/service"
)

// Options say with what a service is tried.
type Options struct {
	// Examples are calls that succeed. Each action should have one.
	Examples []Example
	// Slow is a call that does not end by itself, or only after a minute: its context is cancelled while it waits. The zero value: there is none.
	Slow Example
	// Effects counts what has happened outside so far, such as the requests that a server of the test has had. Nil: it is not known.
	Effects func() int
	// Secrets are texts that no plan, no result and no error may hold.
	Secrets []string
	// DryOnly says that the examples are not carried out, because nothing is there to carry them out.
	DryOnly bool
}

// Example is one call.
type Example struct {
	Action string // "": the first
	Params string // JSON
}

// soon is within which a call must end when its context has. It is generous: machines may be busy.
const soon = 20 * time.Second

// Check fails the test for each promise that the service does not keep: what it says of its actions, calls that can't be
// carried out, dry runs, cancelled contexts, results, and use by many at once.
func Check(t *testing.T, s service.Service, opt Options) {
	t.Helper()
	t.Run("its actions are described", func(t *testing.T) { actions(t, s) })
	t.Run("what can't be carried out is refused", func(t *testing.T) { refusals(t, s, opt) })
	t.Run("a dry run has no effect", func(t *testing.T) { dryRuns(t, s, opt) })
	t.Run("a call ends with its context", func(t *testing.T) { contexts(t, s, opt) })
	if !opt.DryOnly {
		t.Run("results fit their schemas", func(t *testing.T) { results(t, s, opt) })
	}
	t.Run("many use it at once", func(t *testing.T) { together(t, s, opt) })
}

var actionName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

func actions(t testing.TB, s service.Service) {
	list := s.Actions()
	if len(list) == 0 {
		t.Fatal("it has no action")
	}
	set := service.Set{"it": s}
	if _, first, err := set.Find("it", ""); err != nil || first.Name != list[0].Name {
		t.Errorf("its first action is not found: %v", err)
	}
	seen := map[string]bool{}
	for _, a := range list {
		switch {
		case !actionName.MatchString(a.Name):
			t.Errorf("%q can't be the name of an action", a.Name)
		case seen[a.Name]:
			t.Errorf("two actions have the name %s", a.Name)
		}
		seen[a.Name] = true
		if a.Doc == "" {
			t.Errorf("%s has no Doc: people and models choose actions by it", a.Name)
		}
		if !slices.Contains([]service.Effect{service.Reads, service.Once, service.Writes}, a.Effect) {
			t.Errorf("%s has the effect %q, which is none", a.Name, a.Effect)
		}
		schemas(t, a)
	}
	for i := range list { // it is the caller's own
		list[i].Name = "changed"
	}
	if s.Actions()[0].Name == "changed" {
		t.Error("who changes what Actions returned changes the service")
	}
}

func schemas(t testing.TB, a service.Action) {
	if _, err := schema.Compile(a.Params); err != nil {
		t.Errorf("the parameters of %s: %v", a.Name, err)
		return
	}
	var object struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(a.Params, &object); err != nil || object.Type != "object" {
		t.Errorf("the parameters of %s are no schema of an object", a.Name)
	}
	if len(a.Result) > 0 {
		if _, err := schema.Compile(a.Result); err != nil {
			t.Errorf("the result of %s: %v", a.Name, err)
		}
	}
	var params, result any
	if json.Unmarshal(a.Params, &params) == nil && json.Unmarshal(a.Result, &result) == nil {
		bounds(t, a.Name, params, result)
	}
	var tree any
	if json.Unmarshal(a.Params, &tree) == nil {
		marks(t, a.Name, tree)
	}
}

// bounds looks at the parameters that are said to bound lists of the result.
func bounds(t testing.TB, action string, params, result any) {
	switch v := result.(type) {
	case []any:
		for _, item := range v {
			bounds(t, action, params, item)
		}
	case map[string]any:
		if name, is := v[service.Most]; is {
			object, _ := params.(map[string]any)
			properties, _ := object["properties"].(map[string]any)
			text, _ := name.(string)
			if of, _ := properties[text].(map[string]any); of["type"] != "integer" {
				t.Errorf("the result of %s has %s: %v, which is no parameter that is a whole number", action, service.Most, name)
			}
		}
		for _, inner := range v {
			bounds(t, action, params, inner)
		}
	}
}

// marks looks at what the schema tells flows of templates.
func marks(t testing.TB, action string, tree any) {
	switch v := tree.(type) {
	case []any:
		for _, item := range v {
			marks(t, action, item)
		}
	case map[string]any:
		fill, is := v["x-pawl-fill"]
		if text, _ := fill.(string); is && !slices.Contains([]service.Fill{service.FillValue, service.FillURL, service.FillHTML, service.FillNone}, service.Fill(text)) {
			t.Errorf("the parameters of %s have the x-pawl-fill %v, which is none", action, fill)
		}
		if is && v["properties"] != nil {
			t.Errorf("an x-pawl-fill of %s stands at an object, and belongs to a leaf", action)
		}
		if trusted, is := v[service.Trusted]; is && trusted != true {
			t.Errorf("the parameters of %s have %s: %v; it is true or not there", action, service.Trusted, trusted)
		}
		for _, inner := range v {
			marks(t, action, inner)
		}
	}
}

func refusals(t testing.TB, s service.Service, opt Options) {
	invalid := func(why string, c service.Call) {
		t.Helper()
		c.DryRun = true // so that nothing happens if it is taken
		_, err := call(t, s, opt, c)
		var known *service.Error
		if !errors.As(err, &known) || known.Code != service.Invalid {
			t.Errorf("%s: the error is %v, and must be a *service.Error of the code %s", why, err, service.Invalid)
		}
	}
	invalid("an unknown action", service.Call{Action: "no-such-action", Params: json.RawMessage(`{}`)})
	for _, a := range s.Actions() {
		for _, params := range []string{`[]`, `"text"`, `{"a":`, `1`} {
			invalid(a.Name+" with the parameters "+params, service.Call{Action: a.Name, Params: json.RawMessage(params)})
		}
		var schema struct {
			Required   []string `json:"required"`
			Additional any      `json:"additionalProperties"`
		}
		_ = json.Unmarshal(a.Params, &schema) // looked at above
		if len(schema.Required) > 0 {
			invalid(a.Name+" without the parameters that it needs", service.Call{Action: a.Name, Params: json.RawMessage(`{}`)})
			invalid(a.Name+" without any parameters", service.Call{Action: a.Name})
		}
		if schema.Additional == false {
			invalid(a.Name+" with a parameter that it does not have", service.Call{Action: a.Name, Params: json.RawMessage(`{"no-such-parameter": 1}`)})
		}
	}
}

// call calls and looks for secrets in what comes back.
func call(t testing.TB, s service.Service, opt Options, c service.Call) (any, error) {
	t.Helper()
	out, err := s.Call(t.Context(), c)
	text := ""
	if err != nil {
		text = err.Error()
	} else if data, bad := json.Marshal(out); bad != nil {
		t.Errorf("the result of %s can't be written as JSON: %v", c.Action, bad)
	} else {
		text = string(data)
	}
	for _, secret := range opt.Secrets {
		if strings.Contains(text, secret) {
			t.Errorf("a secret is in what %s returned: %s", c.Action, strings.ReplaceAll(text, secret, "********"))
		}
	}
	return out, err
}

func (e Example) call() service.Call {
	return service.Call{Action: e.Action, Params: json.RawMessage(e.Params), Key: "run-1/step"}
}

func (o Options) effects() int {
	if o.Effects == nil {
		return 0
	}
	return o.Effects()
}

func dryRuns(t testing.TB, s service.Service, opt Options) {
	before := opt.effects()
	for _, e := range opt.Examples {
		c := e.call()
		c.DryRun = true
		out, err := call(t, s, opt, c)
		if err != nil {
			t.Errorf("a dry run of %s %s: %v", e.Action, e.Params, err)
			continue
		}
		plan, is := out.(service.Plan)
		if p, pointer := out.(*service.Plan); pointer && p != nil {
			plan, is = *p, true
		}
		if !is || plan.Would == "" {
			t.Errorf("a dry run of %s gives %T, and must give a service.Plan that says what would happen", e.Action, out)
		}
	}
	if n := opt.effects() - before; n != 0 {
		t.Errorf("dry runs had %d effects", n)
	}
}

func contexts(t testing.TB, s service.Service, opt Options) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, e := range opt.Examples {
		if opt.DryOnly {
			break
		}
		within(t, e, func() {
			if out, err := s.Call(ended, e.call()); err == nil {
				t.Errorf("%s was carried out under a context that had ended: %v", e.Action, out)
			}
		})
	}
	if opt.Slow == (Example{}) {
		return
	}
	why := errors.New("cancelled by the test")
	ctx, stop := context.WithCancelCause(t.Context())
	defer time.AfterFunc(100*time.Millisecond, func() { stop(why) }).Stop()
	within(t, opt.Slow, func() {
		_, err := s.Call(ctx, opt.Slow.call())
		switch {
		case ctx.Err() == nil:
			t.Errorf("the slow call of %s ended by itself: %v", opt.Slow.Action, err)
		case err == nil || !errors.Is(err, why) && !errors.Is(err, context.Canceled):
			t.Errorf("%s was cancelled, and returned %v", opt.Slow.Action, err)
		}
	})
}

// within fails the test if a call does not end soon.
func within(t testing.TB, e Example, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(soon):
		t.Fatalf("%s %s goes on for %v after its context has ended", e.Action, e.Params, soon)
	}
}

func results(t testing.TB, s service.Service, opt Options) {
	set := service.Set{"it": s}
	for _, e := range opt.Examples {
		_, action, err := set.Find("it", e.Action)
		if err != nil {
			t.Error(err)
			continue
		}
		out, err := call(t, s, opt, e.call())
		if err != nil {
			t.Errorf("%s %s: %v", action.Name, e.Params, err)
			continue
		}
		if err := fits(action.Result, out); err != nil {
			t.Errorf("what %s returned is not as its schema says: %v", action.Name, err)
		}
	}
}

func together(t testing.TB, s service.Service, opt Options) {
	var wait sync.WaitGroup
	for range 8 {
		for _, e := range opt.Examples {
			wait.Go(func() {
				c := e.call()
				c.DryRun = opt.DryOnly
				s.Actions()
				if _, err := s.Call(t.Context(), c); err != nil {
					t.Errorf("%s beside others: %v", e.Action, err)
				}
			})
		}
	}
	wait.Wait()
}
