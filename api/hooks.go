package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/pawlrun/pawl"
)

// Hook is a live hook of a run: who has its token can send to it.
type Hook struct {
	Key    string          `json:"key"`
	Token  string          `json:"token"`
	Run    string          `json:"run"`
	Meta   json.RawMessage `json:"meta,omitempty"`
	Schema json.RawMessage `json:"schema,omitempty"`
	Public bool            `json:"public,omitempty"`
	At     time.Time       `json:"at"`
}

// HookList is the live hooks of a run, in the order of their making.
type HookList struct {
	Items []Hook `json:"items"`
}

// Accepted answers what was sent to a hook: the run that has it now.
type Accepted struct {
	Run string `json:"run"`
}

type tokenInput struct {
	Token string `path:"token"`
}

type hookInput struct {
	Token string `path:"token"`
	Body  json.RawMessage
}

type runHookInput struct {
	ID   string `path:"id"`
	Key  string `path:"key"`
	Body json.RawMessage
}

func (s *server) hookRoutes() {
	add(s, route{id: "hooks", method: http.MethodGet, path: "/api/runs/{id}/hooks", scope: RunsRead, summary: "List a run's live hooks"}, s.hooks)
	add(s, route{id: "hook", method: http.MethodGet, path: "/api/hooks/{token...}", scope: RunsRead, free: true, summary: "Look at a live hook"},
		func(ctx context.Context, in *tokenInput) (*output[Hook], error) {
			h, err := s.findHook(ctx, in.Token)
			return &output[Hook]{hookOf(h)}, err
		})
	add(s, route{id: "sendHook", method: http.MethodPost, path: "/api/hooks/{token...}", scope: HooksSend, status: http.StatusAccepted, free: true,
		summary: "Send a payload to a hook"},
		func(ctx context.Context, in *hookInput) (*output[Accepted], error) {
			if _, err := s.findHook(ctx, in.Token); err != nil {
				return nil, err
			}
			return s.send(ctx, in.Token, in.Body)
		})
	add(s, route{id: "sendRunHook", method: http.MethodPost, path: "/api/runs/{id}/hooks/{key...}", scope: HooksSend, status: http.StatusAccepted, free: true,
		summary: "Send a payload to a hook of a run, by its key"}, s.sendRunHook)
}

func (s *server) hooks(ctx context.Context, in *idInput) (*output[HookList], error) {
	infos, err := s.engine.Hooks(ctx, runRef(ctx, in.ID))
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", in.ID, err)
	}
	list := HookList{Items: []Hook{}}
	for _, h := range infos {
		list.Items = append(list.Items, hookOf(h))
	}
	return &output[HookList]{list}, nil
}

func hookOf(h pawl.HookInfo) Hook {
	return Hook{Key: h.Key, Token: h.Token, Run: h.Run.ID, Meta: h.Meta, Schema: h.Schema, Public: h.Public, At: h.At}
}

// findHook returns a live hook of the caller's tenant. A token of another's is one that nobody has.
func (s *server) findHook(ctx context.Context, token string) (pawl.HookInfo, error) {
	h, err := s.engine.FindHook(ctx, token)
	if errors.Is(err, pawl.ErrNotFound) || err == nil && h.Run.Tenant != tenantOf(ctx) {
		return pawl.HookInfo{}, fmt.Errorf("%w: no live hook has this token", pawl.ErrNotFound)
	}
	return h, err
}

// send tells whoever has a token no more of the run than its id.
func (s *server) send(ctx context.Context, token string, body json.RawMessage) (*output[Accepted], error) {
	info, err := s.engine.Resume(ctx, token, payload(body))
	return &output[Accepted]{Accepted{Run: info.ID}}, err
}

func (s *server) sendRunHook(ctx context.Context, in *runHookInput) (*output[Accepted], error) {
	infos, err := s.engine.Hooks(ctx, runRef(ctx, in.ID))
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", in.ID, err)
	}
	for _, h := range infos {
		if h.Key == in.Key {
			return s.send(ctx, h.Token, in.Body)
		}
	}
	return nil, fmt.Errorf("hook %q of run %s: %w", in.Key, in.ID, pawl.ErrNotFound)
}

// payload is a body that goes to a run as it is; none at all is null.
func payload(body json.RawMessage) json.RawMessage {
	if body == nil {
		return json.RawMessage("null")
	}
	return body
}
