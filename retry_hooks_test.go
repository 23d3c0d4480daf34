package pawl_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pawlrun/pawl"
)

// unsure opens a hook and then fails until it is mended; then it takes one payload.
func unsure(mended *atomic.Bool, opts ...pawl.HookOption) *pawl.Workflow[string, int] {
	return pawl.Define("unsure", func(c *pawl.Context, token string) (int, error) {
		h, err := pawl.NewHook[int](c, append([]pawl.HookOption{pawl.Token(token)}, opts...)...)
		if err != nil {
			return 0, err
		}
		if err := pawl.Do(c, "flaky", func(context.Context) error {
			if mended.Load() {
				return nil
			}
			return pawl.Fatal(errors.New("not yet"))
		}); err != nil {
			return 0, err
		}
		return h.Wait(c)
	})
}

// keeper has a token until it is told to let go, by whatever means it took it.
var keeper = pawl.Define("keeper", func(c *pawl.Context, in struct {
	Token string
	Claim bool
}) (int, error) {
	opt := pawl.Token(in.Token)
	if in.Claim {
		opt = pawl.ClaimToken(in.Token)
	}
	if _, err := pawl.NewHook[int](c, opt); err != nil {
		return 0, err
	}
	return pawl.WaitFor[int](c, "let go")
})

func holds(token string, claim bool) struct {
	Token string
	Claim bool
} {
	return struct {
		Token string
		Claim bool
	}{token, claim}
}

func wantsDigits(_, data []byte) error {
	if strings.Trim(string(data), "0123456789") != "" {
		return errors.New("it is no number")
	}
	return nil
}

// A failed run gets its token back when whoever took it meanwhile has given it back, with all
// that belongs to the hook; while another has it, the retry says who.
func TestRetryTakesTokensThatWereTakenMeanwhile(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		for _, claim := range []bool{false, true} {
			var mended atomic.Bool
			opts := []pawl.HookOption{pawl.HookKind("question"), pawl.Meta("who?"), pawl.Schema([]byte(`{"type":"integer"}`))}
			flow := unsure(&mended, opts...)
			n := boot(t, open(), &pawl.Options{CheckSchema: wantsDigits}, flow, keeper)
			token := map[bool]string{false: "plain", true: "claimed"}[claim]
			r := start(n, flow, token)
			_ = failure(n, r)
			mended.Store(true)

			other := start(n, keeper, holds(token, claim))
			n.hook(token)
			_, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()})
			var conflict *pawl.HookConflictError
			if !errors.As(err, &conflict) || conflict.RunID != other.ID() || conflict.Token != token || !strings.Contains(err.Error(), "given it back") {
				t.Fatalf("the retry while another has the token is answered with %v", err)
			}
			n.signal(other.ID(), "let go", 1)
			equal(t, "the other", result(n, other), 1)

			if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
				t.Fatalf("the retry when the token is free again: %v", err)
			}
			h := n.hook(token)
			equal(t, "whose it is", h.Run.ID, r.ID())
			equal(t, "its kind and what is known of it", h.Kind+" "+string(h.Meta)+" "+string(h.Schema), `question "who?" {"type":"integer"}`)
			if _, err := n.Resume(n.ctx, token, "seven"); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("a payload that the schema refuses is answered with %v", err)
			}
			n.resume(token, 7)
			equal(t, "result", result(n, r), 7)
			n.stop()
		}
	})
}

// A child that was cancelled with its parent has its hooks again when both go on.
func TestRetryOpensTheHooksOfCancelledChildren(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var mended atomic.Bool
		kid := pawl.Define("kid", func(c *pawl.Context, _ int) (int, error) {
			h, err := pawl.NewHook[int](c, pawl.Token("kid's"))
			if err != nil {
				return 0, err
			}
			return h.Wait(c)
		})
		parent := pawl.Define("parent", func(c *pawl.Context, _ int) (int, error) {
			k, err := kid.Spawn(c, 0)
			if err != nil {
				return 0, err
			}
			if _, err := pawl.WaitFor[int](c, "go"); err != nil {
				return 0, err
			}
			if err := pawl.Do(c, "flaky", func(context.Context) error {
				if mended.Load() {
					return nil
				}
				return pawl.Fatal(errors.New("not yet"))
			}); err != nil {
				return 0, err
			}
			return k.Wait(c)
		})
		n := boot(t, open(), nil, parent, kid)
		r := start(n, parent, 0)
		h := n.hook("kid's")
		n.signal(r.ID(), "go", 1)
		_ = failure(n, r)
		n.reaches(h.Run.ID, pawl.Cancelled)
		mended.Store(true)
		n.until("it can be retried", func() bool {
			_, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()})
			if err != nil && !errors.Is(err, pawl.ErrState) {
				t.Fatal(err)
			}
			return err == nil
		})
		n.hook("kid's")
		n.resume("kid's", 5)
		equal(t, "result", result(n, r), 5)
	})
}

// A hook whose token was claimed from a live run stays over when that run, which did not look
// before it failed, is retried: also when the token is free by then.
func TestRetryLeavesClaimedHooksOver(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var mended atomic.Bool
		victim := pawl.Define("victim", func(c *pawl.Context, _ int) (bool, error) {
			h, err := pawl.NewHook[int](c, pawl.Token("tok"))
			if err != nil {
				return false, err
			}
			if _, err := pawl.WaitFor[int](c, "go"); err != nil {
				return false, err
			}
			if err := pawl.Do(c, "flaky", func(context.Context) error {
				if mended.Load() {
					return nil
				}
				return pawl.Fatal(errors.New("not yet"))
			}); err != nil {
				return false, err
			}
			_, err = h.Wait(c)
			var claimed *pawl.HookClaimedError
			return errors.As(err, &claimed), nil
		})
		for _, free := range []bool{false, true} {
			mended.Store(false)
			n := boot(t, open(), nil, victim, keeper)
			r := start(n, victim, 0)
			n.hook("tok")
			other := start(n, keeper, holds("tok", true))
			n.until("the token is claimed", func() bool { return n.hook("tok").Run.ID == other.ID() })
			n.signal(r.ID(), "go", 1)
			_ = failure(n, r)
			mended.Store(true)
			if free {
				n.signal(other.ID(), "let go", 1)
				_ = result(n, other)
			}
			if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
				t.Fatalf("free %v: %v", free, err)
			}
			equal(t, "the hook was claimed", result(n, r), true)
			if !free {
				n.signal(other.ID(), "let go", 1)
				_ = result(n, other)
			}
			n.stop()
		}
	})
}
