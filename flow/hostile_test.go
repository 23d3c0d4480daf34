package flow_test

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl/flow"
)

// hostile is a document that somebody sends who means no good. Refused says that it can't be deployed.
type hostile struct {
	name    string
	doc     string
	refused bool
}

// steps is a document of steps, one text for each.
func stepsOf(n int, step func(i int) string) string {
	var b strings.Builder
	b.WriteString(`{"id": "h", "steps": [`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(step(i))
	}
	b.WriteString("]}")
	return b.String()
}

// then is the step behind the i-th of n.
func then(i, n int) string {
	if i == n-1 {
		return "end"
	}
	return fmt.Sprintf("a%d", i+1)
}

// one is a document of one transform with an expression, or of another config.
func withConfig(kind, config string) string {
	return fmt.Sprintf(`{"id": "h", "steps": [{"id": "a", "type": %q, "config": %s, "next": "end"}]}`, kind, config)
}

func withExpression(e string) string {
	return withConfig("transform", fmt.Sprintf(`{"expression": %q}`, e))
}

func hostileDocuments() (all []hostile) {
	add := func(refused bool, name, doc string) { all = append(all, hostile{name, doc, refused}) }
	rep := strings.Repeat
	body := func(v string) string {
		return withConfig("service", `{"service": "desk", "action": "look", "text": `+v+`}`)
	}

	for _, n := range []int{64, 65, 1000, 10_000, 100_000, 400_000} { // depth
		add(true, fmt.Sprintf("lists %d deep", n), body(rep("[", n)+rep("]", n)))
		add(true, fmt.Sprintf("lists %d deep without an end", n), rep("[", n))
		add(true, fmt.Sprintf("lists %d deep in YAML", n), "id: "+rep("[", n)+rep("]", n))
		add(true, fmt.Sprintf("sequences %d deep", n), rep("- ", n)+"x")
		add(n > 128, fmt.Sprintf("objects %d deep", n/2), body(rep(`{"a":`, n/2)+"1"+rep("}", n/2)))
		add(true, fmt.Sprintf("flow mappings %d deep", n/2), rep("{a: ", n/2))
	}
	for _, width := range []int{2, 9, 100} { // alias bombs
		doc := "id: h\na0: &a0 [" + rep("x, ", width) + "x]\n"
		for i := range 12 {
			doc += fmt.Sprintf("a%d: &a%d [%s*a%d]\n", i+1, i+1, rep(fmt.Sprintf("*a%d, ", i), width), i)
		}
		add(true, fmt.Sprintf("aliases of %d", width), doc)
	}
	add(true, "an anchor in itself", "id: &a [*a]")
	add(true, "an anchor in itself, far down", "id: &a\n  b:\n    c: &c {d: *a, e: *c}")
	add(true, "many anchors", "id: h\nsteps: ["+rep("&a x, *a, ", 100_000)+"x]")
	add(true, "merges", "a: &a {b: 1}\nc: {<<: *a}")
	add(true, "a tag that makes something", "id: !!python/object/apply:os.system [x]")
	add(true, "binary", "id: !!binary aGk=")
	add(true, "two documents", "id: a\n---\nid: b")
	add(true, "a complex key", "? [a, b]\n: c")

	add(true, "a document over its limit", `{"id": "`+rep("x", flow.MaxDocument)+`"}`) // sizes
	add(true, "a million nodes", stepsOf(1, func(int) string { return rep("1,", 1_000_000) + "1" }))
	add(true, "half a million nodes", `{"a": [`+rep("1,", 500_000)+"1]}")
	add(true, "a huge name", `{"`+rep("n", 500_000)+`": [`+rep("1,", 200_000)+"1]}")
	add(true, "a huge name in YAML", `"`+rep("n", 500_000)+`": [`+rep("1,", 190_000)+"1]")
	long := ""
	for range 60 {
		long += `{"` + rep("n", 1024) + `": `
	}
	add(true, "long names, one in the other", body(long+"["+rep("1,", 190_000)+"1]"+rep("}", 60)))
	fields := func(n int, value string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"f%d": %s,`, i, value)
		}
		return b.String() + `"last": ` + value
	}
	add(true, "many unknown fields", `{"id": "h", `+fields(60_000, "1")+"}")
	add(true, "long names with many faults", `{"`+rep("n", 1000)+`": {}, "steps": [`+rep("1,", 150_000)+"1]}")
	add(true, "many routes that there are not", `{"id": "h", "steps": [{"id": "a", "type": "transform", "config": {"expression": "1"}, "next": {`+fields(60_000, `"x"`)+"}}]}")
	values := make([]string, 500)
	for i := range values {
		values[i] = fmt.Sprintf(`"value number %d"`, i)
	}
	add(true, "many routes of an enum", `{"id": "h", "steps": [{"id": "a", "type": "ai-decision", "config": {"prompt": "x", "outputFormat": "enum", "allowedValues": [`+strings.Join(values, ",")+`]}, "next": {`+fields(50_000, `"end"`)+"}}]}")
	add(false, "a long text", body(`"`+rep("x", 1_000_000)+`"`))
	add(true, "a long template", body(`"`+rep("{{variables.a}}", 60_000)+`"`))
	add(false, "a template of many places", body(`"`+rep("{{variables.a}}", 17_000)+`"`))
	add(false, "a template of braces", body(`["`+rep("{{{{", 60_000)+`","`+rep("{{{{", 60_000)+`","`+rep("{{{{", 60_000)+`"]`))
	add(true, "a template without an end", body(`"`+rep("{{a ", 60_000)+`"`))
	add(true, "a template of dots", body(`"{{`+rep("a.", 100_000)+`a}}"`))
	add(true, "a template of filters that there are not", body(`"{{a`+rep(" | nofilter", 20_000)+`}}"`))
	add(true, "a template of filters", body(`"{{variables.a`+rep(" | json", 20_000)+`}}"`))
	add(false, "many templates", body("["+rep(`"{{variables.a}}",`, 50_000)+"1]"))
	add(false, "many secrets", body("["+rep(`"{{secrets.a}}",`, 50_000)+"1]"))
	add(true, "many references that there are not", body("["+rep(`"{{steps.b.output}}",`, 40_000)+"1]"))
	add(true, "many parameters that fit not", withConfig("service", `{"service": "desk", "to": "a", "n": [`+rep(`0,`, 100_000)+`"{{variables.a}}"]}`))

	const n = flow.MaxSteps // graphs
	transform := func(id, expression, next string) string {
		return fmt.Sprintf(`{"id":%q,"type":"transform","config":{"expression":%q},"next":%q}`, id, expression, next)
	}
	at := func(i int) string { return fmt.Sprintf("a%d", i) }
	add(false, "as many steps as may be", stepsOf(n, func(i int) string { return transform(at(i), "1", then(i, n)) }))
	add(true, "one more step", stepsOf(n+1, func(i int) string { return transform(at(i), "1", then(i, n+1)) }))
	add(true, "all read themselves and the one before", stepsOf(n, func(i int) string {
		return transform(at(i), fmt.Sprintf("steps.a%d", max(i-1, 0)), then(i, n))
	}))
	add(true, "all read the last", stepsOf(n, func(i int) string { return transform(at(i), "steps.a9999", then(i, n)) }))
	add(false, "each sets a variable that the next reads", stepsOf(5000, func(i int) string {
		return fmt.Sprintf(`{"id":"a%d","type":"transform","config":{"set":{"v%d":"variables.v%d"}},"next":%q}`, i, i+1, i, then(i, 5000))
	}))
	add(true, "each reads a variable that the next sets", stepsOf(5000, func(i int) string {
		return fmt.Sprintf(`{"id":"a%d","type":"transform","config":{"set":{"v%d":"variables.v%d"}},"next":%q}`, i, i, i+1, then(i, 5000))
	}))
	add(true, "a model's words go from the last to the first", stepsOf(5000, func(i int) string {
		if i == 4999 {
			return `{"id":"a4999","type":"ai-decision","config":{"prompt":"x","outputVariable":"v4999"},"next":"end"}`
		}
		return fmt.Sprintf(`{"id":"a%d","type":"transform","config":{"set":{"v%d":"variables.v%d"}},"next":%q}`, i, i, i+1, then(i, 5000))
	}))
	add(true, "all lead back to the first", stepsOf(n, func(i int) string {
		return fmt.Sprintf(`{"id":"a%d","type":"transform","config":{"expression":"1"},"next":[{"when":"true","to":"a0"},{"to":%q}]}`, i, then(i, n))
	}))
	add(true, "all lead to what there is not", stepsOf(5000, func(i int) string {
		return transform(at(i), "1", fmt.Sprintf("b%d", i))
	}))
	add(true, "all are called the same", stepsOf(n, func(i int) string { return transform("a", "1", "a") }))
	add(true, "a circle", stepsOf(n, func(i int) string { return transform(at(i), "1", at((i+1)%n)) }))
	add(true, "a step that leads to itself", stepsOf(1, func(int) string { return transform("a", "1", "a") }))
	add(true, "a fallback in a circle", stepsOf(2, func(i int) string {
		return fmt.Sprintf(`{"id":"a%d","type":"transform","config":{"expression":"1"},"next":"end","onFailure":"fallback","fallbackStep":"a%d"}`, i, 1-i)
	}))
	for _, deep := range []int{5, 15, 40, 200} {
		open, end := "", ""
		for i := range deep {
			open += fmt.Sprintf(`[{"id":"m%d","type":"map","next":"end","config":{"over":"variables.list","concurrency":1000,"steps":`, i)
			end += "}}]"
		}
		add(deep > 20, fmt.Sprintf("maps %d deep", deep), `{"id":"h","steps":`+open+"["+transform("x", "1", "end")+"]"+end+"}")
	}
	add(false, "many maps side by side", stepsOf(4000, func(i int) string {
		return fmt.Sprintf(`{"id":"a%d","type":"map","config":{"over":"variables.l","steps":[%s]},"next":%q}`, i, transform(fmt.Sprintf("x%d", i), "item", "end"), then(i, 4000))
	}))
	add(false, "decisions with one great schema", `{"id": "h", "steps": [{"id": "d", "type": "ai-decision", "config": {"prompt": "x", "outputFormat": "json", "outputSchema": {"type": "object", "properties": {`+fields(1500, `{}`)+`}}}, "next": "s"},
		{"id": "s", "type": "service", "config": {"service": "desk", "action": "look", "x": [`+rep(`"{{steps.d.output.f7}}",`, 25_000)+`1]}, "next": "end"}]}`)
	add(true, "inputs with too great a schema", `{"id": "h", "inputs": {"type": "object", "properties": {`+fields(20_000, `{}`)+`}}, "steps": [`+transform("a", "1", "end")+`]}`)
	add(false, "inputs with a great schema", `{"id": "h", "inputs": {"type": "object", "properties": {`+fields(4500, `{}`)+`}}, "steps": [{"id": "s", "type": "service", "config": {"service": "desk", "action": "look", "x": [`+rep(`"{{variables.f7}}",`, 20_000)+`1]}, "next": "end"}]}`)

	for _, e := range []string{ // expressions
		rep("(", 10_000) + "1" + rep(")", 10_000), rep("!", 15_000) + "true", rep("-", 15_000) + "1", rep("[", 8000) + rep("]", 8000), rep("1+", 8000) + "1",
		rep("a.", 8000) + "a", rep("x", 1_000_00), rep("a?b:", 5000) + "c", `"` + rep("x", 200_000) + `"`, "1e400 > 1", "99999999999999999999999999", "'\u0000' == ''", "constructor", "__proto__.polluted", "variables.constructor.prototype.x(1)",
		"this", "process.env", "os.Getenv('HOME')", "eval('1')", "secrets.x", "secrets", "import('x')", "() => 1", "variables == ", "{{variables.a}}", "'a' in", ";", "1; 2", "// x", "\u202evariables", "vаriables.a", "variables․a",
	} {
		harmless := strings.HasPrefix(e, "'\\u0000") || strings.HasPrefix(e, "!!") || strings.HasPrefix(e, "--")
		add(!harmless, fmt.Sprintf("the expression %.30q", e), withExpression(e))
	}
	for _, v := range []string{"NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" + rep("0", 400), "0x10", "01", "+1", ".5", "1.", "1_000", "'1'", "undefined", "--1"} {
		add(true, "the number "+v[:min(len(v), 12)], fmt.Sprintf(`{"id": "h", "version": %s, "steps": []}`, v))
		add(true, "the number "+v[:min(len(v), 12)]+" in limits", fmt.Sprintf(`{"id": "h", "limits": {"maxCostUsd": %s}, "steps": []}`, v))
	}
	for _, v := range []string{".nan", ".inf", "-.inf", "1e400", "!!float x", "!!int 1.5", "9" + rep("9", 400)} {
		add(true, "in YAML the number "+v[:min(len(v), 12)], "id: h\nversion: "+v+"\nsteps: []")
	}
	for _, v := range []string{"0", "-1", "1.5", "9223372036854775807", "9223372036854775808", "18446744073709551616", "1e300", "31622400001", "9223372036854"} {
		add(true, "a timeout of "+v, fmt.Sprintf(`{"id": "h", "limits": {"timeoutMs": %s}, "steps": [%s]}`, v, transform("a", "1", "end")))
		add(true, "a delay of "+v, withConfig("wait", `{"for": "delay", "timeoutMs": `+v+`}`))
		add(true, "a backoff of "+v, fmt.Sprintf(`{"id": "h", "steps": [{"id": "a", "type": "transform", "config": {"expression": "1"}, "next": "end", "retryPolicy": {"backoffMs": %s}}]}`, v))
		if v != "1e300" {
			add(v != "31622400001" || true, "a maxSteps of "+v, fmt.Sprintf(`{"id": "h", "limits": {"maxSteps": %s}, "steps": [%s]}`, v, transform("a", "1", "end")))
		}
	}
	for _, name := range []string{"constructor", "__proto__", "toString", "prototype", "hasOwnProperty"} { // names
		add(false, "a step called "+name, stepsOf(1, func(int) string { return transform(name, "1", "end") }))
		add(true, "leads to "+name, stepsOf(1, func(int) string { return transform("a", "1", name) }))
		add(true, "the service "+name, withConfig("service", fmt.Sprintf(`{"service": %q}`, name)))
		add(true, "reads "+name, body(fmt.Sprintf(`"{{%s}}"`, name)))
		add(true, "a field "+name, fmt.Sprintf(`{"id": "h", %q: {"steps": 1}, "steps": [%s]}`, name, transform("a", "1", "end")))
		add(true, "the type "+name, withConfig(name, `{}`))
	}
	for _, pair := range []string{`"id": "x"`, `"i\u0064": "x"`, `"ID": "x"`, `"Id": "x"`, `"Steps": []`, `"\u0073teps": []`, `"steps\u0000": []`, `"ѕteps": []`, `"steps ": []`} {
		add(true, "beside its own the field "+pair, fmt.Sprintf(`{"id": "h", "steps": [%s], %s}`, transform("a", "1", "end"), pair))
	}
	add(true, "two names of broken characters", body(`{"\ud800": 1, "\ud801": 2}`))
	for _, id := range []string{"а", "a\u202e", "a b", "a/b", "a#b", "../a", "end", "fail", "default", "", "a\u0000", rep("a", 129), "ａ", "a\u200b", "$all"} {
		add(true, fmt.Sprintf("a step called %.20q", id), `{"id": "h", "steps": [{"id": "`+id+`", "type": "transform", "config": {"expression": "1"}, "next": "end"}]}`)
	}
	for _, doc := range []string{"", " ", "null", "[]", "1", "{", "}", `{"id": "h"} x`, "\xff\xfe", "\x00", "{\"a\": \"\x01\"}", "%YAML 1.2", "\t- a", "a: b: c", "*a", "&a", "!", "|", "'"} {
		add(true, fmt.Sprintf("the document %q", doc), doc)
	}
	for _, text := range []string{"secrets.X", "secrets['X']", " secrets.X ", "secrets", "secrets.X | upper"} { // secrets where they do not belong
		add(true, "a prompt with "+text, withConfig("ai-decision", fmt.Sprintf(`{"prompt": "{{%s}}"}`, text)))
	}
	return all
}

// What is hostile is refused, or it is a flow like others; either way the answer comes soon and takes little memory.
func TestHostileDocuments(t *testing.T) {
	all := hostileDocuments()
	if len(all) < 200 {
		t.Fatalf("there are only %d", len(all))
	}
	opt := options(t, &desk{})
	used := heapDuring(func() {
		for _, h := range all {
			began := time.Now()
			f, err := flow.Parse([]byte(h.doc), flow.World{Services: opt.Services, Model: opt.Model})
			took := time.Since(began)
			switch {
			case h.refused && err == nil:
				t.Errorf("%s: it was taken", h.name)
			case !h.refused && err != nil:
				t.Errorf("%s: %.300v", h.name, err)
			case err != nil && len(err.Error()) > 16<<20:
				t.Errorf("%s: its error has %d bytes", h.name, len(err.Error()))
			case err == nil && f.ID != "h":
				t.Errorf("%s: it is %q", h.name, f.ID)
			}
			if took > 10*time.Second {
				t.Errorf("%s: it took %v", h.name, took)
			}
			if took > time.Second/2 {
				t.Logf("%s took %v", h.name, took)
			}
		}
	})
	if used > 300<<20 {
		t.Errorf("they took %d MiB", used>>20)
	}
	t.Logf("%d documents, at most %d MiB", len(all), used>>20)
}

// heapDuring is how many bytes more the heap has while f runs, at most.
func heapDuring(f func()) int64 {
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	// What is in use counts, and not what waits to be collected: nothing waits beyond this, and below it nothing is collected in a hurry.
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(int64(before.Sys-before.HeapIdle) + 200<<20))
	var most atomic.Uint64
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			if m.HeapAlloc > most.Load() {
				most.Store(m.HeapAlloc)
			}
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	f()
	return int64(most.Load()) - int64(before.HeapAlloc)
}
