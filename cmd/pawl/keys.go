package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

func (a *app) keysCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "keys", Aliases: []string{"key"}, Short: "Make, list and revoke keys of a server",
		Example: a.examples("keys create ci --scope runs:read,runs:start --expires 720h", "keys list"),
	}, a.keysCreateCommand(), a.keysListCommand(), a.keysRevokeCommand())
}

func scopeNames() (names []string) {
	for _, s := range api.Scopes() {
		names = append(names, string(s))
	}
	return names
}

func (a *app) keysCreateCommand() *cobra.Command {
	var scopes []string
	var tenant, file string
	var expires time.Duration
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a key",
		Long: `Make a key, named for who has it, and print it this once; or with --file write it into a file
that only you can read, and print its id. A key may do what its scopes say:

  ` + strings.Join(scopeNames(), ", "),
		Example: a.examples("keys create ci --scope runs:read,runs:start --expires 720h", "keys create ops --scope admin --file ops.key"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec := api.KeySpec{Name: args[0], Tenant: tenant}
			for _, s := range scopes {
				spec.Scopes = append(spec.Scopes, api.Scope(s))
			}
			if expires > 0 {
				spec.Expires = time.Now().Add(expires)
			}
			if len(scopes) == 0 {
				return a.usage("what may it do? give --scope, of: %s", strings.Join(scopeNames(), ", "))
			}
			key, err := a.client.CreateKey(cmd.Context(), spec)
			if err != nil {
				return err
			}
			if file == "" {
				return a.show(view{body: a.last.body, of: key, table: func() {
					a.out.line("%s", key.Secret)
					a.note("it is not shown again; revoke it: %s", style(a.hint("keys revoke %s", key.ID)))
				}})
			}
			if err := writePrivate(file, []byte(key.Secret+"\n")); err != nil {
				return fmt.Errorf("the key was made, but not kept: %w; revoke it: %s", err, a.hint("keys revoke %s", key.ID))
			}
			a.out.line("%s", key.ID)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&scopes, "scope", nil, "what it may do; several are separated by commas")
	flags.StringVar(&tenant, "tenant", "", "whose runs it is for (default those of your own key)")
	flags.DurationVar(&expires, "expires", 0, "for how long it is valid (default for ever)")
	flags.StringVar(&file, "file", "", "write it there, instead of printing it")
	a.complete(cmd, "scope", scopeNames()...)
	return cmd
}

func (a *app) keysListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List keys, without what opens the door",
		Example: a.examples("keys list", "keys list -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := a.client.Keys(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: api.Key{}, list: true, table: func() {
				var rows [][]any
				for _, k := range list.Items {
					state := a.out.green("valid")
					switch {
					case !k.Revoked.IsZero():
						state = a.out.red("revoked")
					case !k.Expires.IsZero() && k.Expires.Before(time.Now()):
						state = a.out.yellow("expired")
					}
					var scopes []string
					for _, s := range k.Scopes {
						scopes = append(scopes, string(s))
					}
					rows = append(rows, []any{k.ID, k.Name, k.Tenant, state, a.when(k.Created), a.when(k.Used), a.when(k.Expires), strings.Join(scopes, " ")})
				}
				a.table(columns{"ID", "NAME", "+TENANT", "STATE", "+CREATED", "USED", "EXPIRES", "SCOPES"}, rows)
			}})
		},
	}
}

func (a *app) keysRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Revoke a key, at once",
		Long:              `Revoke a key, by its id or by a name that no other valid key has. Within a second no process of the server takes it any more.`,
		Example:           a.examples("keys revoke 3f5k2m", "keys revoke 3f5k2m -q"),
		Args:              a.oneArg("ID", a.keyIDs),
		ValidArgsFunction: a.completeFirst(a.keyIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			err := a.client.RevokeKey(ctx, args[0])
			if errors.Is(err, pawl.ErrNotFound) {
				var id string
				if id, err = a.keyNamed(ctx, args[0], err); err == nil {
					err = a.client.RevokeKey(ctx, id)
				}
			}
			if err != nil {
				return a.elsewhere(err, "keys list")
			}
			a.note("revoked")
			return nil
		},
	}
}

// keyNamed is the id of the only valid key with a name. unknown is returned where there is none.
func (a *app) keyNamed(ctx context.Context, name string, unknown error) (string, error) {
	list, err := a.client.Keys(ctx)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, k := range list.Items {
		if k.Name == name && k.Revoked.IsZero() {
			ids = append(ids, k.ID)
		}
	}
	switch len(ids) {
	case 0:
		return "", unknown
	case 1:
		return ids[0], nil
	}
	return "", a.usage("%d keys are named %q: %s; revoke them by id", len(ids), name, strings.Join(ids, ", "))
}
