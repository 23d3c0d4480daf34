package secret

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

func TestKeysAreRead(t *testing.T) {
	a, b := NewKey(), NewKey()
	for text, want := range map[string]int{a: 1, a + "," + b: 2, " " + a + "\n" + b + "\n": 2, a + ", " + b: 2} {
		k, err := ParseKeys(text)
		if err != nil || len(k.IDs()) != want {
			t.Errorf("%d keys: %v, %v", want, k, err)
		}
	}
	if ring(t, a, b).IDs()[0] != ring(t, b, a).IDs()[1] || ring(t, a).IDs()[0] == ring(t, b).IDs()[0] || strings.Contains(a, ring(t, a).IDs()[0]) {
		t.Error("an id is not that of its key")
	}
	for _, text := range []string{"", " \n", "short", a[:40], a + a, a + "," + a, a + ",x", strings.Repeat("z", 44), strings.ReplaceAll(a, "=", "")} {
		if _, err := ParseKeys(text); !errors.Is(err, pawl.ErrInput) || text != "" && len(text) > 8 && strings.Contains(err.Error(), text[:8]) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestNothingIsSealedTwiceAlike(t *testing.T) {
	k := ring(t, NewKey())
	seen := map[string]bool{}
	for range 1000 {
		sealed, err := k.seal("the same", place("a", "n", 1))
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(sealed, ".")
		wrapped, werr := encoding.DecodeString(parts[2])
		value, verr := encoding.DecodeString(parts[3])
		if werr != nil || verr != nil || parts[0] != "v1" || parts[1] != k.IDs()[0] {
			t.Fatal(sealed)
		}
		for _, part := range []string{parts[2], parts[3], string(wrapped[:12]), string(value[:12])} {
			if seen[part] {
				t.Fatalf("it comes twice: %q", part)
			}
			seen[part] = true
		}
	}
}

func TestEveryByteOfASealedValueCounts(t *testing.T) {
	k, at := ring(t, NewKey()), place("a", "n", 1)
	sealed, err := k.seal("value", at)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.open(sealed, at); err != nil || got != "value" {
		t.Fatal(got, err)
	}
	for i := range sealed {
		for _, c := range []byte{sealed[i] ^ 1, sealed[i] ^ 4, '.', 'A'} {
			if c == sealed[i] {
				continue
			}
			if got, err := k.open(sealed[:i]+string(c)+sealed[i+1:], at); !errors.Is(err, pawl.ErrState) || got != "" {
				t.Fatalf("byte %d: %q, %v", i, got, err)
			}
		}
	}
	for what, at := range map[string][]byte{"tenant": place("b", "n", 1), "name": place("a", "m", 1), "revision": place("a", "n", 2), "border": place("an", "", 1)} {
		if got, err := k.open(sealed, at); !errors.Is(err, pawl.ErrState) || got != "" {
			t.Errorf("in the place of another %s: %q, %v", what, got, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	k, at := ring(f, NewKey()), place("a", "n", 1)
	sealed, err := k.seal("value", at)
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{sealed, "", "v1", "v1..", "v1...", "v1." + k.IDs()[0] + "..", "v1." + k.IDs()[0] + ".AAAA.AAAA"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := k.open(text, at); err == nil && got != "value" {
			t.Errorf("%q opens as %q", text, got)
		}
		if _, err := k.rewrap(text, at); err != nil && !errors.Is(err, pawl.ErrState) {
			t.Error(err)
		}
	})
}

// Records that are put in the place of others, as by who can write the store, open nothing.
func TestSwappedCiphertextIsRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine, _ func() *pawl.Engine) {
		ctx, s := t.Context(), Store{e, ring(t, NewKey())}
		set(t, s, "a", "one", "of a, one")
		set(t, s, "a", "two", "of a, two")
		set(t, s, "b", "one", "of b, one")
		copyOver := func(tenant, name, toTenant, toName string) {
			t.Helper()
			r, err := e.Record(ctx, valueSpace, key(tenant, name))
			if err == nil {
				_, err = e.Write(ctx, pawl.Put{Space: valueSpace, Key: key(toTenant, toName), If: pawl.AnyVersion, Data: r.Data})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		sealedOver := func(tenant, name, toTenant, toName string) { // only what is sealed
			t.Helper()
			from, _, err := s.read(ctx, valueSpace, tenant, name)
			if err != nil {
				t.Fatal(err)
			}
			to, version, err := s.read(ctx, valueSpace, toTenant, toName)
			if err != nil {
				t.Fatal(err)
			}
			to.Sealed = from.Sealed
			if _, err := e.Write(ctx, to.put(valueSpace, version)); err != nil {
				t.Fatal(err)
			}
		}
		for what, swap := range map[string]func(){
			"name":          func() { copyOver("a", "two", "a", "one") },
			"tenant":        func() { copyOver("b", "one", "a", "one") },
			"sealed name":   func() { sealedOver("a", "two", "a", "one") },
			"sealed tenant": func() { sealedOver("b", "one", "a", "one") },
		} {
			set(t, s, "a", "one", "of a, one")
			swap()
			value, err := s.Value(ctx, "a", "one")
			values, verr := s.Values(ctx, "a", "one")
			if value != "" || values != nil || !errors.Is(err, pawl.ErrState) || !errors.Is(verr, pawl.ErrState) || !strings.Contains(err.Error(), "secret one") {
				t.Errorf("%s: %q %v, %q %v", what, value, err, values, verr)
			}
			if got, err := s.Get(ctx, "a", "one"); err != nil || got.Tenant != "a" || got.Name != "one" {
				t.Errorf("%s: %+v %v", what, got, err)
			}
		}
		// An older value in the place of the value before, which is to be gone.
		old, _, err := s.read(ctx, valueSpace, "a", "two")
		if err != nil {
			t.Fatal(err)
		}
		set(t, s, "a", "two", "new")
		old.Revision++
		if _, err := e.Write(ctx, old.put(previousSpace, pawl.AnyVersion)); err != nil {
			t.Fatal(err)
		}
		if values, err := s.Values(ctx, "a", "two"); !errors.Is(err, pawl.ErrState) {
			t.Errorf("%q %v", values, err)
		}
		// Setting it anew mends it.
		set(t, s, "a", "two", "mended")
		if values, err := s.Values(ctx, "a", "two"); err != nil || len(values) != 1 || values[0] != "mended" {
			t.Errorf("%q %v", values, err)
		}
	})
}

// A value is never on the disk as it is: not while it is there, nor when it was changed, or deleted.
func TestPlaintextIsNeverOnTheDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pawl.db")
	store, err := sqlite.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	e := pawl.New(store, nil)
	key := NewKey()
	s := Store{e, ring(t, key)}
	look := func(when string) (all string) {
		t.Helper()
		files, err := filepath.Glob(path + "*")
		if err != nil || len(files) < 2 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all += string(data)
		}
		for _, sentinel := range []string{"SENTINEL-1-b7d2", "SENTINEL-2-09fe", encoding.EncodeToString([]byte("SENTINEL-"))[:10], key} {
			if strings.Contains(all, sentinel) {
				t.Errorf("%s: %s is in the files", when, sentinel)
			}
		}
		return all
	}
	set(t, s, "a", "tok", "SENTINEL-1-b7d2")
	if !strings.Contains(look("set"), `"name":"tok"`) {
		t.Error("the files have not what is in the store")
	}
	if _, err := s.Set(t.Context(), Spec{Tenant: "a", Name: "tok", Value: "SENTINEL-2-09fe", PreviousUntil: time.Now().Add(time.Hour), Revision: AnyRevision}); err != nil {
		t.Fatal(err)
	}
	look("changed")
	if _, err := (Store{e, ring(t, NewKey(), key)}).Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	look("rotated")
	if err := s.Delete(t.Context(), "a", "tok"); err != nil {
		t.Fatal(err)
	}
	look("deleted")
	if err := errors.Join(e.Close(), store.Close()); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || strings.Contains(string(data), "SENTINEL") {
		t.Errorf("closed: %v", err)
	}
}
