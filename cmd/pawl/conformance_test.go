package main

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// What upstream's tests look at with its CLI: the hooks of a run, in the order of their making, what
// is known of each, and the run with its input and output when they were answered.
func TestB1_054_056_hooksByCommandLine(t *testing.T) {
	three := pawl.Define("three", func(c *pawl.Context, token string) (out []string, err error) {
		h, err := pawl.NewHook[string](c, pawl.Token(token), pawl.Meta(map[string]string{"customData": "mine"}))
		if err != nil {
			return nil, err
		}
		for range 2 {
			if _, err := pawl.NewWebhook(c); err != nil {
				return nil, err
			}
		}
		for range 3 {
			s, err := h.Wait(c)
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		}
		return out, nil
	})
	eachStore(t, func(t *testing.T, h *house) {
		pawlAt(t, h.url, "start", "three", "--id", "run-54", "--input", `"t-54"`).want(t, 0)
		until(t, h.client, "run-54", pawl.Waiting)
		var hooks api.HookList
		r := pawlAt(t, h.url, "hooks", "list", "run-54", "-o", "json").want(t, 0)
		if err := json.Unmarshal([]byte(r.stdout), &hooks); err != nil || len(hooks.Items) != 3 {
			t.Fatalf("%s: %v", r.stdout, err)
		}
		first := hooks.Items[0]
		if first.Token != "t-54" || first.Public || string(first.Meta) != `{"customData":"mine"}` || !hooks.Items[1].Public || !hooks.Items[2].Public {
			t.Errorf("hooks: %+v", hooks.Items)
		}
		pawlAt(t, h.url, "hooks", "send", "invalid", "--data", "1").want(t, exitNotFound)
		for _, m := range []string{"one", "two", "three"} {
			pawlAt(t, h.url, "hooks", "send", "t-54", "--data", `"`+m+`"`).want(t, 0, "run-54")
		}
		until(t, h.client, "run-54", pawl.Completed)
		var run api.Run
		r = pawlAt(t, h.url, "runs", "show", "run-54", "-o", "json").want(t, 0)
		if err := json.Unmarshal([]byte(r.stdout), &run); err != nil || run.Workflow != "three" || run.State != pawl.Completed || string(run.Result) != `["one","two","three"]` {
			t.Errorf("%s: %v", r.stdout, err)
		}
		r = pawlAt(t, h.url, "journal", "run-54", "-o", "json").want(t, 0)
		if n := strings.Count(r.stdout, `"hook"`); n < 3 {
			t.Errorf("the journal has %d hooks: %s", n, r.stdout)
		}
	}, three)
}

// cancelRun by the command line, as a process that ends.
func TestB1_103_cancelByCommandLine(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		pawlAt(t, h.url, "start", "sleeps", "--id", "long").want(t, 0)
		until(t, h.client, "long", pawl.Waiting)
		asProcess(t, h.url, "runs", "cancel", "long", "--reason", "not needed").want(t, 0, "long ")
		until(t, h.client, "long", pawl.Cancelled)
		asProcess(t, h.url, "runs", "result", "long").want(t, 8, "cancelled", "not needed")
	}, testWorkflows()...)
}

// Health over HTTP: there is one address for all workflows.
func TestB1_104_healthOverHTTP(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		for _, path := range []string{"/healthz", "/readyz"} {
			res, err := http.Get(h.url + path)
			if err != nil {
				t.Fatal(err)
			}
			var health struct{ Status, Name string }
			err = json.NewDecoder(res.Body).Decode(&health)
			res.Body.Close()
			if err != nil || res.StatusCode != 200 || health.Status != "ok" || health.Name != "pawl" {
				t.Errorf("%s: %d %+v %v", path, res.StatusCode, health, err)
			}
		}
	}, testWorkflows()...)
}

func TestB1_106_healthByCommandLine(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		var report struct {
			AllHealthy bool    `json:"allHealthy"`
			LatencyMs  float64 `json:"latencyMs"`
		}
		r := asProcess(t, h.url, "health", "-o", "json").want(t, 0)
		if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || !report.AllHealthy || report.LatencyMs <= 0 {
			t.Errorf("%s: %v", r.stdout, err)
		}
		pawlAt(t, h.url, "health").want(t, 0, "✓ server", "✓ engine and store")
	}, testWorkflows()...)
	r := pawlWith(t, environment{}, "", "health", "-o", "json", "--server", "http://127.0.0.1:1").want(t, 7, "pawl dev")
	if !strings.Contains(r.stdout, `"allHealthy":false`) {
		t.Errorf("%s", r.stdout)
	}
	h := serve(t, testWorkflows()...)
	pawlAt(t, refusing(t, h.url, "/readyz"), "health").want(t, 1, "✓ server", "✗ engine and store", "out of order", "pawl doctor")
}

// A person who never saw pawl has "pawl --help", and what each command says to do next.
func TestANewcomerFindsTheWay(t *testing.T) {
	h := serve(t, testWorkflows()...)
	help := pawlAt(t, h.url, "--help").want(t, 0).stdout
	var steps []string
	for _, m := range regexp.MustCompile(`(?m)^  \d\. .*?: +pawl (.*)$`).FindAllStringSubmatch(help, -1) {
		steps = append(steps, m[1])
	}
	if len(steps) != 6 || steps[0] != "dev" {
		t.Fatalf("the help has no way to go: %q", steps)
	}
	// What stands in capitals is filled in with what the steps before have shown.
	known := map[string]string{"JSON": `{"approved":true}`}
	do := func(line string) result {
		args := strings.Fields(line)
		for i, arg := range args {
			if arg == strings.ToUpper(arg) && arg[0] != '-' {
				if known[arg] == "" {
					t.Fatalf("%s: nobody has said what %s is", line, arg)
				}
				args[i] = known[arg]
			}
		}
		return pawlAt(t, h.url, args...).want(t, 0)
	}
	lines := strings.Split(strings.TrimSpace(do(steps[1]).stdout), "\n")
	known["WORKFLOW"], _, _ = strings.Cut(lines[len(lines)-1], " ") // "waits"
	known["RUN"] = strings.TrimSpace(do(steps[2]).stdout)
	until(t, h.client, known["RUN"], pawl.Waiting)
	shown := do(steps[3]).stdout
	if !strings.Contains(shown, "why         it waits for the event") {
		t.Errorf("it does not say why: %s", shown)
	}
	m := regexp.MustCompile(`next +pawl signal \S+ (\S+) --data JSON`).FindStringSubmatch(shown)
	if m == nil {
		t.Fatalf("it does not say what to do next: %s", shown)
	}
	known["EVENT"] = m[1]
	do(steps[4])
	until(t, h.client, known["RUN"], pawl.Completed)
	if r := do(steps[5]); !strings.Contains(r.stdout, `"approved": true`) {
		t.Errorf("the result: %s", r.stdout)
	}
}
