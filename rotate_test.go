package pawl_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

var newSecret = bytes.Repeat([]byte("the secret that comes after "), 2)

// rotating are the options of a worker that signs with one secret and knows others.
func rotating(secret []byte, others ...[]byte) *pawl.Options {
	o := keeps(secret)
	o.OtherSecrets = others
	return o
}

// What one secret has signed holds where it is one of the others, and nowhere else.
func TestOtherSecretsHold(t *testing.T) {
	var store pawl.Store // signing asks nothing of it
	before := pawl.New(store, rotating(secret))
	after := pawl.New(store, rotating(newSecret, secret))
	data := []byte("data")
	sign := func(e *pawl.Engine) []byte {
		mac, err := e.Sign("links", data)
		if err != nil {
			t.Fatal(err)
		}
		return mac
	}
	for name, c := range map[string]struct {
		by   *pawl.Engine
		mac  []byte
		want bool
	}{
		"an old code after":         {after, sign(before), true},
		"a new code after":          {after, sign(after), true},
		"a new code before":         {before, sign(after), false},
		"a new code when announced": {pawl.New(store, rotating(secret, newSecret)), sign(after), true},
		"an old code when done":     {pawl.New(store, rotating(newSecret)), sign(before), false},
		"without one to sign with":  {pawl.New(store, rotating(nil, secret)), sign(before), true},
		"one that is too short":     {pawl.New(store, rotating(newSecret, []byte("short"))), sign(after), false},
	} {
		if got := c.by.Verify("links", data, c.mac); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if c.by.Verify("other", data, c.mac) || c.by.Verify("links", []byte("datb"), c.mac) {
			t.Errorf("%s: what was not signed holds", name)
		}
	}
	if bytes.Equal(sign(after), sign(before)) {
		t.Error("the new secret signs as the old one")
	}
	_, err := pawl.New(store, rotating(newSecret, []byte("short"))).Sign("links", data)
	if !errors.Is(err, pawl.ErrState) || !strings.Contains(err.Error(), "OtherSecrets") {
		t.Errorf("a short secret among the others: %v", err)
	}
}

// The three steps of a change, while runs make hooks and are sent to: no run is blocked, no token
// is lost, and at the end all new ones are made with the new secret.
func TestASecretIsChangedUnderLoad(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var out said
		w := secretive(&out)
		store := open()
		client := pawl.New(store, rotating(secret, newSecret))
		if err := client.Register(w); err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		worker := func(o *pawl.Options) (stop func()) {
			e := pawl.New(store, o)
			if err := e.Register(w); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			var ran sync.WaitGroup
			ran.Go(func() {
				if err := e.Run(ctx); err != nil {
					t.Errorf("worker: %v", err)
				}
			})
			return func() { cancel(); ran.Wait() }
		}
		var runs []*pawl.Run[[]string]
		tokens := func(id string) string {
			for end := time.Now().Add(20 * time.Second); len(out.of(id)) == 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("run %s makes no hook", id)
				}
			}
			return out.of(id)[0]
		}
		more := func() { // some runs, which get their first payload now and the second one step later
			for range 5 {
				r, err := w.Start(t.Context(), client, none{})
				if err != nil {
					t.Fatal(err)
				}
				runs = append(runs, r)
				if _, err := client.Resume(t.Context(), tokens(r.ID()), "one"); err != nil {
					t.Error(err)
				}
			}
		}
		// Two workers, of which one is a step ahead of the other at all times.
		steps := []*pawl.Options{rotating(secret), rotating(secret, newSecret), rotating(newSecret, secret)}
		stop := worker(steps[0])
		for _, step := range steps[1:] {
			more()
			next := worker(step)
			more()
			stop()
			stop = next
			more()
		}
		for _, r := range runs {
			if _, err := client.Resume(t.Context(), tokens(r.ID()), "two"); err != nil {
				t.Error(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for _, r := range runs {
			got, err := r.Result(ctx)
			if err != nil || strings.Join(got, " ") != "one two" {
				t.Errorf("run %s: %v %v", r.ID(), got, err)
			}
			for _, again := range out.of(r.ID()) {
				equal(t, "token of a replay", again, tokens(r.ID()))
			}
		}
		// Now the old one can go.
		stop()
		stop = worker(rotating(newSecret))
		defer stop()
		r, err := w.Start(t.Context(), client, none{})
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range []string{"one", "two"} {
			if _, err := client.Resume(t.Context(), tokens(r.ID()), data); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Result(ctx); err != nil {
			t.Error(err)
		}
	})
}
