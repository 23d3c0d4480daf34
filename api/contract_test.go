package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/openapi.json anew")

// documentOf asks a handler for its document.
func documentOf(t *testing.T) []byte {
	t.Helper()
	rec := httptest.NewRecorder()
	api.New(pawl.New(nil, nil), api.Options{}).ServeHTTP(rec, httptest.NewRequest("GET", "http://localhost/openapi.json", nil))
	if rec.Code != 200 || rec.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("GET /openapi.json: %d %s", rec.Code, rec.Body)
	}
	return rec.Body.Bytes()
}

// A change of the document is a change for callers: it is made on purpose, and seen in a review.
func TestTheDocumentIsTheOneThatWasAgreedOn(t *testing.T) {
	var got bytes.Buffer
	if err := json.Indent(&got, documentOf(t), "", "  "); err != nil {
		t.Fatal(err)
	}
	const path = "testdata/openapi.json"
	if *rewrite {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		a, b := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
		i := 0
		for i < min(len(a), len(b)) && a[i] == b[i] {
			i++
		}
		t.Errorf("the document has changed at line %d; go test ./api -run %s -rewrite writes it anew:\n got %s\nwant %s", i+1, t.Name(),
			strings.Join(a[i:min(i+3, len(a))], "\n"), strings.Join(b[i:min(i+3, len(b))], "\n"))
	}
}

// documented is an operation of the document.
type documented struct {
	OperationID string `json:"operationId"`
	Parameters  []struct{ Name, In string }
	RequestBody *struct{} `json:"requestBody"`
	Responses   map[string]struct {
		Content map[string]json.RawMessage
	}
	Security []map[string][]string

	method, path string
}

// scopes returns what keys an operation asks for: "public", "any" or a scope.
func (d documented) scope() string {
	if d.Security == nil {
		return "public"
	}
	if s := d.Security[0]["key"]; len(s) > 0 {
		return s[0]
	}
	return "any"
}

// contract holds answers against the document.
type contract struct {
	operations []documented
	compiler   *jsonschema.Compiler
	mu         sync.Mutex
	schemas    map[string]*jsonschema.Schema
	driven     map[string]bool // operations that were answered with success
}

const documentURL = "pawl:///openapi.json"

// theContract is made once: the document is the same for all servers.
var theContract = sync.OnceValues(func() (*contract, error) {
	rec := httptest.NewRecorder()
	api.New(pawl.New(nil, nil), api.Options{}).ServeHTTP(rec, httptest.NewRequest("GET", "http://localhost/openapi.json", nil))
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(rec.Body.Bytes()))
	if err != nil {
		return nil, err
	}
	c := &contract{compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}, driven: map[string]bool{}}
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(documentURL, whole); err != nil {
		return nil, err
	}
	var doc struct {
		Paths map[string]map[string]documented
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &doc); err != nil {
		return nil, err
	}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(doc.Paths[path])) {
			d := doc.Paths[path][method]
			d.path, d.method = path, strings.ToUpper(method)
			c.operations = append(c.operations, d)
		}
	}
	return c, nil
})

func newContract(t testing.TB) *contract {
	t.Helper()
	c, err := theContract()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// find returns the operation of a request: of those that fit, the one with the most literal path.
func (c *contract) find(method, escaped string) (best documented, ok bool) {
	parts := strings.Split(escaped, "/")
	literals := -1
	for _, d := range c.operations {
		want := strings.Split(d.path, "/")
		if d.method != method || len(want) != len(parts) {
			continue
		}
		n, fits := 0, true
		for i, w := range want {
			if w == parts[i] {
				n++
			} else if !strings.HasPrefix(w, "{") {
				fits = false
			}
		}
		if fits && n > literals {
			best, literals, ok = d, n, true
		}
	}
	return best, ok
}

func (c *contract) schema(t testing.TB, pointer string) *jsonschema.Schema {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.schemas[pointer]; s != nil {
		return s
	}
	s, err := c.compiler.Compile(documentURL + "#" + pointer)
	if err != nil {
		t.Errorf("the document at %s: %v", pointer, err)
		return nil
	}
	c.schemas[pointer] = s
	return s
}

// check holds one answer against what the document says of it.
func (c *contract) check(t testing.TB, method, escaped string, status int, header http.Header, body []byte) {
	t.Helper()
	media := header.Get("Content-Type")
	if plain, version, _ := strings.Cut(media, "; version="); version != "" { // of Prometheus' format
		media = plain
	}
	pointer := "/components/schemas/Problem"
	d, found := c.find(method, escaped)
	if found {
		answer, name := d.Responses[strconv.Itoa(status)], strconv.Itoa(status)
		if status >= 400 {
			answer, name = d.Responses["default"], "default"
		} else {
			c.mu.Lock()
			c.driven[d.OperationID] = true
			c.mu.Unlock()
			if _, ok := d.Responses[name]; !ok {
				t.Errorf("%s %s answers %d, of which the document says nothing", method, escaped, status)
				return
			}
		}
		if media == "" && len(answer.Content) == 0 {
			return
		}
		if _, ok := answer.Content[media]; !ok {
			t.Errorf("%s %s answers %d with %q; the document says %v", method, escaped, status, media, slices.Collect(maps.Keys(answer.Content)))
			return
		}
		escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace
		pointer = "/paths/" + escape(d.path) + "/" + strings.ToLower(d.method) + "/responses/" + name + "/content/" + escape(media) + "/schema"
	}
	if media != "application/json" && media != "application/problem+json" {
		return
	}
	schema := c.schema(t, pointer)
	if schema == nil {
		return
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		t.Errorf("%s %s: %d %.2000s: %v", method, escaped, status, body, err)
	}
}

// checked is a transport that holds all answers that are no live view against the document.
type checked struct {
	t testing.TB
	c *contract
}

func (k checked) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || res.StatusCode < 400 && res.Header.Get("Content-Type") == "text/event-stream" {
		return res, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	k.c.check(k.t, r.Method, r.URL.EscapedPath(), res.StatusCode, res.Header, data)
	res.Body = io.NopCloser(bytes.NewReader(data))
	return res, nil
}
