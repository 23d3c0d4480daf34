package service_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/trigger"
)

// Secrets of Standard Webhooks: 24 bytes and 32.
const (
	oldSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDlMvzTIcP4DA="
)

// fits checks a request as the specification of Standard Webhooks says, with nothing of the code that signs.
func fits(secret string, h http.Header, body []byte) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return err
	}
	id, stamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return fmt.Errorf("timestamp %q", stamp)
	}
	m := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(m, "%s.%s.%s", id, stamp, body)
	for part := range strings.SplitSeq(h.Get("webhook-signature"), " ") {
		version, signature, _ := strings.Cut(part, ",")
		got, err := base64.StdEncoding.DecodeString(signature)
		if version == "v1" && err == nil && hmac.Equal(got, m.Sum(nil)) {
			return nil
		}
	}
	return errors.New("no signature fits")
}

type received struct {
	header http.Header
	body   []byte
}

// receiver keeps what it was sent.
func receiver(t *testing.T) (url string, got chan received) {
	got = make(chan received, 10)
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- received{r.Header, body}
	})
	return s.URL, got
}

func sender(t testing.TB, secrets ...string) *service.Webhook {
	t.Helper()
	s, err := service.NewWebhook(service.WebhookOptions{HTTP: service.HTTPOptions{Network: loopback}, Secrets: func(_ context.Context, name string) ([]string, error) {
		if name == "unknown" {
			return nil, errors.New("there is no such secret")
		}
		return secrets, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStandardWebhooksFitTheSpecification(t *testing.T) {
	url, got := receiver(t)
	call := func(s *service.Webhook, key string, pairs ...any) (received, *service.Delivery) {
		t.Helper()
		out, err := s.Call(t.Context(), service.Call{Params: params(t, append([]any{"url", url, "data", map[string]any{"n": json.Number("9007199254740993"), "t": "ü<&>"}}, pairs...)...), Key: key})
		if err != nil {
			t.Fatal(err)
		}
		return <-got, out.(*service.Delivery)
	}
	r, d := call(sender(t, oldSecret), "run-1/send", "event", "order.paid", "timestamp", "2026-11-22T10:00:00Z")
	if err := fits(oldSecret, r.header, r.body); err != nil {
		t.Error(err)
	}
	if d.ID != "run-1/send" || d.Status != 200 || r.header.Get("webhook-id") != d.ID || r.header.Get("Content-Type") != "application/json" {
		t.Errorf("%+v %v", d, r.header)
	}
	var body struct {
		Type, Timestamp string
		Data            json.RawMessage
	}
	if json.Unmarshal(r.body, &body) != nil || body.Type != "order.paid" || body.Timestamp != "2026-11-22T10:00:00Z" || !strings.Contains(string(body.Data), "9007199254740993") {
		t.Errorf("%s", r.body)
	}
	again, _ := call(sender(t, oldSecret), "run-1/send", "event", "order.paid", "timestamp", "2026-11-22T10:00:00Z")
	if string(again.body) != string(r.body) || again.header.Get("webhook-id") != d.ID {
		t.Error("a second attempt sends something else")
	}
	// While a secret is changed, who knows either of them is served.
	r, _ = call(sender(t, newSecret, oldSecret), "run-2/send")
	verifier := func(secret string) *trigger.Verifier {
		v, err := trigger.NewVerifier(trigger.SignatureOptions{Scheme: trigger.Standard, Secrets: []string{secret}})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, secret := range []string{oldSecret, newSecret} {
		if err := fits(secret, r.header, r.body); err != nil {
			t.Error(err)
		}
		if signed, err := verifier(secret).Verify(r.header, r.body, time.Now()); err != nil || signed.ID != "run-2/send" {
			t.Errorf("%+v %v", signed, err)
		}
	}
	if fits("whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 24)), r.header, r.body) == nil {
		t.Error("the test takes any secret")
	}
	// A step's name may hold what a header or the signature can't.
	for _, key := range []string{"run/a.b", "run/über", "run/a b", "run/a\nb", "run/" + strings.Repeat("x", 300)} {
		r, d := call(sender(t, oldSecret), key)
		if _, err := verifier(oldSecret).Verify(r.header, r.body, time.Now()); err != nil || !strings.HasPrefix(d.ID, "key_") {
			t.Errorf("%q: %q %v", key, d.ID, err)
		}
		if _, other := call(sender(t, oldSecret), key+"x"); other.ID == d.ID {
			t.Errorf("%q has the id of another", key)
		}
	}
}

func TestOtherSchemesFitTheirReceivers(t *testing.T) {
	url, got := receiver(t)
	for scheme, c := range map[trigger.Scheme]struct {
		pairs []any
		opt   trigger.SignatureOptions
		id    string
	}{
		trigger.GitHub: {[]any{"event", "push"}, trigger.SignatureOptions{}, "step-1"},
		trigger.Stripe: {nil, trigger.SignatureOptions{}, "evt_1"},
		trigger.HMAC:   {[]any{"header", "X-Signature"}, trigger.SignatureOptions{Header: "X-Signature", Prefix: "sha256=", IDHeader: "Idempotency-Key"}, "step-1"},
	} {
		if _, err := sender(t, "first-secret", "second-secret").Call(t.Context(), service.Call{Key: "step-1", Params: params(t, append([]any{"url", url, "data", map[string]any{"id": "evt_1"}, "scheme", scheme}, c.pairs...)...)}); err != nil {
			t.Fatal(err)
		}
		r := <-got
		c.opt.Scheme = scheme
		secrets := []string{"first-secret"}
		if scheme == trigger.Stripe {
			secrets = append(secrets, "second-secret") // it carries a signature of each
		}
		for _, secret := range secrets {
			c.opt.Secrets = []string{secret}
			v, err := trigger.NewVerifier(c.opt)
			if err != nil {
				t.Fatal(err)
			}
			if signed, err := v.Verify(r.header, r.body, time.Now()); err != nil || signed.ID != c.id {
				t.Errorf("%s: %+v %v", scheme, signed, err)
			}
		}
		if string(r.body) != `{"id":"evt_1"}` || scheme == trigger.GitHub && r.header.Get("X-GitHub-Event") != "push" {
			t.Errorf("%s: %s %v", scheme, r.body, r.header)
		}
	}
}

func TestWebhooksThatCanNotBeSigned(t *testing.T) {
	url, got := receiver(t)
	for _, c := range []struct {
		secrets []string
		words   string
		pairs   []any
	}{
		{nil, "no secret to sign with", nil},
		{[]string{""}, "no secret to sign with", nil},
		{[]string{"whsec_!!"}, "not base64", nil},
		{[]string{"whsec_c2hvcnQ="}, "must be 24 to 64", nil},
		{[]string{oldSecret, "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65))}, "secret 2 of 2: it is 65 bytes", nil},
		{[]string{oldSecret}, "needs the name of a header", []any{"scheme", "hmac"}},
		{[]string{oldSecret}, "needs the name of a header", []any{"scheme", "hmac", "header", "Host"}},
		{[]string{oldSecret}, "has a header of its own", []any{"header", "X-S"}},
		{[]string{oldSecret}, "no place for an event", []any{"scheme", "stripe", "event", "a.b"}},
		{[]string{oldSecret}, "belongs to an event", []any{"timestamp", "2026-11-22T10:00:00Z"}},
		{[]string{oldSecret}, "timestamp", []any{"event", "a", "timestamp", "yesterday"}},
		{[]string{oldSecret}, "event", []any{"event", "a\nb"}},
		{[]string{oldSecret}, "is the signature's", []any{"headers", map[string]string{"Webhook-Id": "x"}}},
		{[]string{oldSecret}, "scheme", []any{"scheme", "none"}},
	} {
		_, err := sender(t, c.secrets...).Call(t.Context(), service.Call{Params: params(t, append([]any{"url", url, "data", 1}, c.pairs...)...), Key: "k"})
		var known *service.Error
		if !errors.As(err, &known) || known.Code != service.Invalid || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%v %v: %v", c.secrets, c.pairs, err)
		}
		for _, secret := range c.secrets {
			if secret != "" && err != nil && strings.Contains(err.Error(), strings.TrimPrefix(secret, "whsec_")) {
				t.Errorf("a secret is in %v", err)
			}
		}
	}
	if _, err := sender(t).Call(t.Context(), service.Call{Params: params(t, "url", url, "data", 1, "secret", "unknown")}); err == nil || !strings.Contains(err.Error(), `"unknown"`) {
		t.Error(err)
	}
	if _, err := service.NewWebhook(service.WebhookOptions{}); err == nil {
		t.Error("webhooks without secrets were made")
	}
	if len(got) != 0 {
		t.Errorf("%d were sent", len(got))
	}
}

func TestWhatAReceiverSaysDecides(t *testing.T) {
	var status atomic.Int64
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
		_, _ = w.Write(slices.Repeat([]byte("x"), 2<<20)) // its words don't count
	})
	for said, code := range map[int64]string{200: "", 204: "", 410: service.NotFound, 401: service.Denied, 429: service.RateLimited, 503: service.Unavailable} {
		status.Store(said)
		_, err := sender(t, oldSecret).Call(t.Context(), service.Call{Params: params(t, "url", s.URL, "data", 1)})
		var known *service.Error
		if errors.As(err, &known); (code == "") != (err == nil) || err != nil && known.Code != code {
			t.Errorf("%d: %v", said, err)
		}
	}
	// What it says is not read, whatever it says it is: the event is taken.
	for kind, body := range map[string]string{"application/json": "OK", "Application/Json ": `{"half": `, "text/plain; encoding=gzip": "\x1f\x8b"} {
		odd := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{kind}
			if strings.Contains(kind, "gzip") {
				w.Header().Set("Content-Encoding", "zstd")
			}
			_, _ = w.Write([]byte(body))
		})
		if _, err := sender(t, oldSecret).Call(t.Context(), service.Call{Params: params(t, "url", odd.URL, "data", 1)}); err != nil {
			t.Errorf("%s %q: %v", kind, body, err)
		}
	}
	out, err := sender(t, oldSecret).Call(t.Context(), service.Call{Params: params(t, "url", s.URL, "data", 1), DryRun: true, Key: "k"})
	plan, is := out.(service.Plan)
	if data, _ := json.Marshal(plan); err != nil || !is || strings.Contains(string(data), "MfKQ9r8GK") || strings.Contains(string(data), "v1,") {
		t.Errorf("%s %v", data, err)
	}
}
