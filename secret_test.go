package pawl_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

var secret = bytes.Repeat([]byte("a secret of tests "), 2)

// keeps are the options of a worker with a secret that keeps no run in memory.
func keeps(secret []byte) *pawl.Options {
	o := replays()
	o.Secret = secret
	return o
}

// said gathers what workflows say out loud; it is no part of a store.
type said struct {
	mu  sync.Mutex
	all map[string][]string // tokens by run id, one per time that the hook was made or replayed
}

func (s *said) add(run, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string][]string{}
	}
	s.all[run] = append(s.all[run], token)
}

func (s *said) of(run string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.all[run]...)
}

// secretive makes a hook, says its token, and goes on when each of two payloads came.
func secretive(out *said) *pawl.Workflow[none, []string] {
	return pawl.Define("secretive", func(c *pawl.Context, _ none) ([]string, error) {
		h, err := pawl.NewHook[string](c)
		if err != nil {
			return nil, err
		}
		out.add(c.RunID(), h.Token())
		a, err := h.Wait(c)
		if err != nil {
			return nil, err
		}
		b, err := h.Wait(c)
		return []string{a, b}, err
	})
}

// TestATokenIsTheSameOnEveryWorkerWithTheSecret: after a crash, by replay, on another worker.
func TestATokenIsTheSameOnEveryWorkerWithTheSecret(t *testing.T) {
	for name, secret := range map[string][]byte{"derived": secret, "random": nil} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				var out said
				w := secretive(&out)
				a := boot(t, open(), keeps(secret), w)
				r, other := start(a, w, none{}), start(a, w, none{})
				a.reaches(r.ID(), pawl.Waiting)
				a.reaches(other.ID(), pawl.Waiting)
				token := out.of(r.ID())[0]
				if len(token) != 39 || token == out.of(other.ID())[0] {
					t.Fatalf("tokens %q and %q; want two of 39 characters", token, out.of(other.ID())[0])
				}
				a.stop()
				b := boot(t, open(), keeps(secret), w)
				b.resume(token, "one")
				b.until("the first payload to be taken", func() bool { return len(b.journal(r.ID(), pawl.KindPayload)) == 1 })
				b.reaches(r.ID(), pawl.Waiting)
				hooks, err := b.Hooks(b.ctx, pawl.Ref{ID: r.ID()})
				b.ok(err)
				equal(t, "tokens that are listed", []string{hooks[0].Token}, []string{token})
				b.resume(token, "two")
				equal(t, "payloads", result(b, r), []string{"one", "two"})
				for _, again := range out.of(r.ID()) {
					equal(t, "token of a replay", again, token)
				}
				if len(out.of(r.ID())) < 3 {
					t.Errorf("the hook was made and replayed %d times; want 3", len(out.of(r.ID())))
				}
				noTrouble(b, []string{r.ID()})
			})
		})
	}
}

// TestAnotherSecretBlocksTheRun: it is not given another token silently, and goes on with the right one.
func TestAnotherSecretBlocksTheRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var out said
		w := secretive(&out)
		a := boot(t, open(), keeps(secret), w)
		r := start(a, w, none{})
		a.reaches(r.ID(), pawl.Waiting)
		token := out.of(r.ID())[0]
		a.stop()
		for name, wrong := range map[string][]byte{"none": nil, "another": bytes.Repeat([]byte("x"), 32)} {
			b := boot(t, open(), keeps(wrong), w)
			if _, err := b.Wake(b.ctx, pawl.Ref{ID: r.ID()}, "", nil); err != nil {
				t.Fatal(err)
			}
			info := b.reaches(r.ID(), pawl.Blocked)
			if !strings.Contains(info.Reason, "Options.Secret") || !strings.Contains(info.Reason, "$hook") {
				t.Errorf("with %s secret the reason is %q; want the hook and Options.Secret in it", name, info.Reason)
			}
			b.stop()
			c := client(t, open(), nil)
			if _, err := c.Retry(c.ctx, pawl.Ref{ID: r.ID()}); err != nil {
				t.Fatal(err)
			}
			d := boot(t, open(), keeps(secret), w)
			d.reaches(r.ID(), pawl.Waiting)
			d.stop()
		}
		e := boot(t, open(), keeps(secret), w)
		e.resume(token, "one")
		e.resume(token, "two")
		equal(t, "payloads", result(e, r), []string{"one", "two"})
		for _, again := range out.of(r.ID()) {
			equal(t, "token", again, token)
		}
	})
}

// TestAForkAndASuccessorHaveTokensOfTheirOwn: with a secret as without.
func TestAForkAndASuccessorHaveTokensOfTheirOwn(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var out said
		w := secretive(&out)
		heir := pawl.Define("heir", func(c *pawl.Context, left int) (string, error) {
			h, err := pawl.NewHook[string](c)
			if err != nil {
				return "", err
			}
			out.add(c.RunID(), h.Token())
			if left > 0 {
				return "", pawl.ContinueAs(c, left-1)
			}
			return h.Wait(c)
		})
		n := boot(t, open(), keeps(secret), w, heir)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		n.resume(out.of(r.ID())[0], "one")
		n.until("the payload to be taken", func() bool { return len(n.journal(r.ID(), pawl.KindPayload)) == 1 })
		fork, err := n.Fork(n.ctx, pawl.Ref{ID: r.ID()}, pawl.ForkOptions{From: n.keys(r.ID(), pawl.KindPayload)[0]})
		n.ok(err)
		n.until("the fork to make its hook", func() bool { return len(out.of(fork.ID)) > 0 })
		mine, forks := out.of(r.ID())[0], out.of(fork.ID)[0]
		if mine == forks {
			t.Fatal("a fork has the token of its run")
		}
		n.resume(forks, "f1")
		n.resume(forks, "f2")
		n.resume(mine, "two")
		equal(t, "payloads", result(n, r), []string{"one", "two"})
		equal(t, "payloads of the fork", result(n, pawl.Attach[[]string](n.Engine, fork.ID)), []string{"f1", "f2"})

		h := start(n, heir, 1)
		n.until("the first to end", func() bool { return n.info(h.ID()).Next != "" })
		next := n.info(h.ID()).Next
		n.until("the second to make its hook", func() bool { return len(out.of(next)) > 0 })
		_, err = n.Resume(n.ctx, out.of(h.ID())[0], "late")
		is(t, err, pawl.ErrEnded)
		n.resume(out.of(next)[0], "heard")
		equal(t, "result", result(n, h), "heard")
	})
}

// TestARetryKeepsItsTokens: those of a run that failed are open again, the same.
func TestARetryKeepsItsTokens(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var out said
		var broken sync.Map
		w := pawl.Define("fragile", func(c *pawl.Context, _ none) (string, error) {
			h, err := pawl.NewHook[string](c)
			if err != nil {
				return "", err
			}
			closed, err := pawl.NewHook[string](c)
			if err != nil {
				return "", err
			}
			if err := closed.Close(c); err != nil {
				return "", err
			}
			out.add(c.RunID(), h.Token())
			out.add(c.RunID(), closed.Token())
			err = pawl.Do(c, "breaks", func(context.Context) error {
				if _, mended := broken.Load("mended"); !mended {
					return pawl.Fatal(errors.New("broken"))
				}
				return nil
			})
			if err != nil {
				return "", err
			}
			return h.Wait(c)
		})
		n := boot(t, open(), keeps(secret), w)
		r := start(n, w, none{})
		_ = failure(n, r)
		kept, closed := out.of(r.ID())[0], out.of(r.ID())[1]
		for _, token := range []string{kept, closed} {
			_, err := n.Resume(n.ctx, token, "too early")
			is(t, err, pawl.ErrEnded)
		}
		broken.Store("mended", true)
		_, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()})
		n.ok(err)
		n.resume(kept, "in time")
		_, err = n.Resume(n.ctx, closed, "too late")
		is(t, err, pawl.ErrEnded)
		equal(t, "result", result(n, r), "in time")
	})
}

// TestNoTokenIsInTheStore: neither in the file nor in its log, of a run under way, of one that
// failed, and of one that has taken payloads.
func TestNoTokenIsInTheStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pawl.db")
	store, err := sqlite.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out said
	w := secretive(&out)
	web := pawl.Define("web", func(c *pawl.Context, _ none) (string, error) {
		h, err := pawl.NewWebhook(c)
		if err != nil {
			return "", err
		}
		out.add(c.RunID(), h.Token())
		return "", errors.New("sentinel of the test: it is looked for rightly")
	})
	n := boot(t, store, keeps(secret), w, web)
	open, done, failed := start(n, w, none{}), start(n, w, none{}), start(n, web, none{})
	_ = failure(n, failed)
	n.until("the hooks", func() bool { return len(out.of(done.ID())) > 0 && len(out.of(open.ID())) > 0 })
	for _, p := range []string{"one", "two"} {
		_, err := n.Deliver(n.ctx, pawl.Delivery{Token: out.of(done.ID())[0], Data: p, Once: p})
		n.ok(err)
	}
	result(n, done)
	n.reaches(open.ID(), pawl.Waiting)
	var all []byte
	for _, file := range []string{path, path + "-wal"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	if !bytes.Contains(all, []byte("sentinel of the test")) {
		t.Fatal("what is in the store is not found: the search is wrong")
	}
	for _, r := range []string{open.ID(), done.ID(), failed.ID()} {
		if bytes.Contains(all, []byte(out.of(r)[0])) {
			t.Errorf("the token of run %s is in the store", r)
		}
	}
	n.stop()
	n.ok(store.Close())
}

// TestWhatTheStoreKnowsATokenByOpensNothing: who reads the store can't resume a hook.
func TestWhatTheStoreKnowsATokenByOpensNothing(t *testing.T) {
	for name, secret := range map[string][]byte{"derived": secret, "random": nil} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				var out said
				w := secretive(&out)
				s := open()
				n := boot(t, s, keeps(secret), w)
				r := start(n, w, none{})
				n.reaches(r.ID(), pawl.Waiting)
				stored, err := s.ListHooks(n.ctx, pawl.HookFilter{})
				n.ok(err)
				if len(stored) != 1 || stored[0].Token == out.of(r.ID())[0] || stored[0].Token == "" {
					t.Fatalf("the store has %v", stored)
				}
				for _, token := range []string{stored[0].Token, "$hook", "", strings.Repeat("0", 39)} {
					_, err := n.Resume(n.ctx, token, "x")
					is(t, err, pawl.ErrNotFound)
					_, err = n.FindHook(n.ctx, token)
					is(t, err, pawl.ErrNotFound)
				}
				listed, err := n.ListHooks(n.ctx, pawl.HookFilter{})
				n.ok(err)
				want := ""
				if secret != nil {
					want = out.of(r.ID())[0]
				}
				equal(t, "token in a list", listed[0].Token, want)
			})
		})
	}
}

// TestHooksAreListedByKind: for those who ask what is waited for.
func TestHooksAreListedByKind(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("asks", func(c *pawl.Context, _ none) (none, error) {
			for i := range 3 {
				if _, err := pawl.NewHook[none](c, pawl.HookKind("approval"), pawl.Meta(i)); err != nil {
					return none{}, err
				}
			}
			if _, err := pawl.NewWebhook(c); err != nil {
				return none{}, err
			}
			return pawl.WaitFor[none](c, "go")
		})
		n := boot(t, open(), keeps(secret), w)
		r := start(n, w, none{}, pawl.Tenant("acme"))
		n.until("the hooks", func() bool {
			page, err := n.ListHooks(n.ctx, pawl.HookFilter{Tenant: "acme", Kind: pawl.WebhookKind})
			n.ok(err)
			return len(page) == 1
		})
		var got []string
		for f := (pawl.HookFilter{Tenant: "acme", Kind: "approval", Limit: 2}); ; {
			page, err := n.ListHooks(n.ctx, f)
			n.ok(err)
			for _, h := range page {
				got = append(got, fmt.Sprint(h.Run.ID == r.ID(), h.Kind, string(h.Meta)))
				f.After = h.ID
			}
			if len(page) < f.Limit {
				break
			}
		}
		equal(t, "hooks", got, []string{"trueapproval0", "trueapproval1", "trueapproval2"})
		page, err := n.ListHooks(n.ctx, pawl.HookFilter{})
		n.ok(err)
		equal(t, "hooks of the default tenant", len(page), 0)
	})
}

// TestAnEndedTokenIsRememberedForAWeek: and not longer.
func TestAnEndedTokenIsRememberedForAWeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		token := make(chan string, 1)
		w := pawl.Define("brief", func(c *pawl.Context, _ none) (none, error) {
			h, err := pawl.NewHook[none](c)
			token <- h.Token()
			return none{}, err
		})
		e := pawl.New(store, &pawl.Options{Secret: secret})
		if err := e.Register(w); err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- e.Run(ctx) }()
		r, err := w.Start(ctx, e, none{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Result(ctx); err != nil {
			t.Fatal(err)
		}
		made := <-token
		end()
		if err := <-ran; err != nil {
			t.Fatal(err)
		}
		ctx = t.Context()
		time.Sleep(7*24*time.Hour - time.Minute)
		_, err = e.Resume(ctx, made, none{})
		is(t, err, pawl.ErrEnded)
		time.Sleep(2 * time.Minute)
		_, err = e.Resume(ctx, made, none{})
		is(t, err, pawl.ErrNotFound)
		if _, err := store.Purge(ctx, time.Now(), 10); err != nil {
			t.Fatal(err)
		}
		kept, err := store.ListHooks(ctx, pawl.HookFilter{Ended: true})
		if err != nil || len(kept) != 0 {
			t.Errorf("kept are %v, %v", kept, err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestSignaturesAreOfASecretAndAPurpose: and nothing else passes.
func TestSignaturesAreOfASecretAndAPurpose(t *testing.T) {
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, store)
	e, same, other := pawl.New(store, keeps(secret)), pawl.New(store, keeps(bytes.Clone(secret))), pawl.New(store, keeps(bytes.Repeat([]byte("x"), 32)))
	mac, err := e.Sign("approve", []byte("data"))
	if err != nil || len(mac) != 32 {
		t.Fatal(mac, err)
	}
	flipped := bytes.Clone(mac)
	flipped[31] ^= 1
	for i, c := range []struct {
		e       *pawl.Engine
		purpose string
		data    string
		mac     []byte
		want    bool
	}{
		{e, "approve", "data", mac, true},
		{same, "approve", "data", mac, true},
		{other, "approve", "data", mac, false},
		{e, "reject", "data", mac, false},
		{e, "approved", "ata", mac, false},
		{e, "approve", "data2", mac, false},
		{e, "approve", "data", flipped, false},
		{e, "approve", "data", mac[:31], false},
		{e, "approve", "data", nil, false},
	} {
		if got := c.e.Verify(c.purpose, []byte(c.data), c.mac); got != c.want {
			t.Errorf("case %d: %v", i, got)
		}
	}
	for _, short := range [][]byte{nil, secret[:31]} {
		e := pawl.New(store, &pawl.Options{Secret: short})
		_, err := e.Sign("approve", nil)
		is(t, err, pawl.ErrState)
		equal(t, "verified without a secret", e.Verify("approve", nil, mac), false)
	}
	for _, purpose := range []string{"", "$hook token"} {
		_, err := e.Sign(purpose, nil)
		is(t, err, pawl.ErrInput)
	}
	is(t, pawl.New(store, &pawl.Options{Secret: secret[:31]}).Run(t.Context()), pawl.ErrState)
}
