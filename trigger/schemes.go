package trigger

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Every scheme is HMAC-SHA256 over the raw body and what else its sender signs. fits tries every
// key with every signature and stops at none, so that the time tells nothing.
func (v *Verifier) fits(signatures [][]byte, parts ...[]byte) bool {
	good := false
	for _, key := range v.keys {
		mac := hmac.New(sha256.New, key)
		for _, p := range parts {
			mac.Write(p)
		}
		want := mac.Sum(nil)
		for _, s := range signatures {
			if hmac.Equal(s, want) {
				good = true
			}
		}
	}
	return good
}

// mostSignatures bounds the work that one request can ask for.
const mostSignatures = 16

var errWrong = errors.New("it does not fit the body")

func (v *Verifier) github(h http.Header, body []byte, _ time.Time) (Signed, error) {
	return v.single(h, "X-Hub-Signature-256", "sha256=", false, body)
}

func (v *Verifier) plain(h http.Header, body []byte, _ time.Time) (Signed, error) {
	return v.single(h, v.opt.Header, v.opt.Prefix, true, body)
}

// single checks one signature over the body alone.
func (v *Verifier) single(h http.Header, header, prefix string, orBase64 bool, body []byte) (Signed, error) {
	text, err := v.one(h, header)
	if err != nil {
		return Signed{}, err
	}
	sig, found := strings.CutPrefix(text, prefix)
	if !found {
		return Signed{}, v.refuse("header %s does not begin with %q", header, prefix)
	}
	mac, ok := decodeMAC(sig, orBase64)
	if !ok {
		return Signed{}, v.refuse("header %s holds no signature", header)
	}
	if !v.fits([][]byte{mac}, body) {
		return Signed{}, v.refuse("%v", errWrong)
	}
	return Signed{}, nil
}

// decodeMAC reads 32 bytes of hex, or of base64.
func decodeMAC(s string, orBase64 bool) ([]byte, bool) {
	if len(s) == 2*sha256.Size {
		mac, err := hex.DecodeString(s)
		return mac, err == nil
	}
	if !orBase64 || len(s) != base64.StdEncoding.EncodedLen(sha256.Size) {
		return nil, false
	}
	mac, err := base64.StdEncoding.Strict().DecodeString(s)
	return mac, err == nil && len(mac) == sha256.Size
}

// stripe reads "t=1492774577,v1=…,v1=…,v0=…". Schemes other than v1 are not looked at, also
// when there is no v1: else an old one would let a forger choose it.
func (v *Verifier) stripe(h http.Header, body []byte, now time.Time) (Signed, error) {
	const header = "Stripe-Signature"
	text, err := v.one(h, header)
	if err != nil {
		return Signed{}, err
	}
	var at string
	var macs [][]byte
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(trimmed(part), "=")
		switch name {
		case "t":
			if at != "" {
				return Signed{}, v.refuse("header %s has two timestamps", header)
			}
			at = value
		case "v1":
			if mac, ok := decodeMAC(value, false); ok && len(macs) < mostSignatures {
				macs = append(macs, mac)
			}
		}
	}
	t, err := v.fresh(at, now)
	if err != nil {
		return Signed{}, err
	}
	if len(macs) == 0 {
		return Signed{}, v.refuse("header %s holds no signature v1", header)
	}
	if !v.fits(macs, []byte(at), []byte("."), body) {
		return Signed{}, v.refuse("%v", errWrong)
	}
	return Signed{Time: t}, nil
}

func (v *Verifier) slack(h http.Header, body []byte, now time.Time) (Signed, error) {
	at, err := v.one(h, "X-Slack-Request-Timestamp")
	if err != nil {
		return Signed{}, err
	}
	t, err := v.fresh(at, now)
	if err != nil {
		return Signed{}, err
	}
	text, err := v.one(h, "X-Slack-Signature")
	if err != nil {
		return Signed{}, err
	}
	sig, found := strings.CutPrefix(text, "v0=")
	mac, ok := decodeMAC(sig, false)
	if !found || !ok {
		return Signed{}, v.refuse("header X-Slack-Signature holds no signature v0")
	}
	if !v.fits([][]byte{mac}, []byte("v0:"), []byte(at), []byte(":"), body) {
		return Signed{}, v.refuse("%v", errWrong)
	}
	return Signed{Time: t}, nil
}

// Headers of Standard Webhooks.
const (
	headerID        = "webhook-id"
	headerTimestamp = "webhook-timestamp"
	headerSignature = "webhook-signature"
)

// standard reads "v1,<base64> v1,<base64>". v1a, which is asymmetric, is not looked at.
func (v *Verifier) standard(h http.Header, body []byte, now time.Time) (Signed, error) {
	id, err := v.one(h, headerID)
	if err != nil {
		return Signed{}, err
	}
	if strings.Contains(id, ".") { // it would move the border between id and timestamp
		return Signed{}, v.refuse("header %s contains a dot", headerID)
	}
	at, err := v.one(h, headerTimestamp)
	if err != nil {
		return Signed{}, err
	}
	t, err := v.fresh(at, now)
	if err != nil {
		return Signed{}, err
	}
	text, err := v.one(h, headerSignature)
	if err != nil {
		return Signed{}, err
	}
	var macs [][]byte
	for part := range strings.FieldsSeq(text) {
		if sig, found := strings.CutPrefix(part, "v1,"); found && len(macs) < mostSignatures {
			if mac, ok := decodeMAC(sig, true); ok && len(sig) != 2*sha256.Size {
				macs = append(macs, mac)
			}
		}
	}
	if len(macs) == 0 {
		return Signed{}, v.refuse("header %s holds no signature v1", headerSignature)
	}
	if !v.fits(macs, []byte(id), []byte("."), []byte(at), []byte("."), body) {
		return Signed{}, v.refuse("%v", errWrong)
	}
	return Signed{Time: t}, nil
}

// standardKey reads a secret of Standard Webhooks.
func standardKey(secret string) ([]byte, error) {
	text := strings.TrimPrefix(secret, "whsec_")
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		if key, err = base64.RawStdEncoding.DecodeString(text); err != nil {
			return nil, errors.New("after whsec_ it is not base64") // not err, which tells of its bytes
		}
	}
	if len(key) < 24 {
		return nil, fmt.Errorf("it is %d bytes long, and must be 24 or more", len(key))
	}
	return key, nil
}

func (v *Verifier) nothing(http.Header, []byte, time.Time) (Signed, error) { return Signed{}, nil }
