package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os/user"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/approval"
)

// receivers wait for what comes from outside.
func receivers() []pawl.Definition {
	return append(testWorkflows(),
		pawl.Define("webhook", func(c *pawl.Context, _ any) (string, error) {
			h, err := pawl.NewWebhook(c)
			if err != nil {
				return "", err
			}
			req, err := h.Wait(c)
			if err != nil {
				return "", err
			}
			return pawl.Step(c, "read", func(context.Context) (string, error) { return string(req.Body), nil })
		}),
		pawl.Define("patient", func(c *pawl.Context, _ any) (string, error) {
			_, err := pawl.WaitFor[any](c, "review", pawl.Timeout(time.Hour))
			if errors.Is(err, pawl.ErrTimeout) {
				return "late", nil
			}
			return "in time", err
		}))
}

// A webhook takes requests; a bare payload would reach its run as an empty one.
func TestNothingIsSentIntoAWebhookButRequests(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		pawlAt(t, h.url, "start", "webhook", "--id", "w").want(t, 0)
		until(t, h.client, "w", pawl.Waiting)
		hooks, err := h.client.Hooks(t.Context(), "w")
		if err != nil || len(hooks.Items) != 1 {
			t.Fatal(hooks, err)
		}
		hook := hooks.Items[0]
		for _, args := range [][]string{{"w", hook.Key}, {hook.Token}} {
			pawlAt(t, h.url, append([]string{"hooks", "send", "-d", `{"a":1}`}, args...)...).want(t, 5, "is a webhook", "curl -d TEXT "+hook.URL, "pawl runs show")
		}
		pawlAt(t, h.url, "hooks", "send", "w", "nope").want(t, 3, "pawl hooks list w")
		pawlAt(t, h.url, "hooks", "send", "nope").want(t, 3, "pawl hooks list")
		if run := until(t, h.client, "w", pawl.Waiting); run.Epoch > 1 {
			t.Error("something reached the run", run)
		}
	}, receivers()...)
}

// An event with a wrong name is accepted, as the run may wait for it later; but not without a word.
func TestASignalSaysWhetherItIsWaitedFor(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		pawlAt(t, h.url, "start", "waits", "--id", "w").want(t, 0)
		until(t, h.client, "w", pawl.Waiting)
		pawlAt(t, h.url, "signal", "w", "hello").want(t, 0, "w sent\n", `does not wait for "hello" now: it waits for the event "review"`)
		pawlAt(t, h.url, "runs", "show", "w").want(t, 0, `not waited for so far: "hello"`)
		until(t, h.client, "w", pawl.Waiting)
		if r := pawlAt(t, h.url, "signal", "w", "review").want(t, 0, "w sent\n"); strings.Contains(r.stderr, "does not wait") {
			t.Error(r.stderr)
		}
		until(t, h.client, "w", pawl.Completed)
	}, receivers()...)
}

// What an order has done is told as it is: not the state that the run had when it came.
func TestOrdersTellWhatTheyDid(t *testing.T) {
	h := serve(t, receivers()...)
	for _, id := range []string{"w", "p"} {
		workflow := map[string]string{"w": "waits", "p": "patient"}[id]
		pawlAt(t, h.url, "start", workflow, "--id", id).want(t, 0)
		until(t, h.client, id, pawl.Waiting)
	}
	if r := pawlAt(t, h.url, "runs", "cancel", "w").want(t, 0); r.stdout != "w cancelling\n" && r.stdout != "w cancelled\n" {
		t.Errorf("%q", r.stdout)
	}
	until(t, h.client, "w", pawl.Cancelled)
	pawlAt(t, h.url, "runs", "wake", "p").want(t, 0, "p woken\n", "count as timed out")
	pawlAt(t, h.url, "runs", "result", "p", "--wait").want(t, 0, "late")
	pawlAt(t, h.url, "runs", "wake", "--help").want(t, 0, "a timeout, not an event")
}

// A schedule that could start nothing is refused when it is put, and one that starts nothing shows it.
func TestASchedulesTroubleShows(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		put := func(id, workflow, input string) result {
			return pawlAt(t, h.url, "schedules", "put", id, "--workflow", workflow, "-i", input, "--cron", "@yearly")
		}
		put("s", "failz", "null").want(t, 3, `no workflow is called "failz"`, `did you mean "fails"?`)
		put("s", "fails", `{"why":5}`).want(t, 2, "input of fails")
		pawlAt(t, h.url, "schedules", "show", "s").want(t, 3)
		if r := put("s", "fails", `"x"`).want(t, 0, "made"); strings.Contains(r.stderr, "it was there") {
			t.Error(r.stderr)
		}
		if r := put("s", "fails", `"y"`).want(t, 0, "it was there"); strings.Contains(r.stderr, "made") {
			t.Error(r.stderr)
		}
		pawlAt(t, h.url, "schedules", "list").want(t, 0, "LAST")
		pawlAt(t, h.url, "schedules", "trigger", "s").want(t, 0, "started")
		pawlAt(t, h.url, "schedules", "list").want(t, 0, "started")
		pawlAt(t, h.url, "schedules", "show", "s").want(t, 0, "last ", "started")
	}, receivers()...)
}

// Somebody decides also where the environment does not name them; where nothing does, the hint asks.
func TestADeciderIsTheAccountOfTheMachine(t *testing.T) {
	a := &app{env: environment{}.get, account: func() (*user.User, error) { return &user.User{Username: "root"}, nil }}
	if got := a.person(); got != "root" {
		t.Errorf("%q", got)
	}
	if a.env = (environment{"USER": "ada"}).get; a.person() != "ada" {
		t.Errorf("%q", a.person())
	}
	one := &approval.Approval{ID: "r/pay"}
	if got := a.decisions(one); strings.Contains(got[0], "--by") {
		t.Error(got)
	}
	a.env, a.account = environment{}.get, func() (*user.User, error) { return nil, errors.New("no account") }
	for _, line := range a.decisions(one) {
		if !strings.Contains(line, "--by NAME") {
			t.Error(line)
		}
	}
}

// Where approvers are named, a hint to decide names one that may, and has not yet; with a key nobody has to be named.
func TestHintsToDecideNameAnApprover(t *testing.T) {
	ada := environment{"USER": "ada"}
	for name, c := range map[string]struct {
		env  environment
		key  string
		one  approval.Approval
		want string
	}{
		"anybody":             {ada, "", approval.Approval{}, ""},
		"one of them":         {ada, "", approval.Approval{Approvers: []string{"bo", "ada"}}, ""},
		"another":             {ada, "", approval.Approval{Approvers: []string{"bo@example.com", "cy"}}, " --by bo@example.com"},
		"one with two words":  {ada, "", approval.Approval{Approvers: []string{"bo li"}}, " --by 'bo li'"},
		"nobody knows who":    {environment{}, "", approval.Approval{Approvers: []string{"bo"}}, " --by bo"},
		"a key":               {ada, "$PAWL_API_KEY", approval.Approval{Approvers: []string{"bo"}}, ""},
		"who has started it":  {ada, "", approval.Approval{Approvers: []string{"bo", "cy"}, Not: []string{"bo"}}, " --by cy"},
		"who has voted":       {ada, "", approval.Approval{Approvers: []string{"bo", "cy"}, Need: 2, Votes: []approval.Decision{{By: "bo", Approved: true}}}, " --by cy"},
		"who comes to decide": {ada, "", approval.Approval{Approvers: []string{"bo"}, Not: []string{"bo"}, Escalate: &approval.Escalation{After: time.Hour, Approvers: []string{"cy"}}, Asked: time.Now().Add(-2 * time.Hour)}, " --by cy"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &app{self: "pawl", env: c.env.get, account: func() (*user.User, error) { return nil, errors.New("no account") }, meant: shownTarget{Key: c.key}}
			c.one.ID = "r/pay"
			got := a.decisions(&c.one)
			if want := []string{"pawl approve r/pay" + c.want, "pawl reject r/pay --comment WHY" + c.want}; !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// An approver without a key is sent a link, which leads to the page; one that was decided is still found.
func TestALinkOfAnApproval(t *testing.T) {
	url, _ := dev(t, environment{"PAWL_SECRET": strings.Repeat("x", 40)}, "--store", ":memory:")
	pawlAt(t, url, "start", "approval-demo", "--id", "run_a", "-i", `{"text":"Tea at five"}`).want(t, 0)
	client, err := api.NewClient(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	until(t, client, "run_a", pawl.Waiting)
	pawlAt(t, url, "approvals", "show", "a").want(t, 0, "pawl approvals link run_a/")
	link := strings.TrimSpace(pawlAt(t, url, "approvals", "link", "a", "--approver", "ann").want(t, 0, "decides as ann").stdout)
	res, err := http.Get(link)
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.StatusCode != 200 || !strings.HasPrefix(link, url) || !strings.Contains(string(page), "Tea at five") {
		t.Errorf("%s: %d %v", link, res.StatusCode, err)
	}
	pawlAt(t, url, "approve", "a", "--by", "ann").want(t, 0, "approved")
	pawlAt(t, url, "approvals", "show", "a").want(t, 0, "approved", "ann")
	pawlAt(t, url, "approve", "a", "--by", "bob").want(t, 5, "ann")
}

// Hints lead to what helps.
func TestHintsLeadSomewhere(t *testing.T) {
	h := serve(t, receivers()...)
	pawlAt(t, h.url, "workflows", "lsit").want(t, 2, "see: pawl workflows --help")
	pawlAt(t, h.url, "start").want(t, 2, "see: pawl start --help")
	pawlAt(t, h.url, "signal").want(t, 2, "see: pawl signal --help")
	pawlAt(t, h.url, "runs", "list").want(t, 0, "no runs; start one")
	if r := pawlAt(t, h.url, "runs", "list", "--workflow", "ecko").want(t, 0, "no run fits", `did you mean "echo"?`); strings.Contains(r.stderr, "no runs") {
		t.Error(r.stderr)
	}
	pawlAt(t, strings.TrimPrefix(h.url, "http://"), "runs", "list").want(t, 0)
	if got := fit([]int{30, 9, 20, 8, 8, 20}, 60); len(got) < 2 || got[1] != 9 {
		t.Errorf("the second column has given: %v", got)
	}
}
