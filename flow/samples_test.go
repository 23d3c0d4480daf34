package flow_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/service/database"
	"github.com/pawlrun/pawl/service/email"
)

// office are services with the actions that the samples call. They take any parameters, and say back what they are told.
type office []string

func (o office) Actions() (all []service.Action) {
	for _, name := range o {
		all = append(all, service.Action{Name: name, Effect: service.Writes, Params: json.RawMessage(`{"type":"object"}`)})
	}
	return all
}

func (office) Call(_ context.Context, c service.Call) (any, error) { return c.Params, nil }

func offices() service.Set {
	return service.Set{"http": office{"request"}, "slack": office{"sendMessage"}, "email": office{"send"}, "database": office{"query"}}
}

// realServices are pawl's own, with nobody behind them.
func realServices(t *testing.T) service.Set {
	t.Helper()
	web, err := service.NewHTTP(service.HTTPOptions{})
	chat, cerr := service.NewSlack(service.SlackOptions{Token: "xoxb-test"})
	mail, merr := email.New(email.Options{Host: "127.0.0.1", From: "pawl@example.org", TLS: email.NoTLS})
	db, derr := database.New(database.Options{Connections: map[string]database.Connection{"main": {DSN: "sqlite:" + filepath.Join(t.TempDir(), "audit.db"), Execute: true}}})
	if err := errors.Join(err, cerr, merr, derr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return service.Set{"http": web, "slack": chat, "email": mail, "database": db}
}

// What people bring along is deployed and does what it says, or is refused with all that is wrong with it, each with its place.
func TestSamples(t *testing.T) {
	missing := func(pointer, step string) string { return pointer + `: there is no step "` + step + `" here` }
	const noID = `: the field "id" is missing`
	const noSchema = "/steps/0/config: outputFormat json needs a schema of what the answer holds"
	faults := map[string][]string{
		"demo-triage.json": nil,
		"notify-all.json":  nil,
		"ticket-triage.json": {
			missing("/steps/0/next/billing", "route-billing"), missing("/steps/0/next/feature-request", "log-feature"), missing("/steps/2/next/default", "create-incident"),
			`/steps/3/config/service: there is no service "ticketSystem"`,
		},
		"expense-approval.json": {
			noSchema, missing("/steps/1/next/auto-approve", "process-payment"), missing("/steps/1/next/reject", "notify-rejection"), missing("/steps/2/next/default", "wait-for-approval"),
		},
		"template-content-moderation.json": {
			noID, noSchema, missing("/steps/1/next/approve", "publish"), missing("/steps/1/next/flag", "human-review"), missing("/steps/1/next/reject", "notify-author"),
		},
		"template-data-enrichment.json": {noID, missing("/steps/1/next/default", "store")},
		"template-incident-response.json": {
			noID, missing("/steps/0/next/P1", "page-team"), missing("/steps/0/next/P2", "page-team"), missing("/steps/0/next/P3", "slack-notify"), missing("/steps/0/next/P4", "log-only"),
		},
	}
	runs := map[string]struct{ variables, output string }{
		"demo-triage.json": {`{"ticketText":"The app does not start."}`, `"billing"`}, // the script says the first value
		"notify-all.json":  {`{"text":"Fire!","to":"all@example.org"}`, `"message":"Fire!"`},
	}
	files, err := filepath.Glob("testdata/samples/*.json")
	if err != nil || len(files) != len(faults) {
		t.Fatal(files, err)
	}
	opt := options(t, nil, llmtest.Echo())
	opt.Services = offices()
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, known := faults[filepath.Base(file)]
			if !known {
				t.Fatal("nothing is said here of what is wrong with it")
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = flow.Parse(data, flow.World{Services: opt.Services, Model: opt.Model})
			var found flow.Problems
			if errors.As(err, &found) {
				found = found.Faults()
			}
			var got []string
			for _, p := range found {
				if got = append(got, p.Pointer+": "+p.Message); p.Line == 0 || p.Column == 0 {
					t.Errorf("it is not said where: %+v", p)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("told is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if run, sound := runs[filepath.Base(file)]; sound {
				if _, err := flow.Parse(data, flow.World{Services: realServices(t), Model: opt.Model}); err != nil {
					t.Errorf("with the services that there are: %v", err)
				}
				if out := completes(t, string(data), run.variables, opt); !strings.Contains(out, run.output) {
					t.Errorf("it ends with %s, want %s", out, run.output)
				}
			}
		})
	}
}
