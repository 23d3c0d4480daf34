package secret

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

const (
	valueSpace    = "secret.values"
	previousSpace = "secret.previous" // values before, as long as they are good
)

// Store keeps secrets in the store of an engine. Nothing of a value is kept in memory: each call asks the store, so that a
// change is seen by the next call in every process. All methods are safe for concurrent use in many processes, which need the
// same keys.
type Store struct {
	Engine *pawl.Engine
	Keys   *Keyring // nil: nothing can be sealed or opened
}

// row is the record of a value. What is in it beside Sealed is not secret.
type row struct {
	Tenant        string    `json:"tenant"`
	Name          string    `json:"name"`
	Revision      int64     `json:"revision"`
	Sealed        string    `json:"sealed"`
	Created       time.Time `json:"created,omitzero"`
	Updated       time.Time `json:"updated,omitzero"`
	By            string    `json:"by,omitempty"`
	PreviousUntil time.Time `json:"previousUntil,omitzero"`
}

func (r *row) place() []byte { return place(r.Tenant, r.Name, r.Revision) }

// told is what people are told.
func (r *row) told(now time.Time) Secret {
	s := Secret{Name: r.Name, Tenant: r.Tenant, Revision: r.Revision, KeyID: keyID(r.Sealed), Created: r.Created, Updated: r.Updated, By: r.By}
	if r.PreviousUntil.After(now) {
		s.PreviousUntil = r.PreviousUntil
	}
	return s
}

func (r *row) put(space string, version int64) pawl.Put {
	data, err := json.Marshal(r)
	if err != nil { // texts and times: can't be
		panic(err)
	}
	return pawl.Put{Space: space, Key: key(r.Tenant, r.Name), If: version, Data: data}
}

// key names a record. A tenant's name may be as long as a key, so its hash stands for it.
func key(tenant, name string) string { return tenantKey(tenant) + name }

func tenantKey(tenant string) string {
	sum := sha256.Sum256([]byte(tenant))
	return hex.EncodeToString(sum[:]) + "/"
}

func readRow(r pawl.Record) (*row, error) {
	out := &row{}
	if err := json.Unmarshal(r.Data, out); err != nil {
		return nil, fmt.Errorf("record %q of %s: %w", r.Key, r.Space, err)
	}
	return out, nil
}

// read returns a record and its version; nil: it is not there.
func (s Store) read(ctx context.Context, space, tenant, name string) (*row, int64, error) {
	if !isName(name) {
		return nil, 0, nil
	}
	r, err := s.Engine.Record(ctx, space, key(tenant, name))
	if errors.Is(err, pawl.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	found, err := readRow(r)
	if err != nil {
		return nil, 0, err
	}
	found.Tenant, found.Name = tenant, name // what was moved here can't be opened here
	return found, r.Version, nil
}

// Set keeps a value, sealed with the first key, in place of the one that was there, of which nothing but what
// PreviousUntil asks for is kept. ErrInput, *pawl.TooLargeError; *RevisionError: see [Spec]. ErrState: there is no key.
func (s Store) Set(ctx context.Context, spec Spec) (Secret, error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	if err := spec.check(now); err != nil {
		return Secret{}, err
	}
	for {
		old, version, err := s.read(ctx, valueSpace, spec.Tenant, spec.Name)
		if err != nil {
			return Secret{}, err
		}
		have := int64(0)
		if old != nil {
			have = old.Revision
		}
		if spec.Revision >= 0 && spec.Revision != have {
			return Secret{}, &RevisionError{Name: spec.Name, Want: spec.Revision, Have: have}
		}
		next := &row{Tenant: spec.Tenant, Name: spec.Name, Created: now, Updated: now, By: spec.By}
		next.Revision = max(have+1, now.UnixMicro()) // no number comes again after a delete
		previous := pawl.Put{Space: previousSpace, Key: key(spec.Tenant, spec.Name), If: pawl.AnyVersion}
		if old != nil {
			next.Created = old.Created
			if !spec.PreviousUntil.IsZero() {
				kept, err := s.before(ctx, old, spec.Value)
				if err == nil { // that a key is used no more stays so
					kept.Sealed, err = s.Keys.rewrap(kept.Sealed, kept.place())
				}
				if err != nil {
					return Secret{}, of(spec.Name, err)
				}
				next.PreviousUntil = spec.PreviousUntil.UTC().Truncate(time.Microsecond)
				previous = kept.put(previousSpace, pawl.AnyVersion)
				previous.Until = next.PreviousUntil
			}
		}
		if next.Sealed, err = s.Keys.seal(spec.Value, next.place()); err != nil {
			return Secret{}, err
		}
		_, err = s.Engine.Write(ctx, next.put(valueSpace, version), previous)
		if !errors.Is(err, pawl.ErrConflict) {
			return next.told(now), err
		}
	}
}

// before is what stays good beside value: what is there now. If that is value already, as when a request is repeated whose
// answer was lost, it is what was there before, so that the repeat does not end it.
func (s Store) before(ctx context.Context, now *row, value string) (*row, error) {
	opened, err := s.Keys.open(now.Sealed, now.place())
	if err != nil {
		return nil, err
	}
	kept := &row{Tenant: now.Tenant, Name: now.Name, Revision: now.Revision, Sealed: now.Sealed}
	if subtle.ConstantTimeCompare([]byte(opened), []byte(value)) != 1 {
		return kept, nil
	}
	old, _, err := s.read(ctx, previousSpace, now.Tenant, now.Name)
	if err != nil || old == nil {
		return kept, err
	}
	return old, nil
}

// Value returns the value of a secret, for a call that goes out: hand it to nobody else. It is what flow.Options.Secret wants.
// ErrNotFound. ErrState: its key is not given (*LostKeysError), or what is in the store was changed.
func (s Store) Value(ctx context.Context, tenant, name string) (string, error) {
	found, _, err := s.read(ctx, valueSpace, tenant, name)
	if err == nil && found == nil {
		err = notFound(name)
	}
	if err != nil {
		return "", err
	}
	value, err := s.Keys.open(found.Sealed, found.place())
	return value, of(name, err)
}

// Values returns the values that a signature may be by: the secret's, and the one before as long as it is good. Its errors
// are those of Value.
func (s Store) Values(ctx context.Context, tenant, name string) ([]string, error) {
	value, err := s.Value(ctx, tenant, name) // first: a change that comes between leaves the value in the other place
	if err != nil {
		return nil, err
	}
	before, _, err := s.read(ctx, previousSpace, tenant, name)
	if err != nil || before == nil {
		return []string{value}, err
	}
	old, err := s.Keys.open(before.Sealed, before.place())
	if err != nil {
		return nil, of(name, err)
	}
	return []string{value, old}, nil
}

// Get tells of a secret. ErrNotFound.
func (s Store) Get(ctx context.Context, tenant, name string) (Secret, error) {
	found, _, err := s.read(ctx, valueSpace, tenant, name)
	if err == nil && found == nil {
		err = notFound(name)
	}
	if err != nil {
		return Secret{}, err
	}
	return found.told(time.Now()), nil
}

// Has reports whether a tenant has a secret. It is what flow.Options.HasSecret wants.
func (s Store) Has(ctx context.Context, tenant, name string) (bool, error) {
	found, _, err := s.read(ctx, valueSpace, tenant, name)
	return found != nil, err
}

// maxNames is how many names Names returns.
const maxNames = 200

// Names returns names of a tenant's secrets, the first 200, for who may have misspelt one. It is what flow.Options.SecretNames wants.
func (s Store) Names(ctx context.Context, tenant string) (names []string, err error) {
	list, err := s.List(ctx, tenant, "", "", maxNames)
	for _, one := range list {
		names = append(names, one.Name)
	}
	return names, err
}

// List returns a page of a tenant's secrets whose name begins with prefix and comes after after, in the order of their
// names. limit 0 means 100; at most 1,000.
func (s Store) List(ctx context.Context, tenant, prefix, after string, limit int) ([]Secret, error) {
	at := tenantKey(tenant)
	if after != "" {
		after = at + after
	}
	page, err := s.Engine.Records(ctx, valueSpace, at+prefix, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list secrets: %w", err)
	}
	list := []Secret{}
	for _, r := range page {
		found, err := readRow(r)
		if err != nil {
			return nil, err
		}
		found.Tenant, found.Name = tenant, strings.TrimPrefix(r.Key, at)
		list = append(list, found.told(time.Now()))
	}
	return list, nil
}

// Delete removes a secret with all its values. ErrNotFound, *RevisionError.
func (s Store) Delete(ctx context.Context, tenant, name string, must ...IfRevision) error {
	for {
		found, version, err := s.read(ctx, valueSpace, tenant, name)
		if err == nil && found == nil {
			err = notFound(name)
		}
		if err != nil {
			return err
		}
		for _, want := range must {
			if int64(want) != found.Revision {
				return &RevisionError{Name: name, Want: int64(want), Have: found.Revision}
			}
		}
		_, err = s.Engine.Write(ctx, pawl.Put{Space: valueSpace, Key: key(tenant, name), If: version},
			pawl.Put{Space: previousSpace, Key: key(tenant, name), If: pawl.AnyVersion})
		if !errors.Is(err, pawl.ErrConflict) {
			return err
		}
	}
}
