package service

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The schemes by which webhooks are signed. Each is HMAC-SHA256.
const (
	SchemeStandard = "standard" // Standard Webhooks: webhook-signature: v1,<base64>… over "id.timestamp.body"
	SchemeGitHub   = "github"   // X-Hub-Signature-256: sha256=<hex> over the body
	SchemeStripe   = "stripe"   // Stripe-Signature: t=<unix>,v1=<hex>… over "timestamp.body"
	SchemeHMAC     = "hmac"     // sha256=<hex> over the body, in a header of one's choice
)

// signed are the headers that prove who sent a body. Secrets are those that are good now, the first is that in use: schemes that
// can carry several signatures carry one of each.
func signed(scheme, header, id string, at time.Time, body []byte, secrets []string) (map[string]string, error) {
	if len(secrets) == 0 || secrets[0] == "" {
		return nil, errors.New("there is no secret to sign with")
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	switch scheme {
	case SchemeGitHub:
		return map[string]string{"X-Hub-Signature-256": "sha256=" + hex.EncodeToString(mac([]byte(secrets[0]), string(body))), "X-GitHub-Delivery": id}, nil
	case SchemeHMAC:
		return map[string]string{header: "sha256=" + hex.EncodeToString(mac([]byte(secrets[0]), string(body)))}, nil
	case SchemeStripe:
		parts := []string{"t=" + stamp}
		for _, secret := range secrets {
			parts = append(parts, "v1="+hex.EncodeToString(mac([]byte(secret), stamp+".", string(body))))
		}
		return map[string]string{"Stripe-Signature": strings.Join(parts, ",")}, nil
	}
	var parts []string
	for i, secret := range secrets {
		key, err := standardKey(secret)
		if err != nil {
			return nil, fmt.Errorf("secret %d of %d: %w", i+1, len(secrets), err)
		}
		parts = append(parts, "v1,"+base64.StdEncoding.EncodeToString(mac(key, id+"."+stamp+".", string(body))))
	}
	return map[string]string{"webhook-id": id, "webhook-timestamp": stamp, "webhook-signature": strings.Join(parts, " ")}, nil
}

func mac(key []byte, parts ...string) []byte {
	m := hmac.New(sha256.New, key)
	for _, part := range parts {
		m.Write([]byte(part))
	}
	return m.Sum(nil)
}

// standardKey reads a secret of Standard Webhooks: 24 to 64 bytes in base64, with or without "whsec_". Its errors tell none of them.
func standardKey(secret string) ([]byte, error) {
	text := strings.TrimRight(strings.TrimPrefix(secret, "whsec_"), "=")
	key, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("after whsec_ it is not base64")
	}
	if len(key) < 24 || len(key) > 64 {
		return nil, fmt.Errorf("it is %d bytes long, and must be 24 to 64", len(key))
	}
	return key, nil
}

// headerKey is an idempotency key as a header can carry it everywhere: as it is, where it consists of visible ASCII without those of
// but, and is not long; else a hash of it, which is the same in each attempt too.
func headerKey(key, but string) string {
	plain := len(key) <= 200
	for i := range len(key) {
		plain = plain && key[i] > ' ' && key[i] < 0x7f && strings.IndexByte(but, key[i]) < 0
	}
	if plain {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "key_" + hex.EncodeToString(sum[:16])
}
