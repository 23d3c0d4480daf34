package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/internal/schema"
	"github.com/pawlrun/pawl/internal/spelling"
)

// DescribeOptions say what [Describe] makes of a description.
type DescribeOptions struct {
	HTTP HTTPOptions
	// Secret finds what stands for {{secrets.name}}. It is asked in each call, and not in dry runs.
	Secret func(ctx context.Context, name string) (string, error)
	// Env finds what stands for {{env.NAME}}, when the description is read: [os.LookupEnv]. It is kept as a secret is.
	Env func(name string) (value string, is bool)
	// BaseURL is used in place of the description's; "": its own.
	BaseURL string
	// Actions are those that the service has, by name, in this order; nil: all of the description.
	Actions []string
	// Auth is, for OpenAPI, what the security schemes take, by their names: "{{secrets.tickets}}"; for basic,
	// "name:{{secrets.password}}".
	Auth map[string]string
}

// Described is a service that was described by data. It is safe for concurrent use.
type Described struct {
	*actions
	*wire
	name, doc string
	base      string // address before all paths
	ways      map[string]*way
	opt       DescribeOptions
	env       map[string]string
}

// Name is what the description calls the service.
func (d *Described) Name() string { return d.name }

// Doc says what the service is for; "": the description does not.
func (d *Described) Doc() string { return d.doc }

// way is how an action becomes a request.
type way struct {
	action  Action
	method  string
	path    []part // of params, or text
	query   []placed
	headers []placed
	body    *filler // nil: what stands nowhere else, if the method has a body
	kind    string  // of the body: json, form, text
	auth    []authText
	expect  []int
	timeout int64 // ms
	most    int64 // bytes
	key     *string
	whole   bool // the result is the whole answer, not only its body
	result  *schema.Schema
	used    map[string]bool // params that stand somewhere
	secrets []string        // names
}

// placed is a header or a parameter of a query.
type placed struct {
	name  string
	value filler
	style string // of a list: "" repeats the name, "comma" joins; of an object: "deep" is name[field]
}

// authText is an auth with places.
type authText struct {
	kind        string // bearer, basic, header, query
	name, value pattern
}

// The limits of a description.
const (
	maxActions    = 500
	maxSchemaSize = 256 << 10 // bytes of one action's
)

// Describe makes a service of a description: a document in JSON or YAML that says which actions there are and which HTTP requests
// they send, in the form of docs/services.md or as OpenAPI 3.0 or 3.1. The error is of type [Faults] where the document is
// wrong, and holds all that is.
func Describe(data []byte, opt DescribeOptions) (*Described, error) {
	root, err := readSource(data)
	if err != nil {
		return nil, err
	}
	d := &Described{opt: opt, ways: map[string]*way{}, env: map[string]string{}}
	if d.wire, err = newWire(opt.HTTP); err != nil {
		return nil, err
	}
	f := &findings{}
	r := &reader{findings: f, Described: d}
	if root.get("openapi") != nil || root.get("swagger") != nil {
		r.openAPI(root)
	} else {
		r.description(root)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	var list []Action
	for _, w := range r.made {
		w.action.Secrets = w.secrets
		d.ways[w.action.Name] = w
		list = append(list, w.action)
	}
	if opt.Actions != nil {
		list = nil
	}
	for _, name := range opt.Actions {
		w := d.ways[name]
		if w == nil {
			return nil, Faults{{Message: fmt.Sprintf("there is no action %q, which is to be chosen", name), Hint: spelling.Hint(name, sortedNames(d.ways))}}
		}
		list = append(list, w.action)
	}
	d.actions, err = newActions(list...)
	return d, err
}

// Call carries out an action of the description. The result is the body of the answer, or where the description says so an [*Answer].
func (d *Described) Call(ctx context.Context, c Call) (any, error) {
	action, err := d.check(c)
	if err != nil {
		return nil, err
	}
	w := d.ways[action.Name]
	s := &scope{params: map[string]any{}, rest: map[string]any{}, secrets: map[string]string{}, env: d.env}
	if err := decodeNumbers(c.Params, &s.params); err != nil {
		return nil, err
	}
	for name, value := range s.params {
		if !w.used[name] {
			s.rest[name] = value
		}
	}
	for _, name := range w.secrets {
		s.secrets[name] = Redacted
		if c.DryRun {
			continue
		}
		if s.secrets[name], err = d.opt.Secret(ctx, name); err != nil {
			return nil, fmt.Errorf("the secret %q: %w", name, err)
		}
	}
	var hidden []string
	if !c.DryRun {
		hidden = slices.Collect(maps.Values(s.secrets))
	}
	hidden = slices.AppendSeq(hidden, maps.Values(s.env))
	r, err := w.request(d.base, s)
	if err != nil {
		return nil, NewRedactor(hidden...).Error(err)
	}
	r.secrets = hidden
	out, err := d.carryOut(ctx, c, r)
	answer, is := out.(*Answer)
	if err != nil || !is || w.whole {
		return out, err
	}
	return answer.Body, w.fits(answer)
}

// fits holds an answer against the schema that the description gives for it.
func (w *way) fits(answer *Answer) error {
	if w.result == nil {
		return nil
	}
	var value any
	switch body := answer.Body.(type) {
	case json.RawMessage:
		if err := decodeNumbers(body, &value); err != nil {
			return err
		}
	default:
		value = body
	}
	err := w.result.Check(value)
	var faults schema.Faults
	if errors.As(err, &faults) {
		return &Error{Code: BadAnswer, Status: answer.Status, Message: fmt.Sprintf("%s was carried out, and its answer is not as described: %v", w.action.Name, faults)}
	}
	return err
}

// request makes what is asked for of the parameters.
func (w *way) request(base string, s *scope) (r requested, err error) {
	r = requested{Method: w.method, Expect: w.expect, TimeoutMs: w.timeout, MaxBytes: w.most, KeyHeader: w.key, Headers: map[string]string{}, Query: map[string]any{}}
	if r.URL, err = w.address(base, s); err != nil {
		return r, err
	}
	for _, p := range w.query {
		value, is, err := p.value.fill(s)
		if err == nil && is {
			err = p.put(r.Query, value)
		}
		if err != nil {
			return r, err
		}
	}
	for _, p := range w.headers {
		value, is, err := p.value.fill(s)
		if err != nil {
			return r, err
		}
		if !is {
			continue
		}
		if _, many := value.([]any); many {
			joined := map[string]any{}
			if err := (placed{name: p.name, style: "comma"}).put(joined, value); err != nil {
				return r, err
			}
			value = joined[p.name]
		}
		if r.Headers[p.name], err = scalar(p.name, value); err != nil {
			return r, err
		}
	}
	if err := w.setBody(&r, s); err != nil {
		return r, err
	}
	for _, a := range w.auth {
		filled, err := a.fill(s)
		if err != nil {
			return r, err
		}
		r.more = append(r.more, filled)
	}
	return r, nil
}

// address is the base with the path. What fills a place is one segment or a part of one.
func (w *way) address(base string, s *scope) (string, error) {
	var b strings.Builder
	for _, p := range w.path {
		if p.root == "" {
			b.WriteString(p.text)
			continue
		}
		value, is := s.find(p)
		if !is {
			return "", &Error{Code: Invalid, Message: fmt.Sprintf("the parameter %q is needed in the path, and not given", p.name)}
		}
		text, err := scalar(p.name, value)
		if err != nil {
			return "", err
		}
		if text == "" {
			return "", &Error{Code: Invalid, Message: fmt.Sprintf("the parameter %q is empty, and stands in the path", p.name)}
		}
		b.WriteString(url.PathEscape(text))
	}
	for segment := range strings.SplitSeq(b.String(), "/") {
		if segment == "." || segment == ".." {
			return "", &Error{Code: Invalid, Message: fmt.Sprintf("the path has %q in it, which would lead to another address", segment)}
		}
	}
	return base + b.String(), nil
}

// put sets a parameter of a query.
func (p placed) put(query map[string]any, value any) error {
	switch v := value.(type) {
	case nil:
		return nil
	case []any:
		var texts []string
		for _, item := range v {
			text, err := scalar(p.name, item)
			if err != nil {
				return err
			}
			texts = append(texts, text)
		}
		if query[p.name] = v; p.style == "comma" {
			query[p.name] = strings.Join(texts, ",")
		}
		return nil
	case map[string]any:
		if p.style != "deep" {
			break
		}
		for _, name := range sortedNames(v) {
			if err := (placed{name: fmt.Sprintf("%s[%s]", p.name, name)}).put(query, v[name]); err != nil {
				return err
			}
		}
		return nil
	}
	_, err := scalar(p.name, value)
	query[p.name] = value
	return err
}

func (w *way) setBody(r *requested, s *scope) error {
	var value any = s.rest
	if w.body == nil && !hasBody(w.method) {
		for _, name := range sortedNames(s.rest) {
			if err := (placed{name: name}).put(r.Query, s.rest[name]); err != nil {
				return err
			}
		}
		return nil
	}
	if w.body == nil && len(s.rest) == 0 {
		return nil
	}
	if w.body != nil {
		var is bool
		var err error
		if value, is, err = w.body.fill(s); err != nil || !is {
			return err
		}
	}
	if w.kind == "form" {
		object, is := value.(map[string]any)
		if !is {
			return &Error{Code: Invalid, Message: "the body is sent as a form, and must be an object"}
		}
		r.Form = map[string]any{}
		for _, name := range sortedNames(object) {
			if err := (placed{name: name, style: "deep"}).put(r.Form, object[name]); err != nil {
				return err
			}
		}
		return nil
	}
	if w.kind == "text" {
		text, err := scalar("body", value)
		if err != nil {
			return err
		}
		value = text
	}
	data, err := json.Marshal(value)
	if err != nil {
		return &Error{Code: Invalid, Message: err.Error()}
	}
	if _, is := value.(string); is && w.kind == "json" {
		data, err = json.Marshal(string(data)) // a JSON text: what is sent as it is, is this
		if _, set := r.Headers["Content-Type"]; !set {
			r.Headers["Content-Type"] = "application/json"
		}
	}
	r.Body = data
	return err
}

// hasBody reports whether what stands nowhere else goes into the body of a method, and not into its query.
func hasBody(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}

func (a authText) fill(s *scope) (out auth, err error) {
	var name, value string
	if name, err = a.name.fill(s); err != nil {
		return out, err
	}
	if value, err = a.value.fill(s); err != nil {
		return out, err
	}
	if value == "" && a.kind != "basic" {
		return out, &Error{Code: Denied, Message: fmt.Sprintf("the key of the service, as %s, is empty", a.kind)}
	}
	switch a.kind {
	case "bearer":
		out.Bearer = value
	case "basic":
		out.Basic = &struct {
			Username string `json:"username"`
			Password string `json:"password"`
		}{name, value}
	case "header":
		out.Header = &named{name, value}
	case "query":
		out.Query = &named{name, value}
	}
	return out, nil
}
