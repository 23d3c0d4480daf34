package schema

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckTellsAllThatDoesNotFit(t *testing.T) {
	s, err := Compile([]byte(`{"type": "object", "required": ["a"], "properties": {"a/b": {"type": "integer"}, "list": {"items": {"format": "email"}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for data, want := range map[string][]string{
		`{"a": 1}`:                    nil,
		`{"a/b": "x", "list": ["y"]}`: {"missing property 'a'", "/a~1b: got string, want integer", "/list/0: 'y' is not valid email"},
		`{`:                           {"it is no JSON"},
	} {
		err := s.CheckJSON([]byte(data))
		var faults Faults
		if errors.As(err, &faults) != (want != nil) {
			t.Errorf("%s: %v", data, err)
		}
		for _, text := range want {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v, which does not say %q", data, err, text)
			}
		}
	}
	if err := s.Check(map[string]any{"a": 1}); err != nil {
		t.Error(err)
	}
}

func TestASchemaIsClosed(t *testing.T) {
	for _, schema := range []string{`{"$ref": "https://example.org/x.json"}`, `{"$ref": "file:///etc/passwd"}`} {
		if _, err := Compile([]byte(schema)); err == nil || !strings.Contains(err.Error(), "is outside of the schema: copy it into $defs") {
			t.Errorf("%s: %v", schema, err)
		}
	}
	for _, schema := range []string{`{`, `{"type": "nothing"}`, `{"pattern": "("}`} {
		if _, err := Compile([]byte(schema)); err == nil || strings.Contains(err.Error(), root) {
			t.Errorf("%s: %v", schema, err)
		}
	}
}

func TestFaultsAreBounded(t *testing.T) {
	s, err := Compile([]byte(`{"items": {"type": "integer"}}`))
	if err != nil {
		t.Fatal(err)
	}
	var faults Faults
	if err := s.CheckJSON([]byte(`["a"` + strings.Repeat(`, "a"`, 1000) + `]`)); !errors.As(err, &faults) || len(faults) != MaxFaults+1 || faults[MaxFaults].Why != "and 981 more" {
		t.Errorf("%d faults: %v", len(faults), err)
	}
}
