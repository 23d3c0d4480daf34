package pawl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// FindHook returns the hook with a token, with what was given to [Meta]. A token that code has
// chosen is looked for in the tenant; one that pawl has made is found whatever its run's tenant:
// compare that, where it matters. ErrEnded, with the hook: it was closed, or its run has ended,
// and that is remembered. ErrNotFound.
func (e *Engine) FindHook(ctx context.Context, tenant, token string) (HookInfo, error) {
	h, err := e.findHook(ctx, tenant, token)
	h.Token, h.stored = token, h.Token
	return h, err
}

// findHook is FindHook with the token as it is stored. What is not found has the form that pawl's
// own tokens have there, if it looks like one.
func (e *Engine) findHook(ctx context.Context, tenant, token string) (HookInfo, error) {
	forms := storedTokens(token)
	for _, stored := range forms {
		h, err := e.store.FindHook(ctx, tenant, stored, time.Now())
		if err == nil || !errors.Is(err, ErrNotFound) {
			return h, err
		}
	}
	h := HookInfo{}
	if len(forms) > 0 {
		h.Token = forms[0]
	}
	return h, fmt.Errorf("%w: no live hook has this token", ErrNotFound)
}

// addressee finds the hook that a delivery is for. Its token is as it is stored.
func (e *Engine) addressee(ctx context.Context, d *Delivery) (HookInfo, error) {
	if d.finds() {
		h := *d.Found
		h.Token = h.stored
		return h, HookEnded(&h)
	}
	if d.Token != "" {
		return e.findHook(ctx, d.Tenant, d.Token)
	}
	info, err := e.store.Lookup(ctx, d.Run.Tenant, d.Run.ID)
	if err != nil {
		return HookInfo{}, fmt.Errorf("run %s: %w", d.Run.ID, err)
	}
	hooks, err := e.store.ListHooks(ctx, HookFilter{Run: info.Key, Key: d.Hook, Ended: true, Limit: 1})
	switch {
	case err != nil:
		return HookInfo{Run: info}, err
	case len(hooks) == 0 && info.State.Terminal():
		return HookInfo{Run: info}, fmt.Errorf("%w: run %s is %s", ErrEnded, info.ID, info.State)
	case len(hooks) == 0:
		return HookInfo{Run: info}, fmt.Errorf("%w: run %s has no hook %q", ErrNotFound, info.ID, d.Hook)
	}
	return hooks[0], HookEnded(&hooks[0])
}

// HookEnded is the ErrEnded of a hook that is over, for stores to answer with; nil: it is live.
func HookEnded(h *HookInfo) error {
	if h.Until.IsZero() {
		return nil
	}
	if h.Run.State.Terminal() {
		return fmt.Errorf("%w: run %s of the hook is %s", ErrEnded, h.Run.ID, h.Run.State)
	}
	return fmt.Errorf("%w: the hook was closed by its run %s", ErrEnded, h.Run.ID)
}

// Hooks lists the live hooks of a run in the order of their making. ErrNotFound.
func (e *Engine) Hooks(ctx context.Context, run Ref) (out []HookInfo, err error) {
	info, err := e.store.Lookup(ctx, run.Tenant, run.ID)
	if err != nil {
		return nil, err
	}
	secret := map[string]*HookInfo{} // whose tokens only the journal has
	for f := (HookFilter{Run: info.Key, Limit: 1000}); ; {
		page, err := e.store.ListHooks(ctx, f)
		if err != nil {
			return nil, err
		}
		out = append(out, page...)
		if len(page) < f.Limit {
			break
		}
		f.After = page[len(page)-1].ID
	}
	for i := range out {
		if e.reveal(&out[i]); out[i].Token == "" {
			secret[out[i].Key] = &out[i]
		}
	}
	if len(secret) == 0 {
		return out, nil
	}
	for entry, err := range e.Journal(ctx, run) {
		if err != nil {
			return nil, err
		}
		if h := secret[entry.Key]; h != nil && entry.Kind == KindHook && !entry.Failed {
			var known hookEntry
			if err := entry.readable(&known); err != nil {
				return nil, err
			}
			h.Token = known.Token
		}
	}
	return out, nil
}

// ListHooks returns a page of live hooks in the order of their making; the next page has the ID
// of the last as its After. Token is filled in where the code has chosen it, or where it is
// derived of this engine's [Options.Secret]; who needs no token can use [Engine.Deliver], with run
// and key.
func (e *Engine) ListHooks(ctx context.Context, f HookFilter) ([]HookInfo, error) {
	f.Limit = min(cmp.Or(max(f.Limit, 0), 100), 1000)
	page, err := e.store.ListHooks(ctx, f)
	for i := range page {
		e.reveal(&page[i])
	}
	return page, err
}

// reveal makes of a token as it is stored the token itself; "": this engine can't.
func (e *Engine) reveal(h *HookInfo) {
	if !strings.HasPrefix(h.Token, hashedToken) {
		return
	}
	stored := h.Token
	h.Token = ""
	for _, secret := range e.secrets() {
		if token := deriveToken(secret, &h.Run, h.Key); hashToken(token) == stored {
			h.Token = token
		}
	}
}
