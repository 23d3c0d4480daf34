package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
)

func TestCostsAreThoseOfTheLedger(t *testing.T) {
	t.Chdir(t.TempDir())
	env, _ := provider(t, 0)
	url, _ := dev(t, env)
	pawlAt(t, url, "costs").want(t, 0, "nothing was charged")
	pawlAt(t, url, "start", "research-agent", "--id", "r", "--input", `{"topic":"tidal power"}`, "--follow").
		want(t, 0, "openai/gpt-4o-mini: ", " tokens in, ", "for $0.0")
	sums := map[string]int64{}
	for _, by := range []string{"", "model", "step", "run", "workflow", "day", "version", "prompt"} {
		args := []string{"costs", "r", "-o", "json"}
		if by != "" {
			args = append(args, "--by", by)
		}
		var list struct{ Items []pawl.Cost }
		if err := json.Unmarshal([]byte(pawlAt(t, url, args...).want(t, 0).stdout), &list); err != nil {
			t.Fatal(err)
		}
		for _, c := range list.Items {
			sums[by] += c.Amount
		}
		if sums[by] == 0 || sums[by] != sums[""] {
			t.Errorf("by %q the run has cost %d, and %d", by, sums[by], sums[""])
		}
	}
	pawlAt(t, url, "costs", "r", "--by", "step").want(t, 0, "STEP", "research/look-into", "synthesize", "in all", money(pawl.USD, sums[""]))
	pawlAt(t, url, "costs", "--workflow", "research-agent", "--since", "1h").want(t, 0, "WORKFLOW", "research-agent")
	pawlAt(t, url, "costs", "--until", "2026-01-01").want(t, 0, "nothing was charged")
	pawlAt(t, url, "costs", "--model", "openai/gpt-4o").want(t, 0, "nothing was charged")
	pawlAt(t, url, "costs", "nobody").want(t, 3, "nobody")
	pawlAt(t, url, "costs", "--by", "dya").want(t, 2, "model, step, run, workflow, day")
	pawlAt(t, url, "costs", "--since", "yesterday").want(t, 2, "such as 24h")
}

// A run that may not spend what its first call can cost makes no call.
func TestABudgetIsGivenAtTheStart(t *testing.T) {
	t.Chdir(t.TempDir())
	env, script := provider(t, 0)
	url, _ := dev(t, env)
	pawlAt(t, url, "start", "research-agent", "--id", "r", "--budget", "0.0001", "--input", `{"topic":"tidal power"}`, "--follow").
		want(t, exitRunFailed, "$0.0001 left of $0.0001")
	if n := len(script.Calls()); n != 0 {
		t.Errorf("%d calls were made", n)
	}
	pawlAt(t, url, "start", "research-agent", "--budget", "-1", "--input", `{"topic":"x"}`).want(t, 2, "such as 0.50")
	// What a call cost whose price is not known is not known: what budgets count is told apart.
	other, stop := dev(t, env, "--store", "other.db", "--model", "tiny-1")
	pawlAt(t, other, "start", "research-agent", "--input", `{"topic":"tidal power"}`, "--follow").want(t, 0, "cost unknown, $0.100000 assumed", ", for unknown in ")
	if r := pawlAt(t, other, "costs").want(t, 0, "ASSUMED", "unknown"); strings.Count(r.stdout, "$0.") != 1 {
		t.Errorf("it shows more than what was assumed: %s", r.stdout)
	}
	stop()
}
