package secret

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

func TestAMissingKeyIsNamed(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine, _ func() *pawl.Engine) {
		ctx, a, b, c := t.Context(), NewKey(), NewKey(), NewKey()
		if err := (Store{Engine: e}).Check(ctx); err != nil {
			t.Errorf("no secret, no key: %v", err)
		}
		set(t, Store{e, ring(t, a)}, "x", "one", "1")
		set(t, Store{e, ring(t, a)}, "y", "two", "2")
		set(t, Store{e, ring(t, b)}, "", "three", "3")
		idA, idB := ring(t, a).IDs()[0], ring(t, b).IDs()[0]
		for _, r := range []struct {
			keys    *Keyring
			lost    []string
			secrets int
		}{{ring(t, a, b), nil, 0}, {ring(t, c, b, a), nil, 0}, {ring(t, a), []string{idB}, 1}, {ring(t, c), []string{idA, idB}, 3}, {nil, []string{idA, idB}, 3}} {
			err := Store{e, r.keys}.Check(ctx)
			if r.lost == nil {
				if err != nil {
					t.Errorf("%v: %v", r.keys, err)
				}
				continue
			}
			slices.Sort(r.lost)
			var lost *LostKeysError
			if !errors.As(err, &lost) || !errors.Is(err, pawl.ErrState) || !slices.Equal(lost.Lost, r.lost) || lost.Secrets != r.secrets || !strings.Contains(err.Error(), r.lost[0]) {
				t.Errorf("%v: %v", r.keys, err)
			}
			if _, err := (Store{e, r.keys}).Value(ctx, "", "three"); !errors.As(err, &lost) || lost.Lost[0] != idB {
				t.Errorf("%v: %v", r.keys, err)
			}
			if _, err := (Store{e, r.keys}).Rewrap(ctx); !errors.As(err, &lost) {
				t.Errorf("%v: %v", r.keys, err)
			}
		}
		// What was sealed with a key that is lost can be told of, set anew, and be forgotten.
		s := Store{e, ring(t, c)}
		if got, err := s.Get(ctx, "", "three"); err != nil || got.KeyID != idB {
			t.Errorf("%+v %v", got, err)
		}
		if _, err := s.Set(ctx, Spec{Name: "three", Value: "3", PreviousUntil: time.Now().Add(time.Hour), Revision: AnyRevision}); !errors.Is(err, pawl.ErrState) {
			t.Errorf("a value that can't be opened was kept: %v", err)
		}
		set(t, s, "", "three", "3 again")
		if n, err := s.Forget(ctx); n != 2 || err != nil {
			t.Errorf("%d forgotten, %v", n, err)
		}
		if got, err := s.Value(ctx, "", "three"); got != "3 again" || err != nil || s.Check(ctx) != nil {
			t.Errorf("%q %v %v", got, err, s.Check(ctx))
		}
		if _, err := s.Value(ctx, "x", "one"); !errors.Is(err, pawl.ErrNotFound) {
			t.Error(err)
		}
	})
}

// Who asks to forget what is lost, and has forgotten to give any key, loses nothing.
func TestWithoutAKeyNothingIsForgotten(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine, _ func() *pawl.Engine) {
		s := Store{e, ring(t, NewKey())}
		set(t, s, "", "one", "1")
		if n, err := (Store{e, nil}).Forget(t.Context()); n != 0 || !errors.Is(err, pawl.ErrState) {
			t.Errorf("%d forgotten, %v", n, err)
		}
		if got, err := s.Value(t.Context(), "", "one"); got != "1" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if n, err := (Store{e, ring(t, NewKey())}).Forget(t.Context()); n != 1 || err != nil {
			t.Errorf("with another key: %d forgotten, %v", n, err)
		}
	})
}

// What is kept beside a new value is sealed with the first key, whatever it was sealed with, so that no repeat of a request brings a
// key back that was thought to be used no more.
func TestWhatIsKeptIsSealedWithTheFirstKey(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine, _ func() *pawl.Engine) {
		ctx, old, young := t.Context(), NewKey(), NewKey()
		change := func(s Store, value string) {
			t.Helper()
			if _, err := s.Set(ctx, Spec{Name: "hook", Value: value, PreviousUntil: time.Now().Add(time.Hour), Revision: AnyRevision}); err != nil {
				t.Fatal(err)
			}
		}
		before, now := Store{e, ring(t, old)}, Store{e, ring(t, young, old)}
		change(before, "one")
		change(before, "two")
		for _, value := range []string{"two", "three"} { // a repeat, and a change
			change(now, value)
			uses, err := now.Uses(ctx)
			if err != nil || len(uses) != 2 || uses[0].Secrets != 2 || uses[1].Secrets != 0 {
				t.Errorf("%s: %+v, %v", value, uses, err)
			}
			if got, err := (Store{e, ring(t, young)}).Values(ctx, "", "hook"); err != nil || len(got) != 2 || got[0] != value {
				t.Errorf("%s: %v", value, err)
			}
		}
	})
}

// Keys are changed as docs/secrets.md says, while values are read and set in two processes; nobody notices.
func TestKeysAreRotatedUnderLoad(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine, another func() *pawl.Engine) {
		ctx, old, young := t.Context(), NewKey(), NewKey()
		var rings [2]atomic.Pointer[Keyring] // of two processes, which change one after the other
		engines := [2]*pawl.Engine{e, another()}
		for i := range rings {
			rings[i].Store(ring(t, old))
		}
		store := func(i int) Store { return Store{engines[i], rings[i].Load()} }
		const secrets = 30
		for i := range secrets {
			set(t, store(0), fmt.Sprint("t", i%3), fmt.Sprint("s", i), fmt.Sprint("v", i))
		}
		set(t, store(0), "", "still", "v") // which the load does not set anew
		hook := func(i int, value string) error {
			_, err := store(i).Set(ctx, Spec{Name: "hook", Value: value, PreviousUntil: time.Now().Add(time.Hour), Revision: AnyRevision})
			return err
		}
		if err := hook(0, "hook-0"); err != nil {
			t.Fatal(err)
		}
		loaded, stop := context.WithCancel(ctx)
		var done [4]atomic.Int64
		var all sync.WaitGroup
		for i := range done {
			all.Go(func() {
				for n := 0; loaded.Err() == nil; n++ {
					at := n % secrets
					tenant, name := fmt.Sprint("t", at%3), fmt.Sprint("s", at)
					got, err := store(i%2).Value(ctx, tenant, name)
					if err != nil || got != fmt.Sprint("v", at) {
						t.Errorf("%s: %q, %v", name, got, err)
						return
					}
					if i == 0 && n%7 == 0 {
						if _, err := store(1).Set(ctx, Spec{Tenant: tenant, Name: name, Value: got, Revision: AnyRevision}); err != nil {
							t.Error(err)
							return
						}
					}
					if i == 1 && n%11 == 0 {
						if err := hook(0, fmt.Sprint("hook-", n)); err != nil {
							t.Error(err)
							return
						}
					}
					if values, err := store(i%2).Values(ctx, "", "hook"); err != nil || len(values) == 0 {
						t.Errorf("%q, %v", values, err)
						return
					}
					done[i].Add(1)
				}
			})
		}
		pass := func() {
			t.Helper()
			for i := range done { // a call under way has the keys of before
				from := done[i].Load()
				eventually(t, "the load goes on", func() bool { return done[i].Load() > from+20 || t.Failed() })
			}
		}
		pass()
		for _, step := range []*Keyring{ring(t, old, young), ring(t, young, old)} { // first all know it, then it seals
			for i := range rings {
				rings[i].Store(step)
				pass()
			}
		}
		moved, err := store(0).Rewrap(ctx)
		if err != nil || moved == 0 {
			t.Errorf("%d moved, %v", moved, err)
		}
		uses, err := store(1).Uses(ctx)
		if err != nil || len(uses) != 2 || !uses[0].Seals || uses[0].Secrets < secrets+2 || uses[1].Secrets != 0 || uses[1].ID != ring(t, old).IDs()[0] {
			t.Errorf("%+v, %v", uses, err)
		}
		for i := range rings { // the old one is taken away
			rings[i].Store(ring(t, young))
			pass()
		}
		stop()
		all.Wait()
		if err := store(0).Check(ctx); err != nil {
			t.Error(err)
		}
		if n, err := store(0).Rewrap(ctx); n != 0 || err != nil {
			t.Errorf("a second time: %d, %v", n, err)
		}
	})
}

func TestRewrappingKeepsWhenAValueEnds(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine, _ func() *pawl.Engine) {
		ctx, old, young := t.Context(), NewKey(), NewKey()
		s := Store{e, ring(t, old)}
		set(t, s, "", "hook", "one")
		until := time.Now().Add(time.Hour).Truncate(time.Microsecond)
		was, err := s.Set(ctx, Spec{Name: "hook", Value: "two", PreviousUntil: until, Revision: AnyRevision})
		if err != nil {
			t.Fatal(err)
		}
		s = Store{e, ring(t, young, old)}
		if n, err := s.Rewrap(ctx); n != 2 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		s = Store{e, ring(t, young)}
		now, err := s.Get(ctx, "", "hook")
		was.KeyID = now.KeyID
		if err != nil || now != was || now.KeyID != ring(t, young).IDs()[0] {
			t.Errorf("%+v, was %+v, %v", now, was, err)
		}
		if values, err := s.Values(ctx, "", "hook"); err != nil || !slices.Equal(values, []string{"two", "one"}) {
			t.Errorf("%q, %v", values, err)
		}
		r, err := e.Record(ctx, previousSpace, key("", "hook"))
		if err != nil || !r.Until.Equal(until) {
			t.Errorf("it ends at %s and not %s, %v", r.Until, until, err)
		}
	})
}
