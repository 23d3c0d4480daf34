package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/pawlrun/pawl/flow/draft"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// between finds what stands between the marks of words and of flows in a question for a draft.
var between = regexp.MustCompile(`(?s)<untrusted-[0-9a-f]+>\n(.*?)\n</untrusted-`)

// scriptedDraft is a rule that writes flows in place of a model. They fit the format, whatever the words, and say that a script wrote them.
func scriptedDraft(pause time.Duration) llmtest.Rule {
	return llmtest.Rule{
		Delay: pause,
		When:  func(req *llm.Request) bool { return strings.HasPrefix(req.System, draft.Instruction) },
		Answer: func(_ context.Context, req *llm.Request) (*llm.Response, error) {
			asked := between.FindAllStringSubmatch(req.Messages[0].Content, -1)
			words := asked[len(asked)-1][1]
			flow := newScripted(words)
			if len(asked) > 1 {
				flow = map[string]any{}
				if err := json.Unmarshal([]byte(asked[0][1]), &flow); err != nil {
					return nil, fmt.Errorf("the flow that is to be changed: %w", err)
				}
			}
			flow["description"] = "A SCRIPT WROTE THIS, NO MODEL WAS ASKED. It was told: " + words
			data, err := json.Marshal(flow)
			return &llm.Response{Text: string(data)}, err
		},
	}
}

// newScripted is a flow that a script writes: a decision, and a person behind it.
func newScripted(words string) map[string]any {
	id := "scripted"
	for _, word := range strings.Fields(strings.ToLower(words)) {
		if word = strings.Trim(word, ",.;:!?"); regexp.MustCompile(`^[a-z0-9]+$`).MatchString(word) && len(id) < 40 {
			id += "-" + word
		}
	}
	type object = map[string]any
	return object{
		"id": id, "name": "Scripted draft",
		"inputs": object{"type": "object", "required": []string{"text"}, "properties": object{"text": object{"type": "string"}}},
		"steps": []any{
			object{"id": "sort", "type": "ai-decision", "config": object{"prompt": "Does a person have to look at this? {{variables.text}}", "outputFormat": "enum", "allowedValues": []string{"yes", "no"}}, "next": object{"yes": "ask", "no": "end"}},
			object{"id": "ask", "type": "wait", "config": object{"for": "approval", "title": "Look at this", "message": "{{variables.text}}"}, "next": object{"approved": "end", "rejected": "fail"}},
		},
	}
}
