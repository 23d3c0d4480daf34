package service

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// OpenAPI 3.0 and 3.1 is read as far as a request needs it: servers, paths, parameters, request bodies, schemas and security. What a
// request can't be made of is a fault, unless the operation was not chosen.

var (
	version3 = regexp.MustCompile(`^3\.[01]\.\d+`)
	noName   = regexp.MustCompile(`[^A-Za-z0-9_-]+`)
)

func (r *reader) openAPI(root *node) {
	version := root.get("openapi").str()
	if !version3.MatchString(version) {
		r.fault(root.get("openapi"), "", "this is OpenAPI of another version than 3.0 and 3.1: %.20q", version+root.get("swagger").str())
		return
	}
	info := root.get("info")
	r.name, r.doc = nameOf(info.get("title").str()), info.get("description").str()
	api := &openAPI{reader: r, root: root, old: strings.HasPrefix(version, "3.0")}
	api.server()
	paths := root.get("paths")
	if !paths.is(objectKind) {
		r.fault(root, "", `the field "paths" is missing`)
		return
	}
	for _, path := range paths.fields {
		if ref := path.value.get("$ref"); ref != nil {
			r.fault(ref, "write its operations out", "references to whole paths are not known here")
		}
		for _, operation := range path.value.fieldsOf() {
			if method := strings.ToUpper(operation.name); slices.Contains(methods, method) && operation.value.is(objectKind) {
				api.operation(method, path, operation.value)
			}
		}
	}
	if n := len(r.made); n == 0 && r.opt.Actions == nil || n > maxActions {
		r.fault(paths, "choose some by DescribeOptions.Actions", "there are %d operations, and may be 1 to %d", n, maxActions)
	}
}

// nameOf makes a name of a text.
func nameOf(text string) string {
	name := strings.Trim(noName.ReplaceAllString(text, "-"), "-_")
	if name == "" || !actionName.MatchString(name[:1]) {
		name = "x" + name
	}
	return name[:min(len(name), 100)]
}

type openAPI struct {
	*reader
	root *node
	old  bool // 3.0, whose schemas are not quite JSON Schema
	here int  // schemas of this operation
	all  int  // and of all
}

// server is the base of all addresses: the first server, with what its variables are by default.
func (a *openAPI) server() {
	var first *node
	if servers := a.root.get("servers"); servers.is(listKind) && len(servers.items) > 0 {
		first = servers.items[0]
	}
	at := first.get("url")
	if !at.is(textKind) && a.opt.BaseURL == "" {
		a.fault(a.root, "give DescribeOptions.BaseURL", "the document names no server")
		return
	}
	text := at.str()
	for _, v := range first.get("variables").fieldsOf() {
		text = strings.ReplaceAll(text, "{"+v.name+"}", v.value.get("default").str())
	}
	if strings.Contains(text, "{{") && a.opt.BaseURL == "" { // who wrote it does not choose what it is told of this program
		a.fault(at, "give DescribeOptions.BaseURL", "the server %.100q has a place of pawl's in it", text)
		return
	}
	if strings.HasPrefix(text, "/") && a.opt.BaseURL == "" {
		a.fault(at, "give DescribeOptions.BaseURL", "the server %q is relative to where the document came from", text)
		return
	}
	a.readBase(a.root, &node{kind: textKind, text: text, pointer: at.where(), line: at.lineOf()})
}

func (n *node) where() string {
	if n == nil {
		return ""
	}
	return n.pointer
}

func (n *node) lineOf() int {
	if n == nil {
		return 0
	}
	return n.line
}

// follow gives what a reference within the document stands for.
func (a *openAPI) follow(at *node) *node {
	for range 20 {
		ref := at.get("$ref")
		if !ref.is(textKind) {
			return at
		}
		target, err := a.find(ref.text)
		if err != nil {
			a.fault(ref, "", "%v", err)
			return nil
		}
		at = target
	}
	a.fault(at, "", "its references lead round in a circle")
	return nil
}

func (a *openAPI) find(ref string) (*node, error) {
	pointer, is := strings.CutPrefix(ref, "#/")
	if !is {
		return nil, fmt.Errorf("%.100q is outside of the document: only what is in it is read", ref)
	}
	at := a.root
	for name := range strings.SplitSeq(pointer, "/") {
		if decoded, err := url.PathUnescape(name); err == nil {
			name = decoded
		}
		if strings.Contains(name, "~") {
			name = strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
		}
		if at = at.get(name); at == nil {
			return nil, fmt.Errorf("%.100q names nothing in the document", ref)
		}
	}
	return at, nil
}

func (a *openAPI) operation(method string, path field, at *node) {
	name := nameOf(at.get("operationId").str())
	if at.get("operationId") == nil {
		name = nameOf(strings.ToLower(method) + path.name)
	}
	if a.opt.Actions != nil && !slices.Contains(a.opt.Actions, name) {
		return
	}
	if slices.ContainsFunc(a.made, func(w *way) bool { return w.action.Name == name }) {
		a.fault(at, "", "there are two operations with the name %q", name)
		return
	}
	w := &way{used: map[string]bool{}, kind: "json", method: method, action: Action{Name: name, Doc: at.get("summary").str(), Effect: effectOf(method)}}
	w.action.Doc = cmp.Or(w.action.Doc, at.get("description").str(), method+" "+path.name)
	for _, n := range []*node{path.value, at} {
		if servers := n.get("servers"); servers != nil {
			a.fault(servers, "", "servers of single paths and operations are not known here")
		}
	}
	p := &parameters{at: at, schema: map[string]any{}, names: map[string]any{}}
	defs := map[string]any{}
	a.here = 0
	for _, parameter := range a.parameters(path.value, at) {
		a.parameter(w, p, parameter, defs)
	}
	w.path = a.readPath(path.at, p)
	a.requestBody(w, p, at.get("requestBody"), defs)
	a.security(w, at)
	if len(defs) > 0 {
		p.schema["$defs"] = defs
	}
	a.places(w, at, p)
	a.schemas(w, &node{kind: objectKind, pointer: at.pointer, line: at.line}, p)
	a.made = append(a.made, w)
}

// parameters are those of a path and of an operation, whose own come before the path's of the same name and place.
func (a *openAPI) parameters(path, operation *node) (list []*node) {
	for _, from := range []*node{operation, path} {
		for _, at := range from.get("parameters").itemsOf() {
			p := a.follow(at)
			if p == nil {
				continue
			}
			same := func(q *node) bool {
				return q.get("name").str() == p.get("name").str() && q.get("in").str() == p.get("in").str()
			}
			if !slices.ContainsFunc(list, same) {
				list = append(list, p)
			}
		}
	}
	return list
}

func (a *openAPI) parameter(w *way, p *parameters, at *node, defs map[string]any) {
	name, in, style := at.get("name").str(), at.get("in").str(), at.get("style").str()
	explode := at.get("explode")
	joined := explode.is(booleanKind) && !explode.truth
	put := placed{name: name, value: wholePlace(at, name)}
	known := false
	switch in {
	case "path":
		known = style == "" || style == "simple"
	case "query":
		known = style == "" || style == "form" || style == "deepObject"
		if joined && style != "deepObject" {
			put.style = "comma"
		} else if style == "deepObject" {
			put.style = "deep"
		}
		w.query = append(w.query, put)
	case "header":
		if slices.Contains([]string{"Accept", "Content-Type", "Authorization"}, http.CanonicalHeaderKey(name)) {
			return // the specification says so
		}
		if known = style == "" || style == "simple"; !isToken(name) || isOurs(name) {
			a.fault(at, "", "%.60q is no header that a description may set", name)
		}
		w.headers = append(w.headers, put)
	}
	switch {
	case name == "" || !known:
		a.fault(at, "choose other operations by DescribeOptions.Actions", "the parameter %q in %q with the style %q is not known here", name, in, style)
		return
	case at.get("content") != nil:
		a.fault(at, "choose other operations by DescribeOptions.Actions", "the parameter %q has a content of its own, which is not known here", name)
		return
	case p.names[name] != nil:
		a.fault(at, "", "two parameters have the name %q", name)
		return
	}
	schema := a.schema(at.get("schema"), defs)
	if object, is := schema.(map[string]any); is && object["description"] == nil && at.get("description").is(textKind) && object["$ref"] == nil {
		object["description"] = at.get("description").text
	}
	p.names[name] = schema
	if required := at.get("required"); in == "path" || required.is(booleanKind) && required.truth {
		p.required = append(p.required, name)
	}
}

// requestBody becomes the parameter "body".
func (a *openAPI) requestBody(w *way, p *parameters, at *node, defs map[string]any) {
	if at == nil {
		return
	}
	if at = a.follow(at); at == nil {
		return
	}
	var media *node
	for _, field := range at.get("content").fieldsOf() {
		kind, _, _ := strings.Cut(strings.ToLower(field.name), ";")
		switch {
		case kind == "application/json" || strings.HasSuffix(kind, "+json") || kind == "*/*":
			if media, w.kind = field.value, "json"; kind != "application/json" && kind != "*/*" {
				w.headers = append(w.headers, placed{name: "Content-Type", value: filler{at: field.at, pattern: pattern{[]part{{text: field.name}}}}})
			}
		case kind == "application/x-www-form-urlencoded" && media == nil:
			media, w.kind = field.value, "form"
		case strings.HasPrefix(kind, "text/") && media == nil:
			media, w.kind = field.value, "text"
		}
		if w.kind == "json" && media != nil {
			break
		}
	}
	switch {
	case media == nil:
		a.fault(at, "choose other operations by DescribeOptions.Actions", "its body is neither JSON nor a form nor text")
		return
	case p.names["body"] != nil:
		a.fault(at, "", `a parameter has the name "body", which is that of the request's body here`)
		return
	case w.method == http.MethodGet || w.method == http.MethodHead:
		a.fault(at, "", "a %s has no body", w.method)
		return
	}
	p.names["body"] = a.schema(media.get("schema"), defs)
	body := wholePlace(at, "body")
	w.body = &body
	if required := at.get("required"); required.is(booleanKind) && required.truth {
		p.required = append(p.required, "body")
	}
}

// security takes the first of the ways to sign in for which there are keys; if there is none, {}, which asks for none.
func (a *openAPI) security(w *way, operation *node) {
	at := operation.get("security")
	if at == nil {
		at = a.root.get("security")
	}
	if !at.is(listKind) || len(at.items) == 0 {
		return
	}
	var asked []string
	free := false
	for _, way := range at.items {
		schemes := way.fieldsOf()
		if len(schemes) == 0 {
			free = true
			continue
		}
		complete := true
		for _, scheme := range schemes {
			asked = append(asked, scheme.name)
			complete = complete && a.opt.Auth[scheme.name] != ""
		}
		if complete {
			for _, scheme := range schemes {
				a.scheme(w, scheme)
			}
			return
		}
	}
	if !free {
		a.fault(at, "", "there is no key for any of %q: give one in DescribeOptions.Auth", asked)
	}
}

func (a *openAPI) scheme(w *way, named field) {
	at := a.follow(a.root.get("components").get("securitySchemes").get(named.name))
	given := &node{kind: textKind, text: a.opt.Auth[named.name], pointer: named.at.pointer, line: named.at.line, column: named.at.column}
	var out authText
	switch kind, in := at.get("type").str(), at.get("in").str(); {
	case kind == "oauth2" || kind == "openIdConnect" || kind == "http" && strings.EqualFold(at.get("scheme").str(), "bearer"):
		out = authText{kind: "bearer", value: a.keyText(given, "the key of "+named.name)}
	case kind == "http" && strings.EqualFold(at.get("scheme").str(), "basic"):
		name, password, is := strings.Cut(given.text, ":")
		if !is {
			a.fault(named.at, `write "name:{{secrets.password}}"`, "what DescribeOptions.Auth has for %q is no name and password", named.name)
		}
		user := *given
		user.text, given.text = name, password
		out = authText{kind: "basic", name: readPattern(a.findings, &user), value: a.keyText(given, "the password of "+named.name)}
	case kind == "apiKey" && (in == "header" || in == "query"):
		name := at.get("name").str()
		if in == "header" && (!isToken(name) || isOurs(name)) {
			a.fault(at, "", "%.60q is no header that a description may set", name)
		}
		out = authText{kind: in, name: pattern{[]part{{text: name}}}, value: a.keyText(given, "the key of "+named.name)}
	default:
		a.fault(named.at, "", "the security scheme %q is not known here", named.name)
		return
	}
	w.auth = append(w.auth, out)
}
