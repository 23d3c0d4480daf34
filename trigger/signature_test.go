package trigger

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// signedRequest is a request that its scheme's sender could have made.
type signedRequest struct {
	name string
	opt  SignatureOptions
	head map[string]string
	body string
	at   int64 // what its timestamp says; 0: it has none
	id   string
}

const slackBody = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar" +
	"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com" +
	"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"

// published are examples from the senders' own documents. Stripe publishes none with its secret and body.
var published = []signedRequest{
	{"github", SignatureOptions{Scheme: GitHub, Secrets: []string{"It's a Secret to Everybody"}},
		map[string]string{"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"},
		"Hello, World!", 0, "72d3162e-cc78-11e3-81ab-4c9367dc0958"},
	{"slack", SignatureOptions{Scheme: Slack, Secrets: []string{"8f742231b10e8888abcd99yyyzzz85a5"}},
		map[string]string{"X-Slack-Request-Timestamp": "1531420618", "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"},
		slackBody, 1531420618, "a hash"},
	{"standard", SignatureOptions{Scheme: Standard, Secrets: []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}},
		map[string]string{"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330", "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
		`{"test": 2432232314}`, 1614265330, "msg_p5jXN8AQM9LWM0D4loKWxJek"},
}

func macOf(key, text string) []byte {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(text))
	return m.Sum(nil)
}

// signedRequests are the published ones and one of each other scheme and form.
func signedRequests() []signedRequest {
	body := `{"id": "evt_1", "n": 1.0}`
	hexed, based := hex.EncodeToString(macOf("key", body)), base64.StdEncoding.EncodeToString(macOf("key", body))
	stripe := hex.EncodeToString(macOf("whsec_abc", "1700000000."+body))
	return append(published[:len(published):len(published)],
		signedRequest{"stripe", SignatureOptions{Scheme: Stripe, Secrets: []string{"whsec_abc"}}, map[string]string{"Stripe-Signature": "t=1700000000,v1=" + stripe + ",v0=00"}, body, 1700000000, "evt_1"},
		signedRequest{"stripe, several", SignatureOptions{Scheme: Stripe, Secrets: []string{"whsec_abc"}}, map[string]string{"Stripe-Signature": "t=1700000000,v1=" + strings.Repeat("ab", 32) + ",v1=" + stripe}, body, 1700000000, "evt_1"},
		signedRequest{"standard, several", SignatureOptions{Scheme: Standard, Secrets: []string{"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}},
			map[string]string{"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330", "webhook-signature": "v1a,xyz v1," + based + " v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
			`{"test": 2432232314}`, 1614265330, "msg_p5jXN8AQM9LWM0D4loKWxJek"},
		signedRequest{"hmac hex", SignatureOptions{Scheme: HMAC, Header: "X-Sig", Secrets: []string{"key"}}, map[string]string{"X-Sig": hexed}, body, 0, ""},
		signedRequest{"hmac base64", SignatureOptions{Scheme: HMAC, Header: "X-Sig", Prefix: "hmac ", IDHeader: "X-Id", Secrets: []string{"old", "key"}}, map[string]string{"X-Sig": "hmac " + based, "X-Id": "d-7"}, body, 0, "d-7"},
	)
}

func (r signedRequest) header() http.Header {
	h := http.Header{}
	for k, v := range r.head {
		h.Set(k, v)
	}
	return h
}

func (r signedRequest) now() time.Time {
	if r.at == 0 {
		return time.Now()
	}
	return time.Unix(r.at, 0)
}

func verifier(t testing.TB, opt SignatureOptions) *Verifier {
	t.Helper()
	v, err := NewVerifier(opt)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func refused(t *testing.T, v *Verifier, h http.Header, body string, now time.Time, what string) {
	t.Helper()
	s, err := v.Verify(h, []byte(body), now)
	var refused *SignatureError
	if !errors.As(err, &refused) || s != (Signed{}) {
		t.Errorf("%s: got %+v, %v; want a *SignatureError", what, s, err)
	}
}

func TestSignedRequestsAreGood(t *testing.T) {
	for _, r := range signedRequests() {
		t.Run(r.name, func(t *testing.T) {
			s, err := verifier(t, r.opt).Verify(r.header(), []byte(r.body), r.now())
			if err != nil {
				t.Fatal(err)
			}
			if want := r.id; want == "a hash" && len(s.ID) != 64 || want != "a hash" && s.ID != want {
				t.Errorf("id %q, want %q", s.ID, want)
			}
			if r.at != 0 && s.Time.Unix() != r.at || r.at == 0 && !s.Time.IsZero() {
				t.Errorf("time %v, want %d", s.Time, r.at)
			}
			r.opt.Secrets = append([]string{base64.StdEncoding.EncodeToString([]byte("another secret, of 24 bytes"))}, r.opt.Secrets...)
			if _, err := verifier(t, r.opt).Verify(r.header(), []byte(r.body), r.now()); err != nil {
				t.Errorf("with another secret besides: %v", err)
			}
			r.opt.Secrets = r.opt.Secrets[:1]
			refused(t, verifier(t, r.opt), r.header(), r.body, r.now(), "another secret")
		})
	}
}

func TestEveryByteCounts(t *testing.T) {
	for _, r := range signedRequests() {
		v := verifier(t, r.opt)
		for i := range r.body {
			b := []byte(r.body)
			b[i] ^= 1
			refused(t, v, r.header(), string(b), r.now(), fmt.Sprintf("%s: byte %d of the body", r.name, i))
		}
		refused(t, v, r.header(), r.body+" ", r.now(), r.name+": a byte more")
		refused(t, v, r.header(), r.body[1:], r.now(), r.name+": a byte less")
		refused(t, v, r.header(), "", r.now(), r.name+": no body")
		for name, value := range r.head {
			if name == "X-GitHub-Delivery" || name == "X-Id" {
				continue // not signed
			}
			for i := range value {
				b := []byte(value)
				b[i] ^= 1
				h := r.header()
				h.Set(name, string(b))
				_, err := v.Verify(h, []byte(r.body), r.now())
				if err == nil && !unsigned(r, name, i) {
					t.Errorf("%s: byte %d of %s changed from %q to %q is taken", r.name, i, name, value[i], b[i])
				}
			}
			h := r.header()
			h.Del(name)
			refused(t, v, h, r.body, r.now(), r.name+": without "+name)
			h.Set(name, "")
			refused(t, v, h, r.body, r.now(), r.name+": empty "+name)
			h = r.header()
			h.Add(name, value)
			refused(t, v, h, r.body, r.now(), r.name+": twice "+name)
		}
	}
}

// unsigned tells the bytes of headers that carry several signatures which mean nothing: those of
// signatures that are not looked at, and what parts them.
func unsigned(r signedRequest, name string, i int) bool {
	value := r.head[name]
	switch name {
	case "Stripe-Signature":
		good := hex.EncodeToString(macOf("whsec_abc", "1700000000."+r.body))
		at := strings.Index(value, good)
		signed := i >= at-len(",v1=") && i < at+len(good) || i < len("t=1700000000")
		return !signed
	case headerSignature:
		at := strings.Index(value, "v1,g0hM")
		return i < at-1
	}
	return false
}

func TestBodyThatWasWrittenAgainIsRefused(t *testing.T) {
	for _, r := range signedRequests() {
		var v any
		if json.Unmarshal([]byte(r.body), &v) != nil {
			continue
		}
		again, err := json.Marshal(v)
		if err != nil || string(again) == r.body {
			t.Fatalf("%s: %v: the same again", r.name, err)
		}
		refused(t, verifier(t, r.opt), r.header(), string(again), r.now(), r.name)
	}
}

func TestTimestampsHoldForFiveMinutes(t *testing.T) {
	for _, r := range signedRequests() {
		if r.at == 0 {
			continue
		}
		v := verifier(t, r.opt)
		for _, c := range []struct {
			off  time.Duration
			good bool
		}{{0, true}, {300 * time.Second, true}, {-300 * time.Second, true}, {301 * time.Second, false}, {-301 * time.Second, false}, {24 * time.Hour, false}} {
			_, err := v.Verify(r.header(), []byte(r.body), r.now().Add(c.off))
			if (err == nil) != c.good {
				t.Errorf("%s at %v: %v", r.name, c.off, err)
			}
		}
	}
}

func TestTimestampsHaveOneForm(t *testing.T) {
	for _, text := range []string{"", "+1531420618", "01531420618", "1531420618 ", "1531420618.0", "-1531420618", "1.5e9", "99999999999999999999", "٣"} {
		body := "x"
		h := http.Header{"X-Slack-Request-Timestamp": {text}, "X-Slack-Signature": {"v0=" + hex.EncodeToString(macOf("k", "v0:"+text+":"+body))}}
		refused(t, verifier(t, SignatureOptions{Scheme: Slack, Secrets: []string{"k"}}), h, body, time.Unix(1531420618, 0), text)
	}
}

func TestHexIsNoBase64(t *testing.T) {
	// A signature of one scheme must not be read as that of another.
	mac := hex.EncodeToString(macOf("k", "x"))
	refused(t, verifier(t, SignatureOptions{Scheme: GitHub, Secrets: []string{"k"}}), http.Header{"X-Hub-Signature-256": {"sha1=" + mac}, "X-Github-Delivery": {"1"}}, "x", time.Now(), "sha1")
	refused(t, verifier(t, SignatureOptions{Scheme: Stripe, Secrets: []string{"k"}}), http.Header{"Stripe-Signature": {"t=1,v0=" + hex.EncodeToString(macOf("k", "1.x"))}}, "x", time.Unix(1, 0), "v0 alone")
}

func TestVerifiersThatCannotBeMade(t *testing.T) {
	const secret = "correct horse"
	for name, opt := range map[string]SignatureOptions{
		"no scheme":           {Secrets: []string{secret}},
		"unknown scheme":      {Scheme: "sha1", Secrets: []string{secret}},
		"scheme in capitals":  {Scheme: "GitHub", Secrets: []string{secret}},
		"no secret":           {Scheme: GitHub},
		"empty secret":        {Scheme: GitHub, Secrets: []string{""}},
		"empty second secret": {Scheme: Stripe, Secrets: []string{secret, ""}},
		"short":               {Scheme: Standard, Secrets: []string{"whsec_" + base64.StdEncoding.EncodeToString([]byte(secret))}},
		"not base64":          {Scheme: Standard, Secrets: []string{"whsec_" + secret}},
		"no header":           {Scheme: HMAC, Secrets: []string{secret}},
		"header of another":   {Scheme: Slack, Header: "X", Secrets: []string{secret}},
		"none with a secret":  {Scheme: None, Secrets: []string{secret}},
	} {
		v, err := NewVerifier(opt)
		var wrong *SignatureOptionsError
		if v != nil || !errors.As(err, &wrong) {
			t.Errorf("%s: %v, %v", name, v, err)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error holds the secret: %v", name, err)
		}
	}
	if _, err := verifier(t, SignatureOptions{Scheme: None}).Verify(nil, nil, time.Now()); err != nil {
		t.Errorf("none: %v", err)
	}
}

func TestErrorsAndDumpsTellNoSecret(t *testing.T) {
	const secret = "correct horse"
	body := "a body"
	v := verifier(t, SignatureOptions{Scheme: HMAC, Header: "X-Sig", Secrets: []string{secret}})
	want := macOf(secret, body)
	_, err := v.Verify(http.Header{"X-Sig": {strings.Repeat("0", 64)}}, []byte(body), time.Now())
	dump := fmt.Sprintf("%v|%+v|%#v|%s|%q|%x|%v", v, v, v, v, v, v, err)
	for _, hidden := range []string{secret, fmt.Sprint([]byte(secret)), hex.EncodeToString([]byte(secret)), hex.EncodeToString(want), base64.StdEncoding.EncodeToString(want)} {
		if strings.Contains(dump, hidden) {
			t.Errorf("%q is in %s", hidden, dump)
		}
	}
}

func FuzzVerify(f *testing.F) {
	for _, r := range signedRequests() {
		for _, v := range r.head {
			f.Add(v, r.body, "1700000000")
		}
	}
	f.Add("t=,v1=,=,v1", "", "")
	var all []*Verifier
	for _, r := range signedRequests() {
		all = append(all, verifier(f, r.opt))
	}
	now := time.Unix(1700000000, 0)
	f.Fuzz(func(t *testing.T, signature, body, at string) {
		h := http.Header{}
		for _, name := range []string{"X-Hub-Signature-256", "Stripe-Signature", "X-Slack-Signature", headerSignature, "X-Sig"} {
			h.Set(name, signature)
		}
		for _, name := range []string{"X-Slack-Request-Timestamp", headerTimestamp, headerID, "X-GitHub-Delivery", "X-Id"} {
			h.Set(name, at)
		}
		for i, v := range all {
			r := signedRequests()[i]
			// The fuzzer knows no key: it can only find what was signed above.
			if _, err := v.Verify(h, []byte(body), now); err == nil && body != r.body {
				t.Errorf("%v took %q with body %q", v, signature, body)
			}
		}
	})
}
