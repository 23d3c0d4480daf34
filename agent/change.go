package agent

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Change is how a question differs from one that a run has asked: see [Backtest] and
// [ForkAsked]. What is empty stays as it was.
type Change struct {
	Model  string  `json:"model,omitempty"`  // as provider/model
	System *string `json:"system,omitempty"` // instructions; what tells the model of the answer's shape stays behind them
	// Version is another version of the prompt of the registry that the question was made of,
	// filled in with the same variables. Not with Prompt.
	Version     int      `json:"version,omitempty"`
	Prompt      string   `json:"prompt,omitempty"` // in place of the last message of the user; {{prompt}} in it stands for that
	Temperature *float64 `json:"temperature,omitempty"`
	MaxTokens   int      `json:"maxTokens,omitempty"`
}

// recast is a question that a run has asked, with something changed, ready to be asked.
type recast struct {
	model  string // as provider/model
	req    *llm.Request
	shape  *Shape
	prompt *PromptUse
	vars   map[string]string
	at     int          // the message that was changed
	was    *llm.Message // what it was; nil: none was

	repairs *int // as Call.Repairs
}

// question changes what was asked. Its errors are pawl.ErrInput or pawl.ErrNotFound, but for those of the store.
func (c *Change) question(ctx context.Context, e *pawl.Engine, was *Asking) (*recast, error) {
	if c.Version != 0 && c.Prompt != "" {
		return nil, fmt.Errorf("%w: the change has both a version of the prompt and a text in its place; leave one out", pawl.ErrInput)
	}
	shape, err := shapeOf(was.Shape)
	if err != nil {
		return nil, err
	}
	req := *was.Request
	q := &recast{model: cmp.Or(c.Model, was.Model), req: &req, shape: shape, prompt: was.Prompt, vars: was.Vars}
	if c.System != nil {
		req.System = withWords(*c.System, shape)
	}
	if c.Temperature != nil {
		req.Temperature = c.Temperature
	}
	req.MaxTokens = cmp.Or(c.MaxTokens, req.MaxTokens)
	switch {
	case c.Version != 0:
		return q, c.fillIn(ctx, Prompts{e}, q)
	case c.Prompt != "":
		for i, msg := range slices.Backward(req.Messages) {
			if msg.Role == llm.RoleUser {
				q.say(i, strings.ReplaceAll(c.Prompt, "{{prompt}}", msg.Content))
				q.prompt, q.vars = nil, nil // it is of no version now
				return q, nil
			}
		}
		return nil, fmt.Errorf("%w: the question of step %s has no message of the user that a prompt could take the place of", pawl.ErrInput, was.Step)
	}
	return q, nil
}

// fillIn puts another version of a prompt where the question has the one that it was made of.
func (c *Change) fillIn(ctx context.Context, p Prompts, q *recast) error {
	if q.prompt == nil {
		return fmt.Errorf("%w: the question was made of no prompt of the registry, so there is no version %d of it; change its text (Prompt)", pawl.ErrInput, c.Version)
	}
	vars := map[string]any{}
	for name, text := range q.vars {
		vars[name] = text
	}
	render := func(version int) (Rendered, error) {
		v, err := p.Version(ctx, q.prompt.Name, version)
		if err != nil {
			return Rendered{}, err
		}
		return v.Render(vars)
	}
	old, err := render(q.prompt.Version)
	if err != nil {
		return err
	}
	other, err := render(c.Version)
	if err != nil {
		return err
	}
	for i, msg := range slices.Backward(q.req.Messages) {
		if msg.Role == llm.RoleUser && msg.Content == old.Text {
			q.say(i, other.Text)
			q.prompt = &other.PromptUse
			return nil
		}
	}
	return fmt.Errorf("%w: no message of the question is version %d of prompt %q; change its text (Prompt)", pawl.ErrInput, q.prompt.Version, q.prompt.Name)
}

// say puts text in the place of a message.
func (q *recast) say(at int, text string) {
	was := q.req.Messages[at]
	q.at, q.was = at, &was
	q.req.Messages = slices.Clone(q.req.Messages)
	q.req.Messages[at].Content = text
}

// fits reports whether an answer to the question is what a call of today's code reads.
func (q *recast) fits(call *Call) bool { return bytes.Equal(q.shape.written(), call.Shape.written()) }
