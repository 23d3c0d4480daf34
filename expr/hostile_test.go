package expr_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/expr"
)

// spent runs f and returns what it allocated, kept or not, and how long it took.
func spent(f func()) (mb float64, took time.Duration) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	f()
	took = time.Since(began)
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc-before.TotalAlloc) / (1 << 20), took
}

// deep is a list in a list in a list.
func deep(levels int) any {
	var v any = int64(1)
	for range levels {
		v = []any{v}
	}
	return v
}

func hostileVars() map[string]any {
	ints, texts, fields := make([]any, 100_000), make([]any, 1000), map[string]any{}
	for i := range ints {
		ints[i] = int64(i)
	}
	for i := range texts {
		texts[i] = strings.Repeat("x", 1000)
	}
	for i := range 50_000 {
		fields[fmt.Sprintf("field%d", i)] = int64(i)
	}
	return map[string]any{"variables": map[string]any{
		"big": strings.Repeat("a", 1<<20), "half": strings.Repeat("a", 1<<19), "ints": ints, "texts": texts, "fields": fields, "deep": deep(20_000), "deep2": deep(20_000),
		"huge": strings.Repeat("a", 10<<20), "re": "(a*)*b", "escapes": strings.Repeat("\x00", 1<<19), "json": "[" + strings.Repeat(`{"":0},`, 100_000) + "0]", "brackets": strings.Repeat("[", 1<<19),
		"l": ints[:100], "lists": []any{ints, ints, ints, ints, ints, ints, ints, ints, ints, ints},
	}}
}

// doubles is a chain of maps that each make a text twice as long.
func doubling(times int) string {
	source := "'aaaaaaaaaa'"
	for i := range times {
		source = fmt.Sprintf("[%s].map(x%d, x%d + x%d)[0]", source, i, i, i)
	}
	return source
}

func nested(levels int) string {
	source := "1"
	for i := range levels {
		source = fmt.Sprintf("variables.ints.map(x%d, %s)", i, source)
	}
	return source
}

// What tries to take a machine away ends at a limit, having taken little. Time is not told of by its clock here, which other
// programs share: the limits of steps and bytes must be enough.
func TestHostileExpressionsAreBounded(t *testing.T) {
	vars := hostileVars()
	env := env.With(expr.Limits{Time: time.Minute})
	for name, test := range map[string]struct {
		source string
		limit  string // "": it may succeed, or fail in another way
	}{
		"doubling":             {doubling(40), "bytes"},
		"doubling by join":     {"[variables.big, variables.big].join(variables.big)", "bytes"},
		"join":                 {"variables.texts.join(variables.half)", "bytes"},
		"join of huge":         {"[variables.huge].join('')", "bytes"},
		"replace":              {"variables.big.replace('aaaaaaaaaaaaaaaa', variables.big)", "bytes"},
		"replace nothing":      {"variables.half.replace('', 'xxxxxxxx')", ""},
		"split":                {"variables.big.split('')", ""},
		"split again":          {"variables.l.map(x, variables.half.split('a'))", ""},
		"plus":                 {"variables.big + variables.big", "bytes"},
		"plus in a loop":       {"variables.ints.map(x, variables.half + 'a')", "bytes"},
		"lists":                {"variables.ints + variables.ints", ""},
		"lists in a loop":      {"variables.l.map(x, variables.l + variables.l + variables.l + variables.l)", ""},
		"nested map":           {nested(5), ""},
		"nested all":           {"variables.ints.all(a, variables.ints.all(b, variables.ints.all(c, a + b + c >= 0)))", "steps"},
		"errors in a loop":     {"variables.ints.exists(a, a.b.c)", "steps"},
		"faults in a loop":     {"variables.ints.exists(a, 'x' + a == '')", "steps"},
		"faults of a long one": {"variables.ints.exists(a, 'x' + a == '') //" + strings.Repeat("ä", 8000), "steps"},
		"missing in a loop":    {"variables.ints.all(a, variables.fields.feld1)", "steps"},
		"lookups of huge":      {"variables.ints.all(a, !variables.huge.contains('b'))", "steps"},
		"comparisons of huge":  {"variables.ints.all(a, variables.half + 'a' != variables.half)", "bytes"},
		"order of huge":        {"variables.ints.all(a, variables.big <= variables.big)", "steps"},
		"size of huge":         {"variables.ints.all(a, size(variables.big) > 0)", "steps"},
		"upper":                {"variables.l.map(a, variables.half.upper())", ""},
		"ſ":                    {"variables.l.map(a, variables.half.replace('a', 'ſ', 100000).upper())", ""},
		"substring":            {"variables.ints.map(a, variables.big.substring(1000000))", "steps"},
		"indexOf":              {"variables.ints.map(a, variables.half.indexOf('ab'))", "steps"},
		"sort":                 {"variables.ints.sort()", "steps"},
		"sort of long ones":    {"variables.texts.sort()", ""},
		"distinct":             {"variables.lists.map(a, distinct(a))", "steps"},
		"distinct lists":       {"distinct(variables.ints.filter(a, a < 5000).map(a, [a]))", ""},
		"flatten":              {"flatten(flatten([variables.lists, variables.lists]))", ""},
		"keys":                 {"variables.l.map(a, keys(variables.fields))", ""},
		"values":               {"variables.l.map(a, values(variables.fields))", ""},
		"fields in a loop":     {"variables.l.all(a, variables.fields.all(b, true))", "steps"},
		"equal objects":        {"variables.l.all(a, variables.fields == variables.fields)", "steps"},
		"equal depths":         {"variables.deep == variables.deep2", "depth"},
		"json of depth":        {"json(variables.deep)", "depth"},
		"json of much":         {"json(variables.lists)", "steps"},
		"json of escapes":      {"json(variables.escapes)", "bytes"},
		"json of huge":         {"json(variables.huge)", ""},
		"parseJson":            {"parseJson(variables.json)", ""},
		"parseJson of depth":   {"parseJson(variables.brackets)", ""},
		"parseJson of huge":    {"parseJson(variables.huge)", "steps"},
		"regexp":               {"variables.half.matches('(a*)*b')", "steps"},
		"calculated regexp":    {"variables.half.matches(variables.re)", "steps"},
		"regexps":              {"variables.ints.all(a, !'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'.matches('(a|b)*c' + string(a)))", "steps"},
		"threads":              {"variables.half.substring(0, 100000).matches('[ab]*a[ab]{20}c')", ""},
		"many threads":         {"variables.half.substring(0, 3000).matches('(a|aa|aaa|a*)*[ab]{400}a{0,400}c')", ""},
		"large regexps":        {"variables.ints.all(a, !'a'.matches('(x{1000}){1}(y{1000}){1}' + string(a)))", "steps"},
		"classes":              {"variables.ints.all(a, !'a'.matches('[\\\\pL\\\\pN\\\\pP]{500}' + string(a)))", ""},
		"conversions":          {"variables.ints.map(a, int(double(string(a))))", "steps"},
		"strings":              {"variables.ints.map(a, string(a))", ""},
		"sum":                  {"variables.ints.map(a, sum(variables.ints))", "steps"},
		"literals":             {"variables.ints.map(a, {'a': {'b': {'c': [1, 2, 3]}}})", "bytes"},
		"times":                {"variables.ints.map(a, timestamp(a))", ""},
		"times of much":        {"[timestamp(0), variables.lists, variables.fields]", ""},
		"int of huge":          {"int(variables.huge)", "steps"},
		"duration of huge":     {"duration(variables.huge)", ""},
		"timestamp of huge":    {"timestamp(variables.huge)", ""},
		"has in a loop":        {"variables.ints.all(a, !has(a.b.c.d.e.f))", "steps"},
		"default in a loop":    {"variables.ints.all(a, default(a.b.c, true))", "steps"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := env.Parse(test.source)
			if err != nil {
				t.Fatal(err)
			}
			mb, took := spent(func() { _, err = p.Eval(t.Context(), vars) })
			if mb > 50 || took > 5*time.Second {
				t.Errorf("it took %.1f MB and %v", mb, took)
			}
			if testing.Verbose() {
				t.Logf("%.1f MB, %v: %.100v", mb, took, err)
			}
			var limit *expr.LimitError
			if errors.As(err, &limit); test.limit != "" && (limit == nil || limit.Limit != test.limit) {
				t.Errorf("%v, want the limit of %s", err, test.limit)
			}
		})
	}
}

// Sources that are to cost much are refused, or cost little.
func TestHostileSourcesAreBounded(t *testing.T) {
	long := func(part string) string { return strings.Repeat(part, (16<<10)/len(part)) }
	for name, source := range map[string]string{
		"too long":        strings.Repeat(" ", 16<<10) + "1",
		"much too long":   strings.Repeat("(", 100<<20),
		"parentheses":     long("("),
		"closed":          strings.Repeat("(", 8000) + "1" + strings.Repeat(")", 8000),
		"lists":           long("["),
		"objects":         long("{'a':"),
		"nots":            long("!"),
		"minuses":         long("-"),
		"pluses":          long("1+") + "1",
		"conditions":      long("true?1:") + "1",
		"deep conditions": long("true?"),
		"ands":            long("true&&") + "true",
		"fields":          "variables" + long(".a")[:16000],
		"indices":         "variables" + long("[0]")[:16000],
		"calls":           long("size("),
		"chain of calls":  "variables.a" + strings.Repeat(".trim()", 2000),
		"macros":          long("[1].map(x,"),
		"many macros":     "[" + strings.Repeat("[1].map(x,x),", 1000) + "1]",
		"has":             strings.Repeat("has(variables.a)&&", 900) + "variables.a",
		"names":           "[" + strings.Repeat("a,", 8000) + "1]",
		"texts":           "[" + strings.Repeat("'a',", 4000) + "1]",
		"long text":       "'" + long("a")[:16000] + "'",
		"escapes":         "'" + strings.Repeat(`\u0041`, 2700) + "'",
		"unclosed":        long("'''a"),
		"digits":          long("9")[:16000],
		"exponent":        "1e" + long("9")[:16000],
		"garbage":         long("?]:}"),
		"signs":           long("\x00"),
		"regexps":         "[" + strings.Repeat("'a'.matches('a{900}'),", 700) + "1]",
		"wide":            long("ä"),
		"comments":        long("//\n"),
	} {
		t.Run(name, func(t *testing.T) {
			var p *expr.Program
			var err error
			mb, took := spent(func() {
				if p, err = env.Parse(source); err == nil {
					_, _ = p.Eval(t.Context(), vars(t))
				} else {
					_ = err.Error()
					_ = err.(*expr.Error).Caret()
				}
			})
			if mb > 50 || took > 5*time.Second {
				t.Errorf("it took %.1f MB and %v", mb, took)
			}
			if testing.Verbose() {
				t.Logf("%.1f MB, %v: %.100v", mb, took, err)
			}
		})
	}
}

func TestLimitsAreNamed(t *testing.T) {
	small := env.With(expr.Limits{Source: 100, Depth: 3, Steps: 50, Bytes: 200})
	for source, want := range map[string]string{
		strings.Repeat(" ", 100) + "1": "it is too long: the limit is 100 bytes",
		"[[[1]]]":                      "1:4: it is nested too deep: the limit is 3 levels",
		"1 + 1 + 1 + 1 + 1 + 1 + 1":    "",
		"[1, 2, 3, 4, 5, 6, 7, 8, 9].all(x, x + x + x + x > 0)":       "it does too much: the limit is 50 steps",
		"'" + strings.Repeat("a", 70) + "'.replace('a', 'bbbb')":      "it does too much: the limit is 50 steps",
		"'aaaaaaaa'.replace('aa', '" + strings.Repeat("b", 60) + "')": "it produces too much: the limit is 200 bytes",
	} {
		p, err := small.Parse(source)
		if err == nil {
			_, err = p.Eval(t.Context(), vars(t))
		}
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s: %v, want %s", source, err, want)
		}
	}
}

// The clock and the context are the last to end what goes on.
func TestTimeAndContextEndAnEvaluation(t *testing.T) {
	slow := "variables.list.all(a, variables.list.all(b, variables.list.all(c, variables.list.all(d, variables.list.all(e, variables.list.all(f, variables.list.all(g, true)))))))"
	p, err := env.With(expr.Limits{Steps: 1 << 30, Time: time.Nanosecond}).Parse(slow)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Eval(t.Context(), vars(t))
	var limit *expr.LimitError
	if !errors.As(err, &limit) || limit.Limit != "time" || err.Error() != "it takes too long: the limit is 1ns" {
		t.Errorf("its time: %v", err)
	}
	ctx, end := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	end(why)
	if _, err = p.Eval(ctx, vars(t)); !errors.Is(err, why) {
		t.Errorf("its context: %v", err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	p, err = env.With(expr.Limits{Steps: 1 << 60, Time: time.Hour}).Parse("variables.all(a, variables.all(b, variables.all(c, variables.all(d, variables.all(e, variables.all(f, true))))))")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = p.Eval(ctx, map[string]any{"variables": make([]any, 1000)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the end of its context: %v", err)
	}
}

// A program may be used by many at once.
func TestProgramsAreShared(t *testing.T) {
	p, err := env.Parse("variables.items.map(i, i.price * 2).sum() > 1 && 'a'.matches(variables.words[1])")
	if err != nil {
		t.Fatal(err)
	}
	vars, done := vars(t), make(chan error)
	for range 8 {
		go func() {
			for range 200 {
				if v, err := p.Eval(context.Background(), vars); err != nil || v != true {
					done <- fmt.Errorf("%v, %w", v, err)
					return
				}
			}
			done <- nil
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestAConditionAllocatesLittle(t *testing.T) {
	p, err := env.Parse(`variables.score >= 4 && variables.kind == "x"`)
	if err != nil {
		t.Fatal(err)
	}
	vars := vars(t)
	if n := testing.AllocsPerRun(100, func() { _, _ = p.Eval(t.Context(), vars) }); n > 4 {
		t.Errorf("%v allocations", n)
	}
}
