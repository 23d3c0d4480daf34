// Package ask makes durable model calls: each is one step of a run, named by the caller,
// whose answer is recorded and never paid for again.
//
// It is shared by the examples and small enough to be copied with one of them. It never
// retries by itself: errors of a model go to pawl as they are, and say there whether
// another attempt is worth it and how long to wait first.
package ask

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Patience is how long one call may take before it counts as failed and is tried again.
const Patience = 2 * time.Minute

// Answer is what a model said, and what it cost.
type Answer[T any] struct {
	Value T         `json:"value"`
	Usage llm.Usage `json:"usage"`
}

// Text asks req in the step of that name and returns the answer's text. An empty answer
// is a failed attempt; one that was declined, or cut off by req.MaxTokens, fails the step
// for good, as the same question would end the same way.
func Text(c *pawl.Context, m llm.Model, step string, req llm.Request) (Answer[string], error) {
	return pawl.Step(c, step, func(ctx context.Context) (Answer[string], error) {
		res, err := generate(ctx, m, &req)
		if err != nil {
			return Answer[string]{}, err
		}
		text := strings.TrimSpace(res.Text)
		if text == "" {
			return Answer[string]{}, errors.New("the model answered nothing")
		}
		return Answer[string]{Value: text, Usage: res.Usage}, nil
	}, pawl.AttemptTimeout(Patience))
}

// JSON asks req, which should have a Schema, in the step of that name and returns the
// answer as a T. The answer must be one JSON object without fields that T does not have,
// and check, if not nil, must accept it: a schema that was sent is a wish, not a proof.
//
// An answer that is none of that is recorded with the reason, and shown to the model in a
// second step, "<step>-repair", with the request to put it right. If that is no use
// either, the repair step fails and with it, as a rule, the run; a retry of the run asks
// for the repair again.
//
// The answer is judged inside the step, so the verdict is recorded too: a deploy that
// makes check stricter does not change the way of runs that are past it.
func JSON[T any](c *pawl.Context, m llm.Model, step string, req llm.Request, check func(T) error) (Answer[T], error) {
	first, err := pawl.Step(c, step, func(ctx context.Context) (judged[T], error) {
		return judge(ctx, m, &req, check)
	}, pawl.AttemptTimeout(Patience))
	if err != nil || first.Problem == "" {
		return Answer[T]{Value: first.Value, Usage: first.Usage}, err
	}
	again := req
	again.Messages = append(append([]llm.Message{}, req.Messages...),
		llm.Message{Role: llm.RoleAssistant, Content: first.Text},
		llm.User("That answer cannot be used: "+first.Problem+".\nAnswer again with the corrected JSON object and nothing else."))
	second, err := pawl.Step(c, step+"-repair", func(ctx context.Context) (judged[T], error) {
		j, err := judge(ctx, m, &again, check)
		if err == nil && j.Problem != "" {
			err = fmt.Errorf("the model's answer cannot be used, even after a repair: %s; it was %.200q", j.Problem, j.Text)
		}
		return j, err
	}, pawl.AttemptTimeout(Patience), pawl.MaxAttempts(2))
	return Answer[T]{Value: second.Value, Usage: first.Usage.Add(second.Usage)}, err
}

// judged is an answer and, if it was no good, why.
type judged[T any] struct {
	Value   T         `json:"value"`
	Problem string    `json:"problem,omitempty"`
	Text    string    `json:"text,omitempty"` // with Problem: what the model wrote
	Usage   llm.Usage `json:"usage"`
}

func judge[T any](ctx context.Context, m llm.Model, req *llm.Request, check func(T) error) (judged[T], error) {
	res, err := generate(ctx, m, req)
	if err != nil {
		return judged[T]{}, err
	}
	v, err := parse[T](res.Text)
	if err == nil && check != nil {
		err = check(v)
	}
	if err != nil {
		return judged[T]{Problem: err.Error(), Text: res.Text, Usage: res.Usage}, nil
	}
	return judged[T]{Value: v, Usage: res.Usage}, nil
}

// generate makes the call. What ended for a reason that another attempt would meet again
// is fatal.
func generate(ctx context.Context, m llm.Model, req *llm.Request) (*llm.Response, error) {
	res, err := m.Generate(ctx, req)
	if err != nil {
		return nil, err
	}
	switch res.Finish {
	case llm.FinishRefused:
		return nil, pawl.Fatal(fmt.Errorf("%s declined to answer: %s", res.Model, res.Refusal))
	case llm.FinishLength:
		return nil, pawl.Fatal(fmt.Errorf("the answer of %s was cut off after %d tokens: raise MaxTokens", res.Model, res.Usage.Output))
	}
	return res, nil
}

// parse reads text as exactly one JSON object of T's shape. Models like to put a fence
// around their JSON; that much is forgiven.
func parse[T any](text string) (T, error) {
	var v T
	text = strings.TrimSpace(text)
	if inner, ok := strings.CutPrefix(text, "```"); ok {
		text = strings.TrimSuffix(strings.TrimPrefix(inner, "json"), "```")
	}
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, fmt.Errorf("it is not the JSON object that was asked for (%w)", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return v, errors.New("there is more after the JSON object")
	}
	return v, nil
}
