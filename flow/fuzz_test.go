package flow

import (
	"net/url"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// A path that was read is written so that it is read as the same, and what it names is found or is not there.
func FuzzPath(f *testing.F) {
	for _, text := range []string{"a", "steps.check-severity.output[0]['two words'][\"x\"]", "a['it\\'s \\\\ \\\"']", "a[99999999999]", "a[", "a['", "a.", "ü", "a['']", "_-.-"} {
		f.Add(text)
	}
	scope := map[string]any{"a": map[string]any{"b": []any{1.5, nil, "x"}, "": "y", "é": true}, "steps": nil}
	f.Fuzz(func(t *testing.T, text string) {
		path, err := ParsePath(text)
		if err != nil {
			return
		}
		again, err := ParsePath(path.String())
		if utf8.ValidString(text) && len(path.String()) <= maxPath && (err != nil || !reflect.DeepEqual(again, path)) {
			t.Errorf("%q is written %q, and read as %v, %v", text, path, again, err)
		}
		_, _ = path.Lookup(scope)
	})
}

// What is filled in stands there as it is, whatever it looks like, and is not read as a template.
func FuzzTemplate(f *testing.F) {
	for _, source := range []string{"a {{variables.x}} b", "{{{{ {{variables.x ?? 'none'}}", "{{?variables.y}}{{variables.x | upper}}", "{{variables.x", "}}{{", "{{variables['x'] | default: 1 | truncate: 3}}", "${{variables.x}}"} {
		f.Add(source, "{{variables.secret}}")
		f.Add(source, "\x00\xff")
	}
	f.Fuzz(func(t *testing.T, source, data string) {
		made, faults := parseTemplate(source)
		if (made == nil) != (len(faults) > 0 || !strings.Contains(source, "{{")) {
			t.Fatalf("%q: %v, %v", source, made, faults)
		}
		if made == nil {
			return
		}
		out, err := made.text(newFilling(map[string]any{"variables": map[string]any{"x": data, "secret": "s3cret"}}), nil)
		if err != nil || strings.Contains(source+data, "s3cret") {
			return
		}
		reads := false
		for _, u := range made.paths() {
			reads = reads || len(u.path) < 2 || u.path[1].Name == "secret"
		}
		if !reads && strings.Contains(out, "s3cret") {
			t.Errorf("%q with %q is %q", source, data, out)
		}
		var want strings.Builder
		for _, p := range made.parts {
			switch {
			case p.path == nil:
				want.WriteString(p.text)
			case p.path.String() == "variables.x" && len(p.filters) == 0:
				want.WriteString(data)
			default:
				return
			}
		}
		if out != want.String() {
			t.Errorf("%q with %q is %q, want %q", source, data, out, want.String())
		}
	})
}

// No data leads to another host, another path's depth, another parameter or a fragment.
func FuzzAddress(f *testing.F) {
	for _, data := range []string{"a/b", "..", "%2e%2e", "x?y=1#z", "@evil.example", "\\evil", "a&b=c", "\r\nHost: evil", "ü", "\xff"} {
		f.Add(data)
	}
	made, faults := parseTemplate("https://example.org/a/{{variables.x}}/b?q={{variables.x}}&r=1")
	if faults != nil {
		f.Fatal(faults)
	}
	f.Fuzz(func(t *testing.T, data string) {
		text, err := made.text(newFilling(map[string]any{"variables": map[string]any{"x": data}}), intoURL)
		if err != nil {
			return
		}
		u, err := url.Parse(text)
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if u.Host != "example.org" || u.User != nil || u.Fragment != "" || strings.Count(u.EscapedPath(), "/") != 3 || u.Path != "/a/"+data+"/b" || u.Query().Get("q") != data || len(u.Query()) != 2 {
			t.Errorf("%q makes %s", data, text)
		}
	})
}
