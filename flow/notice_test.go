package flow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/pawltest"
	"github.com/pawlrun/pawl/service"
)

// chat is a service that asks with buttons, and mailer one with addresses, as slack and email do.
type chat struct{ desk }

func (*chat) Actions() []service.Action {
	return []service.Action{
		{Name: "sendMessage", Effect: service.Writes, Params: json.RawMessage(`{"type":"object"}`)},
		{Name: "requestApproval", Effect: service.Writes, Params: json.RawMessage(`{"type":"object","required":["approval","channel"],"additionalProperties":false,
			"properties":{"channel":{"type":"string","x-pawl-trusted":true},"message":{"type":"string"},"text":{"type":"string"},"approval":{"type":"string","minLength":1,"x-pawl-trusted":true}}}`)},
	}
}

type mailer struct{ desk }

func (*mailer) Actions() []service.Action {
	return []service.Action{{Name: "send", Effect: service.Writes, Params: json.RawMessage(`{"type":"object","required":["to","subject"],"additionalProperties":false,
		"properties":{"to":{"type":["string","array"],"items":{"type":"string"},"x-pawl-trusted":true},"subject":{"type":"string"},"text":{"type":"string"},"html":{"type":"string","x-pawl-fill":"html"}}}`)}}
}

func messengers(t testing.TB) (flow.Options, *chat, *mailer) {
	c, m := &chat{}, &mailer{}
	opt := options(t, &desk{})
	opt.Services["chat"], opt.Services["mail"] = c, m
	opt.BaseURL = "https://pawl.example.org"
	return opt, c, m
}

// pay asks two people for a decision.
const pay = `{"id": "pay", "steps": [{"id": "ask", "type": "wait", "retryPolicy": {"maxAttempts": 2, "backoffMs": 1000}, "config": {"for": "approval", "approvers": ["ann@example.org", "bob", "grace"], "title": "Pay {{variables.n}}?",
	"message": "For <eve>.", "details": {"n": "{{variables.n}}"}, "timeoutMs": 86400000, "remindMs": 36000000, "notify": [{"service": "chat", "channel": "#pay"}, {"service": "mail"}]}, "next": {"approved": "end", "rejected": "fail"}}]}`

// linkIn is the address in a text.
func linkIn(text string) string {
	_, link, _ := strings.Cut(text, "https://pawl.example.org"+approval.LinkPath)
	link, _, _ = strings.Cut(link, `\n`)
	return strings.TrimSpace(link)
}

func TestJ51_peopleAreToldThatTheyAreAsked(t *testing.T) {
	opt, c, m := messengers(t)
	f := flow.Define(parse(t, pay, opt), opt)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, f, flow.Variables{"n": 12}, pawl.ID("r"))
		for len(m.said()) < 2 || len(c.said()) < 2 { // and once more after ten hours
			time.Sleep(time.Hour)
		}
		links := approval.Links{Engine: h.Engine()}
		o, err := links.Open(h.Context(), linkIn(m.said()[0]))
		if err != nil {
			t.Fatalf("%v: %s", err, m.said()[0])
		}
		equal(t, "whose link it is", o.Approver, "ann@example.org")
		mail := m.said()[0]
		for _, want := range []string{"send subject=Pay 12? text=", "For \\u003ceve\\u003e.", "n: 12", "to=ann@example.org"} {
			if !strings.Contains(mail, want) {
				t.Errorf("the mail is %s, want %q in it", mail, want)
			}
		}
		if strings.Contains(strings.Join(c.said(), ""), approval.LinkPath) {
			t.Errorf("a channel has got a link, which is a secret of one: %q", c.said())
		}
		if !strings.Contains(m.said()[1], "subject=Reminder: Pay 12?") {
			t.Errorf("reminded by %s", m.said()[1])
		}
		_, button, _ := strings.Cut(c.said()[0], "approval=")
		button, _, _ = strings.Cut(button, " ")
		if _, err := links.Press(h.Context(), button+"x", approval.Answer{Approved: true, By: "bob"}); err == nil {
			t.Error("a forged button decides")
		}
		if _, err := links.Press(h.Context(), linkIn(m.said()[0]), approval.Answer{Approved: true, By: "bob"}); err == nil {
			t.Error("a link of one is a button for others")
		}
		if _, err := links.Press(h.Context(), button, approval.Answer{Approved: true, By: "eve"}); err == nil || !strings.Contains(err.Error(), "only ann@example.org, bob, grace may") {
			t.Errorf("eve pressed: %v", err)
		}
		if _, err := links.Press(h.Context(), button, approval.Answer{Approved: true, By: "bob", Via: "slack"}); err != nil {
			t.Error(err)
		}
		if out := string(pawltest.Result(h, run)); !strings.Contains(out, `"by":"bob"`) {
			t.Errorf("it completed with %s", out)
		}
		var events []string
		all, err := approval.History(h.Context(), h.Engine(), pawl.Ref{ID: "r/ask"})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			events = append(events, e.What+" "+e.Via)
		}
		if !slices.Contains(events, "notified-asked notice-mail") || !slices.Contains(events, "notified-reminder notice-chat") {
			t.Errorf("the history has %q", events)
		}
	}, f)
}

// People are reminded at their times, once each, by a worker that takes over too; who was asked and has decided is left alone.
func TestJ51_peopleAreRemindedUntilItIsDecided(t *testing.T) {
	opt, c, m := messengers(t)
	f := flow.Define(parse(t, strings.Replace(pay, `36000000`, `18000000`, 1), opt), opt)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, f, flow.Variables{"n": 12}, pawl.ID("r"))
		for told := 1; told <= 3; told++ { // asked, and reminded after 5 and 10 hours
			time.Sleep(4*time.Hour + 59*time.Minute)
			h.Crash()
			equal(t, fmt.Sprint("just before reminder ", told), fmt.Sprint(len(m.said()), len(c.said())), fmt.Sprint(told, told))
			time.Sleep(time.Minute)
		}
		time.Sleep(time.Hour)
		answer(h, pawl.Ref{ID: "r/ask"}, true)
		pawltest.Result(h, run)
		time.Sleep(48 * time.Hour)
		equal(t, "mails", strings.Count(strings.Join(m.said(), "\n"), "subject=Reminder: Pay 12?"), 3)
		equal(t, "told", fmt.Sprint(len(m.said()), len(c.said())), "4 4")
	}, f)
}

// A server that is stopped between two reminders is followed by one that goes on: nobody is asked again, and each reminder is on record once.
func TestJ51_remindersSurviveARestart(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, c, m := messengers(t)
		store := open()
		s := serve(t, store, opt)
		s.deploys(t, strings.Replace(strings.Replace(pay, `36000000`, `300`, 1), `86400000`, `120000`, 1))
		if _, err := s.StartRun(t.Context(), "pay", json.RawMessage(`{"n": 12}`), pawl.ID("r")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a reminder", func() bool { return len(m.said()) >= 2 && len(c.said()) >= 2 })
		s.stop()
		before := len(m.said())
		s = serve(t, store, opt)
		eventually(t, "another", func() bool { return len(m.said()) > before })
		if _, err := (approval.Links{Engine: s.Engine}).Decide(t.Context(), linkIn(m.said()[0]), approval.Answer{Approved: true}); err != nil {
			t.Fatal(err)
		}
		s.result(t, "", "r")
		history, err := approval.History(t.Context(), s.Engine, pawl.Ref{ID: "r/ask"})
		if err != nil {
			t.Fatal(err)
		}
		told := map[string]int{}
		for _, e := range history {
			told[e.What+" "+e.Via]++
		}
		asked := 0
		for _, mail := range m.said() {
			if !strings.Contains(mail, "subject=Reminder: ") {
				asked++
			}
		}
		equal(t, "asked", fmt.Sprint(asked, told["notified-asked notice-mail"]), "1 1")
		equal(t, "reminders on record", told["notified-reminder notice-mail"], len(m.said())-1)
	})
}

// A wait that would fail each run that comes to it is refused, and reminders that can't come are warned of.
func TestJ51_anApprovalThatCanNotBeIsRefused(t *testing.T) {
	opt, _, _ := messengers(t)
	w := flow.World{Services: opt.Services, Model: opt.Model}
	doc := func(more string) string {
		return `{"id": "f", "steps": [{"id": "ask", "type": "wait", "config": {"for": "approval", "notify": [{"service": "chat", "channel": "#a"}], ` + more + `}, "next": {"approved": "end", "rejected": "end"}}]}`
	}
	for more, want := range map[string]string{
		`"remindMs": 60000`:                             "/steps/0/config/remindMs: every 1m0s is more than 1000 reminders until its end after 168h0m0s; remind every 10m4.8s or more seldom",
		`"need": 3, "approvers": ["ann", "bob", "ann"]`: "/steps/0/config/need: 3 must approve, and only 2 may",
		`"approvers": ["a\nb"]`:                         "/steps/0/config/approvers/0: ",
	} {
		if all := problems(t, doc(more), w); len(all) != 1 || !strings.Contains(all[0], want) {
			t.Errorf("%s: told %q, want %q", more, all, want)
		}
	}
	f := parse(t, doc(`"remindMs": 60000, "timeoutMs": 60000`), opt)
	if len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0].String(), "nobody is reminded, as it ends after 1m0s") {
		t.Errorf("warned %+v", f.Warnings)
	}
}

// What can't be told loses no wait: it stands in the execution, others are told, and the decision counts.
func TestANoticeThatFailsIsShownAndTheRunWaits(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, c, m := messengers(t)
		c.fail = func(string) error { return &service.Error{Code: service.Unavailable, Message: "the chat is away"} }
		s := serve(t, open(), opt)
		s.deploys(t, strings.Replace(pay, `"backoffMs": 1000`, `"backoffMs": 1`, 1))
		if _, err := s.StartRun(t.Context(), "pay", json.RawMessage(`{"n": 12}`), pawl.ID("r")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "both have been tried", func() bool { return len(m.said()) == 1 && len(c.said()) == 2 })
		var x flow.Execution
		eventually(t, "it is shown", func() bool {
			var err error
			if x, err = s.Execution(t.Context(), "", "r"); err != nil {
				t.Fatal(err)
			}
			return slices.ContainsFunc(x.Errors, func(e flow.StepFailure) bool {
				return e.Step == "ask" && e.Final && strings.Contains(e.Message, "the chat is away")
			})
		})
		equal(t, "it waits", len(x.Current), 1)
		if _, err := (approval.Links{Engine: s.Engine}).Decide(t.Context(), linkIn(m.said()[0]), approval.Answer{Approved: true}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is decided", func() bool {
			x, err := s.Execution(t.Context(), "", "r")
			return err == nil && x.Status == pawl.Completed
		})
	})
}

func TestNoticesAreCheckedWhenTheyAreDeployed(t *testing.T) {
	opt, _, _ := messengers(t)
	w := flow.World{Services: opt.Services, Model: opt.Model}
	doc := func(notify string) string {
		return `{"id": "f", "steps": [{"id": "say", "type": "ai-decision", "config": {"prompt": "Who?"}, "next": "ask"}, {"id": "ask", "type": "wait", "config": {"for": "approval", "approvers": ["ann", "bob"], "message": "{{stepResults.say.output}}", "notify": [` + notify + `]}, "next": {"approved": "end", "rejected": "end"}}]}`
	}
	for notify, want := range map[string]string{
		`{"service": "chat"}`:  `/steps/1/config/notify/0: chat.requestApproval needs the parameter "channel"`,
		`{"service": "chatt"}`: `/steps/1/config/notify/0/service: there is no service "chatt"`,
		`{"service": "chat", "channel": "#a", "colour": "red"}`:                 `/steps/1/config/notify/0/colour: chat.requestApproval has no parameter "colour"`,
		`{"service": "chat", "channel": "#a", "approval": "x"}`:                 `/steps/1/config/notify/0/approval: the buttons of a notice are those of its wait`,
		`{"service": "chat", "channel": "#a", "message": "{{approval.titel}}"}`: `an approval has no "titel"`,
		`{"service": "mail"}`: `needs the parameter "to"`,
		`{"service": "mail", "to": "a@example.org", "approver": "carl"}`:                `/steps/1/config/notify/0/approver: "carl" is none of the approvers`,
		`{"service": "mail", "to": "{{stepResults.say.output}}"}`:                       `a model may have written it, and to of mail.send says who or what is reached`,
		`{"service": "mail", "to": "{{approval.message}}"}`:                             `a model may have written it`,
		`{"service": "mail", "to": "{{variables.x}}", "text": "{{steps.gone.output}}"}`: `there is no step "gone"`,
		`{}`: `the field "service" is missing`,
	} {
		if all := problems(t, doc(notify), w); !strings.Contains(strings.Join(all, "\n"), want) {
			t.Errorf("%s: told %q, want %q", notify, all, want)
		}
	}
	if all := problems(t, `{"id": "f", "steps": [{"id": "ask", "type": "wait", "config": {"for": "event", "event": "x", "notify": [{"service": "mail", "to": "a"}]}, "next": "end"}]}`, w); !strings.Contains(all[0], `notify has no meaning where the wait is for "event"`) {
		t.Errorf("told %q", all)
	}
	if all := problems(t, `{"id": "f", "steps": [{"id": "a", "type": "transform", "config": {"expression": "1"}, "next": "b"}, {"id": "b", "type": "service", "config": {"service": "desk", "to": "{{approval.link}}"}, "next": "end"}]}`, w); !strings.Contains(all[0], `there is nothing called "approval"`) {
		t.Errorf("told %q", all)
	}
	f, err := flow.Parse([]byte(doc(`{"service": "mail", "to": ["a@example.org", "bob"]}`)), w)
	if err != nil {
		t.Fatal(err)
	}
	warned := ""
	for _, p := range f.Warnings {
		warned += p.String() + "\n"
	}
	if !strings.Contains(warned, "the notice to a@example.org holds no link") || strings.Contains(warned, "to bob") {
		t.Errorf("warned %q", warned)
	}
	equal(t, "service calls at most", many(f.WorstCase(w).ServiceCalls.Most), "8") // two mails, each tried four times
}

// Killed at each commit, a wait tells each person with one key of each notice, and takes the decision.
func TestNoticesSurviveCrashes(t *testing.T) {
	var effects pawltest.Effects
	opt, c, m := messengers(t)
	opt.Services["chat"], opt.Services["mail"] = done{c, &effects}, done{m, &effects}
	f := flow.Define(parse(t, strings.Replace(pay, `"remindMs": 36000000, `, "", 1), opt), opt)
	pawltest.CrashEverywhere(t, f, flow.Variables{"n": 12}, pawltest.WithEffects(&effects), pawltest.WithDriver(func(h *pawltest.Harness, id string) {
		answer(h, pawl.Ref{ID: id + "/ask"}, true)
	}), pawltest.WithEqual(func(_ string, a, b json.RawMessage) bool { return withoutAt(a) == withoutAt(b) }))
}

// done is a service whose calls are effects, each by the key of its step.
type done struct {
	service.Service
	effects *pawltest.Effects
}

func (d done) Call(ctx context.Context, _ service.Call) (any, error) {
	d.effects.Do(ctx, pawl.InfoOf(ctx).Step)
	return map[string]any{}, nil
}

// withoutAt leaves out when it was decided.
func withoutAt(data json.RawMessage) string {
	var v map[string]any
	if json.Unmarshal(data, &v) != nil {
		return string(data)
	}
	delete(v, "at")
	return fmt.Sprint(v)
}
