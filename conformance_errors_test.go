package pawl_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// quick lets steps be tried again at once.
var quick = pawl.Backoff(time.Millisecond, 5*time.Millisecond)

func mustFail() error { return errors.New("Nested workflow error") }

// The frames of these are looked for in stacks.
func errorNested1() error { return errorNested2() }
func errorNested2() error { return errorNested3() }
func errorNested3() error { panic("Nested workflow error") }

func TestB1_030_errorNested(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		plain := pawl.Define("plain", func(c *pawl.Context, _ none) (none, error) {
			return none{}, fmt.Errorf("outer: %w", mustFail())
		})
		panics := pawl.Define("panics", func(c *pawl.Context, _ none) (none, error) { return none{}, errorNested1() })
		n := boot(t, open(), nil, plain, panics)
		r := start(n, plain, none{})
		err := failure(n, r)
		equal(t, "state", err.State, pawl.Failed)
		equal(t, "run", err.RunID, r.ID())
		equal(t, "message", err.Err.Error(), "outer: Nested workflow error")
		equal(t, "cause", errors.Unwrap(err.Err).Error(), "Nested workflow error")
		equal(t, "state in the store", n.info(r.ID()).State, pawl.Failed)

		p := start(n, panics, none{})
		equal(t, "message of a panic", failure(n, p).Err.Error(), "panic: Nested workflow error")
		f := lastFailure(n, p.ID())
		for _, frame := range []string{"errorNested1", "errorNested2", "errorNested3"} {
			if !strings.Contains(f.Stack, frame) {
				t.Errorf("the stack does not name %s:\n%s", frame, f.Stack)
			}
		}
	})
}

// lastFailure is the failure that ended a run, as its journal keeps it.
func lastFailure(n *node, id string) *pawl.Failure {
	n.t.Helper()
	end := n.journal(id, pawl.KindResult)
	if len(end) != 1 || !end[0].Failed {
		n.t.Fatalf("run %s has no failed result: %v", id, end)
	}
	return end[0].Failure()
}

func TestB1_031_errorWorkflowCrossFile(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("crossFile", func(c *pawl.Context, _ none) (none, error) { return none{}, panicInAnotherFile() })
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		err := failure(n, r)
		equal(t, "state", err.State, pawl.Failed)
		equal(t, "message", err.Err.Error(), "panic: Error from imported helper module")
		if f := lastFailure(n, r.ID()); !strings.Contains(f.Stack, "conformance_harness_test.go") {
			t.Errorf("the stack does not name the helper's file:\n%s", f.Stack)
		}
	})
}

// caught is what a workflow that goes on after an error says of it.
type caught struct {
	Caught  bool
	Message string
	Fatal   bool
	Attempt int
}

// catch runs a step that fails and reports its error.
func catch(name string, fn func(context.Context) (none, error), opts ...pawl.StepOption) *pawl.Workflow[none, caught] {
	return pawl.Define(name, func(c *pawl.Context, _ none) (caught, error) {
		_, err := pawl.Step(c, "fails", fn, opts...)
		var se *pawl.StepError
		if !errors.As(err, &se) {
			return caught{}, fmt.Errorf("not a *StepError: %T %w", err, err)
		}
		return caught{true, err.Error(), pawl.IsFatal(err), se.Attempts}, nil
	})
}

func TestB1_032_errorStepBasic(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := catch("basic", func(context.Context) (none, error) { return none{}, errors.New("Step error message") }, pawl.MaxAttempts(1))
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "caught", result(n, r), caught{true, `step "fails": Step error message`, false, 1})
		equal(t, "state", n.info(r.ID()).State, pawl.Completed)
		s := n.journal(r.ID(), pawl.KindStep)
		equal(t, "steps", len(s), 1)
		equal(t, "failed", s[0].Failed, true)
		equal(t, "recorded cause", s[0].Failure().Cause.Message, "Step error message")
	})
}

func TestB1_033_errorStepCrossFile(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := catch("crossFile", func(context.Context) (none, error) { return none{}, panicInAnotherFile() }, pawl.MaxAttempts(1))
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "caught", result(n, r), caught{true, `step "fails": panic: Error from imported helper module`, false, 1})
		equal(t, "state", n.info(r.ID()).State, pawl.Completed)
		s := n.journal(r.ID(), pawl.KindStep, pawl.KindAttempt)
		equal(t, "steps", len(s), 1)
		equal(t, "failed", s[0].Failed, true)
		f := s[0].Failure()
		for _, part := range []string{"panicInAnotherFile", "conformance_harness_test.go"} {
			if !strings.Contains(f.Cause.Stack, part) {
				t.Errorf("the stack does not name %s:\n%s", part, f.Cause.Stack)
			}
		}
	})
}

func TestB1_034_errorRetrySuccess(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("retry", func(c *pawl.Context, _ none) (int, error) {
			return pawl.Step(c, "third", func(ctx context.Context) (int, error) {
				if n := pawl.InfoOf(ctx).Attempt; n != 3 {
					return 0, fmt.Errorf("attempt %d", n)
				}
				return 3, nil
			}, quick)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "result", result(n, r), 3)
		all := n.journal(r.ID(), pawl.KindAttempt, pawl.KindStep)
		equal(t, "entries", len(all), 3)
		for i, e := range all {
			equal(t, "key", e.Key, "third")
			equal(t, "attempt", e.Attempt, i+1)
			equal(t, "failed", e.Failed, i < 2)
		}
		equal(t, "kind of the last", all[2].Kind, pawl.KindStep)
	})
}

func TestB1_035_retryAttemptCounter(t *testing.T) {
	type out struct {
		FinalAttempt int
		IDs          int // different StepIDs
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		ids := map[string]bool{}
		w := pawl.Define("counter", func(c *pawl.Context, _ none) (out, error) {
			return pawl.Step(c, "third", func(ctx context.Context) (out, error) {
				i := pawl.InfoOf(ctx)
				ids[i.StepID] = true
				if i.Attempt < 3 {
					return out{}, errors.New("again")
				}
				return out{i.Attempt, len(ids)}, nil
			}, quick)
		})
		n := boot(t, open(), replays(), w)
		equal(t, "result", complete(n, w, none{}), out{3, 1})
	})
}

func TestB1_036_errorRetryFatal(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("fatal", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "once", func(context.Context) error { return pawl.Fatal(errors.New("no use")) }, quick)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		err := failure(n, r)
		equal(t, "state", err.State, pawl.Failed)
		equal(t, "fatal", pawl.IsFatal(err), true)
		s := n.journal(r.ID(), pawl.KindStep, pawl.KindAttempt)
		equal(t, "entries", len(s), 1)
		equal(t, "attempt", s[0].Attempt, 1)
		equal(t, "failed", s[0].Failed, true)
	})
}

func TestB1_038_errorRetryDisabled(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("disabled", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "once", func(context.Context) error { return errors.New("no") })
		}, pawl.MaxAttempts(1))
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		var se *pawl.StepError
		if err := failure(n, r); !errors.As(err, &se) {
			t.Fatalf("got %v, want a *StepError in it", err)
		}
		equal(t, "attempts", se.Attempts, 1)
		equal(t, "step", se.Step, "once")
		equal(t, "failed attempts", len(n.journal(r.ID(), pawl.KindAttempt)), 0)
	})
}

func TestB1_039_maxRetriesZero(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("zero", func(c *pawl.Context, _ none) ([]int, error) {
			good, err := pawl.Step(c, "good", func(ctx context.Context) (int, error) { return pawl.InfoOf(ctx).Attempt, nil }, pawl.MaxAttempts(1))
			if err != nil {
				return nil, err
			}
			err = pawl.Do(c, "bad", func(context.Context) error { return errors.New("no") }, pawl.MaxAttempts(1))
			var se *pawl.StepError
			if !errors.As(err, &se) {
				return nil, fmt.Errorf("got %w", err)
			}
			return []int{good, se.Attempts}, nil
		})
		n := boot(t, open(), nil, w)
		equal(t, "attempts", complete(n, w, none{}), []int{1, 1})
	})
}

func TestB1_041_errorFatalCatchable(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := catch("fatal", func(context.Context) (none, error) { return none{}, pawl.Fatal(errors.New("no use")) })
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "caught", result(n, r), caught{true, `step "fails": no use`, true, 1})
		equal(t, "state", n.info(r.ID()).State, pawl.Completed)
	})
}

// codedError is an error of a user: it has a code, a cause and details of its own.
type codedError struct {
	Kind   string `json:"kind"`
	Code   int    `json:"code"`
	Detail struct {
		Field string `json:"field"`
	} `json:"detail"`
	cause error
}

func (e *codedError) Error() string     { return "coded: " + e.Kind }
func (e *codedError) ErrorCode() string { return e.Kind }
func (e *codedError) Unwrap() error     { return e.cause }
func (e *codedError) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"kind": e.Kind, "code": e.Code, "detail": e.Detail})
}

func newCoded() *codedError {
	e := &codedError{Kind: "quota", Code: 42}
	e.Detail.Field = "name"
	return e
}

const codedDetails = `{"code":42,"detail":{"field":"name"},"kind":"quota"}`

// seen is what there is to see of a chain of errors.
type seen struct {
	Messages []string
	Types    []string
	Codes    []string
	Fatal    bool
	Details  string
}

// look walks a chain of errors as it came out of a journal.
func look(err error) (s seen) {
	s.Fatal = pawl.IsFatal(err)
	for ; err != nil; err = errors.Unwrap(err) {
		f, ok := err.(*pawl.Failure)
		if !ok {
			continue
		}
		s.Messages, s.Types, s.Codes = append(s.Messages, f.Message), append(s.Types, f.Type), append(s.Codes, f.Code)
		if f.Details != nil {
			s.Details = string(f.Details)
		}
	}
	return s
}

func TestB1_042_errorStepThrowFatalRoundTrip(t *testing.T) {
	want := seen{
		[]string{"fatal with cause: coded: quota", "coded: quota", "underlying type error"},
		[]string{"*fmt.wrapError", "*pawl_test.codedError", "*errors.errorString"}, []string{"", "quota", ""}, true, codedDetails,
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("roundTrip", func(c *pawl.Context, _ none) ([]seen, error) {
			err := pawl.Do(c, "fails", func(context.Context) error {
				e := newCoded()
				e.cause = errors.New("underlying type error")
				return pawl.Fatal(fmt.Errorf("fatal with cause: %w", e))
			})
			before := look(err)
			if err := c.Sleep(50 * time.Millisecond); err != nil {
				return nil, err
			}
			return []seen{before, look(err)}, nil // the second is what a replay sees
		})
		n := boot(t, open(), replays(), w)
		equal(t, "errors", complete(n, w, none{}), []seen{want, want})
	})
}

func TestB1_043_errorWorkflowThrowFatalRoundTrip(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("throws", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Fatal(fmt.Errorf("fatal: %w", errors.New("out of range")))
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		err := failure(n, r)
		equal(t, "run", err.RunID, r.ID())
		equal(t, "workflow", err.Workflow, "throws")
		equal(t, "fatal", pawl.IsFatal(err), true)
		equal(t, "messages", look(err).Messages, []string{"fatal: out of range", "out of range"})
		f := lastFailure(n, r.ID())
		equal(t, "stored", f.Message, "fatal: out of range")
		equal(t, "stored as fatal", f.IsFatal, true)
		equal(t, "reason", n.info(r.ID()).Reason, "fatal: out of range")
	})
}

func TestB1_044_errorWorkflowThrowNonErrorValue(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("details", func(c *pawl.Context, _ none) (none, error) { return none{}, newCoded() })
		n := boot(t, open(), nil, w)
		err := failure(n, start(n, w, none{}))
		equal(t, "seen by the client", look(err), seen{
			[]string{"coded: quota"}, []string{"*pawl_test.codedError"}, []string{"quota"}, false, codedDetails,
		})
	})
}

func TestB1_045_errorStepThrowNonErrorValue(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := catch("value", func(context.Context) (none, error) { panic(map[string]int{"code": 42}) }, pawl.MaxAttempts(1))
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "caught", result(n, r), caught{true, `step "fails": panic: map[code:42]`, false, 1})
		f := n.journal(r.ID(), pawl.KindStep)[0].Failure()
		equal(t, "type", f.Cause.Type, "*pawl.PanicError")
		if !strings.Contains(f.Cause.Stack, "TestB1_045") {
			t.Errorf("the stack does not lead here:\n%s", f.Cause.Stack)
		}
	})
}

// unjson has no JSON form, in its depth.
type unjson struct {
	Items []map[string]any
}

func newUnjson() unjson { return unjson{[]map[string]any{{"good": 1}, {"bad": make(chan int)}}} }

const culprit = "value.Items[1][bad]"

func sink() *pawl.Workflow[unjson, none] {
	return pawl.Define("sink", func(*pawl.Context, unjson) (none, error) { return none{}, nil })
}

func TestB1_046_serializationErrorStepArgsCaught(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		child := sink()
		w := pawl.Define("args", func(c *pawl.Context, _ none) (string, error) {
			_, err := child.Call(c, newUnjson())
			if !errors.Is(err, pawl.ErrEncoding) {
				return "", fmt.Errorf("got %w", err)
			}
			return err.Error(), nil
		})
		n := boot(t, open(), nil, w, child)
		r := start(n, w, none{})
		if msg := result(n, r); !strings.Contains(msg, "input of sink") || !strings.Contains(msg, culprit) {
			t.Errorf("the error does not say what and where: %s", msg)
		}
		equal(t, "children", len(n.journal(r.ID(), pawl.KindChild)), 0)
	})
}

func TestB1_047_serializationErrorStepArgsUncaught(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		child := sink()
		w := pawl.Define("args", func(c *pawl.Context, _ none) (none, error) { return child.Call(c, newUnjson()) })
		n := boot(t, open(), nil, w, child)
		r := start(n, w, none{})
		err := failure(n, r)
		is(t, err, pawl.ErrEncoding)
		if !strings.Contains(err.Error(), "input of sink") {
			t.Errorf("the error does not say what: %v", err)
		}
		equal(t, "claims", n.info(r.ID()).Epoch, 1)
	})
}

func TestB1_048_serializationErrorStepReturnCaught(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		w := pawl.Define("return", func(c *pawl.Context, _ none) ([]string, error) {
			_, err := pawl.Step(c, "bad", func(context.Context) (unjson, error) {
				bodies.add("bad")
				return newUnjson(), nil
			}, quick)
			if !errors.Is(err, pawl.ErrEncoding) {
				return nil, fmt.Errorf("got %w", err)
			}
			if err := c.Sleep(50 * time.Millisecond); err != nil {
				return nil, err
			}
			return []string{err.Error(), fmt.Sprint(errors.Is(err, pawl.ErrEncoding))}, nil
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		out := result(n, r)
		if !strings.Contains(out[0], "result of step bad") || !strings.Contains(out[0], culprit) {
			t.Errorf("the error does not say what and where: %s", out[0])
		}
		equal(t, "still ErrEncoding in a replay", out[1], "true")
		equal(t, "attempts", bodies.get("bad"), 1)
		s := n.journal(r.ID(), pawl.KindStep, pawl.KindAttempt)
		equal(t, "entries", len(s), 1)
		equal(t, "failed", s[0].Failed, true)
	})
}

func TestB1_049_serializationErrorStepReturnUncaught(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		step := pawl.Define("step", func(c *pawl.Context, _ none) (none, error) {
			_, err := pawl.Step(c, "bad", func(context.Context) (unjson, error) { bodies.add("bad"); return newUnjson(), nil }, quick)
			return none{}, err
		})
		whole := pawl.Define("whole", func(c *pawl.Context, _ none) (unjson, error) { return newUnjson(), nil })
		n := boot(t, open(), nil, step, whole)
		err := failure(n, start(n, step, none{}))
		is(t, err, pawl.ErrEncoding)
		if !strings.Contains(err.Error(), "result of step bad") {
			t.Errorf("the error does not say what: %v", err)
		}
		equal(t, "state", err.State, pawl.Failed)
		equal(t, "attempts", bodies.get("bad"), 1)
		equal(t, "claims", n.info(err.RunID).Epoch, 1)
		err = failure(n, start(n, whole, none{}))
		equal(t, "state", err.State, pawl.Failed)
		is(t, err, pawl.ErrEncoding)
		if !strings.Contains(err.Error(), "result of whole: "+culprit) {
			t.Errorf("the error does not say what and where: %v", err)
		}
	})
}

func TestB1_050_workflowNotRegistered(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		known, unknown := addTen("known"), addTen("unknown")
		n := boot(t, open(), nil, known)
		_, err := n.StartRun(n.ctx, "nowhere", json.RawMessage("1"))
		is(t, err, pawl.ErrUnknown)
		if !strings.Contains(err.Error(), `"nowhere"`) || !strings.Contains(err.Error(), `"known"`) {
			t.Errorf("the error does not name what was asked for and what there is: %v", err)
		}
		// A client may start what another process works: the run waits for that and says so.
		r := start(client(t, open(), nil), unknown, 1)
		equal(t, "result of a known one started later", complete(n, known, 1), 11)
		equal(t, "state", n.info(r.ID()).State, pawl.Pending)
		why, err := n.Why(n.ctx, pawl.Ref{ID: r.ID()})
		equal(t, "why", fmt.Sprint(why, err), "it is ready and waits for a worker that knows unknown<nil>")
		boot(t, open(), nil, unknown)
		equal(t, "result", result(n, r), 11)
	})
}

func TestB1_053_errorSubclassRoundTrip(t *testing.T) {
	kinds := map[string]error{
		"timeout":   pawl.ErrTimeout,
		"cancelled": pawl.ErrCancelled,
		"tooLarge":  pawl.ErrTooLarge,
		"encoding":  pawl.ErrEncoding,
		"budget":    pawl.ErrBudget,
		"conflict":  pawl.ErrConflict,
		"exists":    pawl.ErrExists,
		"ended":     pawl.ErrEnded,
		"notFound":  pawl.ErrNotFound,
		"input":     pawl.ErrInput,
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		child := pawl.Define("child", func(c *pawl.Context, kind string) (none, error) {
			err := pawl.Do(c, "fails", func(context.Context) error {
				switch kind {
				case "joined":
					return pawl.Fatal(errors.Join(errors.New("one"), errors.New("two")))
				case "hook":
					return pawl.Fatal(fmt.Errorf("because: %w", &pawl.HookConflictError{Token: "t-53", RunID: "owner"}))
				case "coded":
					return pawl.Fatal(fmt.Errorf("because: %w", newCoded()))
				}
				return pawl.Fatal(fmt.Errorf("because: %w", kinds[kind]))
			})
			return none{}, fmt.Errorf("child: %w", err)
		})
		parent := pawl.Define("parent", func(c *pawl.Context, kind string) (none, error) {
			_, err := child.Call(c, kind)
			return none{}, fmt.Errorf("parent: %w", err)
		})
		n := boot(t, open(), nil, parent, child)
		for kind, sentinel := range kinds {
			err := failure(n, start(n, parent, kind))
			is(t, err, sentinel)
			for other, s := range kinds {
				if other != kind && errors.Is(err, s) {
					t.Errorf("%v is %v too", err, s)
				}
			}
			var se *pawl.StepError
			if !errors.As(err, &se) || se.Step != "fails" || !pawl.IsFatal(err) {
				t.Errorf("%s: the step and its being fatal are lost in %v", kind, err)
			}
			if want := "because: " + sentinel.Error(); !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the message %q is lost in %v", kind, want, err)
			}
		}
		// Of several joined errors all texts are kept, and the chain follows the first.
		if err := failure(n, start(n, parent, "joined")); !strings.Contains(err.Error(), "one\ntwo") {
			t.Errorf("an error of several lost some: %v", err)
		}
		var conflict *pawl.HookConflictError
		if err := failure(n, start(n, parent, "hook")); !errors.As(err, &conflict) || *conflict != (pawl.HookConflictError{Token: "t-53", RunID: "owner"}) {
			t.Errorf("the conflict is lost in %v", err)
		}
		coded := look(failure(n, start(n, parent, "coded")))
		equal(t, "a user's code and details", fmt.Sprint(coded.Codes[len(coded.Codes)-1], coded.Details), "quota"+codedDetails)
	})
}

// RetryAfter is heard to the millisecond, over what Backoff would have done.
func TestB1_053_retryAfterIsExact(t *testing.T) {
	const wait = 123 * time.Millisecond
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("after", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "second", func(ctx context.Context) error {
				if pawl.InfoOf(ctx).Attempt == 1 {
					return pawl.RetryAfter(errors.New("429"), wait)
				}
				return nil
			}, pawl.Backoff(time.Hour, time.Hour))
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		result(n, r)
		first := n.journal(r.ID(), pawl.KindAttempt)[0]
		var a struct{ Next time.Time }
		if err := json.Unmarshal(first.Data, &a); err != nil {
			t.Fatal(err)
		}
		equal(t, "wait to the millisecond", a.Next.Sub(first.At).Truncate(time.Millisecond), wait)
		if second := n.journal(r.ID(), pawl.KindStep)[0]; second.At.Before(a.Next) {
			t.Errorf("tried again at %v, before %v", second.At, a.Next)
		}
	})
}
