package summary

import (
	"context"
	"strings"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// Scripted is a model that is none: it repeats how a text begins, and says that it does.
func Scripted() *llmtest.Scripted {
	return llmtest.Script(llmtest.Rule{Answer: func(_ context.Context, req *llm.Request) (*llm.Response, error) {
		words := strings.Fields(req.Messages[len(req.Messages)-1].Content)
		begins := strings.Join(words[:min(len(words), 12)], " ")
		return &llm.Response{Text: "[scripted: no model was asked] It begins: " + begins}, nil
	}})
}
