package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Config says what an agent is.
type Config struct {
	Models    *Models
	Model     string   // as provider/model; "" means that of Models
	Fallbacks []string // see Call

	Instructions string // the system prompt
	// Instruct, if not nil, makes the system prompt of each turn. It runs in the step that
	// asks the model.
	Instruct func(ctx context.Context, t Turn) (string, error)

	Tools       []Tool
	Handoffs    []*Agent // agents that may be given the conversation, each as a tool transfer_to_<name>
	Shape       *Shape   // what the last answer must be; nil means any text
	MaxTurns    int      // how often the model is asked; 0 means 20
	MaxCost     int64    // what its answers may cost, in millionths of a US dollar: asked before each turn, so one turn more may be paid; 0 means no limit but the run's budgets
	Parallel    int      // how many tools of one turn run at once; 0 means 8
	Temperature *float64
	MaxTokens   int
	Stream      string // name of the run's stream to which answers go as they come; "": none
	// GoOn is after how many turns in one run the agent goes on as a new run, with the
	// messages as its input, or where they are if the task has a Conversation. 0 means 100.
	GoOn int
	// Remember says how much of its Conversation a run is shown. That of the agent which was
	// started counts, not of those it hands over to.
	Remember Memory

	// Hooks are told what happens, in their order.
	Hooks []Hooks

	// Options are those of the workflow, such as pawl.BudgetUSD, pawl.Timeout or pawl.Concurrency.
	Options []pawl.Option
}

// Turn is where an agent is.
type Turn struct {
	Agent    string
	Number   int // from 1
	Messages []llm.Message
}

// Hooks are told what an agent does. Each call is a durable step of the run: it is made at
// least once, and when it has returned nil, never again. An error that is left after the
// step's attempts ends the run.
type Hooks struct {
	OnStart     func(ctx context.Context, t Task) error
	OnTurnStart func(ctx context.Context, t Turn) error
	OnTurn      func(ctx context.Context, t Turn, a Answer) error // the model has answered
	OnToolStart func(ctx context.Context, call llm.ToolCall) error
	OnToolEnd   func(ctx context.Context, o Outcome) error
	OnFinish    func(ctx context.Context, r Result) error
	OnError     func(ctx context.Context, failure string) error
}

// Task is what an agent is started with.
type Task struct {
	Prompt   string        `json:"prompt,omitempty"`   // what the user says
	Messages []llm.Message `json:"messages,omitempty"` // the conversation so far, or what is new in the Conversation

	// Conversation, if not "", is the id of a conversation of the run's tenant, at most 256
	// bytes. The run begins with what is remembered of it, as it is then, and when it is done
	// appends what it has said: Messages, Prompt, answers and tool results, all of it at once.
	// A run that fails or is cancelled appends nothing. See [Conversations].
	Conversation string `json:"conversation,omitempty"`

	// Of a run that goes on from another.
	Agent  string    `json:"agent,omitempty"` // who has the conversation
	Turns  int       `json:"turns,omitempty"` // made so far
	Cost   int64     `json:"cost,omitempty"`
	Guess  bool      `json:"guess,omitempty"` // part of Cost is assumed
	Usage  llm.Usage `json:"usage,omitzero"`
	Window *Window   `json:"window,omitempty"` // what it remembers
}

// Validate reports a task that no agent can begin with. It is called when a run is started.
func (t *Task) Validate() error {
	if t.Conversation == "" {
		return nil
	}
	if err := checkConversation(t.Conversation); err != nil {
		return err
	}
	return whole(t.Messages)
}

// Result is what an agent ends with.
type Result struct {
	Text     string          `json:"text"`
	Value    json.RawMessage `json:"value,omitempty"` // with Config.Shape
	Agent    string          `json:"agent"`           // who gave the last answer
	Turns    int             `json:"turns"`
	Cost     int64           `json:"cost"`            // of all turns that were answered, with what failed attempts of them have cost, in millionths of a US dollar
	Guess    bool            `json:"guess,omitempty"` // part of the cost is assumed, as a price is not known
	Usage    llm.Usage       `json:"usage,omitzero"`  // of the same calls
	Messages []llm.Message   `json:"messages"`        // the whole conversation; nil with Task.Conversation, where they can be read from

	// With Task.Conversation: where in it this run's messages are.
	First int `json:"first,omitempty"` // position of the first one, from 1
	Last  int `json:"last,omitempty"`
}

// TurnsError reports that an agent was not done after its MaxTurns.
type TurnsError struct {
	Agent string
	Turns int
}

func (e *TurnsError) Error() string {
	return fmt.Sprintf("agent %s was not done after %d turns; raise Config.MaxTurns, or see in its journal what it goes round in", e.Agent, e.Turns)
}

// ErrorCode names the error in a journal.
func (e *TurnsError) ErrorCode() string { return "max_turns" }

// Agent is a workflow: a model that is asked, and tools that it has called, in turn, until
// it answers without asking for a tool. Register it with an engine and start it with a [Task].
type Agent struct {
	*pawl.Workflow[Task, Result]
	name string
	cfg  Config
	all  map[string]*Agent // that the conversation can come to, by name
}

// NewAgent makes an agent. ErrInput: something in its Config can't be used; all of it is named.
func NewAgent(name string, cfg Config) (*Agent, error) {
	cfg.MaxTurns = cfg.Turns()
	cfg.Parallel = cmp.Or(cfg.Parallel, 8)
	cfg.GoOn = cmp.Or(cfg.GoOn, 100)
	cfg.Remember.Tokens = cmp.Or(cfg.Remember.Tokens, 100_000)
	a := &Agent{name: name, cfg: cfg}
	var problems []error
	if cfg.Models == nil {
		problems = append(problems, errors.New("it has no Models"))
	}
	if cfg.MaxTurns < 0 || cfg.Parallel < 0 || cfg.GoOn < 0 || cfg.MaxCost < 0 {
		problems = append(problems, errors.New("MaxTurns, Parallel, GoOn and MaxCost must not be negative"))
	}
	if cfg.Remember.Messages < 0 || cfg.Remember.Tokens < 0 {
		problems = append(problems, errors.New("the limits of Remember must not be negative"))
	}
	names := map[string]bool{}
	for _, t := range a.tools() {
		if err := t.check(); err != nil {
			problems = append(problems, err)
		}
		if names[t.Name] {
			problems = append(problems, fmt.Errorf("two tools are called %q", t.Name))
		}
		names[t.Name] = true
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%w: agent %q: %w", pawl.ErrInput, name, errors.Join(problems...))
	}
	a.all = map[string]*Agent{}
	if err := a.reach(a.all); err != nil {
		return nil, err
	}
	options := slices.Clone(cfg.Options)
	for _, other := range a.all {
		for _, t := range other.cfg.Tools {
			if t.uses != nil {
				options = append(options, pawl.Uses(t.uses))
			}
		}
	}
	a.Workflow = pawl.Define(name, a.run, options...)
	return a, nil
}

// reach collects the agents that the conversation can come to.
func (a *Agent) reach(all map[string]*Agent) error {
	switch other := all[a.name]; {
	case other == a:
		return nil
	case other != nil:
		return fmt.Errorf("%w: two agents are called %q", pawl.ErrInput, a.name)
	}
	all[a.name] = a
	for _, next := range a.cfg.Handoffs {
		if err := next.reach(all); err != nil {
			return err
		}
	}
	return nil
}

const transfer = "transfer_to_"

// tools are those of the agent, and one for each agent that it may hand over to.
func (a *Agent) tools() []Tool {
	all := slices.Clone(a.cfg.Tools)
	for _, next := range a.cfg.Handoffs {
		t := Tool{Name: transfer + next.name, Description: "Hand the conversation over to " + next.name + ".", Parameters: json.RawMessage(`{"type":"object","properties":{},"additionalProperties":false}`)}
		t.run = func(*pawl.Context, llm.ToolCall, json.RawMessage) (string, error) {
			return "the conversation is now " + next.name + "'s", nil
		}
		all = append(all, t)
	}
	return all
}

// talk is a run of an agent.
type talk struct {
	agent    *Agent // who has the conversation
	task     Task
	memory   *recollection // what it remembers of a conversation; nil: there is none
	messages []llm.Message // of this run
	known    int           // how many of them the model was asked with before
	turns    int
	cost     int64
	guess    bool // part of cost is assumed
	usage    llm.Usage
}

func (a *Agent) run(c *pawl.Context, task Task) (Result, error) {
	t := &talk{agent: a, task: task, messages: slices.Clone(task.Messages), turns: task.Turns, cost: task.Cost, guess: task.Guess, usage: task.Usage}
	if task.Agent != "" {
		if t.agent = a.all[task.Agent]; t.agent == nil {
			return Result{}, fmt.Errorf("%w: the conversation is agent %q's, whom %q can't hand over to any more", pawl.ErrInput, task.Agent, a.name)
		}
	}
	if task.Prompt != "" {
		t.messages = append(t.messages, llm.User(task.Prompt))
	}
	if len(t.messages) == 0 && task.Window == nil {
		return Result{}, fmt.Errorf("%w: agent %s: the task has neither a prompt nor messages", pawl.ErrInput, a.name)
	}
	r, next, err := t.converse(c, a)
	if next != nil {
		return Result{}, pawl.ContinueAs(c, *next)
	}
	if err != nil {
		for _, h := range t.agent.cfg.Hooks {
			if h.OnError != nil {
				herr := pawl.Do(c, "hook:error", func(ctx context.Context) error { return h.OnError(ctx, err.Error()) })
				err = errors.Join(err, herr)
			}
		}
	}
	return r, err
}

// takeTurns goes on until the model answers without asking for a tool. more: the run has
// become long, and another is to go on.
func (t *talk) takeTurns(c *pawl.Context, first *Agent) (r Result, more bool, err error) {
	if t.turns == 0 {
		for _, h := range first.cfg.Hooks {
			if h.OnStart == nil {
				continue
			}
			if err := pawl.Do(c, "hook:start", func(ctx context.Context) error { return h.OnStart(ctx, t.task) }); err != nil {
				return r, false, err
			}
		}
	}
	for here := 0; ; here++ {
		if t.turns >= t.agent.cfg.MaxTurns {
			return r, false, &TurnsError{Agent: t.agent.name, Turns: t.turns}
		}
		if most := t.agent.cfg.MaxCost; most > 0 && t.cost >= most {
			return r, false, &CostError{Agent: t.agent.name, Cost: t.cost, Max: most}
		}
		if here >= first.cfg.GoOn {
			return r, true, nil
		}
		answer, err := t.ask(c)
		if err != nil {
			return r, false, err
		}
		if len(answer.ToolCalls) > 0 {
			if err := t.useTools(c, answer.ToolCalls); err != nil {
				return r, false, err
			}
			continue
		}
		r = Result{Text: answer.Text, Value: answer.Value, Agent: t.agent.name, Turns: t.turns, Cost: t.cost, Guess: t.guess, Usage: t.usage}
		if t.memory == nil {
			r.Messages = t.messages
		}
		for _, h := range t.agent.cfg.Hooks {
			if h.OnFinish == nil {
				continue
			}
			if err := pawl.Do(c, "hook:finish", func(ctx context.Context) error { return h.OnFinish(ctx, r) }); err != nil {
				return r, false, err
			}
		}
		return r, false, nil
	}
}

// ask takes one turn of the model.
func (t *talk) ask(c *pawl.Context) (*Answer, error) {
	cfg := &t.agent.cfg
	turn := t.turn()
	for _, h := range cfg.Hooks {
		if h.OnTurnStart == nil {
			continue
		}
		if err := pawl.Do(c, "hook:turn_start", func(ctx context.Context) error {
			return turn(ctx, func(turn Turn) error { return h.OnTurnStart(ctx, turn) })
		}); err != nil {
			return nil, err
		}
	}
	q := Call{
		Model: cfg.Model, Fallbacks: cfg.Fallbacks, System: cfg.Instructions,
		Shape: cfg.Shape, Temperature: cfg.Temperature, MaxTokens: cfg.MaxTokens, Stream: cfg.Stream,
	}
	for _, tool := range t.agent.tools() {
		q.Tools = append(q.Tools, llm.Tool{Name: tool.Name, Description: tool.Description, Parameters: tool.Parameters})
	}
	own, known := len(t.messages), t.known
	answer, err := pawl.Step(c, "model", func(ctx context.Context) (answer *Answer, err error) {
		q := q
		err = turn(ctx, func(turn Turn) error {
			if cfg.Instruct != nil {
				system, err := cfg.Instruct(ctx, turn)
				if err != nil {
					return fmt.Errorf("instructions of agent %s: %w", t.agent.name, err)
				}
				q.System = system
			}
			q.Messages, q.Known = turn.Messages, len(turn.Messages)-own+known
			if t.memory != nil {
				q.window = &t.memory.Window
			}
			answer, err = cfg.Models.ask(ctx, q)
			return err
		})
		return answer, err
	}, withDefaults(nil)...)
	if err != nil {
		return nil, err
	}
	t.turns++
	t.cost, t.guess = t.cost+answer.Cost, t.guess || answer.Guess
	t.usage = t.usage.Add(answer.Usage)
	t.known = len(t.messages)
	t.messages = append(t.messages, answer.Message())
	for _, h := range cfg.Hooks {
		if h.OnTurn == nil {
			continue
		}
		if err := pawl.Do(c, "hook:turn", func(ctx context.Context) error {
			return turn(ctx, func(turn Turn) error { return h.OnTurn(ctx, turn, *answer) })
		}); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// useTools carries out what the model asked for, side by side, and tells it what came of it.
func (t *talk) useTools(c *pawl.Context, calls []llm.ToolCall) error {
	cfg := &t.agent.cfg
	tools := t.agent.tools()
	outcomes, err := pawl.Map(c, "tools", calls, func(c *pawl.Context, call llm.ToolCall) (Outcome, error) {
		for _, h := range cfg.Hooks {
			if h.OnToolStart == nil {
				continue
			}
			if err := pawl.Do(c, "hook:tool_start", func(ctx context.Context) error { return h.OnToolStart(ctx, call) }); err != nil {
				return Outcome{}, err
			}
		}
		out, err := use(c, tools, call)
		if err != nil {
			return out, err
		}
		for _, h := range cfg.Hooks {
			if h.OnToolEnd == nil {
				continue
			}
			if err := pawl.Do(c, "hook:tool_end", func(ctx context.Context) error { return h.OnToolEnd(ctx, out) }); err != nil {
				return out, err
			}
		}
		return out, nil
	}, pawl.Limit(cfg.Parallel))
	if err != nil {
		return err
	}
	for _, out := range outcomes {
		t.messages = append(t.messages, llm.ToolResult(out.Call, out.Content))
		if name, ok := strings.CutPrefix(out.Call.Name, transfer); ok && !out.Failed && t.agent.all[name] != nil {
			t.agent = t.agent.all[name]
		}
	}
	return nil
}

func use(c *pawl.Context, tools []Tool, call llm.ToolCall) (Outcome, error) {
	for i := range tools {
		if tools[i].Name == call.Name {
			return tools[i].use(c, call)
		}
	}
	var names []string
	for _, t := range tools {
		names = append(names, t.Name)
	}
	return Outcome{Call: call, Failed: true, Content: fmt.Sprintf("there is no tool %q; there are: %s", call.Name, strings.Join(names, ", "))}, nil
}
