package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

func eventually(t *testing.T, ok func() bool, shown fmt.Stringer) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come: %s", shown)
		}
	}
}

func TestDevRunsTheExamples(t *testing.T) {
	t.Chdir(t.TempDir()) // where content-pipeline keeps its outbox
	env, script := provider(t, 0)
	url, stop := dev(t, env, "--model", "tiny-1", "--embedder", "tiny-vectors")
	pawlAt(t, url, "start", "research-agent", "--input", `{"topic":"tidal power"}`, "--follow").
		want(t, 0, "✓ plan", "✓ research[0]/look-into", "✓ synthesize", "completed in", "# tidal power")
	pawlAt(t, url, "start", "rag-agent", "--input", `{"question":"What does it cost to be late?"}`, "--wait").want(t, 0, `"supported": true`)
	pawlAt(t, url, "start", "content-pipeline", "--id", "article", "--input", `{"topic":"knots","audience":"sailors"}`).want(t, 0)
	pawlAt(t, url, "signal", "article", "review", "--data", `{"approved":true}`).want(t, 0)
	pawlAt(t, url, "runs", "follow", "article").want(t, 0, `"status": "published"`)
	pawlAt(t, url, "start", "research-agent", "--input", `{"topic":""}`).want(t, exitUsage, "topic is empty")
	for _, call := range script.Calls() {
		if call.Model != "tiny-1" {
			t.Errorf("asked %q, want what --model says", call.Model)
		}
	}
	if embeds := script.Embeds(); len(embeds) == 0 || embeds[0].Model != "tiny-vectors" {
		t.Errorf("asked for %d embeddings, want some of what --embedder says", len(embeds))
	}
	r := stop().want(t, 0, "tiny-1 at "+env["OPENAI_BASE_URL"]+", without a key", "content-pipeline, parity-check, rag-agent, research-agent",
		"pawl start research-agent", "pawl runs list", "stopping", "stopped")
	if strings.Contains(r.stdout, "SCRIPT") {
		t.Errorf("it warns of a script: %s", r.stdout)
	}
}

func TestDevWithoutAModelSaysSo(t *testing.T) {
	t.Chdir(t.TempDir())
	url, stop := dev(t, environment{})
	pawlAt(t, url, "start", "rag-agent", "--input", `{"question":"fees?"}`, "--wait").want(t, 0, "no model was asked")
	stop().want(t, 0, "NO MODEL IS ASKED: ALL ANSWERS COME FROM A SCRIPT", "OPENAI_API_KEY")
	// A key alone means OpenAI itself; it never shows.
	_, stop = dev(t, environment{"OPENAI_API_KEY": "sk-secret"})
	if r := stop().want(t, 0, "gpt-4o-mini at https://api.openai.com/v1"); strings.Contains(r.stdout+r.stderr, "secret") {
		t.Errorf("the key shows: %s%s", r.stdout, r.stderr)
	}
}

func TestDevOnPostgreSQL(t *testing.T) {
	env, _ := provider(t, 0)
	t.Chdir(t.TempDir()) // where the secret of a database's server is made
	store := pgtest.URL(t)
	url, stop := dev(t, env, "--store", store)
	pawlAt(t, url, "start", "research-agent", "--id", "r", "--input", `{"topic":"tidal power"}`, "--follow").want(t, 0, "completed in")
	stop().want(t, 0, "stopped", "made the secret pawl.secret")
	url, _ = dev(t, env, "--store", store)
	pawlAt(t, url, "runs", "list").want(t, 0, "r ", "completed")
}

func TestSecretsOfAddressesAreNotShown(t *testing.T) {
	for where, want := range map[string]string{
		"./pawl.db": "./pawl.db",
		"postgres://u:pw@db:5432/x?sslmode=disable": "postgres://u:xxxxx@db:5432/x",
		"postgres://u:pw@/x?host=/run&password=pw":  "postgres://u:xxxxx@/x",
		"postgres://u:p%w@db/x":                     "postgres://…",
		"https://key:pw@llm.example/v1":             "https://key:xxxxx@llm.example/v1",
	} {
		if got := shownURL(where); got != want {
			t.Errorf("%s is shown as %s, want %s", where, got, want)
		}
	}
	r := pawlWith(t, environment{}, "", "dev", "--listen", "127.0.0.1:0", "--store", "postgres://me:hidden@127.0.0.1:1/x").want(t, 1, "127.0.0.1:1")
	if strings.Contains(r.stdout+r.stderr, "hidden") {
		t.Errorf("the password shows: %s%s", r.stdout, r.stderr)
	}
}

func TestDevRefuses(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	store := filepath.Join(dir, "pawl.db")
	_, stop := dev(t, environment{}, "--store", store)
	defer stop()
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"--listen", "0.0.0.0:8420"}, 2, "this machine only"},
		{[]string{"--listen", ":8420"}, 2, "this machine only"},
		{[]string{"--listen", "192.168.1.10:80"}, 2, "this machine only"},
		{[]string{"--listen", "[::]:80"}, 2, "this machine only"},
		{[]string{"--listen", "example.com:80"}, 2, "this machine only"},
		{[]string{"--listen", "8420"}, 2, "host:port"},
		{[]string{"--listen", taken.Addr().String()}, 1, "is in use"},
		{[]string{"--listen", "127.0.0.1:0", "--store", store}, 1, "in use by another process"},
		{[]string{"--listen", "127.0.0.1:0", "--store", filepath.Join(dir, "no", "pawl.db")}, 1, "no such file"},
		{[]string{"--listen", "127.0.0.1:0", "--store", "mysql://x"}, 2, "neither"},
		{[]string{"--listen", "127.0.0.1:0", "--store", ""}, 2, "neither"},
		{[]string{"now"}, 2, "takes no argument"},
	} {
		pawlWith(t, environment{}, "", append([]string{"dev"}, c.args...)...).want(t, c.code, c.text)
	}
}

// process is a real pawl dev.
type process struct {
	cmd    *exec.Cmd
	stdout lockedBuffer
	stderr lockedBuffer
	ended  chan struct{}
}

// binary is the program, for the tests that run it as a process of its own.
var binary string

// TestMain is the program itself if it is called by its name. So the tests' processes are made of what was compiled for the
// tests, with the race detector if they have it, and nothing is compiled a second time.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "pawl" {
		syscall.Exit(run(untilSignal(), os.Args, os.Getenv, os.Stdin, os.Stdout, os.Stderr)) // with os.Exit the race detector waits for a second
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "pawl")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		self, err := os.Executable()
		if err == nil {
			binary = filepath.Join(dir, "pawl")
			err = os.Symlink(self, binary)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return pgtest.Main(m)
	}())
}

func startDev(t *testing.T, dir, listen string, env environment, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary, append([]string{"dev", "--listen", listen}, args...)...), ended: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), "OPENAI_API_KEY=", "OPENAI_BASE_URL="+env["OPENAI_BASE_URL"])
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.ended
	})
	addressIn(t, &p.stdout, p.ended, &p.stderr)
	return p
}

// signal sends a signal and waits for the end.
func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		t.Fatalf("it does not end: %s", &p.stderr)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// recorded are the keys of a run's completed steps.
func recorded(t *testing.T, c *api.Client, id string) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	for entry, err := range c.Journal(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		if entry.Kind == pawl.KindStep && !entry.Failed {
			keys[entry.Key] = true
		}
	}
	return keys
}

var questionOf = regexp.MustCompile(`Question: (.*)`)

// askedFor counts calls by what they asked for, named as the steps that ask it.
func askedFor(t *testing.T, script *llmtest.Scripted, topic string) map[string]int {
	t.Helper()
	steps := map[string]string{
		"What is meant by " + topic + ", and what is not?":  "research[0]/look-into",
		"Who has tried it, and what came of it?":            "research[1]/look-into",
		"What does it cost, in money and in trouble?":       "research[2]/look-into",
		"What speaks against it?":                           "research[3]/look-into",
		"How would one notice early that it does not work?": "research[3]/follow-up",
	}
	count := map[string]int{}
	for _, call := range script.Calls() {
		step := "synthesize"
		if call.Schema != nil && call.Schema.Name == "plan" {
			step = "plan"
		} else if m := questionOf.FindStringSubmatch(call.Messages[0].Content); m != nil {
			step = steps[m[1]]
		}
		if step == "" {
			t.Fatalf("a call that no step makes: %+v", call.Messages)
		}
		count[step]++
	}
	return count
}

// The promise of the whole: kill the process in the middle, start it again, and no model
// call whose answer was recorded is made, or paid for, twice. Who watches sees it through.
func TestCrashInTheMiddleOfResearch(t *testing.T) {
	const topic = "tidal power"
	env, script := provider(t, 300*time.Millisecond)
	dir, listen := t.TempDir(), freeAddress(t)
	p := startDev(t, dir, listen, env)
	client, err := api.NewClient("http://"+listen, nil)
	if err != nil {
		t.Fatal(err)
	}
	pawlAt(t, "http://"+listen, "start", "research-agent", "--id", "r", "--input", `{"topic":"`+topic+`"}`, "-q").want(t, 0)
	watched := make(chan result, 1)
	go func() { watched <- pawlAt(t, "http://"+listen, "runs", "follow", "r") }()

	var before map[string]bool
	eventually(t, func() bool { before = recorded(t, client, "r"); return before["research[0]/look-into"] }, &p.stderr)
	p.signal(t, syscall.SIGKILL)
	atKill := len(script.Calls())
	if before["synthesize"] || !before["plan"] {
		t.Fatalf("killed too late or too early: %v", before)
	}

	p = startDev(t, dir, listen, env)
	until(t, client, "r", pawl.Completed)
	calls := askedFor(t, script, topic)
	if len(calls) != 7 {
		t.Errorf("%d different calls were made, want 7: %v", len(calls), calls)
	}
	for step := range before {
		if calls[step] != 1 {
			t.Errorf("%s was recorded before the kill, and asked %d times", step, calls[step])
		}
	}
	for step, n := range calls {
		if n > 2 {
			t.Errorf("%s was asked %d times: once was enough, twice if the kill came in between", step, n)
		}
	}
	if after := len(script.Calls()) - atKill; after > 7-len(before) {
		t.Errorf("%d calls after the restart, but only %d answers were missing", after, 7-len(before))
	}
	r := (<-watched).want(t, 0, "completed in", "# "+topic)
	for step := range calls {
		if n := strings.Count(r.stdout, "✓ "+step+" "); n != 1 {
			t.Errorf("who watched saw %s %d times", step, n)
		}
	}
	p.signal(t, syscall.SIGTERM)
}

// SIGTERM lets the steps under way finish: they are recorded, no attempt is lost, and the
// next start goes on with what is missing.
func TestSIGTERMDrains(t *testing.T) {
	env, script := provider(t, 500*time.Millisecond)
	dir, listen := t.TempDir(), freeAddress(t)
	p := startDev(t, dir, listen, env)
	client, err := api.NewClient("http://"+listen, nil)
	if err != nil {
		t.Fatal(err)
	}
	pawlAt(t, "http://"+listen, "start", "research-agent", "--id", "r", "--input", `{"topic":"knots"}`).want(t, 0)
	eventually(t, func() bool { return askedFor(t, script, "knots")["research[0]/look-into"] == 1 }, &p.stderr)
	p.signal(t, syscall.SIGTERM)
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("exit code %d: %s", code, &p.stderr)
	}
	if text := p.stderr.String(); !strings.Contains(text, "stopping") || !strings.Contains(text, "stopped") {
		t.Errorf("it does not say that it stops: %s", text)
	}
	p = startDev(t, dir, listen, env)
	until(t, client, "r", pawl.Completed)
	for step, n := range askedFor(t, script, "knots") {
		if n != 1 {
			t.Errorf("%s was asked %d times, want once: nothing was killed", step, n)
		}
	}
	run, err := client.Run(t.Context(), "r", 0)
	if err != nil {
		t.Fatal(err)
	}
	if run.Strikes != 0 {
		t.Errorf("an orderly end counts as a crash: %+v", run)
	}
	p.signal(t, syscall.SIGINT)
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d after SIGINT", code)
	}
}

// The second signal does not wait for a step that takes its time.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	env, script := provider(t, time.Hour)
	p := startDev(t, t.TempDir(), "127.0.0.1:0", env)
	url := addressLine.FindStringSubmatch(p.stdout.String())[1]
	pawlAt(t, url, "start", "research-agent", "--input", `{"topic":"knots"}`).want(t, 0)
	eventually(t, func() bool { return len(script.Calls()) == 1 }, &p.stderr)
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return strings.Contains(p.stderr.String(), "stopping") }, &p.stderr)
	select {
	case <-p.ended:
		t.Fatalf("it did not wait for the step: %s", &p.stderr)
	default:
	}
	began := time.Now()
	var after time.Duration // the first signal: one that comes at the same moment, as of a shell and of what it runs, is not another
	for ended := false; !ended; {
		if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		select {
		case <-p.ended:
			ended, after = true, time.Since(began)
		case <-time.After(20 * time.Millisecond):
		}
	}
	if after < together/2 || after > together+3*time.Second {
		t.Errorf("it ended %v after the first signal", after)
	}
	if p.cmd.ProcessState.Success() {
		t.Error("it ended as if all were well")
	}
}
