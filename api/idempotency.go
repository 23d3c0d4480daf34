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
	id string // made of the caller's tenant, the operation and its key; empty: the caller gave none
}

// once reads the request's Idempotency-Key, and holds the request against the first that had it:
// another one is a problem. What is made is to get the id, in its own transaction, so that a
// request that is repeated after a crash at any point makes it once.
func (s *server) once(ctx context.Context) (once, error) {
	x := exchangeOf(ctx)
	key := x.r.Header.Get(headerIdempotencyKey)
	if key == "" {
		return once{}, nil
	}
	if !idempotencyKey.MatchString(key) {
		return once{}, badRequest("%s must be 1 to 255 visible characters of ASCII", headerIdempotencyKey)
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{tenantOf(ctx), x.op.id, key}, "\x00")))
	o := once{id: "once_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:20]))}
	request := sha256.Sum256(append([]byte(x.r.URL.EscapedPath()+"\x00"), x.data...))
	want := hex.EncodeToString(request[:])
	data, err := json.Marshal(want)
	if err != nil {
		return once{}, err
	}
	_, err = s.engine.Write(ctx, pawl.Put{Space: idempotencySpace, Key: o.id, Data: data, Until: time.Now().Add(remembered)})
	if !errors.Is(err, pawl.ErrConflict) {
		return o, err
	}
	r, err := s.engine.Record(ctx, idempotencySpace, o.id)
	if err != nil {
		return once{}, err
	}
	var was string
	if err := json.Unmarshal(r.Data, &was); err != nil {
		return once{}, fmt.Errorf("record %q of %s: %w", r.Key, idempotencySpace, err)
	}
	if was != want {
		return once{}, otherRequest(key)
	}
	return o, nil
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
