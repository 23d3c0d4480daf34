package flow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/pawltest"
	"github.com/pawlrun/pawl/service"
)

// teller is a service that is told an address and says what it was told.
type teller struct {
	mu        sync.Mutex
	addresses []string
}

func (s *teller) Actions() []service.Action {
	return []service.Action{{Name: "tell", Effect: service.Writes, Params: json.RawMessage(`{"type": "object", "properties": {"address": {"type": "string"}}}`)}}
}

func (s *teller) Call(_ context.Context, c service.Call) (any, error) {
	var in struct{ Address string }
	err := json.Unmarshal(c.Params, &in)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses = append(s.addresses, in.Address)
	return "was told " + in.Address, err
}

func (s *teller) told() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.addresses...)
}

// request sends a body to an address, as the server does.
func request(t *testing.T, h *pawltest.Harness, address, body string) error {
	t.Helper()
	_, token, is := strings.Cut(address, pawl.WebhookPath)
	if !is {
		t.Fatalf("%q is no address of a webhook", address)
	}
	_, err := h.Engine().Deliver(h.Context(), pawl.Delivery{Token: token, Data: pawl.Request{ID: "q" + body, Method: "POST", URL: "http://x" + pawl.WebhookPath + pawl.HiddenToken, Header: http.Header{}, Body: []byte(body)}})
	return err
}

const callsBack = `{"id": "tell", "type": "service", "config": {"service": "teller", "address": "{{webhooks.paid}}"}, "next": "paid", "maxVisits": 5},
	{"id": "paid", "type": "wait", "config": {"for": "webhook", "timeoutMs": 60000, "onTimeout": "late"}, "next": [{"when": "default(output.body.again, false)", "to": "tell"}, {"to": "end"}]},
	{"id": "late", "type": "transform", "config": {"expression": "'late'"}, "next": "end"}`

// A step before a wait tells others the address at which the run is to be called, and who reads the journal does not learn it.
// Each visit of the wait has an address of its own, and one that is over is over.
func TestAStepTellsTheAddressOfAWait(t *testing.T) {
	s := &teller{}
	opt := options(t, &desk{})
	opt.Services["teller"] = s
	w := flow.Define(parse(t, of(callsBack), opt), opt)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, w, flow.Variables{}, pawl.ID("r"))
		h.AwaitEntry("r", pawl.KindStep, "tell")
		first := s.told()[0]
		if err := request(t, h, first, `{"again": true}`); err != nil {
			t.Fatal(err)
		}
		h.AwaitEntry("r", pawl.KindStep, "tell#2")
		if err := request(t, h, first, `{}`); err == nil {
			t.Error("an address was good for two visits")
		}
		if err := request(t, h, s.told()[1], `{"n": 3}`); err != nil {
			t.Fatal(err)
		}
		out := pawltest.Result(h, run)
		if !strings.Contains(string(out), `"body":{"n":3}`) {
			t.Errorf("the result is %s", out)
		}
		for entry, err := range h.Engine().Journal(h.Context(), pawl.Ref{ID: "r"}) {
			if err != nil {
				t.Fatal(err)
			}
			for _, address := range s.told() {
				if _, token, _ := strings.Cut(address, pawl.WebhookPath); strings.Contains(string(entry.Data), token) && entry.Kind != pawl.KindHook {
					t.Errorf("the journal has the token at %s: %s", entry.Key, entry.Data)
				}
			}
		}
	}, w)
}

// Nobody came: the wait is over, and so is its address.
func TestAnAddressEndsWithItsWait(t *testing.T) {
	s := &teller{}
	opt := options(t, &desk{})
	opt.Services["teller"] = s
	w := flow.Define(parse(t, of(strings.Replace(callsBack, `"expression": "'late'"}, "next": "end"`, `"expression": "'late'"}, "next": "stay"`, 1),
		`{"id": "stay", "type": "wait", "config": {"for": "event", "event": "go"}, "next": "end"}`), opt), opt)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, w, flow.Variables{}, pawl.ID("r"))
		h.AwaitEvent("r", "go")
		if err := request(t, h, s.told()[0], `{}`); err == nil {
			t.Error("a request was taken after the time of its wait")
		}
		if err := h.Engine().Signal(h.Context(), "r", "go", nil); err != nil {
			t.Fatal(err)
		}
		pawltest.Result(h, run)
	}, w)
}

// Branches tell the address of a wait behind them.
func TestBranchesTellTheAddressOfAWaitBehindThem(t *testing.T) {
	s := &teller{}
	opt := options(t, &desk{})
	opt.Services["teller"] = s
	doc := of(`{"id": "all", "type": "parallel", "config": {"branches": [
			{"id": "l", "steps": [{"id": "tell", "type": "service", "config": {"service": "teller", "address": "{{webhooks.paid}}"}, "next": "end"}]},
			{"id": "m", "steps": [{"id": "each", "type": "map", "config": {"over": "variables.list", "steps": [{"id": "tell", "type": "service", "config": {"service": "teller", "address": "{{webhooks.paid}}"}, "next": "end"}]}, "next": "end"}]}]}, "next": "paid"}`,
		`{"id": "paid", "type": "wait", "config": {"for": "webhook"}, "next": "end"}`)
	w := flow.Define(parse(t, doc, opt), opt)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, w, flow.Variables{"list": []any{1, 2}}, pawl.ID("r"))
		h.AwaitState("r", pawl.Waiting)
		for _, address := range s.told() {
			if address != s.told()[0] {
				t.Errorf("the addresses are %q", s.told())
			}
		}
		if err := request(t, h, s.told()[0], `1`); err != nil {
			t.Fatal(err)
		}
		pawltest.Result(h, run)
	}, w)
}

// Requests that do not fit are refused, and the run waits on; the one that does gets the answer that the flow gives.
func TestAWaitTakesRequestsThatFit(t *testing.T) {
	opt := options(t, &desk{})
	w := flow.Define(parse(t, of(`{"id": "paid", "type": "wait", "config": {"for": "webhook", "schema": {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "number"}}},
		"respond": {"status": 201, "headers": {"X-By": "pawl"}, "body": {"taken": true}}}, "next": "amount"}`,
		`{"id": "amount", "type": "transform", "config": {"expression": "steps.paid.output.body.amount"}, "next": "end"}`), opt), opt)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, w, flow.Variables{}, pawl.ID("r"))
		address := h.AwaitWebhook("r")
		client := h.Client(func(e *pawl.Engine) http.Handler { return api.New(e, api.Options{}) })
		post := func(body string) string {
			res, err := client.Post(address, "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			text, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("%d %s %s", res.StatusCode, res.Header.Get("X-By"), strings.TrimSpace(string(text)))
		}
		for body, want := range map[string]string{`{"amount": "x"}`: "422  the body does not fit: /amount: got string, want number", `{}`: "422  the body does not fit: missing property 'amount'", `hello`: "422  the body does not fit: it is no JSON"} {
			if got := post(body); !strings.HasPrefix(got, want) {
				t.Errorf("%s got %q, want %q", body, got, want)
			}
		}
		equal(t, "the answer", post(`{"amount": 12.5}`), `201 pawl {"taken":true}`)
		equal(t, "the result", string(pawltest.Result(h, run)), "12.5")
	}, w)
}

// An address goes to services only, and only where the run comes to the wait.
func TestAddressesOfWebhooksAreChecked(t *testing.T) {
	opt := options(t, &desk{})
	opt.Services["teller"] = &teller{}
	paid := `{"id": "paid", "type": "wait", "config": {"for": "webhook"}, "next": "end"}`
	tell := func(id, place, next string) string {
		return `{"id": "` + id + `", "type": "service", "config": {"service": "teller", "address": "` + place + `"}, "next": "` + next + `"}`
	}
	for name, test := range map[string]struct{ doc, want string }{
		"a prompt":      {of(strings.Replace(ask("a", `"paid"`, ""), `"prompt": "`, `"prompt": "{{webhooks.paid}} `, 1), paid), "addresses of webhooks go to services only"},
		"a condition":   {of(`{"id": "a", "type": "transform", "config": {"expression": "webhooks.paid"}, "next": "paid"}`, paid), "addresses of webhooks go to services only"},
		"another wait":  {of(tell("a", "{{webhooks.payd}}", "paid"), paid), `there is no step "payd" here that waits for a request; did you mean "paid"?`},
		"no wait":       {of(tell("a", "{{webhooks.b}}", "b"), tell("b", "x", "paid"), paid), `there is no step "b" here that waits for a request`},
		"behind it":     {of(strings.Replace(paid, `"end"`, `"a"`, 1), tell("a", "{{webhooks.paid}}", "end")), `no way leads from step "a" to the wait`},
		"no secret":     {of(`{"id": "paid", "type": "wait", "config": {"for": "webhook", "scheme": "github"}, "next": "end"}`), `requests signed by github need the name of a secret`},
		"not a request": {of(`{"id": "e", "type": "wait", "config": {"for": "event", "event": "x", "respond": {"status": 200}}, "next": "end"}`), `respond has no meaning where the wait is for "event"`},
	} {
		_, err := flow.Parse([]byte(test.doc), flow.World{Services: opt.Services, Model: opt.Model})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// A crash at each commit loses no address that somebody was told.
func TestAnAddressSurvivesACrashAtEachCommit(t *testing.T) {
	s := &teller{}
	opt := options(t, &desk{})
	opt.Services["teller"] = s
	w := flow.Define(parse(t, of(strings.Replace(callsBack, "60000", "1000", 1)), opt), opt)
	pawltest.CrashEverywhere(t, w, flow.Variables{})
	for _, address := range s.told() {
		if !strings.Contains(address, pawl.WebhookPath) {
			t.Errorf("%q was told", address)
		}
	}
}
