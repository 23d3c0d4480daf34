package flow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/service"
)

// A place that names nothing fails its step by name, once, and nothing is sent; who expects that says so.
func TestJ10_whatNamesNothingIsNeverSent(t *testing.T) {
	fallback := `{"id": "told", "type": "transform", "config": {"expression": "[steps.a.error.code, steps.a.error.message]"}, "next": "end"}`
	for name, config := range map[string]string{
		"a text": `, "text": "Dear {{variables.customerEmail}}"`, "a place": `, "text": "{{variables.customerEmail}}"`, "an address": `, "url": "https://example.org/{{variables.customerEmail}}"`,
		"HTML": `, "html": "<b>{{variables.customerEmail}}</b>"`, "far down": `, "text": {"a": [1, {"b": "{{variables.customerEmail}}"}]}`,
	} {
		d := &desk{}
		out := completes(t, of(send("a", end, config, `"onFailure": "fallback", "fallbackStep": "told"`), fallback), `{"customer": 1}`, options(t, d))
		equal(t, name, out, `["unresolved","unresolved reference {{variables.customerEmail}}: variables has no field \"customerEmail\""]`)
		equal(t, name+": calls", len(d.said()), 0)
	}
	eachOperator(t, []llmtest.Rule{{Text: "fine"}}, nil, func(t *testing.T, o *operator) {
		missing := `unresolved reference {{variables.customerEmail}}: variables has no field "customerEmail"`
		id := o.breaks(of(send("a", end, `, "text": "{{variables.customerEmail}}"`)), `{}`, missing)
		if x := o.execution(t, id); len(x.Errors) == 0 || !x.Errors[0].Final || x.Errors[0].Attempt > 1 {
			t.Errorf("it was tried again: %s", o.journal(id))
		}
		o.breaks(of(`{"id": "a", "type": "ai-decision", "config": {"prompt": "Who is {{variables.customerEmail}}?"}, "next": "end"}`), `{}`, missing)
		o.breaks(of(`{"id": "a", "type": "wait", "config": {"for": "approval", "title": "{{variables.customerEmail}}?"}, "next": "end"}`), `{}`, missing)
		o.breaks(of(`{"id": "a", "type": "wait", "config": {"for": "event", "event": "x", "correlate": "{{variables.customerEmail}}"}, "next": "end"}`), `{}`, missing)
		o.breaks(of(`{"id": "a", "type": "workflow", "config": {"workflow": "f", "input": {"x": "{{variables.customerEmail}}"}}, "next": "end"}`), `{}`, missing)
		o.breaks(of(`{"id": "a", "type": "map", "config": {"over": "variables.customerEmail", "steps": [`+step("b", end)+`]}, "next": "end"}`), `{}`, `variables has no field "customerEmail"`)
		equal(t, "calls", len(o.desk.said())+len(o.model.Calls()), 0)

		// Who expects it says what stands for it, or that nothing does.
		optional := of(`{"id": "a", "type": "service", "config": {"service": "desk", "action": "look", "a": "{{variables.x ?? 'none'}}", "b": "[{{variables.x ?? 0}}]", "c": "({{?variables.x}})", "d": "{{? variables.x | upper }}", "e": "{{?variables.x ?? 'none' | upper}}", "f": ["{{?variables.y.z}}"]}, "next": "end"}`)
		for variables, want := range map[string]string{
			`{}`: "look a=none b=[0] c=() d=null e=NONE f=[null]", `{"x": null, "y": null}`: "look a=none b=[0] c=() d=null e=NONE f=[null]", `{"x": "v", "y": {"z": 1}}`: "look a=v b=[v] c=(v) d=V e=V f=[1]",
		} {
			o.desk.calls = nil
			if _, _, err := o.run(optional, variables); err != nil {
				t.Error(err)
			}
			equal(t, variables, strings.Join(o.desk.said(), "|"), want)
		}
		o.says(of(`{"id": "a", "type": "ai-decision", "config": {"prompt": "Who{{?variables.x}}?"}, "next": "end"}`), `{}`, `"fine"`)
		equal(t, "question", o.model.Calls()[0].Messages[0].Content, "Who?")
		o.refused(of(send("a", end, `, "text": "{{variables.a}} {{a b}} and {{variables.x | uper}} and {{? }} {{variables.x ??}}"`)), `/steps/0/config/text: {{a b}}: "b" can't follow`,
			`/steps/0/config/text: {{variables.x | uper}}: there is no filter "uper"; did you mean "upper"?`, `/steps/0/config/text: {{? }}: a path begins with a name`, `/steps/0/config/text: {{variables.x ??}}: ?? is followed by`)
	})
}

// A place is refused where none is filled in: its braces would be sent, asked for, or waited for.
func TestJ10_placesStandOnlyWhereTheyAreFilledIn(t *testing.T) {
	doc := `{"id": "f", "trigger": {"type": "event", "eventName": "order-{{variables.x}}"}, "steps": [` + strings.Join([]string{
		ask("a", `"b"`, `, "model": "{{variables.x}}", "outputFormat": "enum", "allowedValues": ["{{variables.x}}", "b"]`),
		`{"id": "b", "type": "wait", "config": {"for": "event", "event": "paid-{{variables.x}}"}, "next": "c"}`,
		`{"id": "c", "type": "wait", "config": {"for": "approval", "title": "?", "approvers": ["{{variables.manager}}"]}, "next": "d"}`,
		`{"id": "d", "type": "workflow", "config": {"workflow": "{{variables.x}}", "input": {"{{variables.x}}": 1}}, "next": "e"}`,
		send("e", `"g"`, `, "text": [{"k": {"a {{variables.x}}": "b"}}]`),
		`{"id": "g", "type": "transform", "config": {"expression": "{{variables.x}}"}, "when": "{{variables.x}}", "next": {"default": "h"}}`,
		`{"id": "h", "type": "map", "config": {"over": "{{variables.x}}", "steps": [` + step("i", end) + `]}, "next": "{{variables.x}}"}`}, ",\n") + `]}`
	_, err := flow.Parse([]byte(doc), flow.World{Services: service.Set{"desk": &desk{}}, Model: "test/m"})
	none := ": no places are filled in here"
	told(t, err, "/trigger/eventName"+none, "/steps/0/config/model"+none, "/steps/0/config/allowedValues/0"+none, "/steps/1/config/event"+none, "/steps/2/config/approvers/0"+none, "/steps/3/config/workflow"+none,
		`/steps/3/config/input/{{variables.x}}: the name of a field holds no places`, `/steps/4/config/text/0/k/a {{variables.x}}: the name of a field holds no places`,
		`/steps/5/config/expression: `, `/steps/5/when: `, `/steps/6/config/over: `, `/steps/6/next: there is no step "{{variables.x}}" here`)
	got := warned(t, `{"id": "f", "trigger": {"type": "schedule", "cron": "* * * * *", "variables": {"day": ["{{startedAt}}"]}}, "steps": [`+step("a", end)+`]}`)
	if len(got) != 1 || !strings.HasPrefix(got[0], "/trigger/variables/day/0: no places are filled in here") {
		t.Errorf("warned is of %q", got)
	}
}

// Below null there is nothing, and null is no text: that is told by name, and is no crash. What a skipped step has left is null.
func TestJ11_nullIsNothing(t *testing.T) {
	eachOperator(t, nil, nil, func(t *testing.T, o *operator) {
		for place, words := range map[string]string{
			"{{variables.a.b}}": "unresolved reference {{variables.a.b}}: variables.a is null", "x {{variables.a}}": "unresolved reference {{variables.a}}: variables.a is null",
			"{{variables.l[0].x}}": "variables.l[0] is null", "{{variables.l[1]}}": "variables.l has 1 items", "{{variables.n.x}}": "variables.n is a number", "{{variables.t[0]}}": "variables.t is a text",
		} {
			o.breaks(of(send("a", end, `, "text": "`+place+`"`)), `{"a": null, "l": [null], "n": 1, "t": "x"}`, words)
		}
		equal(t, "calls", len(o.desk.said()), 0)
		o.desk.fail = func(said string) error {
			if strings.Contains(said, "bad") {
				return &service.Error{Code: service.Denied, Message: "no"}
			}
			return nil
		}
		skips := func(place string) string {
			return of(send("a", `{"default": "b"}`, `, "text": "bad"`, `"onFailure": "skip"`), send("b", end, `, "text": "`+place+`"`))
		}
		o.breaks(skips("Dear {{steps.a.output}}"), `{}`, "unresolved reference {{steps.a.output}}: steps.a.output is null")
		o.breaks(skips("{{steps.a.output.id}}"), `{}`, "unresolved reference {{steps.a.output.id}}: steps.a.output is null")
		o.desk.calls = nil
		if _, _, err := o.run(skips("{{steps.a.output.id ?? 'nobody'}} {{steps.a.status}} {{steps.a.error.message}}"), `{}`); err != nil {
			t.Error(err)
		}
		equal(t, "call", o.desk.said()[1], "send text=nobody skipped no to=x")
	})
}

// Objects and lists are JSON in a text, and themselves where the text is one place.
func TestJ12_objectsAreJSON(t *testing.T) {
	look := `{"id": "lookup-company", "type": "transform", "config": {"expression": "variables.company"}, "next": "a"}`
	company := `{"company": {"name": "A & B <c>", "size": 9007199254740993, "tags": ["x", 1.5, true, null]}}`
	text := `{"name":"A & B <c>","size":9007199254740993,"tags":["x",1.5,true,null]}`
	eachOperator(t, []llmtest.Rule{{Text: "fine"}}, nil, func(t *testing.T, o *operator) {
		o.says(of(look, `{"id": "a", "type": "ai-decision", "config": {"prompt": "Enrich {{stepResults.lookup-company.output}}!", "system": "{{variables.company.tags | trusted}}"}, "next": "end"}`), company, `"fine"`)
		asked := o.model.Calls()[0]
		if question := asked.Messages[0].Content; !strings.Contains(question, "\n"+text+"\n") || strings.Contains(question, "[object") {
			t.Errorf("the question is %q", question)
		}
		if !strings.HasPrefix(asked.System, `["x",1.5,true,null]`) {
			t.Errorf("the instructions are %q", asked.System)
		}
		o.run(of(look, `{"id": "a", "type": "service", "config": {"service": "desk", "action": "look", "typed": "{{steps.lookup-company.output}}", "text": "is {{steps.lookup-company.output.tags}}", "n": "{{variables.company.size}}", "m": "{{variables.company.tags[2]}}", "o": "{{variables.company.tags[1]}}"}, "next": "end"}`), company)
		equal(t, "call", o.desk.said()[0], `look m=true n=9007199254740993 o=1.5 text=is [\"x\",1.5,true,null] typed={"name":"A \u0026 B \u003cc\u003e","size":9007199254740993,"tags":["x",1.5,true,null]}`)
	})
}

// website is an HTTP server that keeps what it gets.
type website struct {
	*httptest.Server
	mu  sync.Mutex
	got []heard
}

type heard struct {
	method, uri, body string
	header            http.Header
}

func listen(t testing.TB, answer func(n int, w http.ResponseWriter, h heard)) *website {
	t.Helper()
	o := &website{}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		h := heard{r.Method, r.RequestURI, string(body), r.Header}
		if o.got = append(o.got, h); answer != nil {
			answer(len(o.got), w, h)
		}
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *website) heard() []heard {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.got)
}

// web adds the service http, which reaches what the rules open.
func web(t testing.TB, allow ...string) func(*flow.Options) {
	return func(opt *flow.Options) {
		s, err := service.NewHTTP(service.HTTPOptions{Network: service.Network{Allow: allow}})
		if err != nil {
			t.Fatal(err)
		}
		opt.Services = service.Set{"desk": opt.Services["desk"], "http": s}
	}
}

const thisMachine = "127.0.0.0/8:*"

func post(config string) string {
	return of(`{"id": "a", "type": "service", "config": {"service": "http"` + config + `}, "retryPolicy": {"maxAttempts": 1}, "next": "end"}`)
}

// What is filled into a body is data, whatever stands in it: quotes and new lines break nothing and add nothing.
func TestJ13_dataCanNotChangeABody(t *testing.T) {
	nasty := "\", \"admin\": true, \"x\": \"\\ \n\r\t\u2028 {{secrets.token}} </script> \u0000 é"
	data, err := json.Marshal(map[string]any{"text": nasty, "n": 7, "o": map[string]any{`k"`: nasty}, "yes": false})
	if err != nil {
		t.Fatal(err)
	}
	eachOperator(t, nil, web(t, thisMachine), func(t *testing.T, o *operator) {
		s := listen(t, nil)
		_, _, err := o.run(post(`, "method": "POST", "url": "`+s.URL+`/x", "body": {"text": "{{variables.text}}", "said": "He said {{variables.text}}!", "n": "{{variables.n}}", "o": "{{variables.o}}", "l": [{"yes": "{{variables.yes}}"}]}`), string(data))
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(s.heard()[0].body), &got); err != nil {
			t.Fatalf("%v: %s", err, s.heard()[0].body)
		}
		want := map[string]any{"text": nasty, "said": "He said " + nasty + "!", "n": 7.0, "o": map[string]any{`k"`: nasty}, "l": []any{map[string]any{"yes": false}}}
		equal(t, "body", fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want))
		equal(t, "type", s.heard()[0].header.Get("Content-Type"), "application/json")
		byHand := o.deploys(t, post(`, "method": "POST", "url": "`+s.URL+`", "body": " {\"a\": \"{{variables.text}}\"}"`)) // nobody escapes what stands in a text
		if len(byHand.Warnings) != 1 || byHand.Warnings[0].Pointer != "/steps/0/config/body" {
			t.Errorf("warned is of %v", byHand.Warnings)
		}

		_, _, err = o.run(post(`, "method": "POST", "url": "`+s.URL+`/x", "form": {"a": "{{variables.text}}", "b": "1"}`), `{"text": "x&admin=1=%41"}`)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "form", s.heard()[1].body, "a=x%26admin%3D1%3D%2541&b=1")
		for _, text := range []string{"a\r\nX-Admin: 1", "a\nb", "a\u0000b"} { // a header has one line
			line, err := json.Marshal(map[string]string{"text": text})
			if err != nil {
				t.Fatal(err)
			}
			o.breaks(post(`, "url": "`+s.URL+`", "headers": {"X-Name": "{{variables.text}}"}`), string(line), "X-Name")
		}
		equal(t, "requests", len(s.heard()), 2)
	})
}

// What is filled into an address is escaped for its place, and can't choose the host.
func TestJ13_dataCanNotChangeAnAddress(t *testing.T) {
	eachOperator(t, nil, web(t, thisMachine), func(t *testing.T, o *operator) {
		s := listen(t, nil)
		doc := post(`, "url": "` + s.URL + `/orders/{{variables.a}}/lines?q={{variables.a}}&fixed=1", "query": {"more": "{{variables.a}}"}`)
		for a, want := range map[string]string{
			`"x/../../admin?all=1#f"`: "/orders/x%2F..%2F..%2Fadmin%3Fall=1%23f/lines?q=x%2F..%2F..%2Fadmin%3Fall%3D1%23f&fixed=1&more=x%2F..%2F..%2Fadmin%3Fall%3D1%23f",
			`"a b&c=d%2f+é"`:          "/orders/a%20b&c=d%252f+%C3%A9/lines?q=a+b%26c%3Dd%252f%2B%C3%A9&fixed=1&more=a+b%26c%3Dd%252f%2B%C3%A9",
			`12`:                      "/orders/12/lines?q=12&fixed=1&more=12",
			`"\\\\evil@host:1"`:       "/orders/%5C%5Cevil@host:1/lines?q=%5C%5Cevil%40host%3A1&fixed=1&more=%5C%5Cevil%40host%3A1",
		} {
			before := len(s.heard())
			if _, _, err := o.run(doc, `{"a": `+a+`}`); err != nil || len(s.heard()) != before+1 {
				t.Errorf("%s: %v, %d requests", a, err, len(s.heard())-before)
				continue
			}
			equal(t, a, s.heard()[before].uri, want)
		}
		n := len(s.heard())
		o.breaks(doc, `{"a": ".."}`, `{{variables.a}} is "..", which would lead to another address`)
		equal(t, "requests", len(s.heard()), n)
		for _, url := range []string{"https://{{variables.h}}/x", "https://{{variables.h}}.example.org/x", "https://example.org:{{variables.p}}/x", "https://example.org{{variables.h}}/x", "{{variables.scheme}}://example.org/x", "{{variables.base}}/x", "https://user{{variables.h}}@example.org/"} {
			o.refused(post(`, "url": "`+url+`"`), `/steps/0/config/url: {{variables.`)
		}
	})
}

// A server reaches the open internet and what its rules name, whatever an address is made of.
func TestJ13_hostsAreThoseOfTheRules(t *testing.T) {
	eachOperator(t, nil, web(t), func(t *testing.T, o *operator) {
		s := listen(t, nil)
		for _, url := range []string{s.URL, strings.Replace(s.URL, "127.0.0.1", "localhost", 1), "http://127.0.0.1/", "http://169.254.169.254/latest/meta-data", "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://2130706433/", "http://0x7f000001/", "http://0/", "file:///etc/passwd", "gopher://127.0.0.1/"} {
			id := o.breaks(post(`, "url": "{{variables.url}}"`), `{"url": "`+url+`"}`)
			if strings.Contains(o.journal(id), "root:") {
				t.Errorf("%s was read", url)
			}
		}
		equal(t, "requests", len(s.heard()), 0)
	})
}

// A dollar before a place is a dollar; two braces that shall stay are four.
func TestJ15_aDollarIsADollar(t *testing.T) {
	eachOperator(t, nil, nil, func(t *testing.T, o *operator) {
		_, _, err := o.run(of(`{"id": "a", "type": "service", "config": {"service": "desk", "action": "look", "a": "${{variables.amount}}", "b": "{{{{variables.amount}}", "c": "${{{{ github.ref }}", "d": "{{{{{{variables.amount}}}}", "e": "}} {", "f": "{{{{", "g": "{{{{{{{{"}, "next": "end"}`), `{"amount": 12.5}`)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "call", o.desk.said()[0], "look a=$12.5 b={{variables.amount}} c=${{ github.ref }} d={{12.5}} e=}} { f={{ g={{{{")
		o.refused(of(send("a", end, `, "text": "{{{variables.x}}}"`)), `/steps/0/config/text: {{{variables.x}}: a path begins with a name, not with "{variables"`)
	})
}

// A secret is found when it is sent, in each attempt; the journal, answers and errors have it in no form; it goes to services only.
func TestJ17_secretsAreOnlySent(t *testing.T) {
	var values sync.Map // by name: both stores are tried at once, each with a secret of its own
	change := func(opt *flow.Options) {
		web(t, thisMachine)(opt)
		opt.Secret = func(_ context.Context, _, name string) (string, error) {
			value, ok := values.Load(name)
			if !ok {
				return "", fmt.Errorf("there is no secret %q", name)
			}
			return value.(string), nil
		}
	}
	doc := of(`{"id": "a", "type": "service", "config": {"service": "http", "method": "POST", "url": "URL/{{secrets.NAME}}?k={{secrets.NAME}}", "auth": {"bearer": "{{secrets.NAME}}"}, "headers": {"X-Also": "Key {{secrets['NAME']}}"},
		"body": {"deep": ["{{secrets.NAME}}", "a {{secrets.NAME}} b"]}, "keepHeaders": ["X-Back"]}, "retryPolicy": {"maxAttempts": 2, "backoffMs": 1}, "next": "end"}`)
	eachOperator(t, nil, change, func(t *testing.T, o *operator) {
		one, two := "first/s3cret+value-"+t.Name(), "second&s3cret=value-"+t.Name()
		name := "token_" + path.Base(t.Name())
		values.Store(name, one)
		s := listen(t, func(n int, w http.ResponseWriter, h heard) {
			if n == 1 {
				values.Store(name, two)
				w.WriteHeader(503)
			}
			w.Header().Set("X-Back", h.header.Get("Authorization"))
			fmt.Fprint(w, h.uri+" "+h.body+" "+h.header.Get("X-Also")+" "+h.header.Get("Authorization"))
		})
		id, out, err := o.run(strings.NewReplacer("URL", s.URL, "NAME", name).Replace(doc), `{}`)
		if err != nil || len(s.heard()) != 2 {
			t.Fatalf("%d requests, %v", len(s.heard()), err)
		}
		for i, want := range []string{one, two} {
			h := s.heard()[i]
			equal(t, "header", h.header.Get("Authorization"), "Bearer "+want)
			equal(t, "body", h.body, `{"deep":["`+strings.ReplaceAll(want, "&", `\u0026`)+`","a `+strings.ReplaceAll(want, "&", `\u0026`)+` b"]}`)
		}
		for _, text := range []string{o.journal(id), out} {
			if strings.Contains(text, "s3cret") || !strings.Contains(out, "[secret]") {
				t.Errorf("a secret is kept: %s", text)
			}
		}
		secrets := "secrets go to services only"
		o.refused(of(`{"id": "a", "type": "ai-decision", "config": {"prompt": "{{secrets.x}}", "system": "{{secrets['x']}}"}, "next": "b"}`, `{"id": "b", "type": "transform", "config": {"expression": "secrets.x"}, "next": [{"when": "secrets.x == 'a'", "to": "c"}, {"to": "c"}]}`,
			`{"id": "c", "type": "wait", "config": {"for": "approval", "title": "{{secrets.x}}"}, "next": "d"}`, `{"id": "d", "type": "workflow", "config": {"workflow": "g", "input": "{{secrets.x}}"}, "when": "secrets.x", "next": {"default": "e"}}`,
			`{"id": "e", "type": "map", "config": {"over": "[secrets.x]", "steps": [`+step("f", end)+`]}, "next": "end"}`),
			`/steps/0/config/prompt: {{secrets.x}}: `+secrets, `/steps/0/config/system: {{secrets.x}}: `+secrets, `/steps/1/config/expression: {{secrets.x}}: `+secrets, `/steps/1/next/0/when: {{secrets.x}}: `+secrets,
			`/steps/2/config/title: {{secrets.x}}: `+secrets, `/steps/3/config/input: {{secrets.x}}: `+secrets, `/steps/3/when: {{secrets.x}}: `+secrets, `/steps/4/config/over: {{secrets.x}}: `+secrets)
		// One that was changed on its way would not be known where it comes back.
		for _, place := range []string{"{{secrets.x | upper}}", "{{secrets.x ?? 'y'}}", "{{?secrets.x}}", "{{secrets}}", "{{secrets.x.y}}", "{{secrets.x | json}}"} {
			o.refused(of(send("a", end, `, "text": "`+place+`"`)), `/steps/0/config/text: {{secrets`)
		}
	})
}
