// Package demo is what the example programs share: a scripted model, so that they run
// without a key, and the little program around a workflow.
//
// The scripted model asks no model. Its answers are made from templates, they say so, and
// they are good for watching a workflow work and for nothing else.
package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// Model returns a model and embedder that answers what the workflows of the examples ask.
// It answers at once.
func Model() *llmtest.Scripted { return Paced(0) }

// Paced is Model with a pause before each answer, so that one can watch, and kill, a run
// in the middle. Embeddings are made at once.
func Paced(pause time.Duration) *llmtest.Scripted {
	rule := func(when func(*llm.Request) bool, answer func(*llm.Request) any) llmtest.Rule {
		return llmtest.Rule{When: when, Delay: pause, Answer: func(_ context.Context, req *llm.Request) (*llm.Response, error) {
			return say(answer(req))
		}}
	}
	return llmtest.Script(
		rule(wants("plan"), plan),
		rule(wants("finding"), finding),
		rule(wants(""), report),
		rule(wants("Article"), draft),
		rule(wants("answer"), answer),
		rule(wants("verdict"), verdict),
	)
}

// wants matches requests by the name of their schema, "" for those without one.
func wants(schema string) func(*llm.Request) bool {
	return func(req *llm.Request) bool {
		return req.Schema == nil && schema == "" || req.Schema != nil && req.Schema.Name == schema
	}
}

// say makes a response of a text, or of a value as JSON.
func say(v any) (*llm.Response, error) {
	if text, ok := v.(string); ok {
		return &llm.Response{Text: text}, nil
	}
	b, err := json.Marshal(v)
	return &llm.Response{Text: string(b)}, err
}

const disclaimer = "[scripted: no model was asked]"

type object = map[string]any

// research-agent

func plan(req *llm.Request) any {
	topic := line(req, "Topic: ")
	return object{"questions": []string{
		"What is meant by " + topic + ", and what is not?",
		"Who has tried it, and what came of it?",
		"What does it cost, in money and in trouble?",
		"What speaks against it?",
	}}
}

func finding(req *llm.Request) any {
	question := line(req, "Question: ")
	further := ""
	if strings.HasPrefix(question, "What speaks against it?") {
		further = "How would one notice early that it does not work?"
	}
	return object{
		"findings": []string{
			disclaimer + " Here would be the first thing known about: " + question,
			"The second would say what the first leaves out.",
		},
		"confidence": "unsure",
		"followUp":   further,
	}
}

func report(req *llm.Request) any {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s A model would now answer the topic's question in a few sentences.\n", line(req, "Topic: "), disclaimer)
	for _, s := range strings.Split(text(req), "\n") {
		if strings.HasPrefix(s, "## ") || strings.HasPrefix(s, "- ") {
			fmt.Fprintf(&b, "\n%s", s)
		}
	}
	return b.String()
}

// content-pipeline

func draft(req *llm.Request) any {
	topic, audience, comment := line(req, "Topic: "), line(req, "Audience: "), line(req, "Comment: ")
	body := fmt.Sprintf("%s An article for %s about %s would stand here.", disclaimer, audience, topic)
	if comment != "" {
		_, before, _ := strings.Cut(text(req), "\n\n# ")
		_, before, _ = strings.Cut(before, "\n\n")
		body = before + "\n\nRevised as the reviewer asked: " + comment
	}
	return object{"title": "What " + audience + " should know about " + topic, "body": body}
}

// rag-agent

// answer quotes the first passage, which is the nearest.
func answer(req *llm.Request) any {
	id, quote, found := strings.Cut(line(req, "["), "] ")
	if !found {
		return object{"answer": disclaimer + " The passages do not tell.", "citations": []string{}}
	}
	return object{"answer": disclaimer + " The passage nearest to the question says: " + quote, "citations": []string{id}}
}

// verdict finds the answer supported if it is, word for word, in the passages.
func verdict(req *llm.Request) any {
	_, quote, found := strings.Cut(line(req, "Answer: "), "says: ")
	if found && !strings.Contains(text(req), "] "+quote+"\n") {
		return object{"supported": false, "problems": []string{disclaimer + " the passages do not contain: " + quote}}
	}
	return object{"supported": true, "problems": []string{}}
}

func text(req *llm.Request) string { return req.Messages[len(req.Messages)-1].Content }

// line returns the rest of the first line that begins with prefix.
func line(req *llm.Request, prefix string) string {
	for s := range strings.SplitSeq(text(req), "\n") {
		if rest, ok := strings.CutPrefix(s, prefix); ok {
			return rest
		}
	}
	return ""
}
