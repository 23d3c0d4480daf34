package expr_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl/expr"
)

var seeds = []string{
	"variables.score >= 4 && variables.kind == \"x\"", "variables.items.filter(i, i.price > 5).map(i, {'p': i.price * 2})", "has(variables.a.b) ? variables.a.b : default(variables.c, 'x')",
	"variables.name.split('o').join('-').replace('Z', 'zz').substring(1)", "[1, 2.5, -3].sort().distinct().sum() / 2", "json(parseJson(variables.json)) + string(1.5)", "timestamp(variables.at) + duration('1h')",
	"stepResults['ai-prescreen'].output.decision.matches('^y')", "flatten([[1], 2]).exists_one(x, x == 1 || !true)", "'\\u00eb' + r'\\d' + \"\"\"x\"\"\"", "((((1))))", "a.b.c(", "1 ? 2 : 3", "{'a': [1, {}]}['a'][0]", "// x\n1", "0x1F % 3 - -2",
	"variables.go.ints == [1, 2]", "min(variables.list) in keys(variables.object)", "1e308 * 1e308", "variables['a' + 'b'].x[variables.score]", "type(null) != type(avg([]))",
}

// No source makes Parse panic or take long. What it refuses has a place within the source.
func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		began := time.Now()
		p, err := env.Parse(source)
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("it took %v", d)
		}
		if err == nil {
			for _, u := range p.Uses() {
				if name := u.Path[0].Name; name != "variables" && name != "stepResults" {
					t.Errorf("it reads %q", name)
				}
			}
			return
		}
		var e *expr.Error
		if !errors.As(err, &e) || e.Message == "" || e.Source != source {
			t.Fatalf("%v", err)
		}
		if utf8.ValidString(source) && e.Line > 0 && (e.Column < 1 || e.Column > utf8.RuneCountInString(source)+1 || e.Caret() == "") {
			t.Errorf("%q: its place is %d:%d, %q", source, e.Line, e.Column, e.Caret())
		}
	})
}

// No expression makes Eval panic, go beyond its limits, or say different things of the same values; what it makes is JSON.
func FuzzEval(f *testing.F) {
	for _, s := range seeds {
		f.Add(s, `{"score": 7, "a": {"b": [1, "x", null, 2.5]}, "name": "Zoë"}`)
	}
	small := env.With(expr.Limits{Steps: 5000, Bytes: 64 << 10, Time: time.Minute})
	f.Fuzz(func(t *testing.T, source, data string) {
		p, err := small.Parse(source)
		if err != nil {
			return
		}
		in := vars(t)
		var more map[string]any
		if json.Unmarshal([]byte(data), &more) == nil {
			for name, v := range more {
				in["variables"].(map[string]any)[name] = v
			}
		}
		var v any
		mb, took := spent(func() { v, err = p.Eval(t.Context(), in) })
		if mb > 50 || took > 10*time.Second {
			t.Errorf("%s: it took %.1f MB and %v", source, mb, took)
		}
		again, errAgain := p.Eval(t.Context(), in)
		if (err == nil) != (errAgain == nil) || err == nil && !reflect.DeepEqual(v, again) {
			t.Errorf("%s: %v, %v and then %v, %v", source, v, err, again, errAgain)
		}
		if err != nil {
			var e *expr.Error
			if !errors.As(err, &e) {
				t.Errorf("%s: %v is no *Error", source, err)
			}
			return
		}
		if is := p.TypeOf(); is != expr.Unknown && is != typeOf(v) {
			t.Errorf("%s: %v is no %s, which it was to be", source, v, is)
		}
	})
}

func typeOf(v any) expr.Type {
	switch v.(type) {
	case nil:
		return expr.Null
	case bool:
		return expr.Bool
	case int64, float64:
		return expr.Number
	case string:
		return expr.Text
	case []any:
		return expr.List
	case map[string]any:
		return expr.Object
	}
	return expr.Unknown
}
