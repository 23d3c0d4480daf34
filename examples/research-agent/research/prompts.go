package research

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pawlrun/pawl/llm"
)

const planSystem = `You plan research. Break the topic into the questions that a careful
reader would need answered, and no others: as few as the topic allows, at most 6. Each
question must be answerable without the answers to the others.`

const findingSystem = `You research one question thoroughly. State what is known as short
findings, each of which stands alone. Say "unsure" rather than guess. If one further
question must be settled before the answer is sound, name it as the follow-up; otherwise
leave the follow-up empty.`

const reportSystem = `You write research reports for busy readers. Use the findings given to
you and nothing else. Begin with the answer, then the reasons, then what stays open.
Write Markdown, at most 600 words.`

var planSchema = &llm.Schema{Name: "plan", JSON: json.RawMessage(`{
	"type": "object",
	"properties": {"questions": {"type": "array", "items": {"type": "string"}}},
	"required": ["questions"],
	"additionalProperties": false
}`)}

var findingSchema = &llm.Schema{Name: "finding", JSON: json.RawMessage(`{
	"type": "object",
	"properties": {
		"findings": {"type": "array", "items": {"type": "string"}},
		"confidence": {"type": "string", "enum": ["sure", "likely", "unsure"]},
		"followUp": {"type": "string", "description": "one further question, or empty"}
	},
	"required": ["findings", "confidence", "followUp"],
	"additionalProperties": false
}`)}

func (a *agent) planRequest(topic string) llm.Request {
	return llm.Request{
		Model: a.Name, System: planSystem, Schema: planSchema,
		Messages: []llm.Message{llm.User("Topic: " + topic)},
	}
}

func (a *agent) findingRequest(topic, question string) llm.Request {
	return llm.Request{
		Model: a.Name, System: findingSystem, Schema: findingSchema,
		Messages: []llm.Message{llm.User("Topic: " + topic + "\nQuestion: " + question)},
	}
}

func (a *agent) reportRequest(topic string, findings []Finding) llm.Request {
	var b strings.Builder
	fmt.Fprintf(&b, "Topic: %s\n", topic)
	for _, f := range findings {
		fmt.Fprintf(&b, "\n## %s (%s)\n", f.Question, f.Confidence)
		for _, line := range f.Findings {
			fmt.Fprintf(&b, "- %s\n", line)
		}
	}
	return llm.Request{Model: a.Name, System: reportSystem, Messages: []llm.Message{llm.User(b.String())}}
}
