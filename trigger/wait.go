package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
)

// WaitOption sets a property of a [WaitFor].
type WaitOption func(*waitOptions)

type waitOptions struct {
	where    string
	lookBack time.Duration
	timeout  time.Duration
	timed    bool
}

// Where lets only events that fit an expression end the wait; see [Match].
func Where(expression string) WaitOption { return func(o *waitOptions) { o.where = expression } }

// LookBack lets the wait also take events that were published up to d before it began, as far
// as they are kept, the oldest first. See [Event].Keep.
func LookBack(d time.Duration) WaitOption { return func(o *waitOptions) { o.lookBack = d } }

// Timeout bounds the wait, which then returns pawl.ErrTimeout.
func Timeout(d time.Duration) WaitOption {
	return func(o *waitOptions) { o.timeout, o.timed = d, true }
}

// HookKind begins the kind of the hooks that [WaitFor] waits on; the event's name, or a hash of a
// long one, follows. Their meta is an [Awaited].
const HookKind = "event "

// Awaited tells publishers, and who looks at a run, what a [WaitFor] waits for: the hook itself takes
// nothing from people. The wait is a hook, so a fork has one of its own, a retry opens it again,
// and it is gone when the run is.
type Awaited struct {
	Event    string        `json:"event"`
	Where    string        `json:"where,omitempty"`    // see [Where]
	LookBack time.Duration `json:"lookBack,omitempty"` // see [LookBack]
}

// waitKind is the kind of the hooks that wait for an event.
func waitKind(event string) string {
	if kind := HookKind + event; len(kind) <= 256 {
		return kind
	}
	return HookKind + hashOf(event)
}

// looked is what came of looking back.
type looked struct {
	Run string `json:"run"` // whose look it was
	Got *kept  `json:"got,omitempty"`
}

// kept is an event as a wait gets it.
type kept struct {
	ID    string          `json:"id"`
	Data  json.RawMessage `json:"data"`
	Until time.Time       `json:"until"`
}

// WaitFor waits, in a workflow, for an event that [Publish] makes known, and returns its data. A
// run gets each event once, also if several of its waits fit it. Unlike [pawl.WaitFor] it
// can choose by an expression and look back, and does not buffer: between two waits without
// LookBack, events pass by. An expression that is none is pawl.ErrInput.
//
// No event falls between looking back and waiting: the wait is first made known to publishers, and
// then it looks; and publishers first keep the event, and then look who waits. A fork of a run that
// waits, waits itself, from then on, and looks back itself.
func WaitFor[T any](c *pawl.Context, event string, opts ...WaitOption) (T, error) {
	var out T
	var o waitOptions
	for _, opt := range opts {
		opt(&o)
	}
	if _, err := matchOf(o.where); err != nil {
		return out, fmt.Errorf("wait for event %s: %w", event, err)
	}
	if !nameable(event) {
		return out, fmt.Errorf("%w: wait for event %.40q: the name of an event is text of 1 to 256 bytes that does not begin with $", pawl.ErrInput, event)
	}
	hook, err := pawl.NewHook[kept](c, pawl.HookKind(waitKind(event)), pawl.Meta(Awaited{event, o.where, o.lookBack}))
	if err != nil {
		return out, err
	}
	began := c.Now()
	var got *kept
	for run := ""; o.lookBack > 0 && err == nil && got == nil && run != c.RunID(); { // a fork has its original's look, and needs its own
		var l looked
		l, err = pawl.Step(c, event+": look", func(ctx context.Context) (looked, error) { return look(ctx, event, hook.Key(), &o) })
		run, got = l.Run, l.Got
	}
	for err == nil && got == nil {
		var wait []pawl.WaitOption
		if o.timed {
			wait = append(wait, pawl.Timeout(o.timeout-c.Now().Sub(began)))
		}
		var next kept
		if next, err = hook.Wait(c, wait...); err != nil {
			break
		}
		mine := false
		if mine, err = pawl.Step(c, event+": take", func(ctx context.Context) (bool, error) { return take(ctx, hook.Key(), &next) }); mine {
			got = &next
		}
	}
	if cerr := hook.Close(c); err == nil {
		err = cerr
	}
	if err != nil {
		return out, fmt.Errorf("wait for event %s: %w", event, err)
	}
	if err := json.Unmarshal(got.Data, &out); err != nil {
		return out, fmt.Errorf("%w: data of event %s: %w", pawl.ErrInput, event, err)
	}
	return out, nil
}

// look looks at what was published before the wait was known.
func look(ctx context.Context, event, hook string, o *waitOptions) (looked, error) {
	e, info := pawl.EngineOf(ctx), pawl.InfoOf(ctx)
	after := info.FirstStarted.Add(-o.lookBack).UTC()
	l := looked{Run: info.RunID}
	for from := eventKey(event, after); ; {
		page, err := e.Records(ctx, eventSpace+info.Tenant, hashOf(event), from, 100)
		if err != nil {
			return l, err
		}
		for _, record := range page {
			from = record.Key
			var r eventRow
			if err := json.Unmarshal(record.Data, &r); err != nil {
				return l, err
			}
			fits, err := r.fits(ctx, o.where)
			if err != nil || !fits { // a field that it does not have: not this one
				continue
			}
			found := &kept{ID: r.ID, Data: r.Data, Until: r.Until}
			if mine, err := take(ctx, hook, found); err != nil || mine {
				l.Got = found
				return l, err
			}
		}
		if len(page) < 100 {
			return l, nil
		}
	}
}

// take makes an event this wait's, unless another wait of the run has it. To be asked again
// after a crash changes nothing.
func take(ctx context.Context, hook string, k *kept) (bool, error) {
	e, info := pawl.EngineOf(ctx), pawl.InfoOf(ctx)
	space, key := takenSpace+info.Tenant, hashOf(info.RunID)+"."+hashOf(k.ID)
	by, _ := json.Marshal(hook)
	_, err := e.Write(ctx, pawl.Put{Space: space, Key: key, Data: by, Until: k.Until.Add(time.Hour)})
	if !errors.Is(err, pawl.ErrConflict) {
		return err == nil, err
	}
	record, err := e.Record(ctx, space, key)
	if err != nil {
		return false, err
	}
	return string(record.Data) == string(by), nil
}
