package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl/service"
)

const slackToken = "xoxb-17-hush-hush-word"

// workspace is a server that speaks Slack's wire: it checks the token and the form of calls, and keeps messages by their ts.
type workspace struct {
	url string

	mu       sync.Mutex
	calls    int
	messages map[string]map[string]any
	last     map[string]any
	fail     func(w http.ResponseWriter) bool // answers in place of it
}

func openWorkspace(t *testing.T) *workspace {
	w := &workspace{messages: map[string]map[string]any{}}
	w.url = serve(t, w.serve).URL
	return w
}

func (w *workspace) serve(out http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	data, err := io.ReadAll(r.Body)
	var body map[string]any
	if err != nil || json.Unmarshal(data, &body) != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		http.Error(out, "invalid_payload", http.StatusBadRequest)
		return
	}
	w.last = body
	if w.fail != nil && w.fail(out) {
		return
	}
	answer := func(fields map[string]any) {
		out.Header().Set("Content-Type", "application/json; charset=utf-8")
		_ = json.NewEncoder(out).Encode(fields)
	}
	if strings.HasPrefix(r.URL.Path, "/services/") {
		fmt.Fprint(out, "ok")
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+slackToken {
		answer(map[string]any{"ok": false, "error": "invalid_auth"})
		return
	}
	channel, _ := body["channel"].(string)
	if channel != "#billing" && channel != "C1" {
		answer(map[string]any{"ok": false, "error": "channel_not_found"})
		return
	}
	switch r.URL.Path {
	case "/api/chat.postMessage":
		ts := fmt.Sprintf("1700000000.%06d", len(w.messages)+1)
		w.messages[ts] = body
		answer(map[string]any{"ok": true, "channel": "C1", "ts": ts, "message": map[string]any{"text": body["text"]}})
	case "/api/chat.update":
		ts, _ := body["ts"].(string)
		if w.messages[ts] == nil {
			answer(map[string]any{"ok": false, "error": "message_not_found"})
			return
		}
		w.messages[ts] = body
		answer(map[string]any{"ok": true, "channel": "C1", "ts": ts})
	default:
		answer(map[string]any{"ok": false, "error": "unknown_method"})
	}
}

func (w *workspace) said() (last map[string]any, calls int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last, w.calls
}

func (w *workspace) failWith(f func(http.ResponseWriter) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = f
}

func (w *workspace) slack(t *testing.T, change ...func(*service.SlackOptions)) *service.Slack {
	t.Helper()
	opt := service.SlackOptions{Token: slackToken, BaseURL: w.url + "/api", HTTP: service.HTTPOptions{Network: loopback}}
	for _, f := range change {
		f(&opt)
	}
	s, err := service.NewSlack(opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func slack(t *testing.T, s *service.Slack, action, key string, pairs ...any) (*service.SlackMessage, error) {
	t.Helper()
	out, err := s.Call(t.Context(), service.Call{Action: action, Key: key, Params: params(t, pairs...)})
	if err != nil {
		if strings.Contains(err.Error(), "hush") {
			t.Errorf("a secret is told: %v", err)
		}
		return nil, err
	}
	return out.(*service.SlackMessage), nil
}

func refusedBySlack(t *testing.T, err error, code, words string) *service.Error {
	t.Helper()
	var e *service.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Error(), words) {
		t.Errorf("got %v, want %s with %q", err, code, words)
		return &service.Error{}
	}
	return e
}

func TestSlackMessages(t *testing.T) {
	w := openWorkspace(t)
	s := w.slack(t)
	m, err := slack(t, s, "", "run/a", "channel", "#billing", "message", "*hello*", "threadTs", "1.2")
	if err != nil || *m != (service.SlackMessage{Channel: "C1", TS: "1700000000.000001"}) {
		t.Fatal(m, err)
	}
	last, _ := w.said()
	id, _ := last["client_msg_id"].(string)
	delete(last, "client_msg_id")
	data, _ := json.Marshal(last)
	if want := `{"channel":"#billing","link_names":false,"text":"*hello*","thread_ts":"1.2","unfurl_links":false,"unfurl_media":false}`; string(data) != want {
		t.Errorf("it sends\n%s\n%s", data, want)
	}
	if len(id) != 36 || strings.Contains(id, "run") {
		t.Errorf("the id is %q", id)
	}
	for key, same := range map[string]bool{"run/a": true, "run/b": false} {
		if _, err := slack(t, s, "postMessage", key, "channel", "#billing", "text", "again"); err != nil {
			t.Fatal(err)
		}
		if last, _ := w.said(); (last["client_msg_id"] == id) != same {
			t.Errorf("key %s has the id %v after %s", key, last["client_msg_id"], id)
		}
	}
	if m, err = slack(t, s, "updateMessage", "k", "channel", "C1", "ts", m.TS, "text", "changed"); err != nil || m.TS != "1700000000.000001" {
		t.Fatal(m, err)
	}
	if _, err := slack(t, w.slack(t, func(o *service.SlackOptions) { o.Channel = "C1" }), "", "k", "text", "by default"); err != nil {
		t.Error(err)
	}
}

// A golden test of what stands in a message whatever a template or a model has put into it.
func TestSlackTextsCallNobody(t *testing.T) {
	w := openWorkspace(t)
	s := w.slack(t)
	hostile := "<!channel> <@U123> <https://evil.example|your bank> & <#C1> @here &lt;!here&gt;"
	safe := "&lt;!channel&gt; &lt;@U123&gt; &lt;https://evil.example|your bank&gt; &amp; &lt;#C1&gt; @here &amp;lt;!here&amp;gt;"
	block := map[string]any{"type": "section", "text": map[string]any{"type": "mrkdwn", "text": hostile}, "fields": []any{map[string]any{"type": "plain_text", "text": hostile}},
		"accessory": map[string]any{"type": "button", "action_id": "x", "text": map[string]any{"type": "plain_text", "text": "b"}}}
	if _, err := slack(t, s, "", "k", "channel", "C1", "text", hostile, "blocks", []any{block}); err != nil {
		t.Fatal(err)
	}
	last, _ := w.said()
	got := last["blocks"].([]any)[0].(map[string]any)
	if last["text"] != safe || got["text"].(map[string]any)["text"] != safe || got["text"].(map[string]any)["verbatim"] != true || got["fields"].([]any)[0].(map[string]any)["text"] != hostile {
		t.Errorf("it sends %v", last)
	}
	for _, kind := range []string{"user", "usergroup", "broadcast"} {
		_, err := slack(t, s, "", "k", "channel", "C1", "text", "t", "blocks", []any{map[string]any{"type": "rich_text", "elements": []any{map[string]any{"type": "rich_text_section", "elements": []any{map[string]any{"type": kind, "range": "channel"}}}}}})
		refusedBySlack(t, err, service.Forbidden, kind)
	}
	_, err := slack(t, s, "", "k", "channel", "C1", "blocks", []any{map[string]any{"type": "markdown", "text": "[your bank](https://evil.example)"}})
	refusedBySlack(t, err, service.Forbidden, "markdown")
	// Nobody is given a button that answers a question which is not there to be read.
	for _, forged := range []map[string]any{{"type": "actions", "block_id": "pawl_approval", "elements": []any{}}, {"type": "actions", "elements": []any{map[string]any{"type": "button", "action_id": "pawl_approve"}}}} {
		_, err = slack(t, s, "", "k", "channel", "C1", "text", "t", "blocks", []any{forged})
		refusedBySlack(t, err, service.Forbidden, "requestApproval")
		_, err = slack(t, w.slack(t, func(o *service.SlackOptions) { o.Markup = true }), "", "k", "channel", "C1", "text", "t", "blocks", []any{forged})
		refusedBySlack(t, err, service.Forbidden, "requestApproval")
	}
	// No picture is fetched from an address that may tell something.
	for _, block := range []map[string]any{{"type": "image", "image_url": "https://evil.example/?said=secret", "alt_text": "a"}, {"type": "context", "elements": []any{map[string]any{"type": "image", "image_url": "https://evil.example", "alt_text": "a"}}},
		{"type": "video", "video_url": "https://evil.example", "thumbnail_url": "https://evil.example"}} {
		_, err = slack(t, s, "", "k", "channel", "C1", "text", "t", "blocks", []any{block})
		refusedBySlack(t, err, service.Forbidden, "_url")
	}
	_, err = slack(t, s, "", "k", "channel", "C1", "text", "t", "mention", []string{"channel"})
	refusedBySlack(t, err, service.Forbidden, "Mentions")
	calling := w.slack(t, func(o *service.SlackOptions) { o.Mentions = true })
	if _, err := slack(t, calling, "", "k", "channel", "C1", "text", hostile, "mention", []string{"here", "U123", "S9X"}); err != nil {
		t.Fatal(err)
	}
	if last, _ := w.said(); last["text"] != "<!here> <@U123> <!subteam^S9X> "+safe {
		t.Errorf("it sends %v", last["text"])
	}
	_, err = slack(t, calling, "", "k", "channel", "C1", "text", "t", "mention", []string{"here> <!channel"})
	refusedBySlack(t, err, service.Invalid, "mention")
	if _, err := slack(t, w.slack(t, func(o *service.SlackOptions) { o.Markup = true }), "", "k", "channel", "C1", "text", hostile); err != nil {
		t.Fatal(err)
	}
	if last, _ := w.said(); last["text"] != hostile {
		t.Errorf("it sends %v", last["text"])
	}
}

func TestSlackErrors(t *testing.T) {
	w := openWorkspace(t)
	s := w.slack(t)
	_, err := slack(t, s, "", "k", "channel", "#nowhere", "text", "t")
	refusedBySlack(t, err, service.NotFound, "channel_not_found")
	_, err = slack(t, w.slack(t, func(o *service.SlackOptions) { o.Token = "xoxb-other-hush" }), "", "k", "channel", "C1", "text", "t")
	refusedBySlack(t, err, service.Denied, "invalid_auth")
	_, err = slack(t, s, "updateMessage", "k", "channel", "C1", "ts", "9.9", "text", "t")
	refusedBySlack(t, err, service.NotFound, "message_not_found")
	said := func(text string) func(http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Retry-After", "7")
			fmt.Fprint(w, text)
			return true
		}
	}
	for _, test := range []struct {
		name        string
		answer      func(http.ResponseWriter) bool
		code, words string
		after       time.Duration
	}{
		{"429", func(w http.ResponseWriter) bool {
			w.Header().Set("Retry-After", "30")
			http.Error(w, "slow down", http.StatusTooManyRequests)
			return true
		}, service.RateLimited, "", 30 * time.Second},
		{"ratelimited", said(`{"ok": false, "error": "ratelimited"}`), service.RateLimited, "ratelimited", 7 * time.Second},
		{"internal", said(`{"ok": false, "error": "internal_error"}`), service.Unavailable, "internal_error", 0},
		{"a right", said(`{"ok": false, "error": "missing_scope", "needed": "chat:write"}`), service.Denied, "chat:write", 0},
		{"blocks", said(`{"ok": false, "error": "invalid_blocks", "response_metadata": {"messages": ["[ERROR] no more than 50"]}}`), service.Invalid, "no more than 50", 0},
		{"restricted", said(`{"ok": false, "error": "restricted_action_read_only_channel"}`), service.Denied, "restricted", 0},
		{"the token", said(`{"ok": false, "error": "` + slackToken + `"}`), service.Invalid, "[secret]", 0},
		{"no error", said(`{"ok": false}`), service.Invalid, "", 0},
		{"no ts", said(`{"ok": true}`), service.BadAnswer, "", 0},
		{"nothing", said(``), service.BadAnswer, "", 0},
		{"a list", said(`[1]`), service.BadAnswer, "", 0},
		{"html", func(w http.ResponseWriter) bool { fmt.Fprint(w, "<html>"); return true }, service.BadAnswer, "", 0},
		{"500", func(w http.ResponseWriter) bool { http.Error(w, "x", 500); return true }, service.Unavailable, "", 0},
	} {
		w.failWith(test.answer)
		_, err := slack(t, s, "", "k", "channel", "C1", "text", "t")
		if e := refusedBySlack(t, err, test.code, test.words); e.After != test.after {
			t.Errorf("%s: another try after %v, want %v", test.name, e.After, test.after)
		}
	}
	w.failWith(nil)
	_, before := w.said()
	for _, p := range [][]any{
		{"text", "t"}, {"channel", "C1"}, {"channel", "C1", "text", " "}, {"channel", "C1", "text", "a", "message", "b"}, {"channel", "C1", "text", 5}, {"channel", "", "text", "t"},
		{"channel", "C1", "text", "t", "threadTs", "now"}, {"channel", "C1", "text", "t", "link_names", true}, {"channel", "C1", "text", strings.Repeat("ü", 40_001)}, {"channel", "C1", "blocks", make([]map[string]any, 51)},
	} {
		_, err := slack(t, s, "", "k", p...)
		refusedBySlack(t, err, service.Invalid, "")
	}
	out, err := s.Call(t.Context(), service.Call{Params: params(t, "channel", "C1", "text", "t"), DryRun: true})
	if err != nil || !strings.HasPrefix(out.(service.Plan).Would, "sendMessage to C1 at 127.0.0.1") {
		t.Error(out, err)
	}
	if _, calls := w.said(); calls != before {
		t.Errorf("%d calls were made", calls-before)
	}
}

func TestSlackWebhooks(t *testing.T) {
	w := openWorkspace(t)
	s := w.slack(t, func(o *service.SlackOptions) {
		o.Token, o.Webhooks = "", map[string]string{"#billing": w.url + "/services/T1/B1/hush-hush-path"}
	})
	if n := len(s.Actions()); n != 2 {
		t.Errorf("there are %d actions", n)
	}
	m, err := slack(t, s, "", "k", "channel", "#billing", "message", "a < b")
	if err != nil || *m != (service.SlackMessage{}) {
		t.Fatal(m, err)
	}
	if last, _ := w.said(); last["text"] != "a &lt; b" || last["channel"] != nil {
		t.Errorf("it sends %v", last)
	}
	_, err = slack(t, s, "", "k", "channel", "#other", "message", "t")
	refusedBySlack(t, err, service.Forbidden, `"#billing"`)
	_, err = slack(t, s, "", "k", "channel", "#billing", "message", "t", "threadTs", "1.2")
	refusedBySlack(t, err, service.Invalid, "thread")
	w.failWith(func(w http.ResponseWriter) bool {
		http.Error(w, "no_service for services/T1/B1/hush-hush-path", http.StatusNotFound)
		return true
	})
	_, err = slack(t, s, "", "k", "channel", "#billing", "message", "t")
	refusedBySlack(t, err, service.NotFound, "no_service")
}

// The address of an incoming webhook is its key, also where the time of a step is over.
func TestNoErrorTellsTheAddressOfASlackWebhook(t *testing.T) {
	silent := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // before that no server hears that its caller has gone
		<-r.Context().Done()
	})
	s, err := service.NewSlack(service.SlackOptions{Webhooks: map[string]string{"": silent.URL + "/services/T1/B1/hush-hush-path"}, HTTP: service.HTTPOptions{Network: loopback}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer end()
	_, err = s.Call(ctx, service.Call{Params: params(t, "message", "t")})
	if err == nil || strings.Contains(fmt.Sprintf("%+v", err), "hush") || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v", err)
	}
}

func TestSlackOptionsThatCantBe(t *testing.T) {
	for _, opt := range []service.SlackOptions{
		{}, {Token: "xoxb-hush", Webhooks: map[string]string{"": "https://hooks.slack.com/services/x"}}, {Token: "xoxb-hush\n"}, {Token: "xoxb-hush", BaseURL: "http://slack.com/api/"}, {Token: "xoxb-hush", BaseURL: "slack.com"},
		{Webhooks: map[string]string{"": "http://hooks.slack.com/services/hush"}}, {Webhooks: map[string]string{"": "https://hooks.slack.com/services/hush"}, Channel: "C1"}, {Webhooks: map[string]string{"": "https://hush%zz"}},
	} {
		if _, err := service.NewSlack(opt); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%+v: %v", opt, err)
		}
	}
}

func TestSlackApprovals(t *testing.T) {
	w := openWorkspace(t)
	s := w.slack(t)
	approval := `a/"b"<c>`
	if _, err := slack(t, s, "requestApproval", "k", "channel", "C1", "message", "Refund <now>? "+strings.Repeat("&", 2000), "approval", approval, "reject", "No"); err != nil {
		t.Fatal(err)
	}
	last, _ := w.said()
	blocks := last["blocks"].([]any)
	var whole strings.Builder
	for _, b := range blocks[:len(blocks)-1] {
		text := b.(map[string]any)["text"].(map[string]any)["text"].(string)
		if len(text) > 3000 || strings.HasSuffix(text, "&am") {
			t.Errorf("a section has %d bytes and ends with %q", len(text), text[len(text)-5:])
		}
		whole.WriteString(text)
	}
	if whole.String() != last["text"] || !strings.HasPrefix(whole.String(), "Refund &lt;now&gt;? &amp;") {
		t.Errorf("it asks %.60s", whole.String())
	}
	actions := blocks[len(blocks)-1].(map[string]any)
	for i, approved := range []bool{true, false} {
		button := actions["elements"].([]any)[i].(map[string]any)
		payload := map[string]any{"type": "block_actions", "user": map[string]any{"id": "U7", "username": "ann", "team_id": "T1"}, "channel": map[string]any{"id": "C1"}, "message": map[string]any{"ts": "1.2"},
			"response_url": "https://hooks.slack.com/actions/T1/1/x", "actions": []any{map[string]any{"action_id": button["action_id"], "block_id": actions["block_id"], "value": button["value"], "type": "button"}}}
		click, err := service.ParseSlackClick(form(t, payload))
		if want := (service.SlackClick{Approval: approval, Approved: approved, User: service.SlackUser{ID: "U7", Name: "ann", Team: "T1"}, Channel: "C1", TS: "1.2", ResponseURL: "https://hooks.slack.com/actions/T1/1/x"}); err != nil || click != want {
			t.Errorf("got %+v, %v", click, err)
		}
		for field, v := range map[string]any{"type": "view_submission", "response_url": "https://evil.example/x", "user": map[string]any{}, "actions": []any{}} {
			changed := map[string]any{}
			for name, old := range payload {
				changed[name] = old
			}
			changed[field] = v
			_, err := service.ParseSlackClick(form(t, changed))
			refusedBySlack(t, err, service.Invalid, "a click in Slack")
		}
	}
	for _, address := range []string{"http://hooks.slack.com/x", "https://hooks.slack.com.evil.example/x", "https://hooks.slack.com@evil.example/x", "https://hooks.slack.com:444/x", "https://127.0.0.1/x"} {
		_, err := service.ParseSlackClick(form(t, map[string]any{"type": "block_actions", "user": map[string]any{"id": "U7"}, "response_url": address, "actions": []any{map[string]any{"action_id": "pawl_approve", "block_id": "pawl_approval", "value": `{"approval": "a"}`}}}))
		refusedBySlack(t, err, service.Invalid, "response_url")
	}
	for _, body := range []string{"", "payload=", "payload=%", "payload={}", "payload=[]", "payload={}&payload={}", `{"type": "block_actions"}`, "payload=%7B%22type%22%3A5%7D"} {
		_, err := service.ParseSlackClick([]byte(body))
		refusedBySlack(t, err, service.Invalid, "")
	}
}

func form(t *testing.T, payload any) []byte {
	t.Helper()
	data, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(url.Values{"payload": {string(data)}}.Encode())
}

func FuzzSlackClick(f *testing.F) {
	f.Add([]byte(`payload=%7B%22type%22%3A%22block_actions%22%2C%22actions%22%3A%5B%7B%22block_id%22%3A%22pawl_approval%22%2C%22action_id%22%3A%22pawl_approve%22%2C%22value%22%3A%22%7B%7D%22%7D%5D%7D`))
	f.Fuzz(func(t *testing.T, body []byte) {
		click, err := service.ParseSlackClick(body)
		if err == nil && (click.Approval == "" || click.User.ID == "") {
			t.Errorf("%q is a click of nobody", body)
		}
	})
}
