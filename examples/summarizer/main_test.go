package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pawlrun/pawl/examples/demo/demotest"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// The process is killed while the model is asked. Another one goes on: the caller, who has
// the id only, finds the summary.
func TestAKilledSummaryGoesOn(t *testing.T) {
	program, dir := demotest.Build(t), t.TempDir()
	provider := demotest.Serve(t, llmtest.Script(llmtest.Rule{Text: "Rope is strands."}))
	asked := provider.Hold(1)
	p := begin(t, program, dir, "OPENAI_BASE_URL="+provider.URL, "OPENAI_API_KEY=no-key-is-needed")
	made := p.call(t, "POST", "/summaries", `{"text": "Rope is made of strands."}`)
	select {
	case <-asked:
	case <-time.After(time.Minute):
		t.Fatal("the model is not asked")
	}
	p.end(t, syscall.SIGKILL)

	p = begin(t, program, dir, "OPENAI_BASE_URL="+provider.URL, "OPENAI_API_KEY=no-key-is-needed")
	var got map[string]any
	for deadline := time.Now().Add(time.Minute); got["state"] != "completed"; {
		if time.Now().After(deadline) {
			t.Fatalf("it does not go on: %v", got)
		}
		got = p.call(t, "GET", "/summaries/"+made["id"].(string), "")
	}
	if got["summary"] != "Rope is strands." {
		t.Errorf("the summary is %v", got)
	}
	if n := len(provider.Take()); n != 2 {
		t.Errorf("%d calls, want 2: the one that was cut off, and its second try", n)
	}
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("after SIGTERM it ended with code %d\n%s", code, p.said())
	}
}

func TestItSaysWhatIsNotSet(t *testing.T) {
	p := begin(t, demotest.Build(t), t.TempDir())
	said := p.said()
	for _, text := range []string{"SCRIPT", "OPENAI_API_KEY", "OPENAI_BASE_URL", "GITHUB_WEBHOOK_SECRET", "SUMMARIZER_API_KEY"} {
		if !strings.Contains(said, text) {
			t.Errorf("it does not name %s:\n%s", text, said)
		}
	}
	if a := p.call(t, "POST", "/summaries?wait=30s", `{"text": "rope"}`); !strings.Contains(a["summary"].(string), "[scripted: no model was asked]") {
		t.Errorf("the summary does not say that it is scripted: %v", a)
	}
	if code := p.end(t, syscall.SIGINT); code != 0 {
		t.Errorf("after Ctrl-C it ended with code %d", code)
	}
}

func TestWrongFlagsAreNamed(t *testing.T) {
	program := demotest.Build(t)
	for text, args := range map[string][]string{
		"-daily":      {"-daily", "9 o'clock"},
		"Mars/Base":   {"-zone", "Mars/Base"},
		"no-such-dir": {"-listen", "127.0.0.1:0", "-store", "no-such-dir/s.db"},
		"x.db":        {"x.db"},
	} {
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir = t.TempDir()
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), text) {
			t.Errorf("%q: %v, %s", args, err, out)
		}
	}
}

// process is the program under way.
type process struct {
	cmd *exec.Cmd
	log string // a file
	url string
}

// begin starts the program on a free port, with nothing set but what env says, and returns
// when it serves.
func begin(t *testing.T, program, dir string, env ...string) *process {
	t.Helper()
	log, err := os.CreateTemp(dir, "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := &process{cmd: exec.Command(program, "-listen", "127.0.0.1:0", "-store", filepath.Join(dir, "s.db")), log: log.Name()}
	p.cmd.Dir, p.cmd.Stderr = dir, log
	p.cmd.Env = env
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // fails if it has ended, as it should have
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, rest, ok := strings.Cut(p.said(), "serving    "); ok && strings.Contains(rest, "daily ") {
			p.url, _, _ = strings.Cut(rest, "\n")
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not serve:\n%s", p.said())
		}
	}
}

func (p *process) said() string {
	b, _ := os.ReadFile(p.log) // what is missing is reported by who looks for it
	return string(b)
}

func (p *process) call(t *testing.T, method, path, body string) (out map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%v\n%s", err, p.said())
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil || res.StatusCode > 299 {
		t.Fatalf("%s %s: %s %s %v", method, path, res.Status, b, err)
	}
	return out
}

// end sends a signal and returns the exit code.
func (p *process) end(t *testing.T, s syscall.Signal) int {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // the code tells it
	return p.cmd.ProcessState.ExitCode()
}
