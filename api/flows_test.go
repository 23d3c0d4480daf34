package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// as sends a body under a media type.
func sentAs(media string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Content-Type", media) }
}

const yamlFlow = "id: greets\nname: Greeter\nsteps:\n- id: say\n  type: service\n  config: {service: desk, text: '{{variables.who}}'}\n  next: end\n"

func TestAFlowIsDeployedAndExecutedByRequestsOfAnyClient(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		var d api.Deployed
		h.ok(200, "POST", "/api/workflows", aFlow("hello", "{{variables.ticketText}}"), &d)
		if !d.Success || d.WorkflowID != "hello" || d.Version != 1 || d.Existed || d.Active != 1 {
			t.Errorf("%+v", d)
		}
		for _, media := range []string{"application/yaml", "application/x-yaml; charset=utf-8", "text/yaml", ""} {
			r := h.send("POST", "/api/workflows", yamlFlow, sentAs(media))
			if r.into(t, &d); r.status != 200 || d.WorkflowID != "greets" || d.Version != 1 {
				t.Errorf("YAML as %q: %d %s", media, r.status, r.body)
			}
		}
		if p := h.refused(400, "bad_request", "POST", "/api/workflows", yamlFlow, sentAs("application/json")); !strings.Contains(p.Detail, "application/yaml") {
			t.Errorf("%+v", p)
		}
		if p := h.refused(400, "bad_request", "POST", "/api/workflows", strings.ReplaceAll(yamlFlow, "\n", ""), sentAs("application/x-www-form-urlencoded")); !strings.Contains(p.Hint, "--data-binary") {
			t.Errorf("%+v", p)
		}
		h.refused(400, "bad_request", "POST", "/api/workflows", " \n")
		h.refused(413, "too_large", "POST", "/api/workflows", `{"id":"`+strings.Repeat("x", 1<<20)+`"}`)
		h.refused(400, "input", "POST", "/api/workflows", "[]")
		h.refused(400, "input", "POST", "/api/workflows", `{"id":"a","id":"b"}`)

		// It runs, whatever the client says of the body.
		r := h.send("POST", "/api/workflows/hello/execute?wait=20s", `{"ticketText":"it burns"}`, sentAs("application/x-www-form-urlencoded"))
		var e api.Execution
		if r.into(t, &e); r.status != 200 || e.Status != "completed" || string(e.Output) != `{"text":"it burns"}` || e.WorkflowID != "hello" || e.Version != "1" || r.header.Get("Location") != api.RunPath(e.ExecutionID) {
			t.Errorf("%d %s %v", r.status, r.body, r.header)
		}
		r = h.send("POST", "/api/workflows/hello/execute", `{"ticketText":"it burns"}`)
		if r.into(t, &e); r.status != 202 || e.Status != "started" || e.ExecutionID == "" {
			t.Errorf("%d %s", r.status, r.body)
		}
		// A step that can't be filled in fails the run, and says so.
		r = h.send("POST", "/api/workflows/hello/execute?wait=20s", "")
		if r.into(t, &e); r.status != 200 || e.Status != "failed" || e.Error == nil || !strings.Contains(e.Error.Message, "ticketText") {
			t.Errorf("%d %s", r.status, r.body)
		}
		h.refused(400, "input", "POST", "/api/workflows/hello/execute", `["it burns"]`)
		h.refused(400, "bad_request", "POST", "/api/workflows/hello/execute?version=0", `{}`)
		h.refused(404, "not_found", "POST", "/api/workflows/hello/execute?version=9", `{}`)
		h.refused(400, "bad_request", "POST", "/api/workflows/echo/execute?version=1", `{}`)
		if p := h.refused(404, "unknown_workflow", "POST", "/api/workflows/helo/execute", `{}`); p.Hint != `did you mean "hello"?` {
			t.Errorf("%+v", p)
		}
		h.refused(404, "unknown_workflow", "POST", "/api/workflows/helo/execute?version=1", `{}`)
	})
}

func TestAllThatIsWrongWithAFlowIsToldAtOnce(t *testing.T) {
	h := open(t, api.Options{})
	doc := "{\n  \"id\": \"bad\",\n  \"steps\": [\n    {\"id\": \"a\", \"type\": \"service\", \"config\": {\"service\": \"dusk\"}, \"next\": \"b\"},\n    {\"id\": \"a\", \"type\": \"transfrom\", \"next\": \"end\"},\n" +
		"    {\"id\": \"c\", \"type\": \"ai-decision\", \"config\": {\"prompt\": \"?\", \"outputFormat\": \"number\"}, \"next\": {\"x\": \"end\"}}\n  ]\n}"
	p := h.refused(400, "input", "POST", "/api/workflows", doc)
	if len(p.Errors) < 4 {
		t.Errorf("%+v", p.Errors)
	}
	want := map[string]string{"/steps/0/config/service": `did you mean "desk"?`, "/steps/0/next": "", "/steps/1/type": `did you mean "transform"?`}
	for _, f := range p.Errors {
		if hint, ok := want[f.Pointer]; ok && (f.Line == 0 || f.Column == 0 || f.Message == "" || hint != "" && f.Hint != hint) {
			t.Errorf("%+v, want the hint %q", f, hint)
		}
		delete(want, f.Pointer)
	}
	if len(want) > 0 || len(p.Warnings) == 0 || !strings.Contains(p.Detail, "more problems") {
		t.Errorf("%v is not told; warnings %v, %s", want, p.Warnings, p.Detail)
	}
	var v api.Validation
	h.ok(200, "POST", "/api/workflows/validate", doc, &v)
	if v.Valid || !slices.Equal(v.Errors, p.Errors) || !slices.Equal(v.Warnings, p.Warnings) {
		t.Errorf("%+v", v)
	}
	// Nothing of it is there.
	h.refused(404, "unknown_workflow", "GET", "/api/workflows/bad", "")
	// The client has them too.
	_, err := h.client.Deploy(t.Context(), []byte(doc), api.DeployOptions{})
	if problem, ok := errors.AsType[*api.Problem](err); !ok || !errors.Is(err, pawl.ErrInput) || !slices.Equal(problem.Errors, p.Errors) {
		t.Errorf("%v", err)
	}
	// Of a body for another flow it is said too.
	h.ok(200, "POST", "/api/workflows/other/validate", aFlow("hello", "x"), &v)
	if v.Valid || len(v.Errors) != 1 || v.Errors[0].Pointer != "/id" {
		t.Errorf("%+v", v)
	}
}

func TestVersionsOfAFlow(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		numbered := func(n int, text string) string {
			return strings.Replace(aFlow("v", text), `{"id"`, fmt.Sprintf(`{"version":%d,"id"`, n), 1)
		}
		deploy := func(query, doc string) (d api.Deployed) {
			t.Helper()
			h.ok(200, "POST", "/api/workflows"+query, doc, &d)
			return d
		}
		if d := deploy("?dryRun=true", numbered(3, "a")); !d.DryRun || d.Version != 3 || d.Active != 3 || d.Existed {
			t.Errorf("%+v", d)
		}
		h.refused(404, "not_found", "GET", "/api/workflows/v/versions", "")
		if d := deploy("", numbered(3, "a")); d.Version != 3 || d.Existed {
			t.Errorf("%+v", d)
		}
		if d := deploy("?dryRun=true", numbered(3, "a")); !d.Existed {
			t.Errorf("%+v", d)
		}
		for _, query := range []string{"", "?dryRun=true"} {
			if p := h.refused(409, "conflict", "POST", "/api/workflows"+query, numbered(3, "b")); !strings.Contains(p.Detail, "number it 4") {
				t.Errorf("%+v", p)
			}
			h.refused(409, "duplicate", "POST", "/api/workflows"+query, aFlow("echo", "b"))
		}
		if d := deploy("?activate=false", aFlow("v", "b")); d.Version != 4 || d.Active != 3 {
			t.Errorf("%+v", d)
		}
		started := func(query, text string) {
			t.Helper()
			var e api.Execution
			h.ok(200, "POST", "/api/workflows/v/execute?wait=20s"+query, `{}`, &e)
			if string(e.Output) != fmt.Sprintf(`{"text":%q}`, text) {
				t.Errorf("%+v, want %s", e, text)
			}
		}
		started("", "a")
		started("&version=4", "b")

		// Changes are made if the flow still is as it was.
		r := h.send("GET", "/api/workflows/v", "")
		var w api.Workflow
		r.into(t, &w)
		tag := r.header.Get("ETag")
		if tag == "" || w.ETag != tag || w.Active != 3 || w.Latest != 4 || w.Kind != api.KindFlow || w.Version != "3" {
			t.Errorf("%s %+v", tag, w)
		}
		match := func(tag string) func(*http.Request) {
			return func(r *http.Request) { r.Header.Set("If-Match", tag) }
		}
		if r := h.send("POST", "/api/workflows/v/activate", `{"version":4}`, match(tag)); r.status != 200 || r.header.Get("ETag") == tag {
			t.Errorf("%d %s", r.status, r.body)
		}
		for _, verb := range []string{"rollback", "deactivate"} {
			h.refused(412, "changed", "POST", "/api/workflows/v/"+verb, "", match(tag))
		}
		h.refused(412, "changed", "POST", "/api/workflows/v/activate", `{"version":3}`, match(tag))
		started("", "b")
		h.ok(200, "POST", "/api/workflows/v/rollback", "", &w)
		started("", "a")
		for _, body := range []string{`{}`, `{"version":0}`, `{"version":"3"}`, `{"version":3,"percent":"5%"}`, `{"version":3,"share":5}`} {
			h.refused(400, "bad_request", "POST", "/api/workflows/v/activate", body)
		}
		h.refused(400, "input", "POST", "/api/workflows/v/activate", `{"version":4,"percent":101}`)
		h.refused(404, "not_found", "POST", "/api/workflows/v/activate", `{"version":9}`)
		if p := h.refused(404, "not_found", "POST", "/api/workflows/echo/deactivate", ""); !strings.Contains(p.Detail, "workflow of the program") {
			t.Errorf("%+v", p)
		}
		h.ok(200, "POST", "/api/workflows/v/deactivate", "", &w)
		h.refused(409, "state", "POST", "/api/workflows/v/execute", `{}`)
		started("&version=4", "b")
	})
}

func TestAnExecutionIsMadeOncePerKey(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		if _, err := h.client.Deploy(t.Context(), []byte(aFlow("hello", "{{variables.n}}")), api.DeployOptions{}); err != nil {
			t.Fatal(err)
		}
		once := func(r *http.Request) { r.Header.Set("Idempotency-Key", "k") }
		var first, again api.Execution
		h.send("POST", "/api/workflows/hello/execute", `{"n":"1"}`, once).into(t, &first)
		r := h.send("POST", "/api/workflows/hello/execute?wait=20s", `{"n":"1"}`, once)
		if r.into(t, &again); again.ExecutionID != first.ExecutionID || !again.Existed || r.header.Get("Idempotency-Replayed") != "true" || string(again.Output) != `{"text":"1"}` {
			t.Errorf("%s, first %+v", r.body, first)
		}
		h.refused(422, "idempotency_key", "POST", "/api/workflows/hello/execute", `{"n":"2"}`, once)
		deploy := func(r *http.Request) { r.Header.Set("Idempotency-Key", "d") }
		for range 2 {
			if r := h.send("POST", "/api/workflows", aFlow("twice", "x"), deploy); r.status != 200 {
				t.Errorf("%d %s", r.status, r.body)
			}
		}
		h.refused(422, "idempotency_key", "POST", "/api/workflows", aFlow("twice", "y"), deploy)
	})
}

func TestFlowsAndCodeStandInOneList(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		doc := strings.Replace(aFlow("middle", "{{variables.b}}"), `{"id"`, `{"name":"In the middle","inputs":{"type":"object","required":["b"],"properties":{"a":{"type":["string","null"]},"b":{"type":"string"},"c":{"enum":["x","y"]},"d":{"enum":[1,"y"]}}},"id"`, 1)
		for _, doc := range []string{doc, aFlow("Zed", "x"), aFlow("aa", "x"), aFlow("zz", "x")} {
			if _, err := h.client.Deploy(t.Context(), []byte(doc), api.DeployOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		whole, err := h.client.Workflows(t.Context(), "", 500)
		if err != nil || whole.NextCursor != "" {
			t.Fatal(whole, err)
		}
		var names []string
		for cursor, more := "", true; more; more = cursor != "" {
			page, err := h.client.Workflows(t.Context(), cursor, 3)
			if err != nil || len(page.Items) == 0 || len(page.Items) > 3 {
				t.Fatal(page, err)
			}
			for _, w := range page.Items {
				names = append(names, w.Name)
				if flow := slices.Contains([]string{"Zed", "aa", "middle", "zz"}, w.Name); flow != (w.Kind == api.KindFlow) || flow != (w.Active == 1) {
					t.Errorf("%+v", w)
				}
			}
			cursor = page.NextCursor
		}
		if !slices.IsSorted(names) || len(names) != len(whole.Items) || len(names) != 16 {
			t.Errorf("%q", names)
		}
		w, err := h.client.Workflow(t.Context(), "middle")
		want := []pawl.Field{{Name: "b", Kind: "string"}, {Name: "a", Kind: "any", Optional: true},
			{Name: "c", Kind: "string", Optional: true, Values: []json.RawMessage{[]byte(`"x"`), []byte(`"y"`)}}, {Name: "d", Kind: "any", Optional: true, Values: []json.RawMessage{[]byte(`1`), []byte(`"y"`)}}}
		if err != nil || w.Title != "In the middle" || !reflect.DeepEqual(w.Fields, want) || !strings.Contains(string(w.Inputs), `"required"`) {
			t.Errorf("%+v %v", w, err)
		}
		// A start without what it takes is refused, and none is made.
		h.refused(400, "input", "POST", "/api/workflows/middle/execute", `{"a":"x"}`)
	})
}

// What one server has deployed, another of the same store starts at once, and a worker that has not seen it runs it.
func TestAnotherServerStartsAFlowAtOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		a := openOn(t, store(), api.Options{})
		engine := pawl.New(store(), clientOptions())
		defer engine.Close()
		b := api.New(engine, api.Options{Flows: flowsOf(t, engine)})
		if _, err := a.client.Deploy(t.Context(), []byte(aFlow("hello", "from afar")), api.DeployOptions{}); err != nil {
			t.Fatal(err)
		}
		post := func(status int, path, body string, into any) {
			t.Helper()
			req, err := http.NewRequest("POST", "http://localhost/api/workflows"+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			rec := (&house{t: t, handler: b}).direct(req)
			if err := json.Unmarshal(rec.Body.Bytes(), into); err != nil || rec.Code != status {
				t.Fatal(rec.Code, rec.Body)
			}
		}
		post(200, "", aFlow("other", "from here"), &api.Deployed{})
		for id, text := range map[string]string{"hello": "from afar", "other": "from here"} {
			var e api.Execution
			post(202, "/"+id+"/execute", `{}`, &e)
			if run, err := a.client.Run(t.Context(), e.ExecutionID, time.Minute); err != nil || string(run.Result) != fmt.Sprintf(`{"text":%q}`, text) {
				t.Errorf("%+v %v", run, err)
			}
		}
	})
}

func TestAServerWithoutFlowsSaysSo(t *testing.T) {
	h := still(t, api.Options{})
	for _, call := range []string{"POST /api/workflows", "POST /api/workflows/validate", "POST /api/workflows/w/validate", "GET /api/workflows/w/versions", "GET /api/workflows/w/versions/1",
		"POST /api/workflows/w/activate", "POST /api/workflows/w/rollback", "POST /api/workflows/w/deactivate", "POST /api/workflows/echo/execute?version=1"} {
		method, path, _ := strings.Cut(call, " ")
		body := ""
		if strings.HasSuffix(path, "activate") {
			body = `{"version":1}`
		}
		if strings.HasSuffix(path, "deactivate") || strings.HasSuffix(path, "rollback") {
			body = ""
		}
		req, err := http.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		rec := (&house{t: t, handler: h}).direct(req)
		if rec.Code != 404 || !strings.Contains(rec.Body.String(), "keeps no flows") {
			t.Errorf("%s: %d %s", call, rec.Code, rec.Body)
		}
	}
}

// A step that starts another tenant's flow fails as one that starts what is not there, to the letter.
func TestAFlowCannotTellWhatOtherTenantsHave(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()})
		_, theirs := h.key("b", api.Admin)
		_, ours := h.key("a", api.Admin)
		if _, err := h.as(theirs).Deploy(t.Context(), []byte(aFlow("secret-plan", "x")), api.DeployOptions{}); err != nil {
			t.Fatal(err)
		}
		said := map[string]string{}
		for _, child := range []string{"secret-plan", "secret-plot"} {
			doc := fmt.Sprintf(`{"id":"asks-%s","steps":[{"id":"call","type":"workflow","config":{"workflow":%q},"next":"end"}]}`, child, child)
			if _, err := h.as(ours).Deploy(t.Context(), []byte(doc), api.DeployOptions{}); err != nil {
				t.Fatal(err)
			}
			e, err := h.as(ours).Execute(t.Context(), "asks-"+child, nil, 0, 20*time.Second)
			if err != nil || e.Status != "failed" {
				t.Fatalf("%+v %v", e, err)
			}
			said[child] = strings.ReplaceAll(fmt.Sprintf("%+v", *e.Error), child, "it")
		}
		if said["secret-plan"] != said["secret-plot"] || strings.Contains(said["secret-plot"], "secret-plan") {
			t.Errorf("told is\n%s\nand\n%s", said["secret-plan"], said["secret-plot"])
		}
	})
}
