package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// A stream token lets its holder read a run's live views, or one of its streams, for some minutes: for
// web pages, whose EventSource can't send a key. It is in an address, which is easily shown or kept
// somewhere, so it opens little and not for long. Nothing of it is stored: it is signed by
// the engine's secret, and says whose it is.
//
// Invariants:
//   - it is looked at on GET of the two routes that say so, and opens no other;
//   - it lets in nobody whom the key or the session that asked for it does not let in any more;
//   - it is in no log and in no answer but the one that made it.

const (
	streamTokenPurpose = "stream token"
	streamTokenParam   = "token"
	streamTokenLife    = 5 * time.Minute
	maxStreamTokenLife = 15 * time.Minute
	maxStreamToken     = 4 << 10 // bytes; two names are the most of it
)

// StreamTokenRequest is the body that asks for a stream token. It may be left out.
type StreamTokenRequest struct {
	Stream   *string `json:"stream,omitempty" doc:"Only this stream of the run; left out: all its streams, and its events."`
	Lifetime string  `json:"lifetime,omitempty" doc:"For how long views may be opened with it, such as 90s, at most 15m; left out: 5m."`
}

// StreamToken opens live views of one run, as the query's token.
type StreamToken struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires" doc:"From then on it opens nothing. A view that is open goes on."`
}

// ticket is what a stream token says.
type ticket struct {
	Tenant  string  `json:"t,omitempty"`
	Run     string  `json:"r"`
	Seed    int64   `json:"s"`           // tells the run from one that has its id later
	Stream  *string `json:"n,omitempty"` // nil: all, and the run's events
	Caller  string  `json:"c,omitempty"` // the id of the key or of the session
	Expires int64   `json:"e"`           // in milliseconds since 1970
}

type streamTokenInput struct {
	ID   string `path:"id"`
	Body StreamTokenRequest
}

func (s *server) streamTokenRoutes() {
	add(s, route{id: "createStreamToken", method: http.MethodPost, path: "/api/runs/{id}/stream-tokens", scope: RunsRead, summary: "Make a token with which a web page follows a run",
		about: "It is given as the query's token to GET of the run's events and streams, in place of a key. It ends when the key that asked for it is revoked."}, s.createStreamToken)
}

func (s *server) createStreamToken(ctx context.Context, in *streamTokenInput) (*output[StreamToken], error) {
	life := streamTokenLife
	if in.Body.Lifetime != "" {
		var err error
		if life, err = duration("field lifetime", in.Body.Lifetime); err != nil {
			return nil, err
		}
		if life <= 0 || life > maxStreamTokenLife {
			return nil, badRequest("lifetime is %v; it must be more than 0 and at most %v", life, maxStreamTokenLife)
		}
	}
	run, err := s.engine.Get(ctx, runRef(ctx, in.ID))
	if err != nil {
		return nil, err
	}
	c := callerOf(ctx)
	expires := time.Now().Add(life)
	if !c.expires.IsZero() && c.expires.Before(expires) {
		expires = c.expires
	}
	t := ticket{Tenant: run.Tenant, Run: run.ID, Seed: run.Seed, Stream: in.Body.Stream, Caller: c.id, Expires: expires.UnixMilli()}
	data, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	mac, err := s.engine.Sign(streamTokenPurpose, data)
	if err != nil {
		return nil, fmt.Errorf("stream tokens are signed: %w", err)
	}
	token := base64.RawURLEncoding.EncodeToString(data) + "." + base64.RawURLEncoding.EncodeToString(mac)
	if len(token) > maxStreamToken {
		return nil, badRequest("the names of the run and the stream are too long for a token")
	}
	return &output[StreamToken]{StreamToken{Token: token, Expires: time.UnixMilli(t.Expires).UTC()}}, nil
}

// readTicket reads a token that this server, or another with the same secret, has made.
func (s *server) readTicket(token string) (t ticket, ok bool) {
	enc := base64.RawURLEncoding.Strict()
	payload, signed, cut := strings.Cut(token, ".")
	data, err := enc.DecodeString(payload)
	mac, merr := enc.DecodeString(signed)
	if !cut || err != nil || merr != nil || len(token) > maxStreamToken || !s.engine.Verify(streamTokenPurpose, data, mac) || json.Unmarshal(data, &t) != nil {
		return ticket{}, false
	}
	return t, true
}

// byTicket returns who has made the token of a request, with no right but to look at what it is for.
func (s *server) byTicket(w http.ResponseWriter, r *http.Request, tokens []string) (*caller, error) {
	client := s.door.Client(r)
	t, ok := s.readTicket(tokens[0])
	if !ok || len(tokens) > 1 {
		if wait, empty := s.door.wrong.empty(client); empty {
			return nil, tooMany(w, wait, "this address has sent too many wrong keys")
		}
		s.door.wrong.take(client)
		return nil, noTicket(w)
	}
	if time.Now().UnixMilli() >= t.Expires {
		return nil, noTicket(w)
	}
	ctx, cancel := context.WithTimeout(r.Context(), callLimit)
	defer cancel()
	c := &caller{id: t.Caller, ticket: &t, tenant: t.Tenant}
	var tenant string
	var scopes []Scope
	if id, person := strings.CutPrefix(t.Caller, sessionID); person {
		c.valid = func(ctx context.Context) error { _, err := s.findSession(ctx, id); return err }
		stored, err := s.findSession(ctx, id)
		if errors.Is(err, ErrKey) {
			return nil, noTicket(w)
		} else if err != nil {
			return nil, err
		}
		c.name, c.person, c.expires, tenant, scopes = stored.Name, true, stored.Expires, stored.Tenant, stored.Scopes
	} else {
		c.valid = func(ctx context.Context) error { return s.door.Keys.valid(ctx, t.Caller) }
		stored, _, err := s.door.Keys.get(ctx, t.Caller)
		if errors.Is(err, pawl.ErrNotFound) || err == nil && stored.valid(time.Now()) != nil {
			return nil, noTicket(w)
		} else if err != nil {
			return nil, err
		}
		c.name, c.expires, tenant, scopes = fmt.Sprintf("the key %q", stored.Name), stored.Expires, stored.Tenant, stored.Scopes
	}
	if tenant != t.Tenant || !allows(scopes, RunsRead) {
		return nil, noTicket(w)
	}
	c.scopes = []Scope{RunsRead}
	return c, nil
}

// mayView refuses a view that the caller's token, if it came with one, is not for. run is nil before the
// run was looked up, of which nothing is to be learned; stream is nil for the run's events.
func mayView(ctx context.Context, id string, stream *string, run *pawl.RunInfo) error {
	t := callerOf(ctx).ticket
	if t == nil || t.Run == id && (t.Stream == nil || stream != nil && *stream == *t.Stream) && (run == nil || run.Seed == t.Seed) {
		return nil
	}
	return noTicket(exchangeOf(ctx).w)
}

// noTicket is the problem of a token that does not open what was asked for. It says the same of all.
func noTicket(w http.ResponseWriter) *Problem {
	p := unauthorized(w, ErrKey)
	p.Detail = "the token in the query is none, has expired, or is for another run or stream"
	p.Hint = "have another one made, by POST /api/runs/{id}/stream-tokens"
	return p
}

// ticketOf returns the tokens in the query of a request that may have one.
func ticketOf(r *http.Request, o *operation) []string {
	if r.Method != http.MethodGet || !slices.Contains(o.queries, streamTokenParam) {
		return nil
	}
	return r.URL.Query()[streamTokenParam]
}

// CreateStreamToken makes a token with which a web page, whose EventSource can't send a key, follows a run:
// see [StreamToken]. Hand it to whom you let see the run, by your own means.
func (c *Client) CreateStreamToken(ctx context.Context, id string, q StreamTokenRequest) (StreamToken, error) {
	return call[StreamToken](ctx, c, http.MethodPost, RunPath(id)+"/stream-tokens", nil, q)
}
