package chat

import (
	"context"
	"fmt"
	"time"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// Scripted is a model that is none: it counts what it was told, and repeats the last message, a
// word at a time with pace between them.
func Scripted(pace time.Duration) llm.Model {
	return &slow{pace: pace, Scripted: llmtest.Script(llmtest.Rule{Answer: func(_ context.Context, req *llm.Request) (*llm.Response, error) {
		told := 0
		for _, m := range req.Messages {
			if m.Role == llm.RoleUser {
				told++
			}
		}
		last := req.Messages[len(req.Messages)-1].Content
		return &llm.Response{Text: fmt.Sprintf("[scripted: no model was asked] You have told me %d things, the last of which is: %s", told, last)}, nil
	}})}
}

// slow speaks slowly.
type slow struct {
	*llmtest.Scripted
	pace time.Duration
}

func (s *slow) Stream(ctx context.Context, req *llm.Request, each func(llm.Delta) error) (*llm.Response, error) {
	return s.Scripted.Stream(ctx, req, func(d llm.Delta) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(s.pace):
			return each(d)
		}
	})
}
