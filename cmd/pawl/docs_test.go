package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write testdata and the tables of docs/cli.md anew")

func commands(t *testing.T) *cobra.Command {
	t.Helper()
	a := &app{self: "pawl", env: environment{}.get, stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, cancel: func() {}}
	root := a.root()
	a.completionHelp(root)
	root.SetContext(context.Background())
	return root
}

func each(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, child := range cmd.Commands() {
		if !child.Hidden && child.Name() != "help" {
			each(child, do)
		}
	}
}

func TestEveryCommandHasHelpAndTwoExamples(t *testing.T) {
	root := commands(t)
	each(root, func(cmd *cobra.Command) {
		n := 0
		for line := range strings.Lines(cmd.Example) {
			words := strings.Fields(line)
			for len(words) > 0 && strings.Contains(words[0], "=") { // variables of the environment
				words = words[1:]
			}
			if len(words) > 0 && words[0] == "curl" {
				continue
			}
			if len(words) == 0 || words[0] != "pawl" {
				t.Errorf("%s: an example that does not call pawl: %s", cmd.CommandPath(), line)
				continue
			}
			found, _, err := root.Find(words[1:])
			if err != nil || found == root && len(words) > 1 && words[1][0] != '-' {
				t.Errorf("%s: there is no command as in: %s", cmd.CommandPath(), line)
				continue
			}
			for _, word := range words[1:] {
				name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
				if strings.HasPrefix(word, "--") && found.Flag(name) == nil {
					t.Errorf("%s: %s has no flag %s: %s", cmd.CommandPath(), found.CommandPath(), word, line)
				}
			}
			n++
		}
		if n < 2 || cmd.Short == "" {
			t.Errorf("%s has %d examples, and says %q of itself", cmd.CommandPath(), n, cmd.Short)
		}
		if cmd.HasParent() && cmd.Parent() == root && cmd.GroupID == "" {
			t.Errorf("%s is in no group", cmd.CommandPath())
		}
	})
}

func TestHelpIsGolden(t *testing.T) {
	for args, file := range map[string]string{"--help": "help.txt", "runs --help": "help-runs.txt", "runs cancel --help": "help-runs-cancel.txt"} {
		got := pawlWith(t, environment{}, "", strings.Fields(args)...).want(t, 0).stdout
		compare(t, filepath.Join("testdata", file), got)
	}
}

// compare holds got against a file, or with -update writes it.
func compare(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s is not what the program says now; if that is right: go test ./cmd/pawl -run 'Golden|Docs' -update\n%s", file, got)
	}
}

// The tables of docs/cli.md are made of the commands and the settings.
func TestDocsAreTheProgramsOwn(t *testing.T) {
	var list strings.Builder
	root := commands(t)
	fmt.Fprintf(&list, "| command | what it does |\n|---|---|\n")
	each(root, func(cmd *cobra.Command) {
		if !cmd.HasSubCommands() {
			fmt.Fprintf(&list, "| `%s` | %s |\n", strings.Replace(cmd.UseLine(), " [flags]", "", 1), cmd.Short)
		}
	})
	var flags strings.Builder
	fmt.Fprintf(&flags, "| flag | what it says |\n|---|---|\n")
	for line := range strings.Lines(root.PersistentFlags().FlagUsagesWrapped(0)) {
		if name, says, ok := strings.Cut(strings.TrimSpace(line), "   "); ok {
			fmt.Fprintf(&flags, "| `%s` | %s |\n", name, strings.ReplaceAll(strings.TrimSpace(says), "|", `\|`))
		}
	}
	file := filepath.Join("..", "..", "docs", "cli.md")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	for name, table := range map[string]string{"commands": list.String(), "flags": flags.String(), "settings": settingsTable()} {
		begin, end := "<!-- "+name+": made by a test -->\n", "<!-- end -->"
		head, rest, ok := strings.Cut(page, begin)
		_, tail, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("docs/cli.md has no place for the %s", name)
		}
		page = head + begin + table + end + tail
	}
	compare(t, file, page)
}

func settingsTable() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| in the file | environment | flag | default | what it says |\n|---|---|---|---|---|\n")
	v := reflect.ValueOf(defaultSettings())
	code := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + s + "`"
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		value := strings.Trim(fmt.Sprint(v.Field(i).Interface()), "[]")
		name, flag := field.Tag.Get("yaml"), field.Tag.Get("flag")
		if name == "-" {
			name = ""
		}
		if flag != "" {
			flag = "--" + flag
		}
		variable := "`" + field.Tag.Get("env") + "`"
		if also := field.Tag.Get("also"); also != "" {
			variable += ", or `" + also + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", code(name), variable, code(flag), code(value), field.Tag.Get("help"))
	}
	return b.String()
}
