package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"golang.org/x/term"
)

// contexts is the file in which a person keeps servers by name.
type contexts struct {
	Current  string             `yaml:"current,omitempty"`
	Contexts map[string]*target `yaml:"contexts,omitempty"`
}

// target is a server and how to get in. It has one of the two keys, or none.
type target struct {
	Server     string `yaml:"server"`
	APIKey     string `yaml:"apiKey,omitempty"`
	APIKeyFile string `yaml:"apiKeyFile,omitempty"`
}

// shownTarget is a target as it may be shown.
type shownTarget struct {
	Name    string `json:"name"`
	Server  string `json:"server"`
	Key     string `json:"key"` // where it comes from; "" none
	Current bool   `json:"current"`
}

func (t *target) shown(name, current string) shownTarget {
	s := shownTarget{Name: name, Server: shownURL(t.Server), Current: name == current}
	switch {
	case t.APIKeyFile != "":
		s.Key = "in " + t.APIKeyFile
	case t.APIKey != "":
		s.Key = "kept here"
	}
	return s
}

// contextsFile is where the contexts are kept.
func (a *app) contextsFile() string {
	dir := a.env("XDG_CONFIG_HOME")
	if dir == "" && a.env("HOME") != "" {
		dir = filepath.Join(a.env("HOME"), ".config")
	}
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "pawl", "config.yaml")
}

// contexts reads the file; one that is not there is empty.
func (a *app) contexts() (*contexts, error) {
	c := &contexts{Contexts: map[string]*target{}}
	file := a.contextsFile()
	data, err := os.ReadFile(file)
	if file == "" || errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, a.usage("the file of contexts: %w", err)
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, &exitError{exitUsage, fmt.Errorf("%s can't be read: %w", file, err), []string{"mend it, or begin anew: rm " + shellQuote(file)}}
	}
	if c.Contexts == nil {
		c.Contexts = map[string]*target{}
	}
	for name, t := range c.Contexts {
		if t == nil || t.Server == "" {
			return nil, a.usage("%s: the context %q has no server", file, name)
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, a.usage("the file of contexts: %w", err)
	}
	if open := info.Mode().Perm()&0o077 != 0; open && runtime.GOOS != "windows" && c.hasKeys() {
		return nil, &exitError{exitUsage, fmt.Errorf("%s holds keys, and others on this machine can read it", file), []string{"close it: chmod 600 " + shellQuote(file)}}
	}
	return c, nil
}

func (c *contexts) hasKeys() bool {
	for _, t := range c.Contexts {
		if t.APIKey != "" {
			return true
		}
	}
	return false
}

// save writes the file whole or not at all.
func (a *app) save(c *contexts) error {
	file := a.contextsFile()
	if file == "" {
		return a.usage("there is no place to keep contexts in: set XDG_CONFIG_HOME or HOME")
	}
	data, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("keep the context: %w", err)
	}
	if err := writePrivate(file, data); err != nil {
		return fmt.Errorf("keep the context: %w", err)
	}
	return nil
}

// writePrivate replaces a file by one that only its owner can read. Who looks meanwhile
// sees the old one or the new one.
func writePrivate(file string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error says more
	}
	return err
}

func (a *app) contextNames() []string {
	c, err := a.contexts()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(c.Contexts))
}

func (a *app) noContext(c *contexts, name string) error {
	e := &exitError{exitNotFound, fmt.Errorf("there is no context %q", name), []string{"make it: " + a.self + " context set " + shellQuote(name) + " --server URL"}}
	if names := slices.Sorted(maps.Keys(c.Contexts)); len(names) > 0 {
		e.err = fmt.Errorf("there is no context %q; there are: %s", name, strings.Join(names, ", "))
	}
	return e
}

func (a *app) contextCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use:   "context",
		Short: "Keep servers and their keys by name",
		Long: `Keep servers and their keys by name, in $XDG_CONFIG_HOME/pawl/config.yaml, which only you can
read. Which server a command asks: --server, --context, $PAWL_SERVER, $PAWL_CONTEXT, then the
context in use, then ` + defaultServer + `. Keys are never printed.`,
		Aliases: []string{"contexts"},
		Example: a.examples("context set prod --server https://pawl.example.com --api-key-file prod.key", "context use prod"),
	}, a.contextListCommand(), a.contextUseCommand(), a.contextSetCommand(), a.contextShowCommand(), a.contextDeleteCommand())
}

func (a *app) contextListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List contexts",
		Example: a.examples("context list", "context list -o name"),
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := a.contexts()
			if err != nil {
				return err
			}
			list := struct {
				Items []shownTarget `json:"items"`
			}{[]shownTarget{}}
			var rows [][]any
			for _, name := range slices.Sorted(maps.Keys(c.Contexts)) {
				t := c.Contexts[name].shown(name, c.Current)
				list.Items = append(list.Items, t)
				mark := ""
				if t.Current {
					mark = "*"
				}
				rows = append(rows, []any{t.Name, mark, t.Server, t.Key})
			}
			body, err := json.Marshal(list)
			if err != nil {
				return err
			}
			return a.show(view{body: body, of: shownTarget{}, list: true, name: "name", table: func() {
				if len(rows) == 0 {
					a.note("no contexts; make one: %s", style(a.self+" context set NAME --server URL"))
					return
				}
				a.table(columns{"NAME", "IN USE", "SERVER", "KEY"}, rows)
			}})
		},
	}
}

// named is a command on one context that exists.
func (a *app) named(use, short string, examples []string, do func(c *contexts, name string) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " NAME", Short: short, Example: a.examples(examples...),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeLocal(a.contextNames),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := a.contexts()
			if err != nil {
				return err
			}
			if c.Contexts[args[0]] == nil {
				return a.noContext(c, args[0])
			}
			return do(c, args[0])
		},
	}
}

func (a *app) contextUseCommand() *cobra.Command {
	none := false
	cmd := a.named("use", "Ask this server from now on", []string{"context use prod", "context use --none"}, func(c *contexts, name string) error {
		c.Current = name
		if err := a.save(c); err != nil {
			return err
		}
		a.inUse(c)
		return nil
	})
	cmd.Flags().BoolVar(&none, "none", false, "no context any more: ask "+defaultServer)
	one := cmd.RunE
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if none && len(args) == 0 {
			return nil
		}
		if none {
			return errors.New("a NAME and --none are two things; give one")
		}
		return cobra.ExactArgs(1)(cmd, args)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !none {
			return one(cmd, args)
		}
		c, err := a.contexts()
		if err != nil {
			return err
		}
		c.Current = ""
		if err := a.save(c); err != nil {
			return err
		}
		a.note("from now on %s is asked, if nothing else is said", defaultServer)
		return nil
	}
	return cmd
}

// inUse says whom commands ask from now on, and how to end that.
func (a *app) inUse(c *contexts) {
	a.note("from now on commands ask %s; no context any more: %s", c.Contexts[c.Current].shown(c.Current, c.Current).Server, style(a.self+" context use --none"))
}

func (a *app) contextDeleteCommand() *cobra.Command {
	return a.named("delete", "Forget a context", []string{"context delete prod", "context delete old-staging"}, func(c *contexts, name string) error {
		delete(c.Contexts, name)
		if c.Current == name {
			c.Current = ""
		}
		return a.save(c)
	})
}

func (a *app) contextSetCommand() *cobra.Command {
	var stdin bool
	cmd := &cobra.Command{
		Use:   "set NAME --server URL",
		Short: "Make or change a context",
		Long: `Make or change a context. A key is read from a file each time it is used (--api-key-file),
or from standard input once and kept in the file of contexts (--api-key-stdin); never from the
command line, which others on the machine can see. The first context is in use at once.`,
		Example: a.examples("context set prod --server https://pawl.example.com --api-key-file prod.key", "context set prod --server https://pawl.example.com --api-key-stdin < prod.key"),
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) (err error) {
			c, err := a.contexts()
			if err != nil {
				return err
			}
			name := args[0]
			t := c.Contexts[name]
			if t == nil {
				t = &target{}
			}
			if a.server != "" && a.server != t.Server {
				*t = target{Server: a.server} // another server must not get this one's key
			}
			if t.Server == "" {
				return a.usage("where is %s? give --server URL", name)
			}
			if _, err := api.NewClient(t.Server, nil); err != nil {
				return a.usage("%w", err)
			}
			switch {
			case stdin && a.keyFile != "":
				return a.usage("--api-key-file and --api-key-stdin are two keys; give one")
			case stdin:
				t.APIKeyFile = ""
				t.APIKey, err = a.askKey()
			case a.keyFile != "":
				t.APIKey = ""
				if _, err = a.readKey("--api-key-file", a.keyFile); err == nil {
					t.APIKeyFile, err = filepath.Abs(a.keyFile)
				}
			}
			if err != nil {
				return err
			}
			c.Contexts[name] = t
			first := c.Current == ""
			if first {
				c.Current = name
			}
			if err := a.save(c); err != nil {
				return err
			}
			if first {
				a.inUse(c)
			}
			if c.Current != name {
				a.note("kept; use it: %s", style(a.self+" context use "+shellQuote(name)))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&stdin, "api-key-stdin", false, "read the key from standard input and keep it")
	return cmd
}

// askKey reads a key from standard input; a terminal does not show it.
func (a *app) askKey() (string, error) {
	var data []byte
	var err error
	if f, ok := a.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(a.stderr, "key: ")
		data, err = term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.stderr)
	} else {
		data, err = io.ReadAll(io.LimitReader(a.stdin, 4096))
	}
	key := strings.TrimSpace(string(data))
	if err == nil && (key == "" || strings.ContainsAny(key, " \t\r\n")) {
		err = a.usage("standard input is not one key")
	}
	return key, err
}

func (a *app) contextShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show [NAME]", Short: "Show a context, or which server would be asked now",
		Example:           a.examples("context show", "context show prod -o json"),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeLocal(a.contextNames),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := a.contexts()
			if err != nil {
				return err
			}
			var t shownTarget
			if len(args) == 1 {
				if c.Contexts[args[0]] == nil {
					return a.noContext(c, args[0])
				}
				t = c.Contexts[args[0]].shown(args[0], c.Current)
			} else if err = a.connect(); err != nil {
				return err
			} else {
				t = a.meant
			}
			body, err := json.Marshal(t)
			if err != nil {
				return err
			}
			return a.show(view{body: body, of: t, name: "name", table: func() {
				a.fact("context", t.Name)
				a.fact("server", t.Server)
				a.fact("key", t.Key)
			}})
		},
	}
}

// fact prints a name and a value, if there is one.
func (a *app) fact(name string, value any) {
	s, ok := value.(style)
	if !ok {
		s = style(oneLine(fmt.Sprint(value)))
	}
	if s != "" {
		a.out.line("%s %s", a.out.dim(fmt.Sprintf("%-11s", name)), s)
	}
}
