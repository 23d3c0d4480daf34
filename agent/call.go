package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Call is what a model is asked.
type Call struct {
	Model     string   // as provider/model; "" means Options.Model
	Fallbacks []string // asked in this order when the one before is too slow, called too often, overloaded, unavailable, refuses, or finds the request too long

	System   string         // instructions; variables are not filled in
	Prompt   string         // the question, as one message of the user; or
	Template *Prompt        // a prompt of the registry, filled in with
	Vars     map[string]any // these; or
	Messages []llm.Message  // the conversation. With Prompt or Template those come last

	Tools      []llm.Tool
	ToolChoice llm.ToolChoice

	Shape       *Shape // what the answer must be; nil means any text
	Check       Check  // refuses values that the shape allows, or texts without one; nil: none
	Repairs     *int   // how often the model may mend an answer that is not; nil means 2
	Temperature *float64
	MaxTokens   int // most tokens of the answer; 0 means what fits the shape. An answer that is cut off is asked for again with twice as many, twice

	Cache  CacheFor // how long an answer may be used again; the zero value: not at all
	Stream string   // name of the run's stream to which the text goes as it comes, as chunks of Delta; "": none

	// Known is how many of Messages were asked with before, by an earlier call of this run:
	// the note of this call leaves them out, so that a conversation does not fill the journal
	// again and again. [Asked] puts them back.
	Known int

	// Around is called by each attempt of the step and calls ask, when there is room for what it brings. nil: each asks at once.
	Around func(ctx context.Context, ask func(context.Context) (*Answer, error)) (*Answer, error)

	// Arrived is called with the bytes of each answer before anything is made of it: read, noted and recorded it takes several times as
	// much. It may wait, with the context of Around's call, until there is room. nil: nobody waits.
	Arrived func(ctx context.Context, bytes int)

	window *Window // where those of them are that an agent remembers: in no note
}

// Check says what is wrong with a value that an answer was read as, nil: nothing. The model is
// told its error, as it is told that an answer does not have the shape. It runs in the step,
// once for each answer, and its verdict is recorded with it: a check that a later deploy makes
// stricter does not change the way of runs that are past it.
type Check func(value json.RawMessage) error

// CheckOf is a [Check] of values read as a T.
func CheckOf[T any](check func(T) error) Check {
	return func(value json.RawMessage) error {
		var v T
		if err := json.Unmarshal(value, &v); err != nil {
			return err
		}
		return check(v)
	}
}

// CacheFor lets answers to exactly the same request be used again. See [Cache].
type CacheFor struct {
	For   time.Duration
	Scope CacheScope
}

// Answer is what a model said in the end. It is the step's result.
type Answer struct {
	Value     json.RawMessage `json:"value,omitempty"` // canonical; of an answer without shape nothing
	Text      string          `json:"text,omitempty"`
	ToolCalls []llm.ToolCall  `json:"toolCalls,omitempty"`
	Finish    llm.Finish      `json:"finish"`
	Model     string          `json:"model"`            // that answered, as provider/model
	Usage     llm.Usage       `json:"usage"`            // of all calls that this attempt took
	Cost      int64           `json:"cost"`             // of the step so far, in millionths of a US dollar: of them, and of the attempts before this one
	Guess     bool            `json:"guess,omitempty"`  // part of the cost is assumed, as a price is not known
	Cached    bool            `json:"cached,omitempty"` // nobody was asked
	Prompt    *PromptUse      `json:"prompt,omitempty"`
}

// Message is the answer as a turn of the conversation.
func (a *Answer) Message() llm.Message {
	return llm.Message{Role: llm.RoleAssistant, Content: a.Text, ToolCalls: a.ToolCalls}
}

// Made is one request to a provider and what came of it. An attempt of a step leaves a note
// for each that it made.
type Made struct {
	Why       string            `json:"why"` // ask, fallback, more room, repair
	Model     string            `json:"model"`
	Prompt    *PromptUse        `json:"prompt,omitempty"`
	Vars      map[string]string `json:"vars,omitempty"`     // what the prompt was filled in with, as it stands there
	Fork      *Forked           `json:"fork,omitempty"`     // of the question of a fork by ForkAsked: what was changed
	Request   *llm.Request      `json:"request"`            // exact, but for the first Known messages
	Known     int               `json:"known,omitempty"`    // messages left out, as they are in an earlier note, or
	Window    *Window           `json:"window,omitempty"`   // where the first of them are in a conversation
	Hash      string            `json:"hash"`               // of the whole request
	Response  *llm.Response     `json:"response,omitempty"` // with the provider's own bytes, cut where they are too many
	Shape     json.RawMessage   `json:"shape,omitempty"`    // what the answer was to be
	Value     json.RawMessage   `json:"value,omitempty"`    // what it was read as
	Error     string            `json:"error,omitempty"`
	Kind      llm.Kind          `json:"kind,omitempty"` // of the error
	RequestID string            `json:"requestId,omitempty"`
	Usage     llm.Usage         `json:"usage"`
	Cost      int64             `json:"cost"`
	Guess     bool              `json:"guess,omitempty"`
	Cached    bool              `json:"cached,omitempty"`
	Paced     time.Duration     `json:"paced,omitempty"` // how long it waited for its turn, in nanoseconds
	Took      time.Duration     `json:"took"`            // how long the provider took
	At        time.Time         `json:"at"`
}

// Ask asks a model and returns what it said, as one step of the run. The step is tried
// again as its options say, by default up to 8 times: a refusal for rate, with the wait that
// the provider asks for, uses an attempt too. See [Call], and [pawl.Step] for what a step is.
func Ask(c *pawl.Context, m *Models, name string, q Call, opts ...pawl.StepOption) (*Answer, error) {
	ask := func(ctx context.Context) (*Answer, error) { return m.ask(ctx, q) }
	return pawl.Step(c, name, func(ctx context.Context) (*Answer, error) {
		if q.Around != nil {
			return q.Around(ctx, ask)
		}
		return ask(ctx)
	}, withDefaults(opts)...)
}

// Generate asks for a T: a string for any text that is not empty, else what T is in JSON. If T
// has a method Validate() error, an answer that it refuses is none; see [Check].
func Generate[T any](c *pawl.Context, m *Models, name string, q Call, opts ...pawl.StepOption) (T, error) {
	var out T
	if err := ofType[T](&q); err != nil {
		return out, fmt.Errorf("%w: generate %s: %w", pawl.ErrInput, name, err)
	}
	a, err := Ask(c, m, name, q, opts...)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(a.Value, &out); err != nil {
		return out, fmt.Errorf("generate %s: the answer does not fit %T: %w", name, out, err)
	}
	return out, nil
}

// ofType makes T what the answer must be, where the call does not say it.
func ofType[T any](q *Call) (err error) {
	var none T
	switch _, text := any(none).(string); {
	case q.Shape != nil:
	case text:
		q.Shape = Text()
	default:
		if q.Shape, err = ShapeOf[T](); err != nil {
			return err
		}
	}
	if _, ok := any(&none).(interface{ Validate() error }); ok {
		first := q.Check
		q.Check = func(value json.RawMessage) error {
			if first != nil {
				if err := first(value); err != nil {
					return err
				}
			}
			return CheckOf(func(v T) error { return any(&v).(interface{ Validate() error }).Validate() })(value)
		}
	}
	return nil
}

// Decide asks for one of some values and returns it as it is written there.
func Decide(c *pawl.Context, m *Models, name string, q Call, values []string, opts ...pawl.StepOption) (string, error) {
	shape, err := OneOf(values...)
	if err != nil {
		return "", fmt.Errorf("%w: decide %s: %w", pawl.ErrInput, name, err)
	}
	q.Shape = shape
	a, err := Ask(c, m, name, q, opts...)
	if err != nil {
		return "", err
	}
	var out string
	if err := json.Unmarshal(a.Value, &out); err != nil {
		return "", fmt.Errorf("decide %s: %w", name, err)
	}
	return out, nil
}

func withDefaults(opts []pawl.StepOption) []pawl.StepOption {
	return append([]pawl.StepOption{pawl.MaxAttempts(stepAttempts)}, opts...)
}

// attempt is one attempt of a step that asks a model.
type attempt struct {
	m      *Models
	engine *pawl.Engine
	info   pawl.Info
	q      *Call
	prompt *PromptUse
	vars   map[string]string // what the prompt was filled in with
	fork   *Forked
	answer Answer   // usage and cost of all that was asked so far
	asked  bool     // not all came from the cache
	kept   []string // names of answers that the cache may have
	stream *pawl.Stream
	took   time.Duration // of all that was asked so far
	mended int           // how often the model was told that its answer is none
}

// ask is the body of the step.
func (m *Models) ask(ctx context.Context, q Call) (*Answer, error) {
	if q.Check != nil && q.Shape == nil {
		q.Shape = Text()
	}
	a := &attempt{m: m, engine: pawl.EngineOf(ctx), info: pawl.InfoOf(ctx), q: &q}
	if a.info.Attempt > 1 {
		if err := a.before(ctx); err != nil {
			return nil, err
		}
	}
	fork, err := a.forked(ctx)
	if err != nil {
		return nil, err
	}
	if q.Stream != "" {
		a.stream = pawl.StreamOf(ctx, q.Stream)
		a.restart() // a process that was killed has left a part of the answer
	}
	if fork != nil {
		return a.fromRun(ctx, fork)
	}
	req, err := a.request(ctx)
	if err != nil {
		return nil, pawl.Fatal(err)
	}
	return a.fromModels(ctx, req)
}

// before counts what attempts have cost that failed before this one. Of what a crash has cut off nobody knows what it cost: it
// stays open in the ledger, and is not in a result, which a crash does not change.
func (a *attempt) before(ctx context.Context) error {
	sums, err := a.engine.Costs(ctx, pawl.CostFilter{ChargeFilter: pawl.ChargeFilter{Tenant: a.info.Tenant, RunID: a.info.RunID, Step: a.info.Step, Meter: pawl.USD}})
	if err != nil {
		return fmt.Errorf("what step %s has cost so far: %w", a.info.Step, err)
	}
	for _, sum := range sums { // there is one, or none
		a.answer.Cost, a.answer.Guess = sum.Amount-sum.Open, sum.Guessed > 0
	}
	return nil
}

// request makes the request of what the call says.
func (a *attempt) request(ctx context.Context) (req *llm.Request, err error) {
	req, a.prompt, a.vars, err = a.q.request(ctx, a.engine, a.info.RunID)
	return req, err
}

// request makes the request of what the call says in a run, with the prompt that it was made of, if it is of the registry, and
// what that was filled in with.
func (q *Call) request(ctx context.Context, e *pawl.Engine, run string) (req *llm.Request, prompt *PromptUse, vars map[string]string, err error) {
	req = &llm.Request{System: q.System, Tools: q.Tools, ToolChoice: q.ToolChoice, Temperature: q.Temperature, MaxTokens: q.Room()}
	req.Messages = append(req.Messages, q.Messages...)
	if q.Template != nil {
		filled, err := q.Template.renderFor(ctx, e, run, q.Vars)
		if err != nil {
			return nil, nil, nil, err
		}
		prompt, vars = &filled.PromptUse, insertedOf(q.Vars)
		req.Messages = append(req.Messages, llm.User(filled.Text))
	}
	if q.Prompt != "" {
		req.Messages = append(req.Messages, llm.User(q.Prompt))
	}
	if q.Shape != nil {
		req.Schema = q.Shape.Schema()
		req.System = withWords(req.System, q.Shape)
	}
	return req, prompt, vars, nil
}

// withWords is an instruction with what tells the model of the answer's shape; nil: there is none.
func withWords(system string, s *Shape) string {
	if s == nil || s.Words() == "" {
		return system
	}
	if system == "" {
		return s.Words()
	}
	return system + "\n\n" + s.Words()
}

// fromModels asks the model, and the fallbacks where it fails in a way that another may not.
func (a *attempt) fromModels(ctx context.Context, req *llm.Request) (*Answer, error) {
	names := append([]string{cmp.Or(a.q.Model, a.m.opt.Model)}, a.q.Fallbacks...)
	var failed error
	for i, name := range names {
		r, err := a.m.route(name)
		if err != nil {
			return nil, err
		}
		why := "ask"
		if i > 0 {
			why = "fallback"
			a.restart()
		}
		answer, err := a.converse(ctx, r, why, req)
		if err == nil {
			return answer, a.fits(answer)
		}
		failed = longest(failed, err)
		if ctx.Err() != nil {
			return nil, err
		}
		if !anotherMay(err) {
			break
		}
	}
	return nil, failed
}

// fits is an error of an answer that is too large to be recorded: as JSON it is no shorter than its texts, so it is not written to see that.
func (a *attempt) fits(answer *Answer) error {
	if n := len(answer.Text) + len(answer.Value); n > a.info.MaxPayload {
		return pawl.Fatal(&pawl.TooLargeError{What: "result of step " + a.info.Step, Size: n, Limit: a.info.MaxPayload})
	}
	return nil
}

// anotherMay reports whether another model may answer where this one failed so.
func anotherMay(err error) bool {
	var open *BreakerError
	switch llm.KindOf(err) {
	case llm.Timeout, llm.RateLimited, llm.Overloaded, llm.Unavailable, llm.Truncated, llm.Refused, llm.ContextTooLong:
		return true
	}
	return errors.As(err, &open)
}

// longest is the error that tells what to do after all models have failed: one that another
// attempt may not meet comes before one that it will.
func longest(a, b error) error {
	if a != nil && pawl.IsFatal(b) && !pawl.IsFatal(a) {
		return a
	}
	return b
}

// converse asks one model until its answer is whole and of the right shape.
func (a *attempt) converse(ctx context.Context, r route, why string, first *llm.Request) (*Answer, error) {
	req := *first
	req.Model = r.model
	room, repairs := moreRoom, a.q.repairs()
	for {
		res, made, err := a.once(ctx, r, why, &req)
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		long := a.tooLong(res, r, req.MaxTokens)
		if long != nil { // what is made of it would take several times as much memory
			made.Response = cut(res)
			res = made.Response
		}
		switch {
		case res.Finish == llm.FinishRefused:
			err = &llm.Error{Kind: llm.Refused, Provider: r.provider, Model: r.model, Message: cmp.Or(res.Refusal, "the model declined to answer"), RequestID: res.RequestID}
		case res.Finish == llm.FinishLength && room > 0:
			room--
			why = "more room"
			req.MaxTokens *= 2
			a.note(ctx, made, err)
			a.restart()
			continue
		case res.Finish == llm.FinishLength:
			err = pawl.Fatal(&llm.Error{Kind: llm.BadRequest, Provider: r.provider, Model: r.model, Code: "length",
				Message: fmt.Sprintf("the answer does not end within %d tokens; raise Call.MaxTokens or ask for less", req.MaxTokens)})
		case long != nil:
			err = long
		case len(res.ToolCalls) == 0 && a.q.Shape != nil:
			value, err = a.read(res.Text)
			made.Value = value
		}
		a.note(ctx, made, err)
		var misread *AnswerError
		switch {
		case err == nil:
			return a.end(res, r, value), nil
		case !errors.As(err, &misread):
			a.forget(ctx)
			return nil, err
		case repairs <= 0:
			a.forget(ctx)
			return nil, pawl.Fatal(fmt.Errorf("%s gave no answer of the shape that was asked for: %w", r.name, err))
		}
		repairs--
		a.mended++
		why = "repair"
		said := res.Message()
		said.Content = shortened(said.Content)
		req.Messages = append(append([]llm.Message(nil), req.Messages...), said, llm.User(misread.Repair()))
		a.restart()
	}
}

// mostText is how many bytes an answer of so many tokens may have. Tokens have four bytes on average, and few have more than 64; the rest is for
// the providers that count otherwise.
func mostText(tokens int) int { return 64<<10 + 64*tokens }

// tooLong is an error of an answer by which a provider does not heed how many tokens were asked for at most.
func (a *attempt) tooLong(res *llm.Response, r route, tokens int) error {
	n, most := len(res.Text), mostText(tokens)
	switch {
	case n <= most:
		return nil
	case a.q.Shape != nil:
		return a.q.Shape.unfit(res.Text, fmt.Sprintf("it is %d bytes long, and %d tokens have no more than %d", n, tokens, most))
	}
	return pawl.Fatal(&llm.Error{Kind: llm.BadRequest, Provider: r.provider, Model: r.model, Code: "length", RequestID: res.RequestID,
		Message: fmt.Sprintf("the answer has %d bytes, and was to end within %d tokens, which have no more than %d: the provider does not heed Call.MaxTokens; raise it if so much is wanted", n, tokens, most)})
}

// read returns the value that an answer gives. An *AnswerError says why it is none.
func (a *attempt) read(text string) (json.RawMessage, error) {
	value, err := a.q.Shape.Read(text)
	if err != nil || a.q.Check == nil {
		return value, err
	}
	if refused := a.q.Check(value); refused != nil {
		return nil, a.q.Shape.unfit(text, refused.Error())
	}
	return value, nil
}

func (a *attempt) end(res *llm.Response, r route, value json.RawMessage) *Answer {
	out := a.answer
	out.Cached = !a.asked
	out.Value, out.Text, out.ToolCalls, out.Finish, out.Model, out.Prompt = value, res.Text, res.ToolCalls, res.Finish, r.name, a.prompt
	return &out
}
