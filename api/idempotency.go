package api

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

const (
	headerIdempotencyKey = "Idempotency-Key"
	headerReplayed       = "Idempotency-Replayed"

	idempotencySpace = "api.idempotency"
	// remembered is how long the key of a request is.
	remembered = 24 * time.Hour
)

var idempotencyKey = regexp.MustCompile(`^[!-~]{1,255}$`)

// once names what a request makes, so that it can be repeated.
type once struct {
	id   string // made of the caller's tenant, the operation and its key; empty: the caller gave none
	key  string // as the caller has sent it
	want string // the request, as a hash
}

// named reads the request's Idempotency-Key. more is what the request says beside its path and body.
func named(ctx context.Context, more ...string) (once, error) {
	x := exchangeOf(ctx)
	key := x.r.Header.Get(headerIdempotencyKey)
	if key == "" {
		return once{}, nil
	}
	if !idempotencyKey.MatchString(key) {
		return once{}, badRequest("%s must be 1 to 255 visible characters of ASCII", headerIdempotencyKey)
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{tenantOf(ctx), x.op.id, key}, "\x00")))
	request := sha256.Sum256(append([]byte(x.r.URL.EscapedPath()+"\x00"+strings.Join(append(more, ""), "\x00")), x.data...))
	return once{
		id:  "once_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:20])),
		key: key, want: hex.EncodeToString(request[:]),
	}, nil
}

// onceNote is what is remembered of a request.
type onceNote struct {
	Request string `json:"request"`
	Made    string `json:"made,omitempty"` // the id of what it has made, where the key does not give it
}

// put is the record of a request that has made something, to be written together with that.
func (o once) put(made string) pawl.Put {
	data, err := json.Marshal(onceNote{o.want, made})
	if err != nil { // texts: can't be
		panic(err)
	}
	return pawl.Put{Space: idempotencySpace, Key: o.id, Data: data, Until: time.Now().Add(remembered)}
}

// before looks whether the request was carried out; nil: it was not. Another request that had the key is a problem.
func before(ctx context.Context, e *pawl.Engine, o once) (*onceNote, int64, error) {
	if o.id == "" {
		return nil, 0, nil
	}
	r, err := e.Record(ctx, idempotencySpace, o.id)
	if errors.Is(err, pawl.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	was := &onceNote{}
	if err := json.Unmarshal(r.Data, was); err != nil {
		return nil, 0, fmt.Errorf("record %q of %s: %w", r.Key, idempotencySpace, err)
	}
	if was.Request != o.want {
		return nil, 0, otherRequest(o.key)
	}
	return was, r.Version, nil
}

// once reads the request's Idempotency-Key, and holds the request against the first that had it:
// another one is a problem. What is made is to get the id, in its own transaction, so that a
// request that is repeated after a crash at any point makes it once.
//
// The key is kept before the deed. If the deed is refused for the caller's fault, the request that has
// kept the key lets it go again (see release), but for when a repeat has come in the meantime: that
// one may have done it.
func (s *server) once(ctx context.Context) (once, error) {
	o, err := named(ctx)
	if err != nil || o.id == "" {
		return o, err
	}
	for {
		was, version, err := before(ctx, s.engine, o)
		if err != nil {
			return once{}, err
		}
		put := o.put("")
		put.If = version
		versions, err := s.engine.Write(ctx, put)
		switch {
		case err == nil && was == nil:
			exchangeOf(ctx).held = &pawl.Put{Space: put.Space, Key: put.Key, If: versions[0]}
			return o, nil
		case !errors.Is(err, pawl.ErrConflict):
			return o, err
		}
	}
}

// release lets a key go that was kept for a request which was then refused.
func (s *server) release(x *exchange) {
	status := problemOf(x.err).Status
	if x.held == nil || status < 400 || status >= 500 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), callLimit)
	defer cancel()
	if _, err := s.engine.Write(ctx, *x.held); err != nil && !errors.Is(err, pawl.ErrConflict) {
		s.log.Warn("pawl: an Idempotency-Key of a request that was refused stays taken", "requestId", x.w.Header().Get(headerRequestID), "error", err)
	}
}

// otherRequest is the problem of a key that was given to another request.
func otherRequest(key string) *Problem {
	p := newProblem(http.StatusUnprocessableEntity, codeKeyReused, "the %s %q was sent with another request before", headerIdempotencyKey, key)
	p.Hint = "give each request a key of its own, and repeat a request as it was"
	return p
}

// replayed is the value of Idempotency-Replayed: whether this request was answered before.
func (o once) replayed(existed bool) string {
	if o.id != "" && existed {
		return "true"
	}
	return ""
}

// refuseOnce refuses an Idempotency-Key where nothing would heed it.
func refuseOnce(r *http.Request, o *operation) error {
	if !o.once && r.Header.Get(headerIdempotencyKey) != "" && r.Method != http.MethodGet && r.Method != http.MethodHead {
		return badRequest("this call takes no %s: it does not remember what it has done", headerIdempotencyKey)
	}
	return nil
}

// deliver delivers a message once for each Idempotency-Key: whether it is the first is decided
// in the transaction that stores it.
func (s *server) deliver(ctx context.Context, d pawl.Delivery) (pawl.Receipt, string, error) {
	x := exchangeOf(ctx)
	key := x.r.Header.Get(headerIdempotencyKey)
	if key != "" {
		if !idempotencyKey.MatchString(key) {
			return pawl.Receipt{}, "", badRequest("%s must be 1 to 255 visible characters of ASCII", headerIdempotencyKey)
		}
		name, body := sha256.Sum256([]byte(key)), sha256.Sum256(x.data)
		d.Once, d.Window = "api:"+hex.EncodeToString(name[:]), remembered
		d.Answer = json.RawMessage(`"` + hex.EncodeToString(body[:]) + `"`)
	}
	r, err := s.engine.Deliver(ctx, d)
	switch {
	case err != nil:
		return r, "", err
	case !r.Repeated:
		return r, "", nil
	case string(r.First) != string(d.Answer):
		return r, "", otherRequest(key)
	}
	return r, "true", nil
}
