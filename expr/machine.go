package expr

import (
	"context"
	"errors"
	"time"
)

// machine is one evaluation.
type machine struct {
	program  *Program
	ctx      context.Context
	vars     map[string]any
	locals   []any
	stack    []any // arguments of the calls under way
	steps    int
	check    int // when steps get here the clock is looked at
	bytes    int
	deadline time.Time
	quiet    int // within has() and default(): nobody sees what is missing
	pattern  string
	regexp   *pattern // of the last pattern that was no constant
}

const (
	firstCheck = 256
	checkEvery = 1024
)

// step spends steps. They are spent before what they stand for is done.
func (m *machine) step(n int) error {
	if m.steps += n; m.steps < m.check {
		return nil
	}
	return m.look()
}

// look holds an evaluation against its limits.
func (m *machine) look() error {
	limits := m.program.limits
	if m.steps > limits.Steps || m.steps < 0 {
		m.steps = limits.Steps + 1
		return &LimitError{"steps", int64(limits.Steps)}
	}
	if m.ctx.Err() != nil {
		return context.Cause(m.ctx)
	}
	now := time.Now()
	if m.deadline.IsZero() {
		m.deadline = now.Add(limits.Time)
	} else if now.After(m.deadline) {
		return &LimitError{"time", int64(limits.Time)}
	}
	m.check = min(m.steps+checkEvery, limits.Steps+1)
	return nil
}

// scan spends the steps of looking through a text.
func (m *machine) scan(length int) error { return m.step(1 + length/64) }

// produce spends bytes. They are spent before they are allocated.
func (m *machine) produce(n int) error {
	if m.bytes += n; m.bytes > m.program.limits.Bytes || n < 0 || m.bytes < 0 {
		m.bytes = m.program.limits.Bytes + 1
		return &LimitError{"bytes", int64(m.program.limits.Bytes)}
	}
	return nil
}

// text pays for a text of a length.
func (m *machine) text(length int) error {
	if err := m.produce(textBytes + length); err != nil {
		return err
	}
	return m.scan(length)
}

// What parts of values count.
const (
	slotBytes  = 16 // a place in a list
	textBytes  = 16 // a text beside its length
	fieldBytes = 64 // a field beside its name
	mapBytes   = 256
)

// fail is an error of the evaluation at a place.
func (m *machine) fail(at int32, format string, args ...any) error {
	m.steps += m.program.costly
	return placed(m.program.source, at, format, args...)
}

// missing is a value that is not there.
func (m *machine) missing(at int32, what *MissingError) error { return m.lacks(at, what, nil, "") }

// lacks is missing, of an object that has no such field.
func (m *machine) lacks(at int32, what *MissingError, object map[string]any, field string) error {
	if m.quiet > 0 {
		return errMissing
	}
	m.steps += m.program.costly
	e := placed(m.program.source, at, "%s", what.Error())
	e.Err, e.object, e.lacks = what, object, field
	return e
}

// errMissing is a MissingError that nobody sees.
var errMissing = errors.New("missing")

func isMissing(err error) bool {
	if err == errMissing {
		return true
	}
	e, is := err.(*Error)
	if !is {
		return false
	}
	_, is = e.Err.(*MissingError)
	return is
}

// tame reports whether an error is of a value, which && and || may pass over. The limits' and the context's end all.
func tame(err error) bool {
	if err == errMissing {
		return true
	}
	_, is := err.(*Error)
	return is
}

// maxNesting is how deep values may be nested that an expression walks through.
const maxNesting = 1000

// leave makes the value that leaves the expression: texts of times. Values hold times only if the expression made some.
func (m *machine) leave(v any, depth int) (any, error) {
	switch v := v.(type) {
	case time.Time:
		return timeText(v), nil
	case time.Duration:
		return durationText(v), nil
	case []any:
		if !m.program.times {
			return v, nil
		}
		out, err := m.list(len(v), depth)
		if err != nil {
			return nil, err
		}
		for _, item := range v {
			if item, err = m.leave(item, depth+1); err != nil {
				return nil, err
			}
			out = append(out, item)
		}
		return out, nil
	case map[string]any:
		if !m.program.times {
			return v, nil
		}
		if err := m.object(v, depth); err != nil {
			return nil, err
		}
		out := make(map[string]any, len(v))
		for name, field := range v {
			field, err := m.leave(field, depth+1)
			if err != nil {
				return nil, err
			}
			out[name] = field
		}
		return out, nil
	}
	return v, nil
}

// list is an empty list with room, paid for.
func (m *machine) list(n, depth int) ([]any, error) {
	if depth > maxNesting {
		return nil, &LimitError{"depth", maxNesting}
	}
	if err := m.step(n); err != nil {
		return nil, err
	}
	if err := m.produce(n * slotBytes); err != nil {
		return nil, err
	}
	return make([]any, 0, n), nil
}

// list0 pays for going through a list, and for another one as long.
func (m *machine) list0(n int) error {
	if err := m.step(n); err != nil {
		return err
	}
	return m.produce(n * slotBytes)
}

// object pays for an object like another one.
func (m *machine) object(like map[string]any, depth int) error {
	if depth > maxNesting {
		return &LimitError{"depth", maxNesting}
	}
	if err := m.step(len(like)); err != nil {
		return err
	}
	return m.produce(mapBytes + len(like)*fieldBytes)
}
