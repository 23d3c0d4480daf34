package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/secret"
)

// A value comes in by one route and goes out by none. What puts it takes no Idempotency-Key: that would keep a hash of the
// request, of which a weak value could be guessed.

// SecretRequest is what to set. No answer and no log has the value.
type SecretRequest struct {
	Value         string    `json:"value" doc:"1 byte to 64 KiB. It is not told again."`
	PreviousUntil time.Time `json:"previousUntil,omitzero" doc:"Until then signatures by the value that it takes the place of are good too; left out: not at all."`
}

// String shows no value.
func (SecretRequest) String() string { return "a secret" }

// Format is String for every verb.
func (q SecretRequest) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(q.String())) }

// Secret is what is told of a secret.
type Secret struct {
	secret.Secret
	ETag string `json:"etag" doc:"Names the revision, for If-Match."`
}

// SecretPage is a page of secrets, by name.
type SecretPage struct {
	Items      []Secret `json:"items"`
	NextCursor string   `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last."`
}

// SecretKeyList is the encryption keys of the server, the one that seals first, and then those that are missing.
type SecretKeyList struct {
	Items []secret.KeyUse `json:"items"`
}

// Rewrapped is what became of a change of encryption keys.
type Rewrapped struct {
	Rewrapped int             `json:"rewrapped" doc:"How many values are now sealed with the first key that were not."`
	Done      bool            `json:"done" doc:"There are no others; else call it again."`
	Keys      []secret.KeyUse `json:"keys"`
}

type secretsInput struct {
	Q      string `query:"q" doc:"Only those whose name begins so."`
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
}

type secretInput struct {
	Name string `path:"name"`
}

type putSecretInput struct {
	Name  string `path:"name"`
	Match string `header:"If-Match" doc:"The ETag that the secret must still have."`
	None  string `header:"If-None-Match" enum:"*" doc:"*: it must be new."`
	Body  SecretRequest
}

type deleteSecretInput struct {
	Name  string `path:"name"`
	Match string `header:"If-Match" doc:"The ETag that the secret must still have."`
}

type rewrapInput struct{ Body Empty }

type secretOutput struct {
	ETag string `header:"ETag" doc:"Names its revision, for If-Match."`
	Body Secret
}

func (s *server) secretRoutes() {
	add(s, route{id: "secrets", method: http.MethodGet, path: "/api/secrets", scope: SecretsRead, summary: "List secrets, by name, without values"}, s.secrets)
	add(s, route{id: "secret", method: http.MethodGet, path: "/api/secrets/{name}", scope: SecretsRead, summary: "Tell of a secret, without its value"}, func(ctx context.Context, in *secretInput) (*secretOutput, error) {
		kept, err := s.keptSecrets()
		if err != nil {
			return nil, err
		}
		return toldSecret(kept.Get(ctx, tenantOf(ctx), in.Name))
	})
	add(s, route{id: "putSecret", method: http.MethodPut, path: "/api/secrets/{name}", scope: SecretsWrite, summary: "Set a secret",
		about: "Its value is in no answer. What uses it has the new value from its next call on. Repeating the request is safe: the value that was there before both is kept until the time it says."}, s.putSecret)
	add(s, route{id: "deleteSecret", method: http.MethodDelete, path: "/api/secrets/{name}", scope: SecretsWrite, status: http.StatusNoContent, summary: "Remove a secret"}, s.deleteSecret)
	add(s, route{id: "secretKeys", method: http.MethodGet, path: "/api/secret-keys", scope: SecretsWrite, global: true, summary: "Count secrets by the encryption key that they are sealed with"},
		func(ctx context.Context, _ *struct{}) (*output[SecretKeyList], error) {
			kept, err := s.keptSecrets()
			if err != nil {
				return nil, err
			}
			uses, err := kept.Uses(ctx)
			return &output[SecretKeyList]{SecretKeyList{uses}}, err
		})
	add(s, route{id: "rewrapSecrets", method: http.MethodPost, path: "/api/secret-keys/rewrap", scope: SecretsWrite, global: true, summary: "Seal all secrets with the first encryption key",
		about: "Those of all tenants, as many as there is time for: call it until it says done. Secrets can be used and set meanwhile."}, s.rewrapSecrets)
}

// keptSecrets is where they are kept.
func (s *server) keptSecrets() (*secret.Store, error) {
	if s.opt.Secrets == nil {
		return nil, fmt.Errorf("%w: this server keeps no secrets: it was made without api.Options.Secrets", pawl.ErrState)
	}
	return s.opt.Secrets, nil
}

func (s *server) secrets(ctx context.Context, in *secretsInput) (*output[SecretPage], error) {
	kept, err := s.keptSecrets()
	if err != nil {
		return nil, err
	}
	after, err := readMark("secret:", in.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := kept.List(ctx, tenantOf(ctx), in.Q, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	page := SecretPage{Items: []Secret{}}
	for _, one := range found[:min(in.Limit, len(found))] {
		page.Items = append(page.Items, Secret{one, revisionTag(one.Revision)})
	}
	if len(found) > in.Limit {
		page.NextCursor = mark("secret:", found[in.Limit-1].Name)
	}
	return &output[SecretPage]{page}, nil
}

func toldSecret(one secret.Secret, err error) (*secretOutput, error) {
	if err != nil {
		return nil, lostChange(err)
	}
	return &secretOutput{ETag: revisionTag(one.Revision), Body: Secret{one, revisionTag(one.Revision)}}, nil
}

func (s *server) putSecret(ctx context.Context, in *putSecretInput) (*secretOutput, error) {
	kept, err := s.keptSecrets()
	if err != nil {
		return nil, err
	}
	spec := secret.Spec{Tenant: tenantOf(ctx), Name: in.Name, Value: in.Body.Value, By: callerOf(ctx).name, PreviousUntil: in.Body.PreviousUntil}
	if spec.Revision, err = s.secretRevision(ctx, kept, in.Name, in.Match); err != nil {
		return nil, err
	}
	if in.None != "" {
		spec.Revision = 0
	}
	return toldSecret(kept.Set(ctx, spec))
}

func (s *server) deleteSecret(ctx context.Context, in *deleteSecretInput) (*noOutput, error) {
	kept, err := s.keptSecrets()
	if err != nil {
		return nil, err
	}
	revision, err := s.secretRevision(ctx, kept, in.Name, in.Match)
	if err != nil {
		return nil, err
	}
	var must []secret.IfRevision
	if revision != secret.AnyRevision {
		must = append(must, secret.IfRevision(revision))
	}
	return &noOutput{}, lostChange(kept.Delete(ctx, tenantOf(ctx), in.Name, must...))
}

// secretRevision reads an If-Match.
func (s *server) secretRevision(ctx context.Context, kept *secret.Store, name, match string) (int64, error) {
	revision, err := revisionOf(match)
	switch {
	case err != nil:
		return 0, err
	case match == "*": // there must be one
		now, err := kept.Get(ctx, tenantOf(ctx), name)
		return now.Revision, err
	case match == "":
		return secret.AnyRevision, nil
	}
	return revision, nil
}

// rewrapTime is how long one request seals secrets anew: well below what a request may take.
const rewrapTime = callLimit / 3

func (s *server) rewrapSecrets(ctx context.Context, _ *rewrapInput) (*output[Rewrapped], error) {
	kept, err := s.keptSecrets()
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, rewrapTime)
	defer cancel()
	n, err := kept.Rewrap(limited)
	out := Rewrapped{Rewrapped: n, Done: err == nil}
	if err != nil && (limited.Err() == nil || ctx.Err() != nil) {
		return nil, err
	}
	out.Keys, err = kept.Uses(ctx)
	return &output[Rewrapped]{out}, err
}
