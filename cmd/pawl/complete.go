package main

import (
	"context"
	"strings"
	"time"

	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/trigger"
	"github.com/spf13/cobra"
)

// completionTime is how long a shell waits for suggestions. What was found until then is what
// there is: nobody waits for Tab. A test on a busy machine waits longer.
var completionTime = 250 * time.Millisecond

// enough is how many suggestions are of any use.
const enough = 500

// known finds words that begin with what was typed, of a server that may fail: then there are none, or
// not all. It may return others too.
type known func(ctx context.Context, typed string) []string

// find asks for words, for no longer than a person who pressed Tab waits.
func (k known) find(ctx context.Context, typed string) (names []string) {
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	for _, name := range k(ctx, typed) {
		if strings.HasPrefix(name, typed) && name == oneLine(name) { // a shell could not be given others
			names = append(names, name)
		}
	}
	return names
}

// pages gathers words page by page until there are enough that begin as typed.
func pages(typed string, page func(cursor string) (names []string, next string, err error)) (all []string) {
	for cursor := ""; ; {
		names, next, err := page(cursor)
		for _, name := range names {
			if strings.HasPrefix(name, typed) {
				all = append(all, name)
			}
		}
		if cursor = next; err != nil || next == "" || len(all) >= enough {
			return all
		}
	}
}

// workflowNames asks the server; without one there are none.
func (a *app) workflowNames(ctx context.Context, _ string) (names []string) {
	list, err := a.client.Workflows(ctx, "", enough)
	if err != nil {
		return nil
	}
	return namesOf(list.Items)
}

// runIDs are those of the newest runs, or of all whose ids begin as typed.
func (a *app) runIDs(ctx context.Context, typed string) (ids []string) {
	q := api.RunQuery{Prefix: typed, Limit: enough}
	if typed == "" {
		q.Limit = 50
	}
	page, err := a.client.Runs(ctx, q)
	if err != nil {
		return nil
	}
	for _, run := range page.Items {
		ids = append(ids, run.ID)
	}
	return ids
}

// hookTargets are what "hooks send" takes first: runs, and tokens that the server shows.
func (a *app) hookTargets(ctx context.Context, typed string) []string {
	tokens := pages(typed, func(cursor string) (tokens []string, next string, err error) {
		page, err := a.client.HookPage(ctx, api.HookQuery{Cursor: cursor, Limit: 500})
		for _, h := range page.Items {
			if !h.Public && h.Kind != approval.Kind && !strings.HasPrefix(h.Kind, trigger.HookKind) && h.Token != "" {
				tokens = append(tokens, h.Token)
			}
		}
		return tokens, page.NextCursor, err
	})
	return append(a.runIDs(ctx, typed), tokens...)
}

// keyIDs are those of keys that are not revoked.
func (a *app) keyIDs(ctx context.Context, _ string) (ids []string) {
	list, err := a.client.Keys(ctx)
	if err != nil {
		return nil
	}
	for _, k := range list.Items {
		if k.Revoked.IsZero() {
			ids = append(ids, k.ID)
		}
	}
	return ids
}

type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// names completes with what is known. What goes wrong is not told: the line is half typed.
func (a *app) names(known known) completer {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		a.quiet = true
		if a.connect() != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return known.find(cmd.Context(), typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFirst completes the first argument only.
func (a *app) completeFirst(known known) completer {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.names(known)(cmd, args, typed)
	}
}

// completeLocal completes the first argument with what is known without a server.
func (a *app) completeLocal(known func() []string) completer {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return known(), cobra.ShellCompDirectiveNoFileComp
	}
}

// completionHelp says in the help of each shell's completion how it is tried.
func (a *app) completionHelp(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		a.local(cmd)
		cmd.Example = a.examples("completion bash > /etc/bash_completion.d/pawl", "completion fish > ~/.config/fish/completions/pawl.fish")
		for _, shell := range cmd.Commands() {
			if shell.Name() == "bash" {
				a.bashCompletion(shell)
			}
			shell.Example = a.examples("completion "+shell.Name(), "completion "+shell.Name()+" --no-descriptions")
		}
	}
}

// completeNames completes a flag's value. A flag that does not exist is a mistake in this program.
func (a *app) completeNames(cmd *cobra.Command, flag string, known known) {
	if err := cmd.RegisterFlagCompletionFunc(flag, a.names(known)); err != nil {
		panic(err)
	}
}

// complete completes a flag's value with fixed words.
func (a *app) complete(cmd *cobra.Command, flag string, words ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}
