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
	"github.com/pawlrun/pawl/approval"
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
		denied, err := t.Approve.ask(c, call, args)
		switch {
		case errors.Is(err, pawl.ErrInput): // nobody can be asked that, as it is too long
			out.Failed, out.Content = true, fit("error: "+err.Error())
			return out, nil
		case err != nil:
			return out, err
		case denied != "":
			out.Denied, out.Content = true, fit(denied)
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

// Approval says whose consent a call of a tool needs. The run waits for it as it does for any
// other: it is an approval of package approval under the tool's name, whose Details are an
// [ApprovalRequest]. It is listed, decided and linked as all others are.
type Approval struct {
	// When says of which arguments it is needed; nil: of all. It must depend on nothing else.
	When func(args json.RawMessage) bool
	// Approvers are those whose decision counts, as approval.Answer.By names them; none:
	// anybody's. Who they are is for those to check who hand the decision on.
	Approvers []string
	// Within is how long the consent is waited for. 0 means a week. When it is over the call
	// is denied.
	Within time.Duration
	// Request is what else is asked, and who is told: a title, how many must approve,
	// reminders, Notify, BaseURL and so on. Its Details, Approvers, Expires and OnExpire are
	// not looked at.
	Request approval.Request
}

// ApprovalRequest is what an approver decides on: the Details of the approval.
type ApprovalRequest struct {
	Tool      string          `json:"tool"`
	CallID    string          `json:"callId"`
	Arguments json.RawMessage `json:"arguments"`
}

func (a *Approval) needed(args json.RawMessage) bool { return a.When == nil || a.When(args) }

// ask waits for a decision on these arguments of this call. It returns why it is denied, or "".
func (a *Approval) ask(c *pawl.Context, call llm.ToolCall, args json.RawMessage) (denied string, err error) {
	q := a.Request
	q.Details, q.Approvers, q.Expires, q.OnExpire = ApprovalRequest{Tool: call.Name, CallID: call.ID, Arguments: args}, a.Approvers, a.Within, nil
	if q.Title == "" {
		q.Title = "Call the tool " + call.Name + "?"
	}
	if q.Expires <= 0 {
		q.Expires = approval.DefaultExpires
	}
	d, err := approval.Ask(c, call.Name, q)
	switch {
	case errors.Is(err, approval.ErrExpired):
		return fmt.Sprintf("the call was denied: nobody approved it within %v", q.Expires), nil
	case err != nil || d.Approved:
		return "", err
	case d.Comment == "":
		return "the call was denied by " + d.By, nil
	}
	return "the call was denied by " + d.By + ": " + d.Comment, nil
}
