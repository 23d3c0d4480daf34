package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
)

// Hook is a live hook of a run: who has its token can send to it.
type Hook struct {
	Key    string          `json:"key"`
	Token  string          `json:"token,omitempty" doc:"For callers who may send to hooks, where the server knows it."`
	URL    string          `json:"url,omitempty" doc:"Of a webhook: where it is called."`
	Run    string          `json:"run"`
	Kind   string          `json:"kind,omitempty" doc:"webhook, approval, …; left out: of the code's own."`
	Meta   json.RawMessage `json:"meta,omitempty"`
	Schema json.RawMessage `json:"schema,omitempty"`
	Public bool            `json:"public,omitempty"`
	At     time.Time       `json:"at"`
}

// HookList is the live hooks of a run, in the order of their making.
type HookList struct {
	Items []Hook `json:"items"`
}

// HookPage is a page of live hooks, in the order of their making.
type HookPage struct {
	Items      []Hook `json:"items"`
	NextCursor string `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last."`
}

// HookQuery picks hooks for [Client.HookPage]. Zero fields do not restrict.
type HookQuery struct {
	Kind   string
	Run    string
	Cursor string
	Limit  int // 0 means 50; at most 500
}

// Accepted answers what was sent to a hook: the run that has it now.
type Accepted struct {
	Run string `json:"run"`
}

type hooksInput struct {
	Kind   string `query:"kind"`
	Run    string `query:"run" doc:"Only hooks of the run with this id."`
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
}

type acceptedOutput struct {
	Replayed string `header:"Idempotency-Replayed" doc:"true: the request was carried out before."`
	Body     Accepted
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
			return &output[Hook]{s.hookOf(ctx, h)}, err
		})
	add(s, route{id: "hookPage", method: http.MethodGet, path: "/api/hooks", scope: RunsRead, summary: "List live hooks"}, s.hookPage)
	add(s, route{id: "sendHook", method: http.MethodPost, path: "/api/hooks/{token...}", scope: HooksSend, status: http.StatusAccepted, free: true, once: true,
		summary: "Send a payload to a hook", about: "410: the hook was closed, or its run has ended. 409: it is a webhook, or an approval."},
		func(ctx context.Context, in *hookInput) (*acceptedOutput, error) {
			h, err := s.findHook(ctx, in.Token)
			if err == nil {
				err = s.sendable(ctx, h)
			}
			if err != nil && !errors.Is(err, pawl.ErrEnded) { // one that is over may have been sent to before
				return nil, err
			}
			return s.send(ctx, h.Run, pawl.Delivery{Tenant: tenantOf(ctx), Token: in.Token, Data: payload(in.Body)})
		})
	add(s, route{id: "sendRunHook", method: http.MethodPost, path: "/api/runs/{id}/hooks/{key...}", scope: HooksSend, status: http.StatusAccepted, free: true, once: true,
		summary: "Send a payload to a hook of a run, by its key"},
		func(ctx context.Context, in *runHookInput) (*acceptedOutput, error) {
			if in.Key == "" {
				return nil, badRequest("the path names no hook")
			}
			hooks, err := s.engine.Hooks(ctx, runRef(ctx, in.ID))
			if err != nil {
				return nil, err
			}
			var run pawl.RunInfo // without a live hook of that key: none, and nothing is kept
			for _, h := range hooks {
				if h.Key == in.Key {
					run = h.Run
					if err := s.sendable(ctx, h); err != nil {
						return nil, err
					}
				}
			}
			return s.send(ctx, run, pawl.Delivery{Run: runRef(ctx, in.ID), Hook: in.Key, Data: payload(in.Body)})
		})
}

func (s *server) hooks(ctx context.Context, in *idInput) (*output[HookList], error) {
	infos, err := s.engine.Hooks(ctx, runRef(ctx, in.ID))
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", in.ID, err)
	}
	list := HookList{Items: []Hook{}}
	for _, h := range infos {
		h.Run.ID = in.ID
		list.Items = append(list.Items, s.hookOf(ctx, h))
	}
	return &output[HookList]{list}, nil
}

func (s *server) hookPage(ctx context.Context, in *hooksInput) (*output[HookPage], error) {
	f := pawl.HookFilter{Tenant: tenantOf(ctx), Kind: in.Kind, Limit: in.Limit + 1}
	if in.Run != "" {
		info, err := s.engine.Get(ctx, runRef(ctx, in.Run))
		if err != nil {
			return nil, err
		}
		f.Run = info.Key
	}
	var err error
	if f.After, err = readNumber("hook:", in.Cursor); err != nil {
		return nil, err
	}
	found, err := s.engine.ListHooks(ctx, f)
	if err != nil {
		return nil, err
	}
	page := HookPage{Items: []Hook{}}
	for _, h := range found[:min(in.Limit, len(found))] {
		page.Items = append(page.Items, s.hookOf(ctx, h))
	}
	if len(found) > in.Limit {
		page.NextCursor = mark("hook:", strconv.FormatInt(found[in.Limit-1].ID, 10))
	}
	return &output[HookPage]{page}, nil
}

// hookOf tells of a hook. Who may not send to hooks is not told the token, which is all that a
// webhook asks of a stranger.
func (s *server) hookOf(ctx context.Context, h pawl.HookInfo) Hook {
	hook := Hook{Key: h.Key, Run: h.Run.ID, Kind: h.Kind, Meta: h.Meta, Schema: h.Schema, Public: h.Public, At: h.At}
	if allows(callerOf(ctx).scopes, HooksSend) {
		hook.Token = h.Token
		if h.Public && h.Token != "" {
			hook.URL = s.webhooks.base(exchangeOf(ctx).r) + pawl.WebhookPath + h.Token
		}
	}
	return hook
}

// findHook returns a hook of the caller's tenant. A token of another's, also one that pawl has
// made and that is known in all of them, is one that nobody has.
// ErrEnded: it is over, and remembered.
func (s *server) findHook(ctx context.Context, token string) (pawl.HookInfo, error) {
	h, err := s.engine.FindHook(ctx, tenantOf(ctx), token)
	known := err == nil || errors.Is(err, pawl.ErrEnded)
	if errors.Is(err, pawl.ErrNotFound) || known && h.Run.Tenant != tenantOf(ctx) {
		return pawl.HookInfo{}, fmt.Errorf("%w: no live hook has this token", pawl.ErrNotFound)
	}
	return h, err
}

// send sends to a hook of a run. It tells whoever has a token no more of the run than its id.
func (s *server) send(ctx context.Context, run pawl.RunInfo, d pawl.Delivery) (*acceptedOutput, error) {
	sent, err := s.inbox(ctx, run)
	if err != nil {
		return nil, err
	}
	defer sent()
	r, replayed, err := s.deliver(ctx, d)
	return &acceptedOutput{Replayed: replayed, Body: Accepted{Run: r.Run.ID}}, err
}

// sendable refuses hooks that take no bare payload: on which a person's decision is waited for, as
// who may send to hooks may not decide in the name of others; and webhooks, whose run wants a
// request and would find an empty one.
func (s *server) sendable(ctx context.Context, h pawl.HookInfo) error {
	switch {
	case h.Kind == approval.Kind:
		return fmt.Errorf("%w: hook %s of run %s waits for an approval: decide it under /api/approvals", pawl.ErrState, h.Key, h.Run.ID)
	case h.Public:
		p := problemOf(fmt.Errorf("%w: hook %s of run %s is a webhook, which takes requests at its own address only", pawl.ErrState, h.Key, h.Run.ID))
		if url := s.hookOf(ctx, h).URL; url != "" {
			p.Hint = "send it there: curl -d TEXT " + url
		} else {
			p.Hint = "send it there: POST " + pawl.WebhookPath + "TOKEN"
		}
		return p
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
