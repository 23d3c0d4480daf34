package pawl

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"strings"
	"time"
)

// HookOption sets a property of a hook: [Token], [ClaimToken], [HookKind], [Meta], [Schema], [Retain].
type HookOption interface{ hook(*HookSpec) error }

type hookOption func(*HookSpec) error

func (o hookOption) hook(h *HookSpec) error { return o(h) }

// Token gives a hook a token of your own making, for callers who can work it out, such as
// "order:1234"; tenants have tokens of their own. Without it the token is 192 bits that nobody can guess: derived of
// [Options.Secret], or random. A token that can be guessed is no protection: let it be resumed
// by your own authenticated code only.
func Token(s string) HookOption {
	return hookOption(func(h *HookSpec) error {
		h.Token, h.Claim = s, false
		return checkName("token of a hook", s)
	})
}

// HookKind says what a hook is for, so that [Engine.ListHooks] finds those of its kind: a name of
// your own, such as "approval". Webhooks are of the kind "webhook".
func HookKind(s string) HookOption {
	return hookOption(func(h *HookSpec) error {
		h.Kind = s
		return checkName("kind of hooks", s)
	})
}

// Meta attaches a value to the hook, which FindHook returns.
func Meta(v any) HookOption {
	return hookOption(func(h *HookSpec) (err error) {
		h.Meta, err = encode("meta of a hook", v, 64<<10)
		return err
	})
}

// Schema makes [Engine.Resume] validate payloads by a JSON Schema, before they are
// accepted. It needs [Options.CheckSchema].
func Schema(s json.RawMessage) HookOption {
	return hookOption(func(h *HookSpec) error {
		h.Schema = s
		if !json.Valid(s) {
			return fmt.Errorf("pawl: the schema of a hook is not JSON: %.40q", s)
		}
		return nil
	})
}

// Retain keeps the hook's token taken for d after its run has ended.
func Retain(d time.Duration) HookOption {
	return hookOption(func(h *HookSpec) error { h.Hold = d; return nil })
}

// Hook is a door into a run for the outside world: whoever has its token can send it
// payloads of type T, any number of them.
type Hook[T any] struct {
	key   string
	token string
	from  HookRef
}

// hookEntry is what the journal has of a hook. Of a token that is derived of a secret it has the
// hash only, so that nobody who reads a journal can use it.
type hookEntry struct {
	Token  string          `json:"token,omitempty"`
	Stored string          `json:"stored,omitempty"` // what the store knows it by; "": by Token itself
	Secret string          `json:"secret,omitempty"` // the secret's fingerprint, where Token is derived
	Meta   json.RawMessage `json:"meta,omitempty"`
	From   *HookRef        `json:"claimedFrom,omitempty"`

	// What it takes to register the hook again, in a retry.
	Kind   string          `json:"kind,omitempty"`
	Schema json.RawMessage `json:"schema,omitempty"`
	Public bool            `json:"public,omitempty"`
	Hold   time.Duration   `json:"hold,omitempty"` // in nanoseconds
}

// spec registers the hook again that an entry tells of; false: it tells of none.
func (h *hookEntry) spec(key string) (HookSpec, bool) {
	s := HookSpec{Key: key, Token: h.Token, Kind: h.Kind, Meta: h.Meta, Schema: h.Schema, Public: h.Public, Hold: h.Hold}
	if h.Stored != "" {
		s.Token, s.Remember = h.Stored, rememberHooks
	}
	return s, s.Token != ""
}

// rememberHooks is how long a token that pawl has made is known to have ended.
const rememberHooks = 7 * 24 * time.Hour

// NewHook registers a hook. When it returns, the token works: payloads sent from then on
// are kept, in order, until they are waited for. A token is unique among a tenant's live hooks:
// if another holds it, NewHook returns a *HookConflictError that names the owner, or takes it
// over with [ClaimToken]. It is free again when the hook is closed or its run ends; one that pawl has made is then answered with
// ErrEnded for 7 days, or for as long as the run is kept, if that is shorter.
func NewHook[T any](c *Context, opts ...HookOption) (*Hook[T], error) {
	key, token, h, err := c.newHook("NewHook", false, opts)
	if err != nil {
		return nil, err
	}
	hook := &Hook[T]{key: key, token: token}
	if h.From != nil {
		hook.from = *h.From
	}
	return hook, nil
}

func (c *Context) newHook(call string, public bool, opts []HookOption) (key, token string, h hookEntry, err error) {
	b, r := c.b, c.b.r
	if err := b.enter(call, ""); err != nil {
		return "", "", h, err
	}
	defer b.exit()
	key = b.nextKey("$hook")
	e := c.recorded(KindHook, key)
	act := c.act
	if e != nil && e.renews() {
		e, act = nil, c.actAgain
	}
	if e == nil {
		// What the code alone decides is refused before act: a replay must not stop at it.
		n := HookSpec{Key: key, Public: public}
		var bad error
		nils := apply(opts, func(o HookOption) { bad = errors.Join(bad, o.hook(&n)) })
		if err := errors.Join(nils, bad); err != nil {
			return "", "", h, &MisuseError{Call: call, Why: err.Error()}
		}
		if n.answer != nil && !public {
			return "", "", h, &MisuseError{Call: call, Why: "Answering, RespondManually, Signed, Dedupe and BodySchema are for NewWebhook"}
		}
		if n.Schema != nil && r.e.opt.CheckSchema == nil {
			return "", "", h, &MisuseError{Call: call, Why: "a Schema was given, but the engine has no Options.CheckSchema to hold payloads against it"}
		}
		if err := act(); err != nil {
			return "", "", h, err
		}
		h = hookEntry{Token: n.Token, Meta: n.Meta, Kind: n.Kind, Schema: n.Schema, Public: n.Public, Hold: n.Hold}
		if token = n.Token; token == "" {
			token = r.e.newToken(&r.info, key, &h)
			n.Token, n.Remember = h.Stored, rememberHooks
		}
		e = &Entry{Kind: KindHook, Key: key, At: now(), Data: mustJSON(h)}
		b.commit(func(ch *Change) {
			e.Seq = r.nextSeq()
			ch.Entries = append(ch.Entries, *e)
			ch.Hooks = []HookSpec{n}
		})
		b.tell(e.At)
		n = b.change.Hooks[0]
		if n.Owner != "" {
			e.Failed, e.Data = true, mustJSON(ConflictFailure(n.Token, n.Owner))
		} else if n.From != (HookRef{}) {
			h.From = &n.From
		}
	}
	if e.Failed {
		return "", "", h, e.Failure().err()
	}
	if token != "" {
		return key, token, h, nil
	}
	if err = decode("a hook's entry", e.Data, &h); err != nil || h.Secret == "" {
		return key, h.Token, h, err
	}
	secret, why := r.e.secretOf(&h)
	if secret == nil {
		why = "the token of hook " + key + " " + why
		if r.e.unsecured == nil || len(r.e.opt.Secret) > 0 {
			r.block(why)
			runtime.Goexit()
		}
		r.e.unsecured(r.info.Key, why)
	}
	return key, deriveToken(secret, &r.info, key), h, nil
}

// newToken makes a token for a hook and says in h how it was made.
func (e *Engine) newToken(run *RunInfo, key string, h *hookEntry) string {
	token := ""
	if h.Secret = fingerprint(e.opt.Secret); h.Secret != "" {
		token = deriveToken(e.opt.Secret, run, key)
	} else {
		token = randomToken()
		h.Token = token
	}
	h.Stored = hashToken(token)
	return token
}

// secretOf returns the secret that the token that h tells of was derived of. nil: this engine does
// not have it; why says the rest.
func (e *Engine) secretOf(h *hookEntry) (secret []byte, why string) {
	var mine []string
	for _, secret := range e.secrets() {
		print := fingerprint(secret)
		if print == h.Secret {
			return secret, ""
		}
		mine = append(mine, print)
	}
	if mine == nil {
		return nil, "was derived of a secret (fingerprint " + h.Secret + "), and this worker has none; give all workers of the store the same Options.Secret, then retry the run"
	}
	return nil, "was derived of another secret than this worker's (fingerprints " + h.Secret + " and " + strings.Join(mine, ", ") + "); give all workers of the store the same Options.Secret, and in OtherSecrets those of before, then retry the run"
}

// ConflictFailure is what a store puts into the entry of a hook whose token is taken.
func ConflictFailure(token, owner string) *Failure {
	e := &HookConflictError{Token: token, RunID: owner}
	return &Failure{Message: e.Error(), Type: fmt.Sprintf("%T", e), Code: codeHookConflict, Details: mustJSON(e)}
}

// Token returns what the outside world needs to reach the hook.
func (h *Hook[T]) Token() string { return h.token }

// Key returns the hook's key in its run, with which [Engine.Deliver] reaches it without its token.
func (h *Hook[T]) Key() string { return h.key }

// Wait returns the next payload. With [Timeout] it returns ErrTimeout when none came in
// time. A *HookClaimedError: another hook has taken the token over, and all that came before
// has been returned.
func (h *Hook[T]) Wait(c *Context, opts ...WaitOption) (T, error) {
	var out T
	data, err := c.nextPayload("Hook.Wait", h.key, opts)
	if err == nil {
		err = decode("payload of a hook", data, &out)
	}
	return out, err
}

// nextPayload records under a key of the branch that waits: several may wait for one hook,
// and which of them comes first is not the same in every replay.
func (c *Context) nextPayload(call, hook string, opts []WaitOption) (json.RawMessage, error) {
	if err := c.b.enter(call, ""); err != nil {
		return nil, err
	}
	defer c.b.exit()
	return c.receive(KindPayload, c.b.nextKey("$payload:"+flat.Replace(hook)), MsgHook+hook, "", opts)
}

// flat makes a key part of a name. Two keys may become one: the occurrence tells them apart.
var flat = strings.NewReplacer("/", ".", "#", ".")

// All returns payloads as they come, until the loop is left, or with an error: of decoding,
// after which it goes on, or of a cancelled scope or a *HookClaimedError, which end it.
func (h *Hook[T]) All(c *Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			v, err := h.Wait(c)
			var claimed *HookClaimedError
			ended := err != nil && (c.s.ctx.Err() != nil || errors.Is(err, ErrMisuse) || errors.As(err, &claimed))
			if !yield(v, err) || ended {
				return
			}
		}
	}
}

// Close gives the token back: from then on nobody reaches the hook. Payloads that came
// before stay to be waited for. A second Close does nothing, nor one of a hook whose token was
// claimed. In a scope that was cancelled it closes the hook all the same, with the run's next
// commit.
func (h *Hook[T]) Close(c *Context) error { return c.closeHook("Hook.Close", h.key) }

func (c *Context) closeHook(call, key string) error {
	b, r := c.b, c.b.r
	if err := b.enter(call, ""); err != nil {
		return err
	}
	defer b.exit()
	// Whoever comes first closes it: in a replay that may be another than the first time.
	entry := key + closeMark
	r.mu.Lock()
	again := r.closed[key]
	if r.past.entries[entry] != nil {
		r.closed[key] = true
	}
	r.mu.Unlock()
	if again {
		return nil
	}
	if c.recorded(KindHookClosed, entry) != nil || r.claimed(key) {
		return nil
	}
	if err := c.act(); err != nil { // what has lost a race must not leave a door open
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.closed[key] {
			r.closed[key] = true
			r.note(Entry{Kind: KindHookClosed, Key: entry, At: now(), Data: mustJSON(failureOf(err))}) // a retry may take the cancel back
			r.pend.Unhooks = append(r.pend.Unhooks, key)
		}
		return nil
	}
	b.commit(func(ch *Change) {
		if r.closed[key] {
			return
		}
		r.closed[key] = true
		ch.Entries = append(ch.Entries, Entry{Seq: r.nextSeq(), Kind: KindHookClosed, Key: entry, At: now()})
		ch.Unhooks = append(ch.Unhooks, key)
	})
	return nil
}
