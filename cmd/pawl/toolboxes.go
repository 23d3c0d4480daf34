package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/agent/mcp"
	"github.com/pawlrun/pawl/flow"
	"go.yaml.in/yaml/v3"
)

// mcpSetting is a server of tools, which agents of flows name as mcp:NAME.
type mcpSetting struct {
	Command     []string          `yaml:"command"` // a program and its arguments, or
	URL         string            `yaml:"url"`     // the endpoint of a server
	Env         map[string]string `yaml:"env"`     // of the command, besides PATH and HOME
	EnvFiles    map[string]string `yaml:"envFiles"`
	Header      map[string]string `yaml:"header"`
	HeaderFiles map[string]string `yaml:"headerFiles"` // each has the value of one
	Allow       []string          `yaml:"allow"`       // names of tools; none: all
}

// mcpSettings are all of them, by name.
type mcpSettings map[string]mcpSetting

// UnmarshalText reads them from a variable of the environment.
func (m *mcpSettings) UnmarshalText(text []byte) error {
	return readByName(text, (*map[string]mcpSetting)(m), "servers of tools are written as {NAME: {command: [PROGRAM, ARGUMENT]}}, or {NAME: {url: https://…, headerFiles: {Authorization: FILE}}}, with allow: [TOOL]")
}

// UnmarshalYAML reads them from the file of settings.
func (m *mcpSettings) UnmarshalYAML(n *yaml.Node) error { return readNode(n, m) }

// String names the servers and no key.
func (m mcpSettings) String() string {
	return showByName(m, func(one mcpSetting) string {
		if len(one.Command) > 0 {
			return one.Command[0]
		}
		return shownURL(one.URL)
	})
}

// inline reports whether a key itself may be given, and not only its file.
func (m mcpSettings) inline() bool {
	for _, one := range m {
		if len(one.Header) > 0 || len(one.Env) > 0 {
			return true
		}
	}
	return false
}

// withFiles are values, and those that stand in files.
func withFiles(values, files map[string]string) (map[string]string, error) {
	all := maps.Clone(values)
	if all == nil {
		all = map[string]string{}
	}
	for name, file := range files {
		if _, twice := all[name]; twice {
			return nil, fmt.Errorf("%s is given twice, itself and as a file", name)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		all[name] = strings.TrimSpace(string(data))
	}
	return all, nil
}

// mcp makes the servers of tools. A command is started, and a server asked, by the first run that needs it.
func (c *called) mcp(a *app, servers mcpSettings) error {
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		one := servers[name]
		env, err := withFiles(one.Env, one.EnvFiles)
		if err != nil {
			return fmt.Errorf("mcp: %s: %w", name, err)
		}
		header, err := withFiles(one.Header, one.HeaderFiles)
		if err != nil {
			return fmt.Errorf("mcp: %s: %w", name, err)
		}
		opt := mcp.Options{Name: name, Command: one.Command, URL: one.URL, Allow: one.Allow}
		if len(one.Command) == 0 && len(env) > 0 {
			return fmt.Errorf("mcp: %s: env is for a command", name)
		}
		if one.URL == "" && len(header) > 0 {
			return fmt.Errorf("mcp: %s: header is for a url", name)
		}
		if len(one.Command) > 0 {
			for _, usual := range []string{"PATH", "HOME"} {
				if _, given := env[usual]; !given && a.env(usual) != "" {
					env[usual] = a.env(usual)
				}
			}
			for _, key := range slices.Sorted(maps.Keys(env)) {
				opt.Env = append(opt.Env, key+"="+env[key])
			}
		}
		for key, value := range header {
			if opt.Header == nil {
				opt.Header = http.Header{}
			}
			opt.Header.Set(key, value)
		}
		made, err := mcp.New(opt)
		if err != nil {
			return fmt.Errorf("mcp: %w", err)
		}
		c.boxes[name] = toolbox(made)
		c.closers = append(c.closers, made.Close)
	}
	return nil
}

func toolbox(s *mcp.Server) flow.Toolbox {
	return flow.Toolbox{
		List: func(ctx context.Context) (json.RawMessage, error) {
			snapshot, err := s.Snapshot(ctx)
			if err != nil {
				return nil, err
			}
			return json.Marshal(snapshot)
		},
		Bind: func(list json.RawMessage) ([]agent.Tool, error) {
			var snapshot mcp.Snapshot
			if err := json.Unmarshal(list, &snapshot); err != nil {
				return nil, fmt.Errorf("the list of the tools of %s: %w", s.Name(), err)
			}
			return s.Bind(snapshot)
		},
	}
}
