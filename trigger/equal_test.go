package trigger

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
)

// Where nothing names a delivery, equal bodies are two of them, unless the webhook says otherwise.
func TestEqualBodiesStartTwoRuns(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), taker)
		set := NewSet(e)
		plain := SignatureOptions{Scheme: HMAC, Header: "X-Sig", Secrets: []string{"k"}}
		for _, w := range []Webhook{
			{ID: "plain", Path: "/plain", Signature: plain},
			{ID: "open", Path: "/open", Signature: SignatureOptions{Scheme: None}},
			{ID: "once", Path: "/once", Signature: plain, Dedupe: DedupeBody},
		} {
			w.Workflow = "taker"
			if err := set.OnWebhook(w); err != nil {
				t.Fatal(err)
			}
		}
		server := httptest.NewServer(set)
		defer server.Close()
		const body = `{"n": 1}`
		for path, same := range map[string]bool{"/plain": false, "/open": false, "/once": true} {
			sig := hex.EncodeToString(macOf("k", body))
			first, again := call(t, server.URL, path, "POST", body, "X-Sig", sig), call(t, server.URL, path, "POST", body, "X-Sig", sig)
			if first.status != 202 || again.status != 202 || first.replayed || again.replayed != same || (first.run == again.run) != same {
				t.Errorf("%s: %+v, then %+v, want one run: %v", path, first, again, same)
			}
		}
	})
}

// What opens something of the sender's, or this server, is not the mapping's: what it makes is stored.
func TestAMappingGetsNoCredentials(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), pawl.Define("keeper", func(_ *pawl.Context, in http.Header) (int, error) { return len(in), nil }))
		const body = `{}`
		set := NewSet(e)
		if err := set.OnWebhook(Webhook{ID: "all", Path: "/all", Workflow: "keeper", // a sender that signs in Authorization is verified all the same
			Signature: SignatureOptions{Scheme: HMAC, Header: "Authorization", Prefix: "HMAC ", Secrets: []string{"k"}},
			Input:     func(d Delivery) (any, error) { return d.Header, nil }}); err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(set)
		defer server.Close()
		const secret = "s3cr3t-of-the-caller"
		got := call(t, server.URL, "/all", "POST", body, "Authorization", "HMAC "+hex.EncodeToString(macOf("k", body)), "Cookie", "__Host-pawl="+secret+"; a="+secret,
			"Proxy-Authorization", "Basic "+secret, "X-Event", "push")
		if got.status != 202 {
			t.Fatalf("%+v", got)
		}
		var input json.RawMessage
		for entry, err := range e.Journal(t.Context(), pawl.Ref{ID: got.run}) {
			if err != nil {
				t.Fatal(err)
			}
			if input = entry.Data; input != nil {
				break
			}
		}
		var stored http.Header
		if err := json.Unmarshal(input, &stored); err != nil {
			t.Fatal(err)
		}
		if stored.Get("X-Event") != "push" || stored.Get("Content-Type") != "application/json" {
			t.Errorf("the input lacks what the sender tells: %s", input)
		}
		if strings.Contains(string(input), secret) || stored.Get("Authorization") != "" {
			t.Errorf("the input has credentials: %s", input)
		}
	})
}
