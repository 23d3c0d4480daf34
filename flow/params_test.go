package flow_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
	"github.com/pawlrun/pawl/service"
)

// crowded is a service whose actions' parameters have the names of a step's own fields.
const crowded = `{"openapi": "3.1.0", "info": {"title": "crowded", "version": "1"}, "servers": [{"url": "https://crowded.example"}], "paths": {"/{service}": {"post": {"operationId": "run",
  "parameters": [{"name": "service", "in": "path", "required": true, "schema": {"type": "string"}}, {"name": "action", "in": "query", "required": true, "schema": {"enum": ["open", "close"]}}, {"name": "params", "in": "query", "schema": {"type": "string"}}],
  "requestBody": {"content": {"application/json": {"schema": {"type": "object", "properties": {"outputVariable": {"type": "string"}}}}}}, "responses": {"200": {"description": "done"}}}}}}`

// Parameters that have the names of a step's fields stand in params, and are filled in and checked like the others.
func TestParametersWithTheNamesOfFields(t *testing.T) {
	var got string
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = r.URL.String() + " " + string(body)
	}))
	defer srv.Close()
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	api, err := service.Describe([]byte(crowded), service.DescribeOptions{BaseURL: srv.URL, HTTP: service.HTTPOptions{Network: service.Network{Allow: []string{u.Host}}}})
	if err != nil {
		t.Fatal(err)
	}
	described, err := service.Describe([]byte(`{"name": "made", "baseURL": "https://made.example", "actions": {"set": {"method": "POST", "path": "/set", "params": {"required": ["allowModel"], "properties": {"allowModel": {"type": "boolean"}, "x": {"type": "integer"}}}}}}`),
		service.DescribeOptions{BaseURL: srv.URL, HTTP: service.HTTPOptions{Network: service.Network{Allow: []string{u.Host}}}})
	if err != nil {
		t.Fatal(err)
	}
	opt := options(t, nil, llmtest.Echo())
	opt.Services = service.Set{"crowded": api, "made": described}
	calls := func(name, config string) string {
		return of(`{"id": "c", "type": "service", "config": {"service": "` + name + `", ` + config + `}, "next": "end"}`)
	}
	run := func(doc, variables string) { // in real time, as there is a server
		t.Helper()
		var in flow.Variables
		if err := json.Unmarshal([]byte(variables), &in); err != nil {
			t.Fatal(err)
		}
		w := flow.Define(parse(t, doc, opt), opt)
		h := pawltest.New(t, w)
		pawltest.Result(h, pawltest.Start(h, w, in))
	}
	run(calls("crowded", `"action": "run", "outputVariable": "done", "params": {"service": "{{variables.which}}", "action": "open", "params": "a&b", "body": {"outputVariable": "x"}}`), `{"which": "a/b"}`)
	equal(t, "asked", got, `/a%2Fb?action=open&params=a%26b {"outputVariable":"x"}`)
	run(calls("made", `"x": 4, "params": {"allowModel": true}`), `{}`)
	equal(t, "asked", got, `/set {"allowModel":true,"x":4}`)

	for name, test := range map[string]struct{ doc, want string }{
		"it is missing":   {calls("crowded", `"action": "run"`), `/steps/0/config: crowded.run needs the parameter "action"; a step has a field of that name, so give it as "params": {"action": …}`},
		"it is unknown":   {calls("crowded", `"params": {"service": "x", "action": "open", "boddy": {}}`), `/steps/0/config/params/boddy: crowded.run has no parameter "boddy"; did you mean "body"?`},
		"its value":       {calls("crowded", `"params": {"service": "x", "action": "opn"}`), `/steps/0/config/params/action: value must be one of`},
		"it stands twice": {calls("made", `"x": 1, "params": {"x": 2, "allowModel": true}`), `/steps/0/config/params/x: the parameter "x" stands beside params too; keep one of the two`},
		"it is no object": {calls("made", `"params": "x"`), "/steps/0/config/params: it is a text and must be an object"},
		"its template":    {calls("made", `"params": {"allowModel": true, "x": "{{variables"}`), "/steps/0/config/params/x: {{variables: it has no end"},
	} {
		t.Run(name, func(t *testing.T) {
			if told := problems(t, test.doc, flow.World{Services: opt.Services}); !strings.Contains(strings.Join(told, "\n"), test.want) {
				t.Errorf("told %q, want %q", told, test.want)
			}
		})
	}
}

// A schema may say what could not be checked here: it is told once, at its place, and stops nothing.
func TestNotesOfSchemas(t *testing.T) {
	set := service.Set{"desk": noted{}}
	f, err := flow.Parse([]byte(of(`{"id": "a", "type": "service", "config": {"service": "desk", "file": "x"}, "next": "b"}`, `{"id": "b", "type": "service", "config": {"service": "desk", "file": "y"}, "next": "end"}`)), flow.World{Services: set})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, p := range f.Warnings {
		if told = append(told, p.Pointer+" "+p.Message); !p.Note || !p.Warning {
			t.Errorf("%+v is no note", p)
		}
	}
	same(t, "told", told, "/steps/0/config nobody knows the desk", "/steps/0/config/file nobody knows the files")
}

type noted struct{ service.Service }

func (noted) Actions() []service.Action {
	return []service.Action{{Name: "send", Params: []byte(`{"type": "object", "x-pawl-note": "nobody knows the desk", "properties": {"file": {"type": "string", "x-pawl-note": "nobody knows the files"}}}`)}}
}

// Problems as an error tell the faults; those that are warnings alone tell these.
func TestProblemsAsAnError(t *testing.T) {
	fault, warning := flow.Problem{Message: "a fault"}, flow.Problem{Message: "a warning", Warning: true}
	for want, ps := range map[string]flow.Problems{
		"a fault": {warning, fault}, "2 problems\na fault\na fault": {fault, warning, fault}, "a warning": {warning}, "2 warnings\na warning\na warning": {warning, warning},
	} {
		equal(t, "told", ps.Error(), want)
	}
}
