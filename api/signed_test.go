package api_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/trigger"
)

func macOf(key, text string) string {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil))
}

// Two deliveries that nothing names are two, however equal their bodies; one that has a name, or a
// timestamp, comes once.
func TestEqualBodiesAreTwoDeliveries(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		verifiers := map[string]*trigger.Verifier{}
		for name, opt := range map[string]trigger.SignatureOptions{
			"plain": {Scheme: trigger.HMAC, Header: "X-Sig"}, "hub": {Scheme: trigger.GitHub}, "bill": {Scheme: trigger.Stripe}, "chat": {Scheme: trigger.Slack},
		} {
			opt.Secrets = []string{"k"}
			v, err := trigger.NewVerifier(opt)
			if err != nil {
				t.Fatal(err)
			}
			verifiers[name] = v
		}
		obvious := func(scheme, name string, header http.Header, body []byte, now time.Time) (string, error) {
			signed, err := verifiers[name].Verify(header, body, now)
			return signed.ID, err
		}
		var defs []pawl.Definition
		for name, v := range verifiers {
			defs = append(defs, pawl.Define(name, func(c *pawl.Context, _ any) (n int, err error) {
				hook, err := pawl.NewWebhook(c, pawl.Signed(string(v.Scheme()), name))
				if err != nil {
					return 0, err
				}
				if err := c.SetAttributes(map[string]any{"at": strings.TrimPrefix(hook.URL(), "http://pawl.test")}); err != nil {
					return 0, err
				}
				for req, err := range hook.All(c) {
					if err != nil {
						return n, err
					}
					if n++; strings.Contains(string(req.Body), "end") {
						break
					}
				}
				return n, nil
			}))
		}
		now := fmt.Sprint(time.Now().Unix())
		sign := map[string]func(body, id string) map[string]string{
			"plain": func(body, _ string) map[string]string { return map[string]string{"X-Sig": macOf("k", body)} },
			"hub": func(body, id string) map[string]string {
				return map[string]string{"X-Hub-Signature-256": "sha256=" + macOf("k", body), "X-GitHub-Delivery": id}
			},
			"bill": func(body, _ string) map[string]string {
				return map[string]string{"Stripe-Signature": "t=" + now + ",v1=" + macOf("k", now+"."+body)}
			},
			"chat": func(body, _ string) map[string]string {
				return map[string]string{"X-Slack-Request-Timestamp": now, "X-Slack-Signature": "v0=" + macOf("k", "v0:"+now+":"+body)}
			},
		}
		for which, verify := range map[string]func(string, string, http.Header, []byte, time.Time) (string, error){"obvious": obvious, "VerifyFunc": trigger.VerifyFunc(verifiers)} {
			h := openOn(t, store(), api.Options{Verify: verify, PublicURL: "http://pawl.test"}, defs...)
			for _, c := range []struct {
				scheme, body, id string
				again            string // the delivery's name when the same body comes again
				repeat           bool
				end              string
			}{
				{"plain", "tick", "", "", false, "end"},
				{"hub", "tick", "d1", "d2", false, "end"},
				{"hub", "tick", "d1", "d1", true, "end"},
				{"bill", `{"id":"evt_1"}`, "", "", true, `{"id":"evt_2","n":"end"}`},
				{"chat", `{"event_id":"e1"}`, "", "", true, `{"event_id":"e2","n":"end"}`},
				{"chat", "command=%2Fx", "", "", true, "command=end"}, // what was overheard is not sent again
			} {
				what := fmt.Sprintf("%s, %s %s, %q and %q", which, c.scheme, c.body, c.id, c.again)
				id := h.start(c.scheme, "null")
				var to string
				h.eventually("the webhook of "+c.scheme, func() bool {
					run, err := h.client.Run(t.Context(), id, 0)
					if err != nil {
						t.Fatal(err)
					}
					to = run.Attrs["at"]
					return run.Attrs["at"] != ""
				})
				send := func(body, name string) reply {
					return h.send("POST", to, body, func(r *http.Request) {
						for name, value := range sign[c.scheme](body, name) {
							r.Header.Set(name, value)
						}
					})
				}
				first, again := send(c.body, c.id), send(c.body, c.again)
				if first.status != 202 || first.header.Get("Idempotency-Replayed") != "" {
					t.Errorf("%s, first: %d %q %s", what, first.status, first.header.Get("Idempotency-Replayed"), first.body)
				}
				replayed := map[bool]string{true: "true", false: ""}[c.repeat]
				if again.status != 202 || again.header.Get("Idempotency-Replayed") != replayed {
					t.Errorf("%s, again: %d, Idempotency-Replayed %q, want %q", what, again.status, again.header.Get("Idempotency-Replayed"), replayed)
				}
				if r := send(c.end, "end"); r.status != 202 {
					t.Errorf("%s, end: %d %s", what, r.status, r.body)
				}
				want := map[bool]string{true: "2", false: "3"}[c.repeat]
				if got := h.result(id); got != want {
					t.Errorf("%s: the run got %s requests, want %s", what, got, want)
				}
			}
			h.stop()
		}
	})
}
