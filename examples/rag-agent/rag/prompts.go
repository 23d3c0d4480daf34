package rag

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pawlrun/pawl/llm"
)

const answerSystem = `You answer questions from the passages given to you and from nothing
else. Cite the id of every passage that you use. If the passages do not answer the
question, say so in the answer and cite nothing. Write at most four sentences.`

const checkSystem = `You check facts. Compare every statement of the answer with the
passages. A statement that they do not say, or say otherwise, is a problem: quote it and
say what the passages say. If there is none, the answer is supported. An answer that says
the passages do not tell is supported if that is so.`

var answerSchema = &llm.Schema{Name: "answer", JSON: json.RawMessage(`{
	"type": "object",
	"properties": {
		"answer": {"type": "string"},
		"citations": {"type": "array", "items": {"type": "string", "description": "the id of a passage"}}
	},
	"required": ["answer", "citations"],
	"additionalProperties": false
}`)}

var verdictSchema = &llm.Schema{Name: "verdict", JSON: json.RawMessage(`{
	"type": "object",
	"properties": {
		"supported": {"type": "boolean"},
		"problems": {"type": "array", "items": {"type": "string"}}
	},
	"required": ["supported", "problems"],
	"additionalProperties": false
}`)}

// answerRequest asks the question. After a failed check, problems says what was wrong
// with the answer before.
func (a *agent) answerRequest(question string, hits []Hit, before string, problems []string) llm.Request {
	var b strings.Builder
	fmt.Fprintf(&b, "Question: %s\n\n%s", question, quoted(hits))
	if len(problems) > 0 {
		fmt.Fprintf(&b, "\nAn earlier answer was: %s\nIt did not pass the check. Avoid these problems:\n- %s\n", before, strings.Join(problems, "\n- "))
	}
	return llm.Request{Model: a.Name, System: answerSystem, Schema: answerSchema, Messages: []llm.Message{llm.User(b.String())}}
}

func (a *agent) checkRequest(question, answer string, hits []Hit) llm.Request {
	text := fmt.Sprintf("Question: %s\n\n%s\nAnswer: %s\n", question, quoted(hits), answer)
	return llm.Request{Model: a.Name, System: checkSystem, Schema: verdictSchema, Messages: []llm.Message{llm.User(text)}}
}

func quoted(hits []Hit) string {
	var b strings.Builder
	for _, h := range hits {
		fmt.Fprintf(&b, "[%s] %s\n", h.ID, h.Text)
	}
	return b.String()
}
