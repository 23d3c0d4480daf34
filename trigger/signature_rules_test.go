package trigger

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What Standard Webhooks sign is id.timestamp.body: an id with a dot would move the borders, so that what was signed
// as one thing could be sent as another.
func TestAnIDWithADotIsRefused(t *testing.T) {
	const secret = "0123456789abcdef01234567"
	v := verifier(t, SignatureOptions{Scheme: Standard, Secrets: []string{"whsec_" + base64.StdEncoding.EncodeToString([]byte(secret))}})
	now := time.Unix(1_700_000_000, 0)
	signed := func(id, body string) http.Header {
		at := fmt.Sprint(now.Unix())
		return http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {at}, "Webhook-Signature": {"v1," + base64.StdEncoding.EncodeToString(macOf(secret, id+"."+at+"."+body))}}
	}
	if _, err := v.Verify(signed("msg", "{}"), []byte("{}"), now); err != nil {
		t.Error(err)
	}
	refused(t, v, signed("msg.1", "{}"), "{}", now, "an id with a dot")
	// Signed as id "msg" with a body that begins with a timestamp, sent as another id and the rest of the body.
	at := fmt.Sprint(now.Unix())
	h := signed("msg", at+".{}")
	h.Set("Webhook-Id", "msg."+at)
	refused(t, v, h, "{}", now, "borders that were moved")
}

// One request makes no more work than sixteen signatures are: of more, those behind are not looked at.
func TestSignaturesOfOneRequestAreBounded(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	v := verifier(t, SignatureOptions{Scheme: Stripe, Secrets: []string{"k"}})
	good := fmt.Sprintf("v1=%x", macOf("k", "1700000000.{}"))
	bad := "v1=" + strings.Repeat("0", 64) + ","
	for n, want := range map[int]bool{0: true, 15: true, 16: false, 50: false} {
		h := http.Header{"Stripe-Signature": {"t=1700000000," + strings.Repeat(bad, n) + good}}
		if _, err := v.Verify(h, []byte("{}"), now); (err == nil) != want {
			t.Errorf("behind %d others: %v", n, err)
		}
	}
}
