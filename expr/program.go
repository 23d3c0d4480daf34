package expr

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Program is an expression that was read. It does not change and may be shared.
type Program struct {
	source string
	limits Limits
	names  []string
	root   node
	kinds  kinds
	uses   []Use
	locals int
	times  bool // it may make times
}

// Use is a path that an expression reads.
type Use struct {
	Path []Segment // begins with one of the Env's names
	// Optional tells that it may name nothing: it stands in has() or default(), or behind has() of the same path.
	Optional bool
}

// Segment is one name or index of a path.
type Segment struct {
	Name  string
	Index int // of a list, if IsIndex
	// IsIndex tells [0] from .name.
	IsIndex bool
}

// String writes the path as an expression has it: variables.order['line items'][0].
func (u Use) String() string { return pathText(u.Path) }

// String returns the source.
func (p *Program) String() string { return p.source }

// TypeOf is what the value will be, as far as that is known.
func (p *Program) TypeOf() Type { return p.kinds.typeOf() }

// Uses are the paths that the expression reads, each once, in the order of the source: a name, and the fields and indices behind it that
// do not depend on values. Do not change them.
func (p *Program) Uses() []Use { return p.uses }

// Eval is the value of the expression: nil, bool, int64, float64, string, []any or map[string]any. Times and durations become texts:
// 2026-11-22T10:00:00Z, 90s. It shares lists and objects with vars, which hold values of the same types; other numbers of Go and
// json.Number are taken for what they are. The error is an [*Error], in which errors.As finds a [*LimitError] or a [*MissingError].
func (p *Program) Eval(ctx context.Context, vars map[string]any) (any, error) {
	m := machine{program: p, ctx: ctx, vars: vars}
	m.check = min(firstCheck, p.limits.Steps)
	if p.locals > 0 {
		m.locals = make([]any, p.locals)
	}
	v, err := p.root.eval(&m)
	if err == nil {
		err = m.step(0)
	}
	if err == nil {
		v, err = m.leave(v, 0)
	}
	if err != nil {
		return nil, p.told(err)
	}
	return v, nil
}

// told makes the error that a caller sees.
func (p *Program) told(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return &Error{Source: p.source, Message: err.Error(), Err: err}
	}
	var missing *MissingError
	if e.fields != nil && errors.As(err, &missing) {
		name := strings.TrimSuffix(strings.TrimPrefix(missing.Reason, `has no field "`), `"`)
		e.Hint = did(name, someKeys(e.fields))
		e.fields = nil
	}
	return e
}

// someKeys are the names that a hint is looked for in.
func someKeys(object map[string]any) []string {
	if len(object) > 1000 {
		return nil
	}
	return sortedKeys(object)
}

func did(name string, names []string) string {
	if best := Likely(name, names); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}

// pathText writes a path as an expression has it.
func pathText(path []Segment) string {
	var b strings.Builder
	for i, s := range path {
		switch {
		case s.IsIndex:
			b.WriteString("[" + strconv.Itoa(s.Index) + "]")
		case i == 0:
			b.WriteString(s.Name)
		case plainName(s.Name):
			b.WriteString("." + s.Name)
		default:
			b.WriteString("['" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s.Name) + "']")
		}
	}
	return b.String()
}

// plainName reports whether a name can stand behind a point.
func plainName(s string) bool {
	for i, c := range []byte(s) {
		if letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_'; !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

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

// What parts of values count.
const (
	slotBytes  = 16 // a place in a list
	textBytes  = 16 // a text beside its length
	fieldBytes = 64 // a field beside its name
	mapBytes   = 256
)

// fail is an error of the evaluation at a place.
func (m *machine) fail(at int32, format string, args ...any) error {
	m.steps += 20 // making it is work, and && may throw it away
	return placed(m.program.source, at, format, args...)
}

// missing is a value that is not there.
func (m *machine) missing(at int32, what *MissingError, fields map[string]any) error {
	if m.quiet > 0 {
		return errMissing
	}
	m.steps += 20
	e := placed(m.program.source, at, "%s", what.Error())
	e.Err, e.fields = what, fields
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
