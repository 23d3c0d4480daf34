package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl/examples/demo/demotest"
)

const (
	secret = "it's a secret"
	token  = "xoxb-for-tests"
)

// slack plays Slack's Web API on loopback.
type slack struct {
	url string

	mu     sync.Mutex
	posted []posted
	looked int // for what was posted
	hold   string
	held   chan struct{}
	fail   []func(w http.ResponseWriter)
}

type posted struct {
	Channel  string          `json:"channel"`
	Text     string          `json:"text"`
	Thread   string          `json:"thread_ts"`
	Metadata json.RawMessage `json:"metadata"`
}

func play(t *testing.T) *slack {
	s := &slack{held: make(chan struct{}, 1)}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL + "/api"
	return s
}

// Hold leaves the next post without an answer: "before" Slack has taken it, or "after".
func (s *slack) Hold(when string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = when
	return s.held
}

func (s *slack) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := func(v any) { _ = json.NewEncoder(w).Encode(v) } // whoever is gone is killed
	if r.Header.Get("Authorization") != "Bearer "+token {
		answer(map[string]any{"ok": false, "error": "invalid_auth"})
		return
	}
	switch method := strings.TrimPrefix(r.URL.Path, "/api/"); method {
	case "chat.postMessage":
		var p posted
		if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
			answer(map[string]any{"ok": false, "error": "invalid_json"})
			return
		}
		if len(s.fail) > 0 {
			s.fail[0](w)
			s.fail = s.fail[1:]
			return
		}
		hold := s.hold
		s.hold = ""
		if hold != "before" {
			s.posted = append(s.posted, p)
		}
		if hold != "" {
			s.held <- struct{}{}
			s.mu.Unlock()
			<-r.Context().Done()
			s.mu.Lock()
			return
		}
		answer(map[string]any{"ok": true, "ts": fmt.Sprintf("%d.000100", len(s.posted))})
	case "conversations.history", "conversations.replies":
		q := r.URL.Query()
		s.looked++
		oldest, err := strconv.ParseInt(q.Get("oldest"), 10, 64)
		if age := time.Since(time.Unix(oldest, 0)); err != nil || age < time.Minute || q.Get("include_all_metadata") != "true" {
			answer(map[string]any{"ok": false, "error": "invalid_arguments"})
			return
		}
		var page []posted // a page each, newest first, as Slack does
		at, _ := strconv.Atoi(q.Get("cursor"))
		var all []posted
		for _, p := range slices.Backward(s.posted) {
			if p.Channel == q.Get("channel") && p.Thread == q.Get("ts") {
				all = append(all, p)
			}
		}
		next := ""
		if at < len(all) {
			page = all[at : at+1]
		}
		if at+1 < len(all) {
			next = strconv.Itoa(at + 1)
		}
		answer(map[string]any{"ok": true, "messages": page, "response_metadata": map[string]string{"next_cursor": next}})
	default:
		answer(map[string]any{"ok": false, "error": "unknown_method"})
	}
}

// texts are what was posted to a channel.
func (s *slack) texts(channel string) (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.posted {
		if p.Channel == channel {
			out = append(out, p.Text)
		}
	}
	return out
}

func (s *slack) looks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looked
}

func signature(body, key string, at int64) []string {
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "v0:%d:%s", at, body)
	return []string{"X-Slack-Request-Timestamp", fmt.Sprint(at), "X-Slack-Signature", "v0=" + hex.EncodeToString(mac.Sum(nil))}
}

// send is a request that Slack signs.
func send(t *testing.T, s *demotest.Server, path, body string) demotest.Reply {
	t.Helper()
	return s.Call(t, "POST", path, body, signature(body, secret, time.Now().Unix())...)
}

func event(id, channel, text string) string {
	b, _ := json.Marshal(map[string]any{
		"type": "event_callback", "team_id": "T1", "event_id": id,
		"event": map[string]any{"type": "message", "channel": channel, "user": "U1", "text": text, "ts": "1.1"},
	})
	return string(b)
}

func command(id, channel, text string) string {
	return url.Values{
		"command": {"/pawl"}, "trigger_id": {id}, "team_id": {"T1"}, "channel_id": {channel}, "user_id": {"U2"}, "text": {text},
	}.Encode()
}
