package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pawlrun/pawl/examples/demo/demotest"
	"github.com/pawlrun/pawl/llm/llmtest"
)

func TestMain(m *testing.M) {
	demotest.Become(main)
	os.Exit(m.Run())
}

// The process is killed while the model is asked. Another one goes on: the caller, who has
// the id only, finds the summary.
func TestAKilledSummaryGoesOn(t *testing.T) {
	program, dir := demotest.Program(t), t.TempDir()
	provider := demotest.Serve(t, llmtest.Script(llmtest.Rule{Text: "Rope is strands."}))
	asked := provider.Hold(1)
	p := demotest.Launch(t, program, dir, []string{"OPENAI_BASE_URL=" + provider.URL, "OPENAI_API_KEY=no-key-is-needed"}, "-store", "s.db")
	made := p.Call(t, "POST", "/summaries", `{"text": "Rope is made of strands."}`).Object
	select {
	case <-asked:
	case <-time.After(time.Minute):
		t.Fatal("the model is not asked")
	}
	p.Kill(t)

	p = demotest.Launch(t, program, dir, []string{"OPENAI_BASE_URL=" + provider.URL, "OPENAI_API_KEY=no-key-is-needed"}, "-store", "s.db")
	var got map[string]any
	demotest.Await(t, "it goes on", func() bool {
		got = p.Call(t, "GET", "/summaries/"+made["id"].(string), "").Object
		return got["state"] == "completed"
	}, func() string { return fmt.Sprint(got) })
	if got["summary"] != "Rope is strands." {
		t.Errorf("the summary is %v", got)
	}
	if n := len(provider.Take()); n != 2 {
		t.Errorf("%d calls, want 2: the one that was cut off, and its second try", n)
	}
	if code := p.End(t, syscall.SIGTERM); code != 0 {
		t.Errorf("after SIGTERM it ended with code %d\n%s", code, p.Said())
	}
}

func TestItSaysWhatIsNotSet(t *testing.T) {
	p := demotest.Launch(t, demotest.Program(t), t.TempDir(), nil)
	said := p.Said()
	for _, text := range []string{"SCRIPT", "OPENAI_API_KEY", "OPENAI_BASE_URL", "GITHUB_WEBHOOK_SECRET", "SUMMARIZER_API_KEY"} {
		if !strings.Contains(said, text) {
			t.Errorf("it does not name %s:\n%s", text, said)
		}
	}
	if a := p.Call(t, "POST", "/summaries?wait=30s", `{"text": "rope"}`).Object; !strings.Contains(a["summary"].(string), "[scripted: no model was asked]") {
		t.Errorf("the summary does not say that it is scripted: %v", a)
	}
	if code := p.End(t, syscall.SIGINT); code != 0 {
		t.Errorf("after Ctrl-C it ended with code %d", code)
	}
}

func TestWrongFlagsAreNamed(t *testing.T) {
	program := demotest.Program(t)
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
