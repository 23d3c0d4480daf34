package service

import (
	"cmp"
	"encoding/json"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl/internal/schema"
	"github.com/pawlrun/pawl/internal/spelling"
)

// reader makes actions of a document, and gathers all that is wrong with it.
type reader struct {
	*findings
	*Described
	made []*way
}

var (
	actionName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,99}$`)
	pathPlace  = regexp.MustCompile(`\{([^{}]*)\}`)
	methods    = []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
)

// everyAction are the fields that an action has and the description may have for all.
var everyAction = map[string]kind{"timeoutMs": numberKind, "maxBytes": numberKind, "idempotencyHeader": textKind}

// description reads a document of pawl's own form.
func (r *reader) description(root *node) {
	allowed := map[string]kind{"name": textKind, "doc": textKind, "baseURL": textKind, "auth": objectKind, "headers": objectKind, "actions": objectKind}
	for name, kinds := range everyAction {
		allowed[name] = kinds
	}
	if !r.fields(root, allowed, "name", "actions") {
		return
	}
	r.name, r.doc = root.get("name").str(), root.get("doc").str()
	if at := root.get("name"); at.is(textKind) && !actionName.MatchString(r.name) {
		r.fault(at, "write a letter, then letters, digits, - and _", "%.60q can't be a name", r.name)
	}
	r.readBase(root, root.get("baseURL"))
	list := root.get("actions")
	if list.is(objectKind) && (len(list.fields) == 0 || len(list.fields) > maxActions) {
		r.fault(list, "", "there are %d actions, and may be 1 to %d", len(list.fields), maxActions)
		return
	}
	for i := range list.fieldsOf() {
		r.action(root, list.fields[i])
	}
}

func (n *node) fieldsOf() []field {
	if n == nil {
		return nil
	}
	return n.fields
}

// readBase reads the address that all paths begin with.
func (r *reader) readBase(root, at *node) {
	text := r.opt.BaseURL
	switch {
	case text != "":
		at = nil
	case at == nil:
		r.fault(root, "", `the field "baseURL" is missing`)
		return
	default:
		p := readPattern(r.findings, at)
		p.uses(func(p part) {
			if p.root != "env" {
				r.fault(at, "", "an address takes {{env.NAME}} only")
			}
			r.environment(at, p)
		})
		filled, err := p.fill(&scope{env: r.env})
		if err != nil {
			return // told
		}
		text = filled
	}
	u, err := readURL(text)
	switch {
	case err != nil:
		r.fault(at, "", "as the base of all addresses %.100q can't be used: %v", text, err)
	case strings.ContainsAny(text, "{}"):
		r.fault(at, "", "the base of all addresses has a place in it that nothing fills: %.100q", text)
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		r.fault(at, "", "the base of all addresses has no query")
	}
	r.base = strings.TrimSuffix(text, "/")
}

// environment finds the value of {{env.NAME}}.
func (r *reader) environment(at *node, p part) {
	if p.root != "env" {
		return
	}
	var value string
	is := false
	if r.opt.Env != nil {
		value, is = r.opt.Env(p.name)
	}
	if r.env[p.name] = value; !is {
		r.fault(at, "", "there is no {{env.%s}} in this program's environment", p.name)
		delete(r.env, p.name)
	}
}

func (r *reader) action(root *node, named field) {
	at := named.value
	w := &way{used: map[string]bool{}, kind: "json"}
	w.action = Action{Name: named.name, Doc: at.get("doc").str()}
	if !actionName.MatchString(named.name) {
		r.fault(named.at, "write a letter, then letters, digits, - and _", "%.60q can't be a name", named.name)
	}
	allowed := map[string]kind{
		"doc": textKind, "method": textKind, "path": textKind, "query": objectKind | listKind, "headers": objectKind, "body": anyKind, "bodyType": textKind, "params": objectKind,
		"result": objectKind | booleanKind, "effect": textKind, "expect": listKind, "answer": textKind, "auth": objectKind | nullKind,
	}
	for name, kinds := range everyAction {
		allowed[name] = kinds
	}
	if !r.fields(at, allowed, "path") {
		return
	}
	w.method = r.one(at.get("method"), http.MethodGet, methods)
	w.action.Doc = cmp.Or(w.action.Doc, w.method+" "+at.get("path").str())
	w.whole = r.one(at.get("answer"), "body", []string{"body", "whole"}) == "whole"
	w.kind = r.one(at.get("bodyType"), "json", []string{"json", "form", "text"})
	w.action.Effect = Effect(r.one(at.get("effect"), string(effectOf(w.method)), []string{string(Reads), string(Once), string(Writes)}))
	params := r.params(at)
	w.path = r.readPath(at.get("path"), params)
	r.query(w, at.get("query"), params)
	for _, from := range []*node{root.get("headers"), at.get("headers")} {
		r.headers(w, from)
	}
	if body := at.get("body"); body != nil {
		filled := readFiller(r.findings, body)
		if w.body = &filled; w.method == http.MethodGet || w.method == http.MethodHead {
			r.fault(body, "", "a %s has no body", w.method)
		}
	}
	if own := at.get("auth"); own != nil {
		r.auth(w, own) // null: none
	} else {
		r.auth(w, root.get("auth"))
	}
	r.limits(w, root, at)
	r.places(w, at, params)
	r.schemas(w, at, params)
	r.made = append(r.made, w)
}

// effectOf is what a method does when it is carried out twice, by RFC 9110.
func effectOf(method string) Effect {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return Reads
	case http.MethodPut, http.MethodDelete:
		return Once
	}
	return Writes
}

// one is a text that must be one of those listed.
func (r *reader) one(at *node, otherwise string, list []string) string {
	if !at.is(textKind) {
		return otherwise
	}
	if !slices.Contains(list, at.text) {
		hint := spelling.Hint(at.text, list)
		if hint == "" {
			hint = "write one of " + strings.Join(list, ", ")
		}
		r.fault(at, hint, "%.60q is not known here", at.text)
		return otherwise
	}
	return at.text
}

// parameters are those of an action.
type parameters struct {
	at       *node
	schema   map[string]any
	names    map[string]any // with their schemas
	required []string
}

func (r *reader) params(action *node) *parameters {
	p := &parameters{at: action, schema: map[string]any{}, names: map[string]any{}}
	if at := action.get("params"); at.is(objectKind) {
		p.at = at
		p.schema, _ = at.value().(map[string]any)
		if kind, is := p.schema["type"]; is && kind != "object" {
			r.fault(at.get("type"), "", "the parameters of an action are an object")
		}
		if at.get("properties") == nil && len(at.fields) > 0 && at.get("$ref") == nil && at.get("additionalProperties") == nil {
			r.fault(at, "write them below \"properties\"", "these parameters are no JSON Schema with properties")
		}
	}
	if properties, is := p.schema["properties"].(map[string]any); is {
		p.names = properties
	}
	if required, is := p.schema["required"].([]any); is {
		for _, name := range required {
			text, _ := name.(string)
			p.required = append(p.required, text)
		}
	}
	return p
}

// need notes a parameter that stands in a path: it is a text unless a schema says otherwise, and must be given.
func (p *parameters) need(name string) {
	if p.names[name] == nil {
		p.names[name] = map[string]any{"type": []any{"string", "number", "boolean"}}
	}
	if !slices.Contains(p.required, name) {
		p.required = append(p.required, name)
	}
}

func (r *reader) readPath(at *node, params *parameters) (path []part) {
	text := at.str()
	if !strings.HasPrefix(text, "/") {
		r.fault(at, "begin it with /", "%.60q is no path", text)
		return nil
	}
	if strings.ContainsAny(text, "?#\\ ") || strings.Contains(text, "//") || slices.Contains(strings.Split(text, "/"), "..") {
		r.fault(at, "a query has its own field", "a path has no query, fragment, space, backslash, // or .. in it")
	}
	done := 0
	for _, found := range pathPlace.FindAllStringSubmatchIndex(text, -1) {
		name := text[found[2]:found[3]]
		if name == "" || strings.Contains(text[done:found[0]], "{") {
			r.fault(at, "write {name}, without params", "the places of the path can't be read")
			return nil
		}
		path = append(path, part{text: text[done:found[0]]}, part{root: "params", name: name})
		params.need(name)
		done = found[1]
	}
	if strings.ContainsAny(pathPlace.ReplaceAllString(text, ""), "{}") {
		r.fault(at, "write {name}", "a brace of the path has no other")
	}
	return append(path, part{text: text[done:]})
}

// query reads names of parameters, or names with values.
func (r *reader) query(w *way, at *node, params *parameters) {
	if at.is(listKind) {
		for _, item := range at.items {
			if !r.is(item, textKind) {
				continue
			}
			if params.names[item.text] == nil {
				r.fault(item, spelling.Hint(item.text, sortedNames(params.names)), "there is no parameter %q", item.text)
				continue
			}
			w.query = append(w.query, placed{name: item.text, value: wholePlace(item, item.text)})
		}
		return
	}
	for _, field := range at.fieldsOf() {
		if r.is(field.value, textKind|numberKind|booleanKind|listKind) {
			w.query = append(w.query, placed{name: field.name, value: readFiller(r.findings, field.value)})
		}
	}
}

// wholePlace is {{params.name}}, at the place of another value.
func wholePlace(at *node, name string) filler {
	return filler{at: &node{kind: textKind, pointer: at.pointer, line: at.line, column: at.column}, pattern: pattern{[]part{{root: "params", name: name}}}}
}

func (r *reader) headers(w *way, at *node) {
	for _, field := range at.fieldsOf() {
		name := http.CanonicalHeaderKey(field.name)
		switch {
		case !isToken(field.name) || isOurs(field.name):
			r.fault(field.at, "", "%.60q is no header that a description may set", field.name)
		case r.is(field.value, textKind):
			w.headers = slices.DeleteFunc(w.headers, func(p placed) bool { return p.name == name }) // an action's own
			w.headers = append(w.headers, placed{name: name, value: readFiller(r.findings, field.value)})
		}
	}
}

func (r *reader) auth(w *way, at *node) {
	if !at.is(objectKind) {
		return
	}
	if !r.fields(at, map[string]kind{"bearer": textKind, "basic": objectKind, "header": objectKind, "query": objectKind}) {
		return
	}
	if len(at.fields) != 1 {
		r.fault(at, "", "auth is one of bearer, basic, header and query")
		return
	}
	a := authText{kind: at.fields[0].name}
	inner := at.fields[0].value
	switch {
	case a.kind == "bearer" && inner.is(textKind):
		a.value = r.keyText(inner, "its key")
	case a.kind == "basic" && r.fields(inner, map[string]kind{"username": textKind, "password": textKind}, "username", "password"):
		a.name, a.value = readPattern(r.findings, inner.get("username")), r.keyText(inner.get("password"), "its password")
	case a.kind != "bearer" && a.kind != "basic" && r.fields(inner, map[string]kind{"name": textKind, "value": textKind}, "name", "value"):
		a.name, a.value = readPattern(r.findings, inner.get("name")), r.keyText(inner.get("value"), "its key")
		if name := inner.get("name").str(); a.kind == "header" && (!isToken(name) || isOurs(name)) {
			r.fault(inner.get("name"), "", "%.60q is no header that a description may set", name)
		}
	}
	w.auth = append(w.auth, a)
}

// keyText reads a key, which no description holds itself.
func (r *reader) keyText(at *node, what string) pattern {
	p := readPattern(r.findings, at)
	secret := false
	p.uses(func(p part) { secret = secret || p.root == "secrets" || p.root == "env" })
	if at.is(textKind) && !secret {
		r.fault(at, "write {{secrets.name}} or {{env.NAME}}", "a description does not hold %s itself", what)
	}
	return p
}

// limits reads what an action has, or else the description.
func (r *reader) limits(w *way, root, at *node) {
	find := func(name string) *node {
		if own := at.get(name); own != nil {
			return own
		}
		return root.get(name)
	}
	w.timeout = r.number(find("timeoutMs"), maxTimeout.Milliseconds())
	w.most = r.number(find("maxBytes"), r.wire.opt.MaxBytes)
	if key := find("idempotencyHeader"); key.is(textKind) {
		if w.key = &key.text; key.text != "" && (!isToken(key.text) || isOurs(key.text)) {
			r.fault(key, "", "%.60q can't be the header of idempotency keys", key.text)
		}
	}
	for _, item := range at.get("expect").itemsOf() {
		if status := r.number(item, 599); status >= 200 {
			w.expect = append(w.expect, int(status))
		} else {
			r.fault(item, "", "it is no status that an answer may have")
		}
	}
}

func (n *node) itemsOf() []*node {
	if n == nil {
		return nil
	}
	return n.items
}

// number is a whole number from 1, or 0 if there is none.
func (r *reader) number(at *node, most int64) int64 {
	if !at.is(numberKind) {
		return 0
	}
	f, err := strconv.ParseFloat(at.text, 64)
	if err != nil || f < 1 || f > float64(most) || f != math.Trunc(f) {
		r.fault(at, "", "%.40s is no whole number from 1 to %d", at.text, most)
		return 0
	}
	return int64(f)
}

// places looks at what stands where: each place must be something, and each parameter must go somewhere.
func (r *reader) places(w *way, at *node, params *parameters) {
	rest := false
	use := func(at *node, p part) {
		switch {
		case p.root == "env":
			r.environment(at, p)
		case p.root == "secrets" && r.opt.Secret == nil:
			r.fault(at, "", "there is no {{secrets.%s}}: the program knows no secrets", p.name)
		case p.root == "secrets":
			if !slices.Contains(w.secrets, p.name) {
				w.secrets = append(w.secrets, p.name)
			}
		case p.name == "":
			rest = true
		case params.names[p.name] == nil:
			r.fault(at, spelling.Hint(p.name, sortedNames(params.names)), "there is no parameter %q", p.name)
		default:
			w.used[p.name] = true
		}
	}
	for _, p := range w.path {
		if p.root != "" {
			w.used[p.name] = true
		}
	}
	for _, p := range append(slices.Clone(w.query), w.headers...) {
		p.value.uses(use)
	}
	for _, a := range w.auth {
		a.name.uses(func(p part) { use(at, p) })
		a.value.uses(func(p part) { use(at, p) })
	}
	if w.body == nil {
		return
	}
	w.body.uses(use)
	for _, name := range sortedNames(params.names) {
		if !w.used[name] && !rest {
			r.fault(params.at, `put {{params}} or {{params.`+name+`}} into the body`, "the parameter %q goes nowhere", name)
		}
	}
}

// schemas makes what people and checks see of the action.
func (r *reader) schemas(w *way, at *node, params *parameters) {
	params.schema["type"] = "object"
	params.schema["properties"] = params.names
	if len(params.required) > 0 {
		params.schema["required"] = params.required
	}
	if _, is := params.schema["additionalProperties"]; !is {
		params.schema["additionalProperties"] = false
	}
	data, err := json.Marshal(params.schema)
	if err == nil && len(data) > maxSchemaSize {
		r.fault(params.at, "", "the parameters of %s are a schema of %d bytes, the limit is %d", w.action.Name, len(data), maxSchemaSize)
		return
	}
	if _, err := schema.Compile(data); err != nil {
		r.fault(params.at, "", "the parameters of %s are no JSON Schema: %v", w.action.Name, err)
	}
	w.action.Params = data
	result := at.get("result")
	if w.whole {
		w.action.Result = json.RawMessage(answerSchema)
	}
	if !result.is(objectKind) {
		return
	}
	w.action.Result = result.json()
	if w.result, err = schema.Compile(w.action.Result); err != nil {
		r.fault(result, "", "the result of %s is no JSON Schema: %v", w.action.Name, err)
	}
	if w.whole {
		r.fault(result, "", "the result of a whole answer is known: leave it out, or the answer")
	}
}
