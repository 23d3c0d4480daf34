package llmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/pawlrun/pawl/llm"
)

// ReadScript reads rules from JSON, which is called name in errors. It is a list:
//
//	[
//	  {"contains": "weather", "toolCalls": [{"id": "1", "name": "weather", "arguments": {"city": "Oslo"}}]},
//	  {"contains": "classify", "json": {"queue": "billing"}, "usage": {"input": 120, "output": 8}},
//	  {"contains": "slow", "delay": "30s", "text": "At last."},
//	  {"contains": "busy", "times": 3, "fail": [{"status": 429, "retryAfter": "2s"}, {"status": 529}], "text": "Now."},
//	  {"contains": "empty", "fail": {"status": 402, "code": "billing_error"}},
//	  {"text": "Anything else."}
//	]
//
// The fields are those of [Rule]. json is text that is written as JSON. fail is what the
// rule's first calls fail with, one or a list; a rule that has nothing to answer fails
// with the last of them for ever. A failure has a status, by which llm.Kind is chosen, or
// a kind, of which truncated breaks the answer off; and, if it is to say so, a code,
// message and retryAfter.
func ReadScript(name string, data []byte) ([]Rule, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	line := func() int { // of the next value
		at := int(d.InputOffset())
		at += len(data[at:]) - len(bytes.TrimLeft(data[at:], " \t\r\n,"))
		return 1 + bytes.Count(data[:at], []byte("\n"))
	}
	broken := func(err error) error {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("%s:%d: not JSON: %w", name, line(), err)
	}
	if t, err := d.Token(); err != nil {
		return nil, broken(err)
	} else if t != json.Delim('[') {
		return nil, fmt.Errorf(`%s: a script is a list of rules, such as [{"contains": "hello", "text": "Hi."}]`, name)
	}
	var rules []Rule
	for d.More() {
		where := fmt.Sprintf("%s:%d: rule %d", name, line(), len(rules)+1)
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, broken(err)
		}
		var w wireRule
		if err := strictly(raw, &w); err != nil {
			return nil, fmt.Errorf("%s: %w; the fields are contains, text, json, toolCalls, refusal, finish, usage, delay, times, fail", where, err)
		}
		rule, err := w.rule()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		rules = append(rules, rule)
	}
	if _, err := d.Token(); err != nil {
		return nil, broken(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s:%d: there is something after the end of the rules; remove it", name, line())
	}
	if len(rules) == 0 {
		return nil, fmt.Errorf("%s: there are no rules; a script without any answers nothing", name)
	}
	return rules, nil
}

type wireRule struct {
	Contains  string
	Text      *string
	JSON      json.RawMessage
	ToolCalls []struct {
		ID, Name  string
		Arguments json.RawMessage // an object, or a text as the model wrote it
	}
	Refusal string
	Finish  llm.Finish
	Usage   llm.Usage
	Delay   span
	Times   int
	Fail    failures
}

type wireFailure struct {
	Status     int
	Kind       llm.Kind
	Code       string
	Message    string
	RetryAfter span
}

// failures is one or a list of them.
type failures []wireFailure

func (f *failures) UnmarshalJSON(b []byte) error {
	if b = bytes.TrimSpace(b); len(b) > 0 && b[0] == '[' {
		return strictly(b, (*[]wireFailure)(f))
	}
	*f = make(failures, 1)
	return strictly(b, &(*f)[0])
}

// span is a time such as "1.5s".
type span time.Duration

func (s *span) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) != nil {
		return fmt.Errorf(`%s is no duration; write it as "1.5s"`, b)
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf(`%q is no duration; write it as "1.5s"`, text)
	}
	*s = span(d)
	return nil
}

func (w *wireRule) rule() (Rule, error) {
	out := Rule{Contains: w.Contains, Times: w.Times, Delay: time.Duration(w.Delay), Refusal: w.Refusal, Finish: w.Finish, Usage: w.Usage}
	if w.Times < 0 {
		return out, fmt.Errorf("times is %d; it is a number of calls, or 0 for no end", w.Times)
	}
	if w.Finish != "" && wireFinishes[w.Finish] == "" {
		return out, fmt.Errorf("finish is %q; it is stop, length, tool_calls, refused or other", w.Finish)
	}
	if u := w.Usage; u.Input < 0 || u.Output < 0 || u.Cached < 0 || u.CacheWrites < 0 || u.Reasoning < 0 || u.Cached+u.CacheWrites > u.Input || u.Reasoning > u.Output {
		return out, errors.New("usage does not add up: cached and cacheWrites are parts of input, reasoning is a part of output")
	}
	switch {
	case w.Text != nil && w.JSON != nil:
		return out, errors.New("text and json are both there; a rule has one of them")
	case w.Text != nil:
		out.Text = *w.Text
	case w.JSON != nil:
		var compact bytes.Buffer
		if err := json.Compact(&compact, w.JSON); err != nil {
			return out, err
		}
		out.Text = compact.String()
	}
	for i, c := range w.ToolCalls {
		if c.Name == "" {
			return out, fmt.Errorf("tool call %d has no name", i+1)
		}
		call := llm.ToolCall{ID: c.ID, Name: c.Name, Arguments: string(c.Arguments)}
		if call.ID == "" {
			call.ID = fmt.Sprintf("call_%d", i+1)
		}
		var text string
		if json.Unmarshal(c.Arguments, &text) == nil && c.Arguments != nil {
			call.Arguments = text
		} else if c.Arguments == nil {
			call.Arguments = "{}"
		}
		out.ToolCalls = append(out.ToolCalls, call)
	}
	for i, f := range w.Fail {
		e, err := f.err()
		if err != nil {
			return out, fmt.Errorf("failure %d: %w", i+1, err)
		}
		out.Fail = append(out.Fail, e)
	}
	silent := w.Text == nil && w.JSON == nil && len(w.ToolCalls) == 0 && w.Refusal == ""
	switch {
	case silent && len(out.Fail) == 0:
		return out, errors.New("it has nothing to answer; give it text, json, toolCalls, refusal or fail")
	case silent:
		last := out.Fail[len(out.Fail)-1]
		out.Answer = func(context.Context, *llm.Request) (*llm.Response, error) { return nil, last }
	}
	return out, nil
}

// statusKinds is what a status is in the terms of llm.
var statusKinds = map[int]llm.Kind{
	http.StatusUnauthorized: llm.Auth, http.StatusForbidden: llm.Auth, http.StatusPaymentRequired: llm.QuotaExceeded,
	http.StatusRequestTimeout: llm.Timeout, http.StatusGatewayTimeout: llm.Timeout, http.StatusRequestEntityTooLarge: llm.ContextTooLong,
	http.StatusTooManyRequests: llm.RateLimited, http.StatusServiceUnavailable: llm.Overloaded, 529: llm.Overloaded,
}

func (w *wireFailure) err() (*llm.Error, error) {
	e := &llm.Error{Kind: w.Kind, Status: w.Status, Code: w.Code, Message: w.Message, Wait: time.Duration(w.RetryAfter)}
	switch {
	case w.Status == 0 && w.Kind == "":
		return nil, errors.New("it has no status and no kind; give it one, as 429 or rate_limited")
	case w.Status != 0 && (w.Status < 400 || w.Status > 599):
		return nil, fmt.Errorf("status %d is no error; it is one from 400 to 599", w.Status)
	case w.Kind == "" && statusKinds[w.Status] != "":
		e.Kind = statusKinds[w.Status]
	case w.Kind == "" && w.Status < 500:
		e.Kind = llm.BadRequest
	case w.Kind == "":
		e.Kind = llm.Unavailable
	case w.Kind != llm.Truncated && wireErrors[w.Kind].status == 0:
		return nil, fmt.Errorf("kind %q is none of llm's; leave it out if there is a status", w.Kind)
	}
	if e.Message == "" {
		e.Message = "the script says so"
	}
	return e, nil
}

func strictly(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(into)
}
