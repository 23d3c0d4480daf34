package main

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/examples/waits"
	"github.com/pawlrun/pawl/machine"
	"github.com/pawlrun/pawl/trigger"
)

type sheet struct{ Text string }

// waiting are workflows that wait, each in another way.
func waiting(t *testing.T) []pawl.Definition {
	t.Helper()
	draft, err := machine.Define("draft", "write", []machine.State[sheet]{
		{Name: "write", Do: func(context.Context, *sheet) (machine.Next, error) { return machine.Wait("print"), nil }, To: []string{"print"}},
		{Name: "print", Do: func(context.Context, *sheet) (machine.Next, error) { return machine.Done(), nil }, To: []string{machine.End}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	asks := pawl.Define("asks", func(c *pawl.Context, _ any) (any, error) { return pawl.WaitFor[any](c, "it's time") })
	return append(testWorkflows(), draft, asks, waits.NewWebhook(), waits.NewApproval(),
		pawl.Define("parent", func(c *pawl.Context, _ any) (any, error) { return asks.Call(c, nil, pawl.ID("of-parent")) }),
		pawl.Define("stock", func(c *pawl.Context, _ any) (any, error) {
			return trigger.WaitFor[any](c, "stock.arrived", trigger.Where("event.data.n > 1"))
		}),
		pawl.Define("two", func(c *pawl.Context, _ any) (any, error) {
			a := pawl.Go(c, "a", func(c *pawl.Context) (any, error) { return pawl.WaitFor[any](c, "left") })
			b := pawl.Go(c, "b", func(c *pawl.Context) (any, error) { return pawl.WaitFor[any](c, "right") })
			_, err := pawl.All(c, a, b)
			return nil, err
		}),
		pawl.Define("hooks-two", func(c *pawl.Context, _ any) (any, error) {
			a, err := pawl.NewHook[any](c)
			if err != nil {
				return nil, err
			}
			if _, err := pawl.NewHook[any](c); err != nil {
				return nil, err
			}
			return a.Wait(c)
		}),
		pawl.Define("slow", func(c *pawl.Context, _ any) (any, error) {
			return nil, pawl.Do(c, "work", func(ctx context.Context) error {
				select {
				case <-ctx.Done():
				case <-time.After(5 * time.Second):
				}
				return ctx.Err()
			})
		}))
}

// What "start" says of a run that waits, and "runs show" after it, answers the run when it is typed.
func TestStartSaysWhatAnswersTheRun(t *testing.T) {
	lookFor = 20 * time.Second
	t.Cleanup(func() { lookFor = time.Second })
	eachStore(t, func(t *testing.T, h *house) {
		at := func(args ...string) result {
			return pawlWith(t, environment{"PAWL_SERVER": h.url, "USER": "ada"}, "", args...)
		}
		for workflow, c := range map[string]struct{ input, why, next, json string }{
			"waits":            {"null", `for the event "review"`, "pawl signal r-waits review --data JSON", "{}"},
			"asks":             {"null", `"it's time"`, `pawl signal r-asks 'it'\''s time' --data JSON`, "1"},
			"hooks":            {"null", "for a payload on hook", `pawl hooks send r-hooks '$hook' --data JSON`, "{}"},
			waits.WebhookDemo:  {"null", "for a request to webhook", "curl -d TEXT " + h.url + pawl.WebhookPath, ""},
			waits.ApprovalDemo: {`{"text":"Tea"}`, `for the approval "Hang up`, "pawl approve r-approval-demo/hang", ""},
			"stock":            {"null", "(event stock.arrived)", "pawl events send stock.arrived --data JSON", `{"n":2}`},
			"sleeps":           {"null", "for its timer at", "pawl runs wake r-sleeps", ""},
			"parent":           {"null", "for its children of-parent", `pawl signal of-parent 'it'\''s time' --data JSON`, "1"},
			"draft":            {`{"Text":"a"}`, `"machine:write"`, `pawl signal r-draft machine:write --data '{"patch":JSON,"go":true}'`, `{"Text":"b"}`},
		} {
			id := "r-" + workflow
			started := at("start", workflow, "--id", id, "-i", c.input).want(t, 0, c.why, c.next, "follow it: pawl runs follow "+id)
			if started.stdout != id+"\n" {
				t.Errorf("%s: the data are %q", workflow, started.stdout)
			}
			shown := at("runs", "show", id).want(t, 0, c.why, "next        "+c.next)
			line := ""
			for text := range strings.Lines(shown.stdout) {
				if rest, ok := strings.CutPrefix(text, "next "); ok && line == "" {
					line = strings.TrimSpace(rest)
				}
			}
			line = strings.Replace(line, "JSON", c.json, 1)
			if rest, ok := strings.CutPrefix(line, "curl -d TEXT "); ok {
				res, err := http.Post(rest, "text/plain", strings.NewReader("hello"))
				if err != nil || res.StatusCode != 200 {
					t.Fatal(err, res)
				}
				res.Body.Close()
			} else {
				at(words(line)[1:]...).want(t, 0)
			}
			at("runs", "result", id, "--wait", "--timeout", "30s").want(t, 0)
		}
		if r := at("start", "waits", "--id", "q", "-q").want(t, 0); r.stderr != "" {
			t.Errorf("-q: %q", r.stderr)
		}
		at("start", "echo", "--id", "e").want(t, 0, "it has completed", "pawl runs result e")
		at("start", "fails", "--id", "f", "-i", `"broken"`).want(t, 0, "it has failed", "pawl runs show f")
		at("runs", "show", "f").want(t, 0, "next        pawl runs retry f")
		signed := at("start", waits.WebhookDemo, "--id", "s", "-i", `{"scheme":"github","secret":"hub"}`).want(t, 0, `signed as github does, with the secret "hub"`)
		if strings.Contains(signed.stderr, "TEXT") {
			t.Errorf("it says that an unsigned request will do: %s", signed.stderr)
		}
		at("runs", "pause", "q").want(t, 0)
		until(t, h.client, "q", pawl.Paused)
		at("runs", "show", "q").want(t, 0, "next        pawl runs resume q")
	}, waiting(t)...)
}

// A run that is at work for longer than start looks is no reason to hold who started it.
func TestStartLooksForAMomentOnly(t *testing.T) {
	h := serve(t, waiting(t)...)
	began := time.Now()
	r := pawlAt(t, h.url, "start", "slow", "--id", "s").want(t, 0, "follow it")
	if d := time.Since(began); d > 4*time.Second || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("after %s: %s", d, r.stderr)
	}
	pawlAt(t, h.url, "runs", "cancel", "s").want(t, 0)
}

func TestAnswersNeedNoNameWhereThereIsOne(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		at := func(args ...string) result {
			return pawlWith(t, environment{"PAWL_SERVER": h.url, "USER": "ada"}, "", args...)
		}
		for id, workflow := range map[string]string{"p": waits.ApprovalDemo, "p10": waits.ApprovalDemo, "run_q": waits.ApprovalDemo, "w": "waits", "two": "two", "h": "hooks", "h2": "hooks-two", "st": "stock"} {
			input := "null"
			if workflow == waits.ApprovalDemo {
				input = `{"text":"Tea"}`
			}
			at("start", workflow, "--id", id, "-i", input, "-q").want(t, 0)
			until(t, h.client, id, pawl.Waiting)
		}
		at("approve", "p").want(t, 0, "p/hang approved") // and p10 asks too
		at("reject", "q").want(t, 0, "run_q/hang rejected")
		at("approve", "w").want(t, 5, "run w asks for no approval", `for the event "review"`, "pawl signal w review --data JSON")
		at("approve", "p").want(t, 5, "run p asks for no approval")
		at("approve", "nobody").want(t, 3, "approvals list")
		at("signal", "two").want(t, 2, "waits for 2 events", "pawl signal two left --data JSON", "pawl signal two right --data JSON")
		at("signal", "h").want(t, 5, "waits for no event", "pawl hooks send h")
		at("signal", "w", "-d", "7").want(t, 0)
		at("runs", "result", "w", "--wait").want(t, 0, "7")
		at("signal", "w").want(t, 5, "it is completed")
		at("hooks", "send", "h2").want(t, 2, "has 2 hooks", `pawl hooks send h2 '$hook#2' --data JSON`)
		at("hooks", "send", "st").want(t, 5, "has no hook that takes a payload", "pawl events send stock.arrived")
		at("hooks", "send", "h", "-d", "8").want(t, 0, "runs follow h")
		at("runs", "result", "h", "--wait").want(t, 0, "8")
		at("hooks", "send", "nobody").want(t, 3)
	}, waiting(t)...)
}

func TestServersWithoutAWorkflowSayWhereItIsStarted(t *testing.T) {
	h := serve(t)
	pawlAt(t, h.url, "start", "mine").want(t, 3, `"mine"`, "started in it", "--server URL")
}

// Completion offers what begins as typed, however much there is, at once, and says nothing of errors.
func TestCompletionOfMuch(t *testing.T) {
	h := serve(t, waiting(t)...)
	for _, group := range []string{"a", "b"} { // those of b are newer, and fill a page
		for i := range 60 {
			if _, err := h.client.Start(t.Context(), api.StartRequest{Workflow: "waits", ID: fmt.Sprintf("%s-%02d", group, i)}, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 60 {
		pawlAt(t, h.url, "schedules", "put", fmt.Sprintf("s-%02d", i), "--workflow", "echo", "--cron", "@daily", "-q").want(t, 0)
	}
	pawlAt(t, h.url, "start", "hooks", "--id", "h").want(t, 0)
	token := strings.TrimSpace(pawlAt(t, h.url, "hooks", "list", "h", "--jq", ".items[0].token").want(t, 0).stdout)
	for args, want := range map[string]int{"runs show a-": 60, "runs cancel b-5": 10, "schedules show s-": 60, "schedules pause s-3": 10, "graph a-1": 10, "graph ech": 1,
		"hooks send " + token[:5]: 1, "signal a-": 60, "runs show zz": 0} {
		r := pawlAt(t, h.url, append([]string{"__complete"}, strings.Fields(args)...)...).want(t, 0)
		words, _, _ := strings.Cut(r.stdout, ":4")
		if got := strings.Fields(words); len(got) != want {
			t.Errorf("%s: %d, want %d: %q", args, len(got), want, got)
		}
	}
	if r := pawlAt(t, h.url, "__complete", "signal", "a-07", ""); !strings.HasPrefix(r.stdout, "review\n") {
		t.Errorf("%s", r.stdout)
	}
	n := 0
	all := pages("b", func(string) ([]string, string, error) { // of a server whose pages have no end
		n++
		return []string{fmt.Sprint("a", n), fmt.Sprint("b", n)}, "next", nil
	})
	if len(all) != enough || all[0] != "b1" {
		t.Errorf("%d", len(all))
	}
}

func TestCompletionIsSilentAndNotHeldUp(t *testing.T) {
	release := make(chan struct{})
	deaf := refusingAll(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	angry := refusingAll(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 500) })
	for _, url := range []string{deaf, angry, "http://127.0.0.1:1", "nonsense"} {
		began := time.Now()
		cmd := exec.CommandContext(t.Context(), binary, "__complete", "runs", "show", "")
		cmd.Env = []string{"PAWL_SERVER=" + url}
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Errorf("%s: %v", url, err)
		}
		// cobra's own line, which scripts throw away, is all.
		if stdout.String() != ":4\n" || strings.Count(stderr.String(), "\n") != 1 || !strings.HasPrefix(stderr.String(), "Completion ended with directive") {
			t.Errorf("%s: %q %q", url, stdout.String(), stderr.String())
		}
		if d := time.Since(began); d > 10*time.Second { // it is 250 ms and the start of a process; machines of tests are busy
			t.Errorf("%s took %s", url, d)
		}
	}
}
