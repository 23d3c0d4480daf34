package servicetest

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/pawlrun/pawl/service"
)

// fine is a service that keeps all promises; broken on purpose it keeps one less.
type fine struct {
	mu      sync.Mutex
	effects int
	list    []service.Action
	call    func(f *fine, ctx context.Context, c service.Call) (any, error)
}

func newFine() *fine {
	return &fine{list: []service.Action{{Name: "add", Doc: "Adds one.", Effect: service.Writes, Params: json.RawMessage(`{"type": "object", "required": ["n"], "additionalProperties": false, "properties": {"n": {"type": "integer", "x-pawl-fill": "none", "x-pawl-trusted": true}}}`), Result: json.RawMessage(`{"type": "integer"}`)}}, call: (*fine).add}
}

func (f *fine) Actions() []service.Action { return append([]service.Action{}, f.list...) }

func (f *fine) Call(ctx context.Context, c service.Call) (any, error) { return f.call(f, ctx, c) }

func (f *fine) add(ctx context.Context, c service.Call) (any, error) {
	var p map[string]int
	if c.Action != "" && c.Action != "add" || json.Unmarshal(c.Params, &p) != nil || len(p) != 1 || p["n"] == 0 {
		return nil, &service.Error{Code: service.Invalid, Message: "add needs n and nothing else"}
	}
	if p["n"] < 0 && !c.DryRun {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if c.DryRun {
		return service.Plan{Would: "add one"}, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.effects++
	return f.effects, nil
}

func (f *fine) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.effects
}

func (f *fine) options() Options {
	return Options{Examples: []Example{{Params: `{"n": 1}`}, {Action: "add", Params: `{"n": 2}`}}, Slow: Example{Params: `{"n": -1}`}, Effects: f.count, Secrets: []string{"s3cret"}}
}

func TestAFineServicePasses(t *testing.T) {
	f := newFine()
	Check(t, f, f.options())
	opt := f.options()
	opt.DryOnly = true
	Check(t, f, opt)
}

// notes takes what a check complains of.
type notes struct {
	testing.TB
	mu   sync.Mutex
	said []string
}

func (n *notes) Helper() {}

func (n *notes) Errorf(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said = append(n.said, fmt.Sprintf(format, args...))
}

func (n *notes) Error(args ...any) { n.Errorf("%s", fmt.Sprint(args...)) }

func (n *notes) Fatal(args ...any) { n.Error(args...); runtime.Goexit() }

func (n *notes) Fatalf(format string, args ...any) { n.Errorf(format, args...); runtime.Goexit() }

func complaints(t *testing.T, s service.Service, opt Options) string {
	n := &notes{TB: t}
	for _, check := range []func(){
		func() { actions(n, s) }, func() { refusals(n, s, opt) }, func() { dryRuns(n, s, opt) }, func() { contexts(n, s, opt) }, func() { results(n, s, opt) }, func() { together(n, s, opt) },
	} {
		done := make(chan struct{})
		go func() { defer close(done); check() }()
		<-done
	}
	return strings.Join(n.said, "\n")
}

func TestABrokenServiceIsNoticed(t *testing.T) {
	action := func(change func(a *service.Action)) func(*fine) {
		return func(f *fine) { change(&f.list[0]) }
	}
	instead := func(call func(f *fine, ctx context.Context, c service.Call) (any, error)) func(*fine) {
		return func(f *fine) { f.call = call }
	}
	for words, breakIt := range map[string]func(*fine){
		"it has no action":          func(f *fine) { f.list = nil },
		"can't be the name":         action(func(a *service.Action) { a.Name = "a b" }),
		"two actions have the name": func(f *fine) { f.list = append(f.list, f.list[0]) },
		"has no Doc":                action(func(a *service.Action) { a.Doc = "" }),
		"which is none":             action(func(a *service.Action) { a.Effect = "some" }),
		"the parameters of add: ":   action(func(a *service.Action) { a.Params = json.RawMessage(`{"type": "objekt"}`) }),
		"no schema of an object":    action(func(a *service.Action) { a.Params = json.RawMessage(`true`) }),
		"the result of add: ":       action(func(a *service.Action) { a.Result = json.RawMessage(`{"$ref": "http://x.test/"}`) }),
		"x-pawl-fill sql": action(func(a *service.Action) {
			a.Params = json.RawMessage(`{"type": "object", "properties": {"n": {"x-pawl-fill": "sql"}}}`)
		}),
		"belongs to a leaf": action(func(a *service.Action) {
			a.Params = json.RawMessage(`{"type": "object", "properties": {}, "x-pawl-fill": "url"}`)
		}),
		"x-pawl-trusted: yes": action(func(a *service.Action) {
			a.Params = json.RawMessage(`{"type": "object", "properties": {"n": {"x-pawl-trusted": "yes"}}}`)
		}),
		"an unknown action: the error is <nil>": instead(func(f *fine, ctx context.Context, c service.Call) (any, error) {
			c.Action = ""
			if string(c.Params) == "{}" {
				return service.Plan{Would: "x"}, nil
			}
			return f.add(ctx, c)
		}),
		"without the parameters that it needs: the error is plain": instead(func(f *fine, ctx context.Context, c service.Call) (any, error) {
			if string(c.Params) == "{}" {
				return nil, fmt.Errorf("plain")
			}
			return f.add(ctx, c)
		}),
		"dry runs had 2 effects": instead(func(f *fine, ctx context.Context, c service.Call) (any, error) {
			if out, err := f.add(ctx, c); err != nil || !c.DryRun {
				return out, err
			}
			c.DryRun = false
			_, err := f.add(ctx, c)
			return service.Plan{Would: "add one"}, err
		}),
		"must give a service.Plan": instead(func(f *fine, ctx context.Context, c service.Call) (any, error) {
			out, err := f.add(ctx, c)
			if c.DryRun && err == nil {
				return "a plan", nil
			}
			return out, err
		}),
		"a secret is in what": instead(func(f *fine, ctx context.Context, c service.Call) (any, error) {
			out, err := f.add(ctx, c)
			if err != nil {
				return nil, &service.Error{Code: service.Invalid, Message: "the key s3cret is not for this"}
			}
			return out, nil
		}),
		"context that had ended": instead(func(f *fine, _ context.Context, c service.Call) (any, error) { return f.add(context.Background(), c) }),
		"was cancelled, and returned": instead(func(f *fine, ctx context.Context, c service.Call) (any, error) {
			out, err := f.add(ctx, c)
			if ctx.Err() != nil {
				return nil, fmt.Errorf("the wire is cut")
			}
			return out, err
		}),
		"not as its schema says": instead(func(f *fine, ctx context.Context, c service.Call) (any, error) {
			out, err := f.add(ctx, c)
			if _, plan := out.(service.Plan); err == nil && !plan {
				return "one", nil
			}
			return out, err
		}),
		"can't be written as JSON": instead(func(f *fine, ctx context.Context, c service.Call) (any, error) {
			out, err := f.add(ctx, c)
			if _, plan := out.(service.Plan); err == nil && !plan {
				return func() {}, nil
			}
			return out, err
		}),
	} {
		f := newFine()
		breakIt(f)
		opt := f.options()
		if words == "context that had ended" {
			opt.Slow = Example{} // it would not end
		}
		if said := complaints(t, f, opt); !strings.Contains(said, words) {
			t.Errorf("%q is not among what was said:\n%s", words, said)
		}
	}
	f := newFine()
	if said := complaints(t, f, f.options()); said != "" {
		t.Errorf("of a fine service it says:\n%s", said)
	}
}
