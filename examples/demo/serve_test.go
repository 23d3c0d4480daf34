package demo_test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
)

// A server has a secret without being given one, the same at each start, and no journal holds a token.
func TestAServerHasASecret(t *testing.T) {
	store := filepath.Join(t.TempDir(), "s.db")
	w := pawl.Define("listens", func(c *pawl.Context, _ any) (any, error) {
		h, err := pawl.NewWebhook(c)
		if err != nil {
			return nil, err
		}
		return h.Wait(c)
	})
	var tokens []string
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		s := demo.Server{Listen: "127.0.0.1:0", Store: store, PublicURL: "http://pawl.example.com", Definitions: []pawl.Definition{w}}
		s.Handler = func(_ context.Context, e *pawl.Engine, _ string) (http.Handler, error) {
			go func() {
				defer cancel()
				run, err := w.Start(ctx, e, nil, pawl.ID("r"))
				if err != nil {
					t.Error(err)
					return
				}
				for entry, err := range e.Follow(ctx, pawl.Ref{ID: run.ID()}, 0) {
					if err != nil {
						t.Error(err)
						return
					}
					if entry.Kind == pawl.KindHook {
						hooks, err := e.ListHooks(ctx, pawl.HookFilter{})
						if err != nil || len(hooks) != 1 {
							t.Errorf("%v, %v", hooks, err)
							return
						}
						tokens = append(tokens, hooks[0].Token)
						if hooks[0].Token == "" || bytes.Contains(entry.Data, []byte(hooks[0].Token)) {
							t.Errorf("the token %q stands in the journal, or is not known: %s", hooks[0].Token, entry.Data)
						}
						return
					}
				}
			}()
			return http.NotFoundHandler(), nil
		}
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	if len(tokens) != 2 || tokens[0] != tokens[1] {
		t.Errorf("the tokens are %q", tokens)
	}
	if info, err := os.Stat(store + ".secret"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	env := func(string) string { return strings.Repeat("x", 40) }
	if secret, err := demo.Secret("postgres://db/x", env); err != nil || string(secret) != env("") {
		t.Errorf("%q, %v", secret, err)
	}
	if secret, err := demo.Secret("postgres://db/x", func(string) string { return "" }); err != nil || len(secret) != 0 {
		t.Errorf("%q, %v", secret, err)
	}
}

// Two programs want the same address: the second says what to do.
func TestAnAddressThatIsTaken(t *testing.T) {
	l, err := demo.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := demo.Listen(l.Addr().String()); err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "-listen 127.0.0.1:0") {
		t.Errorf("the second was told %v", err)
	}
}
