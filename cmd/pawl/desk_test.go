package main

import (
	"encoding/json"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// described are workflows that say what they are and take.
func described() []pawl.Definition {
	type in struct {
		Topic string `json:"topic"`
		Depth int    `json:"depth,omitempty"`
	}
	return []pawl.Definition{
		pawl.Define("research", func(*pawl.Context, in) (any, error) { return nil, nil }, pawl.Doc("Finds out."), pawl.Version("v3")),
		pawl.Define("inner", func(*pawl.Context, any) (any, error) { return nil, nil }, pawl.Internal()),
	}
}

func TestWorkflowsSayWhatTheyAreAndWhatStartsThem(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		at := func(args ...string) result { return pawlAt(t, h.url, args...) }
		at("schedules", "put", "daily", "--workflow", "research", "-i", `{"topic":"tides"}`, "--cron", "@daily").want(t, 0)
		at("events", "subscriptions", "put", "asked", "--event", "question", "--workflow", "research").want(t, 0)
		r := at("workflows", "list").want(t, 0, "NAME", "research", "topic depth?", "schedule:daily event:question", "Finds out.", "3 more that other code starts: pawl workflows list --all")
		if strings.Contains(r.stdout, "inner") {
			t.Errorf("what code starts is listed: %s", r.stdout)
		}
		at("workflows", "list", "--all").want(t, 0, "inner", "code")
		at("workflows", "show", "research").want(t, 0, "research v3", "Finds out.", "schedule:daily, event:question", "topic", "string", "depth", "integer", "yes",
			`pawl start research --input '{"topic":"…"}'`)
		at("workflows", "show", "research", "--json", "doc,version").want(t, 0, `{"doc":"Finds out.","version":"v3"}`)
		at("workflows", "show", "resaerch").want(t, 3, `did you mean "research"`)
		at("start", "research", "-i", `{"topic":5}`).want(t, 2, `"topic" is of kind number, and should be of kind string`)
		at("start", "nope").want(t, 3, "research")
		if r := at("start"); strings.Contains(r.stderr, "inner") {
			t.Errorf("it offers what code starts: %s", r.stderr)
		}
	}, described()...)
}

// What a run waits for comes to programs with what helps it.
func TestShowTellsProgramsWhatHelps(t *testing.T) {
	h := serve(t, testWorkflows()...)
	for id, workflow := range map[string]string{"e": "waits", "h": "hooks", "done": "echo"} {
		pawlAt(t, h.url, "start", workflow, "--id", id).want(t, 0)
	}
	until(t, h.client, "e", pawl.Waiting)
	until(t, h.client, "h", pawl.Waiting)
	until(t, h.client, "done", pawl.Completed)
	var got struct {
		pawl.RunInfo
		Why      string
		Hooks    []api.Hook
		Commands []string
	}
	read := func(id string) {
		t.Helper()
		r := pawlAt(t, h.url, "runs", "show", id, "-o", "json").want(t, 0)
		if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
			t.Fatalf("%v: %s", err, r.stdout)
		}
	}
	read("e")
	if got.ID != "e" || got.Why != `it waits for the event "review"` || got.Hooks == nil || len(got.Commands) != 1 || got.Commands[0] != "pawl signal e review --data JSON" {
		t.Errorf("%+v", got)
	}
	read("h")
	if len(got.Hooks) != 1 || got.Hooks[0].Key != "$hook" || got.Commands[0] != "pawl hooks send h '$hook' --data JSON" {
		t.Errorf("%+v", got)
	}
	pawlAt(t, h.url, "runs", "show", "e", "--json", "id,why").want(t, 0, `{"id":"e","why":"it waits for the event \"review\""}`)
	pawlAt(t, h.url, "runs", "show", "done", "--json", "id,why").want(t, 0, `{"id":"done","why":null}`)
}

// Who watches a run is told that the server is gone, and that it is back.
func TestWhoWatchesIsToldThatTheServerIsGone(t *testing.T) {
	for _, args := range []string{"runs follow r", "runs result r --wait", "journal r --follow"} {
		t.Run(args, func(t *testing.T) {
			h := serve(t, testWorkflows()...)
			pawlAt(t, h.url, "start", "waits", "--id", "r").want(t, 0)
			until(t, h.client, "r", pawl.Waiting)
			target, err := url.Parse(h.url)
			if err != nil {
				t.Fatal(err)
			}
			// The way to the server: a listener that passes bytes on and can be cut.
			way := newWay(t, target.Host)
			var stdout, stderr lockedBuffer
			ended := make(chan int, 1)
			go func() {
				ended <- run(t.Context(), append([]string{"pawl"}, strings.Fields(args)...), environment{"PAWL_SERVER": "http://" + way.address}.get, strings.NewReader(""), &stdout, &stderr)
			}()
			watches := strings.Contains(args, "follow")
			eventually(t, func() bool { return way.asked.Load() > 1 && (!watches || stdout.String() != "") }, &stderr)
			way.cut()
			eventually(t, func() bool { return strings.Contains(stderr.String(), "the server is gone; waiting for it…") }, &stderr)
			way.mend(t)
			eventually(t, func() bool { return strings.Contains(stderr.String(), "the server is back") }, &stderr)
			pawlAt(t, h.url, "signal", "r", "review", "--data", "1").want(t, 0)
			if code := <-ended; code != 0 || strings.Count(stderr.String(), "gone") != 1 {
				t.Errorf("exit code %d: %s%s", code, stdout.String(), stderr.String())
			}
		})
	}
}

// way passes connections on to a server, and can be cut and mended.
type way struct {
	address string
	to      string
	l       net.Listener
	conns   chan net.Conn
	asked   atomic.Int64 // requests that came, if each is written at once
}

func newWay(t *testing.T, to string) *way {
	w := &way{to: to, address: "127.0.0.1:0"}
	w.mend(t)
	t.Cleanup(w.cut)
	return w
}

func (w *way) mend(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	w.l, w.address, w.conns = l, l.Addr().String(), make(chan net.Conn, 1000)
	conns := w.conns
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				close(conns)
				return
			}
			to, err := net.Dial("tcp", w.to)
			if err != nil {
				from.Close()
				continue
			}
			conns <- from
			conns <- to
			pass := func(a, b net.Conn, count int64) {
				defer a.Close()
				defer b.Close()
				buf := make([]byte, 4096)
				for {
					n, err := b.Read(buf)
					if n > 0 {
						w.asked.Add(count)
						if _, err := a.Write(buf[:n]); err != nil {
							return
						}
					}
					if err != nil {
						return
					}
				}
			}
			go pass(from, to, 0)
			go pass(to, from, 1)
		}
	}()
}

func (w *way) cut() {
	w.l.Close()
	for c := range w.conns {
		c.Close()
	}
}

// A shell that has not got the package bash-completion completes all the same.
func TestBashCompletesWithoutItsPackage(t *testing.T) {
	h := serve(t, testWorkflows()...)
	pawlAt(t, h.url, "start", "waits", "--id", "a:b=c").want(t, 0)
	bin := t.TempDir()
	if err := os.Symlink(binary, filepath.Join(bin, "pawl")); err != nil {
		t.Fatal(err)
	}
	// Readline takes a line apart at blanks, = and :, and calls the function with what there is.
	const press = `compopt() { :; } # it is for real Tabs only
source <(pawl completion bash --no-descriptions)
press() {
    COMP_LINE=$1 COMP_POINT=${#1}
    shift
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    __start_pawl
    echo "${COMPREPLY[*]}"
}
press 'pawl wo' pawl wo
press 'pawl runs li' pawl runs li
press 'pawl start ' pawl start ''
press 'pawl runs list --state=fa' pawl runs list --state = fa
press 'pawl runs list --state=' pawl runs list --state = ''
press 'pawl runs list --state fa' pawl runs list --state fa
press 'pawl runs show a:' pawl runs show a :
press 'pawl runs show a:b' pawl runs show a : b
press 'pawl keys create x --scope runs:re' pawl keys create x --scope runs : re
`
	cmd := exec.CommandContext(t.Context(), "bash", "--norc", "--noprofile", "-c", press)
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "PAWL_SERVER=" + h.url}
	out, err := cmd.CombinedOutput()
	const want = `workflows
list
chain echo fails flaky hooks says sleeps waits
failed
pending running waiting completed failed cancelled paused blocked
failed
b=c
b=c
read
`
	if got := strings.ReplaceAll(string(out), " \n", "\n"); err != nil || got != want {
		t.Errorf("%v\n%swant\n%s", err, got, want)
	}
}

// Each fault of the settings is told of, and all at once.
func TestSettingsAreFaultyAllAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pawl.yaml")
	text := `workflows: some
logLevel: loud
logFormat: xml
publicUrl: pawl.example.com
tlsCert: x.pem
maxWaiting: 0
maxInFlight: 0
maxQueued: 0
maxUnread: -2
drain: -1s
webhooks: {hub: {scheme: github}}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	faults := []string{`workflows is "some"`, `logLevel is "loud"`, `logFormat is "xml"`, "publicUrl:", "belong together", "maxWaiting is 0", "maxQueued is 0", "maxInFlight is 0", "maxUnread is -2", "drain is -1s", "webhooks: hub"}
	r := pawlWith(t, environment{}, "", "config", "show", "--config", file).want(t, 2, faults...)
	if n := strings.Count(r.stderr, "\n"); n != len(faults)+1 {
		t.Errorf("%d lines, want one for each fault and the hint: %s", n, r.stderr)
	}
	// Each alone, beside a setting that was once checked before it.
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if strings.HasPrefix(line, "logFormat") {
			continue
		}
		if err := os.WriteFile(file, []byte("logFormat: json\n"+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		pawlWith(t, environment{}, "", "config", "show", "--config", file).want(t, 2)
	}
}

// What is named by --once is done once.
func TestOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		at := func(args ...string) result { return pawlAt(t, h.url, args...) }
		first := at("start", "echo", "-i", "1", "--once", "a", "-o", "name").want(t, 0)
		again := at("start", "echo", "-i", "1", "--once", "a", "-o", "name").want(t, 0, "it was not done again")
		if first.stdout != again.stdout || first.stdout == "" {
			t.Errorf("two runs: %s%s", first.stdout, again.stdout)
		}
		at("start", "echo", "-i", "2", "--once", "a").want(t, 2, "another request")
		at("start", "echo", "--once", "a b").want(t, 2, "--once")
		at("start", "waits", "--id", "w").want(t, 0)
		at("start", "hooks", "--id", "h").want(t, 0)
		until(t, h.client, "w", pawl.Waiting)
		until(t, h.client, "h", pawl.Waiting)
		at("hooks", "send", "h", "-d", "1", "--once", "p").want(t, 0)
		at("hooks", "send", "h", "$hook", "-d", "1", "--once", "p").want(t, 0, "it was not done again")
		at("signal", "w", "later", "-d", "1", "--once", "s").want(t, 0)
		at("signal", "w", "later", "-d", "1", "--once", "s").want(t, 0, "it was not done again")
		until(t, h.client, "h", pawl.Completed)
		if r := at("runs", "fork", "h", "--once", "f", "-o", "name").want(t, 0); at("runs", "fork", "h", "--once", "f", "-o", "name").want(t, 0).stdout != r.stdout {
			t.Error("two forks")
		}
		at("budgets", "set", "b", "--limit", "1").want(t, 0)
		at("budgets", "topup", "b", "1", "--once", "t").want(t, 0)
		at("budgets", "topup", "b", "1", "--once", "t").want(t, 0, "it was not done again")
		at("budgets", "list", "--jq", ".items[].extra").want(t, 0, "1000000")
	}, testWorkflows()...)
}

// What came from outside is no danger in a pipe either: it may end on a terminal.
func TestDataIsEscapedInPipes(t *testing.T) {
	h := serve(t, testWorkflows()...)
	const evil = "a\u202eb\u0085c\u2066d"
	text, err := json.Marshal(evil)
	if err != nil {
		t.Fatal(err)
	}
	pawlAt(t, h.url, "start", "echo", "--id", "e", "-i", string(text), "--wait").want(t, 0)
	for _, args := range []string{"runs result e -o json", "runs result e -o jsonl", "runs result e -o yaml", "runs result e --json result", "journal e -o json", "journal e --follow -o json",
		"journal e -o yaml", "runs result e --jq [.result]", "steps e -o json"} {
		r := pawlAt(t, h.url, strings.Fields(args)...).want(t, 0)
		if strings.ContainsFunc(r.stdout, dangerous) {
			t.Errorf("pawl %s: %q", args, r.stdout)
		}
		if !strings.Contains(r.stdout, `\u202e`) && !strings.Contains(r.stdout, `\u202E`) {
			t.Errorf("pawl %s lost it: %q", args, r.stdout)
		}
	}
	var run api.Run
	var got string
	r := pawlAt(t, h.url, "runs", "result", "e", "-o", "json")
	if err := json.Unmarshal([]byte(r.stdout), &run); err != nil || json.Unmarshal(run.Result, &got) != nil || got != evil {
		t.Errorf("it means something else: %q", got)
	}
}

// A payload is held against the schema of its hook by the servers of this program.
func TestServersHoldPayloadsAgainstSchemas(t *testing.T) {
	const schema = `{"type":"object","properties":{"n":{"type":"integer","minimum":1},"at":{"format":"date"}},"required":["n"]}`
	for data, want := range map[string]string{
		`{"n":1}`: "", `{"n":0}`: "/n: minimum", `{}`: "missing propert", `{"n":"x","at":"soon"}`: "; ", `[]`: "got array, want object", `{`: "no JSON",
	} {
		err := checkSchema([]byte(schema), []byte(data))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", data, err, want)
		}
	}
	for bad, want := range map[string]string{`{"$ref":"file:///etc/passwd"}`: "", `{"type":5}`: "the hook's schema", `{`: "no JSON"} {
		if err := checkSchema([]byte(bad), []byte("1")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Who may not do something is led to what the key may do, with the key.
func TestAKeyTellsWhatItMayDo(t *testing.T) {
	t.Chdir(t.TempDir())
	url, _ := serving(t, environment{}, "--store", "pawl.db")
	at := func(key string, args ...string) result {
		return pawlWith(t, environment{"PAWL_SERVER": url}, "", append(args, "--api-key-file", key)...)
	}
	at("pawl.db.admin-key", "keys", "create", "reader", "--scope", "runs:read", "--file", "reader.key").want(t, 0)
	at("reader.key", "start", "webhook-demo").want(t, 4, "runs:start", "pawl context show --api-key-file reader.key")
	at("reader.key", "context", "show").want(t, 0, "in reader.key", `reader`, "runs:read")
	at("reader.key", "context", "show", "--jq", ".scopes[]").want(t, 0, "runs:read\n")
	at("reader.key", "workflows", "list").want(t, 0, "research-agent", "topic")
	at("pawl.db.admin-key", "keys", "revoke", "reader").want(t, 0, "revoked")
	at("pawl.db.admin-key", "keys", "create", "x", "--scope", "runs:frob").want(t, 2, "no scope", "keys create --help")
	pawlWith(t, environment{"PAWL_SERVER": "http://127.0.0.1:1"}, "", "context", "show").want(t, 0, "http://127.0.0.1:1", "does not say whose key it is")
}

// pawl serve holds what it is sent against the schema of a hook that another program has made.
func TestServeKnowsSchemas(t *testing.T) {
	t.Chdir(t.TempDir())
	address := pgtest.URL(t)
	store, err := postgres.Open(t.Context(), address, nil)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Repeat("s", 32)
	h := serveWith(t, store, &pawl.Options{Secret: []byte(secret), CheckSchema: checkSchema}, pawl.Define("counts", func(c *pawl.Context, _ any) (json.RawMessage, error) {
		hook, err := pawl.NewHook[json.RawMessage](c, pawl.Schema(json.RawMessage(`{"type":"object","properties":{"n":{"type":"integer","minimum":1}},"required":["n"]}`)))
		if err != nil {
			return nil, err
		}
		return hook.Wait(c)
	}))
	pawlAt(t, h.url, "start", "counts", "--id", "c").want(t, 0)
	until(t, h.client, "c", pawl.Waiting)
	env := environment{"PAWL_SECRET": secret}
	url, _ := serving(t, env, "--store", address, "--workflows", "none", "--admin-key-file", "admin.key")
	at := func(args ...string) result {
		return pawlWith(t, environment{"PAWL_SERVER": url, "PAWL_API_KEY_FILE": "admin.key"}, "", args...)
	}
	at("hooks", "send", "c", "-d", `{"n":0}`).want(t, 2, "/n: minimum")
	at("hooks", "send", "c", "$hook", "-d", `{}`).want(t, 2, "missing property 'n'")
	at("hooks", "send", "c", "-d", `{"n":1}`).want(t, 0)
	until(t, h.client, "c", pawl.Completed)
}

func TestDurationsAreForPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{
		167*time.Hour + 56*time.Minute + 37*time.Second: "6d 23h", 24 * time.Hour: "1d", 25*time.Hour + time.Minute: "1d 1h", 90 * time.Minute: "1h 30m", time.Hour: "1h",
		61 * time.Second: "1m 1s", time.Minute: "1m", 59*time.Minute + 59900*time.Millisecond: "1h", 1500 * time.Millisecond: "1.5s", 12 * time.Millisecond: "12ms",
	} {
		if got := took(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}

func TestWordsOfOtherPrograms(t *testing.T) {
	for word, want := range map[string]string{"cancel": "pawl runs cancel", "result": "pawl runs result", "list": "pawl runs list", "ps": "pawl runs list", "retry": "pawl runs retry", "pause": "pawl runs pause", "wake": "pawl runs wake", "fork": "pawl runs fork", "show": "pawl runs show", "stop": "pawl runs cancel", "delete": "pawl runs delete", "revoke": "pawl keys revoke", "strat": `"start"`} {
		pawlWith(t, environment{}, "", word, "x").want(t, 2, "did you mean", want)
	}
	h := serve(t, testWorkflows()...)
	pawlAt(t, h.url, "start", "echo", "--id", "e", "--wait").want(t, 0)
	pawlAt(t, h.url, "runs").want(t, 0, "ID", "e", "completed", "pawl runs --help")
	pawlAt(t, h.url, "runs", "-o", "name", "-q").want(t, 0, "e\n")
	pawlAt(t, h.url, "schedules").want(t, 0, "no schedules")
	pawlAt(t, h.url, "events").want(t, 0, "Available Commands")
}

// A slot that was left out has no run, and a stream of a run that has ended goes on no more.
func TestNothingIsNamedThatIsNotThere(t *testing.T) {
	h := serve(t, testWorkflows()...)
	at := func(args ...string) result { return pawlAt(t, h.url, args...) }
	at("schedules", "put", "s", "--workflow", "says", "--cron", "@yearly").want(t, 0)
	started := at("schedules", "trigger", "s").want(t, 0, "started")
	id, _, _ := strings.Cut(started.stdout, " ")
	until(t, h.client, id, pawl.Waiting)
	if r := at("schedules", "trigger", "s").want(t, 0, "skipped", "has not ended"); r.stdout != "skipped\n" {
		t.Errorf("it names a run: %s", r.stdout)
	}
	for _, args := range [][]string{{"schedules", "occurrences", "s"}, {"schedules", "show", "s"}} {
		if r := at(args...).want(t, 0, "skipped"); strings.Count(r.stdout, "s@") > 3 {
			t.Errorf("%v name a run that there is not: %s", args, r.stdout)
		}
	}
	at("stream", id).want(t, 0, "no")
	at("runs", "cancel", id).want(t, 0)
	until(t, h.client, id, pawl.Cancelled)
	at("stream", id).want(t, 0, "yes")
}
