package main

import (
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

// repeatable gives a command that makes something the flag --once: the request then has a name, and the same
// again does nothing.
func (a *app) repeatable(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().String("once", "", "names the request, so that it may be repeated: within a day the same does nothing more")
	return cmd
}

// once lets what cmd asks for go out under the name that --once says.
func (a *app) once(cmd *cobra.Command) error {
	flag := cmd.Flags().Lookup("once")
	if flag == nil || !flag.Changed {
		return nil
	}
	key := flag.Value.String()
	if len(key) == 0 || len(key) > 255 || key != oneWord(key) {
		return a.usage("--once %q: a name has 1 to 255 visible characters of ASCII", key)
	}
	cmd.SetContext(api.WithIdempotencyKey(cmd.Context(), key))
	return nil
}

// oneWord keeps the visible characters of ASCII.
func oneWord(s string) string {
	var kept []byte
	for i := range len(s) {
		if s[i] > ' ' && s[i] < 0x7f {
			kept = append(kept, s[i])
		}
	}
	return string(kept)
}
