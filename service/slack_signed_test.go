package service_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/trigger"
)

// A click comes signed as trigger's scheme slack checks it, over the very bytes that ParseSlackClick reads.
func TestAClickOfSlackIsVerifiedAndRead(t *testing.T) {
	const secret = "8f742231b10e8888abcd99yyyzzz85a5"
	verifier, err := trigger.NewVerifier(trigger.SignatureOptions{Scheme: trigger.Slack, Secrets: []string{secret}})
	if err != nil {
		t.Fatal(err)
	}
	body := form(t, map[string]any{"type": "block_actions", "user": map[string]any{"id": "U7", "name": "ann"}, "team": map[string]any{"id": "T1"},
		"actions": []any{map[string]any{"action_id": "pawl_reject", "block_id": "pawl_approval", "value": `{"approval": "run-1/refund"}`}}})
	now := time.Now()
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = fmt.Fprintf(mac, "v0:%d:%s", now.Unix(), body)
	h := http.Header{}
	h.Set("X-Slack-Request-Timestamp", fmt.Sprint(now.Unix()))
	h.Set("X-Slack-Signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
	if _, err := verifier.Verify(h, body, now); err != nil {
		t.Fatal(err)
	}
	click, err := service.ParseSlackClick(body)
	if want := (service.SlackClick{Approval: "run-1/refund", User: service.SlackUser{ID: "U7", Name: "ann", Team: "T1"}}); err != nil || click != want {
		t.Errorf("got %+v, %v", click, err)
	}
	if _, err := verifier.Verify(h, append(body, 'x'), now); err == nil {
		t.Error("an edited click is taken")
	}
}
