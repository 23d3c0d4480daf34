package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
)

// Hook is a live hook of a run: who has its token can send to it.
type Hook struct {
	Key    string          `json:"key"`
	Token  string          `json:"token"`
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

type hookInput struct {
	Token string `path:"token"`
	Body  json.RawMessage
}

func (s *server) hookRoutes() {
	add(s, route{id: "hooks", method: http.MethodGet, path: "/api/runs/{id}/hooks", scope: RunsRead, summary: "List a run's live hooks"}, s.hooks)
	add(s, route{id: "sendHook", method: http.MethodPost, path: "/api/hooks/{token...}", scope: HooksSend, status: http.StatusAccepted, free: true,
		summary: "Send a payload to a hook"}, s.hook)
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
	return Hook{Key: h.Key, Token: h.Token, Meta: h.Meta, Schema: h.Schema, Public: h.Public, At: h.At}
}

// hook tells whoever has a token no more of the run than its id.
func (s *server) hook(ctx context.Context, in *hookInput) (*output[Accepted], error) {
	h, err := s.engine.FindHook(ctx, in.Token)
	if err == nil {
		err = sendable(h)
	}
	if err != nil {
		return nil, err
	}
	info, err := s.engine.Resume(ctx, in.Token, payload(in.Body))
	return &output[Accepted]{Accepted{Run: info.ID}}, err
}

// sendable refuses hooks on which a person's decision is waited for: who may send to hooks
// may not decide in the name of others.
func sendable(h pawl.HookInfo) error {
	if h.Kind == approval.Kind {
		return fmt.Errorf("%w: hook %s of run %s waits for an approval: decide it under /api/approvals", pawl.ErrState, h.Key, h.Run.ID)
	}
	return nil
}

// payload is a body that goes to a run as it is; none at all is null.
func payload(body json.RawMessage) json.RawMessage {
	if body == nil {
		return json.RawMessage("null")
	}
	return body
}
