package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/pawlrun/pawl"
)

// Operations are huma's: it reads parameters and bodies into a handler's input and makes the
// OpenAPI document of the same types. It never writes to a caller. What it would write, its
// own errors too, ends in an exchange, from which the server answers: so every error is one
// of the table of problems, and what is sent has passed one place.

// route is what an operation is told apart by, and what the document says beyond its types.
type route struct {
	id      string // of the operation; the client's method has the same name, with a capital
	method  string
	path    string // as http.ServeMux has it
	scope   Scope  // what a key must have; public, anyKey
	with    Scope  // a second that a key must have; "": none
	summary string
	about   string // more than a sentence, where it is needed
	also    []int  // statuses of success beside the first, with the same body
	status  int    // of success; 0 means 200
	page    string // where a browser is sent instead, which wants a page
	prefix  string // the query takes any name that begins so
	free    bool   // parameters are not held against their schemas: a name may be empty
	loose   bool   // the query may have names that are not known
	global  bool   // it is about what belongs to no tenant: for callers of the default tenant
	once    bool   // it takes an Idempotency-Key
	queues  bool   // it may make a run: see Options.MaxQueued
	text    bool   // its body is a document, JSON or YAML, which the handler reads as it came
	media   string // of an answer that is no JSON; of several, separated by spaces, the first is what Accept need not ask for
}

// operation is a route that is ready to serve.
type operation struct {
	route
	queries []string // names of the query
	body    reflect.Type
	serve   func(huma.Context)
}

// exchange is one request and what is to be answered.
type exchange struct {
	w      http.ResponseWriter
	r      *http.Request
	op     *operation
	header http.Header
	status int
	body   bytes.Buffer
	data   []byte    // the request's body
	err    error     // the answer is a problem
	live   bool      // the handler has answered by itself
	held   *pawl.Put // lets an Idempotency-Key go that was kept for this request
	stored func()    // of a route that queues: what it makes is in the store
}

type exchangeKey struct{}

// exchangeOf returns the exchange of a handler's context.
func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// add makes an operation of a handler. What handle returns is answered with the route's
// status, or with the output's field Status; an error becomes a problem. Its context ends
// after callLimit.
func add[I, O any](s *server, r route, handle func(ctx context.Context, in *I) (*O, error)) {
	op := huma.Operation{
		OperationID: r.id, Method: r.method, Path: strings.ReplaceAll(r.path, "...}", "}"), Summary: r.summary, Description: r.about,
		Tags: []string{tagOf(r.path)}, DefaultStatus: r.status, Security: r.scope.security(r.with),
		MaxBodyBytes: -1, BodyReadTimeout: time.Hour, SkipValidateBody: true, SkipValidateParams: r.free, // the exchange does these itself
		Metadata:  map[string]any{"route": r},
		Responses: map[string]*huma.Response{"default": s.problems},
	}
	first := strconv.Itoa(max(r.status, http.StatusOK))
	if r.media != "" {
		op.Responses[first] = &huma.Response{Description: r.summary, Content: map[string]*huma.MediaType{}}
		for _, media := range strings.Fields(r.media) {
			schema := &huma.Schema{Type: huma.TypeString}
			if media == lineType {
				schema = &huma.Schema{Description: "Each line is a JSON value, or empty."}
			}
			op.Responses[first].Content[media] = &huma.MediaType{Schema: schema}
		}
	}
	if r.media == htmlType { // its errors are pages too
		content := map[string]*huma.MediaType{r.media: {Schema: &huma.Schema{Type: huma.TypeString}}}
		maps.Copy(content, s.problems.Content)
		op.Responses["default"] = &huma.Response{Description: s.problems.Description, Content: content}
	}
	if body, ok := reflect.TypeFor[I]().FieldByName("Body"); ok {
		op.RequestBody = &huma.RequestBody{}
		op.Metadata["body"] = body.Type
	}
	if r.text {
		content := map[string]*huma.MediaType{}
		for _, media := range textTypes {
			content[media] = &huma.MediaType{Schema: &huma.Schema{Description: "A flow: see /api/schema/flow.json."}}
		}
		op.RequestBody = &huma.RequestBody{Description: "A flow, as JSON or YAML.", Content: content}
	}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		limit, cancel := context.WithTimeout(ctx, callLimit)
		defer cancel()
		out, err := handle(limit, in)
		if err != nil {
			exchangeOf(ctx).err = err
			return nil, refused{}
		}
		return out, nil
	})
	if op.RequestBody != nil {
		op.RequestBody.Required = false // a handler says better what is missing
	}
	for _, status := range r.also {
		answer := *op.Responses[first]
		answer.Description = http.StatusText(status)
		if status == http.StatusNoContent || status == http.StatusSeeOther {
			answer.Content = nil
		}
		op.Responses[strconv.Itoa(status)] = &answer
	}
}

// refused tells huma that the exchange has the error.
type refused struct{}

func (refused) Error() string  { return "refused" }
func (refused) GetStatus() int { return http.StatusInternalServerError }

// tagOf groups operations by the resource that their paths begin with.
func tagOf(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if len(parts) > 1 && parts[0] == "api" {
		return parts[1]
	}
	return "server"
}

// adapter connects huma to the server.
type adapter struct{ s *server }

// Handle takes an operation over from huma.
func (a adapter) Handle(op *huma.Operation, serve func(huma.Context)) {
	o := &operation{route: op.Metadata["route"].(route), serve: serve}
	if body, ok := op.Metadata["body"]; ok {
		o.body = body.(reflect.Type)
	}
	for _, p := range op.Parameters {
		if p.In == "query" {
			o.queries = append(o.queries, p.Name)
		}
	}
	if o.prefix != "" {
		o.queries = append(o.queries, o.prefix)
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: o.prefix + "NAME", In: "query", Description: "any name after " + o.prefix, Schema: &huma.Schema{Type: huma.TypeString},
		})
	}
	if o.once {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: headerIdempotencyKey, In: "header", Description: "Repeated with the same key and body within 24 hours, the request does nothing and is answered again.",
			Schema: &huma.Schema{Type: huma.TypeString, MaxLength: new(255)},
		})
	}
	if slices.Contains(o.queries, streamTokenParam) {
		op.Security = append(op.Security, map[string][]string{"streamToken": {}})
	}
	pattern := o.method + " " + o.path
	a.s.operations[pattern] = o
	a.s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { a.s.exchange(w, r, o) })
}

// ServeHTTP is not used: the server's own comes first.
func (a adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.s.ServeHTTP(w, r) }

// exchange lets an operation answer a request.
func (s *server) exchange(w http.ResponseWriter, r *http.Request, o *operation) {
	x := &exchange{w: w, op: o, header: http.Header{}}
	x.r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	if o.body == nil && r.Method == http.MethodGet { // it may be a view that lasts: the body's deadline must not end it
		if _, err := readBody(w, r, slack); err != nil {
			s.refuse(w, r, badRequest("this call takes no body, and that of the request broke off or is over %d bytes", slack))
			return
		}
	}
	if o.body != nil {
		var err error
		if x.data, err = s.body(w, r); err == nil && x.data != nil && o.body.Kind() == reflect.Struct {
			err = checkFields(x.data, o.body)
		}
		if err != nil {
			s.refuse(w, r, err)
			return
		}
	}
	if o.text {
		var err error
		if x.data, err = s.text(w, r); err != nil {
			s.refuse(w, r, err)
			return
		}
	}
	if o.queues {
		var err error
		if x.stored, err = s.queue(w, r); err != nil {
			s.refuse(w, r, err)
			return
		}
		defer x.stored()
	}
	o.serve(recorder{humago.NewContext(nil, x.r, w), x})
	switch {
	case x.err != nil:
		s.release(x)
		for name, values := range x.header {
			if name != "Content-Type" {
				w.Header()[name] = values
			}
		}
		s.refuse(w, r, x.err)
	case !x.live:
		maps.Copy(w.Header(), x.header)
		send(w, x.status, x.header.Get("Content-Type"), x.body.Bytes())
	}
}

// recorder is a huma.Context that answers into the exchange.
type recorder struct {
	base
	x *exchange
}

type base = huma.Context // embedded, it must not be called as its method

func (c recorder) Operation() *huma.Operation {
	return &huma.Operation{Method: c.x.op.method, Path: c.x.op.path}
}

// Header returns a header of the request. Bodies are JSON, whatever a request says of them or
// wishes of the answer: what decides is the operation.
func (c recorder) Header(name string) string {
	if name == "Content-Type" || name == "Accept" {
		return "application/json"
	}
	return c.base.Header(name)
}

func (c recorder) BodyReader() io.Reader           { return bytes.NewReader(c.x.data) }
func (c recorder) SetReadDeadline(time.Time) error { return nil } // the body is there
func (c recorder) SetStatus(status int)            { c.x.status = status }
func (c recorder) Status() int                     { return c.x.status }
func (c recorder) SetHeader(name, value string)    { c.x.header.Set(name, value) }
func (c recorder) AppendHeader(name, value string) { c.x.header.Add(name, value) }
func (c recorder) BodyWriter() io.Writer           { return &c.x.body }

// ours is a huma transformer: it makes a problem of an error of huma's own.
func ours(ctx huma.Context, _ string, v any) (any, error) {
	if e, ok := v.(*huma.ErrorModel); ok {
		exchangeOf(ctx.Context()).err = translate(e)
	}
	return v, nil
}

// translate words an error of huma's as a problem.
func translate(e *huma.ErrorModel) error {
	if e.Status >= http.StatusInternalServerError {
		return errors.New(e.Error())
	}
	var parts []string
	for _, d := range e.Errors {
		text := strings.TrimPrefix(d.Message, "invalid value: ")
		switch in, name, _ := strings.Cut(d.Location, "."); {
		case in == "body":
		case d.Value == nil:
			text = name + ": " + text
		default:
			text = fmt.Sprintf("%s is %q: %s", name, fmt.Sprint(d.Value), text)
		}
		parts = append(parts, text)
	}
	if parts == nil {
		parts = []string{e.Detail}
	}
	return badRequest("%s", strings.Join(parts, "; "))
}

// jsonFormat is how huma reads and writes JSON.
var jsonFormat = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		data, err := json.Marshal(v)
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	},
	Unmarshal: unmarshal,
}
