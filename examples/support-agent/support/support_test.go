package support_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/examples/support-agent/support"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
	"github.com/pawlrun/pawl/sqlite"
)

const refund1002 = "Please refund order 1002"

func made(t *testing.T, model llm.Model) *agent.Agent {
	t.Helper()
	a, err := support.New(support.Config{
		Models:    agent.New(agent.Options{Providers: map[string]llm.Model{"test": model}}),
		Model:     "test/m",
		Approvers: []string{"ada", "grace"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// work lets an engine work on a store until stop is called.
func work(t *testing.T, file string, a *agent.Agent) (e *pawl.Engine, stop func()) {
	t.Helper()
	store, err := sqlite.Open(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	e = pawl.New(store, nil)
	if err := e.Register(a); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, store.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return e, stop
}

// onStores runs a test on a file and in memory.
func onStores(t *testing.T, f func(t *testing.T, file string)) {
	t.Run("file", func(t *testing.T) { f(t, filepath.Join(t.TempDir(), "s.db")) })
	t.Run("memory", func(t *testing.T) { f(t, sqlite.Memory) })
}

// pending waits until a run waits for an approval.
func pending(t *testing.T, e *pawl.Engine, id string) support.Pending {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		all, err := support.PendingOf(t.Context(), e, id)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == 1 {
			return all[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d approvals are asked for, want 1", len(all))
		}
	}
}

func start(t *testing.T, e *pawl.Engine, a *agent.Agent, message string) *pawl.Run[agent.Result] {
	t.Helper()
	run, err := a.Start(t.Context(), e, agent.Task{Prompt: message})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func result(t *testing.T, run *pawl.Run[agent.Result]) agent.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := run.Result(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// booked are the refunds, as order and amount.
func booked(t *testing.T, e *pawl.Engine) string {
	t.Helper()
	all, err := support.Refunds(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range all {
		out = append(out, r.Order+" "+support.Dollars(r.Cents))
	}
	return strings.Join(out, ", ")
}

func TestALargeRefundIsPaidIfItIsApproved(t *testing.T) {
	for name, c := range map[string]struct {
		approved     bool
		answer, paid string
	}{
		"approved": {true, "$48.00 was paid back for order 1002", "1002 $48.00"},
		"denied":   {false, "the call was denied by grace: it was read already", ""},
	} {
		t.Run(name, func(t *testing.T) {
			onStores(t, func(t *testing.T, file string) {
				a := made(t, support.Scripted(0))
				e, _ := work(t, file, a)
				run := start(t, e, a, refund1002)
				p := pending(t, e, run.ID())
				if want := `refund_order: pay back $48.00 for order 1002, because: "the customer wrote: please refund order 1002"`; p.String() != want || p.Who() != "ada or grace" {
					t.Errorf("asked is %s of %s", p, p.Who())
				}
				if paid := booked(t, e); paid != "" {
					t.Errorf("before it was approved %s was paid", paid)
				}
				if err := support.Answer(t.Context(), e, p, true, "eve", ""); !errors.Is(err, approval.ErrNotAllowed) || !strings.Contains(err.Error(), "only ada, grace may") {
					t.Errorf("eve may approve: %v", err)
				}
				if err := support.Answer(t.Context(), e, p, true, "", ""); !errors.Is(err, pawl.ErrInput) {
					t.Errorf("nobody may approve: %v", err)
				}
				if err := support.Answer(t.Context(), e, p, c.approved, "grace", "it was read already"); err != nil {
					t.Fatal(err)
				}
				r := result(t, run)
				if !strings.Contains(r.Text, c.answer) || !strings.Contains(r.Text, "scripted: no model was asked") {
					t.Errorf("the answer is %q, want %q", r.Text, c.answer)
				}
				if paid := booked(t, e); paid != c.paid {
					t.Errorf("paid was %q, want %q", paid, c.paid)
				}
			})
		})
	}
}

func TestConversations(t *testing.T) {
	onStores(t, func(t *testing.T, file string) {
		a := made(t, support.Scripted(0))
		e, _ := work(t, file, a)
		for _, c := range []struct{ message, who, answer, paid string }{
			{"Where is my order 1001?", "support", "The Ashley Book of Knots, is on its way", ""},
			{"Where is my book?", "support", "Which order is it?", ""},
			{"Where is my order 7777?", "support", `there is no order "7777"`, ""},
			{"A refund for 1003, please", "support", "$18.50 was paid back", "1003 $18.50"}, // small: nobody is asked
			{"My money back for 1003, at once!", "support", "has been paid back already: $18.50", "1003 $18.50"},
			{"I was charged twice for 1001", "billing", "$12.90 was paid back", "1001 $12.90, 1003 $18.50"},
		} {
			r := result(t, start(t, e, a, c.message))
			if r.Agent != c.who || !strings.Contains(r.Text, c.answer) {
				t.Errorf("%s: %s says %q, want %s and %q", c.message, r.Agent, r.Text, c.who, c.answer)
			}
			if paid := booked(t, e); paid != c.paid {
				t.Errorf("%s: paid was %q, want %q", c.message, paid, c.paid)
			}
		}
	})
}

// The model is told what is wrong with its wish, and no money moves.
func TestTheModelIsToldWhatIsWrong(t *testing.T) {
	for wish, told := range map[string]string{
		`find_order {"order": "9999"}`:                                  `there is no order "9999"`,
		`find_order {"number": "1001"}`:                                 "are not what it takes",
		`refund_order {"order": "9999", "cents": 1, "reason": "x"}`:     `there is no order "9999"`,
		`refund_order {"order": "1001", "cents": -5, "reason": "x"}`:    "can't be paid back",
		`refund_order {"order": "1001", "cents": 1291, "reason": "x"}`:  "cost $12.90",
		`refund_order {"order": "1001", "cents": "all", "reason": "x"}`: "are not what it takes",
	} {
		tool, args, _ := strings.Cut(wish, " ")
		model := llmtest.Script(
			llmtest.Rule{Times: 1, ToolCalls: []llm.ToolCall{{ID: "1", Name: tool, Arguments: args}}},
			llmtest.Rule{Text: "I am sorry."},
		)
		a := made(t, model)
		e, stop := work(t, sqlite.Memory, a)
		if r := result(t, start(t, e, a, "?")); r.Text != "I am sorry." {
			t.Errorf("%s: the answer is %q", wish, r.Text)
		}
		calls := model.Calls()
		if said := calls[1].Messages[2].Content; len(calls) != 2 || !strings.Contains(said, told) {
			t.Errorf("%s: the model was told %q in the last of %d calls, want %q", wish, said, len(calls), told)
		}
		if paid := booked(t, e); paid != "" {
			t.Errorf("%s: paid was %s", wish, paid)
		}
		stop()
	}
}

// Two refunds of one order, side by side in one turn: one is paid.
func TestAnOrderIsPaidBackOnce(t *testing.T) {
	wish := llm.ToolCall{Name: "refund_order", Arguments: `{"order": "1002", "cents": 1900, "reason": "half"}`}
	first, second := wish, wish
	first.ID, second.ID = "1", "2"
	model := llmtest.Script(llmtest.Rule{Times: 1, ToolCalls: []llm.ToolCall{first, second}}, llmtest.Rule{Text: "Done."})
	a := made(t, model)
	e, _ := work(t, sqlite.Memory, a)
	result(t, start(t, e, a, refund1002))
	told := model.Calls()[1].Messages[2:]
	if n := strings.Count(fmt.Sprint(told), "has been paid back already"); n != 1 || booked(t, e) != "1002 $19.00" {
		t.Errorf("paid was %s, and the model was told %v", booked(t, e), told)
	}
}

// A reader that goes away after each few pieces and comes back has the answer, as it is.
func TestTheStreamInPiecesIsTheAnswer(t *testing.T) {
	long := strings.Repeat("a long answer in many small words, ", 300) + "and an end"
	onStores(t, func(t *testing.T, file string) {
		a := made(t, llmtest.Script(
			llmtest.Rule{Times: 1, Text: "I look it up.", ToolCalls: []llm.ToolCall{{ID: "1", Name: "find_order", Arguments: `{"order": "1001"}`}}},
			llmtest.Rule{Text: long},
		))
		e, _ := work(t, file, a)
		run := start(t, e, a, "Where is 1001?")
		var text support.Text
		var turns []string
		away := errors.New("away")
		random, next, visits := rand.New(rand.NewPCG(1, 2)), int64(0), 0
		for err := away; errors.Is(err, away); visits++ {
			left := 1 + random.IntN(3)
			next, err = support.Read(t.Context(), e, run.ID(), next, func(d agent.Delta) error {
				if before := text.String(); text.Add(d) {
					turns = append(turns, before)
				}
				if left--; left == 0 {
					return away
				}
				return nil
			})
			if err != nil && !errors.Is(err, away) {
				t.Fatal(err)
			}
		}
		if r := result(t, run); text.String() != r.Text || r.Text != long {
			t.Errorf("read was %q, the answer is %q", text.String(), r.Text)
		}
		if len(turns) != 1 || turns[0] != "I look it up." || visits < 3 {
			t.Errorf("the turns before are %q, in %d visits", turns, visits)
		}
	})
}

func TestATurnThatBeginsAnewReplacesWhatWasRead(t *testing.T) {
	var text support.Text
	for i, c := range []struct {
		d      agent.Delta
		begins bool
		text   string
	}{
		{agent.Delta{Step: "model", Attempt: 1, Text: "It "}, false, "It "},
		{agent.Delta{Step: "model", Attempt: 1, Text: "is"}, false, "It is"},
		{agent.Delta{Step: "model", Attempt: 1, Restart: true}, true, ""},
		{agent.Delta{Step: "model", Attempt: 1, Text: "No"}, false, "No"},
		{agent.Delta{Step: "model", Attempt: 2, Text: "Yes"}, true, "Yes"},
		{agent.Delta{Step: "model#2", Attempt: 1, Text: "So"}, true, "So"},
	} {
		if begins := text.Add(c.d); begins != c.begins || text.String() != c.text {
			t.Errorf("piece %d: begins %v, text %q", i, begins, text.String())
		}
	}
}

// The worker dies at each of its commits, that of the booking included, while somebody
// approves: the conversation ends the same, and the order is paid back once.
func TestARefundSurvivesCrashes(t *testing.T) {
	a := made(t, support.Scripted(0))
	pawltest.CrashEverywhere(t, a.Workflow, agent.Task{Prompt: refund1002},
		pawltest.WithEqual(func(_ string, undisturbed, crashed json.RawMessage) bool {
			return paidFor(undisturbed) && paidFor(crashed)
		}),
		pawltest.WithDriver(func(h *pawltest.Harness, runID string) {
			h.AwaitHook(runID)
			p, err := support.PendingOf(h.Context(), h.Engine(), runID)
			if err == nil && len(p) != 1 {
				err = fmt.Errorf("%d approvals are asked for, want 1", len(p))
			}
			if err == nil {
				err = support.Answer(h.Context(), h.Engine(), p[0], true, "ada", "")
			}
			if err != nil {
				panic(err)
			}
			h.AwaitState(runID, pawl.Completed)
			all, err := support.Refunds(h.Context(), h.Engine())
			if err != nil || len(all) != 1 || all[0].Cents != 4800 {
				panic(fmt.Sprintf("refunds are %v, %v", all, err))
			}
		}))
}

// paidFor reports whether a result says that the money is back: with "paid back already" a
// step has not known its own booking again.
func paidFor(result []byte) bool {
	return strings.Contains(string(result), "$48.00 was paid back for order 1002.")
}

// The file is left as it is while the approval is waited for, and another engine goes on.
func TestAnotherEngineGoesOn(t *testing.T) {
	file, a := filepath.Join(t.TempDir(), "s.db"), made(t, support.Scripted(0))
	e, stop := work(t, file, a)
	run := start(t, e, a, refund1002)
	pending(t, e, run.ID())
	stop()
	e, stop = work(t, file, a)
	if err := support.Answer(t.Context(), e, pending(t, e, run.ID()), true, "ada", ""); err != nil {
		t.Fatal(err)
	}
	result(t, pawl.Attach[agent.Result](e, run.ID()))
	stop()
	e, _ = work(t, file, a)
	if paid := booked(t, e); paid != "1002 $48.00" {
		t.Errorf("paid was %q", paid)
	}
}
