package pawl

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// minSecret is how many bytes Options.Secret has at least.
const minSecret = 32

// checkSecret says whether the secrets can be used where they are given.
func (e *Engine) checkSecret() error {
	for i, secret := range e.secrets() {
		what, n := "Options.Secret", len(secret)
		if i > 0 || len(e.opt.Secret) == 0 {
			what = "one of Options.OtherSecrets"
		}
		if n < minSecret {
			return fmt.Errorf("%w: %s has %d bytes, at least %d are needed: make it of random bytes, as with openssl rand 32", ErrState, what, n, minSecret)
		}
	}
	return nil
}

// secrets are all that this engine has, the one that it signs with first.
func (e *Engine) secrets() [][]byte {
	if len(e.opt.Secret) == 0 {
		return e.opt.OtherSecrets
	}
	return append([][]byte{e.opt.Secret}, e.opt.OtherSecrets...)
}

// Sign returns a code of 32 bytes that proves that data was signed for purpose by a process with
// the same [Options.Secret]. A code for one purpose is none for another, so that a link which
// allows one thing does not allow the next. purpose has 1 to 256 bytes and does not begin with $.
// ErrState: the engine has no secret, or one that is too short.
func (e *Engine) Sign(purpose string, data []byte) ([]byte, error) {
	if err := checkName("purpose", purpose); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	if err := e.checkSecret(); err != nil {
		return nil, err
	}
	if len(e.opt.Secret) == 0 {
		return nil, fmt.Errorf("%w: nothing can be signed without Options.Secret: give all processes of the store the same", ErrState)
	}
	return sign(e.opt.Secret, purpose, data), nil
}

// Verify reports whether mac is what [Engine.Sign] returns for purpose and data, or has returned
// with one of [Options.OtherSecrets]. It takes as long for a wrong code as for a right one.
// Without a secret nothing is right.
func (e *Engine) Verify(purpose string, data, mac []byte) bool {
	if checkName("purpose", purpose) != nil || e.checkSecret() != nil {
		return false
	}
	right := false
	for _, secret := range e.secrets() {
		if hmac.Equal(sign(secret, purpose, data), mac) {
			right = true // the rest is looked at all the same
		}
	}
	return right
}

// sign signs with a key that is derived of a secret and the purpose.
func sign(secret []byte, purpose string, data []byte) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, "pawl "+purpose, sha256.Size)
	if err != nil {
		panic(err) // of lengths, which are constant
	}
	h := hmac.New(sha256.New, key)
	h.Write(data)
	return h.Sum(nil)
}

// fingerprint tells secrets apart and gives nothing of them away; "": there is none.
func fingerprint(secret []byte) string {
	if len(secret) == 0 {
		return ""
	}
	return hex.EncodeToString(sign(secret, "$fingerprint", nil)[:8])
}

// tokenLen is the length of a token that code did not choose: 192 bits.
const tokenLen = 39

// deriveToken makes the token of a hook of a run, the same on every worker with the secret. The
// seed tells a run from one that had its id before.
func deriveToken(secret []byte, run *RunInfo, hook string) string {
	var data []byte
	for _, part := range []string{run.Tenant, run.ID, hook} {
		data = binary.AppendUvarint(data, uint64(len(part)))
		data = append(data, part...)
	}
	data = binary.BigEndian.AppendUint64(data, uint64(run.Seed))
	return crockford.EncodeToString(sign(secret, "$hook token", data)[:24])
}

// hashedToken is how a store knows a token that is a secret: not by itself. No token that code
// chooses begins so.
const hashedToken = "$sha256:"

// TokenSpace is where a token, as it is stored, is unique: of one that code has chosen its
// tenant, so that tenants know nothing of each other's; of a hash, which nobody can choose, "".
func TokenSpace(tenant, stored string) string {
	if strings.HasPrefix(stored, hashedToken) {
		return ""
	}
	return tenant
}

func hashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hashedToken + hex.EncodeToString(sum[:])
}

// storedTokens are the names under which a store may know a token that somebody came with: of
// one that looks as if pawl had made it, its hash first. What is in the store is nobody's token.
func storedTokens(token string) []string {
	switch {
	case token == "" || strings.HasPrefix(token, "$"):
		return nil
	case len(token) == tokenLen && strings.Trim(token, alphabet) == "":
		return []string{hashToken(token), token}
	}
	return []string{token}
}
