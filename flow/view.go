package flow

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/pawlrun/pawl"
)

// execution makes of what is known what people see.
func (l *looked) execution() Execution {
	x := Execution{
		WorkflowID: l.flow.ID, ExecutionID: l.info.ID, Version: l.flow.Version, Status: l.info.State, Reason: l.reason.Text,
		Variables: map[string]json.RawMessage{}, CostAccumulator: l.cost.usd(), CostMicroUSD: l.cost.micro(), Counted: l.cost,
		Current: []CurrentStep{}, Errors: []StepFailure{}, StartedAt: l.info.Created,
	}
	if l.info.State.Terminal() {
		x.CompletedAt = &l.info.Ended
	}
	if l.end != nil {
		if l.end.Failed {
			x.Error = troubleOf(l.end.Failure())
		} else {
			x.Output = l.value("the output", json.RawMessage(l.end.Data))
		}
	}
	l.variables(&x)
	x.StepResults = l.results(l.trail, "")
	l.underWay(&x)
	places := map[string]string{}
	l.trail.walk("", func(at string, v *visit) { places[v.key] = at })
	for _, f := range l.failed {
		for key := f.Step; key != ""; key, _ = cutKey(key) { // what a wait or a child made is below its step's key
			if at, is := places[key]; is {
				f.Step = at
				break
			}
		}
		x.Errors = append(x.Errors, f)
	}
	if len(x.Errors) == maxErrors {
		l.cut = append(l.cut, fmt.Sprintf("errors holds the first %d", maxErrors))
	}
	if x.Error != nil {
		x.Errors = append(x.Errors, StepFailure{Trouble: *x.Error, At: l.info.Ended, Final: true})
	}
	if l.check.Diverged != "" {
		l.cut = append(l.cut, "its flow could not be followed through its journal: "+l.check.Diverged)
	}
	x.Truncated = l.cut
	return x
}

// cutKey is the key of the branch that a key lies in; "": of none.
func cutKey(key string) (string, string) {
	i := strings.LastIndexByte(key, '/')
	if i < 0 {
		return "", key
	}
	return key[:i], key[i+1:]
}

// value is a value as JSON, where there is room for it.
func (l *looked) value(of string, v any) json.RawMessage {
	var data []byte
	if !over(v, l.room) {
		var err error
		if data, err = json.Marshal(v); err != nil { // the interpreter makes values of JSON only
			return nil
		}
	}
	if data == nil || len(data) > l.room {
		l.leave("%s is left out: all values together may have %d bytes", of, maxExecution)
		return nil
	}
	l.room -= len(data)
	return data
}

// leave notes what was left out, and of very much only that there is more.
func (l *looked) leave(format string, args ...any) {
	const most = 100
	if l.left++; l.left < most {
		l.cut = append(l.cut, fmt.Sprintf(format, args...))
	} else if l.left == most {
		l.cut = append(l.cut, "more is left out than is told here")
	}
}

func (l *looked) variables(x *Execution) {
	values := map[string]any{}
	_ = json.Unmarshal(l.input, (*Variables)(&values)) // else it has none
	if values == nil {
		values = l.trail.variables
	} else {
		maps.Copy(values, l.trail.variables)
	}
	for _, name := range sortedNames(values) {
		if data := l.value("variables."+name, values[name]); data != nil {
			x.Variables[name] = data
		}
	}
}

// results are those of the steps of a trail, which stands at a place.
func (l *looked) results(t *trail, at string) map[string]StepResult {
	out := map[string]StepResult{}
	costs := map[string]*Counted{}
	history := map[string][]Visit{}
	for i, v := range t.visits {
		id := v.step.id
		if costs[id] == nil {
			costs[id] = &Counted{}
		}
		costs[id].and(l.costOf(v))
		if v.number < t.counts[v.step] {
			if t.counts[v.step]-v.number <= maxHistory {
				history[id] = append(history[id], Visit{
					Visit: v.number, Status: l.status(v), StartedAt: v.started, CompletedAt: v.ended, Next: v.to, Error: v.trouble(), Key: v.key,
				})
			}
			continue
		}
		r := l.result(t.visits[i], at)
		r.History, r.Counted, r.CostMicroUSD, r.Cost = history[id], *costs[id], costs[id].micro(), costs[id].usd()
		out[id] = r
	}
	return out
}

// costOf is what a visit has cost, with all in it.
func (l *looked) costOf(v *visit) (all Counted) {
	if f := l.facts[v.key]; f != nil {
		all = f.cost
	}
	for _, inner := range v.inner {
		for _, v := range inner.visits {
			all.and(l.costOf(v))
		}
	}
	return all
}

// result is what a visit brought.
func (l *looked) result(v *visit, at string) StepResult {
	at += v.step.id
	f := l.of(v.key)
	r := StepResult{
		Status: l.status(v), StartedAt: v.started, Error: v.trouble(), Attempts: append([]Attempt{}, f.attempts...), Visits: v.number, Next: v.to, Key: v.key,
		RawOutput: v.result.raw, variable: v.step.variable,
	}
	if len(r.RawOutput) > l.room {
		l.leave("%s: rawOutput is left out, it has %d bytes", at, len(r.RawOutput))
		r.RawOutput = ""
	}
	l.room -= len(r.RawOutput)
	if !v.ended.IsZero() {
		r.CompletedAt, r.DurationMs = &v.ended, v.ended.Sub(v.started).Milliseconds()
		if v.err == nil && v.result.failed == nil && r.Status != "skipped" {
			if v.dropped {
				l.leave("%s: its output is left out: the values of all steps are too large to look at", at)
			} else {
				r.Output = l.value(at+": its output", v.result.output)
			}
		}
	}
	r.TokenUsage = usageOf(v.result.usage)
	if len(v.names) > 0 {
		r.Branches = map[string]BranchResult{}
	}
	for _, name := range v.names {
		inner := v.inner[name]
		b := BranchResult{Status: "running", Steps: l.results(inner, at+insideOf(v.step, name))}
		switch {
		case inner.ended && inner.err == nil:
			b.Status = "completed"
		case inner.ended && (cancelled(inner.err) || errors.Is(inner.err, errEnough)):
			b.Status = "cancelled"
		case inner.ended:
			b.Status, b.Error = "failed", troubleIn(inner.err)
		case !v.ended.IsZero():
			b.Status = "cancelled" // nobody waited for its end
		}
		r.Branches[name] = b
	}
	return r
}

// trouble is why a visit did not bring what it should.
func (v *visit) trouble() *Trouble {
	switch {
	case v.err != nil:
		return troubleIn(v.err)
	case v.result.failed != nil:
		return &Trouble{Message: v.result.failed.message, Code: v.result.failed.code}
	}
	return nil
}

func troubleIn(err error) *Trouble {
	f := failureOf(err)
	return &Trouble{Message: f.message, Code: f.code}
}

// status is how a visit stands.
func (l *looked) status(v *visit) string {
	switch {
	case v.ended.IsZero():
		return l.standing(v)
	case v.err != nil && (cancelled(v.err) || errors.Is(v.err, errEnough)):
		return "cancelled"
	case v.err != nil:
		return "failed"
	case v.result.status == "":
		return "completed"
	}
	return v.result.status
}

// standing is how a visit stands that has not ended.
func (l *looked) standing(v *visit) string {
	switch {
	case l.info.State.Terminal():
		return "cancelled" // it was cut off
	case l.info.State == pawl.Pending && len(l.trail.visits) == 1 && v == l.trail.visits[0]:
		return "pending"
	case l.info.State == pawl.Paused || l.info.State == pawl.Blocked:
		return l.info.State.String()
	case v.step.kind == "wait" || v.step.kind == "workflow":
		return "waiting"
	case !l.of(v.key).retry.IsZero():
		return "retrying"
	}
	return "running"
}

// underWay finds the steps that are under way.
func (l *looked) underWay(x *Execution) {
	if l.info.State.Terminal() {
		return
	}
	if n := len(l.trail.visits); n > 0 && l.trail.visits[n-1].ended.IsZero() {
		x.CurrentStep = l.trail.visits[n-1].step.id
	}
	l.trail.walk("", func(at string, v *visit) {
		if !v.ended.IsZero() {
			return
		}
		for _, inner := range v.inner {
			if n := len(inner.visits); n > 0 && inner.visits[n-1].ended.IsZero() {
				return // that one is told
			}
		}
		f := l.of(v.key)
		c := CurrentStep{Step: at, Type: v.step.kind, Status: l.standing(v), Since: v.started, WaitsFor: l.waitsFor(v), Until: f.retry}
		if n := len(f.attempts); n > 0 {
			c.Attempt = f.attempts[n-1].Attempt + 1
		}
		if until := l.of(v.key + "/$sleep").until; !until.IsZero() {
			c.Until = until
		}
		x.Current = append(x.Current, c)
	})
	if len(x.Current) == 1 && x.Current[0].Until.IsZero() {
		x.Current[0].Until = l.reason.Until
	}
}

// waitsFor says what a step waits for that has not ended.
func (l *looked) waitsFor(v *visit) string {
	switch w := v.step.work.(type) {
	case *wait:
		switch w.what {
		case "approval":
			return fmt.Sprintf("the approval %s/%s", l.info.ID, v.key)
		case "event":
			for _, event := range l.reason.Events {
				if event == w.event || strings.HasPrefix(event, w.event+":") {
					return fmt.Sprintf("the event %q", event)
				}
			}
			return fmt.Sprintf("the event %q", w.event)
		case "delay":
			return "a time"
		}
		return "a request to its webhook"
	case *child:
		for key, f := range l.facts {
			if f.child != "" && strings.HasPrefix(key, v.key+"/") {
				return "the run " + f.child
			}
		}
	}
	if len(l.reason.Budgets) > 0 {
		return "the budget " + strings.Join(l.reason.Budgets, ", ")
	}
	return ""
}
