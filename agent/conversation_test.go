package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// word is a message in a word or two.
func word(m llm.Message) string {
	text := m.Content
	for _, c := range m.ToolCalls {
		text += c.Name + c.Arguments
	}
	return string(m.Role[:1]) + ":" + text
}

func lines(messages []llm.Message) string {
	var out []string
	for _, m := range messages {
		out = append(out, word(m))
	}
	return strings.Join(out, " ")
}

// conversation reads all of it, and checks that it can be one.
func conversation(t *testing.T, s Conversations, id string) (out []Said) {
	t.Helper()
	var messages []llm.Message
	for m, err := range s.Messages(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Position != len(out)+1 {
			t.Errorf("message %d is number %d", len(out)+1, m.Position)
		}
		out, messages = append(out, m), append(messages, m.Message)
	}
	if err := whole(messages); err != nil {
		t.Errorf("%v: %s", err, lines(messages))
	}
	return out
}

func text(all []Said) string {
	var messages []llm.Message
	for _, m := range all {
		messages = append(messages, m.Message)
	}
	return lines(messages)
}

func fromUser(r *llm.Request) bool { return r.Messages[len(r.Messages)-1].Role == llm.RoleUser }

// parrot calls add once for each message of the user, and then says how much it was shown.
func parrot() []llmtest.Rule {
	return []llmtest.Rule{
		{When: fromUser, Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
			return &llm.Response{ToolCalls: []llm.ToolCall{{ID: fmt.Sprint("call-", len(r.Messages)), Name: "add", Arguments: fmt.Sprintf(`{"a":%d,"b":0}`, len(r.Messages))}}}, nil
		}},
		{Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
			return &llm.Response{Text: fmt.Sprint("saw", len(r.Messages))}, nil
		}},
	}
}

func TestAConversationIsRemembered(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(parrot()...)
		var turns []int
		a := made(t, "parrot", Config{Models: m, Tools: []Tool{adder(t)}, Hooks: []Hooks{{
			OnTurn: func(_ context.Context, turn Turn, _ Answer) error {
				turns = append(turns, len(turn.Messages))
				return nil
			},
		}}})
		e := work(t, open(), a)
		r := succeed(t, e, a, Task{Prompt: "one", Conversation: "c"}, pawl.ID("first"))
		equal(t, "first", fmt.Sprint(r.Text, " ", r.First, r.Last, len(r.Messages)), "saw3 1 4 0")
		r = succeed(t, e, a, Task{Prompt: "two", Conversation: "c"}, pawl.ID("second"))
		equal(t, "second", fmt.Sprint(r.Text, " ", r.First, r.Last, len(r.Messages)), "saw7 5 8 0")
		want := `u:one a:add{"a":1,"b":0} t:1 a:saw3 u:two a:add{"a":5,"b":0} t:5 a:saw7`
		all := conversation(t, Conversations{Engine: e}, "c")
		equal(t, "conversation", text(all), want)
		equal(t, "runs", fmt.Sprint(all[3].Run, " ", all[4].Run), "first second")
		calls := s.Calls()
		equal(t, "the model was shown", lines(calls[3].Messages), strings.TrimSuffix(want, " a:saw7"))
		equal(t, "messages of turns", turns, []int{1, 3, 5, 7})
		for entry, err := range e.Journal(t.Context(), pawl.Ref{ID: "second"}) {
			if err != nil || strings.Contains(string(entry.Data), `"one"`) || strings.Contains(string(entry.Data), "saw3") {
				t.Errorf("the second run's journal has what the first has said, in %s %s: %s %v", entry.Kind, entry.Key, entry.Data, err)
			}
		}
		runs, err := e.List(t.Context(), pawl.Filter{Attrs: map[string]string{ConversationAttribute: "c"}})
		equal(t, "runs of the conversation", fmt.Sprint(len(runs), err), "2 <nil>")
		r = succeed(t, e, a, Task{Prompt: "three"})
		equal(t, "without a conversation", fmt.Sprint(r.Text, " ", len(r.Messages), r.First), "saw3 4 0")
	})
}

// A message with a cursor, a fork, an import, a list.
func TestConversationsForPeople(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		ctx := t.Context()
		s := Conversations{Engine: pawl.New(open(), nil)}
		call := llm.Message{Role: llm.RoleAssistant, ToolCalls: []llm.ToolCall{{ID: "1", Name: "add", Arguments: "{}"}}}
		n, err := s.Append(ctx, "ann/1", Anywhere, llm.User("one"), call, llm.ToolResult(call.ToolCalls[0], "1"), llm.Message{Role: llm.RoleAssistant, Content: "done"})
		equal(t, "append", fmt.Sprint(n, err), "4 <nil>")
		n, err = s.Append(ctx, "ann/1", 4, llm.User("two"), llm.Message{Role: llm.RoleAssistant, Content: "fine"})
		equal(t, "append", fmt.Sprint(n, err), "6 <nil>")
		var bad *ConversationError
		if _, err = s.Append(ctx, "ann/1", 4, llm.User("two")); !errors.Is(err, pawl.ErrConflict) || !errors.As(err, &bad) || bad.Conversation != "ann/1" {
			t.Errorf("appended again: %v", err)
		}
		if _, err = s.Append(ctx, "ann/1", Anywhere, llm.User("x"), call); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("appended half of a turn: %v", err)
		}
		for after, want := range map[int]string{-1: "u:one a:add{} t:1 a:done u:two a:fine", 1: "a:add{} t:1 a:done u:two a:fine", 4: "u:two a:fine", 5: "a:fine", 6: "", 7: ""} {
			var got []llm.Message
			for m, err := range s.Messages(ctx, "ann/1", after) {
				if err != nil || m.Position != after+1+len(got) && after > 0 {
					t.Error(m, err)
				}
				got = append(got, m.Message)
			}
			equal(t, fmt.Sprint("after ", after), lines(got), want)
		}
		for _, upto := range []int{0, 2, 7} {
			if err := s.Fork(ctx, "ann/1", "ann/2", upto); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("fork after %d: %v", upto, err)
			}
		}
		if err := s.Fork(ctx, "ann/1", "ann/2", 5); err != nil {
			t.Fatal(err)
		}
		if err := s.Fork(ctx, "ann/1", "ann/2", 1); !errors.Is(err, pawl.ErrConflict) {
			t.Errorf("forked twice: %v", err)
		}
		equal(t, "fork", text(conversation(t, s, "ann/2")), "u:one a:add{} t:1 a:done u:two")
		if _, err := s.Append(ctx, "bob", Anywhere, llm.User("x")); err != nil {
			t.Fatal(err)
		}
		list := func(prefix string) (out []string) {
			for info, err := range s.List(ctx, prefix, "") {
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, fmt.Sprint(info.ID, " ", info.Messages))
			}
			return out
		}
		equal(t, "all", list(""), []string{"ann/1 6", "ann/2 5", "bob 1"})
		equal(t, "ann's", list("ann/"), []string{"ann/1 6", "ann/2 5"})
		old, err := (&chat{e: s.Engine, id: "ann/1"}).thread(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Delete(ctx, "ann/1"); err != nil {
				t.Fatal(err)
			}
		}
		equal(t, "after a delete", list("ann/"), []string{"ann/2 5"})
		if left, err := s.Engine.Records(ctx, old.Space, "", "", 10); err != nil || len(left) > 0 {
			t.Errorf("left are %v %v", left, err)
		}
		if _, err := s.Get(ctx, "ann/1"); !errors.Is(err, pawl.ErrNotFound) || !errors.As(err, &bad) {
			t.Errorf("got a deleted one: %v", err)
		}
		equal(t, "the fork is whole", len(conversation(t, s, "ann/2")), 5)
		for _, id := range []string{"", strings.Repeat("x", 257), "a\x00b", "\xff"} {
			if _, err := s.Append(ctx, id, Anywhere, llm.User("x")); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("id %q: %v", id, err)
			}
		}
	})
}

func TestOnlyWholeTurnsAreAConversation(t *testing.T) {
	call := func(ids ...string) llm.Message {
		m := llm.Message{Role: llm.RoleAssistant}
		for _, id := range ids {
			m.ToolCalls = append(m.ToolCalls, llm.ToolCall{ID: id, Name: "x", Arguments: "{}"})
		}
		return m
	}
	result := func(id string) llm.Message { return llm.ToolResult(llm.ToolCall{ID: id}, "") }
	for want, messages := range map[string][]llm.Message{
		"": {llm.User("x"), call("1", "2", "2"), result("2"), result("1"), result("2"), llm.User("y")},
		`message 2 of the conversation is the result of call "1"`: {llm.User("x"), result("1")},
		"message 3 of the conversation comes before the results":  {llm.User("x"), call("1"), llm.User("y"), result("1")},
		"message 3 of the conversation is the last":               {llm.User("x"), call("1", "2"), result("1")},
		"must have content": {{Role: llm.RoleUser}},
	} {
		if err := whole(messages); want == "" && err != nil || want != "" && (!errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	m, _ := scripted(parrot()...)
	a := made(t, "parrot", Config{Models: m, Tools: []Tool{adder(t)}})
	e := memory(t)
	if err := e.Register(a); err != nil {
		t.Fatal(err)
	}
	for _, task := range []Task{{Prompt: "x", Conversation: strings.Repeat("x", 300)}, {Conversation: "c", Messages: []llm.Message{llm.User("x"), result("1")}}} {
		if _, err := a.Start(t.Context(), e, task); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("%+v was started: %v", task, err)
		}
	}
	if _, err := NewAgent("negative", Config{Models: m, Remember: Memory{Messages: -1}}); !errors.Is(err, pawl.ErrInput) {
		t.Errorf("a negative limit: %v", err)
	}
}

// What is too much for one record is in several, and reads back as it was, whatever the
// engine's limit is.
func TestLongExchangesAreInPieces(t *testing.T) {
	eachStoreAtOnce(t, func(t *testing.T, open func() pawl.Store) {
		for _, limit := range []int{0, 30_000} {
			e := pawl.New(open(), &pawl.Options{MaxPayload: limit})
			s := Conversations{Engine: e, Tenant: fmt.Sprint(limit)}
			var in []llm.Message
			for i := range 200 {
				in = append(in, llm.User(strings.Repeat(fmt.Sprint(i, " "), 700)), llm.Message{Role: llm.RoleAssistant, Content: fmt.Sprint("answer ", i)})
			}
			for at := range 3 {
				if _, err := s.Append(t.Context(), "c", at*400, in...); err != nil {
					t.Fatal(err)
				}
			}
			c := s.chat("c")
			th, err := c.thread(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			records, err := e.Records(t.Context(), th.Space, "", "", 1000)
			if err != nil || len(records) < 6 {
				t.Fatalf("%d records %v", len(records), err)
			}
			equal(t, "messages", text(conversation(t, s, "c")), lines(slices.Concat(in, in, in)))
			var tail []llm.Message
			for m, err := range s.Messages(t.Context(), "c", 950) {
				if err != nil {
					t.Fatal(err)
				}
				tail = append(tail, m.Message)
			}
			equal(t, "the last ones", lines(tail), lines(in[150:]))
			back, err := c.window(t.Context(), th, Window{Through: 3, From: 390, To: 1200})
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "a window", lines(back), lines(slices.Concat(in[390:], in, in)))
			if err := s.Fork(t.Context(), "c", "d", 900); err != nil {
				t.Fatal(err)
			}
			equal(t, "a fork", text(conversation(t, s, "d")), lines(slices.Concat(in, in, in[:100])))
		}
		s := Conversations{Engine: pawl.New(open(), &pawl.Options{MaxPayload: 20_000}), Tenant: "large"}
		if _, err := s.Append(t.Context(), "c", Anywhere, llm.User("x"), llm.User(strings.Repeat("x", 20_000))); !errors.Is(err, pawl.ErrTooLarge) || !strings.Contains(err.Error(), `conversation "c"`) {
			t.Errorf("a message that no record takes: %v", err)
		}
	})
}

// One tenant's conversations are not another's, whatever they are called.
func TestTenantsHaveTheirOwnConversations(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, _ := scripted(parrot()...)
		a := made(t, "parrot", Config{Models: m, Tools: []Tool{adder(t)}})
		e := work(t, open(), a)
		tenants := []string{"", "a", "b", "a/c", "agent.conversations.a"}
		for round := range 2 {
			for i, tenant := range tenants {
				r := succeed(t, e, a, Task{Prompt: fmt.Sprint(tenant, round), Conversation: "c"}, pawl.Tenant(tenant), pawl.ID(fmt.Sprint(i, round)))
				equal(t, tenant, r.Text, fmt.Sprint("saw", 3+4*round))
			}
		}
		other, err := (&chat{e: e, tenant: "a", id: "c"}).thread(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// A window that names the messages of another tenant opens nothing.
		_, err = finish(t, e, a, Task{Conversation: "c", Window: &Window{Conversation: "c", Space: other.Space, Through: 1, To: 4}}, pawl.Tenant("b"))
		if !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("a window into another tenant: %v", err)
		}
		if err := (Conversations{Engine: e, Tenant: "a"}).Delete(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		for _, tenant := range tenants {
			s := Conversations{Engine: e, Tenant: tenant}
			if tenant == "a" {
				if _, err := s.Get(t.Context(), "c"); !errors.Is(err, pawl.ErrNotFound) || !strings.Contains(err.Error(), `of tenant "a"`) {
					t.Errorf("a's is still there: %v", err)
				}
				continue
			}
			all := conversation(t, s, "c")
			equal(t, tenant, fmt.Sprint(len(all), all[0].Content, all[4].Content), fmt.Sprint(8, tenant, 0, tenant, 1))
		}
	})
}

// A conversation is deleted while a run waits: the run fails and names it, nothing of what it
// has said is written, and the id is free for another.
func TestDeleteWhileRunning(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		here, gone := make(chan struct{}), make(chan struct{})
		m, _ := scripted(parrot()...)
		wait := Func("add", "", func(ctx context.Context, in sum) (int, error) {
			if in.A > 1 {
				close(here)
				select {
				case <-gone:
				case <-ctx.Done():
				}
			}
			return in.A, ctx.Err()
		})
		a := made(t, "parrot", Config{Models: m, Tools: []Tool{wait}})
		e := work(t, open(), a)
		s := Conversations{Engine: e}
		succeed(t, e, a, Task{Prompt: "one", Conversation: "c"})
		run, err := a.Start(t.Context(), e, Task{Prompt: "two", Conversation: "c"})
		if err != nil {
			t.Fatal(err)
		}
		<-here
		old, err := s.chat("c").thread(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		succeed(t, e, a, Task{Prompt: "new", Conversation: "c"})
		close(gone)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = run.Result(ctx)
		var f *pawl.Failure
		for cause := err; cause != nil && (f == nil || f.Code != "conversation"); cause = errors.Unwrap(cause) {
			f, _ = cause.(*pawl.Failure)
		}
		var named ConversationError
		if f == nil || json.Unmarshal(f.Details, &named) != nil || named.Conversation != "c" || !errors.Is(err, pawl.ErrNotFound) || !strings.Contains(err.Error(), "was deleted after the run had begun") {
			t.Errorf("the run ended with %v", err)
		}
		if left, err := e.Records(t.Context(), old.Space, "", "", 10); err != nil || len(left) > 0 {
			t.Errorf("left are %v %v", left, err)
		}
		equal(t, "the new one", text(conversation(t, s, "c")), `u:new a:add{"a":1,"b":0} t:1 a:saw3`)
	})
}

// A delete that was cut off leaves a conversation that nobody can use, until it is made again.
func TestADeleteThatWasCutOff(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, _ := scripted(parrot()...)
		a := made(t, "parrot", Config{Models: m, Tools: []Tool{adder(t)}})
		e := work(t, open(), a)
		s := Conversations{Engine: e}
		for _, state := range []string{threadDeleting, threadForking} {
			succeed(t, e, a, Task{Prompt: "one", Conversation: "c"})
			c := s.chat("c")
			th, err := c.thread(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			th.State = state
			if err := c.write(t.Context(), &th); err != nil {
				t.Fatal(err)
			}
			if _, err := finish(t, e, a, Task{Prompt: "two", Conversation: "c"}); err == nil || !strings.Contains(err.Error(), `conversation "c": it is being`) {
				t.Errorf("a run: %v", err)
			}
			for _, err := range s.Messages(t.Context(), "c", 0) {
				if !errors.Is(err, pawl.ErrState) {
					t.Errorf("read: %v", err)
				}
			}
			if _, err := s.Append(t.Context(), "c", Anywhere, llm.User("x")); !errors.Is(err, pawl.ErrState) {
				t.Errorf("appended: %v", err)
			}
			info, err := s.Get(t.Context(), "c")
			equal(t, "told", fmt.Sprint(info.State, " ", err), state+" <nil>")
			if err := s.Delete(t.Context(), "c"); err != nil {
				t.Fatal(err)
			}
		}
		equal(t, "anew", succeed(t, e, a, Task{Prompt: "one", Conversation: "c"}).Text, "saw3")
	})
}

// A record that is gone, or is not what it was, is an error that names the conversation.
func TestADamagedConversationSaysSo(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, _ := scripted(parrot()...)
		a := made(t, "parrot", Config{Models: m, Tools: []Tool{adder(t)}})
		e := work(t, open(), a)
		s := Conversations{Engine: e}
		for want, data := range map[string]string{
			`record "x/0000000002" of`: ``, // it is missing
			"does not read back":       `{"messages":7}`,
			"has no messages":          `{}`,
			"ends with message 5 and the next one begins after message 8": `{"first":4,"messages":[{"role":"user","content":"x"}]}`,
		} {
			id := "c " + want
			for i := range 3 {
				succeed(t, e, a, Task{Prompt: fmt.Sprint(i), Conversation: id})
			}
			th, err := s.chat(id).thread(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			put := pawl.Put{Space: th.Space, Key: exchangeKey(2), If: pawl.AnyVersion}
			if data != "" {
				put.Data = json.RawMessage(data)
			}
			if _, err := e.Write(t.Context(), put); err != nil {
				t.Fatal(err)
			}
			_, err = finish(t, e, a, Task{Prompt: "again", Conversation: id})
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprintf("conversation %q", id)) {
				t.Errorf("the run ended with %v, want %q", err, want)
			}
			var read error
			for _, err := range s.Messages(t.Context(), id, 0) {
				read = err
			}
			var bad *ConversationError
			if !errors.As(read, &bad) || bad.Conversation != id {
				t.Errorf("%s: read: %v", want, read)
			}
		}
	})
}

// A number that is taken, of which the conversation does not know, ends the run and does not
// keep it busy for ever.
func TestAStrangeRecordIsToldOf(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, _ := scripted(parrot()...)
		a := made(t, "parrot", Config{Models: m, Tools: []Tool{adder(t)}})
		e := work(t, open(), a)
		c := (Conversations{Engine: e}).chat("c")
		succeed(t, e, a, Task{Prompt: "one", Conversation: "c"})
		th, err := c.thread(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{exchangeKey(2), summaryKey(2)} {
			if _, err := e.Write(t.Context(), pawl.Put{Space: th.Space, Key: key, Data: json.RawMessage(`{}`)}); err != nil {
				t.Fatal(err)
			}
		}
		const want = `conversation "c": it has a record that nobody has written`
		if _, err = finish(t, e, a, Task{Prompt: "two", Conversation: "c"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the run ended with %v", err)
		}
		if err := c.keep(t.Context(), th.Space, 2, digest{Text: "x"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("kept: %v", err)
		}
	})
}

// A model that asks another agent can't have it remember a conversation.
func TestAModelDoesNotChooseTheConversation(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(
			llmtest.Rule{Contains: "go", ToolCalls: calls(`clerk {"prompt":"what did ann say?","conversation":"ann"}`)},
			llmtest.Rule{Contains: "are not what it takes", ToolCalls: calls(`clerk {"prompt":"what did ann say?"}`)},
			llmtest.Rule{Contains: "I do not know", Text: "done"},
			llmtest.Rule{Contains: "what did ann say?", Text: "I do not know"},
		)
		clerk := made(t, "clerk", Config{Models: m})
		a := made(t, "boss", Config{Models: m, Tools: []Tool{Child(clerk.Workflow, "knows")}})
		e := work(t, open(), a, clerk)
		if _, err := (Conversations{Engine: e}).Append(t.Context(), "ann", 0, llm.User("secret")); err != nil {
			t.Fatal(err)
		}
		equal(t, "text", succeed(t, e, a, Task{Prompt: "go"}).Text, "done")
		for _, call := range s.Calls() {
			if strings.Contains(lines(call.Messages), "secret") {
				t.Errorf("the model was shown %s", lines(call.Messages))
			}
		}
	})
}
