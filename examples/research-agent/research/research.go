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
	"github.com/pawlrun/pawl/examples/ask"
	"github.com/pawlrun/pawl/llm"
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
	Usage    llm.Usage `json:"usage"` // of all recorded calls
}

// Progress is what a run writes to its stream "progress".
type Progress struct {
	Phase string `json:"phase"`
	Text  string `json:"text"`
}

// Config says whom the agent asks.
type Config struct {
	Model llm.Model
	Name  string // of the model, as the provider calls it
}

// New makes the workflow "research-agent".
func New(cfg Config) *pawl.Workflow[Input, Report] {
	a := &agent{cfg}
	return pawl.Define("research-agent", a.run)
}

// Workflows returns all that this package defines, for an engine's Register. It embeds
// nothing, so emb may be nil.
func Workflows(m llm.Model, emb llm.Embedder, model string) []pawl.Definition {
	return []pawl.Definition{New(Config{Model: m, Name: model})}
}

type agent struct{ Config }

func (a *agent) run(c *pawl.Context, in Input) (Report, error) {
	if err := c.SetAttributes(map[string]any{"topic": in.Topic}); err != nil {
		return Report{}, err
	}

	if err := enter(c, "plan", "planning"); err != nil {
		return Report{}, err
	}
	plan, err := ask.JSON(c, a.Model, "plan", a.planRequest(in.Topic), checkPlan)
	if err != nil {
		return Report{}, err
	}

	questions := plan.Value.Questions
	if err := enter(c, "research", fmt.Sprintf("%d questions", len(questions))); err != nil {
		return Report{}, err
	}
	// As many branches as the plan has questions. Their steps are known as
	// research[0]/look-into, research[1]/look-into, …
	parts, err := pawl.Map(c, "research", questions, func(c *pawl.Context, question string) (part, error) {
		return a.answer(c, in.Topic, question)
	}, pawl.Limit(atATime))
	if err != nil {
		return Report{}, err
	}

	if err := enter(c, "synthesis", "writing the report"); err != nil {
		return Report{}, err
	}
	out := Report{Topic: in.Topic, Usage: plan.Usage}
	for _, p := range parts {
		out.Findings = append(out.Findings, p.Findings...)
		out.Usage = out.Usage.Add(p.Usage)
	}
	text, err := ask.Text(c, a.Model, "synthesize", a.reportRequest(in.Topic, out.Findings))
	if err != nil {
		return Report{}, err
	}
	out.Text, out.Usage = text.Value, out.Usage.Add(text.Usage)
	return out, enter(c, "done", "the report is written")
}

// part is what one branch brings home: one finding, or two if it dug further.
type part struct {
	Findings []Finding
	Usage    llm.Usage
}

func (a *agent) answer(c *pawl.Context, topic, question string) (part, error) {
	first, err := ask.JSON(c, a.Model, "look-into", a.findingRequest(topic, question), checkFinding)
	if err != nil {
		return part{}, err
	}
	out := part{Findings: []Finding{first.Value.about(question)}, Usage: first.Usage}
	if further := strings.TrimSpace(first.Value.FollowUp); further != "" {
		second, err := ask.JSON(c, a.Model, "follow-up", a.findingRequest(topic, further), checkFinding)
		if err != nil {
			return part{}, err
		}
		out.Findings = append(out.Findings, second.Value.about(further))
		out.Usage = out.Usage.Add(second.Usage)
	}
	return out, c.Stream("progress").Write(Progress{"research", "answered: " + question})
}

// planAnswer and findingAnswer are what the model is asked to write.
type planAnswer struct {
	Questions []string `json:"questions"`
}

type findingAnswer struct {
	Findings   []string `json:"findings"`
	Confidence string   `json:"confidence"`
	FollowUp   string   `json:"followUp"`
}

func (f findingAnswer) about(question string) Finding {
	return Finding{Question: question, Findings: f.Findings, Confidence: f.Confidence}
}

func checkPlan(p planAnswer) error {
	if len(p.Questions) == 0 || len(p.Questions) > maxQuestions {
		return fmt.Errorf("it has %d questions, and must have 1 to %d", len(p.Questions), maxQuestions)
	}
	if blank(p.Questions) {
		return errors.New("a question is empty")
	}
	return nil
}

func checkFinding(f findingAnswer) error {
	if len(f.Findings) == 0 || blank(f.Findings) {
		return errors.New("it must have at least one finding, and none may be empty")
	}
	if !slices.Contains([]string{"sure", "likely", "unsure"}, f.Confidence) {
		return fmt.Errorf("confidence is %q, and must be sure, likely or unsure", f.Confidence)
	}
	return nil
}

func blank(lines []string) bool {
	return slices.ContainsFunc(lines, func(s string) bool { return strings.TrimSpace(s) == "" })
}

// enter says to whoever lists runs, or watches this one, what it does now.
func enter(c *pawl.Context, phase, text string) error {
	if err := c.SetAttributes(map[string]any{"phase": phase}); err != nil {
		return err
	}
	return c.Stream("progress").Write(Progress{phase, text})
}
