package api_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/sqlite"
)

const signing = "8f742231b10e8888abcd99yyyzzz85a5"

// away keeps what is posted to Slack's own addresses.
type away chan string

func (a away) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	a <- r.URL.String() + " " + string(body)
	return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
}

// press is a request as Slack sends it when somebody presses a button.
func press(t *testing.T, user, action, value, secret string) *http.Request {
	t.Helper()
	payload, err := json.Marshal(map[string]any{
		"type": "block_actions", "user": map[string]any{"id": user, "name": "somebody"}, "team": map[string]any{"id": "T1"}, "response_url": "https://hooks.slack.com/actions/T1/1/x",
		"actions": []any{map[string]any{"action_id": action, "block_id": "pawl_approval", "value": value}},
	})
	if err != nil {
		t.Fatal(err)
	}
	body := url.Values{"payload": {string(payload)}}.Encode()
	r := httptest.NewRequest(http.MethodPost, api.SlackPath, strings.NewReader(body))
	now := fmt.Sprint(time.Now().Unix())
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, "v0:"+now+":"+body)
	r.Header.Set("X-Slack-Request-Timestamp", now)
	r.Header.Set("X-Slack-Signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
	return r
}

// within takes what comes before ctx ends.
func within[T any](ctx context.Context, t *testing.T, from chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-ctx.Done():
		t.Fatal("nothing came")
	}
	return v
}

// A flow asks in Slack with buttons, and a press of one who may decides: from the message on the wire to the end of the run.
func TestJ51_aPressInSlackDecides(t *testing.T) {
	posts := make(chan []byte, 8)
	slack := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		select {
		case posts <- body:
		default:
		}
		_, _ = io.WriteString(w, `{"ok": true, "channel": "C1", "ts": "1700000000.000100"}`)
	}))
	defer slack.Close()
	chat, err := service.NewSlack(service.SlackOptions{Token: "xoxb-1", BaseURL: slack.URL, HTTP: service.HTTPOptions{Network: service.Network{Allow: []string{"127.0.0.1:*"}}}})
	if err != nil {
		t.Fatal(err)
	}
	services := service.Set{"slack": chat}
	f, err := flow.Parse([]byte(`{"id": "pay", "steps": [{"id": "ask", "type": "wait", "config": {"for": "approval", "title": "Pay <b> & c?", "approvers": ["ann", "slack:U9"], "notify": [{"service": "slack", "channel": "#pay"}]}, "next": {"approved": "end", "rejected": "fail"}}]}`), flow.World{Services: services})
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	engine := pawl.New(store, &pawl.Options{Poll: 20 * time.Millisecond, Secret: []byte("a secret that is kept for the test only")})
	w := flow.Define(f, flow.Options{Services: services})
	if err := engine.Register(w); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	run, err := w.Start(ctx, engine, nil)
	if err != nil {
		t.Fatal(err)
	}
	var message struct {
		Blocks []struct {
			Elements []struct {
				Value string `json:"value"`
			} `json:"elements"`
		} `json:"blocks"`
	}
	if err := json.Unmarshal(within(ctx, t, posts), &message); err != nil {
		t.Fatal(err)
	}
	last := message.Blocks[len(message.Blocks)-1]
	button := last.Elements[0].Value

	shown := make(away, 8)
	h, err := api.NewSlack(engine, api.SlackOptions{Secrets: []string{signing}, People: map[string]string{"U7": "ann"}, Client: &http.Client{Transport: shown}})
	if err != nil {
		t.Fatal(err)
	}
	send := func(r *http.Request) int {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec.Code
	}
	if code := send(press(t, "U7", "pawl_approve", button, "another secret, which is not that")); code != 401 {
		t.Errorf("a press that is signed by others: %d", code)
	}
	old := press(t, "U7", "pawl_approve", button, signing)
	old.Header.Set("X-Slack-Request-Timestamp", fmt.Sprint(time.Now().Add(-time.Hour).Unix()))
	if code := send(old); code != 401 {
		t.Errorf("an old press: %d", code)
	}
	if code := send(httptest.NewRequest(http.MethodGet, api.SlackPath, nil)); code != 405 {
		t.Errorf("GET: %d", code)
	}
	for _, one := range []struct{ user, action, value, want string }{
		{"U8", "pawl_approve", button, "You may not decide on this. The server knows you as slack:U8"},
		{"U7", "pawl_approve", `{"approval": "x.y"}`, "There is nothing more to decide here."},
		{"U7", "pawl_approve", button, `Pay \u0026lt;b\u0026gt; \u0026amp; c?\n\nApproved by ann.","replace_original":true`},
		{"U9", "pawl_reject", button, "Approved by ann."},
	} {
		if code := send(press(t, one.user, one.action, one.value, signing)); code != 200 {
			t.Errorf("%s: %d", one.want, code)
		}
		if said := within(ctx, t, shown); !strings.HasPrefix(said, "https://hooks.slack.com/actions/") || !strings.Contains(said, one.want) {
			t.Errorf("shown %s, want %s", said, one.want)
		}
	}
	out, err := run.Result(ctx)
	if err != nil || !strings.Contains(string(out), `"by":"ann"`) {
		t.Errorf("%s, %v", out, err)
	}
}
