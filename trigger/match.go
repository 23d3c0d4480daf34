package trigger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/expr"
	"github.com/pawlrun/pawl/internal/spelling"
)

// Match is an expression that an event fits or not, in the language of package [expr]: "event.data.amount > 100 &&
// event.data.country in ['de', 'fr']". The one variable is event, with id, name and data. It is immutable and safe for
// concurrent use.
type Match struct {
	source  string
	program *expr.Program
}

// MaxMatch is how many bytes of source a Match may have.
const MaxMatch = 16 << 10

// MatchError reports an expression that is none, or that could not be evaluated on an event.
type MatchError struct {
	Source string
	Err    error
}

func (e *MatchError) Error() string { return fmt.Sprintf("expression %.100q: %v", e.Source, e.Err) }
func (e *MatchError) Unwrap() error { return e.Err }

// matches are bounded by steps and bytes. A machine that is busy must not decide whether an event fits.
var matches = expr.New("event").With(expr.Limits{Source: MaxMatch, Time: 10 * time.Second})

// ParseMatch reads and checks an expression. It must yield a bool. *MatchError, an ErrInput.
func ParseMatch(source string) (*Match, error) { return parse(source, false) }

// parse reads a Match, or an expression whose value may be anything.
func parse(source string, anything bool) (*Match, error) {
	bad := func(format string, args ...any) (*Match, error) {
		return nil, &MatchError{Source: source, Err: fmt.Errorf("%w: %w", pawl.ErrInput, fmt.Errorf(format, args...))}
	}
	if strings.TrimSpace(source) == "" {
		return bad("it is empty; leave it out to match all")
	}
	program, err := matches.Parse(source)
	if err != nil {
		return bad("%w", err)
	}
	if t := program.TypeOf(); !anything && t != expr.Bool && t != expr.Unknown {
		return bad("it yields %s and must yield bool", t)
	}
	for _, u := range program.Uses() {
		if len(u.Path) > 1 && !slices.Contains(eventFields, u.Path[1].Name) {
			return bad("event has no %s%s; it has id, name and data, in which the event's own fields are", u.Path[1].Name, likely(u.Path[1].Name, eventFields))
		}
	}
	return &Match{source: source, program: program}, nil
}

// eventFields are those of every event; another one would fail on each.
var eventFields = []string{"id", "name", "data"}

// likely is " (did you mean …?)" with the one of names that somebody who wrote got may have meant; "": none is near.
func likely(got string, names []string) string {
	if best := spelling.Likely(got, names); best != "" {
		return fmt.Sprintf(" (did you mean %s?)", best)
	}
	return ""
}

// String returns the source.
func (m *Match) String() string { return m.source }

// Fits evaluates the expression on an event. *MatchError: it failed, as of a field that the event does
// not have (ask with has()), went beyond a limit, yielded no bool, or ctx ended. A nil Match fits all.
func (m *Match) Fits(ctx context.Context, id, name string, data json.RawMessage) (bool, error) {
	if m == nil {
		return true, nil
	}
	return m.fits(ctx, &subject{id: id, name: name, data: data})
}

// fits is Fits for expressions that look at the same event one after the other. m is not nil.
func (m *Match) fits(ctx context.Context, of *subject) (bool, error) {
	out, err := m.value(ctx, of)
	if err != nil {
		return false, err
	}
	fits, ok := out.(bool)
	if !ok {
		return false, &MatchError{Source: m.source, Err: fmt.Errorf("it yielded %.60v and no bool", out)}
	}
	return fits, nil
}

// value evaluates the expression on an event. *MatchError.
func (m *Match) value(ctx context.Context, of *subject) (any, error) {
	event, err := of.event()
	if err != nil {
		return nil, &MatchError{Source: m.source, Err: err}
	}
	out, err := m.program.Eval(ctx, map[string]any{"event": event})
	if err != nil {
		return nil, &MatchError{Source: m.source, Err: err}
	}
	return out, nil
}

// subject is an event as expressions see it. It is decoded once, by the first that looks at it: it may be large, and looked at by many.
type subject struct {
	id, name string
	data     json.RawMessage

	made map[string]any
	err  error
}

func (s *subject) event() (map[string]any, error) {
	if s.made == nil && s.err == nil {
		var value any
		if value, s.err = plain(s.data); s.err == nil {
			s.made = map[string]any{"id": s.id, "name": s.name, "data": value}
		}
	}
	return s.made, s.err
}

// plain decodes JSON, with ints where it has whole numbers. A number that is too large for a double is an error: no expression
// is to see an infinity.
func plain(data json.RawMessage) (any, error) {
	if len(data) == 0 {
		return nil, nil
	}
	if err := nested(data); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return ints(v)
}

func ints(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		f, err := v.Float64()
		if err != nil {
			return nil, fmt.Errorf("the event has the number %.40s, which is too large", v)
		}
		return f, nil
	case map[string]any:
		for k := range v {
			if v[k], err = ints(v[k]); err != nil {
				return nil, err
			}
		}
	case []any:
		for i := range v {
			if v[i], err = ints(v[i]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// parsed keeps expressions that were read, which come from rows again and again.
var parsed = struct {
	sync.Mutex
	of map[string]*Match
}{of: map[string]*Match{}}

// matchOf is ParseMatch with a memory; "" is nil, which fits all.
func matchOf(source string) (*Match, error) {
	if source == "" {
		return nil, nil
	}
	parsed.Lock()
	defer parsed.Unlock()
	if m := parsed.of[source]; m != nil {
		return m, nil
	}
	m, err := ParseMatch(source)
	if err != nil {
		return nil, err
	}
	if len(parsed.of) >= 1000 {
		clear(parsed.of)
	}
	parsed.of[source] = m
	return m, nil
}
