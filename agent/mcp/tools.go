package mcp

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/pawlrun/pawl/agent"
)

// Snapshot is what a server offers, as it can be kept: in a file, in a step's result. Its
// JSON form is stable. It may be edited, to describe a tool in other words or leave it out.
type Snapshot struct {
	Tools   []Spec    `json:"tools"`             // sorted by Name
	Refused []Refused `json:"refused,omitempty"` // those that were left out, and why
}

// Spec describes one tool.
type Spec struct {
	Name        string          `json:"name"` // what models call it
	Tool        string          `json:"tool"` // what the server calls it
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters"` // a JSON Schema of type object
}

// Refused is a tool that was left out of a list.
type Refused struct {
	Tool string `json:"tool"`
	Why  string `json:"why"`
}

// Tools lists the server's tools, as [Server.Snapshot] does, and makes them with
// [Server.Bind]. Those that were refused are logged. What is listed depends on the server,
// so see the package's documentation on when to ask.
func (s *Server) Tools(ctx context.Context) ([]agent.Tool, error) {
	snap, err := s.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range snap.Refused {
		s.log.WarnContext(ctx, "mcp tool left out", "tool", r.Tool, "why", r.Why)
	}
	return s.Bind(snap)
}

// Bind makes the tools of a snapshot. It does not ask the server, and works after Close and
// before the first session: only a call needs one. It is an error if a spec is not one that
// Snapshot could have given, or names a tool that is not among Options.Allow.
func (s *Server) Bind(snap Snapshot) ([]agent.Tool, error) {
	tools := make([]agent.Tool, 0, len(snap.Tools))
	seen := make(map[string]bool, len(snap.Tools))
	for i, spec := range snap.Tools {
		why := spec.flaw()
		switch {
		case why != "":
		case !s.allows(spec.Tool):
			why = "it is not among Options.Allow"
		case seen[spec.Name]:
			why = "another tool has its name"
		}
		if why != "" {
			return nil, fmt.Errorf("mcp server %s: tool %d of the snapshot (%s): %s", s.o.Name, i, named(spec.Name), why)
		}
		seen[spec.Name] = true
		tools = append(tools, agent.NewTool(spec.Name, spec.Description, spec.Parameters, func(ctx context.Context, args json.RawMessage) (string, error) {
			return s.Call(ctx, spec.Tool, args)
		}, s.o.Steps...))
	}
	return tools, nil
}

var modelName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// flaw says what makes sp useless, or "".
func (sp *Spec) flaw() string {
	switch {
	case !modelName.MatchString(sp.Name):
		return "its name is not 1 to 64 of A-Z, a-z, 0-9, _ and -"
	case sp.Tool == "":
		return "it does not say what the server calls it"
	case len(sp.Description) > maxDescription:
		return fmt.Sprintf("its description has over %d bytes", maxDescription)
	}
	return schemaFlaw(sp.Parameters)
}
