// Package research is a research agent as a durable workflow: it plans, works on as many
// questions as the plan has, several at a time, digs further where an answer asks for it,
// and writes a report.
//
// Every model call is a step of its own. A run that is killed goes on with the calls that
// are missing and never repeats one whose answer is recorded.
package research

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
)

const (
	maxTopic     = 200 // bytes: the topic is an attribute, and those have a limit of 256
	maxQuestions = 6
	atATime      = 3 // questions worked on at the same time, to stay below the provider's rate limit
)

// Input is what a run is started with.
type Input struct {
	Topic string `json:"topic"`
}

// Validate is called by pawl before a run is stored.
func (in Input) Validate() error {
	if strings.TrimSpace(in.Topic) == "" {
		return errors.New("topic is empty: say what to research")
	}
	if len(in.Topic) > maxTopic {
		return fmt.Errorf("topic is %d bytes long, the limit is %d", len(in.Topic), maxTopic)
	}
	return nil
}

// Finding is the answer to one question.
type Finding struct {
	Question   string   `json:"question"`
	Findings   []string `json:"findings"`
	Confidence string   `json:"confidence"` // sure, likely or unsure
}

// Report is the result of a run.
type Report struct {
	Topic    string    `json:"topic"`
	Text     string    `json:"text"` // Markdown
	Findings []Finding `json:"findings"`
}

// Progress is what a run writes to its stream "progress".
type Progress struct {
	Phase string `json:"phase"`
	Text  string `json:"text"`
}

// New makes the workflow "research-agent", which asks the model that models name.
func New(models *agent.Models) *pawl.Workflow[Input, Report] {
	r := &researcher{models}
	return pawl.Define("research-agent", r.run, pawl.Doc("Researches a topic by questions asked side by side, and writes a report."))
}

type researcher struct{ models *agent.Models }

func (r *researcher) run(c *pawl.Context, in Input) (Report, error) {
	if err := c.SetAttributes(map[string]any{"topic": in.Topic}); err != nil {
		return Report{}, err
	}

	if err := enter(c, "plan", "planning"); err != nil {
		return Report{}, err
	}
	plan, err := agent.Generate[plan](c, r.models, "plan", planCall(in.Topic))
	if err != nil {
		return Report{}, err
	}

	if err := enter(c, "research", fmt.Sprintf("%d questions", len(plan.Questions))); err != nil {
		return Report{}, err
	}
	// As many branches as the plan has questions. Their steps are known as
	// research[0]/look-into, research[1]/look-into, …
	parts, err := pawl.Map(c, "research", plan.Questions, func(c *pawl.Context, question string) ([]Finding, error) {
		return r.answer(c, in.Topic, question)
	}, pawl.Limit(atATime))
	if err != nil {
		return Report{}, err
	}

	if err := enter(c, "synthesis", "writing the report"); err != nil {
		return Report{}, err
	}
	out := Report{Topic: in.Topic, Findings: slices.Concat(parts...)}
	out.Text, err = agent.Generate[string](c, r.models, "synthesize", reportCall(in.Topic, out.Findings))
	if err != nil {
		return Report{}, err
	}
	return out, enter(c, "done", "the report is written")
}

// answer brings home one finding, or two if it dug further.
func (r *researcher) answer(c *pawl.Context, topic, question string) ([]Finding, error) {
	first, err := agent.Generate[finding](c, r.models, "look-into", findingCall(topic, question))
	if err != nil {
		return nil, err
	}
	out := []Finding{first.about(question)}
	if further := strings.TrimSpace(first.FollowUp); further != "" {
		second, err := agent.Generate[finding](c, r.models, "follow-up", findingCall(topic, further))
		if err != nil {
			return nil, err
		}
		out = append(out, second.about(further))
	}
	return out, c.Stream("progress").Write(Progress{"research", "answered: " + question})
}

func (f finding) about(question string) Finding {
	return Finding{Question: question, Findings: f.Findings, Confidence: f.Confidence}
}

// enter says to whoever lists runs, or watches this one, what it does now.
func enter(c *pawl.Context, phase, text string) error {
	if err := c.SetAttributes(map[string]any{"phase": phase}); err != nil {
		return err
	}
	return c.Stream("progress").Write(Progress{phase, text})
}
