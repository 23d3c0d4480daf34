package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/approval"
)

const expenseForm = `{"type":"object","required":["amount","account"],"properties":{
	"amount":{"type":"integer","title":"Amount in cents","description":"what is paid","minimum":1,"maximum":100000},
	"account":{"enum":["travel","office"],"title":"Account"},
	"note":{"type":"string","maxLength":500},"urgent":{"type":"boolean"}},"additionalProperties":false}`

// hostile is what a model might say.
const hostile = `<script>alert(1)</script>"><img src=x onerror=alert(2)> ` + "\u202eevil\u0007"

func expense(q approval.Request) *pawl.Workflow[text, approval.Decision] {
	return pawl.Define("expense", func(c *pawl.Context, in text) (approval.Decision, error) {
		r := q
		r.Title, r.Message, r.Details = "Pay for "+in.Text+"?", "asked by "+in.Text, map[string]any{"what": in.Text, "lines": []int{1, 2}}
		return approval.Ask(c, "pay", r)
	})
}

func (h *house) asked(id string) approval.Approval {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		a, err := h.client.Approval(h.t.Context(), id, false)
		if err == nil {
			return a.Approval
		}
		if !errors.Is(err, pawl.ErrNotFound) || time.Now().After(end) {
			h.t.Fatal(err)
		}
	}
}

// link is the path of an approver's link.
func (h *house) link(a approval.Approval, by string) string {
	h.t.Helper()
	u, err := approval.Links{Engine: h.engine, BaseURL: h.url}.For(a, by)
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimPrefix(u, h.url)
}

// post sends a form as a browser does.
func (h *house) post(path string, form url.Values) reply {
	h.t.Helper()
	return h.send("POST", path, form.Encode(), func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "null") // as they do where no referrer is sent
	})
}

func TestApprovalsOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		h.ok(202, "POST", "/api/runs", `{"workflow":"expense","id":"trip/1","input":{"text":"a trip"}}`, &api.Run{})
		a := h.asked("trip%2F1/pay")
		if a.State != approval.Pending || a.Run != "trip/1" || a.Title != "Pay for a trip?" || string(a.Details) != `{"lines":[1,2],"what":"a trip"}` {
			t.Errorf("%+v", a)
		}
		list, err := h.client.Approvals(t.Context(), api.ApprovalQuery{Approver: "ann", Run: "trip/1", Limit: 1})
		if err != nil || len(list.Items) != 1 || list.Items[0].ID != a.ID {
			t.Errorf("list: %v %v", list, err)
		}
		path := api.ApprovalPath(a.ID)
		h.refused(400, "bad_request", "POST", path, `{"by":"ann"}`)
		h.refused(400, "bad_request", "POST", path, `{"approved":true,"by":"ann","who":"x"}`)
		h.refused(400, "input", "POST", path, `{"approved":true,"by":"ann","shown":"`+a.Shown+`","form":{"amount":0,"account":"travel"}}`)
		h.refused(409, "approval_changed", "POST", path, `{"approved":true,"by":"ann","form":{"amount":1,"account":"travel"}}`)
		h.refused(403, "approval_not_allowed", "POST", path, `{"approved":true,"by":"eve","shown":"`+a.Shown+`"}`)
		h.refused(404, "not_found", "POST", "/api/approvals/none", `{"approved":true,"by":"ann"}`)
		h.refused(404, "not_found", "GET", "/api/approvals/none/pay", "")
		h.refused(400, "bad_request", "GET", "/api/approvals?state=lost", "")
		h.refused(400, "input", "GET", "/api/approvals?cursor=x", "")
		yes := true
		q := api.DecisionRequest{Approved: &yes, By: "ann", Comment: "fine", Shown: a.Shown, Form: []byte(`{"amount":5,"account":"travel"}`)}
		got, err := h.client.Decide(t.Context(), a.ID, q)
		if err != nil || got.State != approval.Decided || got.Decision.By != "ann" || got.Decision.Via != "api" {
			t.Fatalf("%+v %v", got, err)
		}
		var p *api.Problem
		if _, err := h.client.Decide(t.Context(), a.ID, q); !errors.Is(err, approval.ErrDecided) || !errors.As(err, &p) || p.Status != 409 || !strings.Contains(p.Detail, "approved by ann at ") {
			t.Errorf("again: %v", err)
		}
		full, err := h.client.Approval(t.Context(), a.ID, true)
		if err != nil || len(full.History) != 3 || full.History[1].What != approval.EventRefused || full.History[2].By != "ann" {
			t.Errorf("history: %+v %v", full.History, err)
		}
		list, err = h.client.Approvals(t.Context(), api.ApprovalQuery{State: approval.Decided})
		if err != nil || len(list.Items) != 1 {
			t.Errorf("decided: %v %v", list, err)
		}
		run := h.until("trip/1", pawl.Completed)
		if !strings.Contains(string(run.Result), `"form":{"amount":5,"account":"travel"}`) {
			t.Errorf("the run took %s", run.Result)
		}
		// Who may send to hooks may not decide by them.
		h.ok(202, "POST", "/api/runs", `{"workflow":"expense","id":"two","input":{"text":"x"}}`, &api.Run{})
		h.asked("two/pay")
		hooks, err := h.client.Hooks(t.Context(), "two")
		if err != nil || len(hooks.Items) != 1 {
			t.Fatal(hooks, err)
		}
		h.refused(409, "state", "POST", "/api/runs/two/hooks/pay%2F$hook", `{"slot":1,"approved":true,"by":"ann"}`)
		h.refused(409, "state", "POST", "/api/hooks/"+hooks.Items[0].Token, `{"slot":1,"approved":true,"by":"ann"}`)
	}, expense(approval.Request{Approvers: []string{"ann", "bob"}, Schema: []byte(expenseForm)}))
}

func TestJ51_aLinkIsReadByAnybodyAndDecidesByPOST(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		h.ok(202, "POST", "/api/runs", `{"workflow":"expense","id":"one","input":{"text":`+quoted(hostile)+`}}`, &api.Run{})
		a := h.asked("one/pay")
		ann, bob := h.link(a, "ann"), h.link(a, "bob")
		// Scanners, unfurlers, and people who only look.
		for range 3 {
			for _, method := range []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE"} {
				r := h.send(method, ann, "decision=approve&f.amount=1&f.account=%22travel%22")
				if want := map[bool]int{true: 200, false: 405}[method == "GET" || method == "HEAD"]; r.status != want {
					t.Errorf("%s: %d", method, r.status)
				}
			}
			if r := h.send("GET", ann+"?decision=approve&utm_source=mail", ""); r.status != 200 {
				t.Errorf("with a query: %d", r.status)
			}
		}
		if got := h.asked("one/pay"); got.State != approval.Pending {
			t.Fatalf("reading it has made it %s", got.State)
		}
		r := h.send("GET", ann, "")
		for name, want := range map[string]string{
			"Content-Type": "text/html;charset=utf-8", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%s: %q", name, got)
			}
		}
		policy := r.header.Get("Content-Security-Policy")
		if !regexp.MustCompile(`^default-src 'none'; style-src 'sha256-[^']+'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'$`).MatchString(policy) {
			t.Errorf("policy %q", policy)
		}
		body := string(r.body)
		for _, bad := range []string{"<script", "<img", "\u202e", "\u0007", "http://", "https://", "style=\"", "onerror=alert(2)>\""} {
			if strings.Contains(body, bad) {
				t.Errorf("the page has %q", bad)
			}
		}
		for _, good := range []string{"&lt;script&gt;alert(1)&lt;/script&gt;", `name="f.amount"`, `type="number"`, `min="1"`, `name="f.account"`, "travel", `<html lang="en">`, "<strong><bdi>ann</bdi></strong>", "<button disabled hidden></button>\n"} {
			if !strings.Contains(body, good) {
				t.Errorf("the page lacks %q", good)
			}
		}
		// A form that does not fit is shown again, with what was filled in.
		r = h.post(ann, url.Values{"decision": {"approve"}, "comment": {"so be it"}, "f.amount": {"0"}})
		for _, good := range []string{"This was not sent", `aria-invalid="true"`, `value="0"`, "so be it", `href="#field-0"`, `href="#field-1"`} {
			if r.status != 422 || !strings.Contains(string(r.body), good) {
				t.Errorf("a form that does not fit: %d lacks %q", r.status, good)
			}
		}
		if r = h.post(ann, url.Values{"comment": {"x"}}); r.status != 422 || !strings.Contains(string(r.body), "neither approve nor reject") {
			t.Errorf("without a decision: %d", r.status)
		}
		if r = h.send("POST", ann, `{"decision":"approve"}`); r.status != 415 {
			t.Errorf("JSON: %d", r.status)
		}
		if r = h.post(ann, url.Values{"comment": {strings.Repeat("x", 400<<10)}}); r.status != 413 {
			t.Errorf("a large form: %d", r.status)
		}
		// Sent twice at once, as by two clicks: one decision, and both see it.
		good := url.Values{"decision": {"approve"}, "comment": {"so be it"}, "f.amount": {"7"}, "f.account": {`"office"`}, "f.urgent": {"on"}, "f.other": {"x"}}
		var clicks sync.WaitGroup
		for range 2 {
			clicks.Go(func() {
				if r := h.post(ann, good); r.status != 303 || r.header.Get("Location") != ann {
					t.Errorf("decided: %d %s", r.status, r.body)
				}
			})
		}
		clicks.Wait()
		r = h.send("GET", ann, "")
		if r.status != 200 || !strings.Contains(string(r.body), "Approved by ann on ") || strings.Contains(string(r.body), "<form") {
			t.Errorf("a used link: %d %s", r.status, r.body)
		}
		r = h.post(bob, url.Values{"decision": {"reject"}})
		if r.status != 409 || !strings.Contains(string(r.body), "Approved by ann on ") {
			t.Errorf("too late: %d %s", r.status, r.body)
		}
		run := h.until("one", pawl.Completed)
		if !strings.Contains(string(run.Result), `"via":"link"`) || !strings.Contains(string(run.Result), `"form":{"account":"office","amount":7,"urgent":true}`) {
			t.Errorf("the run took %s", run.Result)
		}
		// Forged, cut off, of another: one answer. Ended: said so.
		forged := h.send("GET", approval.LinkPath+"x.y", "")
		for _, path := range []string{ann[:len(ann)-1], ann + "A", approval.LinkPath + "x"} {
			for _, r := range []reply{h.send("GET", path, ""), h.post(path, good)} {
				if r.status != 404 || string(r.body) != string(forged.body) {
					t.Errorf("%s: %d", path, r.status)
				}
			}
		}
		h.ok(202, "POST", "/api/runs", `{"workflow":"expense","id":"three","input":{"text":"x"}}`, &api.Run{})
		over := h.link(h.asked("three/pay"), "ann")
		h.ok(200, "POST", "/api/runs/three/cancel", "", &api.Run{})
		h.until("three", pawl.Cancelled)
		for _, r := range []reply{h.send("GET", over, ""), h.post(over, good)} {
			if r.status != 410 || !strings.Contains(string(r.body), "over") {
				t.Errorf("of a cancelled run: %d %s", r.status, r.body)
			}
		}
		if strings.Contains(h.log.String(), strings.TrimPrefix(ann, approval.LinkPath)[:40]) {
			t.Error("the log has a link")
		}
	}, expense(approval.Request{Approvers: []string{"ann", "bob"}, Schema: []byte(expenseForm)}))
}

func quoted(s string) string { return fmt.Sprintf("%q", strings.ReplaceAll(s, "\u0007", "")) }

func TestALinkExpires(t *testing.T) {
	var at sync.Map
	h := open(t, api.Options{}, expense(approval.Request{Approvers: []string{"ann"}, Expires: 300 * time.Millisecond, Notify: func(_ context.Context, n approval.Notice) error {
		at.Store(n.What, n.Approval)
		return nil
	}}))
	id := h.start("expense", `{"text":"x"}`)
	link := h.link(h.asked(id+"/pay"), "ann")
	h.until(id, pawl.Failed)
	for _, r := range []reply{h.send("GET", link, ""), h.post(link, url.Values{"decision": {"approve"}})} {
		if r.status != 410 || !strings.Contains(string(r.body), "expired") {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	h.refused(410, "approval_expired", "POST", "/api/approvals/"+id+"/pay", `{"approved":true,"by":"ann"}`)
	if a, ok := at.Load(approval.HasExpired); !ok || a.(approval.Approval).State != approval.Expired {
		t.Errorf("told %v", a)
	}
}

// A key says who decides, as it is a program's. A person decides for nobody else.
func TestAPersonDecidesInTheirOwnName(t *testing.T) {
	p := newProvider(t)
	auth := unlimited()
	auth.OIDC = &api.OIDC{Issuer: p.url, ClientID: "pawl", ClientSecret: "hush", RedirectURL: "https://pawl.test/login/callback", Lifetime: time.Hour,
		Grants: []api.Grant{{Claim: "email", Value: "ann@example.org", Scopes: []api.Scope{api.RunsRead, api.ApprovalsDecide}}}}
	h := openOn(t, fileStore(t), api.Options{Auth: auth, Hosts: []string{"pawl.test"}}, expense(approval.Request{}))
	_, secret := h.key("", api.RunsStart, api.RunsRead)
	key := h.as(secret)
	if _, err := key.Start(t.Context(), api.StartRequest{Workflow: "expense", ID: "one", Input: []byte(`{"text":"x"}`)}, 0); err != nil {
		t.Fatal(err)
	}
	h.client = key
	a := h.asked("one/pay")
	p.mu.Lock()
	p.claims = map[string]any{"email": "ann@example.org", "email_verified": true}
	p.mu.Unlock()
	r := h.send("GET", "/login", "")
	code, state := p.authorize(r.header.Get("Location"))
	r = h.send("GET", "/login/callback?code="+code+"&state="+state, "", with(cookieOf(r, "__Host-pawl-login")))
	if r.status != 302 {
		t.Fatalf("log in: %d %s", r.status, r.body)
	}
	session := with(cookieOf(r, "__Host-pawl"))
	body := `{"approved":true,"shown":"` + a.Shown + `"`
	if p := h.refused(400, "bad_request", "POST", "/api/approvals/one%2Fpay", body+`,"by":"boss@example.org"}`, session, withJSON); !strings.Contains(p.Detail, "ann@example.org") {
		t.Errorf("%s", p.Detail)
	}
	var got approval.Approval
	h.send("POST", "/api/approvals/one%2Fpay", body+`}`, session, withJSON).into(t, &got)
	if got.Decision == nil || got.Decision.By != "ann@example.org" {
		t.Errorf("%+v", got)
	}
}
