package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/spf13/cobra"
)

// elsewhere are commands whose examples need what a test does not have: a server's own place, root's
// directories, the machine to themselves. Others test them.
var elsewhere = []string{"serve", "dev", "bench", "mock-llm", "config", "databases", "check", "context", "completion", "health", "doctor"}

// The examples in the help of each command can be copied as they stand: a shell runs them with the real
// program against a real server, where a run has the id that they name. A wrong name may be
// not found and a run may be in another state; nothing may be wrong usage.
func TestExamplesInHelpRun(t *testing.T) {
	t.Chdir(t.TempDir())
	models := demo.Scripted(demo.Paced(0))
	h := serve(t, append(exampleWorkflows(models), pawl.Define("echo", func(*pawl.Context, any) (any, error) { return nil, nil }))...)
	path := t.TempDir()
	if err := os.Symlink(binary, filepath.Join(path, "pawl")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"question.json": `{"question":"fees?"}`, "review.json": `{"approved":true}`, "answer.json": "{}", "invoice.json": "{}", "greet.txt": "Hello", "prompt.md": "Hello", "stripe.key": "sk", "hub.key": "whsec"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir("flows", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"flows/triage.yaml": firstFlow, "flows/triage.test.yaml": firstCases} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ran := map[string]int{}
	each(commands(t), func(cmd *cobra.Command) {
		words := strings.Fields(cmd.CommandPath())
		if !cmd.HasParent() || cmd.HasSubCommands() || slices.Contains(elsewhere, words[1]) {
			return
		}
		for line := range strings.Lines(cmd.Example) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " && ")
			if !strings.HasPrefix(line, cmd.CommandPath()) {
				continue
			}
			line = strings.Replace(line, "--timeout 5m", "--timeout 1s", 1)
			begin(t, h.client)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			if cmd.Flag("follow") != nil || cmd.Flag("watch") != nil || words[1] == "watch" || cmd.Name() == "follow" {
				line += " --timeout 1s"
			}
			sh := exec.CommandContext(ctx, "sh", "-c", line)
			sh.Env = []string{"PATH=" + path + ":" + os.Getenv("PATH"), "PAWL_SERVER=" + h.url, "HOME=" + t.TempDir(), "USER=ada"}
			out, err := sh.CombinedOutput()
			cancel()
			var exit *exec.ExitError
			code := 0
			if errors.As(err, &exit) {
				code = exit.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			asked := code == exitUsage && strings.Contains(string(out), "-y") // there is nobody to be asked
			if !asked && !slices.Contains([]int{exitOK, exitNotFound, exitConflict, exitRunFailed, exitTimeout}, code) {
				t.Errorf("exit code %d of: %s\n%s", code, line, out)
			}
			if words[1] == "watch" && strings.Contains(string(out), "carried out") {
				t.Errorf("%s only reads, and says: %s", line, out)
			}
			if code == 0 {
				ran[cmd.CommandPath()]++
			} else {
				t.Logf("%d %s: %s", code, line, strings.TrimSpace(string(out)))
			}
		}
	})
	pawlAt(t, h.url, "keys", "revoke", "none").want(t, 3, "pawl keys list")
	pawlAt(t, h.url, "prompts", "rollback", "greet").want(t, 5, "pawl prompts list")
	pawlAt(t, h.url, "hooks", "send", "run_01JD", "none").want(t, 3, "pawl hooks list run_01JD")
	pawlAt(t, h.url, "hooks", "send", "none").want(t, 3, "pawl hooks list")
	if len(ran) < 30 {
		t.Errorf("only %d commands have an example that worked: %v", len(ran), ran)
	}
}

// begin sees to it that there is a run as the examples name it, and that it waits.
func begin(t *testing.T, c *api.Client) {
	t.Helper()
	const id = "run_01JD"
	if run, err := c.Run(t.Context(), id, 0); err == nil {
		if run.State == pawl.Waiting {
			return
		}
		if !run.State.Terminal() {
			if _, err := c.Cancel(t.Context(), id, ""); err != nil && !errors.Is(err, pawl.ErrEnded) {
				t.Fatal(err)
			}
			if _, err := c.Run(t.Context(), id, 30*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.DeleteRun(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Start(t.Context(), api.StartRequest{Workflow: "content-pipeline", ID: id, Input: []byte(`{"topic":"knots","audience":"sailors"}`)}, 0); err != nil {
		t.Fatal(err)
	}
	until(t, c, id, pawl.Waiting)
}
