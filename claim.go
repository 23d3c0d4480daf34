package pawl

import (
	"encoding/json"
	"fmt"
	"strings"
)

// ClaimToken gives a hook a token of your own making, as [Token] does, and takes it over from
// whoever has it, in the transaction that registers the hook: each payload goes either to the
// hook that had it or to this one, in the order in which they were accepted. The other hook, of
// whatever run, is over. What was delivered to it before stays there to be waited for; then
// [Hook.Wait] and [Hook.All] return a *HookClaimedError, which names this run. From a run that
// has ended and holds the token by [Retain] it is taken too; nothing of that run is changed, but
// it can't be retried before the token is given back.
//
// A token that is free is registered as with Token. Tokens that pawl has made, as of every
// webhook, can't be claimed. Whoever can start a run of a workflow that claims can take such a
// token: let the workflow decide whose it may be.
func ClaimToken(s string) HookOption {
	return hookOption(func(h *HookSpec) error {
		h.Token, h.Claim = s, true
		return checkName("token of a hook", s)
	})
}

// HookRef names a hook: by its run and its key there.
type HookRef struct {
	Run  string `json:"run"`
	Hook string `json:"hook"`
}

// ClaimedFrom tells whose hook had the token until this one claimed it; false: it was free.
func (h *Hook[T]) ClaimedFrom() (HookRef, bool) { return h.from, h.from != HookRef{} }

// notice is the data of a message under MsgClaim.
type notice struct {
	Token string  `json:"token"`
	By    HookRef `json:"claimedBy"`
}

// ClaimNotice is the data of the message that tells a run that another hook has its token.
func ClaimNotice(token string, by HookRef) json.RawMessage { return mustJSON(notice{token, by}) }

// Took answers that the i-th hook of the change took its token over from another, and says so in
// the hook's entry.
func (ch *Change) Took(i int, from HookRef) error {
	h := &ch.Hooks[i]
	h.From = from
	for i := range ch.Entries {
		e := &ch.Entries[i]
		if e.Kind != KindHook || e.Key != h.Key {
			continue
		}
		var d hookEntry
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return fmt.Errorf("%w: the entry of hook %s, which claims a token: %w", ErrRefused, h.Key, err)
		}
		d.From = &from
		e.Data = mustJSON(d)
	}
	return nil
}

// claim is that another hook has the token of one of this run's.
type claim struct {
	hook    string // the run's own, by its key
	message int64  // that told of it, in the inbox until it is noted; 0: it is noted
	data    json.RawMessage
	by      *HookClaimedError
}

// Entries of KindHookClosed are kept under the hook's key and one of these.
const (
	closeMark = ".closed"
	claimMark = ".claimed"
)

// closedHook is the key of the hook that an entry of KindHookClosed tells of.
func closedHook(key string) string {
	return strings.TrimSuffix(strings.TrimSuffix(key, closeMark), claimMark)
}

// claimOf reads the data of a message under MsgClaim, or of the entry that was made of it.
func claimOf(hook string, data json.RawMessage) (*claim, error) {
	var n notice
	if err := json.Unmarshal(data, &n); err != nil {
		return nil, err
	}
	return &claim{hook: hook, data: data, by: &HookClaimedError{Token: n.Token, RunID: n.By.Run, Hook: n.By.Hook}}, nil
}

// takenOver takes a message under MsgClaim. Its place is behind all payloads of the hook: the
// token's next owner has what came later. The run's waits for the hook are over. Caller holds mu.
func (r *live) takenOver(hook string, m Message) {
	message := MsgHook + hook
	cl, err := claimOf(hook, m.Data)
	if err != nil {
		r.e.log.Error("pawl: a claim of a hook's token", "run", r.info.ID, "hook", hook, "error", err)
		cl = &claim{hook: hook, data: mustJSON(notice{}), by: &HookClaimedError{}}
	}
	if cl.message = m.ID; r.claims == nil {
		r.claims = map[string]*claim{}
	}
	r.claims[message] = cl
	for len(r.byName[message]) > 0 {
		b := r.byName[message][0]
		b.got = m
		r.wake(b, forMessage)
	}
}

// taken is the error of a wait for a hook whose token was claimed, when nothing is left to be
// taken from it. The first time it is noted in the journal. Caller holds mu.
func (r *live) taken(cl *claim) error {
	if cl.message != 0 {
		r.pend.Consumed = append(r.pend.Consumed, cl.message)
		r.note(Entry{Kind: KindHookClosed, Key: cl.hook + claimMark, At: now(), Data: cl.data})
		cl.message = 0
	}
	return cl.by
}

// recallClaim reads what taken has noted.
func (r *live) recallClaim(hook string, e *Entry) error {
	cl, err := claimOf(hook, e.Data)
	if err != nil {
		return fmt.Errorf("%w: entry %d (%s %s): %w", errUnreadable, e.Seq, e.Kind, e.Key, err)
	}
	if r.claims == nil {
		r.claims = map[string]*claim{}
	}
	r.claims[MsgHook+hook] = cl
	return nil
}

// claimed reports whether another hook has the token of the run's own.
func (r *live) claimed(hook string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.claims[MsgHook+hook] != nil
}
