package secret

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

func TestAValueIsItsTenantsAndIsNotShown(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine, another func() *pawl.Engine) {
		ctx, keys := t.Context(), ring(t, NewKey())
		s, other := Store{e, keys}, Store{another(), keys}
		tenants := []string{"", "a", "a/b", strings.Repeat("t", 256)}
		for _, tenant := range tenants {
			made := set(t, s, tenant, "token", "of "+tenant)
			if made.Name != "token" || made.Tenant != tenant || made.By != "ann" || made.KeyID != keys.IDs()[0] || made.Revision <= 0 || made.Created.IsZero() {
				t.Errorf("tenant %q: %+v", tenant, made)
			}
		}
		for _, tenant := range tenants {
			if got, err := other.Value(ctx, tenant, "token"); err != nil || got != "of "+tenant {
				t.Errorf("tenant %q: %q, %v", tenant, got, err)
			}
			list, err := other.List(ctx, tenant, "", "", 0)
			if err != nil || len(list) != 1 || list[0].Tenant != tenant {
				t.Errorf("tenant %q: %+v, %v", tenant, list, err)
			}
			is, err := other.Has(ctx, tenant, "token")
			not, oerr := other.Has(ctx, tenant, "tokens")
			names, nerr := Store{Engine: e}.Names(ctx, tenant) // without a key
			if !is || not || !slices.Equal(names, []string{"token"}) || errors.Join(err, oerr, nerr) != nil {
				t.Errorf("tenant %q: %v, %v, %q, %v", tenant, is, not, names, errors.Join(err, oerr, nerr))
			}
		}
		if err := s.Delete(ctx, "a", "token"); err != nil {
			t.Fatal(err)
		}
		for _, tenant := range []string{"a", "nobody"} {
			_, err := s.Value(ctx, tenant, "token")
			_, gerr := s.Get(ctx, tenant, "token")
			if derr := s.Delete(ctx, tenant, "token"); !errors.Is(err, pawl.ErrNotFound) || !errors.Is(gerr, pawl.ErrNotFound) || !errors.Is(derr, pawl.ErrNotFound) {
				t.Errorf("tenant %q: %v, %v, %v", tenant, err, gerr, derr)
			}
		}
		if got, err := s.Value(ctx, "a/b", "token"); err != nil || got != "of a/b" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestSecretsAreListedByPages(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine, _ func() *pawl.Engine) {
		s := Store{e, ring(t, NewKey())}
		for _, name := range []string{"b1", "a", "b3", "b2", "c"} {
			set(t, s, "a", name, "v")
		}
		names := func(prefix, after string, limit int) (all string) {
			list, err := s.List(t.Context(), "a", prefix, after, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range list {
				all += one.Name + " "
			}
			return all
		}
		for got, want := range map[string]string{names("", "", 0): "a b1 b2 b3 c ", names("b", "", 2): "b1 b2 ", names("b", "b2", 2): "b3 ", names("", "c", 2): "", names("x", "", 0): ""} {
			if got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	})
}

func TestWhatCannotBeSetIsRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine, _ func() *pawl.Engine) {
		s, ctx := Store{e, ring(t, NewKey())}, t.Context()
		const value = "hunter2-hunter2"
		for _, name := range []string{"", "1a", "-a", ".a", "a b", "a/b", "é", "a\x00", "a\n", strings.Repeat("a", 129)} {
			if _, err := s.Set(ctx, Spec{Name: name, Value: value}); !errors.Is(err, pawl.ErrInput) || strings.Contains(err.Error(), "hunter") {
				t.Errorf("name %q: %v", name, err)
			}
			if _, err := s.Value(ctx, "", name); !errors.Is(err, pawl.ErrNotFound) {
				t.Errorf("name %q: %v", name, err)
			}
		}
		for what, c := range map[string]struct {
			spec Spec
			want error
		}{
			"empty":     {Spec{Name: "a"}, pawl.ErrInput},
			"large":     {Spec{Name: "a", Value: strings.Repeat("x", MaxValue+1)}, pawl.ErrTooLarge},
			"not UTF-8": {Spec{Name: "a", Value: value + "\xff"}, pawl.ErrInput},
			"past":      {Spec{Name: "a", Value: value, PreviousUntil: time.Now().Add(-time.Second)}, pawl.ErrInput},
		} {
			if _, err := s.Set(ctx, c.spec); !errors.Is(err, c.want) || strings.Contains(err.Error(), "hunter") {
				t.Errorf("%s: %v", what, err)
			}
		}
		for _, name := range []string{"_", "a-B_9.x", strings.Repeat("a", 128)} {
			large := strings.Repeat("x", MaxValue)
			set(t, s, "", name, large)
			if got, err := s.Value(ctx, "", name); err != nil || got != large {
				t.Errorf("name %q: %d bytes, %v", name, len(got), err)
			}
		}
		if _, err := (Store{Engine: e}).Set(ctx, Spec{Name: "new", Value: value}); !errors.Is(err, pawl.ErrState) || !strings.Contains(err.Error(), "PAWL_ENCRYPTION_KEYS") {
			t.Errorf("without a key: %v", err)
		}
	})
}

func TestAChangeOfASecretIsOfItsRevision(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine, another func() *pawl.Engine) {
		ctx, keys := t.Context(), ring(t, NewKey())
		s := Store{e, keys}
		first, err := s.Set(ctx, Spec{Name: "a", Value: "1"})
		if err != nil {
			t.Fatal(err)
		}
		var conflict *RevisionError
		if _, err := s.Set(ctx, Spec{Name: "a", Value: "2"}); !errors.As(err, &conflict) || !errors.Is(err, pawl.ErrConflict) || conflict.Have != first.Revision {
			t.Errorf("it was to be new: %v", err)
		}
		if _, err := s.Set(ctx, Spec{Name: "a", Value: "2", Revision: first.Revision + 1}); !errors.As(err, &conflict) {
			t.Errorf("another revision: %v", err)
		}
		if _, err := s.Set(ctx, Spec{Name: "nothing", Value: "2", Revision: 7}); !errors.As(err, &conflict) || conflict.Have != 0 {
			t.Errorf("there is none: %v", err)
		}
		if err := s.Delete(ctx, "", "a", IfRevision(first.Revision+1)); !errors.As(err, &conflict) {
			t.Errorf("delete: %v", err)
		}
		var won atomic.Int32
		var all sync.WaitGroup
		for i := range 8 {
			mine := Store{another(), keys}
			all.Go(func() {
				_, err := mine.Set(ctx, Spec{Name: "a", Value: fmt.Sprint("by ", i), Revision: first.Revision})
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, pawl.ErrConflict) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		now, err := s.Get(ctx, "", "a")
		if won.Load() != 1 || err != nil || now.Revision <= first.Revision || !now.Created.Equal(first.Created) || now.Updated.Before(first.Updated) {
			t.Errorf("%d have changed it: %+v, %v", won.Load(), now, err)
		}
		if err := s.Delete(ctx, "", "a", IfRevision(now.Revision)); err != nil {
			t.Fatal(err)
		}
		if again := set(t, s, "", "a", "3"); again.Revision <= now.Revision {
			t.Errorf("revision %d comes again after %d", again.Revision, now.Revision)
		}
	})
}

func TestTheValueBeforeIsGoodForATime(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine, another func() *pawl.Engine) {
		ctx, keys := t.Context(), ring(t, NewKey())
		s, other := Store{e, keys}, Store{another(), keys}
		later := time.Now().Add(time.Hour)
		values := func() string {
			all, err := other.Values(ctx, "a", "hook")
			if err != nil {
				t.Fatal(err)
			}
			return strings.Join(all, " ")
		}
		change := func(value string, until time.Time) Secret {
			t.Helper()
			out, err := s.Set(ctx, Spec{Tenant: "a", Name: "hook", Value: value, PreviousUntil: until, Revision: AnyRevision})
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		if made := change("one", later); values() != "one" || !made.PreviousUntil.IsZero() {
			t.Errorf("of a new one: %s, %+v", values(), made)
		}
		if now := change("two", later); values() != "two one" || !now.PreviousUntil.Equal(later.Truncate(time.Microsecond)) {
			t.Errorf("%s, %+v", values(), now)
		}
		if change("two", later); values() != "two one" {
			t.Errorf("a repeat has ended the value before: %s", values())
		}
		if change("three", later); values() != "three two" {
			t.Errorf("%s", values())
		}
		change("three", time.Now().Add(100*time.Millisecond))
		eventually(t, "the value before is not good any more", func() bool { return values() == "three" })
		if now, err := s.Get(ctx, "a", "hook"); err != nil || !now.PreviousUntil.IsZero() {
			t.Errorf("%+v, %v", now, err)
		}
		change("four", later)
		if change("five", time.Time{}); values() != "five" {
			t.Errorf("nothing was to be kept: %s", values())
		}
		change("six", later)
		if err := s.Delete(ctx, "a", "hook"); err != nil {
			t.Fatal(err)
		}
		set(t, s, "a", "hook", "seven")
		if values() != "seven" {
			t.Errorf("a value before has outlived its secret: %s", values())
		}
	})
}

func TestNoFormatShowsAValueOrAKey(t *testing.T) {
	key := NewKey()
	keys := ring(t, key)
	spec := Spec{Name: "a", Value: "hunter2"}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "spec", spec, "keys", keys, "store", Store{Keys: keys})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&log, verb+verb+verb, spec, keys, Store{Keys: keys})
	}
	data, err := json.Marshal([]any{spec, keys})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), key, fmt.Sprint(keys.keys[0].wrap), fmt.Sprintf("%x", keys.keys[0].wrap)} {
		if strings.Contains(log.String()+string(data), s) {
			t.Errorf("%q is shown in %s%s", s, &log, data)
		}
	}
}
