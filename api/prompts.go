package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
)

// PromptList is all prompts, by name, without their texts.
type PromptList struct {
	Items []agent.PromptInfo `json:"items"`
}

// PromptRequest is a text to keep as a version of a prompt.
type PromptRequest struct {
	Text string   `json:"text" doc:"{{name}} is where the variable of that name comes."`
	Vars []string `json:"vars,omitempty" doc:"Names of its variables; left out: those that the text has."`
}

// ActivateRequest says which versions runs get from now on.
type ActivateRequest struct {
	Weights map[int]int `json:"weights" doc:"How large a part of the runs gets each version; none: each program's own text."`
	By      string      `json:"by,omitempty" doc:"Who did it, for people; left out: the name of the key."`
}

// RollbackRequest is the body of a rollback. It may be left out.
type RollbackRequest struct {
	By string `json:"by,omitempty" doc:"Who did it, for people; left out: the name of the key."`
}

type promptInput struct {
	Name string `path:"name"`
}

type promptVersionInput struct {
	Name    string `path:"name"`
	Version int    `path:"n" minimum:"1"`
}

type putPromptInput struct {
	Name string `path:"name"`
	Body PromptRequest
}

type activateInput struct {
	Name  string `path:"name"`
	Match string `header:"If-Match" doc:"The ETag that the prompt must still have."`
	Body  ActivateRequest
}

type rollbackInput struct {
	Name  string `path:"name"`
	Match string `header:"If-Match" doc:"The ETag that the prompt must still have."`
	Body  RollbackRequest
}

type promptOutput struct {
	ETag string `header:"ETag" doc:"Names its revision, for If-Match."`
	Body agent.PromptInfo
}

func (s *server) promptRoutes() {
	prompts := agent.Prompts{Engine: s.engine}
	get := func(id, path, summary string) route {
		return route{id: id, method: http.MethodGet, path: path, scope: ModelsRead, global: true, summary: summary}
	}
	post := func(id, path, summary string) route {
		return route{id: id, method: http.MethodPost, path: path, scope: ModelsWrite, global: true, summary: summary}
	}
	add(s, get("prompts", "/api/prompts", "List prompts"), func(ctx context.Context, _ *struct{}) (*output[PromptList], error) {
		all, err := prompts.List(ctx)
		list := PromptList{Items: []agent.PromptInfo{}}
		for _, info := range all {
			list.Items = append(list.Items, complete(info))
		}
		return &output[PromptList]{list}, err
	})
	add(s, get("prompt", "/api/prompts/{name}", "Look at a prompt"), func(ctx context.Context, in *promptInput) (*promptOutput, error) {
		return prompted(prompts.Get(ctx, in.Name))
	})
	add(s, get("promptVersion", "/api/prompts/{name}/versions/{n}", "Read a version of a prompt"), func(ctx context.Context, in *promptVersionInput) (*output[agent.PromptVersion], error) {
		v, err := prompts.Version(ctx, in.Name, in.Version)
		return &output[agent.PromptVersion]{v}, err
	})
	put := post("putPrompt", "/api/prompts/{name}", "Keep a text as a version of a prompt")
	put.about, put.once = "The same text is the same version. Nobody uses a new one until it is activated.", true
	add(s, put, func(ctx context.Context, in *putPromptInput) (*output[agent.PromptVersion], error) {
		if _, err := s.once(ctx); err != nil { // done twice it is the same
			return nil, err
		}
		v, err := prompts.Put(ctx, agent.Prompt{Name: in.Name, Text: in.Body.Text, Vars: in.Body.Vars})
		return &output[agent.PromptVersion]{v}, err
	})
	add(s, post("activatePrompt", "/api/prompts/{name}/activate", "Let runs get versions of a prompt"), func(ctx context.Context, in *activateInput) (*promptOutput, error) {
		revision, err := revisionOf(in.Match)
		if err != nil {
			return nil, err
		}
		a := agent.Activation{Weights: in.Body.Weights, By: cmp.Or(in.Body.By, callerOf(ctx).name), Revision: revision}
		return changed(revision)(prompted(prompts.Activate(ctx, in.Name, a)))
	})
	add(s, post("rollbackPrompt", "/api/prompts/{name}/rollback", "Undo the newest activation of a prompt"), func(ctx context.Context, in *rollbackInput) (*promptOutput, error) {
		revision, err := revisionOf(in.Match)
		if err != nil {
			return nil, err
		}
		return changed(revision)(prompted(prompts.Rollback(ctx, in.Name, cmp.Or(in.Body.By, callerOf(ctx).name), revision)))
	})
}

func prompted(info agent.PromptInfo, err error) (*promptOutput, error) {
	if err != nil {
		return nil, err
	}
	return &promptOutput{ETag: revisionTag(info.Revision), Body: complete(info)}, nil
}

// complete makes lists of what would be null.
func complete(info agent.PromptInfo) agent.PromptInfo {
	info.Versions = append([]agent.PromptVersion{}, info.Versions...)
	info.History = append([]agent.Activation{}, info.History...)
	for i, a := range info.History {
		if a.Weights == nil {
			info.History[i].Weights = map[int]int{}
		}
	}
	if info.Active != nil && info.Active.Weights == nil {
		active := *info.Active
		active.Weights = map[int]int{}
		info.Active = &active
	}
	return info
}

// changed words the conflict of a call with an If-Match as what it is to the caller.
func changed(revision int64) func(*promptOutput, error) (*promptOutput, error) {
	return func(out *promptOutput, err error) (*promptOutput, error) {
		if revision != 0 && errors.Is(err, pawl.ErrConflict) {
			return nil, matches(revisionTag(revision), "another")
		}
		return out, err
	}
}
