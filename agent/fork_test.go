package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

func refork(t *testing.T, e *pawl.Engine, f Refork) pawl.RunInfo {
	t.Helper()
	fork, err := ForkAsked(t.Context(), e, f)
	if err != nil {
		t.Fatal(err)
	}
	return fork
}

func resultOf[T any](t *testing.T, e *pawl.Engine, id string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := pawl.Attach[T](e, id).Result(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func askings(t *testing.T, e *pawl.Engine, run string) (all []Asking) {
	t.Helper()
	for a, err := range Asked(t.Context(), e, pawl.Ref{ID: run}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

// triage asks three questions: whether it is spam, how urgent it is, what to say.
func triage(m *Models, opts ...pawl.Option) *pawl.Workflow[string, []string] {
	return pawl.Define("triage", func(c *pawl.Context, mail string) ([]string, error) {
		spam, err := Decide(c, m, "spam", Call{Prompt: "spam? " + mail}, []string{"spam", "ham"})
		if err != nil {
			return nil, err
		}
		urgency, err := Decide(c, m, "urgency", Call{System: "Be calm.", Template: &Prompt{Name: "urgency", Text: "how urgent? {{untrusted mail}}"}, Vars: map[string]any{"mail": mail}, Stream: "out"}, []string{"now", "later"})
		if err != nil {
			return nil, err
		}
		reply, err := Generate[string](c, m, "reply", Call{Prompt: "reply to what is due " + urgency})
		return []string{spam, urgency, reply}, err
	}, opts...)
}

func triageModel() (*Models, *llmtest.Scripted) {
	return scripted(
		llmtest.Rule{Contains: "spam?", Text: "ham"},
		llmtest.Rule{When: func(r *llm.Request) bool { return strings.Contains(r.System, "Be alarmed.") && len(r.Messages) == 1 }, Text: "I can't say"},
		llmtest.Rule{When: func(r *llm.Request) bool { return strings.Contains(r.System, "Be alarmed.") || r.Model == "hasty" }, Text: "now"},
		llmtest.Rule{Contains: "how very urgent?", Text: "now"},
		llmtest.Rule{Contains: "how urgent?", Text: "later"},
		llmtest.Rule{Contains: "due now", Text: "we hurry"},
		llmtest.Rule{Contains: "due later", Text: "in time"},
	)
}

// TestForkAskedAsksOnceMoreAndGoesOn: what was before the step stays, its question is asked in another way, read and
// repaired as it was, paid on the fork's budget, and what follows goes on from the new answer.
func TestForkAskedAsksOnceMoreAndGoesOn(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := triageModel()
		w := triage(m)
		e := work(t, open(), w, m.Backtester())
		r, err := w.Start(t.Context(), e, "my cat is on fire", pawl.ID("mail"), pawl.RunBudget(pawl.USD, 1_000_000, false))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "run", resultOf[[]string](t, e, r.ID()), "[ham later in time]")
		was := askings(t, e, "mail")[1]
		if _, err := (Prompts{e}).Put(t.Context(), Prompt{Name: "urgency", Text: "{{untrusted mail}}: how very urgent?", Vars: []string{"mail"}}); err != nil {
			t.Fatal(err)
		}
		alarmed := "Be alarmed."
		for name, c := range map[string]struct {
			change Change
			asked  int // of the provider
			prompt int // version
			sees   func(q *llm.Request) bool
		}{
			"model": {Change{Model: "scripted/hasty"}, 2, 1, func(q *llm.Request) bool { return q.Messages[0].Content == was.Request.Messages[0].Content }},
			"system": {Change{System: &alarmed}, 3, 1, func(q *llm.Request) bool {
				return strings.Contains(q.System, "exactly one of these values") && q.Schema != nil
			}},
			"text": {Change{Prompt: "how very urgent? {{prompt}}", MaxTokens: 77}, 2, 0, func(q *llm.Request) bool {
				return strings.HasSuffix(q.Messages[0].Content, was.Request.Messages[0].Content) && q.MaxTokens == 77
			}},
			"version": {Change{Version: 2}, 2, 2, func(q *llm.Request) bool {
				return q.Messages[0].Content == Untrusted("my cat is on fire")+": how very urgent?"
			}},
		} {
			before := len(s.Calls())
			f := Refork{Run: pawl.Ref{ID: "mail"}, Step: "urgency", Change: c.change}
			fork := refork(t, e, f)
			equal(t, name+": fork", resultOf[[]string](t, e, fork.ID), "[ham now we hurry]")
			again := refork(t, e, f)
			equal(t, name+": the same fork", fmt.Sprint(again.ID, again.Existed), fork.ID+"true")
			made := s.Calls()[before:]
			equal(t, name+": calls", len(made), c.asked)
			if !c.sees(&made[0]) {
				t.Errorf("%s: it asked %+v", name, &made[0])
			}
			all := askings(t, e, fork.ID)
			equal(t, name+": questions in the journal", len(all), 1+c.asked)
			asked := all[1]
			if asked.Fork == nil || asked.Fork.Run != "mail" || asked.Request == nil || asked.Cost == 0 || len(asked.Shape) == 0 || all[0].Fork != nil {
				t.Errorf("%s: the note is %+v", name, asked)
			}
			version := 0
			if asked.Prompt != nil {
				version = asked.Prompt.Version
			}
			equal(t, name+": version of the prompt", version, c.prompt)
			var sum int64
			for _, a := range all[1:] {
				sum += a.Cost
			}
			costs, err := e.Costs(t.Context(), pawl.CostFilter{ChargeFilter: pawl.ChargeFilter{RunID: fork.ID}})
			if err != nil || len(costs) != 1 || costs[0].Amount != sum {
				t.Errorf("%s: the fork has cost %+v, %v; its notes say %d", name, costs, err, sum)
			}
			budgets, err := e.Budgets(t.Context(), pawl.BudgetFilter{Run: again.Key})
			if err != nil || len(budgets) != 1 || budgets[0].Limit != 1_000_000 || budgets[0].Spent != sum {
				t.Errorf("%s: its budget is %+v, %v", name, budgets, err)
			}
			var text strings.Builder
			for chunk, err := range e.ReadStream(t.Context(), "", fork.ID, "out", 0) {
				var d Delta
				if err := errors.Join(err, json.Unmarshal(chunk.Data, &d)); err != nil {
					t.Fatal(err)
				}
				text.WriteString(d.Text)
			}
			if !strings.HasSuffix(text.String(), "now") {
				t.Errorf("%s: its stream is %q", name, &text)
			}
		}

		// A fork can be asked about and forked as every run.
		first := refork(t, e, Refork{Run: pawl.Ref{ID: "mail"}, Step: "urgency", Change: Change{System: &alarmed}})
		report, err := RunBacktest(t.Context(), e, Backtest{Step: "urgency", Runs: []pawl.Ref{{ID: first.ID}}, Change: Change{Model: "scripted/hasty"}})
		if err != nil || report.Asked != 1 || report.Same != 1 {
			t.Errorf("backtest of a fork: %v, %v", report, err)
		}
		repaired := askings(t, e, first.ID)
		equal(t, "what the repaired answer has cost", report.CostWas, repaired[1].Cost+repaired[2].Cost)
		calm := "Be calm."
		second := refork(t, e, Refork{Run: pawl.Ref{ID: first.ID}, Step: "urgency", Change: Change{System: &calm}, ID: "second", Options: []pawl.StartOption{pawl.BudgetUSD(0)}})
		_, err = pawl.Attach[[]string](e, second.ID).Result(t.Context())
		if !errors.Is(err, pawl.ErrBudget) {
			t.Errorf("a fork without money: %v", err)
		}
		if _, err := e.TopUp(t.Context(), "", pawl.RunBudgetName("second", pawl.USD), 1_000_000); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Retry(t.Context(), pawl.Ref{ID: "second"}); err != nil { // what it asks is still known
			t.Fatal(err)
		}
		equal(t, "fork of a fork", resultOf[[]string](t, e, "second"), "[ham later in time]")
		plain, err := e.Fork(t.Context(), pawl.Ref{ID: first.ID}, pawl.ForkOptions{From: "urgency"})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "plain fork of a fork", resultOf[[]string](t, e, plain.ID), "[ham later in time]")
		equal(t, "change of a plain fork", askings(t, e, plain.ID)[1].Fork == nil, true)
	})
}

// TestForkAskedTwiceAtOncePaysOnce, whoever asks.
func TestForkAskedTwiceAtOncePaysOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := triageModel()
		w := triage(m)
		e := work(t, open(), w)
		r, err := w.Start(t.Context(), e, "x")
		if err != nil {
			t.Fatal(err)
		}
		resultOf[[]string](t, e, r.ID())
		before := len(s.Calls())
		var all sync.WaitGroup
		ids := make([]string, 8)
		for i := range ids {
			all.Go(func() {
				fork, err := ForkAsked(t.Context(), e, Refork{Run: pawl.Ref{ID: r.ID()}, Step: "reply", Change: Change{Prompt: "due now"}})
				if err != nil {
					t.Error(err)
				}
				ids[i] = fork.ID
			})
		}
		all.Wait()
		for _, id := range ids {
			equal(t, "id", id, ids[0])
		}
		equal(t, "result", resultOf[[]string](t, e, ids[0]), "[ham later we hurry]")
		equal(t, "calls", len(s.Calls())-before, 1)
	})
}

// TestForkAskedOutlivesItsWorker: the step is tried again by another, as it was to be asked.
func TestForkAskedOutlivesItsWorker(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := triageModel()
		w := triage(m)
		store := open()
		e := pawl.New(store, nil)
		if err := e.Register(w); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- e.Run(ctx) }()
		r, err := w.Start(t.Context(), e, "x")
		if err != nil {
			t.Fatal(err)
		}
		resultOf[[]string](t, e, r.ID())
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		fork := refork(t, e, Refork{Run: pawl.Ref{ID: r.ID()}, Step: "urgency", Change: Change{Model: "scripted/hasty"}}) // nobody works it
		other := work(t, store, triage(m))
		equal(t, "result", resultOf[[]string](t, other, fork.ID), "[ham now we hurry]")
		equal(t, "calls", len(s.Calls()), 5)
	})
}

// TestForkAskedMendsAFailedRun: the question that nobody answered is asked of another model.
func TestForkAskedMendsAFailedRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, _ := scripted(
			llmtest.Rule{When: func(r *llm.Request) bool { return r.Model == "m" }, Text: "no idea"},
			llmtest.Rule{Text: "now"},
		)
		w := pawl.Define("decide", func(c *pawl.Context, _ struct{}) ([]string, error) {
			return pawl.Map(c, "part", []int{0, 1, 2}, func(c *pawl.Context, i int) (string, error) {
				model := "scripted/good"
				if i == 1 {
					model = "scripted/m"
				}
				return Decide(c, m, "ask", Call{Prompt: fmt.Sprint("part ", i), Model: model}, []string{"now", "later"})
			}, pawl.Limit(1)) // so that the journal has an order
		})
		e := work(t, open(), w)
		r, err := w.Start(t.Context(), e, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Result(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer of the shape") {
			t.Fatalf("the run ended with %v", err)
		}
		fork := refork(t, e, Refork{Run: pawl.Ref{ID: r.ID()}, Step: "part[1]/ask", Change: Change{Model: "scripted/good"}})
		equal(t, "result", resultOf[[]string](t, e, fork.ID), "[now now now]")
		var made []string
		for _, a := range askings(t, e, fork.ID) {
			made = append(made, fmt.Sprint(a.Step, " ", a.Why, " ", a.Fork != nil))
		}
		equal(t, "questions", strings.Join(made, ", "), "part[0]/ask ask false, part[1]/ask ask true, part[2]/ask ask false")
	})
}

// TestForkAskedOfAnAgent: in the midst of a conversation, whose notes can be read back whole.
func TestForkAskedOfAnAgent(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(
			llmtest.Rule{When: func(r *llm.Request) bool { return len(r.Messages) == 3 && r.Messages[0].Content == "carefully: add" }, ToolCalls: calls(`add {"a":20,"b":2}`)},
			llmtest.Rule{When: func(r *llm.Request) bool { return len(r.Messages) <= 3 }, ToolCalls: calls(`add {"a":1,"b":1}`)},
			llmtest.Rule{Contains: "22", Text: "twenty-two"},
			llmtest.Rule{Text: "two"},
		)
		a := made(t, "clerk", Config{Models: m, Tools: []Tool{adder(t)}})
		e := work(t, open(), a)
		equal(t, "answer", succeed(t, e, a, Task{Prompt: "add"}, pawl.ID("one")).Text, "two")
		before := len(s.Calls())
		fork := refork(t, e, Refork{Run: pawl.Ref{ID: "one"}, Step: "model#2", Change: Change{Prompt: "carefully: {{prompt}}"}})
		equal(t, "answer of the fork", resultOf[Result](t, e, fork.ID).Text, "twenty-two")
		made := s.Calls()[before:]
		equal(t, "calls", len(made), 2)
		all := askings(t, e, fork.ID)
		equal(t, "questions", len(all), 3)
		for i, a := range all[1:] {
			got, _ := json.Marshal(a.Request.Messages)
			want, _ := json.Marshal(made[i].Messages)
			equal(t, "question "+a.Step, string(got), string(want))
		}
	})
}

// TestForkAskedSaysWhyNot: what can't be is refused before anything is stored or paid.
func TestForkAskedSaysWhyNot(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := triageModel()
		w := triage(m)
		var blocked atomic.Bool
		gate := make(chan struct{})
		kid := pawl.Define("kid", func(c *pawl.Context, _ struct{}) (string, error) {
			return Generate[string](c, m, "reply", Call{Prompt: "due now"})
		})
		mixed := pawl.Define("mixed", func(c *pawl.Context, _ struct{}) (string, error) {
			if _, err := kid.Call(c, struct{}{}, pawl.ID("kid")); err != nil {
				return "", err
			}
			if err := pawl.Do(c, "plain", func(context.Context) error { return nil }); err != nil {
				return "", err
			}
			_, err := pawl.Step(c, "stuck", func(ctx context.Context) (int, error) {
				if err := pawl.SetAttributes(ctx, map[string]any{"stuck": true}); err != nil {
					return 0, err
				}
				blocked.Store(true)
				select {
				case <-gate:
					return 0, nil
				case <-ctx.Done():
					return 0, ctx.Err()
				}
			})
			return "", err
		})
		e := work(t, open(), w, mixed, kid)
		done, err := w.Start(t.Context(), e, "x", pawl.ID("done"))
		if err != nil {
			t.Fatal(err)
		}
		resultOf[[]string](t, e, done.ID())
		live, err := mixed.Start(t.Context(), e, struct{}{}, pawl.ID("live"))
		if err != nil {
			t.Fatal(err)
		}
		for entry, err := range e.Follow(t.Context(), pawl.Ref{ID: live.ID()}, -1) {
			if err != nil {
				t.Fatal(err)
			}
			if entry.Kind == pawl.KindAttributes {
				break
			}
		}
		if _, err := w.Start(t.Context(), e, "y", pawl.ID("taken")); err != nil {
			t.Fatal(err)
		}
		refork(t, e, Refork{Run: pawl.Ref{ID: "done"}, Step: "reply", Change: Change{Prompt: "due now"}, ID: "mine"})
		resultOf[[]string](t, e, "mine")
		resultOf[[]string](t, e, "taken")
		before := len(s.Calls())
		for _, c := range []struct {
			run, step string
			change    Change
			id        string
			want      error
			says      string
		}{
			{"nobody", "urgency", Change{}, "", pawl.ErrNotFound, "no such run"},
			{"done", "nothing", Change{}, "", pawl.ErrNotFound, "no such step"},
			{"done", "", Change{}, "", pawl.ErrNotFound, "no such step"},
			{"live", "after", Change{}, "", pawl.ErrState, "has not come to"},
			{"live", "stuck", Change{}, "", pawl.ErrState, "is in that step"},
			{"live", "plain", Change{}, "", pawl.ErrInput, "no step that has asked a model"},
			{"live", "$child:kid", Change{}, "", pawl.ErrInput, "it is no step"},
			{"live", "$child:kid/reply", Change{}, "", pawl.ErrInput, "is of a child"},
			{"kid", "reply", Change{}, "", pawl.ErrState, "child of run live"},
			{"done", "spam", Change{Version: 2}, "", pawl.ErrInput, "no prompt of the registry"},
			{"done", "urgency", Change{Version: 9}, "", pawl.ErrNotFound, "version 9"},
			{"done", "urgency", Change{Version: 1, Prompt: "x"}, "", pawl.ErrInput, "leave one out"},
			{"done", "reply", Change{}, "taken", pawl.ErrConflict, "run taken is there"},
			{"done", "reply", Change{Prompt: "due later"}, "mine", pawl.ErrConflict, "run mine is there"},
		} {
			_, err := ForkAsked(t.Context(), e, Refork{Run: pawl.Ref{ID: c.run}, Step: c.step, Change: c.change, ID: c.id})
			var typed *ReforkError
			if !errors.As(err, &typed) || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || typed.Run != c.run || typed.Step != c.step {
				t.Errorf("%s, %q: %v", c.run, c.step, err)
			}
		}
		close(gate)
		resultOf[string](t, e, "live")
		equal(t, "calls", len(s.Calls())-before, 0)

		_, err = ForkAsked(t.Context(), e, Refork{Run: pawl.Ref{ID: "done"}, Step: "reply", Change: Change{Model: "unheard/of"}, ID: "model"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = pawl.Attach[[]string](e, "model").Result(t.Context())
		if !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), "unheard/of") {
			t.Errorf("a fork that asks a model which is not there: %v", err)
		}
	})
}

// TestForkAskedHoldsToTheShape: code that reads another answer than the run did is not fed with one.
func TestForkAskedHoldsToTheShape(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(llmtest.Rule{Text: "now"})
		var values atomic.Pointer[[]string]
		values.Store(&[]string{"now", "later"})
		w := pawl.Define("decide", func(c *pawl.Context, _ struct{}) (string, error) {
			return Decide(c, m, "ask", Call{Prompt: "when?"}, *values.Load())
		})
		e := work(t, open(), w)
		r, err := w.Start(t.Context(), e, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		resultOf[string](t, e, r.ID())
		values.Store(&[]string{"now", "never"})
		fork := refork(t, e, Refork{Run: pawl.Ref{ID: r.ID()}, Step: "ask", Change: Change{Prompt: "when, then?"}})
		_, err = pawl.Attach[string](e, fork.ID).Result(t.Context())
		if err == nil || !strings.Contains(err.Error(), "another shape") {
			t.Errorf("the fork ended with %v", err)
		}
		equal(t, "calls", len(s.Calls()), 1)
	})
}

// read counts how often a store gave out a page of a run's journal.
type read struct {
	pawl.Store
	mu    sync.Mutex
	pages map[int64]int
}

func (s *read) Journal(ctx context.Context, run, after int64, limit int) ([]pawl.Entry, error) {
	s.mu.Lock()
	s.pages[run]++
	s.mu.Unlock()
	return s.Store.Journal(ctx, run, after, limit)
}

func (s *read) of(run int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pages[run]
}

// TestABacktestReadsAJournalOnce, however many questions the run has asked.
func TestABacktestReadsAJournalOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		const each = 40
		m, s := scripted(llmtest.Rule{Text: "yes"})
		w := pawl.Define("asks", func(c *pawl.Context, _ int) (int, error) {
			for i := range each {
				if _, err := Generate[string](c, m, "ask", Call{Prompt: fmt.Sprint("question ", i)}); err != nil {
					return i, err
				}
			}
			return each, nil
		})
		store := &read{Store: open(), pages: map[int64]int{}}
		e := work(t, store, w, m.Backtester())
		var runs []pawl.Ref
		var keys []int64
		once := 0
		for i := range 3 {
			r, err := w.Start(t.Context(), e, i)
			if err != nil {
				t.Fatal(err)
			}
			resultOf[int](t, e, r.ID())
			info, err := e.Get(t.Context(), pawl.Ref{ID: r.ID()})
			if err != nil {
				t.Fatal(err)
			}
			before := store.of(info.Key)
			equal(t, "questions", len(askings(t, e, r.ID())), each)
			once = store.of(info.Key) - before
			runs, keys = append(runs, pawl.Ref{ID: r.ID()}), append(keys, info.Key)
		}
		var before []int
		for _, key := range keys {
			before = append(before, store.of(key))
		}
		asked := len(s.Calls())
		report, err := RunBacktest(t.Context(), e, Backtest{Step: "ask", Runs: runs, Change: Change{MaxTokens: 10}, Parallel: 4, Budget: 100_000_000})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "asked, the same", fmt.Sprint(report.Asked, report.Same, len(s.Calls())-asked), fmt.Sprint(3*each, 3*each, 3*each))
		for i, key := range keys {
			equal(t, "pages read of a journal", store.of(key)-before[i], once)
		}
		for i, d := range report.Decisions {
			if want := runs[i/each].ID; d.Run != want {
				t.Fatalf("decision %d is of run %s, want %s", i, d.Run, want)
			}
		}
	})
}
