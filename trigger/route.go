package trigger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Route is a row that lets requests to a path start runs: a webhook that belongs to the store, as a [Webhook] belongs to a
// program. Routes have an owner, and are made by [Replace]. A path is one of the whole server: whoever, of whichever
// tenant, has a route there first keeps it until it gives it up.
type Route struct {
	ID       string `json:"id"` // as of a Schedule
	Tenant   string `json:"tenant,omitempty"`
	Owner    string `json:"owner"`
	Path     string `json:"path"` // see [CheckPath]
	Workflow string `json:"workflow"`
	// Methods are those that a request may have, of [RouteMethods], GET with the scheme None only. nil: POST.
	Methods []string `json:"methods,omitempty"`
	// Scheme says how requests are signed. It must say so: None is without. Secret is the name of what signs them, never itself.
	Scheme Scheme `json:"scheme"`
	Secret string `json:"secret,omitempty"`
	// Header has the signature, with HMAC only, and Prefix stands before it there; "" is X-Signature, and nothing. Who keeps the
	// secret may know better: see api.Options.Verify.
	Header string `json:"header,omitempty"`
	Prefix string `json:"prefix,omitempty"`
	// Dedupe is where a delivery's id is: "header:" and the name of a header, a JSON pointer into the body, or [DedupeBody], for which
	// equal bodies are one delivery. "": what the scheme says; where that says nothing, the header Idempotency-Key, if there is one; else
	// each request is a delivery of its own.
	Dedupe string `json:"dedupe,omitempty"`
	// Form takes application/x-www-form-urlencoded in place of JSON, as an object of the first value of each field.
	Form bool `json:"form,omitempty"`
	// Input makes an object of the request, to be the input of the run in place of the body.
	Input   Places   `json:"input,omitempty"`
	Control *Control `json:"control,omitempty"` // nil: each delivery starts a run at once
	// Response is what a request is answered with that has started a run. nil: 202 and the run's id.
	Response *Response `json:"response,omitempty"`

	Revision int64     `json:"revision,omitempty"` // told: another after each change
	Created  time.Time `json:"created,omitzero"`
	Updated  time.Time `json:"updated,omitzero"`
}

// Response is a fixed answer to requests.
type Response struct {
	Status  int               `json:"status,omitempty"`  // 200 to 299; 0: 200
	Headers map[string]string `json:"headers,omitempty"` // none that would speak for the whole server, as Set-Cookie
	Body    json.RawMessage   `json:"body,omitempty"`    // a text is sent as it is, else it is sent as JSON; nil: none
}

// RouteMethods are those that a route may take.
var RouteMethods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// PathError reports a path that somebody else has. It is an ErrConflict.
type PathError struct {
	Path  string
	Owner string // who has it; "": somebody of another tenant
}

func (e *PathError) Error() string {
	by := "is taken already"
	if e.Owner != "" {
		by = "is that of " + ownerText(e.Owner)
	}
	return fmt.Sprintf("the path %s %s: choose another", e.Path, by)
}

// Is makes it an ErrConflict.
func (e *PathError) Is(target error) bool { return target == pawl.ErrConflict }

// A route lies in two places, which are written together: under its id, and under its path, where requests look. Who has the
// row of a path has the path.
const (
	routeSpace  = "trigger.routes:"
	byPathSpace = "trigger.routes.by-path"
)

// FindRoute returns the route of a path. ErrNotFound.
func FindRoute(ctx context.Context, e *pawl.Engine, path string) (Route, error) {
	r, _, err := routeAt(ctx, e, path)
	return r, err
}

// routeAt is FindRoute with the version of the path's row.
func routeAt(ctx context.Context, e *pawl.Engine, path string) (r Route, version int64, err error) {
	record, err := e.Record(ctx, byPathSpace, hashOf(path))
	if err == nil {
		err = json.Unmarshal(record.Data, &r)
	}
	if err != nil {
		return Route{}, 0, fmt.Errorf("webhook at %.512q: %w", path, err)
	}
	return r, record.Version, nil
}

// Routes returns a page of a tenant's routes whose id begins with prefix and comes after after, by id. limit 0 means 100; at most 1,000.
func Routes(ctx context.Context, e *pawl.Engine, tenant, prefix, after string, limit int) ([]Route, error) {
	page, err := e.Records(ctx, routeSpace+tenant, prefix, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list the routes of webhooks: %w", err)
	}
	out := make([]Route, len(page))
	for i, record := range page {
		if err := json.Unmarshal(record.Data, &out[i]); err != nil {
			return nil, fmt.Errorf("route %s: %w", record.Key, err)
		}
	}
	return out, nil
}

// hmacHeader is where the signature of a route is that does not say it.
const hmacHeader = "X-Signature"

// Signature is how requests of the route are signed, without the secrets.
func (r *Route) Signature() SignatureOptions {
	o := SignatureOptions{Scheme: r.Scheme, Header: r.Header, Prefix: r.Prefix}
	if r.Scheme == HMAC && o.Header == "" {
		o.Header = hmacHeader
	}
	return o
}

// CheckRoute says what is wrong with a route: ErrInput.
func CheckRoute(r Route) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: webhook %.160q: %w", pawl.ErrInput, r.ID, fmt.Errorf(format, args...))
	}
	if err := errors.Join(CheckID(r.ID), checkTenant(r.Tenant), r.Input.check(), r.Control.check()); err != nil {
		return bad("%w", err)
	}
	if err := CheckPath(r.Path); err != nil {
		return err
	}
	header, isHeader := strings.CutPrefix(r.Dedupe, "header:")
	switch {
	case r.Workflow == "":
		return bad("name the workflow that it starts")
	case !slices.Contains(Schemes, r.Scheme):
		return bad("the scheme of signatures is %q; choose one of %v, where none is without", r.Scheme, Schemes)
	case r.Scheme == None && r.Secret != "":
		return bad("nothing is signed with the scheme none: leave the secret out, or choose its scheme")
	case r.Scheme != None && r.Secret == "":
		return bad("name the secret with which requests are signed by %s", r.Scheme)
	case r.Scheme != HMAC && (r.Header != "" || r.Prefix != ""):
		return bad("the scheme %s has a header of its own: header and prefix are for %s", r.Scheme, HMAC)
	case r.Header != "" && !token(r.Header):
		return bad("this is no header that has a signature: %.100q", r.Header)
	case isHeader && !token(header):
		return bad("dedupe names no header: %.100q", r.Dedupe)
	case !isHeader && r.Dedupe != "" && r.Dedupe != DedupeBody && !strings.HasPrefix(r.Dedupe, "/"):
		return bad("dedupe is header:Name, a place in the body, or body, not %.100q", r.Dedupe)
	}
	for _, m := range r.Methods {
		if !slices.Contains(RouteMethods, m) {
			return bad("the method %.20q can't be asked for; there are %v", m, RouteMethods)
		}
		if m == http.MethodGet && r.Scheme != None {
			return bad("a GET has no body, and %s signs nothing else: leave the method out, or choose the scheme none", r.Scheme)
		}
	}
	return r.Response.Check()
}

// ofServer are headers that speak for the whole address of a server, which people sign in at and which the flows of all tenants answer from: what keeps a
// browser from running an answer there, and what it remembers of the address.
var ofServer = []string{
	"Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Cross-Origin-Resource-Policy",
	"Set-Cookie", "Clear-Site-Data", "Service-Worker-Allowed", "Strict-Transport-Security", "Alt-Svc",
}

// Check says what is wrong with an answer: ErrInput. nil is right.
func (a *Response) Check() error {
	if a == nil {
		return nil
	}
	if a.Status != 0 && (a.Status < 200 || a.Status > 299) {
		return fmt.Errorf("%w: the answer of a webhook has status %d; it is one of 200 to 299, as it says that the run is there", pawl.ErrInput, a.Status)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Headers)) {
		if !token(name) || strings.ContainsFunc(a.Headers[name], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return fmt.Errorf("%w: the header %.100q of a webhook's answer can't be sent", pawl.ErrInput, name)
		}
		if slices.Contains(ofServer, http.CanonicalHeaderKey(name)) {
			return fmt.Errorf("%w: the header %s is not for the answer of a webhook: browsers would take it as that of the whole server", pawl.ErrInput, name)
		}
	}
	return nil
}

// token reports whether a text can name a header.
func token(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
}

// Type is the media type that a body must have.
func (r *Route) Type() string {
	if r.Form {
		return "application/x-www-form-urlencoded"
	}
	return "application/json"
}

// TakesType reports whether a Content-Type is that of the route, whatever its parameters.
func (r *Route) TakesType(contentType string) bool { return isType(contentType, r.Type()) }

// Takes reports whether a request may have a method.
func (r *Route) Takes(method string) bool {
	if r.Methods == nil {
		return method == http.MethodPost
	}
	return slices.Contains(r.Methods, method)
}

// Allow is what the header of that name says.
func (r *Route) Allow() string {
	return cmp.Or(strings.Join(r.Methods, ", "), http.MethodPost)
}

// routes gathers the writes of an owner's routes.
func (w *replacement) routes(ctx context.Context, want []Route) error {
	left := map[string]Route{}
	paths := map[string]bool{} // that the owner goes on to have
	for _, r := range want {
		if strings.HasPrefix(r.Dedupe, "header:") {
			r.Dedupe = "header:" + textproto.CanonicalMIMEHeaderKey(r.Dedupe[len("header:"):])
		}
		if err := errors.Join(w.own(r.Tenant, r.ID, r.Owner), CheckRoute(r)); err != nil {
			return err
		}
		if paths[r.Path] {
			return fmt.Errorf("%w: two webhooks of %s have the path %s", pawl.ErrInput, ownerText(w.owner), r.Path)
		}
		left[r.ID], paths[r.Path] = r, true
	}
	freed := map[string]bool{}
	become := func(r Route, old *Route, version int64) error {
		if version != 0 && old.same(&r) {
			return nil
		}
		there, at, err := routeAt(ctx, w.e, r.Path)
		switch {
		case errors.Is(err, pawl.ErrNotFound):
		case err != nil:
			return err
		case there.Tenant != w.tenant:
			return &PathError{Path: r.Path}
		case there.Owner != w.owner:
			return &PathError{Path: r.Path, Owner: there.Owner}
		}
		r.Revision, r.Created, r.Updated = max(old.Revision+1, w.now.UnixMicro()), old.Created, w.now
		if version == 0 {
			r.Created = w.now
		}
		data, err := json.Marshal(r)
		if err != nil {
			return err
		}
		w.puts = append(w.puts, pawl.Put{Space: routeSpace + w.tenant, Key: r.ID, If: version, Data: data}, pawl.Put{Space: byPathSpace, Key: hashOf(r.Path), If: at, Data: data})
		return nil
	}
	free := func(path string) {
		if !paths[path] && !freed[path] {
			freed[path] = true
			w.puts = append(w.puts, pawl.Put{Space: byPathSpace, Key: hashOf(path), If: pawl.AnyVersion})
		}
	}
	err := w.there(ctx, routeSpace, func(record pawl.Record) error {
		var old Route
		if err := json.Unmarshal(record.Data, &old); err != nil {
			return fmt.Errorf("route %s: %w", record.Key, err)
		}
		free(old.Path)
		r, stays := left[record.Key]
		if delete(left, record.Key); stays {
			return become(r, &old, record.Version)
		}
		w.puts = append(w.puts, pawl.Put{Space: routeSpace + w.tenant, Key: old.ID, If: record.Version})
		return nil
	})
	for _, r := range left {
		err = errors.Join(err, become(r, &Route{}, 0))
	}
	return err
}

// same compares what was given.
func (r *Route) same(o *Route) bool {
	given := func(r Route) string {
		r.Revision, r.Created, r.Updated = 0, time.Time{}, time.Time{}
		data, _ := json.Marshal(r) // it was, or will be, stored so
		return string(data)
	}
	return given(*r) == given(*o)
}
