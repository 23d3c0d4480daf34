package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write man pages into a directory",
		Long:    `Write a man page for each command into a directory, which is made if it is not there.`,
		Example: a.examples("man ~/.local/share/man/man1", "man ./man && man ./man/pawl-runs-list.1"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return a.usage("man: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // the same program writes the same pages
			if err := doc.GenManTree(root, &doc.GenManHeader{Title: "PAWL", Section: "1", Source: "pawl"}, args[0]); err != nil {
				return fmt.Errorf("man: %w", err)
			}
			a.note("read one: man %s/pawl.1", args[0])
			return nil
		},
	}
}
