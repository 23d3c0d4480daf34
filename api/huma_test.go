package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/api"
)

// What huma would say of a request it can't read is said in the words and the form of this package.
func TestNoErrorOfHumaReachesACaller(t *testing.T) {
	h := open(t, api.Options{})
	for path, want := range map[string]string{
		"/api/runs?limit=many":                 "limit is",
		"/api/runs?limit=99999999999999999999": "limit is",
		"/api/runs?limit=501":                  "500",
		"/api/runs?cursor=%00":                 "cursor",
		"/api/costs?by=colour":                 "by is",
		"/api/costs?family=1":                  "family is",
		"/api/runs/x/journal?after=%FF":        "after is",
		"/api/runs/x?wait=1":                   "90s",
	} {
		if p := h.refused(400, "bad_request", "GET", path, ""); !strings.Contains(p.Detail, want) || strings.Contains(p.Detail, "validation failed") {
			t.Errorf("%s: %q does not say %q", path, p.Detail, want)
		}
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	// What a request says of its form, or wishes of the answer's, changes nothing: both are JSON.
	for _, accept := range []string{"text/html", "application/xml;q=1, */*;q=0", "application/cbor", "nonsense"} {
		if r := h.send("GET", "/api/runs", "", header("Accept", accept)); r.status != 200 || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("Accept %s: %d %s", accept, r.status, r.header.Get("Content-Type"))
		}
		h.refused(404, "not_found", "GET", "/api/runs/none", "", header("Accept", accept))
	}
	for _, kind := range []string{"application/xml", "multipart/form-data; boundary=x", "application/json; charset=utf-16", ";"} {
		if r := h.send("POST", "/api/runs", `{"workflow":"waits"}`, header("Content-Type", kind)); r.status != 202 {
			t.Errorf("Content-Type %s: %d %s", kind, r.status, r.body)
		}
		h.refused(400, "bad_request", "POST", "/api/runs", `<xml/>`, header("Content-Type", kind))
	}
	h.refused(400, "bad_request", "POST", "/api/runs", `{"workflow":"waits","deadline":"tomorrow"}`)
	h.refused(400, "bad_request", "POST", "/api/runs", `{"workflow":"waits","attributes":[]}`)
}
