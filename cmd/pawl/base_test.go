package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

func TestOutputForms(t *testing.T) {
	h := serve(t, testWorkflows()...)
	for _, id := range []string{"a", "b"} {
		if _, err := h.client.Start(t.Context(), api.StartRequest{Workflow: "echo", ID: id, Input: json.RawMessage(`{"n":12345678901234567890,"s":"é: <&>"}`)}, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	for args, want := range map[string]string{
		"runs list -o name":                                      "b\na\n",
		"runs list --json id,reason":                             `[{"id":"b","reason":null},{"id":"a","reason":null}]` + "\n",
		"runs list --json id -o jsonl":                           `{"id":"b"}` + "\n" + `{"id":"a"}` + "\n",
		"runs list --json state,id -o yaml":                      "- state: completed\n  id: b\n- state: completed\n  id: a\n",
		"runs list --jq .items[].id":                             "b\na\n",
		"runs list --json id --jq .[0]":                          `{"id":"b"}` + "\n",
		"runs show a --jq .result.n":                             "12345678901234567890\n",
		"runs show a --json result -o yaml":                      "result:\n  n: 12345678901234567890\n  s: 'é: <&>'\n",
		"runs result a --jq .result.s":                           "é: <&>\n",
		"steps a --json key,state,attempts":                      `[{"key":"say","state":"completed","attempts":1}]` + "\n",
		"journal a -o name":                                      "\nsay\n\n",
		"journal a --follow --json kind,key -o jsonl":            `{"kind":"input","key":""}` + "\n" + `{"kind":"step","key":"say"}` + "\n" + `{"kind":"result","key":""}` + "\n",
		"workflows list -o name":                                 "chain\necho\nfails\nflaky\nflow.backtest\nflow.generate\nhooks\nsays\nsleeps\nwaits\n",
		"runs list --no-header --limit 1 --json id":              `[{"id":"b"}]` + "\n",
		"runs follow a --jq .key":                                "\nsay\n\nnull\n",
		"runs list --attr no=1 -o jsonl":                         "",
		"runs list --newer 1h --state completed -o name":         "b\na\n",
		"runs list --older 1h -o name":                           "",
		"runs list --newer 1h --older 2026-01-01 --jq .items":    "[]\n",
		"costs -o yaml":                                          "items: []\n",
		"hooks list a --jq .items|length":                        "0\n",
		"runs list --jq .items|length|error('no')|.x":            "",
		"context show --server http://pawl.example.com -o yaml":  "name: \"\"\nserver: http://pawl.example.com\nkey: \"\"\ncurrent: false\n",
		"runs list --time iso --no-header --limit 1 -o table -q": "",
	} {
		r := pawlAt(t, h.url, strings.Fields(args)...)
		switch {
		case strings.Contains(args, "error("):
			r.want(t, 2, "--jq")
		case want == "" && strings.Contains(args, "--time iso"):
			if f := strings.Fields(r.want(t, 0).stdout); len(f) != 5+1 || f[0] != "b" || len(f[3]) != len("2026-11-21T00:00:00.000Z") {
				t.Errorf("pawl %s: %q", args, r.stdout)
			}
		case r.want(t, 0).stdout != want:
			t.Errorf("pawl %s:\n%q, want\n%q", args, r.stdout, want)
		}
	}
	if r := pawlAt(t, h.url, "runs", "list", "-o", "wide").want(t, 0, "CLAIMS", "PARENT"); r.stderr != "" {
		t.Error(r.stderr)
	}
	// A run that waits has hints, -q has none.
	if r := pawlAt(t, h.url, "-q", "start", "waits", "--id", "w").want(t, 0); r.stderr != "" || r.stdout != "w\n" {
		t.Errorf("-q: %q %q", r.stdout, r.stderr)
	}
}

func TestRunsAreNamedByWhatTheirIDsBeginWith(t *testing.T) {
	h := serve(t, testWorkflows()...)
	for _, id := range []string{"run_ABC1", "run_ABD2", "abc"} {
		pawlAt(t, h.url, "start", "waits", "--id", id).want(t, 0)
	}
	until(t, h.client, "abc", pawl.Waiting)
	for typed, want := range map[string]string{"run_ABC": "run_ABC1", "ABD": "run_ABD2", "abc": "abc", "a": "abc"} {
		if r := pawlAt(t, h.url, "runs", "show", typed, "-o", "name").want(t, 0); r.stdout != want+"\n" {
			t.Errorf("%s is %q, want %s", typed, r.stdout, want)
		}
	}
	pawlAt(t, h.url, "runs", "cancel", "AB").want(t, 2, "run_ABD2, run_ABC1", "type more of it")
	pawlAt(t, h.url, "signal", "ABC", "review").want(t, 0, "run_ABC1")
	pawlAt(t, h.url, "runs", "show", "ABE").want(t, 3, "run ABE: not found")
}

func TestATimeoutGivesUpAndTheRunGoesOn(t *testing.T) {
	h := serve(t, testWorkflows()...)
	pawlAt(t, h.url, "start", "waits", "--id", "w", "--wait", "--timeout", "1s").want(t, 124, "it goes on", "pawl runs follow w")
	pawlAt(t, h.url, "runs", "follow", "w", "--timeout", "1s").want(t, 124, "has not ended after 1s")
	pawlAt(t, h.url, "runs", "result", "w", "--wait", "--timeout", "1s").want(t, 124)
	pawlAt(t, h.url, "runs", "result", "w").want(t, 5, "it has no result yet", "--wait")
	pawlAt(t, h.url, "signal", "w", "review", "-d", `"ok"`).want(t, 0)
	pawlAt(t, h.url, "runs", "result", "w", "--wait").want(t, 0, "ok")
	pawlAt(t, h.url, "start", "echo", "--id", "opt", "--attr", "customer=acme", "--priority", "3", "--delay", "1ms", "--run-timeout", "1h", "-i", "1", "--wait").want(t, 0, "1")
	pawlAt(t, h.url, "runs", "list", "--attr", "customer=acme", "--jq", ".items[0].priority").want(t, 0, "3")
}

func TestRunsAreDeletedAndCounted(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		for _, id := range []string{"a", "b", "c", "w"} {
			workflow := map[string]string{"w": "waits"}[id]
			pawlAt(t, h.url, "start", cmp.Or(workflow, "echo"), "--id", id).want(t, 0)
		}
		for _, id := range []string{"a", "b", "c"} {
			until(t, h.client, id, pawl.Completed)
		}
		until(t, h.client, "w", pawl.Waiting)
		pawlAt(t, h.url, "stats").want(t, 0, "waiting     1", "completed   3", "workers     1")
		pawlAt(t, h.url, "stats", "--jq", ".runs.completed").want(t, 0, "3")
		pawlAt(t, h.url, "runs", "delete", "a").want(t, 0, "a deleted")
		pawlAt(t, h.url, "runs", "show", "a").want(t, 3)
		pawlAt(t, h.url, "runs", "delete", "w").want(t, 5, "w")
		pawlAt(t, h.url, "runs", "delete", "--all", "-y").want(t, 0, "deleted 2 of 2 runs")
		if r := pawlAt(t, h.url, "runs", "list", "-o", "name").want(t, 0); r.stdout != "w\n" {
			t.Errorf("%s", r.stdout)
		}
	}, testWorkflows()...)
}

func TestStreamsAreReadable(t *testing.T) {
	h := serve(t, testWorkflows()...)
	pawlAt(t, h.url, "start", "says", "--id", "s").want(t, 0)
	until(t, h.client, "s", pawl.Waiting)
	pawlAt(t, h.url, "stream", "s").want(t, 0, "words", "5", "no")
	if r := pawlAt(t, h.url, "stream", "s", "words").want(t, 0); r.stdout != "one two\n{\"n\":3}\ntold[2J\n" {
		t.Errorf("%q", r.stdout)
	}
	if r := pawlAt(t, h.url, "stream", "s", "words", "--from", "-3", "--jq", ".index").want(t, 0); r.stdout != "2\n3\n4\n" {
		t.Errorf("%q", r.stdout)
	}
	followed := make(chan result, 1)
	go func() { followed <- pawlAt(t, h.url, "stream", "s", "words", "-f", "-o", "jsonl") }()
	pawlAt(t, h.url, "signal", "s", "more").want(t, 0)
	lines := strings.Split(strings.TrimSpace((<-followed).want(t, 0).stdout), "\n")
	var last pawl.Chunk
	if err := json.Unmarshal([]byte(lines[5]), &last); err != nil || string(last.Data) != `"last"` || last.Index != 5 {
		t.Errorf("%s: %v", lines[5], err)
	}
}

func TestContexts(t *testing.T) {
	h := serve(t, testWorkflows()...)
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte("pawl_1_hidden\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := environment{"XDG_CONFIG_HOME": dir}
	in := func(stdin string, args ...string) result { return pawlWith(t, env, stdin, args...) }
	in("", "context", "list").want(t, 0, "no contexts", "context set")
	in("", "runs", "list", "--context", "no").want(t, 3, `no context "no"`)
	in("", "context", "set", "here", "--server", h.url).want(t, 0, "from now on commands ask "+h.url, "pawl context use --none")
	in("", "context", "use", "--none").want(t, 0, defaultServer)
	in("", "context", "show").want(t, 0, defaultServer)
	in("", "context", "use", "here", "--none").want(t, 2, "give one")
	in("", "context", "use", "here").want(t, 0, "from now on commands ask "+h.url)
	in("pawl_2_hidden\n", "context", "set", "there", "--server", "https://pawl.example.com", "--api-key-stdin").want(t, 0, "context use there")
	in("", "context", "set", "file", "--server", h.url+"/", "--api-key-file", key).want(t, 0)
	in("", "context", "set", "bad", "--server", "nowhere").want(t, 2, "not an address")
	in("", "context", "set", "bad").want(t, 2, "give --server")
	in("", "context", "set", "bad", "--server", h.url, "--api-key-file", key+".no").want(t, 2, "no such file")

	file := filepath.Join(dir, "pawl", "config.yaml")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, args := range []string{"context list", "context list -o json", "context show there", "context show there -o yaml", "context show --context file", "config show -o json"} {
		if r := in("", strings.Fields(args)...).want(t, 0); strings.Contains(r.stdout+r.stderr, "hidden") {
			t.Errorf("pawl %s shows the key: %s%s", args, r.stdout, r.stderr)
		}
	}
	in("", "context", "list").want(t, 0, "here   *", "https://pawl.example.com  kept here", "in "+key)
	// The one in use is asked; hints need not say so. Any other way to name a server wins.
	if r := in("", "start", "echo", "--id", "x").want(t, 0, "pawl runs follow x\n"); strings.Contains(r.stderr, "--server") {
		t.Error(r.stderr)
	}
	in("", "start", "echo", "--id", "x", "--context", "file").want(t, 0, "pawl runs follow x --context file")
	in("", "runs", "list", "--server", "http://127.0.0.1:1").want(t, 7)
	env["PAWL_SERVER"] = "http://127.0.0.1:1"
	in("", "runs", "list").want(t, 7)
	in("", "runs", "list", "--context", "here").want(t, 0, "x ")
	delete(env, "PAWL_SERVER")
	env["PAWL_CONTEXT"] = "there"
	in("", "context", "show").want(t, 0, "https://pawl.example.com", "kept here")
	delete(env, "PAWL_CONTEXT")
	in("", "context", "use", "file").want(t, 0)
	in("", "context", "show").want(t, 0, "in "+key)
	in("", "context", "delete", "file").want(t, 0)
	in("", "context", "show").want(t, 0, defaultServer)
	for args, want := range map[string]string{"context|use|": "here there", "runs|list|--context|": "here there"} {
		r := in("", append([]string{"__complete"}, strings.Split(args, "|")...)...).want(t, 0)
		words, _, _ := strings.Cut(r.stdout, ":4")
		if got := strings.Join(strings.Fields(words), " "); got != want {
			t.Errorf("completing %s: %q", args, got)
		}
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	in("", "runs", "list").want(t, 2, "others on this machine can read it", "chmod 600")
	if err := os.WriteFile(file, []byte("curr: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in("", "runs", "list").want(t, 2, "curr")
	in("", "doctor").want(t, 1, "curr")
}

// Each key goes to the server that it was meant for, and to no other.
func TestKeysGoWhereTheyBelong(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url, seen := keyRecorder(t)
	base := environment{"XDG_CONFIG_HOME": dir}
	pawlWith(t, base, "from-context", "context", "set", "c", "--server", url, "--api-key-stdin").want(t, 0)
	pawlWith(t, base, "", "context", "set", "bare", "--server", url).want(t, 0)
	for _, c := range []struct {
		env  environment
		args string
		want string
	}{
		{environment{}, "", "from-context"},
		{environment{"PAWL_SERVER": url}, "", ""},
		{environment{}, "--server " + url, ""},
		{environment{"PAWL_API_KEY": "from-env"}, "", "from-env"},
		{environment{"PAWL_API_KEY": "from-env", "PAWL_SERVER": url}, "", "from-env"},
		{environment{"PAWL_API_KEY": "from-env"}, "--context c", "from-context"},
		{environment{"PAWL_API_KEY": "from-env"}, "--context bare", ""},
		{environment{"PAWL_API_KEY_FILE": key}, "--server " + url, "from-file"},
		{environment{"PAWL_API_KEY": "from-env"}, "--context c --api-key-file " + key, "from-file"},
	} {
		c.env["XDG_CONFIG_HOME"] = dir
		r := pawlWith(t, c.env, "", append(strings.Fields(c.args), "runs", "list")...).want(t, 4, "--api-key-file FILE", "context set")
		got := strings.TrimPrefix(<-seen, "Bearer ")
		if got != c.want {
			t.Errorf("%v %s: the key %q was sent, want %q", c.env, c.args, got, c.want)
		}
		if got != "" && strings.Contains(r.stdout+r.stderr, got) {
			t.Errorf("the key shows: %s", r.stderr)
		}
	}
	pawlWith(t, environment{"PAWL_API_KEY": "k"}, "", "runs", "list", "--server", "http://pawl.invalid", "--timeout", "2s").want(t, 7, "unencrypted")
}

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	file := write("pawl.yaml", "listen: 127.0.0.1:1\nhosts: [a.example, b.example]\ndrain: 3s\nworkflows: none\n")
	env := environment{"PAWL_CONFIG": file, "PAWL_WORKFLOWS": "examples", "PAWL_SECRET_FILE": write("secret", "a-very-hidden-secret\n"), "DATABASE_URL": "postgres://me:hidden@db/x", "PAWL_LOG_FORMAT": "json"}
	r := pawlWith(t, env, "", "config", "show", "--origin", "--log-format", "text").want(t, 0)
	if strings.Contains(r.stdout, "hidden") {
		t.Errorf("a secret shows: %s", r.stdout)
	}
	got := map[string]string{}
	for _, line := range strings.Split(r.stdout, "\n")[1:] {
		if f := strings.Fields(line); len(f) == 3 {
			got[f[0]] = f[1] + " " + f[2]
		}
	}
	for key, want := range map[string]string{
		"listen": "127.0.0.1:1 " + file + ":1", "hosts": "a.example,b.example " + file + ":2", "drain": "3s " + file + ":3",
		"workflows": "examples $PAWL_WORKFLOWS", "secret": "••• $PAWL_SECRET_FILE", "store": "postgres://me:xxxxx@db/x $DATABASE_URL",
		"logFormat": "text --log-format", "logLevel": "info default",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	env["PAWL_STORE"] = "other.db"
	pawlWith(t, env, "", "config", "show", "--jq", `.items[]|select(.key=="store")|.value`).want(t, 0, "other.db")
	for text, want := range map[string]string{
		"listne: x\n":                 `no setting "listne"; did you mean "listen"?`,
		"listen: a\nlisten: b\n":      "set twice",
		"drain: fast\n":               "drain",
		"- a\n":                       "name: value",
		"secret: abc\n":               "does not belong",
		"workflows: some\n":           "examples, flows, none",
		"a: [\n":                      "yaml",
		"tlsCert: x\n":                "belong together",
		"hosts: {a: b}\n":             "hosts",
		"logLevel: loud\nlisten: x\n": "debug, info, warn, error",
	} {
		pawlWith(t, environment{}, "", "config", "show", "--config", write("bad.yaml", text)).want(t, 2, want, "pawl config show --help")
	}
	pawlWith(t, environment{"PAWL_SECRET": "a", "PAWL_SECRET_FILE": file}, "", "config", "show").want(t, 2, "both set")
	pawlWith(t, environment{"PAWL_DRAIN": "x"}, "", "config", "show").want(t, 2, "environment")
	pawlWith(t, environment{}, "", "config", "show", "--config", file+".no").want(t, 2, "no such file")
}

func TestBulk(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		for i := range 30 {
			workflow := []string{"waits", "sleeps", "echo"}[i%3]
			if _, err := h.client.Start(t.Context(), api.StartRequest{Workflow: workflow, ID: fmt.Sprint("r", i)}, 0); err != nil {
				t.Fatal(err)
			}
		}
		until(t, h.client, "r28", pawl.Waiting)
		until(t, h.client, "r29", pawl.Completed)
		pawlAt(t, h.url, "runs", "cancel", "--workflow", "waits").want(t, 2, "cancel 10 runs: 10 waiting waits?", "-y", "--dry-run")
		if r := pawlAt(t, h.url, "runs", "cancel", "--workflow", "waits", "--dry-run").want(t, 0, "would cancel 10 runs"); strings.Count(r.stdout, "\n") != 10 {
			t.Errorf("%s", r.stdout)
		}
		pawlAt(t, h.url, "runs", "cancel", "--older", "2h", "-y").want(t, 0, "no run fits")
		pawlAt(t, h.url, "runs", "pause", "--all", "-y").want(t, 0, "paused 20 of 20 runs")
		until(t, h.client, "r0", pawl.Paused)
		pawlAt(t, h.url, "runs", "resume", "--workflow", "no", "-y").want(t, 0, "no run fits")
		pawlAt(t, h.url, "runs", "resume", "r0", "r1").want(t, 0, "resumed 2 of 2 runs")
		until(t, h.client, "r0", pawl.Waiting)
		until(t, h.client, "r1", pawl.Waiting)
		var res bulkResult
		r := pawlAt(t, h.url, "runs", "cancel", "--newer", "1h", "--state", "waiting,paused,completed", "-y", "-o", "json").want(t, 0)
		if err := json.Unmarshal([]byte(r.stdout), &res); err != nil || res.Matched != 30 || res.Done != 20 || res.Skipped != 10 || len(res.Failed) != 0 {
			t.Errorf("%+v, %v", res, err)
		}
		for i := range 30 {
			if i%3 != 2 {
				until(t, h.client, fmt.Sprint("r", i), pawl.Cancelled)
			}
		}
	}, testWorkflows()...)
}

// A server that refuses some of many is told of, run by run, and is an error.
func TestBulkTellsWhatFailed(t *testing.T) {
	h := serve(t, testWorkflows()...)
	for _, id := range []string{"good", "bad"} {
		if _, err := h.client.Start(t.Context(), api.StartRequest{Workflow: "waits", ID: id}, 0); err != nil {
			t.Fatal(err)
		}
	}
	url := refusing(t, h.url, "/api/runs/bad/cancel")
	pawlAt(t, url, "runs", "cancel", "--all", "-y").want(t, 1, "cancelled 1 of 2 runs; 1 failed", "bad: ", "out of order")
}

func TestHooksAndEvents(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		pawlAt(t, h.url, "start", "hooks", "--id", "h").want(t, 0)
		until(t, h.client, "h", pawl.Waiting)
		token := strings.TrimSpace(pawlAt(t, h.url, "hooks", "list", "h", "--jq", ".items[0].token").want(t, 0).stdout)
		pawlAt(t, h.url, "runs", "show", "h").want(t, 0, "pawl hooks send h '$hook' --data JSON")
		pawlAt(t, h.url, "hooks", "list", "h", "-o", "wide").want(t, 0, token, `{"for":"you"}`)
		pawlAt(t, h.url, "hooks", "send", token, "-d", `"yes"`).want(t, 0, "pawl runs follow h")
		pawlAt(t, h.url, "runs", "result", "h", "--wait").want(t, 0, "yes")
		pawlAt(t, h.url, "start", "waits", "--id", "e").want(t, 0)
		until(t, h.client, "e", pawl.Waiting)
		pawlAt(t, h.url, "events", "send", "review", "-d", "7").want(t, 0, "review")
		pawlAt(t, h.url, "runs", "result", "e", "--wait").want(t, 0, "7")
		pawlAt(t, h.url, "start", "sleeps", "--id", "z").want(t, 0)
		until(t, h.client, "z", pawl.Waiting)
		pawlAt(t, h.url, "runs", "wake", "z").want(t, 0)
		pawlAt(t, h.url, "runs", "result", "z", "--wait").want(t, 0, "woken")
	}, testWorkflows()...)
}
