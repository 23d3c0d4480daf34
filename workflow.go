package pawl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
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
	in       reflect.Type // of the input; nil: it depends on the version
	opts     options
	versions *Versions // nil: there is one, which is what follows
	check    func(input json.RawMessage) error
	run      func(c *Context, input json.RawMessage, limit int) (json.RawMessage, error)
}

// Workflow is a durable function from In to Out. It is made once, by [Define], usually as
// a package variable, and knows no engine.
type Workflow[In, Out any] struct{ def definition }

// Define makes a workflow. The name is how runs find their code after a restart: at most
// 256 bytes, without slash, not empty; a bad name, a nil fn and an option that can't be
// panic, as Define is called at start. In and Out travel as JSON. Input with unknown fields is
// refused at the start of a run, and so is null (which no input is too), unless In is a pointer, slice, map or
// interface, has no fields, or decodes itself; {} is an input like others. If In has a method
// Validate() error, it is called too.
func Define[In, Out any](name string, fn func(c *Context, in In) (Out, error), opts ...Option) *Workflow[In, Out] {
	if err := checkName("name of a workflow", name); err != nil {
		panic("pawl: " + err.Error())
	}
	if strings.Contains(name, "/") {
		panic(fmt.Sprintf("pawl: workflow name %q contains a slash", name))
	}
	w := &Workflow[In, Out]{def: definition{name: name, in: reflect.TypeFor[In]()}}
	if fn == nil {
		panic(fmt.Sprintf("pawl: Define of workflow %q: its function is nil", name))
	}
	if err := errors.Join(apply(opts, func(o Option) { o.workflow(&w.def.opts) }), w.def.opts.err); err != nil {
		panic(fmt.Sprintf("pawl: Define of workflow %q: %v", name, err))
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

func (w *Workflow[In, Out]) definition() *definition {
	if w == nil {
		return nil
	}
	return &w.def
}

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
	doc      string
	internal bool
	err      error // an option that can't be
}

// apply gives each option to what takes it. Its error says which one is nil.
func apply[O any](opts []O, to func(O)) error {
	for i, o := range opts {
		if any(o) == nil {
			return fmt.Errorf("option %d of %d is nil", i+1, len(opts))
		}
		to(o)
	}
	return nil
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
// one of them. Without it runs are kept for ever. A d that is negative, or zero for all states,
// and a state that is no end panic in Define.
func Retention(d time.Duration, states ...State) Option {
	return option(func(o *options) {
		if d < 0 || d == 0 && len(states) == 0 {
			o.err = fmt.Errorf("Retention(%v): it must be over zero; leave it out to keep runs for ever", d)
		}
		for _, s := range states {
			if !s.Terminal() {
				o.err = fmt.Errorf("Retention(%v, %v): a run never ends as %[2]v; give Completed, Failed or Cancelled", d, s)
			}
		}
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
	single  string // singleton key; "": none
	rates   []RunLimit
	err     error // an option that can't be
}

// ID makes a start idempotent: a second start with the same id and input answers with the
// run that is there, one with other input with ErrConflict. See also [OnConflict]. An empty id
// is ErrInput, as a start without an ID is not idempotent.
func ID(id string) StartOption {
	return startOption(func(o *startOptions) {
		if o.run.ID = id; id == "" {
			o.err = errors.New(`ID(""): the id is empty; leave ID out to have one made`)
		}
	})
}

// Attributes are set on the run as it is stored.
func Attributes(m map[string]any) StartOption {
	return startOption(func(o *startOptions) { o.attrs = m })
}

// Delay starts the run d from now. A negative d is ErrInput.
func Delay(d time.Duration) StartOption {
	return startOption(func(o *startOptions) {
		if o.delay = d; d < 0 {
			o.err = fmt.Errorf("Delay(%v): a run can't start in the past", d)
		}
	})
}

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
func OnConflict(p Policy) StartOption {
	return startOption(func(o *startOptions) {
		if o.policy = &p; p > Queue {
			o.err = fmt.Errorf("OnConflict(%d): there is no such policy", p)
		}
	})
}

// SingletonKey lets only one live run of the workflow have this key, of the tenant's runs that are started with it. What the start does when another run has it
// is its [OnConflict] policy; with CancelOld and Queue a taken id is then answered with the run that has it, and gets no suffix. An empty key is ErrInput, and so is one for a workflow that is a [Singleton].
func SingletonKey(key string) StartOption {
	return startOption(func(o *startOptions) {
		if o.single = key; key == "" {
			o.err = errors.Join(o.err, errors.New("SingletonKey: the key is empty"))
		}
	})
}

// StartRate lets at most n of the tenant's runs of the workflow that are started with this key begin in any period of length per; the
// others wait for their turn. Beside it the limits of the workflow hold. A bad n or per is ErrInput.
func StartRate(n int, per time.Duration, key string) StartOption {
	return startOption(func(o *startOptions) {
		if n < 1 || per <= 0 {
			o.err = errors.Join(o.err, fmt.Errorf("StartRate(%d, %v): both must be over zero", n, per))
			return
		}
		o.rates = append(o.rates, RunLimit{Key: key, N: n, Per: per})
	})
}

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

// Timeout bounds what it is given to:
//
//   - Define or Start: the whole run, from its start on, what it waits included. Then its scope is
//     cancelled, compensations run, and it fails with ErrTimeout, at the latest
//     [Options].CancelGrace after the limit. See [Deadline];
//   - Step or Do: the step with all its attempts and the waits between them, also for a budget; one
//     attempt is bounded by [AttemptTimeout];
//   - a wait: it returns ErrTimeout; with d of zero or less it takes only what is there already.
//
// Of a run or a step a d of zero means no limit, and a negative one is refused.
func Timeout(d time.Duration) TimeoutOption { return TimeoutOption{d} }

func (t TimeoutOption) workflow(o *options)   { o.timeout, o.err = t.d, errors.Join(o.err, t.check()) }
func (t TimeoutOption) start(o *startOptions) { o.timeout, o.err = t.d, errors.Join(o.err, t.check()) }
func (t TimeoutOption) step(o *stepOptions)   { o.total, o.err = t.d, errors.Join(o.err, t.check()) }
func (t TimeoutOption) wait(o *waitOptions)   { o.timeout, o.timed = t.d, true }

func (t TimeoutOption) check() error {
	if t.d < 0 {
		return fmt.Errorf("Timeout(%v): it is negative; 0 means no limit", t.d)
	}
	return nil
}

// MaxAttempts sets how often a step's body is tried; 1 means no second attempt, and less is
// refused. Given to Define it is the default of the workflow's steps; without it that default is 4.
func MaxAttempts(n int) AttemptsOption { return AttemptsOption{n} }

func (a AttemptsOption) workflow(o *options) {
	o.retry.attempts, o.err = a.n, errors.Join(o.err, a.check())
}
func (a AttemptsOption) step(o *stepOptions) {
	o.retry.attempts, o.err = a.n, errors.Join(o.err, a.check())
}

func (a AttemptsOption) check() error {
	if a.n < 1 {
		return fmt.Errorf("MaxAttempts(%d): it must be 1 or more; 1 means no second attempt", a.n)
	}
	return nil
}

// Backoff sets the wait before the second attempt, which doubles with each further one up
// to most. Half of each wait is random. The default is 1 s up to 60 s. A first that is not over
// zero is refused, and a most that is less than it.
func Backoff(first, most time.Duration) BackoffOption { return BackoffOption{first, most} }

func (b BackoffOption) workflow(o *options) {
	o.retry.first, o.retry.most, o.err = b.first, b.most, errors.Join(o.err, b.check())
}
func (b BackoffOption) step(o *stepOptions) {
	o.retry.first, o.retry.most, o.err = b.first, b.most, errors.Join(o.err, b.check())
}

func (b BackoffOption) check() error {
	if b.first <= 0 || b.most < b.first {
		return fmt.Errorf("Backoff(%v, %v): the first wait must be over zero, and the longest no shorter", b.first, b.most)
	}
	return nil
}

// Priority lets a run go before those that became ready up to n seconds earlier; negative
// n lets it go after. So a low priority waits longer, never for ever. Beyond ±1000 it is refused.
func Priority(n int) PriorityOption { return PriorityOption{n} }

func (p PriorityOption) workflow(o *options) {
	o.priority, o.err = p.n, errors.Join(o.err, p.check())
}
func (p PriorityOption) start(o *startOptions) {
	o.run.Priority, o.err = p.n, errors.Join(o.err, p.check())
}

func (p PriorityOption) check() error {
	if p.n < -1000 || p.n > 1000 {
		return fmt.Errorf("Priority(%d): it must be from -1000 to 1000", p.n)
	}
	return nil
}

// Start stores a new run and returns when it is durable. See the StartOptions for what
// can be asked of it. An engine with no workflows is a client and starts any; another one has to know this one:
// ErrUnknown, or, where another workflow of that name is, ErrInput. ErrInput, ErrTooLarge,
// ErrConflict, ErrExists. With each of these nothing was stored.
func (w *Workflow[In, Out]) Start(ctx context.Context, e *Engine, in In, opts ...StartOption) (*Run[Out], error) {
	if e == nil {
		return nil, fmt.Errorf("%w: start %s: the engine is nil", ErrInput, w.def.name)
	}
	switch known, err := e.definition(w.def.name); {
	case err != nil && len(e.known()) > 0:
		return nil, fmt.Errorf("start %s: %w; register it with this engine too, or start it with one that has none and is a client", w.def.name, err)
	case err == nil && known != &w.def:
		return nil, fmt.Errorf("%w: start %s: the engine knows another workflow of that name; register one of them, or rename it", ErrInput, w.def.name)
	}
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

// checkName refuses what is no name. what says whose it would be, such as: name of a step.
func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the %s is empty", what)
	case len(name) > maxName:
		return fmt.Errorf("the %s is %d bytes long, the limit is %d: %q…", what, len(name), maxName, name[:32])
	case strings.HasPrefix(name, "$"):
		return fmt.Errorf("the %s begins with $, which is pawl's own: %q", what, name)
	case !isText(name):
		return fmt.Errorf("the %s is not UTF-8 without NUL: %q", what, name)
	}
	return nil
}

// isText reports whether every store takes s as text.
func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }
