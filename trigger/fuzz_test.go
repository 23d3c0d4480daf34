package trigger

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
)

// Whatever comes to a route, it is read or refused: its input is JSON, and a delivery's name is none of another's.
func FuzzArrival(f *testing.F) {
	f.Add([]byte(`{"id": 7, "a": {"b": [1, {"c~/": "x"}]}}`), "/id", "/body/a/b/1/c~0~1", false)
	f.Add([]byte("a=1&a=2&%ff=x&b"), "/a", "/body/a", true)
	f.Add([]byte(`{"id": "`+"\xff"+`"} x`), "header:X-Id", "/headers/x-id", false)
	f.Add([]byte(nil), "", "/query/", false)
	f.Fuzz(func(t *testing.T, body []byte, dedupe, place string, form bool) {
		r := Route{ID: "flow:f:0", Owner: "flow:f", Path: "/x", Workflow: "f", Scheme: None, Dedupe: dedupe, Form: form, Input: Places{"v": place}}
		if CheckRoute(r) != nil {
			return
		}
		a := Arrival{Method: http.MethodPost, Header: http.Header{"X-Id": {"\xff1"}}, Query: url.Values{"": {"q"}}, Body: body}
		value, err := r.read(&a)
		if err != nil {
			return
		}
		id, err := r.delivery(&a, value)
		if err != nil {
			return
		}
		if id == "" && dedupe != "" {
			t.Errorf("%q finds no name of the delivery, and says so nowhere", dedupe)
		}
		if input, err := r.input(&a, id, value); err == nil && !json.Valid(input) {
			t.Errorf("%q: the input is %q", body, input)
		}
	})
}

// A path that a webhook may have is one that is asked for as it is written, and none of the server's own.
func FuzzCheckPath(f *testing.F) {
	for _, p := range []string{"/hooks/x", "/api", "/API/x", "/a/../api", "/a//b", "/a%2f", "/.well-known/x", "/apix", "/ui/", "/%61pi", "/a;b", "/./api", "/0\"", "/a|b", "/a!b'"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if CheckPath(p) != nil {
			return
		}
		u, err := url.Parse(p)
		if err != nil || u.Path != p || u.EscapedPath() != p || path.Clean(p) != p {
			t.Fatalf("%q is asked for as %v, %v", p, u, err)
		}
		for _, r := range ReservedPaths {
			if low := strings.ToLower(p); low == r || strings.HasPrefix(low, r+"/") {
				t.Errorf("%q is the server's own", p)
			}
		}
	})
}
