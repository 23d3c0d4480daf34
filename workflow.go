package pawl

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Definition is what an engine can register: a *Workflow of any types.
type Definition interface {
	definition() *definition
}

// definition is a workflow without its types.
type definition struct {
	name     string
	opts     options
	versions *Versions // nil: there is one, which is what follows
	check    func(input json.RawMessage) error
	run      func(c *Context, input json.RawMessage, limit int) (json.RawMessage, error)
}

// Workflow is a durable function from In to Out. It is made once, by [Define], usually as
// a package variable, and knows no engine.
type Workflow[In, Out any] struct{ def definition }

// Define makes a workflow. The name is how runs find their code after a restart: at most
// 256 bytes, without slash, not empty; a bad name panics, as Define is called at start.
// In and Out travel as JSON. Input with unknown fields is refused at the start of a run;
// if In has a method Validate() error, it is called too.
func Define[In, Out any](name string, fn func(c *Context, in In) (Out, error), opts ...Option) *Workflow[In, Out] {
	if err := checkName("workflow", name); err != nil {
		panic(err.Error())
	}
	if strings.Contains(name, "/") {
		panic(fmt.Sprintf("pawl: workflow name %q contains a slash", name))
	}
	w := &Workflow[In, Out]{def: definition{name: name}}
	for _, o := range opts {
		o.workflow(&w.def.opts)
	}
	w.def.check = func(input json.RawMessage) error {
		var in In
		if err := decodeInput(name, input, &in); err != nil {
			return err
		}
		if v, ok := any(&in).(interface{ Validate() error }); ok {
			if err := v.Validate(); err != nil {
				return fmt.Errorf("%w: input of %s: %w", ErrInput, name, err)
			}
		}
		if w.def.opts.check != nil {
			if err := w.def.opts.check(input); err != nil {
				return fmt.Errorf("%w: input of %s: %w", ErrInput, name, err)
			}
		}
		return nil
	}
	w.def.run = func(c *Context, input json.RawMessage, limit int) (json.RawMessage, error) {
		var in In
		if misfit := decode("input of "+name, input, &in); misfit != nil {
			c.b.r.outgrown(misfit)
		}
		out, err := fn(c, in)
		if err != nil {
			return nil, err
		}
		return encode("result of "+name, out, limit)
	}
	return w
}

// Name returns the workflow's name.
func (w *Workflow[In, Out]) Name() string { return w.def.name }

func (w *Workflow[In, Out]) definition() *definition { return &w.def }

// options are the settings of a workflow, and the defaults of its runs.
type options struct {
	timeout  time.Duration
	retry    retryPolicy
	version  string
	priority int
	limits   []limitOption
	single   func(input json.RawMessage) (string, error)
	policy   Policy
	budgets  []Budget
	keep     time.Duration // zero: for ever
	keepIf   map[State]time.Duration
	uses     []Definition
	check    func(input json.RawMessage) error // beside what the types say; nil: nothing
}

type limitOption struct {
	n   int
	per time.Duration
	key func(input json.RawMessage) (string, error)
}

// Option sets a property of a workflow.
type Option interface{ workflow(*options) }

type option func(*options)

func (o option) workflow(to *options) { o(to) }

// Version names the code that a run was started with; it is shown with the run. It does
// not pin anything: see [Context.Version] for changes that live runs must survive.
func Version(name string) Option { return option(func(o *options) { o.version = name }) }

// Uses names workflows that this one calls: [Engine.Register] registers them with it. A
// workflow may be used by several.
func Uses(defs ...Definition) Option {
	return option(func(o *options) { o.uses = append(o.uses, defs...) })
}

// Concurrency lets at most n runs of the workflow be worked at once, or, with a key
// function, at most n with the same key. A run that waits (for time, an event, a child)
// gives its place back. May be given several times. A bad n panics.
func Concurrency(n int, key ...func(input json.RawMessage) (string, error)) Option {
	return limitOf(n, 0, key)
}

// RateLimit lets at most n runs of the workflow (with the same key) start in any period
// of length per; the others wait. May be given several times. A bad n or per panics.
func RateLimit(n int, per time.Duration, key ...func(input json.RawMessage) (string, error)) Option {
	if per <= 0 {
		panic(fmt.Sprintf("pawl: RateLimit per %v", per))
	}
	return limitOf(n, per, key)
}

func limitOf(n int, per time.Duration, key []func(json.RawMessage) (string, error)) Option {
	if n < 1 {
		panic(fmt.Sprintf("pawl: a limit of %d runs", n))
	}
	l := limitOption{n: n, per: per}
	if len(key) > 0 {
		l.key = key[0]
	}
	return option(func(o *options) { o.limits = append(o.limits, l) })
}

// Singleton lets only one live run of the workflow exist per key. What a second start
// does is its [OnConflict] policy.
func Singleton(key func(input json.RawMessage) (string, error)) Option {
	return option(func(o *options) { o.single = key })
}

// KeyOf makes a key function for Concurrency, RateLimit and Singleton from a typed one.
func KeyOf[In any](key func(in In) string) func(json.RawMessage) (string, error) {
	return func(input json.RawMessage) (string, error) {
		var in In
		if err := decode("input", input, &in); err != nil {
			return "", err
		}
		return key(in), nil
	}
}

// Retention lets an ended run be deleted after d; with states, only runs that ended in
// one of them. Without it runs are kept for ever.
func Retention(d time.Duration, states ...State) Option {
	return option(func(o *options) {
		if len(states) == 0 {
			o.keep = d
			return
		}
		if o.keepIf == nil {
			o.keepIf = map[State]time.Duration{}
		}
		for _, s := range states {
			o.keepIf[s] = d
		}
	})
}

// keepAfter is how long a run that ends in s is kept; negative: for ever.
func (o *options) keepAfter(s State) time.Duration {
	if d, ok := o.keepIf[s]; ok {
		return d
	}
	if o.keep > 0 {
		return o.keep
	}
	return -1
}

// StartOption sets a property of one start.
type StartOption interface{ start(*startOptions) }

type startOption func(*startOptions)

func (o startOption) start(to *startOptions) { o(to) }

type startOptions struct {
	run     NewRun
	attrs   map[string]any
	delay   time.Duration
	timeout time.Duration
	policy  *Policy
	version string // asked for
}

// ID makes a start idempotent: a second start with the same id and input answers with the
// run that is there, one with other input with ErrConflict. See also [OnConflict].
func ID(id string) StartOption { return startOption(func(o *startOptions) { o.run.ID = id }) }

// Attributes are set on the run as it is stored.
func Attributes(m map[string]any) StartOption {
	return startOption(func(o *startOptions) { o.attrs = m })
}

// Delay starts the run d from now.
func Delay(d time.Duration) StartOption { return startOption(func(o *startOptions) { o.delay = d }) }

// Deadline cancels the run if it has not ended by t; it is then Failed with ErrTimeout.
func Deadline(t time.Time) StartOption {
	return startOption(func(o *startOptions) { o.run.Deadline = t })
}

// Tenant puts the run into a tenant's space: ids, singleton keys and the hook tokens that code
// chooses are unique within it. Without it, or with an empty name, a child is in the tenant of its
// parent, and any other run in the default tenant, "".
func Tenant(name string) StartOption {
	return startOption(func(o *startOptions) {
		if name != "" {
			o.run.Tenant = name
		}
	})
}

// OnConflict says what happens when the id or the singleton key is taken. With CancelOld
// and Queue a taken id gets a suffix, "~2" and so on: see the handle's ID.
func OnConflict(p Policy) StartOption { return startOption(func(o *startOptions) { o.policy = &p }) }

// Detach starts a child that lives on its own: it is not cancelled with its parent.
func Detach() StartOption { return startOption(func(o *startOptions) { o.run.Detached = true }) }

// Traceparent stores the W3C trace context of the starter with the run.
func Traceparent(s string) StartOption { return startOption(func(o *startOptions) { o.run.Trace = s }) }

// Settings that mean something for several of: a workflow, a start, a step.
type (
	// TimeoutOption is what [Timeout] returns.
	TimeoutOption struct{ d time.Duration }
	// AttemptsOption is what [MaxAttempts] returns.
	AttemptsOption struct{ n int }
	// BackoffOption is what [Backoff] returns.
	BackoffOption struct{ first, most time.Duration }
	// PriorityOption is what [Priority] returns.
	PriorityOption struct{ n int }
)

// Timeout bounds a whole run (given to Define or Start; see [Deadline]),
// a whole step with all its attempts and waits, also for a budget, or a wait (which then returns ErrTimeout; with d of
// zero or less it takes only what is there already).
func Timeout(d time.Duration) TimeoutOption { return TimeoutOption{d} }

func (t TimeoutOption) workflow(o *options)   { o.timeout = t.d }
func (t TimeoutOption) start(o *startOptions) { o.timeout = t.d }
func (t TimeoutOption) step(o *stepOptions)   { o.total = t.d }
func (t TimeoutOption) wait(o *waitOptions)   { o.timeout, o.timed = t.d, true }

// MaxAttempts sets how often a step's body is tried; 1 means no second attempt. Given to
// Define it is the default of the workflow's steps; without it that default is 4.
func MaxAttempts(n int) AttemptsOption { return AttemptsOption{n} }

func (a AttemptsOption) workflow(o *options) { o.retry.attempts = a.n }
func (a AttemptsOption) step(o *stepOptions) { o.retry.attempts = a.n }

// Backoff sets the wait before the second attempt, which doubles with each further one up
// to most. Half of each wait is random. The default is 1 s up to 60 s.
func Backoff(first, most time.Duration) BackoffOption { return BackoffOption{first, most} }

func (b BackoffOption) workflow(o *options) { o.retry.first, o.retry.most = b.first, b.most }
func (b BackoffOption) step(o *stepOptions) { o.retry.first, o.retry.most = b.first, b.most }

// Priority lets a run go before those that became ready up to n seconds earlier; negative
// n lets it go after. So a low priority waits longer, never for ever. Limits: ±1000.
func Priority(n int) PriorityOption { return PriorityOption{n} }

func (p PriorityOption) workflow(o *options)   { o.priority = p.n }
func (p PriorityOption) start(o *startOptions) { o.run.Priority = p.n }

// Start stores a new run and returns when it is durable. See the StartOptions for what
// can be asked of it. ErrInput, ErrTooLarge, ErrConflict, ErrExists: nothing was stored.
func (w *Workflow[In, Out]) Start(ctx context.Context, e *Engine, in In, opts ...StartOption) (*Run[Out], error) {
	data, err := encode("input of "+w.def.name, in, e.opt.MaxPayload)
	if err != nil {
		return nil, err
	}
	info, err := e.start(ctx, &w.def, data, opts)
	if err != nil {
		return nil, err
	}
	return &Run[Out]{e: e, tenant: info.Tenant, id: info.ID, key: info.Key, existed: info.Existed}, nil
}

// Limits of names, in bytes.
const maxName = 256

func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("pawl: a %s needs a name", what)
	case len(name) > maxName:
		return fmt.Errorf("pawl: the name of a %s is %d bytes long, the limit is %d: %q…", what, len(name), maxName, name[:32])
	case strings.HasPrefix(name, "$"):
		return fmt.Errorf("pawl: the name of a %s starts with $, which is pawl's own: %q", what, name)
	case !isText(name):
		return fmt.Errorf("pawl: the name of a %s is not UTF-8 without NUL: %q", what, name)
	}
	return nil
}

// isText reports whether every store takes s as text.
func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }
