package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl"
)

// ErrKey says that a key is not one, has expired or was revoked. The text says which only to
// who has the whole key.
var ErrKey = errors.New("the key is not valid")

const (
	keySpace = "api.keys"
	// usedEvery is how coarsely the last use of a key is kept.
	usedEvery = 10 * time.Minute
	// keyHistory is how long a revoked key is still listed.
	keyHistory = 30 * 24 * time.Hour
	maxKeyName = 100
)

// Keys keeps the keys of callers in the store of an engine, in records of space "api.keys". Of
// a key's secret only the SHA-256 is kept: a copy of the store opens no door. All methods are
// safe for concurrent use, in many processes: each asks the store, so that a key that was
// revoked is refused everywhere from then on.
type Keys struct{ Engine *pawl.Engine }

// KeySpec describes a key to be made.
type KeySpec struct {
	Name    string    `json:"name" maxLength:"100" doc:"For people: who has it, and what for."`
	Tenant  string    `json:"tenant,omitempty" doc:"Whose runs it is for; left out: those of who makes it."`
	Scopes  []Scope   `json:"scopes" doc:"What it may do."`
	Expires time.Time `json:"expires,omitzero" doc:"From then on it is refused; left out: never."`
}

// Key is what is known of a key.
type Key struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Tenant  string    `json:"tenant,omitempty"`
	Scopes  []Scope   `json:"scopes"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	Revoked time.Time `json:"revoked,omitzero"`
	Used    time.Time `json:"used,omitzero" doc:"When it was used last, to about ten minutes."`
}

// storedKey is the record of a key.
type storedKey struct {
	Key
	Hash []byte `json:"hash"` // SHA-256 of the secret
}

// Create makes a key and returns it with the secret to hand out, which is told this once:
// pawl_<id>_<secret>. ErrInput: no name, no scope, one that is not known, or a time that has
// passed.
func (k Keys) Create(ctx context.Context, spec KeySpec) (Key, string, error) {
	return k.create(ctx, spec, func(string) []pawl.Put { return nil })
}

// create is Create; with is told the key's id, and says what is written with it.
func (k Keys) create(ctx context.Context, spec KeySpec, with func(id string) []pawl.Put) (Key, string, error) {
	bad := func(format string, args ...any) (Key, string, error) {
		return Key{}, "", fmt.Errorf("%w: a key: %s", pawl.ErrInput, fmt.Sprintf(format, args...))
	}
	now := time.Now().UTC()
	switch {
	case strings.TrimSpace(spec.Name) == "" || len(spec.Name) > maxKeyName || !utf8.ValidString(spec.Name):
		return bad("its name must be a text of 1 to %d bytes that says who has it", maxKeyName)
	case len(spec.Scopes) == 0:
		return bad("it has no scope, so it could do nothing; there are %v", Scopes())
	case !spec.Expires.IsZero() && !spec.Expires.After(now):
		return bad("it would have expired at %s", spec.Expires.Format(time.RFC3339))
	}
	for _, scope := range spec.Scopes {
		if !slices.Contains(Scopes(), scope) {
			return bad("there is no scope %q; there are %v", scope, Scopes())
		}
	}
	secret := rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(secret))
	stored := storedKey{Hash: sum[:], Key: Key{
		ID: strings.ToLower(rand.Text()[:16]), Name: spec.Name, Tenant: spec.Tenant, Created: now.Truncate(time.Millisecond), Expires: spec.Expires.UTC(),
		Scopes: slices.Compact(slices.Sorted(slices.Values(spec.Scopes))),
	}}
	if spec.Expires.IsZero() {
		stored.Expires = time.Time{}
	}
	if _, err := k.Engine.Write(ctx, append(with(stored.ID), stored.put(0))...); err != nil {
		return Key{}, "", err
	}
	return stored.Key, "pawl_" + stored.ID + "_" + secret, nil
}

func (k *storedKey) put(version int64) pawl.Put {
	data, err := json.Marshal(k)
	if err != nil { // texts and times: can't be
		panic(err)
	}
	p := pawl.Put{Space: keySpace, Key: k.ID, If: version, Data: data}
	if !k.Revoked.IsZero() {
		p.Until = k.Revoked.Add(keyHistory)
	}
	return p
}

// List returns all keys of all tenants, by id; revoked ones for 30 days.
func (k Keys) List(ctx context.Context) ([]Key, error) {
	list := []Key{}
	for after := ""; ; {
		page, err := k.Engine.Records(ctx, keySpace, "", after, 1000)
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			stored, err := readKey(r)
			if err != nil {
				return nil, err
			}
			list, after = append(list, stored.Key), r.Key
		}
		if len(page) < 1000 {
			return list, nil
		}
	}
}

func readKey(r pawl.Record) (storedKey, error) {
	var stored storedKey
	if err := json.Unmarshal(r.Data, &stored); err != nil {
		return stored, fmt.Errorf("record %q of %s: %w", r.Key, keySpace, err)
	}
	return stored, nil
}

// get returns a key by its id. ErrNotFound.
func (k Keys) get(ctx context.Context, id string) (storedKey, int64, error) {
	if !keyID(id) {
		return storedKey{}, 0, fmt.Errorf("%w: key %q", pawl.ErrNotFound, id)
	}
	r, err := k.Engine.Record(ctx, keySpace, id)
	if errors.Is(err, pawl.ErrNotFound) {
		err = fmt.Errorf("%w: key %q", pawl.ErrNotFound, id)
	}
	if err != nil {
		return storedKey{}, 0, err
	}
	stored, err := readKey(r)
	return stored, r.Version, err
}

// keyID reports whether text has the form of a key's id.
func keyID(text string) bool {
	return len(text) == 16 && !strings.ContainsFunc(text, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '2' || r > '7') })
}

// Revoke lets a key be refused from now on: when it returns, for every request on every
// process; live views and waits opened with it end within a second. Revoking twice is
// nothing. ErrNotFound.
func (k Keys) Revoke(ctx context.Context, id string) error {
	for {
		stored, version, err := k.get(ctx, id)
		if err != nil || !stored.Revoked.IsZero() {
			return err
		}
		stored.Revoked = time.Now().UTC().Truncate(time.Millisecond)
		_, err = k.Engine.Write(ctx, stored.put(version))
		if !errors.Is(err, pawl.ErrConflict) { // its last use was written at the same moment
			return err
		}
	}
}

// Find returns the key of a secret as [Keys.Create] gave it out. ErrKey: there is none.
func (k Keys) Find(ctx context.Context, secret string) (Key, error) {
	head, rest, _ := strings.Cut(secret, "_")
	id, secret, _ := strings.Cut(rest, "_")
	sum := sha256.Sum256([]byte(secret))
	stored, version, err := k.get(ctx, id)
	if err != nil && !errors.Is(err, pawl.ErrNotFound) {
		return Key{}, err
	}
	if subtle.ConstantTimeCompare(sum[:], stored.Hash) != 1 || head != "pawl" {
		return Key{}, ErrKey
	}
	now := time.Now().UTC()
	if err := stored.valid(now); err != nil {
		return Key{}, err
	}
	if now.Sub(stored.Used) >= usedEvery {
		stored.Used = now.Truncate(time.Millisecond)
		// If this fails somebody else has written, or the time of last use stays as it was.
		_, _ = k.Engine.Write(ctx, stored.put(version))
	}
	return stored.Key, nil
}

// valid reports whether a key may be used.
func (k *Key) valid(now time.Time) error {
	switch {
	case !k.Revoked.IsZero():
		return fmt.Errorf("%w: key %s was revoked at %s", ErrKey, k.ID, k.Revoked.Format(time.RFC3339))
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return fmt.Errorf("%w: key %s has expired at %s", ErrKey, k.ID, k.Expires.Format(time.RFC3339))
	}
	return nil
}

// valid reports, as an ErrKey, whether the key with an id can't be used any more.
func (k Keys) valid(ctx context.Context, id string) error {
	stored, _, err := k.get(ctx, id)
	if errors.Is(err, pawl.ErrNotFound) {
		return fmt.Errorf("%w: key %s is gone", ErrKey, id)
	}
	if err != nil {
		return err
	}
	return stored.Key.valid(time.Now())
}
