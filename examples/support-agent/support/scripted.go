package support

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

const disclaimer = "[scripted: no model was asked] "

// Scripted is a model that is none: it looks for an order's number and a few words, asks for
// the tools that go with them, and repeats what they say. It takes pace for each answer.
func Scripted(pace time.Duration) *llmtest.Scripted {
	return llmtest.Script(llmtest.Rule{Delay: pace, Answer: func(_ context.Context, req *llm.Request) (*llm.Response, error) {
		return play(req)
	}})
}

var number = regexp.MustCompile(`\b\d{4}\b`)

func play(req *llm.Request) (*llm.Response, error) {
	var asked, order string // the last message of the customer, and the last order's number
	for _, m := range req.Messages {
		if m.Role == llm.RoleUser {
			asked = strings.ToLower(m.Content)
			order = cmp.Or(number.FindString(asked), order)
		}
	}
	last := req.Messages[len(req.Messages)-1].Content
	switch said := lastCall(req); {
	case said == "" && offers(req, "transfer_to_billing") && has(asked, "bill", "charged", "invoice"):
		return call(req, "transfer_to_billing", struct{}{})
	case said == "" && order == "":
		return say("Which order is it? Please tell me its number, such as 1001.")
	case said == "" || strings.HasPrefix(said, "transfer_to_"):
		return call(req, "find_order", findArgs{Order: order})
	case said == "find_order":
		var o Order
		if json.Unmarshal([]byte(last), &o) != nil {
			return say("I cannot find that: " + last)
		}
		if has(asked, "refund", "money back", "charged") {
			return call(req, "refund_order", refundArgs{Order: o.ID, Cents: o.Cents, Reason: "the customer wrote: " + asked})
		}
		return say(fmt.Sprintf("Order %s, %s, is %s.", o.ID, o.Title, o.State))
	default:
		var r Refund
		if json.Unmarshal([]byte(last), &r) != nil {
			return say("Nothing was paid back: " + last)
		}
		return say(fmt.Sprintf("%s was paid back for order %s.", Dollars(r.Cents), r.Order))
	}
}

// lastCall is the tool whose result is the last message; "": the customer has spoken last.
func lastCall(req *llm.Request) string {
	last := req.Messages[len(req.Messages)-1]
	for _, m := range req.Messages {
		for _, c := range m.ToolCalls {
			if last.Role == llm.RoleTool && c.ID == last.ToolCallID {
				return c.Name
			}
		}
	}
	return ""
}

func offers(req *llm.Request, tool string) bool {
	for _, t := range req.Tools {
		if t.Name == tool {
			return true
		}
	}
	return false
}

func has(text string, words ...string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

func say(text string) (*llm.Response, error) { return &llm.Response{Text: disclaimer + text}, nil }

func call(req *llm.Request, tool string, args any) (*llm.Response, error) {
	b, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	return &llm.Response{ToolCalls: []llm.ToolCall{{ID: fmt.Sprintf("call-%d", len(req.Messages)), Name: tool, Arguments: string(b)}}}, nil
}
