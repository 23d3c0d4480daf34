package rag

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/agent"
)

const answerSystem = `You answer questions from the passages given to you and from nothing
else. Cite the id of every passage that you use. If the passages do not answer the
question, say so in the answer and cite nothing. Write at most four sentences.`

const checkSystem = `You check facts. Compare every statement of the answer with the
passages. A statement that they do not say, or say otherwise, is a problem: quote it and
say what the passages say. If there is none, the answer is supported. An answer that says
the passages do not tell is supported if that is so.`

// answer and verdict are what the model is asked to write.
type answer struct {
	Answer    string   `json:"answer"`
	Citations []string `json:"citations" jsonschema:"the ids of passages"`
}

type verdict struct {
	Supported bool     `json:"supported"`
	Problems  []string `json:"problems"`
}

func (v verdict) Validate() error {
	if v.Supported != (len(v.Problems) == 0) {
		return fmt.Errorf("supported is %v, but there are %d problems", v.Supported, len(v.Problems))
	}
	return nil
}

// answerCall asks the question. After a failed check, problems says what was wrong with the
// answer before. An answer that cites what it was not shown is none.
func answerCall(question string, hits []Hit, before string, problems []string) agent.Call {
	var b strings.Builder
	fmt.Fprintf(&b, "Question: %s\n\n%s", question, quoted(hits))
	if len(problems) > 0 {
		fmt.Fprintf(&b, "\nAn earlier answer was: %s\nIt did not pass the check. Avoid these problems:\n- %s\n", before, strings.Join(problems, "\n- "))
	}
	return agent.Call{System: answerSystem, Prompt: b.String(), Check: agent.CheckOf(func(a answer) error {
		if strings.TrimSpace(a.Answer) == "" {
			return errors.New("the answer is empty")
		}
		for _, id := range a.Citations {
			if !slices.ContainsFunc(hits, func(h Hit) bool { return h.ID == id }) {
				return fmt.Errorf("it cites %q, which is none of the passages", id)
			}
		}
		return nil
	})}
}

func checkCall(question, answer string, hits []Hit) agent.Call {
	text := fmt.Sprintf("Question: %s\n\n%s\nAnswer: %s\n", question, quoted(hits), answer)
	return agent.Call{System: checkSystem, Prompt: text}
}

func quoted(hits []Hit) string {
	var b strings.Builder
	for _, h := range hits {
		fmt.Fprintf(&b, "[%s] %s\n", h.ID, h.Text)
	}
	return b.String()
}
