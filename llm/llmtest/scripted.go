package llmtest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl/llm"
)

// What a scripted model says it is, wherever a real one would say its name.
const (
	ProviderName = "scripted"
	ModelName    = "scripted (no model was asked)"
)

// Rule says what a [Scripted] model does with the requests that it matches. A rule with
// neither Contains nor When matches every request.
type Rule struct {
	Contains string                  // matches if the last message's content contains this
	When     func(*llm.Request) bool // and if this is true of it; it must not change the request nor call the model

	// Times is how many calls the rule serves, failed ones included, before the script
	// goes on as if it were not there; 0 means no end.
	Times int

	Delay time.Duration // how long each call takes, unless its ctx ends earlier
	Fail  []error       // the errors of the rule's first calls, one each, before it answers

	// The answer. If Answer is set it makes the whole of it; what it leaves empty among
	// Finish, Usage, Provider, Model, RequestID and Raw is filled in as for the others.
	Text      string
	ToolCalls []llm.ToolCall
	Refusal   string
	Finish    llm.Finish                                                 // "" means what follows from the fields above
	Usage     llm.Usage                                                  // zero means the number of words in the request and the answer
	Limits    llm.Limits                                                 // of answers; an error has its own
	Answer    func(context.Context, *llm.Request) (*llm.Response, error) // may be called by several goroutines at once
}

// Scripted is an [llm.Model], [llm.Streamer] and [llm.Embedder] that answers by rules. A
// request is served by the first rule that matches it and is not used up; a request that
// none matches is a BadRequest that shows it. It is safe for concurrent use.
type Scripted struct {
	rules []Rule

	mu     sync.Mutex
	served []int // calls that each rule has served
	calls  []llm.Request
	embeds []llm.EmbedRequest
}

var (
	_ llm.Streamer = (*Scripted)(nil)
	_ llm.Embedder = (*Scripted)(nil)
)

// Script returns a model that follows the rules, in this order.
func Script(rules ...Rule) *Scripted {
	return &Scripted{rules: slices.Clone(rules), served: make([]int, len(rules))}
}

// Calls returns copies of the requests of all Generate and Stream calls so far, in the
// order in which they came, those that failed or were refused included.
func (s *Scripted) Calls() []llm.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]llm.Request, len(s.calls))
	for i := range s.calls {
		out[i] = *clone(&s.calls[i])
	}
	return out
}

// Embeds returns copies of the requests of all Embed calls so far.
func (s *Scripted) Embeds() []llm.EmbedRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.embeds)
	for i := range out {
		out[i].Input = slices.Clone(out[i].Input)
	}
	return out
}

// Generate answers req by the rules. See [llm.Model].
func (s *Scripted) Generate(ctx context.Context, req *llm.Request) (*llm.Response, error) {
	n := s.record(req)
	if err := req.Validate(); err != nil {
		return nil, badRequest(req.Model, err.Error())
	}
	at, before := s.serve(req)
	if at < 0 {
		last := req.Messages[len(req.Messages)-1]
		return nil, badRequest(req.Model, fmt.Sprintf("no rule of the script answers the %s message %q", last.Role, last.Content))
	}
	rule := &s.rules[at]
	if err := pause(ctx, req.Model, rule.Delay); err != nil {
		return nil, err
	}
	if before < len(rule.Fail) {
		return nil, rule.Fail[before]
	}
	res := &llm.Response{Text: rule.Text, ToolCalls: slices.Clone(rule.ToolCalls), Refusal: rule.Refusal, Finish: rule.Finish, Usage: rule.Usage, Limits: rule.Limits}
	if rule.Answer != nil {
		var err error
		if res, err = rule.Answer(ctx, clone(req)); err != nil {
			return nil, err
		}
	}
	return complete(req, res, n, at), nil
}

// Stream answers as Generate does and hands the answer out word by word.
func (s *Scripted) Stream(ctx context.Context, req *llm.Request, each func(llm.Delta) error) (*llm.Response, error) {
	res, err := s.Generate(ctx, req)
	if err != nil {
		return nil, err
	}
	for _, d := range deltas(res) {
		if err := each(d); err != nil {
			return nil, fmt.Errorf("%s %s: stream abandoned: %w", ProviderName, req.Model, err)
		}
	}
	return res, nil
}

// record keeps a copy of req and returns how many it has kept.
func (s *Scripted) record(req *llm.Request) int {
	kept := clone(req)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, *kept)
	return len(s.calls)
}

// serve finds the rule that serves req, and how many calls that has served before; at is
// -1 if no rule matches.
func (s *Scripted) serve(req *llm.Request) (at, before int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.rules {
		if r := &s.rules[i]; (r.Times == 0 || s.served[i] < r.Times) && r.matches(req) {
			s.served[i]++
			return i, s.served[i] - 1
		}
	}
	return -1, 0
}

func (r *Rule) matches(req *llm.Request) bool {
	last := req.Messages[len(req.Messages)-1].Content
	return strings.Contains(last, r.Contains) && (r.When == nil || r.When(req))
}

// complete fills in what an answer must have.
func complete(req *llm.Request, res *llm.Response, n, at int) *llm.Response {
	if res == nil {
		res = &llm.Response{}
	}
	if res.Finish == "" {
		switch {
		case res.Refusal != "":
			res.Finish = llm.FinishRefused
		case len(res.ToolCalls) > 0:
			res.Finish = llm.FinishToolCalls
		default:
			res.Finish = llm.FinishStop
		}
	}
	if res.Usage == (llm.Usage{}) {
		res.Usage = llm.Usage{Input: wordsIn(req), Output: words(res.Text)}
		for _, c := range res.ToolCalls {
			res.Usage.Output += 1 + words(c.Arguments)
		}
	}
	res.Provider = cmp.Or(res.Provider, ProviderName)
	res.Model = cmp.Or(res.Model, ModelName)
	res.RequestID = cmp.Or(res.RequestID, fmt.Sprintf("scripted-%d", n))
	if res.Raw == nil {
		res.Raw = json.RawMessage(fmt.Sprintf(`{"scripted":%q,"rule":%d}`, ModelName, at))
	}
	return res
}

func wordsIn(req *llm.Request) int {
	n := words(req.System)
	for _, m := range req.Messages {
		n += words(m.Content)
	}
	return n
}

// words counts what stands between spaces; a list of them would be larger than the text.
func words(text string) (n int) {
	for range strings.FieldsSeq(text) {
		n++
	}
	return n
}

// deltas cuts an answer after each space, and each tool call's arguments in two, never
// inside a character.
func deltas(res *llm.Response) []llm.Delta {
	var out []llm.Delta
	for word := range strings.SplitAfterSeq(res.Text, " ") {
		if word != "" {
			out = append(out, llm.Delta{Text: word})
		}
	}
	for i, c := range res.ToolCalls {
		half := len(c.Arguments) / 2
		for half > 0 && !utf8.RuneStart(c.Arguments[half]) {
			half--
		}
		out = append(out,
			llm.Delta{ToolCall: &llm.ToolCallDelta{Index: i, ID: c.ID, Name: c.Name, Arguments: c.Arguments[:half]}},
			llm.Delta{ToolCall: &llm.ToolCallDelta{Index: i, Arguments: c.Arguments[half:]}})
	}
	return out
}

// pause waits for d, or reports how ctx ended as llm.Model promises it.
func pause(ctx context.Context, model string, d time.Duration) error {
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	switch ctx.Err() {
	case nil:
		return nil
	case context.DeadlineExceeded:
		return &llm.Error{Kind: llm.Timeout, Provider: ProviderName, Model: model, Message: "the deadline passed before the answer was there", Err: ctx.Err()}
	default:
		return fmt.Errorf("%s %s: %w", ProviderName, model, ctx.Err())
	}
}

func badRequest(model, message string) *llm.Error {
	return &llm.Error{Kind: llm.BadRequest, Provider: ProviderName, Model: model, Message: message}
}

// clone returns a copy of r that shares nothing with it.
func clone(r *llm.Request) *llm.Request {
	c := *r
	c.Messages = slices.Clone(r.Messages)
	for i := range c.Messages {
		c.Messages[i].ToolCalls = slices.Clone(c.Messages[i].ToolCalls)
		c.Messages[i].Turn = bytes.Clone(c.Messages[i].Turn)
	}
	c.Tools = slices.Clone(r.Tools)
	for i := range c.Tools {
		c.Tools[i].Parameters = bytes.Clone(c.Tools[i].Parameters)
	}
	c.Stop = slices.Clone(r.Stop)
	if r.Temperature != nil {
		c.Temperature = new(*r.Temperature)
	}
	if r.Schema != nil {
		c.Schema = new(*r.Schema)
		c.Schema.JSON = bytes.Clone(r.Schema.JSON)
	}
	return &c
}
