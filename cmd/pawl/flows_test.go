package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// write makes or changes a file in the working directory.
func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// says is a flow whose answer, which a script gives, has a text in it.
func says(id, text string) string {
	return `{"id":"` + id + `","name":"Says ` + text + `","steps":[{"id":"say","type":"ai-decision","config":{"prompt":"` + text + `"},"next":"end"}]}`
}

const twoFaults = "id: broken\nsteps:\n  - id: a\n    type: transfrom\n    next: end\n  - id: b\n    type: wait\n    config: {for: approval}\n    next: {approved: c, rejected: end}\n"

func TestDeployTellsAllThatIsWrongAndThenDeploysNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	eachStore(t, func(t *testing.T, h *house) {
		write(t, "flows/a.json", says("a", "hello"))
		write(t, "flows/sub/b.yaml", twoFaults)
		write(t, "flows/sub/empty.yml", "")
		write(t, "flows/.hidden.json", "{")
		write(t, "flows/notes.txt", "none")
		r := pawlAt(t, h.url, "deploy", "flows").want(t, exitUsage, "flows/sub/b.yaml:4:11: ", `did you mean "transform"?`, "flows/sub/b.yaml:9:22: there is no step \"c\" here", "flows/sub/empty.yml: the file is empty", "in 2 files; nothing was deployed")
		if r.stdout != "" || strings.Contains(r.stderr, "a.json") || strings.Contains(r.stderr, "hidden") {
			t.Errorf("%s%s", r.stdout, r.stderr)
		}
		pawlAt(t, h.url, "workflows", "show", "a").want(t, exitNotFound)
		var list struct{ Items []deployedFile }
		r = pawlAt(t, h.url, "deploy", "flows", "-o", "json").want(t, exitUsage)
		if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || len(list.Items) != 3 || !list.Items[0].Valid || list.Items[1].Valid || list.Items[1].Errors[0].Pointer != "/steps/0/type" {
			t.Errorf("%s: %v", r.stdout, err)
		}
		for _, name := range []string{"flows/sub/b.yaml", "flows/sub/empty.yml"} {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		write(t, "flows/sub/b.yml", "id: b\nsteps:\n- id: say\n  type: ai-decision\n  config: {prompt: hello}\n  next: end\n")
		pawlAt(t, h.url, "deploy", "flows", "--dry-run").want(t, 0, "new", "nothing was deployed")
		pawlAt(t, h.url, "workflows", "show", "a").want(t, exitNotFound)
		pawlAt(t, h.url, "deploy", "flows").want(t, 0, "a         1        new  1       flows/a.json", "flows/sub/b.yml")
		pawlAt(t, h.url, "deploy", "flows", "flows/a.json").want(t, 0, "unchanged")
		if r := pawlAt(t, h.url, "deploy", "flows", "-o", "name").want(t, 0); r.stdout != "a\nb\n" {
			t.Errorf("%q", r.stdout)
		}
		pawlAt(t, h.url, "start", "a", "--wait").want(t, 0, "hello")

		// One flow in two files, a number that is taken, a name that is taken, no flow at all.
		write(t, "flows/copy.json", says("a", "other"))
		pawlAt(t, h.url, "deploy", "flows").want(t, exitUsage, `flows/copy.json: flows/a.json is a flow "a" too`)
		write(t, "flows/copy.json", strings.Replace(says("a", "other"), `"id"`, `"version":1,"id"`, 1))
		pawlAt(t, h.url, "deploy", "flows/copy.json").want(t, exitConflict, "flows/copy.json: version 1 of flow a is there", "number it 2")
		write(t, "flows/copy.json", says("echo", "x"))
		pawlAt(t, h.url, "deploy", "flows/copy.json").want(t, exitConflict, "the program has a workflow of that name")
		pawlAt(t, h.url, "deploy", t.TempDir()).want(t, exitUsage, "there is no flow in")
		pawlAt(t, h.url, "deploy", "no-such").want(t, exitUsage, "no-such")
		pawlAt(t, h.url, "deploy").want(t, exitUsage, "needs a file or a folder")
		for _, name := range []string{"flows/copy.json", "flows/sub/b.yml"} {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}, testWorkflows()...)
}

func TestVersionsOfFlowsAreChosen(t *testing.T) {
	t.Chdir(t.TempDir())
	eachStore(t, func(t *testing.T, h *house) {
		for _, text := range []string{"one", "two"} {
			write(t, "a.json", says("a", text))
			pawlAt(t, h.url, "deploy", "a.json").want(t, 0, "new")
		}
		write(t, "a.json", says("a", "three"))
		pawlAt(t, h.url, "deploy", "a.json", "--no-activate").want(t, 0, "a         3        new  2       a.json")
		pawlAt(t, h.url, "workflows", "versions", "a").want(t, 0, "1        before", "2        active", "anyone")
		runs := func(want string) {
			t.Helper()
			pawlAt(t, h.url, "start", "a", "--wait").want(t, 0, want)
		}
		runs("two")
		pawlAt(t, h.url, "workflows", "activate", "a", "3", "--percent", "20").want(t, 0, "version     2, 20% 3")
		pawlAt(t, h.url, "workflows", "list").want(t, 0, "2, 20% 3", "Says three")
		pawlAt(t, h.url, "workflows", "versions", "a").want(t, 0, "3        canary 20%")
		pawlAt(t, h.url, "workflows", "rollback", "a").want(t, 0, "version     2")
		pawlAt(t, h.url, "workflows", "rollback", "a").want(t, 0, "version     1", "before      2")
		runs("one")
		etag := strings.TrimSpace(pawlAt(t, h.url, "workflows", "show", "a", "--jq", ".etag").want(t, 0).stdout)
		pawlAt(t, h.url, "workflows", "activate", "a", "3", "--if-match", etag).want(t, 0, "version     3")
		pawlAt(t, h.url, "workflows", "activate", "a", "1", "--if-match", etag).want(t, exitConflict, "somebody else has changed it")
		runs("three")
		pawlAt(t, h.url, "workflows", "deactivate", "a").want(t, 0, "no run starts", "pawl workflows activate a 3")
		pawlAt(t, h.url, "start", "a").want(t, exitConflict, "no version of flow a is active")
		pawlAt(t, h.url, "workflows", "show", "a").want(t, 0, "version     none", "latest      3", "pawl workflows versions a")

		// What is exported is what was deployed.
		out := pawlAt(t, h.url, "workflows", "export", "a", "--version", "2", "-o", "yaml").want(t, 0, "prompt: two").stdout
		write(t, "again.yaml", out)
		pawlAt(t, h.url, "deploy", "again.yaml").want(t, 0, "a         2        unchanged  2")
		write(t, "again.json", pawlAt(t, h.url, "workflows", "export", "a").want(t, 0).stdout)
		pawlAt(t, h.url, "deploy", "again.json").want(t, 0, "a         2        unchanged  2")

		pawlAt(t, h.url, "workflows", "export", "echo").want(t, exitUsage, "workflow of the program")
		pawlAt(t, h.url, "workflows", "activate", "a", "9").want(t, exitNotFound, "version 9 of flow a")
		pawlAt(t, h.url, "workflows", "activate", "a", "new").want(t, exitUsage, `"new" is no number`)
		pawlAt(t, h.url, "workflows", "rollback", "b").want(t, exitNotFound, "pawl workflows list")
	}, testWorkflows()...)
}

func TestValidateNeedsNoServer(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "bad.yaml", twoFaults)
	write(t, "cut.json", `{"id": "x", "steps": [`)
	write(t, "large.json", `{"id": "`+strings.Repeat("x", 1<<20)+`"}`)
	write(t, "good.json", says("good", "x"))
	nowhere := environment{"PAWL_SERVER": "http://127.0.0.1:1"}
	pawlWith(t, nowhere, "", "validate", "good.json").want(t, 0, "good      valid  good.json")
	pawlWith(t, nowhere, "", "validate", ".").want(t, exitUsage, "bad.yaml:4:11: ", "bad.yaml:9:22: ", "cut.json:1:23: ", "large.json: it can't be read: it is larger than a flow may be", "in 3 files")
	pawlWith(t, nowhere, "", "validate", "good.json", "-o", "json").want(t, 0, `"valid":true`)
	r := pawlWith(t, nowhere, "", "schema").want(t, 0, "ai-decision")
	if !json.Valid([]byte(r.stdout)) {
		t.Errorf("the schema is no JSON: %.100s", r.stdout)
	}
}

func TestAFirstFlowIsMadeRunsAndIsDeployedWhenItIsSaved(t *testing.T) {
	t.Chdir(t.TempDir())
	pawlWith(t, environment{}, "", "init").want(t, 0, "made flows/triage.yaml", "made flow.schema.json", "pawl dev", "pawl start triage")
	pawlWith(t, environment{}, "", "init").want(t, exitConflict, "is there already; nothing was made")
	pawlWith(t, environment{}, "", "init", "other/place").want(t, 0, "made other/place/flows/triage.yaml")
	pawlWith(t, environment{}, "", "validate", "flows").want(t, 0, "valid")
	p := startDev(t, ".", "127.0.0.1:0", environment{})
	url := addressIn(t, &p.stdout, p.ended, &p.stderr)
	pawlAt(t, url, "start", "triage", "--input", `{"ticketText":"The app does not start."}`, "--wait").want(t, 0, "script")
	pawlAt(t, url, "start", "triage", "--input", `{"text":"?"}`).want(t, exitUsage, "ticketText")

	write(t, "flows/greet.json", says("greet", "hello"))
	shows := func(text string) {
		t.Helper()
		eventually(t, func() bool { return strings.Contains(p.stdout.String(), text) }, &p.stdout)
	}
	shows("✓ flows/greet.json: greet version 1")
	pawlAt(t, url, "start", "greet", "--wait").want(t, 0, "hello")
	write(t, "flows/greet.json", says("greet", "good morning"))
	shows("✓ flows/greet.json: greet version 2")
	pawlAt(t, url, "start", "greet", "--wait").want(t, 0, "good morning")
	write(t, "flows/greet.json", strings.Replace(says("greet", "x"), "ai-decision", "ai-decison", 1))
	shows(`did you mean "ai-decision"?`)
	pawlAt(t, url, "start", "greet", "--wait").want(t, 0, "good morning")
	if err := os.Remove("flows/greet.json"); err != nil {
		t.Fatal(err)
	}
	shows("flows/greet.json is gone")
	pawlWith(t, environment{}, "", "dev", "--flows", "no-such").want(t, exitUsage, "--flows: ", "pawl init")
}

func TestTemplatesAreListedAndMade(t *testing.T) {
	t.Chdir(t.TempDir())
	r := pawlWith(t, environment{}, "", "init", "--list", "-o", "name").want(t, 0)
	for name := range strings.FieldsSeq(r.stdout) {
		pawlWith(t, environment{}, "", "init", "--template", name, name).want(t, 0, "made "+name+"/README.md", "made "+name+"/flows/"+name+".yaml", "made "+name+"/flow.schema.json", "pawl start "+name)
		found, err := filesAt(name + "/flows")
		if err != nil || !slices.Equal(found, []string{name + "/flows/" + name + ".yaml"}) {
			t.Errorf("the flows of %s are %q, %v", name, found, err)
		}
	}
	pawlWith(t, environment{}, "", "init", "--list").want(t, 0, "rag-answer", "init --template NAME")
	pawlWith(t, environment{}, "", "init", "--template", "rag-answer", "rag-answer").want(t, exitConflict, "is there already; nothing was made")
	pawlWith(t, environment{}, "", "init", "--template", "rag").want(t, exitUsage, `no template "rag"`, "rag-answer")
	pawlWith(t, environment{}, "", "init", "--list", "here").want(t, exitUsage, "--list makes nothing")
}

// curl sends what a person would type, and returns the answer.
func curl(t *testing.T, method, url, body string) (status int, answer map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		t.Fatalf("%d %s: %v", res.StatusCode, data, err)
	}
	return res.StatusCode, answer
}

// The session of an article: a flow is deployed and executed with curl, the server is killed while the model thinks, and
// the execution completes at the next start.
func TestAnExecutionCompletesThoughItsServerIsKilled(t *testing.T) {
	document, err := os.ReadFile("../../flow/testdata/samples/demo-triage.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, where := range map[string]func(t *testing.T) []string{
		"sqlite":   func(t *testing.T) []string { return nil },
		"postgres": func(t *testing.T) []string { return []string{"--store", pgtest.URL(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			rule := llmtest.Echo()
			rule.Delay = time.Second
			script := llmtest.Script(rule)
			model := httptest.NewServer(llmtest.Server(script))
			defer model.Close()
			env, store := environment{"OPENAI_BASE_URL": model.URL + "/v1"}, where(t)
			p := startDev(t, ".", "127.0.0.1:0", env, store...)
			url := addressIn(t, &p.stdout, p.ended, &p.stderr)

			status, answer := curl(t, "POST", url+"/api/workflows", string(document))
			if status != 200 || answer["success"] != true || answer["workflowId"] != "demo-triage" || answer["version"] != 1.0 {
				t.Fatalf("%d %v", status, answer)
			}
			status, answer = curl(t, "POST", url+"/api/workflows/demo-triage/execute", `{"ticketText":"My card was charged twice."}`)
			id, _ := answer["executionId"].(string)
			if status != 202 || answer["status"] != "started" || id == "" {
				t.Fatalf("%d %v", status, answer)
			}
			eventually(t, func() bool { return len(script.Calls()) > 0 }, &p.stderr)
			p.signal(t, syscall.SIGKILL)

			p = startDev(t, ".", "127.0.0.1:0", env, store...)
			url = addressIn(t, &p.stdout, p.ended, &p.stderr)
			status, answer = curl(t, "GET", url+api.RunPath(id)+"?wait=5m", "")
			if status != 200 || answer["state"] != "completed" || answer["result"] != "billing" {
				t.Fatalf("%d %v", status, answer)
			}
			if !strings.Contains(script.Calls()[0].Messages[len(script.Calls()[0].Messages)-1].Content, "My card was charged twice.") {
				t.Errorf("the model was asked %v", script.Calls()[0])
			}
			// The same again, waited for in one call.
			status, answer = curl(t, "POST", url+"/api/workflows/demo-triage/execute?wait=5m", `{"ticketText":"?"}`)
			if status != 200 || answer["status"] != "completed" || answer["output"] != "billing" {
				t.Errorf("%d %v", status, answer)
			}
		})
	}
}

func TestServeKeepsFlowsAndAsksForScopes(t *testing.T) {
	t.Chdir(t.TempDir())
	url, stop := serving(t, environment{}, "--store", "pawl.db", "--workflows", "flows", "--model", "scripted/script")
	write(t, "triage.yaml", string(firstFlow))
	admin := environment{"PAWL_SERVER": url, "PAWL_API_KEY_FILE": "pawl.db.admin-key"}
	pawlWith(t, admin, "", "workflows", "list").want(t, 0, "no workflow")
	key := func(name string, scopes ...string) environment {
		t.Helper()
		args := []string{"keys", "create", name, "--jq", ".secret"}
		for _, s := range scopes {
			args = append(args, "--scope", s)
		}
		return environment{"PAWL_SERVER": url, "PAWL_API_KEY": strings.TrimSpace(pawlWith(t, admin, "", args...).want(t, 0).stdout)}
	}
	ci, reader := key("ci", "workflows:write"), key("reader", "runs:read", "runs:start")
	pawlWith(t, reader, "", "deploy", "triage.yaml").want(t, exitAuth, "workflows:write")
	pawlWith(t, ci, "", "deploy", "triage.yaml").want(t, 0, "new")
	pawlWith(t, reader, "", "workflows", "export", "triage").want(t, exitAuth, "workflows:read")
	pawlWith(t, reader, "", "start", "triage", "--input", `{"ticketText":"x"}`, "--wait").want(t, 0, "script")
	stop()
	url, _ = serving(t, environment{}, "--store", "pawl.db", "--workflows", "flows") // no model is there, and none is named
	reader["PAWL_SERVER"] = url
	pawlWith(t, reader, "", "start", "triage", "--input", `{"ticketText":"x"}`, "--wait").want(t, exitRunFailed, "no model can be asked")
}

func TestCheckKnowsFlows(t *testing.T) {
	t.Chdir(t.TempDir())
	url, stop := dev(t, environment{})
	write(t, "asks.json", `{"id":"asks","steps":[{"id":"ask","type":"wait","config":{"for":"approval"},"next":{"approved":"end","rejected":"end"}}]}`)
	pawlAt(t, url, "deploy", "asks.json").want(t, 0)
	pawlAt(t, url, "start", "asks", "--id", "a").want(t, 0, "approve")
	stop()
	pawlWith(t, environment{}, "", "check").want(t, 0, "1 run fits")
}

func TestFlowsAreDeployedBehindWhatTheyRun(t *testing.T) {
	var files []deployedFile
	for _, doc := range []string{
		`{"id": "a", "steps": [{"id": "x", "type": "parallel", "config": {"branches": [{"id": "l", "steps": [{"id": "w", "type": "workflow", "config": {"workflow": "c"}}]}]}}]}`,
		`{"id": "b", "steps": [{"id": "x", "type": "agent", "config": {"tools": ["flow:a", {"use": "flow:d"}]}}]}`,
		"id: c\nsteps:\n  - {id: w, type: workflow, config: {workflow: b}}\n", `{"id": "d", "steps": []}`, `{`,
	} {
		files = append(files, deployedFile{File: doc[:min(len(doc), 10)], data: []byte(doc)})
	}
	childrenFirst(files)
	var order []string
	for _, f := range files {
		order = append(order, f.File)
	}
	if got, want := strings.Join(order, "|"), "{\"id\": \"d\"|{\"id\": \"b\"|id: c\nstep|{\"id\": \"a\"|{"; got != want {
		t.Errorf("the order is %q, want %q", got, want)
	}
}
