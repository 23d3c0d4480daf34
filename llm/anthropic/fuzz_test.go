package anthropic_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/anthropic"
)

// answering is a transport that gives every call the same body.
type answering string

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(a))), Request: r}, nil
}

// FuzzAnswers: whatever an endpoint says, a call ends with a response that a journal can
// hold and whose pieces make it up, or with an *llm.Error.
func FuzzAnswers(f *testing.F) {
	tool := `{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"c","name":"n","input":{}}}`
	thought := `{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`
	for _, seed := range []string{
		answer, events(start, text, ab, shut, ended, over), events(start, thought, tool, tool, shut, ended, over), events(tool, ended),
		events(`{"type":"content_block_delta","index":-1,"delta":{"type":"input_json_delta","partial_json":"{"}}`, ended),
		`{"type":"error","error":{"type":"overloaded_error"}}`, "data: []\n\n", "data: {\"type\":{}}\n\n", `{"content":{},"stop_reason":1}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		c := anthropic.New(anthropic.Options{HTTPClient: &http.Client{Transport: answering(body)}})
		check := func(res *llm.Response, err error) {
			var e *llm.Error
			if (res == nil) == (err == nil) || err != nil && !errors.As(err, &e) {
				t.Fatalf("%q gave %v, %v", body, res, err)
			}
			if err != nil {
				return
			}
			if _, err := json.Marshal(res); err != nil {
				t.Fatalf("%q gave what no journal can hold: %v", body, err)
			}
			req := hello()
			req.Messages = append(req.Messages, res.Message())
			for _, call := range res.ToolCalls {
				if call.ID != "" && call.Name != "" {
					req.Messages = append(req.Messages, llm.ToolResult(call, "x"))
				}
			}
			_, _ = c.Generate(context.Background(), req) // a history of it does no harm
		}
		res, err := c.Generate(context.Background(), hello())
		check(res, err)
		var told strings.Builder
		res, err = c.Stream(context.Background(), hello(), func(d llm.Delta) error { told.WriteString(d.Text); return nil })
		check(res, err)
		if err == nil && told.String() != res.Text {
			t.Fatalf("%q: the pieces make up %q, the answer is %q", body, told.String(), res.Text)
		}
	})
}
