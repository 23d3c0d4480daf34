package main

import (
	"encoding/json"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	sqlite3 "modernc.org/sqlite/lib"
)

type versions struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	SQLite   string `json:"sqlite"`
	Platform string `json:"platform"`
}

func versionsOf() versions {
	v := versions{Version: "(devel)", Go: runtime.Version(), SQLite: sqlite3.SQLITE_VERSION, Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			v.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Revision = s.Value
			}
		}
	}
	return v
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of pawl, Go and SQLite",
		Example: a.examples("version", "version -o json"),
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versionsOf()
			body, err := json.Marshal(v)
			if err != nil {
				return err
			}
			return a.show(view{body: body, of: v, name: "version", table: func() {
				a.out.line("pawl    %s", v.Version)
				if v.Revision != "" {
					a.out.line("commit  %s", v.Revision)
				}
				a.out.line("go      %s", v.Go)
				a.out.line("sqlite  %s", v.SQLite)
				a.out.line("on      %s", v.Platform)
			}})
		},
	}
}
