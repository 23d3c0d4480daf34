package mcp_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/agent/mcp"
)

func TestABadToolTakesNoOtherDown(t *testing.T) {
	s := open(t, command(t, "liar"))
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	var names []string
	for _, spec := range snap.Tools {
		got[spec.Tool] = spec.Name
		names = append(names, spec.Name)
	}
	if !slices.IsSorted(names) {
		t.Errorf("the tools are not sorted: %v", names)
	}
	want := map[string]string{
		"good": "test_good", "no-schema": "test_no-schema", "local-ref": "test_local-ref", "draft-07": "test_draft-07",
		"files/read it": "test_files_read_it_72c05699", strings.Repeat("long", 20): "test_" + strings.Repeat("long", 12) + "lo_5aa1dce7",
		"wordy": "test_wordy", "hidden": "test_hidden",
	}
	for tool, name := range want {
		if got[tool] != name {
			t.Errorf("%s is called %q; want %s", tool, got[tool], name)
		}
		delete(got, tool)
	}
	if len(got) > 0 {
		t.Errorf("these were taken too: %v", got)
	}
	refused := map[string]string{}
	for _, r := range snap.Refused {
		refused[r.Tool] += r.Why + ";"
	}
	for tool, why := range map[string]string{
		"good": "another tool has its name", "deep": "levels deep", "large": "over 65536", "text-schema": "not a JSON object",
		"array-schema": "not of type object", "untyped": "not of type object", "broken": "not a JSON Schema",
		"remote": "another document", "unnamed": "it has no name;it has no name;it has no name;",
	} {
		if !strings.Contains(refused[tool], why) {
			t.Errorf("%s was refused because %q; want %q", tool, refused[tool], why)
		}
	}
	for _, spec := range snap.Tools {
		switch spec.Tool {
		case "wordy":
			if len(spec.Description) > 4<<10 || !strings.HasSuffix(spec.Description, "…") {
				t.Errorf("a description of 25 KB became %d bytes", len(spec.Description))
			}
		case "hidden":
			if spec.Description != "Reads a file.\nReally." {
				t.Errorf("the description is %q; want what can be seen of it", spec.Description)
			}
		}
	}
	tools, err := s.Bind(snap)
	if err != nil || len(tools) != len(snap.Tools) {
		t.Errorf("Bind gave %d tools, %v", len(tools), err)
	}
}

func TestAListWithoutAnEndIsRefused(t *testing.T) {
	for mode, want := range map[string]string{
		"endless": "does not end", "circle": "runs in a circle", "many": "offers 10000 tools", "nolist": "can't be read",
	} {
		t.Run(mode, func(t *testing.T) {
			s := open(t, command(t, mode))
			_, err := s.Tools(t.Context())
			var e *mcp.Error
			if !errors.As(err, &e) || !e.Fatal() || !strings.Contains(e.Error(), want) {
				t.Errorf("got %v; want %q", err, want)
			}
			if out := call(t, s, "good", `{}`); out != "good" {
				t.Errorf("after that good gave %q", out)
			}
		})
	}
}

func TestAllowFindsAFewAmongTenThousand(t *testing.T) {
	o := command(t, "many")
	o.Allow = []string{"t3", "t9999", "gone"}
	s := open(t, o)
	snap, err := s.Snapshot(t.Context())
	if err != nil || len(snap.Tools) != 2 || snap.Tools[0].Name != "test_t3" || snap.Tools[1].Name != "test_t9999" {
		t.Fatalf("got %+v, %v", snap.Tools, err)
	}
	if len(snap.Refused) != 1 || snap.Refused[0].Tool != "gone" || !strings.Contains(snap.Refused[0].Why, "does not offer it") {
		t.Errorf("refused are %+v; want the one that is gone", snap.Refused)
	}
}

func TestASnapshotNeedsNoServer(t *testing.T) {
	o := command(t, "sdk")
	first := open(t, o)
	snap, err := first.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(snap)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	var kept mcp.Snapshot
	if err := json.Unmarshal(data, &kept); err != nil {
		t.Fatal(err)
	}
	o.Command = []string{"/no/such/program"}
	o.Timeout = time.Second
	s := open(t, o)
	tools, err := s.Bind(kept)
	if err != nil || len(tools) != len(snap.Tools) {
		t.Fatalf("got %d tools, %v; want %d", len(tools), err, len(snap.Tools))
	}
	if _, err := s.Call(t.Context(), kept.Tools[0].Tool, nil); err == nil {
		t.Error("a call worked without a server")
	}
}

func TestBindRefusesWhatNoListCouldHave(t *testing.T) {
	o := command(t, "sdk")
	o.Allow = []string{"echo", "fail"}
	s := open(t, o)
	good := mcp.Spec{Name: "test_echo", Tool: "echo", Parameters: json.RawMessage(`{"type":"object"}`)}
	if _, err := s.Bind(mcp.Snapshot{Tools: []mcp.Spec{good}}); err != nil {
		t.Errorf("a good one: %v", err)
	}
	for why, change := range map[string]func(*mcp.Spec){
		"its name is not":           func(s *mcp.Spec) { s.Name = "é" },
		"what the server calls it":  func(s *mcp.Spec) { s.Tool = "" },
		"not among Options.Allow":   func(s *mcp.Spec) { s.Tool = "die" },
		"another tool has its name": func(s *mcp.Spec) { s.Tool = "fail" },
		"not of type object":        func(s *mcp.Spec) { s.Parameters = json.RawMessage(`{}`) },
		"its description has over":  func(s *mcp.Spec) { s.Description = strings.Repeat("x", 5000) },
		"its schema is not a JSON":  func(s *mcp.Spec) { s.Parameters = nil },
	} {
		bad := good
		change(&bad)
		if _, err := s.Bind(mcp.Snapshot{Tools: []mcp.Spec{good, bad}}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("got %v; want %q", err, why)
		}
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	for why, o := range map[string]mcp.Options{
		"Options.Name is":         {Name: "a_b", URL: "http://x"},
		"neither":                 {Name: "a"},
		"both":                    {Name: "a", URL: "http://x", Command: []string{"x"}},
		"is empty":                {Name: "a", Command: []string{""}},
		"negative":                {Name: "a", URL: "http://x", Timeout: -1},
		"MaxResult is over":       {Name: "a", URL: "http://x", MaxResult: 1 << 30},
		"an empty name":           {Name: "a", URL: "http://x", Allow: []string{""}},
		"must begin with http":    {Name: "a", URL: "file:///etc/passwd"},
		"not a URL":               {Name: "a", URL: "http://x:sesame@%zz"},
		"Mcp-Session-Id":          {Name: "a", URL: "http://x", Header: http.Header{"mcp-session-id": {"x"}}},
		"user or password":        {Name: "a", URL: "http://me:sesame@x"},
		"http:// or https:// and": {Name: "a", URL: "http://"},
	} {
		s, err := mcp.New(o)
		if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("got %v, %v; want %q", s, err, why)
		}
	}
}
