package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/flow/draft"
)

// The matrix is made of the document: a route that is added is tried too.

// bodies are what operations need to get as far as an id. Others are sent nothing.
var bodies = map[string]string{
	"backtestWorkflow": `{"step":"x","model":"scripted/other"}`, "forkAsked": `{"step":"x","change":{"prompt":"y"}}`, "setBudget": `{"limit":1}`, "putSecret": `{"value":"x"}`, "resetBreaker": `{"endpoint":"service:b/http"}`, "wake": `{}`, "fork": `{}`,
	"putSubscription":  `{"event":"e","workflow":"w"}`,
	"backfillSchedule": `{"from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z"}`,
	"putSchedule":      `{"workflow":"echo","cron":"@daily"}`, "putPrompt": `{"text":"x"}`, "decide": `{"approved":true,"by":"ann","shown":"x"}`, "activatePrompt": `{"weights":{}}`,
	"deploy": aFlow("made", "hello"), "validate": aFlow("made", "hello"), "activateWorkflow": `{"version":1}`,
	"generate": `{"description":"made by the matrix"}`, "generateChange": `{"description":"x"}`, "propose": aFlow("made", "hello"), "approveDraft": `{"digest":"x"}`,
}

// global are the operations about what belongs to no tenant.
var global = []string{"stats", "metrics", "prompts", "prompt", "promptVersion", "putPrompt", "activatePrompt", "rollbackPrompt", "secretKeys", "rewrapSecrets"}

// besides are the scopes that operations need beside the first.
var besides = map[string]api.Scope{"backtestWorkflow": api.ModelsRead}

// pathOf fills in a path; fill is asked for the value of each parameter.
func pathOf(d documented, fill func(param string) string) string {
	path := d.path
	for _, p := range d.Parameters {
		if p.In == "path" {
			path = strings.ReplaceAll(path, "{"+p.Name+"}", strings.ReplaceAll(fill(p.Name), "/", "%2F"))
		}
	}
	switch d.OperationID {
	case "generate", "generateChange": // no worker may be there
		path += "?wait=0s"
	case "topUp":
		path += "?topup=1"
	case "approvalLink":
		path += "?approver=ann"
	case "feed": // which would never end
		path += "?kind=no-such-kind"
	}
	return path
}

// nowhere fills in what does not exist.
func nowhere(param string) string {
	if param == "n" {
		return "1"
	}
	return "no-such-" + param
}

func unlimited() *api.Auth { return &api.Auth{Rate: 1e6, Burst: 1e6, Tries: 1e6} }

var securityHeaders = map[string]string{
	"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
	"Cross-Origin-Resource-Policy": "same-origin", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}

func TestEveryRouteAsksForItsScope(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()})
		// The keys that open nothing.
		expiring, expired, err := api.Keys{Engine: h.engine}.Create(t.Context(), api.KeySpec{Name: "old", Scopes: api.Scopes(), Expires: time.Now().Add(50 * time.Millisecond)})
		if err != nil {
			t.Fatal(err)
		}
		revokedID, revoked := h.key("", api.Scopes()...)
		if err := (api.Keys{Engine: h.engine}).Revoke(t.Context(), revokedID); err != nil {
			t.Fatal(err)
		}
		_, good := h.key("", api.Admin)
		last := string(good[len(good)-1])
		other := map[bool]string{true: "B", false: "A"}[last == "A"]
		closed := map[string][]func(*http.Request){
			"no key":         nil,
			"expired":        {bearer(expired)},
			"revoked":        {bearer(revoked)},
			"wrong secret":   {bearer(good[:len(good)-1] + other)},
			"no secret":      {bearer(good[:strings.LastIndex(good, "_")+1])},
			"another's id":   {bearer("pawl_" + expiring.ID + good[strings.LastIndex(good, "_"):])},
			"no key of ours": {bearer("sk-abc")},
			"empty":          {bearer("")},
			"another scheme": {func(r *http.Request) { r.SetBasicAuth("pawl", good) }},
			"a cookie":       {func(r *http.Request) { r.Header.Set("Cookie", "__Host-pawl="+good) }},
		}
		time.Sleep(time.Until(expiring.Expires) + time.Millisecond)
		type holder struct {
			tenant string
			scope  api.Scope
			secret string
		}
		var holders []holder
		for _, tenant := range []string{"", "a"} {
			for _, scope := range api.Scopes() {
				_, secret := h.key(tenant, scope)
				holders = append(holders, holder{tenant, scope, secret})
			}
		}
		tried := 0
		for _, d := range h.contract.operations {
			path, body := pathOf(d, nowhere), bodies[d.OperationID]
			h.refused(421, "host", d.method, path, body, bearer(good), func(r *http.Request) { r.Host = "evil.com" })
			for name, edit := range closed {
				tried++
				r := h.send(d.method, path, body, edit...)
				for header, want := range securityHeaders {
					got := r.header.Get(header)
					if header == "Content-Security-Policy" && strings.HasSuffix(d.OperationID, "ApprovalLink") { // pages, with their own style
						got, _, _ = strings.Cut(got, " style-src 'sha256-")
						want = "default-src 'none';"
					}
					if header == "Cache-Control" && d.OperationID == "flowSchema" { // the same for everybody
						want = "public, max-age=3600"
					}
					if got != want {
						t.Errorf("%s %s: %s is %q, want %q", d.method, path, header, got, want)
					}
				}
				if d.scope() == "public" {
					if r.status == 401 || r.status == 403 && d.OperationID != "loginCallback" {
						t.Errorf("%s %s with %s: %d %s", d.method, path, name, r.status, r.body)
					}
					continue
				}
				var p api.Problem
				r.into(t, &p)
				if r.status != 401 || p.Code != "unauthorized" || !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Bearer ") {
					t.Errorf("%s %s with %s: %d %s", d.method, path, name, r.status, r.body)
				}
			}
			for _, k := range holders {
				tried++
				r := h.send(d.method, path, body, bearer(k.secret))
				who := fmt.Sprintf("%s %s with %s of tenant %q", d.method, path, k.scope, k.tenant)
				want := api.Scope(d.scope())
				code := ""
				if want != "public" && want != "any" && k.scope != want && k.scope != api.Admin {
					code = "scope"
				} else if second, is := besides[d.OperationID]; is && k.scope == want {
					want, code = second, "scope"
				} else if k.tenant != "" && slices.Contains(global, d.OperationID) {
					code = "tenant"
				}
				if code == "" {
					if r.status == 401 || r.status == 403 && d.OperationID != "loginCallback" || r.status >= 500 {
						t.Errorf("%s: %d %s", who, r.status, r.body)
					}
					continue
				}
				var p api.Problem
				r.into(t, &p)
				if r.status != 403 || p.Code != code || code == "scope" && (!strings.Contains(p.Detail, string(want)) || !strings.Contains(r.header.Get("WWW-Authenticate"), string(want))) {
					t.Errorf("%s: %d %s, want 403 %s naming %s", who, r.status, r.body, code, want)
				}
			}
		}
		t.Logf("%d routes, %d requests", len(h.contract.operations), tried)
	})
}

// What is another tenant's answers, to the byte, as what does not exist.
func TestAnotherTenantsIdsDoNotExist(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()})
		for _, foreign := range []string{"b", ""} {
			_, theirs := h.key(foreign, api.Admin)
			_, ours := h.key("a", api.Admin)
			them := h.as(theirs)
			name := "of-" + foreign + "-1"
			if _, err := them.Start(t.Context(), api.StartRequest{Workflow: "hooks", ID: name}, 0); err != nil {
				t.Fatal(err)
			}
			var hook api.Hook
			for end := time.Now().Add(20 * time.Second); hook.Token == ""; time.Sleep(5 * time.Millisecond) {
				list, err := them.Hooks(t.Context(), name)
				if err != nil || time.Now().After(end) {
					t.Fatal(list, err)
				}
				if len(list.Items) > 0 {
					hook = list.Items[0]
				}
			}
			if _, err := them.SetBudget(t.Context(), name, api.BudgetRequest{Limit: 5}); err != nil {
				t.Fatal(err)
			}
			if _, err := them.PutSchedule(t.Context(), name, api.ScheduleRequest{Workflow: "echo", Cron: "@yearly"}); err != nil {
				t.Fatal(err)
			}
			if _, err := them.PutSubscription(t.Context(), name, api.SubscriptionRequest{Event: "e-" + foreign, Workflow: "echo"}); err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{"first", "second"} {
				if _, err := them.Deploy(t.Context(), []byte(aFlow(name, text)), api.DeployOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			executed := "x" + name
			if _, err := them.Start(t.Context(), api.StartRequest{Workflow: name, ID: executed}, 20*time.Second); err != nil {
				t.Fatal(err)
			}
			if _, err := them.PutSecret(t.Context(), name, api.SecretRequest{Value: "theirs"}); err != nil {
				t.Fatal(err)
			}
			proposed, err := them.Propose(t.Context(), []byte(aFlow(name, "third")), "")
			if err != nil {
				t.Fatal(err)
			}
			keyID, _ := h.key(foreign, api.RunsRead)
			if _, err := them.Start(t.Context(), api.StartRequest{Workflow: "approves", ID: "p" + name, Input: json.RawMessage(`{}`)}, 0); err != nil {
				t.Fatal(err)
			}
			asked := "p" + name + "/pay"
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				if _, err := them.Approval(t.Context(), asked, false); err == nil {
					break
				} else if time.Now().After(end) {
					t.Fatal(err)
				}
			}

			// What there is, by the first part of a path and the parameter; and what there is not.
			real := map[string]string{"runs/id": name, "runs/key": hook.Key, "keys/id": keyID, "hooks/token": hook.Token, "budgets/name": name, "schedules/id": name, "subscriptions/id": name, "workflows/id": name, "secrets/name": name, "approvals/id": asked, "executions/id": executed, "drafts/id": proposed.ID}
			made := func(v string) string {
				if v == name { // as long, and as near to a name of one's own, as the other's is
					return map[string]string{"b": "of-c-1", "": "ofb-1"}[foreign]
				}
				last := "x"
				if strings.HasSuffix(v, "x") {
					last = "y"
				}
				return v[:len(v)-1] + last
			}
			compare := func(method, there, none, body, noneBody string, replace map[string]string) {
				t.Helper()
				a, b := h.send(method, there, body, bearer(ours)), h.send(method, none, noneBody, bearer(ours))
				clean := func(r reply) string {
					text := string(r.body)
					for is, was := range replace {
						text = strings.ReplaceAll(text, is, was)
					}
					var p map[string]any
					if json.Unmarshal([]byte(text), &p) == nil {
						delete(p, "requestId")
					}
					head := maps.Clone(r.header)
					for _, name := range []string{"X-Request-Id", "Date", "Content-Length"} { // an id in a text may be longer in UTF-8
						delete(head, name)
					}
					return fmt.Sprint(r.status, head, p)
				}
				if x, y := clean(a), clean(b); x != y || len(a.body) != len(b.body) {
					t.Errorf("%s: what is another tenant's answers otherwise than what is not there:\n%s\n%s", method+" "+there, x, y)
				}
			}
			tried := 0
			for _, d := range h.contract.operations {
				resource := strings.Split(strings.TrimPrefix(d.path, "/api/"), "/")[0]
				var of string
				for _, p := range d.Parameters {
					if _, ok := real[resource+"/"+p.Name]; ok && p.In == "path" && (of == "" || p.Name == "id") {
						of = resource + "/" + p.Name
					}
				}
				if of == "" || d.OperationID == "setBudget" || d.OperationID == "putSchedule" || d.OperationID == "putSubscription" || d.OperationID == "putSecret" { // which makes what is not there
					continue
				}
				is, none := real[of], made(real[of])
				fill := func(v string) func(string) string {
					return func(param string) string {
						switch {
						case resource+"/"+param == of:
							return v
						case real[resource+"/"+param] != "":
							return real[resource+"/"+param]
						}
						return nowhere(param)
					}
				}
				tried++
				compare(d.method, pathOf(d, fill(is)), pathOf(d, fill(none)), bodies[d.OperationID], bodies[d.OperationID], map[string]string{none: is})
			}
			if tried < 20 {
				t.Errorf("only %d operations were tried", tried)
			}
			// Ids of queries and bodies.
			none := made(name)
			same := map[string]string{none: name}
			for _, path := range []string{"/api/runs?parent=", "/api/runs?q=", "/api/costs?run=", "/api/costs?family=true&run=", "/api/charges?run=", "/api/executions?workflow=", "/api/workflows/x/graph?run="} {
				compare("GET", path+name, path+none, "", "", same)
			}
			backtest := `{"step":"s","change":{"model":"p/m"},"runs":[%q]}`
			compare("POST", "/api/backtests", "/api/backtests", fmt.Sprintf(backtest, name), fmt.Sprintf(backtest, none), same)
			for _, body := range []string{`{"workflow":%q}`, `{"workflow":%q,"cron":"@yearly"}`} {
				method, path := "POST", "/api/runs"
				if strings.Contains(body, "cron") {
					method, path = "PUT", "/api/schedules/mine"
				}
				compare(method, path, path, fmt.Sprintf(body, name), fmt.Sprintf(body, none), same)
			}
			budget := `{"limit":1,"run":%q}`
			compare("PUT", "/api/budgets/mine", "/api/budgets/mine", fmt.Sprintf(budget, name), fmt.Sprintf(budget, none), same)

			// Nothing of theirs has changed, and nothing of it is in our lists.
			if run, err := them.Run(t.Context(), name, 0); err != nil || run.State.Terminal() || run.State == pawl.Paused {
				t.Errorf("their run: %+v %v", run, err)
			}
			if a, err := them.Approval(t.Context(), asked, true); err != nil || a.State != approval.Pending || len(a.History) != 1 {
				t.Errorf("their approval: %+v %v", a, err)
			}
			if b, err := them.Budget(t.Context(), name); err != nil || b.Limit != 5 || b.Extra != 0 {
				t.Errorf("their budget: %+v %v", b, err)
			}
			if sch, err := them.Schedule(t.Context(), name); err != nil || sch.Paused || len(sch.Live) > 0 {
				t.Errorf("their schedule: %+v %v", sch, err)
			}
			if w, err := them.Workflow(t.Context(), name); err != nil || w.Active != 2 || w.Previous != 1 || w.Canary != nil {
				t.Errorf("their flow: %+v %v", w, err)
			}
			if d, err := them.Draft(t.Context(), proposed.ID); err != nil || d.State != draft.Open || d.Digest != proposed.Digest {
				t.Errorf("their draft: %+v %v", d, err)
			}
			if one, err := them.Secret(t.Context(), name); err != nil || one.Name != name {
				t.Errorf("their secret: %+v %v", one, err)
			}
			for _, path := range []string{"/api/workflows", "/api/runs", "/api/budgets", "/api/secrets", "/api/keys", "/api/charges", "/api/costs?by=run", "/api/schedules", "/api/subscriptions", "/api/approvals", "/api/executions", "/api/drafts", "/dashboard"} {
				r := h.send("GET", path, "", bearer(ours))
				if r.status != 200 || strings.Contains(string(r.body), name) || strings.Contains(string(r.body), keyID) {
					t.Errorf("%s: %d %s", path, r.status, r.body)
				}
			}
			// The same id may be taken in both.
			if d, err := h.as(ours).Deploy(t.Context(), []byte(aFlow(name, "ours")), api.DeployOptions{}); err != nil || d.Version != 1 || d.Existed {
				t.Errorf("a flow with an id that another tenant has: %+v %v", d, err)
			}
			if e, err := h.as(ours).Execute(t.Context(), name, nil, 0, 20*time.Second); err != nil || string(e.Output) != `{"text":"ours"}` {
				t.Errorf("a flow with an id that another tenant has: %+v %v", e, err)
			}
			if run, err := h.as(ours).Start(t.Context(), api.StartRequest{Workflow: "waits", ID: name}, 0); err != nil || run.Existed || run.Tenant != "a" {
				t.Errorf("an id that another tenant has: %+v %v", run, err)
			}
			if _, err := h.as(ours).Publish(t.Context(), "go/now", nil); err != nil {
				t.Error(err)
			}
		}
	})
}

// A token that code has chosen is one within its tenant: who sends to it reaches his own.
func TestChosenTokensAreATenantsOwn(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		door := pawl.Define("door", func(c *pawl.Context, _ any) (json.RawMessage, error) {
			h, err := pawl.NewHook[json.RawMessage](c, pawl.Token("door/1"))
			if err != nil {
				return nil, err
			}
			return h.Wait(c)
		})
		h := openOn(t, store(), api.Options{Auth: unlimited()}, door)
		ctx := t.Context()
		tenants := []string{"a", "b", ""}
		client := map[string]*api.Client{}
		for _, tenant := range append(tenants, "c") {
			_, secret := h.key(tenant, api.Admin)
			client[tenant] = h.as(secret)
		}
		for _, tenant := range tenants {
			run, err := client[tenant].Start(ctx, api.StartRequest{Workflow: "door", ID: "of-" + tenant}, 0)
			if err != nil || run.Existed {
				t.Fatal(run, err)
			}
			var hook api.Hook
			for end := time.Now().Add(20 * time.Second); hook.Run == "" || err != nil; time.Sleep(5 * time.Millisecond) {
				if hook, err = client[tenant].Hook(ctx, "door/1"); time.Now().After(end) {
					t.Fatal(hook, err)
				}
			}
			if hook.Run != "of-"+tenant || hook.Token != "door/1" {
				t.Errorf("tenant %q finds %+v", tenant, hook)
			}
		}
		if hook, err := client["c"].Hook(ctx, "door/1"); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("tenant c finds %+v, %v", hook, err)
		}
		if got, err := client["c"].SendHook(ctx, "door/1", nil); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("tenant c has sent to %+v, %v", got, err)
		}
		for _, tenant := range tenants {
			got, err := client[tenant].SendHook(ctx, "door/1", json.RawMessage(fmt.Sprintf("%q", "by "+tenant)))
			if err != nil || got.Run != "of-"+tenant {
				t.Fatalf("tenant %q has sent to %+v, %v", tenant, got, err)
			}
			if run, err := client[tenant].Run(ctx, got.Run, 20*time.Second); err != nil || string(run.Result) != fmt.Sprintf("%q", "by "+tenant) {
				t.Errorf("tenant %q: %s %s, %v", tenant, run.State, run.Result, err)
			}
		}
	})
}
