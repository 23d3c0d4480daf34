package trigger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/pawlrun/pawl"
)

// Match is an expression that an event fits or not, in the Common Expression Language, of which
// it has the core library: "event.data.amount > 100 && event.data.country in ['de', 'fr']". The
// one variable is event, with id, name and data. Whole numbers of JSON that fit into 64 bits are ints, with all
// their digits, others doubles. They compare with each other by value, and + - * / take one beside the other, as doubles;
// % takes ints only. It is immutable and safe for concurrent use.
type Match struct {
	source  string
	program cel.Program
}

// Bounds of a Match. What an evaluation costs is counted by CEL, about one for each operation.
const (
	MaxMatch     = 16 << 10 // bytes of source
	maxMatchCost = 100_000
)

// MatchError reports an expression that is none, or that could not be evaluated on an event.
type MatchError struct {
	Source string
	Err    error
}

func (e *MatchError) Error() string { return fmt.Sprintf("expression %.100q: %v", e.Source, e.Err) }
func (e *MatchError) Unwrap() error { return e.Err }

var matchEnv = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewCustomEnv(append(matchOptions(), cel.Variable("event", cel.DynType),
		cel.ParserExpressionSizeLimit(MaxMatch), cel.ParserRecursionLimit(100))...)
})

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
	if len(source) > MaxMatch {
		return bad("it is %d bytes long, the limit is %d", len(source), MaxMatch)
	}
	env, err := matchEnv()
	if err != nil {
		return bad("%w", err)
	}
	checked, issues := env.Compile(source)
	if issues.Err() != nil {
		return bad("%w", issues.Err())
	}
	if field := strayField(checked.NativeRep().Expr()); field != "" {
		return bad("event has no %s%s; it has id, name and data, in which the event's own fields are", field, likely(field, []string{"id", "name", "data"}))
	}
	if t := checked.OutputType(); !anything && !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return bad("it yields %s and must yield bool", t)
	}
	program, err := env.Program(checked, cel.CostLimit(maxMatchCost), cel.InterruptCheckFrequency(100))
	if err != nil {
		return bad("%w", err)
	}
	return &Match{source: source, program: program}, nil
}

// strayField finds a field of event that no event has, which would fail on each; "": there is none.
func strayField(e ast.Expr) (field string) {
	shadowed := false
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		var of ast.Expr
		name := ""
		switch e.Kind() {
		case ast.ComprehensionKind:
			c := e.AsComprehension()
			shadowed = shadowed || c.IterVar() == "event" || c.IterVar2() == "event"
			return
		case ast.SelectKind:
			of, name = e.AsSelect().Operand(), e.AsSelect().FieldName()
		case ast.CallKind:
			args := e.AsCall().Args()
			if e.AsCall().FunctionName() != operators.Index || args[1].Kind() != ast.LiteralKind {
				return
			}
			of = args[0]
			name, _ = args[1].AsLiteral().Value().(string)
		default:
			return
		}
		if of.Kind() == ast.IdentKind && of.AsIdent() == "event" && name != "id" && name != "name" && name != "data" && field == "" {
			field = name
		}
	}))
	if shadowed { // its event is another one
		return ""
	}
	return field
}

// String returns the source.
func (m *Match) String() string { return m.source }

// Fits evaluates the expression on an event. *MatchError: it failed, as of a field that the event does
// not have (ask with has()), cost too much, yielded no bool, or ctx ended. A nil Match fits all.
func (m *Match) Fits(ctx context.Context, id, name string, data json.RawMessage) (bool, error) {
	if m == nil {
		return true, nil
	}
	out, err := m.value(ctx, id, name, data)
	if err != nil {
		return false, err
	}
	fits, ok := out.(bool)
	if !ok {
		return false, &MatchError{Source: m.source, Err: fmt.Errorf("it yielded %T and no bool", out)}
	}
	return fits, nil
}

// value evaluates the expression on an event. *MatchError.
func (m *Match) value(ctx context.Context, id, name string, data json.RawMessage) (any, error) {
	value, err := plain(data)
	if err != nil {
		return nil, &MatchError{Source: m.source, Err: err}
	}
	out, _, err := m.program.ContextEval(ctx, map[string]any{"event": map[string]any{"id": id, "name": name, "data": value}})
	if err != nil {
		return nil, &MatchError{Source: m.source, Err: err}
	}
	return out.Value(), nil
}

// plain decodes JSON, with ints where it has whole numbers.
func plain(data json.RawMessage) (any, error) {
	if len(data) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return ints(v), nil
}

func ints(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for k := range v {
			v[k] = ints(v[k])
		}
	case []any:
		for i := range v {
			v[i] = ints(v[i])
		}
	}
	return v
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
