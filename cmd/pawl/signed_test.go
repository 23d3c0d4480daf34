package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/examples/waits"
)

// delivery is a request as a provider sends it: with these headers, signed at that time.
type delivery func(body string, at time.Time) map[string]string

// A run waits for a webhook that only its provider can call. Server and watcher are processes of their
// own. What is not signed, was changed, is old, or is signed by another is refused and leaves
// no trace in the run; the provider's request is taken, once, however often it comes; and after the
// server was killed the address is the same.
func TestSignedWebhooksEndToEnd(t *testing.T) {
	const key = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0LWFib3V0LXdlYmhvb2tz"
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	mac := func(key []byte, text string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	signed := func(text string) string { return hex.EncodeToString(mac([]byte(key), text)) }
	providers := map[string]struct {
		send delivery
		aged bool // it signs the time too
	}{
		"stripe": {func(body string, at time.Time) map[string]string {
			return map[string]string{"Stripe-Signature": fmt.Sprintf("t=%d,v1=%s", at.Unix(), signed(fmt.Sprintf("%d.%s", at.Unix(), body)))}
		}, true},
		"github": {func(body string, _ time.Time) map[string]string {
			return map[string]string{"X-Hub-Signature-256": "sha256=" + signed(body), "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958", "X-GitHub-Event": "push"}
		}, false},
		"slack": {func(body string, at time.Time) map[string]string {
			return map[string]string{"X-Slack-Request-Timestamp": fmt.Sprint(at.Unix()), "X-Slack-Signature": "v0=" + signed(fmt.Sprintf("v0:%d:%s", at.Unix(), body))}
		}, true},
		"standard": {func(body string, at time.Time) map[string]string {
			return map[string]string{"webhook-id": "msg_1", "webhook-timestamp": fmt.Sprint(at.Unix()),
				"webhook-signature": "v1," + base64.StdEncoding.EncodeToString(mac(raw, fmt.Sprintf("msg_1.%d.%s", at.Unix(), body)))}
		}, true},
	}
	dir, listen := t.TempDir(), freeAddress(t)
	secret := filepath.Join(dir, "webhook.key")
	if err := os.WriteFile(secret, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var settings []string
	for scheme := range providers {
		settings = append(settings, fmt.Sprintf("%s: {scheme: %s, secretFiles: [%s]}", scheme, scheme, secret))
	}
	t.Setenv("PAWL_WEBHOOKS", "{"+strings.Join(settings, ", ")+"}")
	server, url := startDev(t, dir, listen, environment{}), "http://"+listen
	client, err := api.NewClient(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	addresses, watchers := map[string]string{}, map[string]*lockedBuffer{}
	ended := map[string]chan error{}
	for scheme := range providers {
		r := asProcess(t, url, "start", waits.WebhookDemo, "--id", scheme, "-i", fmt.Sprintf(`{"scheme":%q,"secret":%q}`, scheme, scheme)).
			want(t, 0, "signed as "+scheme+" does", "curl -d BODY -H SIGNATURE "+url+pawl.WebhookPath)
		_, address, _ := strings.Cut(r.stderr, "SIGNATURE ")
		addresses[scheme], _, _ = strings.Cut(address, "\n")
		watch := exec.CommandContext(t.Context(), binary, "runs", "follow", scheme, "--server", url)
		watchers[scheme], ended[scheme] = &lockedBuffer{}, make(chan error, 1)
		watch.Stdout = watchers[scheme]
		if err := watch.Start(); err != nil {
			t.Fatal(err)
		}
		end := ended[scheme]
		go func() { end <- watch.Wait() }()
		eventually(t, func() bool { return strings.Contains(watchers[scheme].String(), "waiting:") }, watchers[scheme])
	}
	server.signal(t, os.Kill)
	startDev(t, dir, listen, environment{})

	post := func(scheme, body string, header map[string]string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, addresses[scheme], strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range header {
			req.Header.Set(name, value)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	for scheme, p := range providers {
		now := time.Now()
		body := fmt.Sprintf(`{"id":"evt_%s","text":"paid in full"}`, scheme)
		header := p.send(body, now)
		forged := map[string]string{}
		for name, value := range header {
			forged[name] = value
			if strings.HasSuffix(strings.ToLower(name), "signature") || strings.Contains(name, "Signature") {
				forged[name] = strings.Replace(value, value[len(value)-6:], "abcdef", 1)
			}
		}
		refused := map[string]func() (int, string){
			"unsigned": func() (int, string) { return post(scheme, body, nil) },
			"edited":   func() (int, string) { return post(scheme, strings.Replace(body, "full", "part", 1), header) },
			"forged":   func() (int, string) { return post(scheme, body, forged) },
		}
		if p.aged {
			refused["an hour old"] = func() (int, string) { return post(scheme, body, p.send(body, now.Add(-time.Hour))) }
		}
		for what, send := range refused {
			if status, text := send(); status != http.StatusUnauthorized || strings.Contains(text, key) {
				t.Errorf("%s, %s: %d %s", scheme, what, status, text)
			}
		}
		if run, err := client.Run(t.Context(), scheme, 0); err != nil || run.State.Terminal() {
			t.Fatalf("%s: %v, %v", scheme, run.State, err)
		}
		for range 2 { // the second one is a replay: it has the answer of the first, or is told that it comes too late
			if status, text := post(scheme, body, header); status != http.StatusOK && status != http.StatusGone || strings.Contains(text, "Unauthorized") {
				t.Errorf("%s: %d %s", scheme, status, text)
			}
		}
		if err := <-ended[scheme]; err != nil {
			t.Errorf("%s: the watcher: %v", scheme, err)
		}
		seen := watchers[scheme].String()
		for _, text := range []string{"payload", "✓ count", "completed in", `paid in full`, `"words": 3`} {
			if !strings.Contains(seen, text) {
				t.Errorf("%s: the watcher did not see %q:\n%s", scheme, text, seen)
			}
		}
		if n := strings.Count(seen, "✓ count"); n != 1 {
			t.Errorf("%s: the watcher saw it %d times:\n%s", scheme, n, seen)
		}
		if n := strings.Count(seen, "waiting:"); n != 1 || strings.Contains(seen, `"stored"`) {
			t.Errorf("%s: the watcher was told %d times why it waits, or what is of no use to it:\n%s", scheme, n, seen)
		}
		payloads := 0
		for e, err := range client.Journal(t.Context(), scheme) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == pawl.KindPayload {
				payloads++
			}
		}
		if payloads != 1 {
			t.Errorf("%s: %d requests reached the run", scheme, payloads)
		}
	}
}
