package pawltest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/pawlrun/pawl"
)

// MockStep replaces the bodies of steps by fn, whose result is recorded as the step's: it
// must encode to JSON that fits the step's type. Errors are tried again as always.
//
// A name without a slash or # means all steps and compensations of that name, whatever
// branch, run and occurrence ("charge" means charge, charge#2 and refund/charge; the
// compensation charge is "$undo:charge"). Any other name means the one key. The newest mock
// that fits is called; pawl.InfoOf(ctx) tells it of which step. A nil fn takes mocks of
// that name away.
func (h *Harness) MockStep(name string, fn func(ctx context.Context) (any, error)) {
	h.mocks.add(name, func(ctx context.Context, _ func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
		v, err := fn(ctx)
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(v)
		if err != nil {
			return nil, pawl.Fatal(fmt.Errorf("what the mock of step %s returned has no JSON form: %w", name, err))
		}
		return data, nil
	}, fn == nil)
}

// FailStep lets the first n attempts of steps fail with err; then their bodies run, or what
// was mocked before. See MockStep for names.
func (h *Harness) FailStep(name string, n int, err error) {
	h.mocks.add(name, func(ctx context.Context, next func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
		if pawl.InfoOf(ctx).Attempt <= n {
			return nil, err
		}
		return next(ctx)
	}, false)
}

// Calls tells how often bodies of steps were begun, mocked or not. See MockStep for names.
func (h *Harness) Calls(name string) int {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	n := 0
	for _, info := range h.l.bodies {
		if fits(name, info.Step) {
			n++
		}
	}
	return n
}

type mocks struct {
	mu  sync.Mutex
	all []mock
}

type mock struct {
	name string
	fn   func(ctx context.Context, next func(context.Context) (json.RawMessage, error)) (json.RawMessage, error)
}

func (m *mocks) add(name string, fn func(context.Context, func(context.Context) (json.RawMessage, error)) (json.RawMessage, error), remove bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !remove {
		m.all = append(m.all[:len(m.all):len(m.all)], mock{name, fn})
		return
	}
	var left []mock
	for _, o := range m.all {
		if o.name != name {
			left = append(left, o)
		}
	}
	m.all = left
}

// call calls the newest mock that fits the step that ctx is of, or body.
func (m *mocks) call(ctx context.Context, body func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
	m.mu.Lock()
	all := m.all
	m.mu.Unlock()
	key := pawl.InfoOf(ctx).Step
	next := body
	for _, o := range all {
		if fits(o.name, key) {
			inner := next
			next = func(ctx context.Context) (json.RawMessage, error) { return o.fn(ctx, inner) }
		}
	}
	return next(ctx)
}

// fits tells whether a name, as given to MockStep, means the step with a key.
func fits(name, key string) bool {
	if name == key {
		return true
	}
	if strings.ContainsAny(name, "/#") {
		return false
	}
	last := key[strings.LastIndexByte(key, '/')+1:]
	last, _, _ = strings.Cut(last, "#")
	return last == name
}
