package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
)

// A sealed value is "v1.<id of a key>.<wrapped key of the value>.<value>", both in base64 and each with its random nonce
// before it. The value's key is random and seals this value only, so its nonce can't come twice; that of the key ring seals keys,
// far fewer than 2³². To change the key of the ring, the value's key is wrapped anew and the value stays as it is.

const format = "v1"

var encoding = base64.RawURLEncoding.Strict()

// place is where a value is sealed for: nowhere else it can be opened.
func place(tenant, name string, revision int64) []byte {
	var at []byte
	for _, part := range []string{tenant, name} {
		at = binary.AppendUvarint(at, uint64(len(part)))
		at = append(at, part...)
	}
	return binary.BigEndian.AppendUint64(at, uint64(revision))
}

// purpose keeps apart what is sealed for the same place.
func purpose(of string, at []byte) []byte {
	return slices.Concat([]byte("pawl secret "+format+" "+of+"\x00"), at)
}

// seal seals a value with the first key. ErrState: there is none.
func (k *Keyring) seal(value string, at []byte) (string, error) {
	if k == nil || len(k.keys) == 0 {
		return "", fmt.Errorf("%w: there is no encryption key, so no secret can be kept: give the server one in PAWL_ENCRYPTION_KEYS; make one: openssl rand -base64 32", pawl.ErrState)
	}
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // it does not fail
	defer clear(key)
	return k.wrap(key, at) + "." + encoding.EncodeToString(aead(key).Seal(nil, nil, []byte(value), purpose("value", at))), nil
}

// wrap seals the key of a value with the first key; there must be one.
func (k *Keyring) wrap(key, at []byte) string {
	first := k.keys[0]
	return format + "." + first.id + "." + encoding.EncodeToString(aead(first.wrap).Seal(nil, nil, key, purpose("key", at)))
}

// open opens what was sealed for a place. ErrState: its key is missing, or it was changed or moved.
func (k *Keyring) open(sealed string, at []byte) (string, error) {
	key, _, body, err := k.unwrap(sealed, at)
	if err != nil {
		return "", err
	}
	defer clear(key)
	raw, err := encoding.DecodeString(body)
	if err == nil {
		raw, err = aead(key).Open(nil, nil, raw, purpose("value", at))
	}
	if err != nil {
		return "", errDamaged
	}
	return string(raw), nil
}

// rewrap is what was sealed, with its key wrapped by the first key. The same text: it is so already.
func (k *Keyring) rewrap(sealed string, at []byte) (string, error) {
	if len(k.IDs()) > 0 && keyID(sealed) == k.keys[0].id {
		return sealed, nil
	}
	key, _, body, err := k.unwrap(sealed, at)
	if err != nil {
		return "", err
	}
	defer clear(key)
	return k.wrap(key, at) + "." + body, nil
}

var errDamaged = fmt.Errorf("%w: it can't be opened: what is in the store was changed, or moved there from elsewhere; set it anew", pawl.ErrState)

// unwrap returns the key of a value, the id of the key it was wrapped with, and the value as it is sealed.
func (k *Keyring) unwrap(sealed string, at []byte) (key []byte, id, body string, err error) {
	parts := strings.Split(sealed, ".")
	if len(parts) != 4 || parts[0] != format {
		return nil, "", "", errDamaged
	}
	id = parts[1]
	i := slices.Index(k.IDs(), id)
	if i < 0 {
		return nil, id, "", &LostKeysError{Lost: []string{id}, Secrets: 1, Given: k.IDs()}
	}
	raw, err := encoding.DecodeString(parts[2])
	if err == nil {
		key, err = aead(k.keys[i].wrap).Open(nil, nil, raw, purpose("key", at))
	}
	if err == nil && len(key) != keySize {
		err = errors.New("not a key")
	}
	if err != nil {
		return nil, id, "", errDamaged
	}
	return key, id, parts[3], nil
}

// keyID is the id of the key that a value is sealed with; "": it is not sealed by this package.
func keyID(sealed string) string {
	head, rest, _ := strings.Cut(sealed, ".")
	id, _, found := strings.Cut(rest, ".")
	if head != format || !found {
		return ""
	}
	return id
}

func aead(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // of its length, which is constant
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return gcm
}
