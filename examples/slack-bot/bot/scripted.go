package bot

import (
	"context"
	"fmt"
	"time"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// Scripted is a model that is none: it repeats the last message, and says how many it was shown.
// It takes pace for each answer.
func Scripted(pace time.Duration) *llmtest.Scripted {
	return llmtest.Script(llmtest.Rule{Delay: pace, Answer: func(_ context.Context, req *llm.Request) (*llm.Response, error) {
		shown := 0
		for _, m := range req.Messages {
			if m.Role == llm.RoleUser {
				shown++
			}
		}
		last := req.Messages[len(req.Messages)-1].Content
		return &llm.Response{Text: fmt.Sprintf("[scripted: no model was asked] message %d was %s", shown, last)}, nil
	}})
}
