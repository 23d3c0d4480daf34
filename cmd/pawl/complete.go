package main

import (
	"context"
	"time"

	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

// completionTime is how long a shell waits for suggestions.
const completionTime = time.Second

// workflowNames asks the server; without one there are none.
func (a *app) workflowNames(ctx context.Context) (names []string) {
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	list, err := a.client.Workflows(ctx)
	if err != nil {
		return nil
	}
	for _, w := range list.Items {
		names = append(names, w.Name)
	}
	return names
}

// runIDs are those of the newest runs.
func (a *app) runIDs(ctx context.Context) (ids []string) {
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	page, err := a.client.Runs(ctx, api.RunQuery{Limit: 50})
	if err != nil {
		return nil
	}
	for _, run := range page.Items {
		ids = append(ids, run.ID)
	}
	return ids
}

type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// names completes with what known returns. Cobra drops those that do not begin as typed.
func (a *app) names(known func(context.Context) []string) completer {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		if a.connect() != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, name := range known(cmd.Context()) {
			if name == oneLine(name) { // a shell could not be given others
				names = append(names, name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFirst completes the first argument only.
func (a *app) completeFirst(known func(context.Context) []string) completer {
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
			shell.Example = a.examples("completion "+shell.Name(), "completion "+shell.Name()+" --no-descriptions")
		}
	}
}

// completeNames completes a flag's value. A flag that does not exist is a mistake in this program.
func (a *app) completeNames(cmd *cobra.Command, flag string, known func(context.Context) []string) {
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
