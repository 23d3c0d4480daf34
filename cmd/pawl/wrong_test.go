package main

import (
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
)

// What is typed wrongly is answered with what is right, and with the help of the command that was meant.
func TestWrongCallsSayWhatIsRight(t *testing.T) {
	h := serve(t, testWorkflows()...)
	pawlAt(t, h.url, "start", "waits", "--id", "w", "-q").want(t, 0)
	until(t, h.client, "w", pawl.Waiting)
	for line, want := range map[string]struct {
		code  int
		texts []string
	}{
		"rnus list":                   {2, []string{`unknown command "rnus" for "pawl"; did you mean "runs"?`}},
		"runs lsit":                   {2, []string{`did you mean "list"?`, "see: pawl runs --help"}},
		"runs list extra":             {2, []string{`pawl runs list takes no argument: "extra" is too much`, "see: pawl runs list --help"}},
		"runs show":                   {2, []string{"needs a RUN; there are: w", "see: pawl runs show --help"}},
		"approve":                     {2, []string{"needs an APPROVAL", "see: pawl approve --help"}},
		"events send":                 {2, []string{"it is called as: pawl events send EVENT", "see: pawl events send --help"}},
		"man":                         {2, []string{"it is called as: pawl man DIR"}},
		"hooks send a b c":            {2, []string{"it is called as: pawl hooks send RUN [KEY]"}},
		"runs list --timeout -1s":     {2, []string{"--timeout -1s"}},
		"runs fork w --from nowhere":  {3, []string{"pawl journal w"}},
		"runs list --no-such":         {2, []string{"unknown flag: --no-such", "see: pawl runs list --help"}},
		"graph":                       {2, []string{"needs a FILE, a WORKFLOW or a RUN; there are: chain"}},
		"signal w review x":           {2, []string{"needs a RUN, and an EVENT", "see: pawl signal --help"}},
		"context use":                 {2, []string{"see: pawl context use --help"}},
		"schedules pause":             {2, []string{"needs a SCHEDULE"}},
		"runs list --output mermaid":  {2, []string{"it is one of table"}},
		"budgets topup research":      {2, []string{"it is called as: pawl budgets topup NAME AMOUNT"}},
		"prompts activate":            {2, []string{"see: pawl prompts activate --help"}},
		"start echo --on-conflict no": {2, []string{"existing", "see: pawl start --help"}},
	} {
		r := pawlAt(t, h.url, strings.Fields(line)...).want(t, want.code, want.texts...)
		if r.stdout != "" || strings.Contains(r.stderr, "\n\n") {
			t.Errorf("%s: %q %q", line, r.stdout, r.stderr)
		}
	}
}
