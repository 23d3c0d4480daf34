package secret

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
)

// keySize is how many bytes a key has.
const keySize = 32

// Keyring has the keys that secrets are sealed with: the first seals, all open. It is safe for concurrent use. No
// format shows more of it than ids.
type Keyring struct{ keys []sealingKey }

// sealingKey is what is derived of a key.
type sealingKey struct {
	id   string
	wrap []byte // encrypts the keys of values
}

// NewKey makes a key, as [ParseKeys] reads it: the base64 of 32 random bytes, what "openssl rand -base64 32" prints.
func NewKey() string {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // it does not fail
	return base64.StdEncoding.EncodeToString(key)
}

// ParseKeys reads one or more keys, separated by commas or white space. ErrInput: there is none, one is not the base64 of
// 32 bytes, or stands there twice. The error tells its place and nothing of the key.
func ParseKeys(text string) (*Keyring, error) {
	fields := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })
	if len(fields) == 0 {
		return nil, fmt.Errorf("%w: there is no encryption key; make one: openssl rand -base64 32", pawl.ErrInput)
	}
	ring := &Keyring{}
	for i, field := range fields {
		key, err := base64.StdEncoding.Strict().DecodeString(field)
		if err != nil || len(key) != keySize {
			return nil, fmt.Errorf("%w: encryption key %d of %d is not the base64 of %d bytes; make one: openssl rand -base64 32", pawl.ErrInput, i+1, len(fields), keySize)
		}
		derived := sealingKey{id: hex.EncodeToString(derive(key, "id")[:8]), wrap: derive(key, "wrap")}
		if ring.Has(derived.id) {
			return nil, fmt.Errorf("%w: encryption key %d of %d, %s, is there twice", pawl.ErrInput, i+1, len(fields), derived.id)
		}
		ring.keys = append(ring.keys, derived)
	}
	return ring, nil
}

// derive makes a key for one purpose of a key.
func derive(key []byte, purpose string) []byte {
	out, err := hkdf.Key(sha256.New, key, nil, "pawl secrets "+purpose, keySize)
	if err != nil {
		panic(err) // of lengths, which are constant
	}
	return out
}

// IDs are those of the keys, the one that seals first. An id is made of its key, tells nothing of it, and is the same in
// every process.
func (k *Keyring) IDs() []string {
	ids := []string{}
	if k != nil {
		for _, key := range k.keys {
			ids = append(ids, key.id)
		}
	}
	return ids
}

// Has reports whether there is a key with an id.
func (k *Keyring) Has(id string) bool { return slices.Contains(k.IDs(), id) }

// String tells the ids.
func (k *Keyring) String() string { return "encryption keys " + strings.Join(k.IDs(), ", ") }

// Format is String for every verb, so that no %+v prints keys.
func (k *Keyring) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// LogValue is String.
func (k *Keyring) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON lists the ids.
func (k *Keyring) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, `"%s"`, k.String()), nil }
