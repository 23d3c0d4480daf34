package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Tool is what a model may ask to have called. Make one with [Func], [NewTool] or [Child];
// package agent/mcp makes them of MCP servers.
type Tool struct {
	Name        string // letters, digits, _ and -, at most 64
	Description string
	Parameters  json.RawMessage // JSON Schema of the arguments
	Approve     *Approval       // whose consent a call needs; nil: nobody's

	shape *Shape // of the arguments
	run   func(c *pawl.Context, call llm.ToolCall, args json.RawMessage) (string, error)
	uses  pawl.Definition // the workflow that a call is a run of; nil: none
	err   error           // why the tool can't be used
}

// MaxToolResult is how much of what a tool returns the model is told, in bytes. The rest is
// cut off, and the model is told so.
const MaxToolResult = 64 << 10

// Func makes a tool of a Go function. Its arguments are what In is in JSON; arguments that
// do not fit are sent back to the model. A call is one durable step of the run, tried again
// as opts say; an error that is left is told to the model, which may go on from it.
func Func[In, Out any](name, description string, fn func(ctx context.Context, in In) (Out, error), opts ...pawl.StepOption) Tool {
	t := toolOf[In](name, description)
	t.run = func(c *pawl.Context, _ llm.ToolCall, args json.RawMessage) (string, error) {
		return pawl.Step(c, "tool:"+name, func(ctx context.Context) (string, error) {
			var in In
			if err := json.Unmarshal(args, &in); err != nil {
				return "", pawl.Fatal(fmt.Errorf("arguments of %s: %w", name, err))
			}
			out, err := fn(ctx, in)
			if err != nil {
				return "", err
			}
			return answerOf(name, out)
		}, opts...)
	}
	return t
}

// NewTool makes a tool whose arguments a JSON Schema describes; call gets them as an object
// that fits it, and returns what the model is told. A call is one durable step of the run.
func NewTool(name, description string, schema json.RawMessage, call func(ctx context.Context, args json.RawMessage) (string, error), opts ...pawl.StepOption) Tool {
	t := Tool{Name: name, Description: description, Parameters: schema}
	t.shape, t.err = JSON(schema)
	t.run = func(c *pawl.Context, _ llm.ToolCall, args json.RawMessage) (string, error) {
		return pawl.Step(c, "tool:"+name, func(ctx context.Context) (string, error) {
			text, err := call(ctx, args)
			return fit(text), err
		}, opts...)
	}
	return t
}

// Child makes a tool of a workflow: a call is a child run, and is awaited. The workflow is
// registered with the agent that has the tool. The arguments are what
// In is in JSON; of a [Task], the prompt alone: a model must not choose whose conversation another
// agent remembers.
func Child[In, Out any](w *pawl.Workflow[In, Out], description string, opts ...pawl.StartOption) Tool {
	t := toolOf[In](w.Name(), description)
	if _, ok := any(*new(In)).(Task); ok {
		t = toolOf[errand](w.Name(), description)
	}
	t.run = func(c *pawl.Context, _ llm.ToolCall, args json.RawMessage) (string, error) {
		var in In
		if err := json.Unmarshal(args, &in); err != nil {
			return "", fmt.Errorf("arguments of %s: %w", w.Name(), err)
		}
		out, err := w.Call(c, in, opts...)
		if err != nil {
			return "", err
		}
		return answerOf(w.Name(), out)
	}
	t.uses = w
	return t
}

// errand is what a model may ask of an agent.
type errand struct {
	Prompt string `json:"prompt" jsonschema:"what it is to do, with all that it has to know"`
}

// WithApproval returns the tool with calls of it needing somebody's consent.
func (t Tool) WithApproval(a Approval) Tool {
	t.Approve = &a
	return t
}

func toolOf[In any](name, description string) Tool {
	t := Tool{Name: name, Description: description}
	if t.Parameters, t.err = SchemaOf[In](); t.err == nil {
		t.shape, t.err = JSON(t.Parameters)
	}
	return t
}

// answerOf is what a tool returned, as the model is told it: a string as it is, all else as JSON.
func answerOf(name string, out any) (string, error) {
	if text, ok := out.(string); ok {
		return fit(text), nil
	}
	data, err := json.Marshal(out)
	if err != nil {
		return "", pawl.Fatal(fmt.Errorf("what %s returned has no JSON form: %w", name, err))
	}
	return fit(string(data)), nil
}

// fit makes text what a request may carry: valid UTF-8, and not too long.
func fit(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= MaxToolResult {
		return text
	}
	cut := MaxToolResult
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return fmt.Sprintf("%s\n[%d more bytes were cut off]", text[:cut], len(text)-cut)
}

// Outcome is what came of a tool call.
type Outcome struct {
	Call    llm.ToolCall `json:"call"`
	Content string       `json:"content"` // what the model is told
	Failed  bool         `json:"failed,omitempty"`
	Denied  bool         `json:"denied,omitempty"` // by who had to approve it, or because nobody did in time
}

// use carries out a call that the model asked for. What goes wrong with it the model is told;
// an error is that of the run.
func (t *Tool) use(c *pawl.Context, call llm.ToolCall) (Outcome, error) {
	out := Outcome{Call: call}
	args, err := t.arguments(call)
	if err != nil {
		out.Failed, out.Content = true, fit(err.Error())
		return out, nil
	}
	if t.Approve != nil && t.Approve.needed(args) {
		verdict, err := t.Approve.ask(c, call, args)
		if err != nil {
			return out, err
		}
		if !verdict.Approved {
			out.Denied, out.Content = true, fit(verdict.sentence())
			return out, nil
		}
	}
	out.Content, err = t.run(c, call, args)
	switch {
	case err == nil:
	case errors.Is(err, pawl.ErrCancelled), errors.Is(err, context.Canceled), errors.Is(err, pawl.ErrBudget), errors.Is(err, pawl.ErrMisuse):
		return out, err
	default:
		var step *pawl.StepError
		if errors.As(err, &step) { // which step it was is nothing to the model
			err = step.Err
		}
		out.Failed, out.Content = true, fit("error: "+err.Error())
	}
	return out, nil
}

// arguments reads what the model wrote: an object that is what the tool takes.
func (t *Tool) arguments(call llm.ToolCall) (json.RawMessage, error) {
	text := call.Arguments
	if strings.TrimSpace(text) == "" {
		text = "{}"
	}
	if t.shape != nil {
		args, err := t.shape.Read(text)
		if err != nil {
			return nil, fmt.Errorf("the arguments of %s are not what it takes: %w", t.Name, err)
		}
		return args, nil
	}
	if !json.Valid([]byte(text)) {
		return nil, fmt.Errorf("the arguments of %s are not JSON", t.Name)
	}
	return json.RawMessage(text), nil
}

// check reports why the tool can't be used.
func (t *Tool) check() error {
	switch {
	case t.err != nil:
		return fmt.Errorf("tool %q: its arguments: %w", t.Name, t.err)
	case t.run == nil:
		return fmt.Errorf("tool %q does nothing; make it with Func, NewTool or Child", t.Name)
	case !toolName(t.Name):
		return fmt.Errorf("tool %q: a name has 1 to 64 letters, digits, _ and -", t.Name)
	}
	return nil
}

func toolName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-') {
			return false
		}
	}
	return true
}

// Approval says whose consent a call of a tool needs. The run waits for it on a hook, whose
// Meta is an [ApprovalRequest]; a [Verdict] is its payload.
type Approval struct {
	// When says of which arguments it is needed; nil: of all. It must depend on nothing else.
	When func(args json.RawMessage) bool
	// Approvers are those whose verdict counts, as Verdict.By names them; none: anybody's.
	// Who they are is for those to check who hand the verdict on.
	Approvers []string
	// Within is how long the consent is waited for. 0 means a week. When it is over the call
	// is denied.
	Within time.Duration
}

// ApprovalRequest is what an approver is shown, as the Meta of the hook.
type ApprovalRequest struct {
	Tool      string          `json:"tool"`
	CallID    string          `json:"callId"`
	Arguments json.RawMessage `json:"arguments"`
	Hash      string          `json:"hash"` // of the arguments: a verdict is about these and no others
	Approvers []string        `json:"approvers,omitempty"`
	Expires   time.Time       `json:"expires"`
}

// Verdict is an approver's answer.
type Verdict struct {
	CallID   string `json:"callId"`
	Hash     string `json:"hash"` // as in the request
	Approved bool   `json:"approved"`
	By       string `json:"by,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

func (a *Approval) needed(args json.RawMessage) bool { return a.When == nil || a.When(args) }

// ask waits for a verdict on these arguments of this call, by one who may give it. Others
// change nothing: the run goes on to wait.
func (a *Approval) ask(c *pawl.Context, call llm.ToolCall, args json.RawMessage) (Verdict, error) {
	within := a.Within
	if within <= 0 {
		within = 7 * 24 * time.Hour
	}
	expires := c.Now().Add(within)
	req := ApprovalRequest{Tool: call.Name, CallID: call.ID, Arguments: args, Hash: hashOfArguments(call.Name, args), Approvers: a.Approvers, Expires: expires}
	hook, err := pawl.NewHook[Verdict](c, pawl.Meta(req))
	if err != nil {
		return Verdict{}, err
	}
	for {
		left := expires.Sub(c.Now())
		if left <= 0 {
			break
		}
		v, err := hook.Wait(c, pawl.Timeout(left))
		switch {
		case errors.Is(err, pawl.ErrTimeout):
		case errors.Is(err, pawl.ErrInput): // no Verdict: not an answer
			continue
		case err != nil:
			return v, err
		case v.CallID != req.CallID || v.Hash != req.Hash || !a.mayAnswer(v.By):
			continue
		default:
			return v, hook.Close(c)
		}
		break
	}
	return Verdict{CallID: call.ID, Reason: fmt.Sprintf("nobody approved it within %v", within)}, hook.Close(c)
}

func (a *Approval) mayAnswer(by string) bool {
	if len(a.Approvers) == 0 {
		return true
	}
	for _, name := range a.Approvers {
		if name == by && by != "" {
			return true
		}
	}
	return false
}

// sentence is what the model is told of a call that was denied.
func (v *Verdict) sentence() string {
	text := "the call was denied"
	if v.By != "" {
		text += " by " + v.By
	}
	if v.Reason != "" {
		text += ": " + v.Reason
	}
	return text
}
