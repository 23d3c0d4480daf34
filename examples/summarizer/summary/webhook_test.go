package summary_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/examples/summarizer/summary"
)

const opened = `{"action": "opened", "issue": {"title": "It leaks", "body": "The pump leaks at night."}}`

func TestAWrongSignatureIsRefused(t *testing.T) { eachStore(t, aWrongSignatureIsRefused) }

func aWrongSignatureIsRefused(t *testing.T, where string) {
	model := summary.Scripted()
	s := serve(t, where, model, summary.HandlerOptions{WebhookSecret: secret})
	right := sign(opened)
	for name, signature := range map[string]string{
		"missing":       "",
		"without hex":   "sha256=",
		"short":         right[:len(right)-2],
		"long":          right + "00",
		"no hex":        "sha256=" + strings.Repeat("z", 64),
		"other scheme":  "sha1=" + strings.TrimPrefix(right, "sha256="),
		"no scheme":     strings.TrimPrefix(right, "sha256="),
		"other body":    sign(opened + " "),
		"one bit wrong": "sha256=" + flipped(t, strings.TrimPrefix(right, "sha256=")),
	} {
		header := []string{"X-GitHub-Delivery", "d-" + strings.ReplaceAll(name, " ", "-"), "X-GitHub-Event", "issues"}
		if signature != "" {
			header = append(header, "x-hub-signature-256", signature)
		}
		if a := s.call("POST", "/webhook/summarize", opened, header...); a.status != 401 || a.text != `{"error":"Invalid signature"}`+"\n" {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	if n := len(model.Calls()) + len(s.call("GET", "/summaries", "").list); n != 0 {
		t.Errorf("%d calls and summaries", n)
	}
}

func flipped(t *testing.T, digits string) string {
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	b[31] ^= 1
	return hex.EncodeToString(b)
}

func TestWithoutASecretNoWebhookIsTaken(t *testing.T) { eachStore(t, withoutASecretNoWebhookIsTaken) }

func withoutASecretNoWebhookIsTaken(t *testing.T, where string) {
	s := serve(t, where, summary.Scripted(), summary.HandlerOptions{})
	a := s.hook("1", "issues", opened)
	if a.status != 503 || !strings.Contains(a.text, "GITHUB_WEBHOOK_SECRET") {
		t.Errorf("%d %s", a.status, a.text)
	}
}

func TestADeliveryIsOneRun(t *testing.T) { eachStore(t, aDeliveryIsOneRun) }

func aDeliveryIsOneRun(t *testing.T, where string) {
	model := summary.Scripted()
	s := serve(t, where, model, summary.HandlerOptions{WebhookSecret: secret})
	id := "72d3162e-cc78-11e3-81ab-4c9367dc0958"
	s.want(s.hook(id, "issues", opened), 202, object{"status": "processing", "workflowId": "github-" + id})
	s.want(s.ended("github-"+id), 200, object{"state": "completed", "source": "github", "text": "The pump leaks at night."})
	s.want(s.hook(id, "issues", opened), 202, object{"status": "processing", "workflowId": "github-" + id})
	s.want(s.hook(id, "issues", strings.Replace(opened, "night", "noon", 1)), 409, nil)
	if n := len(s.call("GET", "/summaries", "").list); n != 1 || len(model.Calls()) != 1 {
		t.Errorf("%d summaries and %d calls, want 1 and 1", n, len(model.Calls()))
	}
}

func TestWhatIsSummarisedOfAnEvent(t *testing.T) { eachStore(t, whatIsSummarisedOfAnEvent) }

func whatIsSummarisedOfAnEvent(t *testing.T, where string) {
	s := serve(t, where, summary.Scripted(), summary.HandlerOptions{WebhookSecret: secret})
	for delivery, c := range map[string]struct {
		event, body string
		status      int
		text        string // that is summarised; else what the answer says
	}{
		"opened":   {"issues", opened, 202, "The pump leaks at night."},
		"edited":   {"issues", strings.Replace(opened, "opened", "edited", 1), 202, "The pump leaks at night."},
		"comment":  {"issue_comment", `{"action": "created", "issue": {"body": "old"}, "comment": {"body": "new"}}`, 202, "new"},
		"pull":     {"pull_request", `{"action": "opened", "pull_request": {"body": "a patch"}}`, 202, "a patch"},
		"labeled":  {"issues", strings.Replace(opened, "opened", "labeled", 1), 200, "ignored"},
		"closed":   {"issues", strings.Replace(opened, "opened", "closed", 1), 200, "ignored"},
		"deleted":  {"issue_comment", `{"action": "deleted", "comment": {"body": "new"}}`, 200, "ignored"},
		"ping":     {"ping", `{"zen": "Design for failure."}`, 200, "pong"},
		"no-text":  {"issues", `{"action": "opened", "issue": {"title": "t", "body": null}}`, 400, "No text content in webhook payload"},
		"silent":   {"issue_comment", `{"action": "created", "issue": {"body": "old"}, "comment": {"body": " "}}`, 400, "No text content in webhook payload"},
		"nothing":  {"issues", `{}`, 400, "No text content in webhook payload"},
		"inactive": {"issues", `{"issue": {"body": "x"}}`, 400, "No action"},
		"form":     {"issues", `payload=%7B%7D`, 400, "application/json"},
		"bad id/":  {"issues", opened, 400, "X-GitHub-Delivery"},
		"":         {"issues", opened, 400, "X-GitHub-Delivery"},
		"large":    {"issues", strings.Repeat(" ", 5<<20) + opened, 413, "5242880"},
	} {
		a := s.hook(delivery, c.event, c.body)
		if a.status != c.status {
			t.Errorf("%q: %d %s, want %d", delivery, a.status, a.text, c.status)
		} else if c.status == 202 {
			s.want(s.ended("github-"+delivery), 200, object{"text": c.text, "state": "completed"})
		} else if !strings.Contains(a.text, c.text) {
			t.Errorf("%q: %s, want %q", delivery, a.text, c.text)
		}
	}
}
