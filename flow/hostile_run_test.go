package flow_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/sqlite"
)

// misdeed is a flow that can be deployed, and whose run means no good.
type misdeed struct {
	name string
	doc  string
	in   string // the variables; "" is {}
	// code is that of the error with which the run must fail, or the start be refused; "": it completes, within the bounds that all have.
	code string
	says string // words of the error
}

// torrent is a service that answers with much, and a model's answer beside it.
type torrent struct{}

func (torrent) Actions() []service.Action {
	any := json.RawMessage(`{"type":"object"}`)
	return []service.Action{
		{Name: "text", Effect: service.Reads, Params: any}, {Name: "objects", Effect: service.Reads, Params: any}, {Name: "deep", Effect: service.Reads, Params: any},
		{Name: "over", Effect: service.Reads, Params: any}, {Name: "number", Effect: service.Reads, Params: any}, {Name: "eat", Effect: service.Reads, Params: any},
	}
}

func (torrent) Call(_ context.Context, c service.Call) (any, error) {
	switch c.Action {
	case "text":
		return strings.Repeat("x", 2_000_000), nil
	case "objects":
		return json.RawMessage("[" + strings.TrimSuffix(strings.Repeat(`{"a":1},`, 250_000), ",") + "]"), nil
	case "deep":
		return json.RawMessage(strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000)), nil
	case "over":
		return strings.Repeat("x", 10<<20), nil
	case "number":
		return json.RawMessage(`{"n": 1e400}`), nil
	}
	return len(c.Params), nil
}

// long says that the sizes are those of "make crash": as large as may come. Otherwise they go well over the limits, and no further.
func long() bool { return os.Getenv("PAWL_CRASH") == "long" }

// size is n, or all of it with [long].
func size(n, all int) int {
	if long() {
		return all
	}
	return n
}

func misdeeds() (all []misdeed) {
	add := func(name, doc, in, code, says string) { all = append(all, misdeed{name, doc, in, code, says}) }
	rep := strings.Repeat
	flowOf := func(more string, steps ...string) string {
		return `{"id": "h", ` + more + `"steps": [` + strings.Join(steps, ",") + `]}`
	}
	step := func(id, kind, config, more, next string) string {
		return fmt.Sprintf(`{"id": %q, "type": %q, "config": %s, %s "next": %s}`, id, kind, config, more, next)
	}
	end := `"end"`
	set := func(id, sets, more, next string) string {
		return step(id, "transform", `{"set": `+sets+`}`, more, next)
	}
	calls := func(id, action, params, next string) string {
		return step(id, "service", `{"service": "torrent", "action": "`+action+`"`+params+`}`, ``, next)
	}
	each := func(id, over, more string, steps ...string) string {
		return step(id, "map", `{"over": `+over+more+`, "steps": [`+strings.Join(steps, ",")+`]}`, ``, end)
	}
	nothingNamed := func(id string) string { return step(id, "transform", `{"expression": "1"}`, ``, end) }
	nothing := step("x", "transform", `{"expression": "1"}`, ``, end)
	bytes := `, "maxBytes": 16777216` // a third of what flows may hold that say nothing
	keeps := `"limits": {"maxBytes": 16777216}, `
	if long() {
		bytes, keeps = "", ""
	}
	big := func(n int) string { return `{"big": "` + rep("x", n) + `"}` }
	many := func(n int, item string) string {
		return `{"list": [` + strings.TrimSuffix(rep(item+",", n), ",") + `]}`
	}

	// What doubles as it goes round.
	for _, e := range []string{"variables.x + variables.x", "[variables.x, variables.x]", "{'a': variables.x, 'b': variables.x}"} {
		code, says := "expression", "bytes"
		if !strings.Contains(e, "+") {
			code, says = "too_large", "the limit is 2097152"
		}
		add("a variable doubled by "+e, flowOf(`"limits": {"maxBytes": 50331648}, `, set("a", `{"x": "'xxxxxxxxxxxxxxxx'"}`, ``, `"b"`), set("b", `{"x": "`+e+`"}`, `"maxVisits": 900,`, `"b"`)), ``, code, says)
	}
	add("an output doubled with itself", flowOf(``, set("a", `{"x": "'x'"}`, ``, `"b"`), step("b", "transform", `{"expression": "variables.x + variables.x", "outputVariable": "x"}`, `"maxVisits": 900,`, `"b"`)), ``, "expression", "bytes")
	add("a list that grows by itself", flowOf(``, set("a", `{"x": "[1]"}`, ``, `"b"`), set("b", `{"x": "variables.x + variables.x"}`, `"maxVisits": 900,`, `"b"`)), ``, "expression", "steps")
	add("a value that grows deeper", flowOf(`"limits": {"maxSteps": 100000}, `, set("a", `{"x": "[]"}`, ``, `"b"`), set("b", `{"x": "[variables.x]"}`, `"maxVisits": 20000,`, `"b"`)), ``, "-", "deep")
	add("a text doubled by a template", flowOf(`"limits": {"maxSteps": 100000}, `, set("a", `{"x": "'xxxx'"}`, ``, `"b"`),
		step("b", "wait", `{"for": "delay", "timeoutMs": 1}`, `"maxVisits": 100,`, `"c"`), step("c", "workflow", `{"workflow": "echo", "input": {"v": "{{variables.x}}{{variables.x}}"}, "outputVariable": "o"}`, ``, `"d"`), set("d", `{"x": "variables.o.v"}`, ``, `"b"`)), ``, "-", "1048576 bytes")

	// What is kept.
	set2 := func(n int) (steps []string) {
		for i := range n {
			next := end
			if i < n-1 {
				next = fmt.Sprintf(`"a%d"`, i+1)
			}
			steps = append(steps, step(fmt.Sprintf("a%d", i), "transform", fmt.Sprintf(`{"expression": "variables.big", "outputVariable": "v%d"}`, i), ``, next))
		}
		return steps
	}
	add("five hundred steps that keep what is large", flowOf(keeps, set2(500)...), big(1_900_000), "flow_limit", fmt.Sprintf("maxBytes: %d", size(16<<20, 48<<20)))
	add("answers kept side by side", flowOf(keeps, each("m", `"range(1000)"`, `, "concurrency": 20`, calls("t", "text", ``, end))), ``, "flow_limit", "maxBytes")
	add("small objects kept side by side", flowOf(``, each("m", `"range(1000)"`, `, "concurrency": 2`, calls("t", "objects", ``, end))), ``, "flow_limit", "maxBytes")
	add("large answers of many items at once", flowOf(keeps, each("m", `"range(1000)"`, `, "concurrency": 1000`, calls("t", "text", ``, `"y"`), step("y", "transform", `{"expression": "1"}`, ``, end))), ``, "flow_limit", "maxBytes")
	add("large answers of a few items at once, which are not kept", flowOf(keeps, each("m", fmt.Sprintf(`"range(%d)"`, size(12, 30)), `, "concurrency": 2`, calls("t", "text", ``, `"y"`), nothingNamed("y"))), ``, "", "")
	add("an answer over what the engine takes", flowOf(``, calls("t", "over", ``, end)), ``, "too_large", "2097152")
	add("an answer of small objects", flowOf(``, calls("t", "objects", ``, end)), ``, "flow_limit", "maxBytes")
	add("a deep answer", flowOf(``, calls("t", "deep", ``, end)), ``, "-", "nested more than 500 deep")
	add("a number that there is not", flowOf(``, calls("t", "number", ``, end)), ``, "-", "too large")
	add("parallel in parallel in map", flowOf(keeps, each("m", `"range(300)"`, `, "concurrency": 100`, step("p", "parallel", `{"branches": [`+
		`{"id": "one", "steps": [`+step("q", "parallel", `{"branches": [{"id": "a", "steps": [`+calls("t", "text", ``, end)+`]}, {"id": "b", "steps": [`+calls("u", "text", ``, end)+`]}]}`, ``, end)+`]},`+
		`{"id": "two", "steps": [`+calls("v", "text", ``, end)+`]}]}`, ``, end))), ``, "flow_limit", "maxBytes")
	add("a hundred branches that keep what is large", flowOf(keeps, step("p", "parallel", `{"failureMode": "continue", "branches": [`+func() string {
		var b []string
		for i := range 100 {
			b = append(b, fmt.Sprintf(`{"id": "b%d", "steps": [%s]}`, i, calls(fmt.Sprintf("t%d", i), "text", ``, end)))
		}
		return strings.Join(b, ",")
	}()+`]}`, `"onFailure": "skip",`, end)), ``, "flow_limit", "maxBytes")
	add("skipping does not help", flowOf(keeps, step("m", "map", `{"over": "range(1000)", "failureMode": "continue", "steps": [`+calls("t", "text", ``, end)+`]}`, `"onFailure": "skip",`, end)), ``, "flow_limit", "maxBytes")
	add("as little as may be held", flowOf(`"limits": {"maxBytes": 1024}, `, nothing), big(2000), "flow_limit", "maxBytes: 1024")
	variables := func(n int) string {
		var b []string
		for i := range n {
			b = append(b, fmt.Sprintf(`"k%d": %d`, i, i))
		}
		return "{" + strings.Join(b, ",") + "}"
	}
	{
		name, in := "many variables", variables(size(20_000, 100_000))
		add(name+" in items that set one", flowOf(``, each("m", `"range(1000)"`, `, "concurrency": 1000`, set("s", `{"y": "index"}`, ``, end))), in, "flow_limit", "maxBytes")
		add(name+" in items", flowOf(``, each("m", `"range(1000)"`, `, "concurrency": 1000`, nothing)), in, "", "")
		add(name, flowOf(``, nothing), in, "", "")
		add(name+", all in a call", flowOf(``, calls("t", "eat", `, "v": "{{variables}}"`, end)), in, "", "")
		add(name+", all in a list of calls", flowOf(``, calls("t", "eat", `, "v": [`+strings.TrimSuffix(rep(`"{{variables}}",`, 1000), ",")+`]`, end)), in, "-", "4194304 bytes")
		add(name+", written out by an expression", flowOf(``, step("a", "transform", `{"expression": "[`+strings.TrimSuffix(rep("variables,", 1500), ",")+`]"}`, ``, end)), in, "-", "4194304 bytes")
	}

	// Lists.
	add("ten million items", flowOf(``, each("m", `"range(10000000)"`, ``, nothing)), ``, "-", "")
	add("a list as long as may come", flowOf(``, each("m", `"variables.list"`, `, "concurrency": 1000`, nothing)), many(size(150_000, 900_000), "1"), "-", "the limit is 100000")
	inMaps := fmt.Sprintf(`range(%d)`, size(40_000, 500)) // three lists are over the limit of items; or two hundred, all but the last of which are gone through
	add("maps in maps", flowOf(``, each("m", `"`+inMaps+`"`, ``, each("n", `"`+inMaps+`"`, ``, each("o", `"`+inMaps+`"`, ``, nothing)))), ``, "flow_limit", "")
	add("maps in maps that skip", flowOf(``, step("m", "map", `{"over": "`+inMaps+`", "failureMode": "continue", "steps": [`+step("n", "map", `{"over": "`+inMaps+`", "failureMode": "continue", "steps": [`+nothing+`]}`, `"onFailure": "skip",`, end)+`]}`, `"onFailure": "skip",`, end)), ``, "flow_limit", "100000 items")
	add("a map over itself", flowOf(``, each("m", `"range(400)"`, `, "concurrency": 1000`, each("n", `"range(400)"`, `, "concurrency": 1000`, nothing))), ``, "flow_limit", "maxBytes")
	add("items that go round", flowOf(``, each("m", `"range(100)"`, ``, step("x", "transform", `{"expression": "1"}`, `"maxVisits": 1000000,`, `"x"`))), ``, "flow_limit", "maxSteps")
	add("a circle without an end", flowOf(``, step("x", "transform", `{"expression": "1"}`, `"maxVisits": 1000000,`, `"x"`)), ``, "flow_limit", "maxSteps: 1000")
	add("circles in branches", flowOf(``, step("p", "parallel", `{"failureMode": "continue", "branches": [{"id": "a", "steps": [`+step("x", "transform", `{"expression": "1"}`, `"maxVisits": 1000000,`, `"x"`)+`]}, {"id": "b", "steps": [`+step("y", "transform", `{"expression": "1"}`, `"maxVisits": 1000000,`, `"y"`)+`]}]}`, `"onFailure": "skip",`, end)), ``, "flow_limit", "maxSteps: 1000")
	add("a fallback that goes round", flowOf(``, `{"id": "x", "type": "transform", "config": {"expression": "1 / 0"}, "maxVisits": 1000000, "onFailure": "fallback", "fallbackStep": "y", "next": "end"}`, step("y", "transform", `{"expression": "1"}`, ``, `"x"`)), ``, "flow_limit", "maxSteps: 1000")

	// Places.
	add("a text in very many places", flowOf(``, calls("t", "eat", `, "v": [`+strings.TrimSuffix(rep(`"{{variables.big}}",`, 30_000), ",")+`]`, end)), big(1_000_000), "-", "4194304 bytes")
	add("a text in very many texts", flowOf(``, calls("t", "eat", `, "v": [`+strings.TrimSuffix(rep(`"x {{variables.big}}",`, 30_000), ",")+`]`, end)), big(1_000_000), "-", "4194304 bytes")
	add("a text many times in a text", flowOf(``, calls("t", "eat", `, "v": "`+rep(`{{variables.big}}`, 10_000)+`"`, end)), big(1_000_000), "-", "1048576 bytes")
	add("places that filters go through", flowOf(``, calls("t", "eat", `, "v": [`+strings.TrimSuffix(rep(`"{{variables.big | length}}",`, 30_000), ",")+`]`, end)), big(2_000_000), "-", "filters would go through more")
	add("quotes of quotes", flowOf(``, calls("t", "eat", `, "v": "{{variables.q`+rep(" | json", 16)+`}}"`, end)), `{"q": "`+rep(`\"`, 10_000)+`"}`, "-", "4194304 bytes")
	add("capitals that are longer", flowOf(``, calls("t", "eat", `, "v": "{{variables.q`+rep(" | upper | lower", 8)+`}}"`, end)), `{"q": "`+rep(`ﬀ`, 300_000)+`"}`, "", "")
	add("a list joined to itself", flowOf(``, calls("t", "eat", `, "v": "{{variables.list | join: '`+rep("x", 10_000)+`'}}"`, end)), many(200_000, "1"), "-", "1048576 bytes")
	add("control characters, six times as long as JSON", flowOf(``, calls("t", "eat", `, "v": "{{variables.c}}"`, end)), `{"c": "`+rep(`\u0001`, 300_000)+`"}`, "", "")
	add("a long text in an address", flowOf(``, step("s", "service", `{"service": "desk", "action": "send", "to": "a", "url": "https://x.example/`+rep("{{variables.big}}/", 1000)+`"}`, ``, end)), big(100_000), "-", "1048576 bytes")
	add("very many places in an address", flowOf(``, step("s", "service", `{"service": "desk", "action": "send", "to": "a", "url": "https://x.example/`+rep("{{variables.big}}/", 14_000)+`"}`, ``, end)), big(60), "", "")
	add("a long text in a question", flowOf(``, step("d", "ai-decision", `{"prompt": "`+rep("{{variables.big}}", 1000)+`"}`, ``, end)), big(1_000_000), "-", "1048576 bytes")
	add("a long text in an approval", flowOf(``, step("w", "wait", `{"for": "approval", "timeoutMs": 1000, "title": "t", "details": {"d": [`+strings.TrimSuffix(rep(`"{{variables.big}}",`, 1000), ",")+`]}}`, ``, end)), big(1_000_000), "-", "4194304 bytes")
	add("all variables to an agent", flowOf(``, step("g", "agent", `{"instructions": "x"}`, ``, end)), big(1_500_000), "-", "1048576 bytes")
	add("all that steps brought in a condition", flowOf(``, calls("t", "text", ``, `[{"when": "steps == steps && steps.t.output.contains('y')", "to": "fail"}, {"to": "end"}]`)), ``, "", "")
	add("conditions over much", flowOf(``, `{"id": "a", "type": "transform", "config": {"expression": "1"}, "next": [`+strings.TrimSuffix(rep(`{"when": "variables.list.exists(x, variables.list.exists(y, x + y == 0))", "to": "fail"},`, 99), ",")+`, {"to": "end"}]}`), many(100_000, "1"), "expression", "steps")

	// Expressions.
	for _, e := range []string{
		"range(100000).map(x, range(100000))", "range(1000).map(x, range(1000).map(y, range(1000)))", "variables.list.map(x, variables.list)", "variables.list.filter(x, variables.list.exists(y, x == y + 1))",
		"variables.list.map(x, string(x)).join(variables.list.map(x, string(x)).join('xxxxxxxxxxxxxxxxxxxxxxxx'))", "variables.list.map(x, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'.replace('a', 'aaaaaaaaaaaaaaaaaaaaaaaaaa'))",
		"variables.list.map(x, string(x)).join('').matches('^(1|2|3|1+)*$' )",
	} {
		add("the expression "+e, flowOf(``, step("a", "transform", fmt.Sprintf(`{"expression": %q}`, e), ``, end)), many(100_000, "1"), "expression", "")
	}

	// Schemas.
	doubled := func(leaf string) string {
		var b strings.Builder
		b.WriteString(`{"type": "object", "properties": {"v": {"$ref": "#/$defs/a0"}}, "$defs": {`)
		for i := range 40 {
			fmt.Fprintf(&b, `"a%d": {"anyOf": [{"$ref": "#/$defs/a%d"}, {"$ref": "#/$defs/a%d"}]}, `, i, i+1, i+1)
		}
		return b.String() + `"a40": ` + leaf + `}}`
	}
	twice := `{"type": "object", "properties": {"v": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"anyOf": [{"items": {"$ref": "#/$defs/n"}, "maxItems": 0}, {"items": {"$ref": "#/$defs/n"}}]}}}`
	add("inputs with references doubled", flowOf(`"inputs": `+doubled(`{"type": "string"}`)+`, `, nothing), `{"v": 1}`, "input", "1000000 steps")
	add("inputs that double with the depth", flowOf(`"inputs": `+twice+`, `, nothing), `{"v": `+rep("[", 40)+rep("]", 40)+`}`, "input", "1000000 steps")
	add("inputs with a long pattern", flowOf(`"inputs": {"type": "object", "properties": {"v": {"type": "array", "items": {"pattern": "^((a{100}){9}|b{900})*$"}}}}, `, nothing), `{"v": [`+strings.TrimSuffix(rep(`"`+rep("a", 1000)+`",`, 1000), ",")+`]}`, "input", "1000000 steps")
	add("inputs with long numbers", flowOf(`"inputs": {"type": "object", "properties": {"v": {"type": "array", "items": {"type": "number", "minimum": 0}}}}, `, nothing), `{"v": [`+strings.TrimSuffix(rep(`1e999999,`, 1000), ",")+`]}`, "input", "")
	add("inputs that name the fields of a huge object", flowOf(`"inputs": {"type": "object", "propertyNames": {"pattern": "^[a-z0-9]{1,20}$"}, "patternProperties": {"a$": {}, "b$": {}, "c$": {}, "^d": {}}}, `, nothing), variables(100_000), "input", "1000000 steps")
	add("an event with references doubled", flowOf(``, step("w", "wait", `{"for": "event", "event": "go", "timeoutMs": 600000, "schema": `+doubled(`{"type": "string"}`)+`}`, ``, end)), ``, "input", "1000000 steps")
	add("an answer with references doubled", flowOf(``, step("d", "ai-decision", `{"prompt": "v", "outputFormat": "json", "maxRepairs": 0, "outputSchema": `+doubled(`{"type": "string"}`)+`}`, ``, end)), ``, "-", "")
	add("parameters of a service are held against its own schema only", flowOf(``, step("s", "service", `{"service": "desk", "action": "send", "to": "a", "n": "{{variables.n}}"}`, ``, end)), `{"n": 1e300}`, "", "")

	// Models.
	for _, says := range []string{"long", "deep", "list", "numbers"} {
		for _, format := range []string{`"outputFormat": "text"`, `"outputFormat": "json", "outputSchema": {}`, `"outputFormat": "enum", "allowedValues": ["a", "b"]`, `"outputFormat": "number"`} {
			if strings.Contains(format, "text") && says != "long" {
				continue
			}
			code := "-"
			if says == "list" && strings.Contains(format, "json") {
				code = ""
			}
			add("a model whose answer is "+says+", to "+format, flowOf(``, step("d", "ai-decision", `{"prompt": "`+says+`", "maxRepairs": 1, "maxTokens": 200000, `+format+`}`, `"retryPolicy": {"maxAttempts": 1},`, end)), ``, code, "")
		}
	}
	add("a decision in very many items", flowOf(`"limits": {"maxCostUsd": 0.01}, `, each("m", `"range(5000)"`, `, "concurrency": 100`, step("d", "ai-decision", `{"prompt": "a"}`, ``, end))), ``, "-", "budget")
	asking := func(question, config string) string {
		return flowOf(`"limits": {"maxCostUsd": 1000`+bytes+`}, `, each("m", fmt.Sprintf(`"range(%d)"`, size(40, 300)), `, "concurrency": 300`, step("d", "ai-decision", `{"prompt": "`+question+`", "maxRepairs": 0`+config+`}`, `"retryPolicy": {"maxAttempts": 1},`, end)))
	}
	add("long answers to many decisions at once", asking("million", `, "maxTokens": 200000`), ``, "flow_limit", "maxBytes")
	add("answers that are too long to many decisions at once", asking("million", ``), ``, "-", "tokens")
	add("answers that nobody keeps to many decisions at once", asking("long", `, "maxTokens": 1000000`), ``, "-", "")
	values := make([]string, 500)
	for i := range values {
		values[i] = fmt.Sprintf(`"value number %d %s"`, i, rep("x", 150))
	}
	add("an enum of all that may be", flowOf(``, step("d", "ai-decision", `{"prompt": "long", "maxRepairs": 0, "maxTokens": 200000, "outputFormat": "enum", "allowedValues": [`+strings.Join(values, ",")+`]}`, ``, end)), ``, "-", "")
	approvers := strings.TrimSuffix(rep(`"somebody@example.org",`, 100), ",")
	add("a wait for a multitude", flowOf(``, step("w", "wait", `{"for": "approval", "title": "t", "timeoutMs": 1000, "approvers": [`+approvers+`]}`, ``, end)), ``, "-", "")

	// Runs that start themselves.
	child := func(id, of, more string) string {
		return step(id, "workflow", `{"workflow": "`+of+`", "input": {}`+more+`}`, ``, end)
	}
	add("a child of its own", flowOf(``, child("c", "h", "")), ``, "-", "the limit is 20")
	add("a ring of children", flowOf(``, child("c", "ring", "")), ``, "-", "the limit is 20")
	add("children of its own in items", flowOf(``, each("m", `"range(30)"`, `, "concurrency": 30`, child("c", "h", ""))), ``, "-", "")
	add("detached children of its own", flowOf(``, child("c", "h", `, "detach": true`)), ``, "", "")
	return all
}

// torrents answers what a question asks for: texts that are long, deep, or lists.
func torrents() llmtest.Rule {
	return llmtest.Rule{Usage: llm.Usage{Input: 10, Output: 10}, Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
		text := "a"
		switch asked := r.Messages[0].Content; {
		case strings.Contains(asked, "long"):
			text = strings.Repeat("word ", size(500_000, 2<<20))
		case strings.Contains(asked, "million"):
			text = strings.Repeat("word ", 200_000)
		case strings.Contains(asked, "deep"):
			text = strings.Repeat("[", 1<<20)
		case strings.Contains(asked, "list"):
			text = "[" + strings.Repeat("1,", 400_000) + "1]"
		case strings.Contains(asked, "numbers"):
			text = "1e" + strings.Repeat("9", 1_000_000)
		}
		return &llm.Response{Text: text}, nil
	}}
}

var ranges = regexp.MustCompile(`range\((\d+)\)`)

// ready is the misdeed as it is sent: with variables, of which one is a list r if the document goes over range(n).
func (m misdeed) ready(t *testing.T) misdeed {
	in := strings.TrimSuffix(cmp.Or(m.in, "{}"), "}")
	if found := ranges.FindStringSubmatch(m.doc); found != nil {
		n, err := strconv.Atoi(found[1])
		if err != nil {
			t.Fatal(err)
		}
		if in != "{" {
			in += ","
		}
		in += `"r": [` + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]"
		m.doc = strings.ReplaceAll(m.doc, found[0], "variables.r")
	}
	m.in = in + "}"
	return m
}

// codes are those of an error and of what has caused it.
func codes(f *pawl.Failure) (all []string) {
	for ; f != nil; f = f.Cause {
		all = append(all, f.Code)
	}
	return all
}

// What a run does that means no good is refused or bounded, and it takes neither memory nor time for long.
func TestHostileRuns(t *testing.T) {
	s := hostileServer(t)
	all := misdeeds()
	for _, m := range all {
		t.Run(m.name, func(t *testing.T) {
			began := time.Now()
			used := heapDuring(func() { s.commits(t, m.ready(t)) })
			took := time.Since(began)
			t.Logf("%v, %d MiB", took.Round(time.Millisecond), used>>20)
			if used > 300<<20 {
				t.Errorf("it took %d MiB", used>>20)
			}
			if took > 3*time.Minute {
				t.Errorf("it took %v", took)
			}
		})
	}
	t.Logf("%d runs", len(all))
}

// hostileServer has all that misdeeds need.
func hostileServer(t *testing.T) *server {
	store, err := sqlite.Open(filepath.Join(t.TempDir(), "pawl.db"), &sqlite.Options{Unsafe: true}) // no power is cut here
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	opt := options(t, &desk{}, torrents())
	opt.Services["torrent"] = torrent{}
	s := serve(t, store, opt)
	s.deploys(t, `{"id": "echo", "steps": [{"id": "x", "type": "transform", "config": {"expression": "variables"}, "next": "end"}]}`)
	s.deploys(t, `{"id": "ring", "steps": [{"id": "x", "type": "workflow", "config": {"workflow": "h", "input": {}}, "next": "end"}]}`)
	return s
}

// commits runs a misdeed that is ready, and looks at how it ends and whether people can look at it.
func (s *server) commits(t *testing.T, m misdeed) {
	d, err := s.Deploy(t.Context(), flow.Deployment{Document: []byte(m.doc)})
	if err != nil {
		t.Fatalf("%.1000v", err)
	}
	run, err := s.StartRun(t.Context(), "h", json.RawMessage(m.in), pawl.AtVersion(strconv.Itoa(d.Version)))
	if err != nil {
		if m.code != "input" && m.code != "-" || !strings.Contains(err.Error(), m.says) || len(err.Error()) > 4<<10 {
			t.Errorf("it could not start: %.1000v", err)
		}
		return
	}
	if strings.HasPrefix(m.name, "an event") { // it waits for an event
		s.until(t, run.ID, func(x flow.Execution) bool { return x.Status == pawl.Waiting })
		if err := s.Signal(t.Context(), run.ID, "go", map[string]any{"v": 1}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	info, end, err := s.Wait(ctx, "", run.ID)
	if err != nil {
		if _, err := s.Cancel(t.Context(), pawl.Ref{ID: run.ID}, "it is hostile"); err != nil {
			t.Error(err)
		}
		t.Fatal(err)
	}
	switch {
	case m.code == "" && info.State != pawl.Completed:
		t.Errorf("it is %v: %.1000s", info.State, info.Reason)
	case m.code != "" && (info.State != pawl.Failed || end == nil):
		t.Errorf("it is %v, %.1000s", info.State, info.Reason)
	case m.code != "":
		f := end.Failure()
		if m.code != "-" && !slices.Contains(codes(f), m.code) {
			t.Errorf("the codes are %q, want %s: %.1000v", codes(f), m.code, f.Message)
		}
		if !strings.Contains(f.Message, m.says) || len(f.Message) > 20<<10 {
			t.Errorf("the error has %d bytes: %.1000s, want %q in it", len(f.Message), f.Message, m.says)
		}
	}
	if _, err := s.Execution(t.Context(), "", run.ID); err != nil {
		t.Errorf("it can't be looked at: %v", err)
	}
}
