package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
)

// retell is a workflow that leads a conversation by an agent and returns all of it.
func retell(a *Agent, id string, prompts ...string) *pawl.Workflow[struct{}, []string] {
	return pawl.Define("retell", func(c *pawl.Context, _ struct{}) ([]string, error) {
		var out []string
		for _, p := range prompts {
			r, err := a.Call(c, Task{Prompt: p, Conversation: id})
			if err != nil {
				return nil, err
			}
			out = append(out, fmt.Sprint(r.Text, " ", r.First, "-", r.Last))
		}
		return pawl.Step(c, "read", func(ctx context.Context) ([]string, error) {
			var messages []llm.Message
			for m, err := range (Conversations{Engine: pawl.EngineOf(ctx)}).Messages(ctx, id, 0) {
				if err != nil {
					return nil, err
				}
				messages, out = append(messages, m.Message), append(out, word(m.Message))
			}
			return out, whole(messages)
		})
	})
}

// Two runs of a conversation, of which each goes on as another, killed at every commit: all
// that was said is in it once.
func TestAConversationSurvivesCrashes(t *testing.T) {
	m, _ := scripted(
		llmtest.Rule{When: func(r *llm.Request) bool { return len(r.Messages)%8 != 7 }, Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
			n := len(r.Messages)
			return &llm.Response{ToolCalls: []llm.ToolCall{{ID: fmt.Sprint("call-", n), Name: "add", Arguments: fmt.Sprintf(`{"a":%d,"b":0}`, n)}}}, nil
		}},
		llmtest.Rule{Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
			return &llm.Response{Text: fmt.Sprint("saw", len(r.Messages))}, nil
		}},
	)
	a := made(t, "chain", Config{Models: m, Tools: []Tool{adder(t)}, GoOn: 2})
	pawltest.CrashEverywhere(t, retell(a, "c", "one", "two"), struct{}{}, pawltest.WithChildren(a), pawltest.EveryNth(2), pawltest.WithLimit(time.Hour))
}

// Likewise where summaries are made.
func TestASummarySurvivesCrashes(t *testing.T) {
	m, _ := scripted(summarizer(), llmtest.Rule{Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
		return &llm.Response{Text: fmt.Sprint("saw", len(r.Messages))}, nil
	}})
	a := made(t, "sums", Config{Models: m, Remember: Memory{Messages: 4, Summary: &Summary{}}})
	pawltest.CrashEverywhere(t, retell(a, "c", "one", "two", "three", "four"), struct{}{}, pawltest.WithChildren(a), pawltest.EveryNth(2), pawltest.WithLimit(time.Hour))
}

// A conversation whose runs go on as others: what these hand over is positions, and what the
// model is shown is what it would be in one run.
func TestARunHandsPositionsOn(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		answers := func() []llmtest.Rule {
			return []llmtest.Rule{
				{When: func(r *llm.Request) bool { return len(r.Messages)%20 != 19 }, Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
					return &llm.Response{ToolCalls: []llm.ToolCall{{ID: fmt.Sprint("call-", len(r.Messages)), Name: "add", Arguments: fmt.Sprintf(`{"a":%d,"b":1000000}`, len(r.Messages))}}}, nil
				}},
				{Text: "done"},
			}
		}
		m, s := scripted(answers()...)
		chain := made(t, "chain", Config{Models: m, Tools: []Tool{adder(t)}, GoOn: 3})
		m, once := scripted(answers()...)
		single := made(t, "single", Config{Models: m, Tools: []Tool{adder(t)}})
		e := work(t, open(), chain, single)
		for i, prompt := range []string{"one", "two"} {
			for id, a := range map[string]*Agent{"c": chain, "s": single} {
				r := succeed(t, e, a, Task{Prompt: prompt, Conversation: id}, pawl.ID(fmt.Sprint(id, i)))
				equal(t, id, fmt.Sprint(r.Text, r.Turns, " ", r.First, " ", r.Last), fmt.Sprint("done", 10, " ", 20*i+1, " ", 20*i+20))
			}
		}
		all := conversation(t, Conversations{Engine: e}, "c")
		equal(t, "conversation", text(all), text(conversation(t, Conversations{Engine: e}, "s")))
		a, b := s.Calls(), once.Calls()
		equal(t, "calls", len(a), len(b))
		for i := range a {
			equal(t, fmt.Sprint("the model was shown at call ", i), lines(a[i].Messages), lines(b[i].Messages))
		}
		runs, err := e.List(t.Context(), pawl.Filter{Workflow: "chain"})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "runs", len(runs), 8)
		for _, run := range runs {
			equal(t, "attribute", run.Attrs[ConversationAttribute], "c")
			for entry, err := range e.Journal(t.Context(), pawl.Ref{ID: run.ID}) {
				if err != nil {
					t.Fatal(err)
				}
				if entry.Kind == pawl.KindInput && strings.Contains(string(entry.Data), "1000001") {
					t.Errorf("run %s is handed messages: %s", run.ID, entry.Data)
				}
			}
			asked := 0
			for q, err := range Asked(t.Context(), e, pawl.Ref{ID: run.ID}) {
				if err != nil {
					t.Fatal(err)
				}
				i := slices.IndexFunc(a, func(r llm.Request) bool { return lines(r.Messages) == lines(q.Request.Messages) })
				if i < 0 {
					t.Errorf("run %s was not asked: %s", run.ID, lines(q.Request.Messages))
				}
				asked++
			}
			if asked == 0 {
				t.Errorf("run %s has asked nothing", run.ID)
			}
		}
	})
}

// weigh is a store that counts what is written to it: journals, inputs and records.
type weigh struct {
	pawl.Store
	mu    sync.Mutex
	bytes int
}

func (w *weigh) Commit(ctx context.Context, b *pawl.Batch) error {
	n := 0
	for _, ch := range b.Changes {
		for _, e := range ch.Entries {
			n += len(e.Key) + len(e.Data)
		}
		if ch.To != nil && ch.To.Next != nil {
			n += len(ch.To.Next.Run.Input)
		}
	}
	for _, s := range b.Starts {
		n += len(s.Run.Input)
	}
	for _, wr := range b.Writes {
		for _, p := range wr.Puts {
			n += len(p.Space) + len(p.Key) + len(p.Data)
		}
	}
	w.mu.Lock()
	w.bytes += n
	w.mu.Unlock()
	return w.Store.Commit(ctx, b)
}

func (w *weigh) take() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.bytes
	w.bytes = 0
	return n
}

// TestATurnCostsTheSame: a conversation of 500 turns of the model over 50 runs, each of which goes
// on as another, and much of it shown to the model. The last runs write as much as the first ones, within a tenth.
func TestATurnCostsTheSame(t *testing.T) {
	const runs, turns = 50, 10
	eachStoreAtOnce(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(llmtest.Rule{Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
			if n := len(r.Messages) % (2 * turns); n != 2*turns-1 {
				return &llm.Response{ToolCalls: []llm.ToolCall{{ID: fmt.Sprintf("call-%02d", n), Name: "say", Arguments: fmt.Sprintf(`{"n":%2d}`, n)}}}, nil
			}
			return &llm.Response{Text: "all said"}, nil
		}})
		say := Func("say", "", func(context.Context, struct {
			N int `json:"n"`
		}) (string, error) {
			return "a word", nil
		})
		a := made(t, "talks", Config{Models: m, Tools: []Tool{say}, GoOn: 5, Remember: Memory{Messages: 200, Tokens: 10_000_000}})
		w := &weigh{Store: open()}
		e := work(t, w, a)
		sums := make([]int, 0, runs)
		for i := range runs {
			w.take()
			r := succeed(t, e, a, Task{Prompt: fmt.Sprintf("question %03d", i), Conversation: "c"})
			if r.Turns != turns || r.Last != (i+1)*2*turns {
				t.Fatalf("run %d: %+v", i, r)
			}
			sums = append(sums, w.take())
		}
		calls := s.Calls()
		equal(t, "the last call was shown", len(calls[len(calls)-1].Messages), 200+2*turns-1)
		mean := func(part []int) (sum int) {
			for _, n := range part {
				sum += n
			}
			return sum / len(part)
		}
		first, last := mean(sums[1:11]), mean(sums[runs-10:])
		t.Logf("bytes a run of %d turns: %d at the beginning, %d at the end of %d turns", turns, first, last, runs*turns)
		if 10*last > 11*first {
			t.Errorf("runs write %d bytes at first and %d after %d turns", first, last, runs*turns)
		}
		equal(t, "messages", len(conversation(t, Conversations{Engine: e}, "c")), runs*2*turns)
	})
}

// Many runs of one conversation at once: each appends all that it has said, and nothing of
// another's is in between.
func TestRacingRunsDoNotInterleave(t *testing.T) {
	const runs = 24
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, _ := scripted(
			llmtest.Rule{When: fromUser, ToolCalls: calls(`add {"a":1,"b":1}`, `add {"a":2,"b":2}`)},
			llmtest.Rule{When: func(r *llm.Request) bool { return r.Messages[len(r.Messages)-1].Content == "4" }, ToolCalls: calls(`add {"a":3,"b":3}`)},
			llmtest.Rule{Text: "done"},
		)
		a := made(t, "races", Config{Models: m, Tools: []Tool{adder(t)}, GoOn: 1})
		e := work(t, open(), a)
		if _, ok := open().(pawl.Watcher); ok { // a store that workers share
			work(t, open(), a)
		}
		var wait sync.WaitGroup
		for i := range runs {
			wait.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				run, err := a.Start(ctx, e, Task{Prompt: fmt.Sprint("run-", i), Conversation: "c"}, pawl.ID(fmt.Sprint("run-", i)))
				if err == nil {
					_, err = run.Result(ctx)
				}
				if err != nil {
					t.Errorf("run %d: %v", i, err)
				}
			})
		}
		wait.Wait()
		all := conversation(t, Conversations{Engine: e}, "c")
		var users []string
		for part := range slices.Chunk(all, 7) {
			users = append(users, part[0].Content)
			equal(t, "exchange", text(part), fmt.Sprintf(`u:%s a:add{"a":1,"b":1}add{"a":2,"b":2} t:2 t:4 a:add{"a":3,"b":3} t:6 a:done`, part[0].Content))
		}
		slices.Sort(users)
		equal(t, "exchanges", len(slices.Compact(users)), runs)
	})
}

// Runs that are to see what was said before them are started one after the other.
func TestRunsOfAConversationCanQueue(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, _ := scripted(parrot()...)
		a := made(t, "queues", Config{Models: m, Tools: []Tool{adder(t)}, GoOn: 1, Options: []pawl.Option{
			pawl.Singleton(pawl.KeyOf(func(task Task) string { return task.Conversation })),
		}})
		e := work(t, open(), a)
		var all []*pawl.Run[Result]
		for i := range 5 {
			run, err := a.Start(t.Context(), e, Task{Prompt: fmt.Sprint(i), Conversation: "c"}, pawl.OnConflict(pawl.Queue))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, run)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for i, run := range all {
			r, err := run.Result(ctx)
			equal(t, fmt.Sprint("run ", i), fmt.Sprint(r.Text, " ", err), fmt.Sprint("saw", 4*i+3, " <nil>"))
		}
	})
}

// What fails is not remembered; tried again it is, once.
func TestOnlyWhatIsDoneIsRemembered(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var mu sync.Mutex
		broken := true
		m, _ := scripted(
			llmtest.Rule{When: fromUser, ToolCalls: calls(`add {"a":1,"b":1}`)},
			llmtest.Rule{Answer: func(context.Context, *llm.Request) (*llm.Response, error) {
				mu.Lock()
				defer mu.Unlock()
				if broken {
					return nil, &llm.Error{Kind: llm.BadRequest, Provider: "scripted", Message: "no"}
				}
				return &llm.Response{Text: "done"}, nil
			}},
		)
		a := made(t, "fails", Config{Models: m, Tools: []Tool{adder(t)}})
		e := work(t, open(), a)
		s := Conversations{Engine: e}
		if _, err := finish(t, e, a, Task{Prompt: "one", Conversation: "c"}, pawl.ID("one")); err == nil {
			t.Fatal("it did not fail")
		}
		equal(t, "after a failure", text(conversation(t, s, "c")), "")
		mu.Lock()
		broken = false
		mu.Unlock()
		succeed(t, e, a, Task{Prompt: "two", Conversation: "c"})
		if _, err := e.Retry(t.Context(), pawl.Ref{ID: "one"}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := pawl.Attach[Result](e, "one").Result(ctx); err != nil {
			t.Fatal(err)
		}
		exchange := `u:%s a:add{"a":1,"b":1} t:2 a:done`
		equal(t, "after it was tried again", text(conversation(t, s, "c")), fmt.Sprintf(exchange+" "+exchange, "two", "one"))
		// A fork of the run says what it says beside it.
		fork, err := e.Fork(t.Context(), pawl.Ref{ID: "one"}, pawl.ForkOptions{From: "model#2", ID: "fork"})
		if err != nil {
			t.Fatal(err)
		}
		r, err := pawl.Attach[Result](e, fork.ID).Result(ctx)
		equal(t, "a fork", fmt.Sprint(r.First, " ", r.Last, err), "9 12 <nil>")
		equal(t, "with it", len(conversation(t, s, "c")), 12)
	})
}

func summarizer() llmtest.Rule {
	return llmtest.Rule{When: func(r *llm.Request) bool { return strings.HasPrefix(r.System, "You keep the memory") }, Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
		var kept []string // what was kept so far, and each message of the user
		for l := range strings.Lines(r.Messages[0].Content) {
			l = strings.TrimSpace(l)
			if old, ok := strings.CutPrefix(l, "kept:"); ok {
				kept = append(kept, old)
			}
			if said, ok := strings.CutPrefix(l, "user: "); ok {
				kept = append(kept, said)
			}
		}
		return &llm.Response{Text: "kept:" + strings.Join(kept, ",")}, nil
	}}
}

// The model is shown as much as the limits say, from a message of the user on.
func TestTheModelIsShownWhatFits(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(parrot()...)
		e := open()
		agents := []*Agent{
			made(t, "messages", Config{Models: m, Tools: []Tool{adder(t)}, Remember: Memory{Messages: 7}}),
			// An exchange is 71 tokens by estimate.
			made(t, "tokens", Config{Models: m, Tools: []Tool{adder(t)}, Remember: Memory{Tokens: 150}}),
			made(t, "nothing", Config{Models: m, Tools: []Tool{adder(t)}, Remember: Memory{Messages: 1}}),
			made(t, "all", Config{Models: m, Tools: []Tool{adder(t)}}),
		}
		engine := work(t, e, agents[0], agents[1], agents[2], agents[3])
		for _, a := range agents {
			for i := range 6 {
				succeed(t, engine, a, Task{Prompt: fmt.Sprint("prompt ", i), Conversation: a.Name()})
			}
			calls := s.Calls()
			shown := calls[len(calls)-2].Messages // the first call of the last run
			if err := whole(shown); err != nil || shown[0].Role != llm.RoleUser {
				t.Errorf("%s: %v: %s", a.Name(), err, lines(shown))
			}
			equal(t, a.Name(), len(shown), map[string]int{"messages": 5, "tokens": 9, "nothing": 1, "all": 21}[a.Name()])
			equal(t, a.Name()+" are kept", len(conversation(t, Conversations{Engine: engine}, a.Name())), 24)
		}
	})
}

// Summaries are asked for once, hold what was said before, and what was shown is found again.
func TestASummaryIsPaidOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(summarizer(), llmtest.Rule{Text: "fine"})
		a := made(t, "sums", Config{Models: m, Remember: Memory{Messages: 8, Summary: &Summary{MaxTokens: 100}}})
		e := work(t, open(), a, m.Backtester())
		var refs []pawl.Ref
		for i := range 20 {
			id := fmt.Sprint("run-", i)
			succeed(t, e, a, Task{Prompt: fmt.Sprint("p", i), Conversation: "c"}, pawl.ID(id))
			refs = append(refs, pawl.Ref{ID: id})
		}
		var summaries []string
		var shown []llm.Request
		for _, call := range s.Calls() {
			if strings.HasPrefix(call.System, "You keep") {
				summaries = append(summaries, call.Messages[0].Content)
				equal(t, "most tokens", call.MaxTokens, 100)
			} else {
				shown = append(shown, call)
			}
		}
		// 8 messages are remembered as they are; with 10 the first 6 are summarized: each third exchange from the sixth on.
		equal(t, "summaries", len(summaries), 5)
		for i, r := range shown {
			if n := len(r.Messages); n > 10 {
				t.Errorf("run %d was shown %d messages", i, n)
			}
			var told []string
			for _, m := range r.Messages {
				if m.Role == llm.RoleUser {
					_, kept, ok := strings.Cut(m.Content, "kept:")
					kept, _, _ = strings.Cut(kept, "\n")
					if told = append(told, m.Content); ok {
						told[len(told)-1] = kept
					}
				}
			}
			var want []string
			for n := range i + 1 {
				want = append(want, fmt.Sprint("p", n))
			}
			equal(t, fmt.Sprint("run ", i, " knows"), strings.Join(told, ","), strings.Join(want, ","))
		}
		for i, ref := range refs {
			last := 0
			for q, err := range Asked(t.Context(), e, ref) {
				if err != nil {
					t.Fatal(err)
				}
				if q.Step == "model" {
					equal(t, fmt.Sprint("run ", i, " has asked"), lines(q.Request.Messages), lines(shown[i].Messages))
				}
				last++
			}
			if last == 0 {
				t.Errorf("run %d has asked nothing", i)
			}
		}
		report, err := RunBacktest(t.Context(), e, Backtest{Step: "model", Runs: refs, Change: Change{Prompt: "again: {{prompt}}"}, Budget: 10_000_000})
		equal(t, "backtest", fmt.Sprint(report.Asked, report.Same, report.Failed, err), "20 20 0 <nil>")
		calls := s.Calls()
		seen := slices.IndexFunc(calls, func(r llm.Request) bool {
			return strings.HasPrefix(r.Messages[len(r.Messages)-1].Content, "again: p19") && len(r.Messages) == len(shown[19].Messages)
		})
		if seen < 0 {
			t.Error("the backtest has not asked with what was remembered")
		}
		// After a delete the notes alone can't say what was asked.
		if err := (Conversations{Engine: e}).Delete(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		var gone error
		for _, err := range Asked(t.Context(), e, refs[5]) {
			gone = err
		}
		var bad *ConversationError
		if !errors.As(gone, &bad) || bad.Conversation != "c" || !errors.Is(gone, pawl.ErrNotFound) {
			t.Errorf("asked after a delete: %v", gone)
		}
	})
}

// A long chat that was brought along is summarized in parts that fit.
func TestAnImportIsSummarizedInParts(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(summarizer(), llmtest.Rule{Text: "fine"})
		a := made(t, "sums", Config{Models: m, Remember: Memory{Messages: 10, Summary: &Summary{}}})
		e := work(t, open(), a)
		var in []llm.Message
		var want []string
		for i := range 50 {
			want = append(want, fmt.Sprint("p", i))
			in = append(in, llm.User(want[i]), llm.Message{Role: llm.RoleAssistant, Content: "fine"})
		}
		if _, err := (Conversations{Engine: e}).Append(t.Context(), "c", 0, in...); err != nil {
			t.Fatal(err)
		}
		succeed(t, e, a, Task{Prompt: "now", Conversation: "c"})
		calls := s.Calls()
		for _, call := range calls[:len(calls)-1] {
			if n := strings.Count(call.Messages[0].Content, "user: "); n > 5 {
				t.Errorf("%d exchanges are summarized at once", n)
			}
		}
		equal(t, "summaries", len(calls)-1, 9)
		last := calls[len(calls)-1].Messages
		data, _ := json.Marshal(last)
		if len(last) != 12 || !strings.Contains(string(data), strings.Join(want[:45], ",")) {
			t.Errorf("the model was shown %s", data)
		}
	})
}

// ahead is a store that lets something happen just before a record is written.
type ahead struct {
	pawl.Store
	key  string
	once sync.Once
	do   func()
}

func (s *ahead) Commit(ctx context.Context, b *pawl.Batch) error {
	for _, w := range b.Writes {
		for _, p := range w.Puts {
			if p.Key == s.key {
				s.once.Do(s.do)
			}
		}
	}
	return s.Store.Commit(ctx, b)
}

// What a run is about to write when its conversation is deleted is not written.
func TestADeleteJustBeforeAWrite(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		said := saying{part: "part", messages: []llm.Message{llm.User("x")}}
		for key, write := range map[string]func(c *chat, space string) error{
			exchangeKey(1): func(c *chat, space string) error {
				_, _, err := c.add(t.Context(), space, said, 0, nil)
				return err
			},
			partKey("part", 0): func(c *chat, space string) error {
				_, err := c.stage(t.Context(), space, said, pieceBytesMax, false)
				return err
			},
			summaryKey(1): func(c *chat, space string) error { return c.keep(t.Context(), space, 1, digest{Text: "x"}) },
		} {
			store := &ahead{Store: open(), key: key}
			e := pawl.New(store, nil)
			outside := Conversations{Engine: pawl.New(store.Store, nil)}
			store.do = func() {
				if err := outside.Delete(t.Context(), "c "+key); err != nil {
					t.Error(err)
				}
			}
			c := &chat{e: e, id: "c " + key}
			th, err := c.begin(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			var bad *ConversationError
			if err := write(c, th.Space); !errors.As(err, &bad) || !errors.Is(err, pawl.ErrNotFound) || bad.Conversation != "c "+key {
				t.Errorf("%s: written: %v", key, err)
			}
			if left, err := e.Records(t.Context(), th.Space, "", "", 10); err != nil || len(left) > 0 {
				t.Errorf("%s: left are %v %v", key, left, err)
			}
		}
	})
}
