package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

func TestStartAndFollow(t *testing.T) {
	h := serve(t, testWorkflows()...)
	r := pawlAt(t, h.url, "start", "echo", "--input", `{"a":"<b>"}`, "--id", "one").want(t, 0, "pawl runs follow one")
	if r.stdout != "one\n" {
		t.Errorf("stdout %q, want the id alone", r.stdout)
	}
	pawlAt(t, h.url, "runs", "follow", "one").want(t, 0, "input", "✓ say", "completed in", `"a": "<b>"`)
	pawlAt(t, h.url, "start", "echo", "--input", `{"a":"<b>"}`, "--id", "one").want(t, 0, "one", "it was there already, completed")
	pawlAt(t, h.url, "start", "flaky", "--follow").want(t, 0, "! call (attempt 1)", "try again; again in", "✓ call (attempt 2)", "well")
	pawlAt(t, h.url, "start", "chain", "--input", "2", "--follow").want(t, 0, "goes on as", "end of the chain")

	r = pawlAt(t, h.url, "start", "fails", "--input", `"card declined"`, "--id", "two", "--follow").
		want(t, 8, "✗ charge", "card declined", "run two failed", "pawl runs retry two")
	if !strings.Contains(r.stderr, "card declined") {
		t.Errorf("the reason is not on stderr: %s", r.stderr)
	}
	pawlAt(t, h.url, "runs", "follow", "two").want(t, 8)
	pawlAt(t, h.url, "start", "fails", "--input", `"no"`, "--wait").want(t, 8, "no")
	if r := pawlAt(t, h.url, "start", "echo", "--input", `[1]`, "--wait").want(t, 0); r.stdout != "[\n  1\n]\n" {
		t.Errorf("--wait prints %q", r.stdout)
	}
	if r := pawlAt(t, h.url, "start", "echo", "--input", `[1]`, "--id", "w", "--wait", "-o", "json").want(t, 0); !strings.Contains(r.stdout, `"result":[1]`) {
		t.Errorf("--wait -o json prints %q", r.stdout)
	}
	pawlAt(t, h.url, "start", "echo", "--wait", "--follow").want(t, 2)
}

func TestInputComesFromAnywhere(t *testing.T) {
	h := serve(t, testWorkflows()...)
	env := environment{"PAWL_SERVER": h.url}
	file := filepath.Join(t.TempDir(), "input.json")
	if err := os.WriteFile(file, []byte(`{"from": "file"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	pawlWith(t, env, "", "start", "echo", "--wait", "--input", "@"+file).want(t, 0, `"from": "file"`)
	pawlWith(t, env, ` "stdin" `, "start", "echo", "--wait", "--input", "-").want(t, 0, "stdin")
	pawlWith(t, env, "", "start", "echo", "--wait").want(t, 0, "null")
	pawlWith(t, env, "", "start", "echo", "--input", "@"+file+".no").want(t, 2, "no such file")
	pawlWith(t, env, "", "start", "echo", "--input", "{topic: x}").want(t, 2, "is not JSON", "single quotes")
	pawlWith(t, env, "{", "start", "echo", "--input", "-").want(t, 2, "standard input is not JSON")
}

func TestExitCodesAndWhatToDoNext(t *testing.T) {
	h := serve(t, testWorkflows()...)
	pawlAt(t, h.url, "start", "waits", "--id", "open").want(t, 0)
	pawlAt(t, h.url, "start", "echo", "--id", "done", "--wait").want(t, 0)
	for _, c := range []struct {
		args string
		code int
		text string
	}{
		{"start eco", 3, `did you mean "echo"?`},
		{"start", 2, "there are: chain, echo, fails, flaky, hooks, says, sleeps, waits"},
		{"start echo 1 2", 2, "takes one WORKFLOW"},
		{"start echo --inptu x", 2, "unknown flag"},
		{"start echo --input 1 --id done", 5, "pawl runs show done"},
		{"runs show nobody", 3, "pawl runs list"},
		{"runs follow nobody", 3, "run nobody: not found"},
		{"runs cancel nobody", 3, "nobody"},
		{"runs cancel done", 5, "pawl runs fork done"},
		{"runs retry open", 5, "pawl runs show open"},
		{"runs resume open", 5, "not possible"},
		{"runs pause done", 5, "ended"},
		{"runs fork done --from nope", 3, "nope"},
		{"signal nobody review", 3, "nobody"},
		{"signal done review", 5, "ended"},
		{"signal", 2, "needs a RUN, and an EVENT"},
		{"signal done", 5, "waits for no event: it is completed"},
		{"signal open review --data {", 2, "not JSON"},
		{"runs", 0, "Available Commands"},
		{"runs lsit", 2, `did you mean "list"?`},
		{"rums", 2, "unknown command"},
		{"runs list --state done", 2, "completed"},
		{"runs list --attr x", 2, "name=value"},
		{"runs list --limit 0", 0, "open"},
		{"runs list --limit 501", 1, "limit"},
		{"runs list --cursor x", 1, "cursor"},
		{"runs list x", 2, "takes no argument"},
		{"runs list -o xml", 2, "one of table, wide, json, jsonl, yaml, name"},
		{"runs list --json id -o name", 2, "don't go with"},
		{"runs list --json idd", 2, "there are: id, tenant"},
		{"runs list --jq .items[", 2, "--jq"},
		{"runs result open", 5, "no result yet"},
		{"start echo --wait --timeout 1x", 2, "invalid"},
		{"runs cancel", 2, "--all means every one"},
		{"runs cancel open --all", 2, "not both"},
		{"context use nobody", 3, "context set nobody"},
		{"stream open words", 3, "no stream"},
		{"hooks send nobody", 3, "not found"},
		{"runs list --server localhost:1", 7, "http://localhost:1"},
		{"--help", 0, "Exit codes"},
		{"start --help", 0, "--follow"},
	} {
		r := pawlAt(t, h.url, strings.Fields(c.args)...)
		if r.code != c.code || !strings.Contains(r.stdout+r.stderr, c.text) {
			t.Errorf("pawl %s: code %d, want %d with %q\nstdout: %s\nstderr: %s", c.args, r.code, c.code, c.text, r.stdout, r.stderr)
		}
		if c.code != 0 && r.stdout != "" {
			t.Errorf("pawl %s: an error on stdout: %s", c.args, r.stdout)
		}
	}
}

func TestWithoutAServer(t *testing.T) {
	nowhere := "http://127.0.0.1:1"
	for _, args := range []string{"start echo", "start echo --follow", "runs list", "runs show x", "runs follow x", "runs cancel x", "runs retry x", "runs fork x", "signal x y"} {
		r := pawlWith(t, environment{}, "", append(strings.Fields(args), "--server", nowhere)...)
		r.want(t, 7, "no pawl server answers at "+nowhere, "pawl dev", "PAWL_SERVER")
	}
	pawlWith(t, environment{}, "", "start", "--server", nowhere).want(t, 2, "needs a WORKFLOW")
	// The hint names the server that was asked, where it is not the default.
	h := serve(t, testWorkflows()...)
	pawlWith(t, environment{}, "", "start", "echo", "--id", "a b", "--server", h.url).want(t, 0, "pawl runs follow 'a b' --server "+h.url)
}

// -o json prints the bytes that the API answers.
func TestJSONIsTheAPIs(t *testing.T) {
	h := serve(t, testWorkflows()...)
	pawlAt(t, h.url, "start", "waits", "--id", "j").want(t, 0)
	until(t, h.client, "j", pawl.Waiting)
	pawlAt(t, h.url, "start", "echo", "--id", "e", "--input", `"<&>"`, "--wait").want(t, 0)
	get := func(path string) string {
		res, err := http.Get(h.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	for args, path := range map[string]string{
		"runs list -o json --limit 1": "/api/runs?limit=1",
		"runs list -o json":           "/api/runs",
		"runs show e -o json":         "/api/runs/e",
		"runs show j -o json":         "/api/runs/j",
	} {
		if r := pawlAt(t, h.url, strings.Fields(args)...).want(t, 0); r.stdout != get(path) {
			t.Errorf("pawl %s:\n%swant\n%s", args, r.stdout, get(path))
		}
	}
	r := pawlAt(t, h.url, "runs", "follow", "e", "-o", "json").want(t, 0)
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	for i, line := range lines[:len(lines)-1] {
		var entry pawl.Entry
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Seq != int64(i) {
			t.Errorf("line %d is %s: %v", i, line, err)
		}
	}
	var end api.Run
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &end); err != nil || end.ID != "e" || end.State != pawl.Completed || len(lines) != 4 {
		t.Errorf("%d lines, the last is %s", len(lines), lines[len(lines)-1])
	}
	for _, args := range []string{"runs pause j", "runs resume j", "signal j review --data 1", "runs fork e --id f", "start echo --id g"} {
		var run api.Run
		r := pawlAt(t, h.url, append(strings.Fields(args), "-o", "json")...).want(t, 0)
		if err := json.Unmarshal([]byte(r.stdout), &run); err != nil || run.ID == "" || r.stderr != "" {
			t.Errorf("pawl %s: %s%s", args, r.stdout, r.stderr)
		}
		if strings.HasPrefix(args, "runs pause") {
			until(t, h.client, "j", pawl.Paused)
		}
	}
}

func TestListAndShow(t *testing.T) {
	h := serve(t, testWorkflows()...)
	pawlAt(t, h.url, "runs", "list").want(t, 0, "no runs", "pawl start")
	for i := range 3 {
		if _, err := h.client.Start(t.Context(), api.StartRequest{Workflow: "waits", ID: fmt.Sprint("r", i), Attributes: map[string]any{"n": i % 2}}, 0); err != nil {
			t.Fatal(err)
		}
	}
	until(t, h.client, "r0", pawl.Waiting)
	r := pawlAt(t, h.url, "runs", "list", "--attr", "n=0").want(t, 0, "ID", "WORKFLOW", "STATE", "n=0")
	if strings.Contains(r.stdout, "r1") || !strings.Contains(r.stdout, "r2") {
		t.Errorf("--attr: %s", r.stdout)
	}
	r = pawlAt(t, h.url, "runs", "ls", "--limit", "2").want(t, 0, "there are more", "--cursor")
	cursor := strings.TrimSpace(r.stderr[strings.LastIndex(r.stderr, " "):])
	if r := pawlAt(t, h.url, "run", "list", "--cursor", cursor).want(t, 0, "r0"); strings.Contains(r.stdout, "r1") {
		t.Errorf("--cursor: %s", r.stdout)
	}
	if r := pawlAt(t, h.url, "runs", "list", "--state", "failed,cancelled", "--workflow", "waits").want(t, 0); r.stdout != "" {
		t.Errorf("--state: %s", r.stdout)
	}
	pawlAt(t, h.url, "runs", "show", "r0").want(t, 0, "waits", "state       waiting", `for the event "review"`, "n=0", "SEQ", "input")
	pawlAt(t, h.url, "runs", "cancel", "r0", "--reason", "not needed").want(t, 0, "r0")
	until(t, h.client, "r0", pawl.Cancelled)
	pawlAt(t, h.url, "runs", "show", "r0").want(t, 0, "not needed", "$cancel")
	pawlAt(t, h.url, "start", "flaky", "--id", "f", "--wait").want(t, 0)
	pawlAt(t, h.url, "runs", "show", "f").want(t, 0, "attempt", "try again; again in", "result\nwell")
}

func TestFollowSaysWhatARunWaitsFor(t *testing.T) {
	h := serve(t, testWorkflows()...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr lockedBuffer
	ended := make(chan int)
	follow := func() {
		ended <- run(ctx, []string{"pawl", "start", "waits", "--id", "w", "--follow"}, environment{"PAWL_SERVER": h.url}.get, strings.NewReader(""), &stdout, &stderr)
	}
	go follow()
	eventually(t, func() bool {
		return strings.Contains(stdout.String(), `waiting: it waits for the event "review"`) && strings.Contains(stderr.String(), "pawl signal w review --data JSON")
	}, &stdout)
	pawlAt(t, h.url, "runs", "pause", "w").want(t, 0)
	eventually(t, func() bool { return strings.Contains(stderr.String(), "pawl runs resume w") }, &stderr)

	// An interrupt ends the watch, not the run.
	cancel()
	if code := <-ended; code != 130 || !strings.Contains(stderr.String(), "the run goes on") || !strings.Contains(stderr.String(), "pawl runs follow w") {
		t.Errorf("code %d, stderr %s", code, &stderr)
	}
	pawlAt(t, h.url, "runs", "resume", "w").want(t, 0)
	pawlAt(t, h.url, "signal", "w", "review", "--data", `"fine"`).want(t, 0, "w ")
	pawlAt(t, h.url, "runs", "follow", "w").want(t, 0, "fine")
}

// What comes from outside can't drive the terminal.
func TestOutputIsCleaned(t *testing.T) {
	h := serve(t, testWorkflows()...)
	evil := "\x1b[2J\x1b]0;x\x07\u202Eevil\u009b31m\r\x08"
	id := "id" + evil
	why, err := json.Marshal(evil)
	if err != nil {
		t.Fatal(err)
	}
	outputs := []result{
		pawlAt(t, h.url, "start", "fails", "--id", id, "--input", string(why), "--follow").want(t, 8),
		pawlAt(t, h.url, "runs", "list").want(t, 0),
		pawlAt(t, h.url, "runs", "show", id).want(t, 0),
		pawlAt(t, h.url, "runs", "show", "no"+evil).want(t, 3),
		pawlAt(t, h.url, "start", "echo", "--input", string(why), "--wait").want(t, 0),
		pawlAt(t, h.url, "start", evil).want(t, 3),
		pawlAt(t, h.url, evil).want(t, 2),
		pawlAt(t, h.url, "runs", "list", "--"+evil).want(t, 2),
	}
	for _, r := range outputs {
		for _, out := range []string{r.stdout, r.stderr} {
			if i := strings.IndexFunc(out, dangerous); i >= 0 {
				t.Errorf("%q stands in %q", out[i:i+3], out)
			}
		}
		if !strings.Contains(r.stdout+r.stderr, "evil") {
			t.Errorf("the text itself is gone: %s%s", r.stdout, r.stderr)
		}
	}
	outputs = evilEverywhere(t, evil)
	for _, r := range outputs {
		for _, out := range []string{r.stdout, r.stderr} {
			if i := strings.IndexFunc(out, dangerous); i >= 0 {
				t.Errorf("%q stands in %q", out[i:min(i+3, len(out))], out)
			}
		}
	}
	p := &printer{w: &strings.Builder{}, tty: true}
	p.json([]byte(`{"a":"` + "\u202e\u009b" + `"}` + "\n"))
	if got := p.w.(*strings.Builder).String(); got != `{"a":"\u202e\u009b"}`+"\n" {
		t.Errorf("JSON on a terminal: %s", got)
	}
	p = &printer{w: &strings.Builder{}, color: true}
	p.line("%s %s", p.red("a\x1b[0m"), "\x1b[31mb")
	if got := p.w.(*strings.Builder).String(); got != "\x1b[31ma[0m\x1b[0m [31mb\n" {
		t.Errorf("%q", got)
	}
}

func TestCompletion(t *testing.T) {
	h := serve(t, testWorkflows()...)
	pawlAt(t, h.url, "start", "waits", "--id", "abc").want(t, 0)
	for args, want := range map[string]string{
		"start|":                "chain echo fails flaky hooks says sleeps waits",
		"start|echo|":           "",
		"runs|show|":            "abc",
		"runs|cancel|a":         "abc",
		"signal|":               "abc",
		"runs|list|--state|":    "pending running waiting completed failed cancelled paused blocked",
		"runs|list|--workflow|": "chain echo fails flaky hooks says sleeps waits",
		"runs|list|-o|":         "table wide json jsonl yaml name",
		"stream|abc|":           "",
	} {
		r := pawlAt(t, h.url, append([]string{"__complete"}, strings.Split(args, "|")...)...).want(t, 0)
		words, _, _ := strings.Cut(r.stdout, ":4")
		if got := strings.Join(strings.Fields(words), " "); got != want {
			t.Errorf("completing %s: %q, want %q", args, got, want)
		}
		pawlWith(t, environment{}, "", append([]string{"__complete", "--server", "http://127.0.0.1:1"}, strings.Split(args, "|")...)...).want(t, 0)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		pawlAt(t, h.url, "completion", shell).want(t, 0, "pawl")
	}
}

func TestVersion(t *testing.T) {
	r := pawlWith(t, environment{}, "", "version").want(t, 0, "pawl ", "go      go1.", "sqlite  3.")
	if r.stderr != "" {
		t.Error(r.stderr)
	}
	var v versions
	r = pawlWith(t, environment{}, "", "version", "-o", "json").want(t, 0)
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil || v.Version == "" || v.Go == "" || v.SQLite == "" {
		t.Errorf("%s", r.stdout)
	}
}
