package mcp

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// The limits of a list.
const (
	maxPages       = 1000
	maxListed      = 20_000 // tools that are looked at, allowed or not
	maxListBytes   = 4 * maxMessage
	maxDescription = 4 << 10 // bytes; the rest of a description is cut
	maxSchema      = 64 << 10
	maxSchemaDepth = 32
	maxToolName    = 256 // bytes of the server's name of a tool
)

// Snapshot asks the server for its tools, all pages of them, and returns those that
// Options.Allow allows and that can be used. Others are in Refused, each with the reason; a
// tool that Allow names and the server does not offer is there too.
//
// A tool is called server_tool, in at most 64 characters of [A-Za-z0-9_-]. Where its own
// name has others, or is too long, they become "_" or are cut, and "_" and 8 hexadecimal
// digits of the SHA-256 of its own name follow. So a tool's name depends on nothing but the
// two names. Of two tools that still have one name the first is taken and the other refused.
//
// A description is cut at 4 KiB, and loses control characters and those that can't be seen. A
// schema must be a JSON Schema of type object, in at most 64 KiB and 32 levels, with
// references into itself only; else its tool is refused.
//
// The list as a whole fails if the server can't be asked, if its list does not end within
// 1,000 pages, 20,000 tools or 32 MiB, or if more than Options.MaxTools are left.
func (s *Server) Snapshot(ctx context.Context) (Snapshot, error) {
	var listed []json.RawMessage
	_, err := s.request(ctx, "", func(ctx context.Context, sess *session) (json.RawMessage, error) {
		var err error
		listed, err = s.pages(ctx, sess)
		return nil, err
	})
	if err != nil {
		return Snapshot{}, err
	}
	snap := Snapshot{Tools: []Spec{}}
	byName, offered := make(map[string]bool), make(map[string]bool)
	for _, raw := range listed {
		spec, why := s.specOf(raw)
		if !s.allows(spec.Tool) {
			continue
		}
		if why == "" && byName[spec.Name] {
			why = "another tool has its name"
		}
		offered[spec.Tool] = true
		if why != "" {
			snap.Refused = append(snap.Refused, Refused{Tool: named(spec.Tool), Why: why})
			continue
		}
		byName[spec.Name] = true
		snap.Tools = append(snap.Tools, spec)
	}
	for _, tool := range s.o.Allow {
		if !offered[tool] {
			snap.Refused = append(snap.Refused, Refused{Tool: named(tool), Why: "Options.Allow names it, but the server does not offer it"})
		}
	}
	if len(snap.Tools) > s.o.MaxTools {
		return Snapshot{}, s.about("", &Error{Kind: TooLarge, Message: fmt.Sprintf(
			"it offers %d tools, and at most %d are taken; name those you want in Options.Allow, or raise Options.MaxTools", len(snap.Tools), s.o.MaxTools)})
	}
	slices.SortFunc(snap.Tools, func(a, b Spec) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(snap.Refused, func(a, b Refused) int { return cmp.Compare(a.Tool, b.Tool) })
	if len(snap.Refused) > s.o.MaxTools {
		more := len(snap.Refused) - s.o.MaxTools
		snap.Refused = append(snap.Refused[:s.o.MaxTools], Refused{Tool: "others", Why: fmt.Sprintf("%d more tools were refused", more)})
	}
	return snap, nil
}

// pages returns the tools that the server lists, as they came.
func (s *Server) pages(ctx context.Context, sess *session) ([]json.RawMessage, error) {
	var tools []json.RawMessage
	cursor, size := "", 0
	seen := make(map[string]bool)
	for range maxPages {
		result, err := s.do(ctx, sess, stubList, func(ctx context.Context) error {
			_, err := sess.sdk.ListTools(ctx, &sdk.ListToolsParams{Cursor: cursor})
			return err
		})
		if err != nil {
			return nil, err
		}
		page, next, ok := splitPage(result)
		if !ok {
			return nil, &Error{Kind: Malformed, Message: "the server's list of tools can't be read"}
		}
		tools = append(tools, page...)
		size += len(result)
		switch {
		case next == "":
			return tools, nil
		case seen[next]:
			return nil, &Error{Kind: Malformed, Message: "the server's list of tools runs in a circle"}
		case len(tools) > maxListed || size > maxListBytes:
			return nil, &Error{Kind: TooLarge, Message: fmt.Sprintf("the server's list of tools is over %d tools or %d bytes", maxListed, maxListBytes)}
		}
		seen[next], cursor = true, next
	}
	return nil, &Error{Kind: TooLarge, Message: fmt.Sprintf("the server's list of tools does not end within %d pages", maxPages)}
}

func splitPage(result json.RawMessage) (tools []json.RawMessage, next string, ok bool) {
	fields, ok := object(result)
	if !ok || json.Unmarshal(fields["tools"], &tools) != nil {
		return nil, "", false
	}
	if c := fields["nextCursor"]; len(c) > 0 && json.Unmarshal(c, &next) != nil {
		return nil, "", false
	}
	return tools, next, true
}

// stubList is a page in the SDK's eyes: the tools that it can read. It keeps their schemas,
// from which it makes headers of calls, and no time for which to cache them, as a list is
// asked for only when it is wanted anew.
func stubList(result json.RawMessage) json.RawMessage {
	type tool struct {
		Name        string          `json:"name"`
		InputSchema json.RawMessage `json:"inputSchema"`
	}
	kept := []tool{}
	page, _, _ := splitPage(result)
	for _, raw := range page {
		var t tool
		fields, ok := object(raw)
		if !ok || json.Unmarshal(fields["name"], &t.Name) != nil || t.Name == "" {
			continue
		}
		t.InputSchema = fields["inputSchema"]
		if _, ok := object(t.InputSchema); ok && len(t.InputSchema) <= maxSchema && depth(t.InputSchema) <= maxSchemaDepth {
			kept = append(kept, t)
		}
	}
	out, err := json.Marshal(map[string]any{"tools": kept})
	if err != nil {
		return json.RawMessage(`{"tools":[]}`)
	}
	return out
}

// specOf makes a Spec of a tool, or says why it can't be used.
func (s *Server) specOf(raw json.RawMessage) (spec Spec, why string) {
	fields, ok := object(raw)
	if !ok || json.Unmarshal(fields["name"], &spec.Tool) != nil || spec.Tool == "" {
		return Spec{}, "it has no name"
	}
	if len(spec.Tool) > maxToolName {
		return spec, fmt.Sprintf("its name has over %d bytes", maxToolName)
	}
	spec.Name = nameOf(s.o.Name, spec.Tool)
	for _, field := range []string{"description", "title"} {
		if json.Unmarshal(fields[field], &spec.Description) == nil && spec.Description != "" {
			break
		}
	}
	spec.Description = shorten(plain(spec.Description), maxDescription-len("…"))
	spec.Parameters = fields["inputSchema"]
	if len(spec.Parameters) == 0 || string(spec.Parameters) == "null" {
		spec.Parameters = json.RawMessage(`{"type":"object","properties":{}}`)
	}
	return spec, schemaFlaw(spec.Parameters)
}

// plain returns s without control characters and without those that can't be seen and only
// serve to hide text from people: Unicode's formats, but for the joiners that scripts need.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\u200C' || r == '\u200D':
			return r
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// schemaFlaw says why schema can't be that of a tool's arguments, or "". Models' providers
// refuse a whole request for one bad schema, so it must be looked for here.
func schemaFlaw(schema json.RawMessage) string {
	switch {
	case len(schema) > maxSchema:
		return fmt.Sprintf("its schema has %d bytes, over %d", len(schema), maxSchema)
	case depth(schema) > maxSchemaDepth:
		return fmt.Sprintf("its schema is over %d levels deep", maxSchemaDepth)
	}
	fields, ok := object(schema)
	if !ok {
		return "its schema is not a JSON object"
	}
	var kind string
	if json.Unmarshal(fields["type"], &kind) != nil || kind != "object" {
		return "its schema is not of type object"
	}
	var read jsonschema.Schema
	if err := json.Unmarshal(schema, &read); err != nil {
		return "its schema is not a JSON Schema: " + words(err.Error())
	}
	var all any
	if json.Unmarshal(schema, &all) != nil || !refsInside(all) {
		return "its schema refers to another document"
	}
	return ""
}

func refsInside(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if ref, ok := value.(string); ok && (key == "$ref" || key == "$dynamicRef") && !strings.HasPrefix(ref, "#") {
				return false
			}
			if !refsInside(value) {
				return false
			}
		}
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !refsInside(e) })
	}
	return true
}

// depth is how deep data is nested; strings are skipped.
func depth(data []byte) (most int) {
	level, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			level++
			most = max(most, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return most
}
