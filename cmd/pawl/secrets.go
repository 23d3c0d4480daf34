package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/secret"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func (a *app) secretsCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "secrets", Aliases: []string{"secret"}, Short: "Set, list and delete secrets of services and senders",
		Long: `Set, list and delete secrets: what services that flows call are given ({{secrets.NAME}}), and what signed
webhooks are checked with (pawl.Signed). Their values are sealed in the store and never shown again.`,
		Example: a.examples("secrets set stripe < stripe.key", "secrets list"),
	}, a.secretsSetCommand(), a.secretsListCommand(), a.secretsDeleteCommand(), a.secretsRotateCommand(), a.secretsKeysCommand())
}

// secretNames are those that begin with what was typed.
func (a *app) secretNames(ctx context.Context, typed string) (names []string) {
	page, err := a.client.Secrets(ctx, typed, "", 100)
	if err != nil {
		return nil
	}
	for _, s := range page.Items {
		names = append(names, s.Name)
	}
	return names
}

func (a *app) secretsSetCommand() *cobra.Command {
	var keep time.Duration
	var etag string
	one := a.oneArg("NAME", a.secretNames)
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Set a secret",
		Long: `Set a secret, new or not. Its value is asked for, unseen, or read from standard input, and never taken from the
command line, where others could see it. A line break at its end is left out. What uses the secret has the
new value from its next call on.

With --keep-previous the value before is good for signatures of webhooks for so long, beside the new one: set it here
first, then at the sender.`,
		Example: a.examples("secrets set stripe < stripe.key", "secrets set hub --keep-previous 24h < hub.key"),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && strings.Contains(args[0], "=") { // which is not repeated here
				return errors.New("a value does not stand on the command line, where others can see it: it is asked for, or read from standard input")
			}
			return one(cmd, args)
		},
		ValidArgsFunction: a.completeFirst(a.secretNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if keep < 0 {
				return a.usage("--keep-previous %s: write for how long, such as 24h", keep)
			}
			value, err := a.askValue(args[0])
			if err != nil {
				return err
			}
			q := api.SecretRequest{Value: value}
			if keep > 0 {
				q.PreviousUntil = time.Now().Add(keep).UTC()
			}
			ctx := cmd.Context()
			if etag != "" {
				ctx = api.WithIfMatch(ctx, etag)
			}
			s, err := a.client.PutSecret(ctx, args[0], q)
			if err != nil {
				return a.elsewhere(err, "secrets list")
			}
			return a.show(view{body: a.last.body, of: s, name: "name", table: func() {
				a.out.line("%s is set", s.Name)
				if !s.PreviousUntil.IsZero() {
					a.note("signatures by the value before are good until %s", s.PreviousUntil.Local().Format(time.DateTime))
				}
			}})
		},
	}
	cmd.Flags().DurationVar(&keep, "keep-previous", 0, "for how long signatures by the value before are good too (default not at all)")
	cmd.Flags().StringVar(&etag, "if-match", "", "only if it still has this etag")
	return cmd
}

// askValue reads a value from standard input; a terminal does not show it.
func (a *app) askValue(name string) (string, error) {
	var data []byte
	var err error
	if f, ok := a.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(a.stderr, "value of %s: ", clean(name))
		data, err = term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.stderr)
	} else {
		data, err = io.ReadAll(io.LimitReader(a.stdin, secret.MaxValue+3)) // one more than fits, and a line break
	}
	if err != nil {
		return "", err
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case value == "":
		return "", a.usage("standard input has no value")
	case len(value) > secret.MaxValue:
		return "", a.usage("the value has more than %d bytes", secret.MaxValue)
	}
	return value, nil
}

func (a *app) secretsListCommand() *cobra.Command {
	var limit int
	var cursor, prefix string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List secrets, without their values",
		Example: a.examples("secrets list", "secrets list --prefix stripe -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			page, err := a.client.Secrets(cmd.Context(), prefix, cursor, limit)
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: api.Secret{}, list: true, name: "name", table: func() {
				var rows [][]any
				for _, s := range page.Items {
					rows = append(rows, []any{s.Name, a.when(s.Updated), s.By, s.KeyID, a.when(s.PreviousUntil), a.when(s.Created), s.ETag})
				}
				if rows == nil {
					a.note("no secrets")
					return
				}
				a.table(columns{"NAME", "UPDATED", "BY", "KEY", "PREVIOUS UNTIL", "+CREATED", "+ETAG"}, rows)
				a.more(page.NextCursor)
			}})
		},
	}
	cmd.Flags().StringVar(&prefix, "prefix", "", "only those whose name begins so")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many, at most 500")
	cmd.Flags().StringVar(&cursor, "cursor", "", "where to go on, as told by the list before")
	return cmd
}

func (a *app) secretsDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Remove a secret",
		Long:              `Remove a secret. What needs it fails from its next call on.`,
		Example:           a.examples("secrets delete stripe", "secrets delete hub -q"),
		Args:              a.oneArg("NAME", a.secretNames),
		ValidArgsFunction: a.completeFirst(a.secretNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.client.DeleteSecret(cmd.Context(), args[0]); err != nil {
				return a.elsewhere(err, "secrets list")
			}
			a.note("deleted")
			return nil
		},
	}
}

func (a *app) secretsRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rotate", Short: "Seal all secrets with the first encryption key",
		Long: `Seal the secrets of all tenants with the first of the server's encryption keys, while they are used. To
change the key: give all servers the new one behind the old one in PAWL_ENCRYPTION_KEYS; then put it first; then rotate; then
take the old one away, when no secret is sealed with it any more. No call fails meanwhile.`,
		Example: a.examples("secrets rotate", "secrets rotate -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all api.Rewrapped
			for n := 0; !all.Done; n = all.Rewrapped {
				var err error
				if all, err = a.client.RewrapSecrets(cmd.Context()); err != nil {
					return err
				}
				all.Rewrapped += n
			}
			body, err := json.Marshal(all)
			if err != nil {
				return err
			}
			return a.show(view{body: body, of: all, table: func() {
				a.out.line("%d sealed anew", all.Rewrapped)
				a.keyTable(all.Keys)
			}})
		},
	}
}

func (a *app) secretsKeysCommand() *cobra.Command {
	return &cobra.Command{
		Use: "keys", Short: "Count secrets by the encryption key that they are sealed with",
		Long:    `Count the secrets of all tenants by the encryption key that they are sealed with. A value that is good beside a new one counts too.`,
		Example: a.examples("secrets keys", "secrets keys -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := a.client.SecretKeys(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: secret.KeyUse{}, list: true, table: func() { a.keyTable(list.Items) }})
		},
	}
}

// keyTable shows encryption keys, and says which can be taken away.
func (a *app) keyTable(keys []secret.KeyUse) {
	if len(keys) == 0 {
		a.note("the server has no encryption key, and there are no secrets")
		return
	}
	var rows [][]any
	for _, k := range keys {
		what := "opens"
		switch {
		case k.Seals:
			what = "seals and opens"
		case !k.Given:
			what = "missing"
		}
		rows = append(rows, []any{k.ID, what, k.Secrets})
	}
	a.table(columns{"KEY", "USE", "SECRETS"}, rows)
	for _, k := range keys {
		if k.Given && !k.Seals && k.Secrets == 0 {
			a.note("no secret is sealed with %s any more: it can be taken out of the server's encryption keys", k.ID)
		}
	}
}
