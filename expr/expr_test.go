package expr_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/expr"
)

// vars are what the expressions of these tests see.
func vars(t testing.TB) map[string]any {
	t.Helper()
	return map[string]any{
		"variables": map[string]any{
			"score": int64(7), "price": 2.5, "whole": 2.0, "kind": "x", "name": "Zoë", "yes": true, "nothing": nil, "big": int64(9007199254740993), "max": int64(1<<63 - 1), "least": int64(-1 << 63),
			"list": []any{int64(3), 1.5, int64(2)}, "words": []any{"b", "a", "b"}, "empty": []any{}, "object": map[string]any{"a": int64(1), "b-c": "d", "if": int64(5)},
			"items": []any{map[string]any{"price": int64(5), "tag": "a"}, map[string]any{"price": 7.5}}, "mixed": []any{int64(1), "a", nil},
			"go": map[string]any{"int": 3, "f32": float32(0.5), "u": uint64(1 << 63), "number": json.Number("12"), "struct": struct{}{}, "ints": []any{1, uint8(2)}},
			"at": "2026-11-22T10:00:00Z", "json": `{"a": [1, 2.5, "x", null]}`,
		},
		"stepResults": map[string]any{"ai-prescreen": map[string]any{"output": map[string]any{"decision": "yes"}}},
	}
}

var env = expr.New("variables", "stepResults")

// value evaluates an expression and writes its value as JSON, an error behind "error: ".
func value(t testing.TB, source string) string {
	t.Helper()
	p, err := env.Parse(source)
	if err != nil {
		return "refused: " + err.Error()
	}
	v, err := p.Eval(t.Context(), vars(t))
	if err != nil {
		return "error: " + err.Error()
	}
	again, err := p.Eval(t.Context(), vars(t))
	if err != nil || !reflect.DeepEqual(v, again) {
		t.Errorf("%s is %v, and then %v, %v", source, v, again, err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestValues(t *testing.T) {
	for source, want := range map[string]string{
		// Literals and paths.
		"1":                               "1",
		"-9223372036854775808":            "-9223372036854775808",
		"0x10":                            "16",
		"1.0":                             "1",
		"1e3":                             "1000",
		"'a' + \"b\"":                     `"ab"`,
		`r'\d' + '\n\u00eb'`:              `"\\d\në"`,
		"null":                            "null",
		"[1, 'a', [true]]":                `[1,"a",[true]]`,
		"{'a': 1, 'b': {}}":               `{"a":1,"b":{}}`,
		"variables.score":                 "7",
		"variables['score']":              "7",
		"variables.object['b-c']":         `"d"`,
		"variables.object.if":             "5",
		"variables.list[1]":               "1.5",
		"variables.list[1.0]":             "1.5",
		"variables.list[variables.whole]": "2",
		"variables[variables.kind == 'x' ? 'score' : 'kind']": "7",
		"stepResults['ai-prescreen'].output.decision":         `"yes"`,
		"{'a': [5]}.a[0]":   "5",
		"variables.nothing": "null",
		// Numbers.
		"9007199254740993 + 1":                "9007199254740994",
		"variables.big == 9007199254740993":   "true",
		"variables.big == 9007199254740992.0": "false",
		"variables.big > 9007199254740992.0":  "true",
		"9007199254740992.0 < variables.big":  "true",
		"5 / 2":                               "2",
		"-5 / 2":                              "-2",
		"5 / 2.0":                             "2.5",
		"-5 % 3":                              "-2",
		"variables.least % -1":                "0",
		"1 + 1.5":                             "2.5",
		"variables.price * 2":                 "5",
		"2 - 0.5":                             "1.5",
		"-variables.score":                    "-7",
		"1 == 1.0":                            "true",
		"[1] == [1.0]":                        "true",
		"{'a': 1} == {'a': 1.0}":              "true",
		"variables.go.int + variables.go.f32": "3.5",
		"variables.go.number + 1":             "13",
		"variables.go.u > 1":                  "true",
		"variables.go.ints == [1, 2]":         "true",
		"round(2.5)":                          "3", "round(-2.5)": "-3", "round(2.345, 2)": "2.35", "round(7)": "7", "round(1e300)": "1e+300",
		"floor(-1.5)": "-2", "ceil(1.2)": "2", "abs(-3)": "3", "abs(-1.5)": "1.5",
		"min(3, 1.5, 2)": "1.5", "max(variables.list)": "3", "min('b', 'a')": `"a"`, "sum(variables.list)": "6.5", "sum([])": "0", "avg([1, 2])": "1.5",
		"sum(variables.items.map(i, i.price))": "12.5",
		// Truths.
		"true && variables.yes":                          "true",
		"variables.no || true":                           "true",
		"variables.no && false":                          "false",
		"false && variables.no":                          "false",
		"true ? 1 : variables.no":                        "1",
		"!variables.yes":                                 "false",
		"1 < 2 && 'a' < 'b' && false < true && 1.5 >= 1": "true",
		"variables.kind == 1":                            "false",
		"variables.nothing == null":                      "true",
		"variables.kind != null":                         "true",
		"1 in [1.0, 2]":                                  "true", "'a' in variables.words": "true", "'a' in variables.object": "true", "'z' in {'a': 1}": "false",
		// What may be missing.
		"has(variables.score)": "true", "has(variables.nothing)": "true", "has(variables.no)": "false", "has(variables.no.such.thing)": "false", "has(variables.object['b-c'])": "true",
		"has(variables.list[5])": "false", "has(variables.kind.x)": "false",
		"default(variables.no, 5)": "5", "variables.no.orElse('x')": `"x"`, "default(variables.nothing, 1)": "1", "default(variables.score, 1)": "7", "default(first(variables.empty), 0)": "0",
		"default(upper(variables.no.name), 'none')": `"none"`, "default(max(variables.empty), 0)": "0",
		// Loops.
		"variables.list.all(x, x > 1)": "true", "variables.list.exists(x, x == 2)": "true", "variables.list.exists_one(x, x > 1)": "false", "[1, 2].existsOne(x, x > 1)": "true",
		"variables.list.map(x, x * 2)": "[6,3,4]", "variables.list.map(x, x > 1.5, x * 2)": "[6,4]", "variables.list.filter(x, x >= 2)": "[3,2]",
		"variables.mixed.exists(x, x > 0)":      "true",
		"variables.mixed.all(x, x > 5)":         "false",
		"variables.object.all(k, k.size() > 0)": "true", "variables.object.map(k, k)": `["a","b-c","if"]`,
		"[1, 2].map(x, [3, 4].map(y, x * y))": "[[3,4],[6,8]]", "[1].map(x, [2].map(x, x))": "[[2]]", "[].map(x, x)": "[]",
		"variables.items.filter(i, has(i.tag)).map(i, i.tag)": `["a"]`,
		// Texts.
		"size('Zoë')": "3", "variables.name.size()": "3", "size(variables.list) + size({'a': 1})": "4",
		"'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')": "true",
		"'ticket-12'.matches('^[a-z]+-[0-9]+$')":                                        "true", "matches('a', variables.kind)": "false",
		"lower('ÄB') + upper('ä') + 'Ä'.lowerAscii() + 'ab'.upperAscii()": `"äbÄÄAB"`, "trim(' a ')": `"a"`,
		"'a,b,,c'.split(',')": `["a","b","","c"]`, "'a,b,c'.split(',', 2)": `["a","b,c"]`, "'äb'.split('')": `["ä","b"]`, "''.split('')": "[]", "'a'.split(',', 0)": "[]",
		"['a', 1, true, 2.5].join('-')": `"a-1-true-2.5"`, "[].join(',')": `""`, "variables.words.join()": `"bab"`,
		"'aaa'.replace('a', 'bb')": `"bbbbbb"`, "'aaa'.replace('a', '', 2)": `"a"`, "'ab'.replace('', '-')": `"-a-b-"`,
		"'Zoë!'.substring(2)": `"ë!"`, "'Zoë!'.substring(1, 3)": `"oë"`, "'abc'.substring(3)": `""`, "'Zoë'.charAt(2)": `"ë"`, "'abc'.charAt(3)": `""`,
		"'Zoë Zoë'.indexOf('ë')": "2", "'Zoë Zoë'.indexOf('ë', 3)": "6", "'abc'.indexOf('x')": "-1",
		// Lists and objects.
		"keys(variables.object)": `["a","b-c","if"]`, "values(variables.object)": `[1,"d",5]`, "sort(variables.list)": "[1.5,2,3]", "variables.words.sort().distinct()": `["a","b"]`,
		"distinct([1, 1.0, 'a', [1], [1.0], {'a': 1}, {'a': 1}, null, null])": `[1,"a",[1],{"a":1},null]`,
		"first(variables.list) + last(variables.list)":                        "5", "flatten([1, [2, [3]], []])": "[1,2,[3]]", "[1] + [2]": "[1,2]",
		// Conversions.
		"int('12') + int(2.9) + int(-2.9)": "12", "double('1.5') + double(1)": "2.5", "string(1) + string(2.50) + string(true) + string('a')": `"12.5truea"`, "bool('true') && !bool('0')": "true",
		"type(1) + type(1.5) + type('a') + type(null) + type([]) + type({}) + type(true)": `"intdoublestringnulllistmapbool"`,
		`json({'b': [1, 2.0, null, "a\"\n"], 'a': {}, 'c': []})`:                          `"{\"a\":{},\"b\":[1,2,null,\"a\\\"\\n\"],\"c\":[]}"`,
		"parseJson(variables.json).a[1]":                                                  "2.5", "parseJson('9007199254740993') + 1": "9007199254740994", "parseJson(' \"a\" ')": `"a"`,
		// Times.
		"timestamp(variables.at) > timestamp('2026-11-21T23:00:00+01:00')": "true", "timestamp(variables.at) - timestamp('2026-11-22T09:00:00Z') == duration('1h')": "true",
		"timestamp(variables.at) + duration('90m')": `"2026-11-22T11:30:00Z"`, "duration('1m') + duration('1.5s')": `"61.5s"`, "[timestamp(0)]": `["1970-01-01T00:00:00Z"]`, "{'d': -duration('250ms')}": `{"d":"-0.25s"}`,
		"timestamp(variables.at).getFullYear() + timestamp(variables.at).getMonth()": "2036", "timestamp(variables.at).getDayOfWeek()": "0", "duration('90m').getHours()": "1", "int(timestamp(variables.at))": "1795341600",
		"type(timestamp(0)) + type(duration('1s'))": `"timestampduration"`,
	} {
		if got := value(t, source); got != want {
			t.Errorf("%s\n  is     %s\n  wanted %s", source, got, want)
		}
	}
}

// What an expression can't do is an error with the place, and is never another value.
func TestErrors(t *testing.T) {
	for source, want := range map[string]string{
		"variables.max + 1":                "1:15: 9223372036854775807 + 1 is an overflow: whole numbers have 64 bits",
		"variables.least - 1":              "overflow",
		"variables.max * 2":                "overflow",
		"variables.least * -1":             "overflow",
		"variables.least / -1":             "overflow",
		"-variables.least":                 "overflow",
		"abs(variables.least)":             "overflow",
		"sum([variables.max, 1])":          "1:1: sum: 9223372036854775807 + 1 is an overflow",
		"1 / 0":                            "division by zero",
		"1.0 / 0":                          "division by zero",
		"1 % 0":                            "division by zero",
		"1e308 * 10":                       "1e+308 * 10 is no number",
		"int(1e30)":                        "does not fit into 64 bits",
		"variables.kind + 1":               "1:16: + does not take a text and a whole number; make a text of the other with string()",
		"variables.price % 2":              "% does not take a fraction and a whole number; make whole numbers of both with int()",
		"variables.kind < 1":               "< does not take a text and a whole number",
		"variables.nothing > 1":            "> does not take null and a whole number",
		"variables.scor":                   `1:11: variables has no field "scor"; did you mean "score"?`,
		"variables.object.x.y":             `1:18: variables.object has no field "x"`,
		"variables.object['b-d'].z":        `variables.object has no field "b-d"; did you mean "b-c"?`,
		"variables.list[3]":                "variables.list has 3 items",
		"variables.list[-1]":               "the list has 3 items, and none at -1",
		"variables.list.x":                 "variables.list is a list, which has no field \"x\"; its first item is [0]",
		"variables.object[0]":              "variables.object is an object, which has no index",
		"variables.kind.x":                 "variables.kind is a text",
		"variables.nothing.x":              "variables.nothing is null",
		"variables[variables.kind]":        `the object has no field "x"`,
		"variables.go.struct":              "a value of Go's type struct {} is none that JSON has",
		"variables.kind && true":           "&& takes true or false, and not a text",
		"variables.kind ? 1 : 2":           "what stands before ? is a text",
		"variables.list.all(x, x)":         "the condition of all is a whole number and must be true or false",
		"variables.no && true":             `variables has no field "no"`,
		"variables.score.all(x, x)":        "all goes through a list, and not through a whole number",
		"variables.score.matches('a')":     "1:17: matches takes a text as its first value, and not a whole number",
		"first(variables.empty)":           "the list is empty",
		"sort(variables.mixed)":            "null has no order",
		"['a', variables.object].join('')": "item 1 is an object and no text",
		"'abc'.substring(2, 1)":            "2 to 1 is not within the text, which has 3 characters",
		"parseJson('{\"a\":1,\"a\":2}')":   `the field "a" stands twice in one object`,
		"parseJson('[1,')":                 "the text is no JSON",
		"parseJson('1 2')":                 "something stands behind the JSON",
		"timestamp('yesterday')":           "is no time as RFC 3339 writes it",
		"timestamp('9999-12-31T23:59:59Z') + duration('1h')": "the years 1 to 9999",
		"duration('1 hour')":                "is no duration: 90s, 1h30m, 250ms",
		"int('x')":                          "is no whole number",
		"double('NaN')":                     "is no number",
		"'a'.matches(variables.kind + '(')": "missing closing )",
	} {
		if got := value(t, source); !strings.HasPrefix(got, "error: ") || !strings.Contains(got, want) {
			t.Errorf("%s\n  is     %s\n  wanted %s", source, got, want)
		}
	}
}

// What can never be evaluated is refused when it is read.
func TestRefusals(t *testing.T) {
	for source, want := range map[string]string{
		"":                                "it is empty",
		"\xff":                            "it is not UTF-8",
		"variables.":                      "1:11: the expression ends too early",
		"(1 + 2":                          "ends too early; a ) is missing",
		"1 2":                             `1:3: "2" is not expected here`,
		"variables.a = 1":                 `1:13: "= 1" is not expected here; two values are compared with ==`,
		"variables.a and true":            `1:13: "and true" is not expected here; write &&`,
		"variables.a ?? 1":                "write default(a, b)",
		"variables.?a":                    "not expected",
		"'abc":                            "a text that begins here has no end",
		"99999999999999999999":            "the number does not fit into 64 bits",
		"if":                              `"if" is a word of CEL`,
		"evil":                            `1:1: there is nothing called "evil"; a text stands in quotes: 'evil'`,
		"variabels.a":                     `there is nothing called "variabels"; did you mean "variables"?`,
		"evil.genius":                     `1:1: there is nothing called "evil"; there are stepResults, variables`,
		"type(1) == int":                  "write int(x), or type(x) == 'int'",
		".variables":                      "there is nothing called",
		"os.Getenv('HOME')":               `there is nothing called "os"`,
		"stepResults.ai-prescreen.output": `1:16: there is nothing called "prescreen"; if the name has a hyphen, write stepResults['ai-prescreen']`,
		"uper('a')":                       `1:1: there is no function "uper"; did you mean "upper"?`,
		"1 + len('a')":                    `1:5: there is no function "len"; write size(x)`,
		"substring('a')":                  "substring is given 1 values; write text.substring(from, to?)",
		"'a' + 1":                         "1:5: + does not take a text and a whole number; make a text of the other with string()",
		"'a' == 1":                        "a text never equals a whole number",
		"[1] < [2]":                       "< does not take a list and a list",
		"!1":                              "! takes true or false, and not a whole number",
		"1 && true":                       "&& takes true or false",
		"1 ? 2 : 3":                       "what stands before ? is a whole number",
		"'a'.b":                           "it is a text, and has nothing in it",
		"{1: 2}":                          "the name of a field is a whole number and must be a text",
		"1.all(x, true)":                  "1:",
		"'a'.all(x, true)":                "all goes through a list, and not through a text",
		"[1].all(x)":                      "all is used in another way; write list.all(x, condition)",
		"[1].all(1, true)":                "all needs a name for the item",
		"[1].map(x, x) + y":               `there is nothing called "y"`,
		"has(variables)":                  "has asks whether there is a field",
		"1u":                              "there are no unsigned numbers here",
		"b'a'":                            "there are no bytes here",
		"Foo{a: 1}":                       "there are no types of messages here",
		"'a'.matches('(')":                "missing closing )",
		"'a'.matches('((a{100}){10}){1}b{1000}(c{1000}d{1000}e{1000})')": "the limit is 4096",
		"size(1)":         "size takes a text or a list or an object as its first value, and not a whole number",
		"variables.`a`":   "not expected",
		"[?variables.a]":  "not expected",
		"{{variables.a}}": "not expected",
	} {
		_, err := env.Parse(source)
		var e *expr.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n  is     %v\n  wanted %s", source, err, want)
		}
	}
}

func TestCaret(t *testing.T) {
	for source, want := range map[string]string{
		"variables.a +":                      "variables.a +\n             ^",
		"1 +\n\tuper('a')":                   "\tuper('a')\n\t^",
		"'Zoë' + 1":                          "'Zoë' + 1\n      ^",
		strings.Repeat("1 + ", 300) + "evil": "…" + strings.Repeat("1 + ", 13)[2:] + "evil\n" + strings.Repeat(" ", 51) + "^",
	} {
		_, err := env.Parse(source)
		var e *expr.Error
		if !errors.As(err, &e) {
			t.Fatal(err)
		}
		if got := e.Caret(); got != want {
			t.Errorf("%.40s\n%s\nwanted\n%s", source, got, want)
		}
	}
}

func TestTypes(t *testing.T) {
	for source, want := range map[string]expr.Type{
		"1": expr.Number, "1 + 2.0": expr.Number, "'a' + variables.a": expr.Text, "true": expr.Bool, "1 < 2": expr.Bool, "variables.a": expr.Unknown, "[1]": expr.List, "{}": expr.Object, "null": expr.Null,
		"variables.a + 1": expr.Number, "has(variables.a)": expr.Bool, "variables.a.map(x, x)": expr.List, "variables.a ? 1 : 2.0": expr.Number, "variables.a ? 1 : 'a'": expr.Unknown, "timestamp(0)": expr.Text,
		"default(variables.a, false)": expr.Unknown, "default(variables.a == 1, false)": expr.Bool, "!variables.a": expr.Bool, "variables.a && variables.b": expr.Bool, "-variables.a": expr.Unknown, "json(1)": expr.Text, "duration('1s') + duration('2s')": expr.Text,
	} {
		p, err := env.Parse(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
		} else if got := p.TypeOf(); got != want {
			t.Errorf("%s: %s, want %s", source, got, want)
		}
	}
}

func TestUses(t *testing.T) {
	for source, want := range map[string]string{
		"variables.a.b + variables.a.b":                         "variables.a.b",
		"stepResults['ai-prescreen'].output[0].x":               "stepResults.ai-prescreen.output.0.x",
		"variables.list.map(x, x.price + variables.rate)":       "variables.list variables.rate",
		"variables[variables.key]":                              "variables variables.key",
		"has(variables.a)":                                      "variables.a?",
		"default(variables.a, variables.b)":                     "variables.a? variables.b",
		"has(variables.a) && variables.a > 1":                   "variables.a?",
		"has(variables.a) && variables.a.b > 1":                 "variables.a? variables.a.b?",
		"has(variables.a.b) && variables.ab > 1":                "variables.a.b? variables.ab",
		"!has(variables.a) || variables.a > 1":                  "variables.a?",
		"has(variables.a) || variables.a > 1":                   "variables.a",
		"has(variables.a) ? variables.a : variables.b":          "variables.a? variables.b",
		"!has(variables.a) ? 1 : variables.a":                   "variables.a?",
		"'a' in variables && variables.a > 1":                   "variables? variables.a?",
		"variables.list.exists(variables, variables.a) && true": "variables.list",
		"1": "",
	} {
		p, err := env.Parse(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		var got []string
		for _, u := range p.Uses() {
			var names []string
			for _, s := range u.Path {
				if s.IsIndex {
					names = append(names, fmt.Sprint(s.Index))
				} else {
					names = append(names, s.Name)
				}
			}
			text := strings.Join(names, ".")
			if u.Optional {
				text += "?"
			}
			got = append(got, text)
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: %s, want %s", source, text, want)
		}
	}
}
