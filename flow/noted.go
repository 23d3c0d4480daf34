package flow

import (
	"context"
	"encoding/json"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/llm"
)

// noted is what journal and ledger know of one key, beside what a replay reads.
type noted struct {
	attempts []Attempt
	calls    []numbered // of attempts that have not ended
	retry    time.Time  // when it is tried again; zero: it is not
	until    time.Time  // when a sleep ends
	child    string     // the id of a child run
	cost     Counted
}

type numbered struct {
	attempt int
	ModelCall
}

func (l *looked) of(key string) *noted {
	f := l.facts[key]
	if f == nil {
		f = &noted{}
		l.facts[key] = f
	}
	return f
}

// readJournal reads what the journal says of attempts, and reports whether there is more than it has looked at.
func (l *looked) readJournal(ctx context.Context, e *pawl.Engine, ref pawl.Ref) (more bool, err error) {
	var newest pawl.Entry
	for entry, err := range e.Journal(ctx, ref) {
		if err != nil {
			return false, err
		}
		if entry.Seq >= maxLookedAt {
			more = true
			break
		}
		newest = entry
		switch entry.Kind {
		case pawl.KindInput:
			l.input = entry.Data
		case pawl.KindAttempt, pawl.KindStep:
			l.of(entry.Key).attempt(l, &entry)
		case pawl.KindNote:
			l.of(entry.Key).note(&entry)
		case pawl.KindSleep:
			var sleep struct{ Until time.Time }
			if !entry.Failed && json.Unmarshal(entry.Data, &sleep) == nil {
				l.of(entry.Key).until = sleep.Until
			}
		case pawl.KindChild:
			var child struct{ ID string }
			if !entry.Failed && json.Unmarshal(entry.Data, &child) == nil {
				l.of(entry.Key).child = child.ID
			}
		}
	}
	if !l.info.State.Terminal() {
		return more, nil
	}
	if !more && newest.Kind == pawl.KindResult {
		l.end = &newest
		return false, nil
	}
	if l.info.Next == "" { // else Wait would follow to the next run
		_, l.end, err = e.Wait(ctx, ref.Tenant, ref.ID)
	}
	return more, err
}

// attempt takes in an attempt that has ended.
func (f *noted) attempt(l *looked, e *pawl.Entry) {
	a := Attempt{Attempt: max(e.Attempt, 1), EndedAt: e.At, TookMs: e.Took.Milliseconds()}
	f.retry = time.Time{}
	if e.Kind == pawl.KindAttempt {
		var note struct{ Next time.Time }
		_ = json.Unmarshal(e.Data, &note) // of what can't be read the failure says so
		f.retry = note.Next
	}
	if e.Failed {
		a.Error = troubleOf(e.Failure())
		if len(l.failed) < maxErrors {
			l.failed = append(l.failed, StepFailure{Trouble: *a.Error, Step: e.Key, Attempt: a.Attempt, At: e.At, Final: e.Kind == pawl.KindStep})
		}
	}
	rest := f.calls[:0]
	for _, call := range f.calls {
		if call.attempt == a.Attempt {
			a.Calls = append(a.Calls, call.ModelCall)
		} else {
			rest = append(rest, call)
		}
	}
	f.calls = rest
	if n := len(f.attempts); n > 0 && f.attempts[n-1].Attempt == a.Attempt && e.Kind == pawl.KindStep { // its time was over, which is told behind the last attempt
		a.Calls, a.TookMs = append(f.attempts[n-1].Calls, a.Calls...), f.attempts[n-1].TookMs
		f.attempts[n-1] = a
		return
	}
	f.attempts = append(f.attempts[max(len(f.attempts)-maxAttempts+1, 0):], a)
}

// note takes in what an attempt has left: of others than models nothing.
func (f *noted) note(e *pawl.Entry) {
	var made struct { // what is not needed of agent.Made is large
		Hash, Why, Model, Error string
		Prompt                  *agent.PromptUse
		Usage                   llm.Usage
		Cost                    int64
		Guess, Cached           bool
		Took                    time.Duration
	}
	if json.Unmarshal(e.Data, &made) != nil || made.Hash == "" || len(f.calls) >= maxAttempts {
		return
	}
	call := ModelCall{
		Why: made.Why, Model: made.Model, Prompt: made.Prompt, TokenUsage: usageOf(&made.Usage), Cached: made.Cached,
		LatencyMs: made.Took.Milliseconds(), Error: made.Error,
	}
	call.take(made.Cost, made.Guess)
	call.CostMicroUSD = call.micro()
	f.calls = append(f.calls, numbered{max(e.Attempt, 1), call})
}

// usageOf is nil if the provider did not say what was used.
func usageOf(u *llm.Usage) *TokenUsage {
	if u == nil || *u == (llm.Usage{}) {
		return nil
	}
	return &TokenUsage{PromptTokens: u.Input, CompletionTokens: u.Output, TotalTokens: u.Input + u.Output}
}

func troubleOf(f *pawl.Failure) *Trouble {
	for inner := f; inner != nil; inner = inner.Cause { // the reason says more than what is around it
		if inner.Code != "" {
			return &Trouble{Message: f.Message, Code: inner.Code}
		}
	}
	return &Trouble{Message: f.Message}
}

// readLedger reads what each step has cost.
func (l *looked) readLedger(ctx context.Context, e *pawl.Engine, ref pawl.Ref) error {
	f := pawl.ChargeFilter{Tenant: ref.Tenant, RunID: ref.ID, Meter: pawl.USD, Limit: 1000}
	for read := 0; ; {
		page, err := e.Charges(ctx, f)
		if err != nil {
			return err
		}
		for _, c := range page {
			l.of(c.Step).cost.take(c.Amount, c.Guess)
			l.cost.take(c.Amount, c.Guess)
			f.After = c.ID
		}
		if read += len(page); len(page) < f.Limit {
			return nil
		}
		if read >= maxLookedAt {
			sums, err := e.Costs(ctx, pawl.CostFilter{ChargeFilter: pawl.ChargeFilter{Tenant: ref.Tenant, RunID: ref.ID, Meter: pawl.USD}})
			if len(sums) == 1 {
				l.cost = countedOf(&sums[0])
			}
			l.cut = append(l.cut, "the run has made too many model calls to tell what each step has cost; costAccumulator is of all")
			return err
		}
	}
}
