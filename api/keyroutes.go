package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/pawlrun/pawl"
)

// KeyList is keys by id; revoked ones for 30 days.
type KeyList struct {
	Items []Key `json:"items"`
}

// NewKey is a key that was made. Secret is what its holder sends; it is told this once.
type NewKey struct {
	Key
	Secret string `json:"secret"`
}

// Whoami is what the server takes a caller for.
type Whoami struct {
	ID      string    `json:"id,omitempty" doc:"Of the key."`
	Name    string    `json:"name"`
	Tenant  string    `json:"tenant" doc:"Whose runs are meant; empty: the default tenant."`
	Scopes  []Scope   `json:"scopes"`
	Expires time.Time `json:"expires,omitzero"`
	Session bool      `json:"session,omitempty" doc:"A person who has logged in."`
}

type keyInput struct{ Body KeySpec }

type keyOutput struct{ Body NewKey }

type noOutput struct{}

func (s *server) keyRoutes() {
	add(s, route{id: "whoami", method: http.MethodGet, path: "/api/whoami", scope: anyKey, summary: "Say what the server takes the caller for"},
		func(ctx context.Context, _ *struct{}) (*output[Whoami], error) {
			c := callerOf(ctx)
			who := Whoami{Name: c.name, Tenant: c.tenant, Scopes: c.scopes, Expires: c.expires, Session: c.person}
			if !c.person {
				who.ID = c.id
			}
			return &output[Whoami]{who}, nil
		})
	add(s, route{id: "keys", method: http.MethodGet, path: "/api/keys", scope: KeysWrite, summary: "List keys",
		about: "Those of the caller's tenant; in the default tenant those of all."}, s.listKeys)
	add(s, route{id: "createKey", method: http.MethodPost, path: "/api/keys", scope: KeysWrite, once: true, status: http.StatusCreated, summary: "Make a key",
		about: "It can have no scope that the caller has not. The secret is told this once: a repeat with the same Idempotency-Key is 409 and names the id of the key that was made."}, s.createKey)
	add(s, route{id: "revokeKey", method: http.MethodDelete, path: "/api/keys/{id}", scope: KeysWrite, status: http.StatusNoContent, summary: "Revoke a key"}, s.revokeKey)
}

// keyring is where the server's keys are, whether it asks for them or not.
func (s *server) keyring() Keys {
	if s.door != nil {
		return s.door.Keys
	}
	return Keys{Engine: s.engine}
}

func (s *server) listKeys(ctx context.Context, _ *struct{}) (*output[KeyList], error) {
	keys, err := s.keyring().List(ctx)
	if tenant := tenantOf(ctx); tenant != "" {
		keys = slices.DeleteFunc(keys, func(k Key) bool { return k.Tenant != tenant })
	}
	return &output[KeyList]{KeyList{Items: append([]Key{}, keys...)}}, err
}

func (s *server) createKey(ctx context.Context, in *keyInput) (*keyOutput, error) {
	spec, c := in.Body, callerOf(ctx)
	if spec.Tenant == "" {
		spec.Tenant = c.tenant
	}
	if c.tenant != "" && spec.Tenant != c.tenant {
		return nil, newProblem(http.StatusForbidden, codeTenant, "%s makes keys of its own tenant only", c.name)
	}
	if err := checkScopes(spec.Scopes); err != nil {
		return nil, err
	}
	for _, scope := range spec.Scopes {
		if !allows(c.scopes, scope) {
			return nil, newProblem(http.StatusForbidden, codeScope, "%s does not have the scope %s, so it can't give it to another key", c.name, scope)
		}
	}
	once, err := named(ctx)
	if err != nil {
		return nil, err
	}
	made := func() error {
		done, _, err := before(ctx, s.keyring().Engine, once)
		if err != nil || done == nil {
			return err
		}
		p := newProblem(http.StatusConflict, codeKeyMade, "this request has made the key %s before, and its secret is told once", done.Made)
		p.Hint = "if the secret was lost, revoke that key, and make another with a new " + headerIdempotencyKey
		return p
	}
	if err := made(); err != nil {
		return nil, err
	}
	key, secret, err := s.keyring().create(ctx, spec, func(id string) []pawl.Put {
		if once.id == "" {
			return nil
		}
		return []pawl.Put{once.put(id)}
	})
	if conflict, ok := errors.AsType[*pawl.RecordConflictError](err); ok && conflict.Space == idempotencySpace { // a repeat was faster
		if told := made(); told != nil {
			err = told
		}
	}
	return &keyOutput{NewKey{Key: key, Secret: secret}}, err
}

func (s *server) revokeKey(ctx context.Context, in *idInput) (*noOutput, error) {
	keys := s.keyring()
	key, _, err := keys.get(ctx, in.ID)
	if err == nil && tenantOf(ctx) != "" && key.Tenant != tenantOf(ctx) { // it answers as one that is not there
		err = fmt.Errorf("%w: key %q", pawl.ErrNotFound, in.ID)
	}
	if err != nil {
		return nil, err
	}
	return &noOutput{}, keys.Revoke(ctx, in.ID)
}
