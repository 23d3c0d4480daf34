package flow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/flow/flowtest"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/storetest/pgtest"
	"github.com/pawlrun/pawl/trigger"
)

// The samples run as they are or, where something is missing in them, as they were completed by hand: every step that was there
// has its id, its prompt and its ways, and what they lead to was added.
var completed = []string{
	"samples/demo-triage.json", "samples/notify-all.json",
	"completed/ticket-triage.json", "completed/expense-approval.json", "completed/template-content-moderation.json",
	"completed/template-data-enrichment.json", "completed/template-incident-response.json",
}

func completedFile(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// What was completed is the sample: no step of it is gone, none has another type or way.
func TestCompletedSamplesAreTheSamples(t *testing.T) {
	type node struct {
		ID, Type string
		Next     map[string]string
		Config   struct{ Prompt, Service, Action, Channel, OutputVariable string }
	}
	type document struct{ Steps []node }
	for _, name := range completed[2:] {
		var was, is document
		for into, file := range map[*document]string{&was: "samples/" + filepath.Base(name), &is: name} {
			if err := json.Unmarshal([]byte(completedFile(t, file)), into); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
		for _, want := range was.Steps {
			i := slices.IndexFunc(is.Steps, func(n node) bool { return n.ID == want.ID })
			if i < 0 {
				t.Errorf("%s: the step %s is gone", name, want.ID)
				continue
			}
			got := is.Steps[i]
			got.Config.Prompt, want.Config.Prompt = "", "" // a value that may be missing has a default
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: the step %s is %v, and was %v", name, want.ID, got, want)
			}
		}
	}
}

// Their cases hold, and go every way.
func TestCompletedSamplesDoWhatTheirCasesSay(t *testing.T) {
	set := realTown(t).services(t)
	for _, name := range completed {
		t.Run(name, func(t *testing.T) {
			cases, err := flowtest.ReadCases([]byte(completedFile(t, strings.TrimSuffix(name, ".json")+".test.yaml")))
			if err != nil {
				t.Fatal(err)
			}
			r, err := flowtest.Run(t.Context(), []byte(completedFile(t, name)), cases, flowtest.Options{Services: set, Limit: 5 * time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range r.Cases {
				for _, failure := range c.Failures {
					t.Errorf("%s: %s", c.Name, failure)
				}
			}
			if len(r.Coverage.Missed) > 0 || len(r.Notes) > 0 {
				t.Errorf("no case goes %v; %v", r.Coverage.Missed, r.Notes)
			}
		})
	}
}

// realTown has a database of the kind that the test's store is.
func realTown(t *testing.T) *town {
	t.Helper()
	if strings.Contains(t.Name(), "/postgres") {
		at := pgtest.URL(t)
		return newTown(t, at, "pgx", at)
	}
	at := filepath.Join(t.TempDir(), "town.db")
	return newTown(t, "sqlite:"+at, "sqlite", "file:"+at+"?_pragma=busy_timeout(30000)")
}

// lived is one run of a completed sample among real servers.
type lived struct {
	what, file, input string
	says              []llmtest.Rule
	decide            map[string]bool // approvals, by their step
	fails             map[string]int  // how often a place is out of order first
	told              []string        // all that the town was told
	rows              map[string]string
}

func says(prompt, text string) llmtest.Rule { return llmtest.Rule{Contains: prompt, Text: text} }

const (
	aTicket   = `{"ticketId": "T-7", "ticketText": "It says \"no\".", "customerTier": "gold", "accountValue": 12000, "customerEmail": "zoe@example.com"}`
	anExpense = `{"expenseId": "E-9", "amount": 120.5, "category": "travel", "description": "A train.", "employeeName": "Ada", "employeeEmail": "ada@example.com", "employeeLevel": "staff"}`
	aPost     = `{"contentId": "c-1", "content": "Hello.", "authorEmail": "ann@example.com"}`
	anAlert   = `{"alertId": "a-1", "alertMessage": "The database is down."}`
	ackMail   = "mail zoe@example.com: We have your ticket: Hello, we have your ticket T-7, and somebody is looking at it."
)

var lives = []lived{
	{what: "billing", file: "samples/demo-triage.json", input: `{"ticketText": "I was charged twice."}`, says: []llmtest.Rule{says("billing, technical or general", "Billing.")}},
	{what: "all are told", file: "samples/notify-all.json", input: `{"text": "Fire in \"B\"!", "to": "all@example.org"}`, fails: map[string]int{"slack": 1, "mail": 1},
		told: []string{`mail all@example.org: Alert: Fire in "B"!`, `slack #alerts: Fire in "B"!`}, rows: map[string]string{"SELECT text FROM audit_log": `[Fire in "B"!]`}},
	{what: "a fault gets an engineer", file: "completed/ticket-triage.json", input: aTicket, says: []llmtest.Rule{says("Which of billing", "technical"), says("How severe", "4")},
		fails: map[string]int{"tickets": 1}, told: []string{ackMail, `PUT /tickets/T-7/assignment {"priority":4,"queue":"technical"}`}},
	{what: "an outage", file: "completed/ticket-triage.json", input: aTicket, says: []llmtest.Rule{says("Which of billing", "I would say: Urgent Outage.")},
		told: []string{`POST /incidents {"ticket":"T-7","title":"Outage: It says \"no\"."}`, ackMail, `slack #oncall-alerts: Urgent: It says "no". (gold)`}},
	{what: "a small expense is paid", file: "completed/expense-approval.json", input: anExpense, fails: map[string]int{"payments": 2},
		says: []llmtest.Rule{says("Screen this expense", "```json\n{\"decision\": \"auto-approve\", \"reason\": \"below 500\"}\n```")},
		told: []string{`POST /payments {"amount":120.5,"payee":"ada@example.com","reference":"E-9"}`}},
	{what: "a person decides", file: "completed/expense-approval.json", input: anExpense, decide: map[string]bool{"wait-for-approval": true},
		says: []llmtest.Rule{says("Screen this expense", `{"decision": "needs-review", "reason": "travel"}`)},
		told: []string{`POST /payments {"amount":120.5,"payee":"ada@example.com","reference":"E-9"}`, "slack #approvals: Please decide on $120.5 for Ada. The screening says: travel"}},
	{what: "a person does not want it", file: "completed/expense-approval.json", input: anExpense, decide: map[string]bool{"wait-for-approval": false},
		says: []llmtest.Rule{says("Screen this expense", `{"decision": "needs-review", "reason": "travel"}`)}, fails: map[string]int{"mail": 1},
		told: []string{"mail ada@example.com: Your expense E-9: It is not approved. The screening said: travel", "slack #approvals: Please decide on $120.5 for Ada. The screening says: travel"}},
	{what: "a person lets it through", file: "completed/template-content-moderation.json", input: aPost, decide: map[string]bool{"human-review": true}, fails: map[string]int{"contents": 1},
		says: []llmtest.Rule{says("break our policy", `{"action": "flag", "reason": "unclear"}`)}, told: []string{"PUT /contents/c-1/published"}},
	{what: "turned down", file: "completed/template-content-moderation.json", input: aPost, says: []llmtest.Rule{says("break our policy", `{"action": "reject", "reason": "spam"}`)},
		told: []string{"mail ann@example.com: Your contribution: c-1 was not published. spam"}},
	{what: "a good lead", file: "completed/template-data-enrichment.json", input: `{"domain": "acme.example"}`, fails: map[string]int{"find": 1},
		says: []llmtest.Rule{says(`"Acme"`, "8")}, rows: map[string]string{"SELECT domain, company, score FROM leads": "[acme.exampleAcme8]"}},
	{what: "nobody knows it", file: "completed/template-data-enrichment.json", input: `{"domain": "nobody.example"}`,
		says: []llmtest.Rule{says("nothing is known", "2")}, rows: map[string]string{"SELECT domain, coalesce(company, 'null'), score FROM leads": "[nobody.examplenull2]"}},
	{what: "P1", file: "completed/template-incident-response.json", input: anAlert, fails: map[string]int{"alerts": 1}, says: []llmtest.Rule{says("P1 to P4", "P1")},
		told: []string{`POST /alerts {"dedupeKey":"a-1","severity":"P1","summary":"The database is down."}`, "slack #incidents: P1: The database is down."},
		rows: map[string]string{"SELECT id, severity, message FROM incidents": "[a-1P1The database is down.]"}},
	{what: "P4", file: "completed/template-incident-response.json", input: anAlert, says: []llmtest.Rule{says("P1 to P4", "p4")},
		rows: map[string]string{"SELECT id, severity FROM incidents": "[a-1P4]"}},
}

// Among real servers, which fail now and then, each does what its text promises, each effect once, on both stores.
func TestCompletedSamplesLive(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		store := open()
		for _, life := range lives {
			t.Run(filepath.Base(life.file)+": "+life.what, func(t *testing.T) { live(t, store, life) })
		}
	})
}

func live(t *testing.T, store pawl.Store, life lived) {
	w := realTown(t)
	for place, n := range life.fails {
		w.fails[place] = n
	}
	opt := options(t, nil, life.says...)
	opt.Services = w.services(t)
	s := serve(t, store, opt)
	tenant := strings.ReplaceAll(life.what, " ", "-")
	doc := strings.ReplaceAll(completedFile(t, life.file), "https://companies.example", w.url)
	d, err := s.Deploy(t.Context(), flow.Deployment{Tenant: tenant, Document: []byte(doc)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { // the path of its webhook is free again
		if _, err := s.Deactivate(t.Context(), tenant, d.ID, "ann", 0); err != nil {
			t.Error(err)
		}
	}()
	run, err := s.StartRun(t.Context(), d.ID, json.RawMessage(life.input), pawl.Tenant(tenant))
	if err != nil {
		t.Fatal(err)
	}
	for step, approved := range life.decide {
		decide(t, s.Engine, pawl.Ref{Tenant: tenant, ID: run.ID + "/" + step}, approved)
	}
	s.result(t, tenant, run.ID)
	told, want := w.seen(), slices.Clone(life.told)
	slices.Sort(told)
	slices.Sort(want)
	same(t, "told", told, want...)
	for query, want := range life.rows {
		equal(t, query, fmt.Sprint(w.rows(t, query)), want)
	}
	for place, n := range life.fails {
		tries := w.keys[place]
		if len(tries) != n+1 || slices.ContainsFunc(tries, func(key string) bool { return key != tries[0] }) {
			t.Errorf("%s was asked with the keys %q, want the same %d times", place, tries, n+1)
		}
	}
}

// decide answers an approval when it is asked for.
func decide(t *testing.T, e *pawl.Engine, ref pawl.Ref, approved bool) {
	t.Helper()
	var asked approval.Approval
	eventually(t, ref.ID+" is asked", func() (is bool) {
		var err error
		asked, err = approval.Get(t.Context(), e, ref)
		return err == nil
	})
	if _, err := approval.Decide(t.Context(), e, ref, approval.Answer{Approved: approved, By: "grace", Shown: asked.Shown}); err != nil {
		t.Fatal(err)
	}
}

// The ticket comes as a request to its path, which is answered with the run's id; the post as an event.
func TestCompletedSamplesAreStarted(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := realTown(t)
		opt := options(t, nil, says("Which of billing", "billing"), says("break our policy", `{"action": "approve", "reason": "polite"}`))
		opt.Services = w.services(t)
		s := serve(t, open(), opt)
		background(t, (&trigger.Runner{Engine: s.Engine, Poll: 50 * time.Millisecond}).Run)
		c := s.calls(t, api.Options{})
		s.deploys(t, completedFile(t, "completed/ticket-triage.json"))
		s.deploys(t, completedFile(t, "completed/template-content-moderation.json"))

		first := c.send("POST", "/webhooks/support-ticket", aTicket)
		equal(t, "answer", fmt.Sprint(first.status, first.body), fmt.Sprintf(`202{"executionId":%q,"status":"started"}`, first.execution))
		equal(t, "the same ticket again", c.send("POST", "/webhooks/support-ticket", aTicket).execution, first.execution)
		s.result(t, "", first.execution)
		p, err := trigger.Publish(t.Context(), s.Engine, trigger.Event{Name: "content.submitted", Data: json.RawMessage(aPost)})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the post is published", func() bool { return slices.Contains(w.seen(), "PUT /contents/c-1/published") })
		told := w.seen()
		slices.Sort(told)
		same(t, fmt.Sprintf("told (event %v)", p.ID), told, "PUT /contents/c-1/published", `PUT /tickets/T-7/assignment {"priority":3,"queue":"billing"}`, ackMail)
	})
}

// Killed at each commit, each goes on where it was and ends as it would have ended.
func TestCompletedSamplesSurviveCrashes(t *testing.T) {
	set := realTown(t).services(t)
	seen := map[string]bool{}
	for _, life := range lives {
		if seen[life.file] && life.decide == nil {
			continue // one of each, and those with people
		}
		seen[life.file] = true
		t.Run(filepath.Base(life.file)+": "+life.what, func(t *testing.T) {
			var effects pawltest.Effects
			opt := options(t, nil, life.says...)
			opt.Services = service.Set{}
			for name, s := range set {
				opt.Services[name] = dry{s, &effects}
			}
			var in flow.Variables
			if err := json.Unmarshal([]byte(life.input), &in); err != nil {
				t.Fatal(err)
			}
			more := []pawltest.CrashOption{pawltest.WithEffects(&effects), pawltest.WithEqual(func(_ string, a, b json.RawMessage) bool { return withoutTimes(a) == withoutTimes(b) })}
			if life.decide != nil {
				more = append(more, pawltest.WithDriver(func(h *pawltest.Harness, runID string) {
					for step, approved := range life.decide {
						answer(h, pawl.Ref{ID: runID + "/" + step}, approved)
					}
				}))
			}
			pawltest.CrashEverywhere(t, flow.Define(parse(t, completedFile(t, life.file), opt), opt), in, more...)
		})
	}
}

var times = regexp.MustCompile(`"(started|completed)At":"[^"]*"`)

// withoutTimes leaves out when steps of branches began and ended: a crash takes time.
func withoutTimes(data json.RawMessage) string { return times.ReplaceAllString(string(data), "") }

// answer is decide in virtual time.
func answer(h *pawltest.Harness, ref pawl.Ref, approved bool) {
	for h.Context().Err() == nil {
		asked, err := approval.Get(h.Context(), h.Engine(), ref)
		if err == nil {
			_, _ = approval.Decide(h.Context(), h.Engine(), ref, approval.Answer{Approved: approved, By: "grace", Shown: asked.Shown}) // a crash may have let it through already
			return
		}
		time.Sleep(time.Minute)
	}
}

// dry is a service that plans its calls and makes none: there is no network in virtual time.
type dry struct {
	service.Service
	effects *pawltest.Effects
}

func (s dry) Call(ctx context.Context, c service.Call) (any, error) {
	c.DryRun = true
	if _, err := s.Service.Call(ctx, c); err != nil {
		return nil, err
	}
	s.effects.Do(ctx, pawl.InfoOf(ctx).Step)
	return map[string]any{"body": map[string]any{"name": "Acme"}}, nil
}
