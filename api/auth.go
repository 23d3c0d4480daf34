package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Auth says who may call. Its zero value, with a store's Keys, works.
type Auth struct {
	// Keys are the keys that callers have. Without an engine they are those of the handler's.
	Keys Keys
	// OIDC lets people log in with a provider. nil: there are only keys.
	OIDC *OIDC
	// Rate is how many requests a second a key, or an address without one, may make for
	// long, and Burst how many at once. 0 means 100 and 200.
	Rate  float64
	Burst int
	// Tries is how many wrong keys an address may send at once; one is let go of each second.
	// 0 means 20. Then its keys are not looked at, but those that were right before.
	Tries int
	// Views is how many live views and waits a key may have open. 0 means 100.
	Views int
	// Client names who sends a request without a valid key, for limits. nil means the
	// address of the connection, which behind a proxy is the proxy's: give one that reads what
	// that proxy writes.
	Client func(*http.Request) string
}

// caller is who sends a request.
type caller struct {
	id      string // of the key; of a session, its hash
	name    string
	tenant  string
	scopes  []Scope
	expires time.Time
	person  bool                            // by a session
	valid   func(ctx context.Context) error // ErrKey: not any more
	ticket  *ticket                         // it came with a stream token, which is for this only
	leave   func()                          // its request is in flight no more; nil: it was not counted
}

// done takes the caller's request out of those in flight. A second call does nothing.
func (c *caller) done() {
	if c.leave != nil {
		c.leave()
	}
}

// everyone is who calls where nobody is asked for a key.
var everyone = &caller{name: "anyone", scopes: []Scope{Admin}}

// actor names the caller for an audit; "": nobody was asked.
func (c *caller) actor() string {
	switch {
	case c.person:
		return "person:" + c.name
	case c.id != "":
		return "key:" + c.id
	}
	return ""
}

type callerKey struct{}

// callerOf returns who sends the request of a context.
func callerOf(ctx context.Context) *caller {
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		return c
	}
	return everyone
}

// tenantOf returns the tenant that a handler may look into.
func tenantOf(ctx context.Context) string { return callerOf(ctx).tenant }

// doorman lets callers in.
type doorman struct {
	Auth
	rate  *buckets // by key or address
	wrong *buckets // wrong keys, by address
	views *counts

	mu    sync.Mutex
	known map[[sha256.Size]byte]bool // secrets that were right
}

func newDoorman(s *server, a *Auth) *doorman {
	d := &doorman{Auth: *a, known: map[[sha256.Size]byte]bool{}}
	if d.Keys.Engine == nil {
		d.Keys.Engine = s.engine
	}
	if d.Client == nil {
		d.Client = address
	}
	d.rate = newBuckets(cmp.Or(d.Rate, 100), cmp.Or(d.Burst, 200))
	d.wrong = newBuckets(1, cmp.Or(d.Tries, 20))
	d.views = newCounts(cmp.Or(d.Views, 100))
	return d
}

// address is that of the connection: see [clientAddress].
func address(r *http.Request) string { return clientAddress(r.RemoteAddr) }

// admit finds out who sends a request, and whether that may use the operation. The returned
// request has the caller in its context.
func (s *server) admit(w http.ResponseWriter, r *http.Request, o *operation) (*http.Request, error) {
	d := s.door
	if d == nil {
		return r, nil
	}
	if o.scope == public {
		if wait, ok := d.rate.take("address " + d.Client(r)); !ok {
			return nil, tooMany(w, wait, "this address asks too often")
		}
		return r, nil
	}
	var c *caller
	var err error
	if tokens := ticketOf(r, o); tokens != nil { // no other credential is looked at then
		c, err = s.byTicket(w, r, tokens)
	} else {
		c, err = s.identify(w, r)
	}
	if err != nil {
		return nil, err
	}
	if wait, ok := d.rate.take(c.id); !ok {
		return nil, tooMany(w, wait, "%s asks too often", c.name)
	}
	missing := o.scope
	if allows(c.scopes, missing) {
		missing = o.with
	}
	if missing != "" && !allows(c.scopes, missing) {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="pawl", error="insufficient_scope", scope=%q`, missing))
		p := newProblem(http.StatusForbidden, codeScope, "this call needs the scope %s, which %s does not have", missing, c.name)
		p.Hint = "use a key with that scope, or have one made"
		return nil, p
	}
	if o.global && c.tenant != "" {
		p := newProblem(http.StatusForbidden, codeTenant, "what this call is about belongs to no tenant, and %s is of one", c.name)
		p.Hint = "use a key of the default tenant"
		return nil, p
	}
	if c.person && r.Method != http.MethodGet && r.Method != http.MethodHead && !isJSON(r) && !(o.text && isYAML(r)) {
		return nil, newProblem(http.StatusUnsupportedMediaType, codeMedia, "in a session what changes something is sent with Content-Type: application/json, which a form of another page can't be")
	}
	if s.busy != nil {
		if !s.busy.add(c.tenant) {
			return nil, tooMany(w, time.Second, "%d requests of this tenant are under way, which is the most at once: nothing was done", s.busy.most)
		}
		c.leave = sync.OnceFunc(func() { s.busy.done(c.tenant) })
	}
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, c)), nil
}

// identify returns who has the key or the session of a request.
func (s *server) identify(w http.ResponseWriter, r *http.Request) (*caller, error) {
	d := s.door
	header := r.Header.Get("Authorization")
	if header == "" {
		if cookie, err := r.Cookie(sessionCookie); err == nil && d.OIDC != nil {
			return s.session(w, r, cookie.Value)
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="pawl"`)
		p := newProblem(http.StatusUnauthorized, codeUnauthorized, "this call needs a key")
		p.Hint = "send it as Authorization: Bearer pawl_…"
		return nil, p
	}
	scheme, secret, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		secret = "" // no key of ours
	}
	secret = strings.TrimSpace(secret)
	sum, client := sha256.Sum256([]byte(secret)), d.Client(r)
	// Many wrong keys are not looked up any more; who has one that was right is not held up by that.
	if wait, empty := d.wrong.empty(client); empty && !d.wasRight(sum) {
		return nil, tooMany(w, wait, "this address has sent too many wrong keys")
	}
	ctx, cancel := context.WithTimeout(r.Context(), callLimit)
	defer cancel()
	key, err := d.Keys.Find(ctx, secret)
	if errors.Is(err, ErrKey) {
		d.wrong.take(client)
		d.right(sum, false)
		return nil, unauthorized(w, err)
	}
	if err != nil {
		return nil, err
	}
	d.right(sum, true)
	return &caller{
		id: key.ID, name: fmt.Sprintf("the key %q", key.Name), tenant: key.Tenant, scopes: key.Scopes, expires: key.Expires,
		valid: func(ctx context.Context) error { return d.Keys.valid(ctx, key.ID) },
	}, nil
}

// unauthorized is the problem of a key or a session that is not valid.
func unauthorized(w http.ResponseWriter, err error) *Problem {
	w.Header().Set("WWW-Authenticate", `Bearer realm="pawl", error="invalid_token"`)
	p := newProblem(http.StatusUnauthorized, codeUnauthorized, "%s", strings.TrimPrefix(err.Error(), ErrKey.Error()+": "))
	p.Hint = "have another one made"
	return p
}

// manyKnown is how many right keys are remembered.
const manyKnown = 10_000

func (d *doorman) wasRight(sum [sha256.Size]byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[sum]
}

func (d *doorman) right(sum [sha256.Size]byte, is bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.known) >= manyKnown {
		clear(d.known)
	}
	if delete(d.known, sum); is {
		d.known[sum] = true
	}
}

// recheck is how often it is looked whether the key of a live view is still valid. With the
// time that the look takes it must stay under a second.
const recheck = 400 * time.Millisecond

// hold counts a live view or a wait of the caller, and returns a context that ends when its
// key is no longer valid. release is to be called when it is over.
func (s *server) hold(ctx context.Context) (held context.Context, release func(), err error) {
	x, c := exchangeOf(ctx), callerOf(ctx)
	held, cancel := context.WithCancel(x.r.Context())
	if s.door == nil || c.valid == nil {
		return held, cancel, nil
	}
	if !s.door.views.add(c.id) {
		cancel()
		return nil, nil, tooMany(x.w, 10*time.Second, "%s has %d live views and waits open, which is the most", c.name, s.door.views.most)
	}
	c.done() // it lasts, and is counted as a view
	go func() {
		defer cancel()
		tick := time.NewTicker(recheck)
		defer tick.Stop()
		for {
			select {
			case <-held.Done():
				return
			case <-tick.C:
				look, done := context.WithTimeout(held, callLimit)
				err := c.valid(look)
				done()
				if errors.Is(err, ErrKey) {
					return
				}
			}
		}
	}()
	return held, func() { cancel(); s.door.views.done(c.id) }, nil
}
