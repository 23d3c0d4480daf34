package secret

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
)

// KeyUse says what a key of the key ring, or one that is missing there, is used for.
type KeyUse struct {
	ID      string `json:"id"`
	Seals   bool   `json:"seals" doc:"New values are sealed with it."`
	Given   bool   `json:"given" doc:"The server has it."`
	Secrets int    `json:"secrets" doc:"How many values are sealed with it, of all tenants. One that does not seal and has none can be taken away."`
}

// Uses counts the values of all tenants by the key that they are sealed with: those of the key ring in its order, then those
// that are missing.
func (s Store) Uses(ctx context.Context) ([]KeyUse, error) {
	counts := map[string]int{}
	err := s.each(ctx, func(_ pawl.Record, found *row) error {
		counts[keyID(found.Sealed)]++
		return nil
	})
	if err != nil {
		return nil, err
	}
	uses := []KeyUse{}
	for i, id := range s.Keys.IDs() {
		uses = append(uses, KeyUse{ID: id, Seals: i == 0, Given: true, Secrets: counts[id]})
		delete(counts, id)
	}
	given := len(uses)
	for id, n := range counts {
		uses = append(uses, KeyUse{ID: id, Secrets: n})
	}
	slices.SortFunc(uses[given:], func(a, b KeyUse) int { return strings.Compare(a.ID, b.ID) })
	return uses, nil
}

// Check says whether all secrets can be opened, of all tenants: *LostKeysError names the keys that are missing. A server
// does not start before it is nil.
func (s Store) Check(ctx context.Context) error {
	uses, err := s.Uses(ctx)
	if err != nil {
		return fmt.Errorf("look at the secrets: %w", err)
	}
	lost := &LostKeysError{Given: s.Keys.IDs()}
	for _, use := range uses {
		if !use.Given {
			lost.Lost = append(lost.Lost, use.ID)
			lost.Secrets += use.Secrets
		}
	}
	if lost.Lost == nil {
		return nil
	}
	return lost
}

// Rewrap seals the keys of all values, of all tenants, with the first key, and returns of how many. Values can be read and set
// meanwhile. If it ends early, as with ctx, another call goes on. When it has returned without an error, and no process seals with
// another key any more, the others can be taken away: see Uses. *LostKeysError, ErrState: a value can't be opened.
func (s Store) Rewrap(ctx context.Context) (n int, err error) {
	var failed []error
	err = s.each(ctx, func(r pawl.Record, found *row) error {
		did, err := s.rewrap(ctx, r, found)
		switch {
		case errors.Is(err, pawl.ErrState): // the others are not to wait for it
			failed = append(failed, of(found.Name, err))
		case err != nil:
			return err
		case did:
			n++
		}
		return nil
	})
	return n, errors.Join(append(failed, err)...)
}

// rewrap seals the key of one value anew, whatever else is written meanwhile.
func (s Store) rewrap(ctx context.Context, r pawl.Record, found *row) (bool, error) {
	for {
		sealed, err := s.Keys.rewrap(found.Sealed, found.place())
		if err != nil || sealed == found.Sealed {
			return false, err
		}
		found.Sealed = sealed
		put := found.put(r.Space, r.Version)
		put.Key, put.Until = r.Key, r.Until
		if _, err = s.Engine.Write(ctx, put); !errors.Is(err, pawl.ErrConflict) {
			return err == nil, err
		}
		r, err = s.Engine.Record(ctx, r.Space, r.Key)
		if errors.Is(err, pawl.ErrNotFound) { // it was deleted
			return false, nil
		}
		if err == nil {
			found, err = readRow(r)
		}
		if err != nil {
			return false, err
		}
	}
}

// Forget deletes the values, of all tenants, that are sealed with keys which are not given, and returns how many: where a
// key is lost nobody can open them, and they must be set again. ErrState: no key at all is given, which is more likely an oversight than the
// loss of all.
func (s Store) Forget(ctx context.Context) (n int, err error) {
	err = s.each(ctx, func(r pawl.Record, found *row) error {
		if len(s.Keys.IDs()) == 0 {
			return fmt.Errorf("%w: no encryption key is given, so all secrets would be deleted: give PAWL_ENCRYPTION_KEYS those that are left, or a new one", pawl.ErrState)
		}
		if s.Keys.Has(keyID(found.Sealed)) {
			return nil
		}
		_, err := s.Engine.Write(ctx, pawl.Put{Space: r.Space, Key: r.Key, If: r.Version})
		if err == nil {
			n++
		}
		if errors.Is(err, pawl.ErrConflict) { // it was set meanwhile
			err = nil
		}
		return err
	})
	return n, err
}

// each calls do with every value, those before too.
func (s Store) each(ctx context.Context, do func(r pawl.Record, found *row) error) error {
	const many = 100 // of up to 90 KiB
	for _, space := range []string{valueSpace, previousSpace} {
		for after := ""; ; {
			page, err := s.Engine.Records(ctx, space, "", after, many)
			if err != nil {
				return err
			}
			for _, r := range page {
				found, err := readRow(r)
				if err == nil {
					err = do(r, found)
				}
				if err != nil {
					return err
				}
				after = r.Key
			}
			if len(page) < many {
				break
			}
		}
	}
	return nil
}
