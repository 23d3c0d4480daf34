package main

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
)

// evilWorkflows put a text that is not theirs wherever a workflow can put one.
func evilWorkflows(evil string) []pawl.Definition {
	return append(testWorkflows(),
		pawl.Define("evil", func(c *pawl.Context, in string) (string, error) {
			if err := c.SetAttributes(map[string]any{"a": in}); err != nil {
				return "", err
			}
			h, err := pawl.NewHook[string](c, pawl.Token("t"+in), pawl.Meta(in), pawl.HookKind("k"))
			if err != nil {
				return "", err
			}
			if err := c.Stream("words").Write(in); err != nil {
				return "", err
			}
			body, err := h.Wait(c)
			if err != nil {
				return "", err
			}
			return "", pawl.Fatal(errors.New(in + body))
		}),
		pawl.Define("asks", func(c *pawl.Context, in string) (approval.Decision, error) {
			return approval.Ask(c, "pay", approval.Request{Title: in, Approvers: []string{"ann"}})
		}),
	)
}

// evilEverywhere runs every command that prints what comes from outside, on things that are called
// evil, hold evil and fail with evil.
func evilEverywhere(t *testing.T, evil string) []result {
	t.Helper()
	h := serve(t, evilWorkflows(evil)...)
	text, err := json.Marshal(evil)
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) result { return pawlAt(t, h.url, args...) }
	id, input := "id"+evil, string(text)
	all := []result{run("start", "evil", "--id", id, "--input", input), run("start", "asks", "--id", "ask"+evil, "--input", input)}
	until(t, h.client, id, pawl.Waiting)
	until(t, h.client, "ask"+evil, pawl.Waiting)
	for _, args := range [][]string{
		{"schedules", "put", "s" + evil, "--workflow", "evil", "--cron", "@yearly", "--input", input},
		{"budgets", "set", "b" + evil, "--usd", "1"},
		{"keys", "create", "k" + evil, "--scope", "runs:read"},
		{"prompts", "put", "p" + evil, "text" + evil},
	} {
		all = append(all, run(args...))
	}
	for _, args := range [][]string{
		{"runs", "list"}, {"runs", "show", id}, {"runs", "journal", id}, {"runs", "steps", id}, {"runs", "result", id}, {"runs", "why", id},
		{"hooks", "list"}, {"hooks", "list", id}, {"approvals", "list"}, {"approvals", "show", "ask" + evil + "/pay"},
		{"stream", id, "words"}, {"budgets", "list"}, {"schedules", "list"}, {"schedules", "show", "s" + evil}, {"schedules", "next", "s" + evil},
		{"schedules", "pause", "s" + evil}, {"schedules", "resume", "s" + evil}, {"schedules", "trigger", "s" + evil}, {"schedules", "occurrences", "s" + evil},
		{"keys", "list"}, {"prompts", "list"}, {"prompts", "show", "p" + evil}, {"asked", id}, {"costs"}, {"costs", id}, {"stats"}, {"workflows", "list"},
		{"signal", id, "e" + evil, "--data", input}, {"events", "send", "e" + evil, "--data", input}, {"hooks", "send", id, "$hook", "--data", input},
		{"runs", "pause", "ask" + evil, "--reason", evil}, {"runs", "show", "ask" + evil}, {"runs", "resume", "ask" + evil}, {"runs", "cancel", "ask" + evil, "--reason", evil},
		{"runs", "fork", id}, {"runs", "retry", id}, {"runs", "follow", "no" + evil}, {"runs", "show", "no" + evil}, {"runs", "delete", "no" + evil},
		{"budgets", "topup", "no" + evil, "1"}, {"prompts", "show", "no" + evil}, {"approvals", "show", "no" + evil}, {"keys", "revoke", "no" + evil},
	} {
		all = append(all, run(args...))
	}
	return all
}
