package research

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/agent"
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

// plan and finding are what the model is asked to write: their schemas are made of the types.
type plan struct {
	Questions []string `json:"questions"`
}

// Validate says what no schema does. The model is told, and may mend it.
func (p plan) Validate() error {
	if len(p.Questions) == 0 || len(p.Questions) > maxQuestions {
		return fmt.Errorf("it has %d questions, and must have 1 to %d", len(p.Questions), maxQuestions)
	}
	if blank(p.Questions) {
		return errors.New("a question is empty")
	}
	return nil
}

type finding struct {
	Findings   []string `json:"findings"`
	Confidence string   `json:"confidence" enum:"sure,likely,unsure"`
	FollowUp   string   `json:"followUp" jsonschema:"one further question, or empty"`
}

func (f finding) Validate() error {
	if len(f.Findings) == 0 || blank(f.Findings) {
		return errors.New("it must have at least one finding, and none may be empty")
	}
	return nil
}

func blank(lines []string) bool {
	return slices.ContainsFunc(lines, func(s string) bool { return strings.TrimSpace(s) == "" })
}

func planCall(topic string) agent.Call {
	return agent.Call{System: planSystem, Prompt: "Topic: " + topic}
}

func findingCall(topic, question string) agent.Call {
	return agent.Call{System: findingSystem, Prompt: "Topic: " + topic + "\nQuestion: " + question}
}

func reportCall(topic string, findings []Finding) agent.Call {
	var b strings.Builder
	fmt.Fprintf(&b, "Topic: %s\n", topic)
	for _, f := range findings {
		fmt.Fprintf(&b, "\n## %s (%s)\n", f.Question, f.Confidence)
		for _, line := range f.Findings {
			fmt.Fprintf(&b, "- %s\n", line)
		}
	}
	return agent.Call{System: reportSystem, Prompt: b.String()}
}
