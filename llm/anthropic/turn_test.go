package anthropic_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/anthropic"
)

// TestThoughtsGoBackToWhoThoughtThem goes a round with a tool, in both ways of asking.
func TestThoughtsGoBackToWhoThoughtThem(t *testing.T) {
	const whole = `{"id":"i","model":"m-20260101","content":[{"type":"thinking","thinking":"hm <&>","signature":"sig=="},{"type":"redacted_thinking","data":"xx"},{"type":"text","text":"I look."},{"type":"thinking","thinking":"","signature":"two"},{"type":"tool_use","id":"c","name":"n","input":{"a":1}}],"stop_reason":"tool_use"}`
	streamed := events(start,
		`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm "}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"<&>"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"sig=="}}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"xx"}}`, `{"type":"content_block_stop","index":1}`,
		`{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}`, `{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"I look."}}`, `{"type":"content_block_stop","index":2}`,
		`{"type":"content_block_start","index":3,"content_block":{"type":"thinking","thinking":"","signature":""}}`, `{"type":"content_block_delta","index":3,"delta":{"type":"signature_delta","signature":"two"}}`, `{"type":"content_block_stop","index":3}`,
		`{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"c","name":"n","input":{}}}`, `{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}}`, `{"type":"content_block_stop","index":4}`,
		strings.Replace(ended, "end_turn", "tool_use", 1), over)
	const thoughts = `{"type":"thinking","thinking":"hm <&>","signature":"sig=="},{"type":"redacted_thinking","data":"xx"},`
	turnOf := func(thoughts, second string) string {
		return `[{"role":"user","content":[{"type":"text","text":"hi"}]},
			{"role":"assistant","content":[` + thoughts + `{"type":"text","text":"I look."},` + second + `{"type":"tool_use","id":"c","name":"n","input":{"a":1}}]},
			{"role":"user","content":[{"type":"tool_result","tool_use_id":"c","content":[{"type":"text","text":"done"}]}]}]`
	}
	with, without := turnOf(thoughts, `{"type":"thinking","thinking":"","signature":"two"},`), turnOf("", "")
	for name, body := range map[string]string{"whole": whole, "streamed": streamed} {
		var res *llm.Response
		var err error
		if name == "whole" {
			res, err = saying(t, body).Generate(t.Context(), hello())
		} else {
			res, err = saying(t, body).Stream(t.Context(), hello(), func(d llm.Delta) error {
				if strings.Contains(d.Text, "hm") {
					t.Errorf("a thought is told as an answer: %q", d.Text)
				}
				return nil
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(res.Message())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			what   string
			opt    anthropic.Options
			change func(*llm.Request)
			want   string
		}{
			{"the same model", anthropic.Options{}, func(*llm.Request) {}, with},
			{"another model", anthropic.Options{}, func(r *llm.Request) { r.Model = "another" }, without},
			{"another provider", anthropic.Options{Provider: "gateway"}, func(*llm.Request) {}, without},
			{"a history without it", anthropic.Options{}, func(r *llm.Request) { r.Messages[1].Turn = nil }, without},
			{"a text that was changed", anthropic.Options{}, func(r *llm.Request) { r.Messages[1].Content = "I looked." }, strings.Replace(without, "I look.", "I looked.", 1)},
			{"a call that was changed", anthropic.Options{}, func(r *llm.Request) { r.Messages[1].ToolCalls[0].Name = "m" }, strings.Replace(without, `"name":"n"`, `"name":"m"`, 1)},
			{"another client's", anthropic.Options{}, func(r *llm.Request) { r.Messages[1].Turn = json.RawMessage(`["x"]`) }, without},
		} {
			var back llm.Message // as it comes out of a journal
			if err := json.Unmarshal(b, &back); err != nil {
				t.Fatal(err)
			}
			req := hello()
			req.Messages = append(req.Messages, back, llm.ToolResult(back.ToolCalls[0], "done"))
			c.change(req)
			got, _ := sent(t, c.opt, req)
			var wire struct{ Messages json.RawMessage }
			if err := json.Unmarshal([]byte(got), &wire); err != nil {
				t.Fatal(err)
			}
			t.Log(name, c.what)
			same(t, string(wire.Messages), c.want)
		}
	}
	for what, body := range map[string]string{"no thoughts": answer, "a block of another kind": `{"content":[{"type":"thinking","thinking":"","signature":"s"},{"type":"server_tool_use","id":"c","name":"web_search","input":{}}],"stop_reason":"end_turn"}`} {
		if res, err := saying(t, body).Generate(t.Context(), hello()); err != nil || res.Turn != nil {
			t.Errorf("%s: the turn is %s, %v; want none", what, res.Turn, err)
		}
	}
}

// Newer models refuse to be forced to a tool; the client does not know which.
func TestTheEndpointJudges(t *testing.T) {
	c := endpoint(t, anthropic.Options{}, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(b), `"tool_choice":{"name":"n","type":"tool"}`) && !strings.Contains(string(b), `"tool_choice":{"type":"tool","name":"n"}`) {
			t.Errorf("on the wire: %s", b)
		}
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"type":"error","error":{"type":"invalid_request_error","message":"forced tool use is not supported"}}`)
	})
	req := hello()
	req.Tools, req.ToolChoice = []llm.Tool{{Name: "n"}}, llm.ChooseTool("n")
	if _, err := c.Generate(context.Background(), req); llm.KindOf(err) != llm.BadRequest || !strings.Contains(err.Error(), "forced tool use") {
		t.Errorf("got %v; want the endpoint's refusal", err)
	}
}
