package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// decodeNumbers reads parameters that fit their schema, with numbers as they are written.
func decodeNumbers(params json.RawMessage, into any) error {
	if len(params) == 0 {
		return nil
	}
	in := json.NewDecoder(bytes.NewReader(params))
	in.UseNumber()
	if err := in.Decode(into); err != nil {
		return &Error{Code: Invalid, Message: "the parameters can't be read: " + err.Error()}
	}
	return nil
}

// exchange makes the request of its parameters.
func (w *wire) exchange(key string, r requested) (*exchange, error) {
	x := &exchange{
		method: r.Method, header: http.Header{}, expect: r.Expect, keep: r.Keep, maxBytes: w.opt.MaxBytes,
		timeout: w.opt.Timeout, idle: w.opt.Idle, hidden: r.redactor(),
	}
	if x.method == "" {
		x.method = http.MethodGet
	}
	if r.TimeoutMs > 0 {
		x.timeout = time.Duration(r.TimeoutMs) * time.Millisecond
	}
	if r.MaxBytes > 0 {
		x.maxBytes = min(r.MaxBytes, w.opt.MaxBytes)
	}
	var err error
	if x.url, err = readURL(r.URL); err != nil {
		return nil, err
	}
	x.addQuery(r.Query)
	if err := x.setBody(r); err != nil {
		return nil, err
	}
	x.header.Set("User-Agent", w.opt.UserAgent)
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		if isOurs(name) {
			return nil, &Error{Code: Invalid, Message: fmt.Sprintf("the header %q is not for callers to set", name)}
		}
		if err := x.setHeader(name, r.Headers[name]); err != nil {
			return nil, err
		}
	}
	for _, a := range append([]auth{r.Auth}, r.more...) {
		if err := x.setAuth(a); err != nil {
			return nil, err
		}
	}
	name := w.opt.IdempotencyHeader
	if r.KeyHeader != nil {
		name = *r.KeyHeader
	}
	if name != "" && key != "" && x.header.Get(name) == "" && !slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, x.method) {
		if isOurs(name) {
			return nil, &Error{Code: Invalid, Message: fmt.Sprintf("the header %q can't hold the idempotency key", name)}
		}
		if err := x.setHeader(name, headerKey(key, "")); err != nil {
			return nil, err
		}
	}
	size := 0
	for name, values := range x.header {
		size += len(name) + len(values[0])
	}
	if size > maxSentHeaders {
		return nil, &Error{Code: Invalid, Message: fmt.Sprintf("the headers have %d bytes, the limit is %d", size, maxSentHeaders)}
	}
	return x, nil
}

// readURL reads an address once; what it says then is what is asked.
func readURL(text string) (*url.URL, error) {
	if len(text) > maxURL {
		return nil, &Error{Code: Invalid, Message: fmt.Sprintf("the address has %d bytes, the limit is %d", len(text), maxURL)}
	}
	if strings.ContainsAny(text, "\\ ") || !utf8.ValidString(text) { // others read them as slashes, or not at all
		return nil, &Error{Code: Invalid, Message: "the address has a space, a backslash, or what is no text: escape it"}
	}
	u, err := url.Parse(text)
	if err != nil {
		var bad *url.Error // its text holds the whole address
		if errors.As(err, &bad) {
			err = bad.Err
		}
		return nil, &Error{Code: Invalid, Message: "the address can't be read: " + err.Error()}
	}
	if err := checkURL(u); err != nil {
		return nil, err
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, &Error{Code: Invalid, Message: fmt.Sprintf("the address has no port between 1 and 65535: %.20q", port)}
		}
	}
	u.Fragment, u.RawFragment = "", "" // is never sent
	return u, nil
}

func (x *exchange) addQuery(query map[string]any) {
	if added := values(query).Encode(); added != "" {
		if x.url.RawQuery != "" {
			added = x.url.RawQuery + "&" + added
		}
		x.url.RawQuery = added
	}
}

// values are those of a query or a form: texts, numbers, booleans, and lists of them.
func values(given map[string]any) url.Values {
	out := url.Values{}
	for name, value := range given {
		list, is := value.([]any)
		if !is {
			list = []any{value}
		}
		for _, v := range list {
			out.Add(name, fmt.Sprint(v))
		}
	}
	return out
}

// setBody sets the body and its type. A text is sent as it is, any other value as JSON.
func (x *exchange) setBody(r requested) error {
	hasBody := len(r.Body) > 0 && string(r.Body) != "null"
	switch {
	case hasBody && r.Form != nil:
		return &Error{Code: Invalid, Message: "give a body or a form, not both"}
	case !hasBody && r.Form == nil:
		return nil
	case x.method == http.MethodGet || x.method == http.MethodHead:
		return &Error{Code: Invalid, Message: fmt.Sprintf("a %s has no body: set the method to POST, or give a query", x.method)}
	}
	var text string
	switch {
	case r.Form != nil:
		x.body = []byte(values(r.Form).Encode())
		x.header.Set("Content-Type", "application/x-www-form-urlencoded")
	case json.Unmarshal(r.Body, &text) == nil:
		x.body = []byte(text)
		x.header.Set("Content-Type", "text/plain; charset=utf-8")
	default:
		x.body = r.Body
		x.header.Set("Content-Type", "application/json")
	}
	if len(x.body) > maxRequest {
		return &Error{Code: Invalid, Message: fmt.Sprintf("the body has %d bytes, the limit is %d", len(x.body), maxRequest)}
	}
	return nil
}

// setHeader sets a header of which name and value can't be taken for something else.
func (x *exchange) setHeader(name, value string) error {
	if !isToken(name) {
		return &Error{Code: Invalid, Message: fmt.Sprintf("%.60q is no name of a header", name)}
	}
	if i := strings.IndexFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }); i >= 0 {
		return &Error{Code: Invalid, Message: fmt.Sprintf("the header %s has a line break or another control character, at byte %d", name, i)}
	}
	x.header.Set(name, value)
	return nil
}

func (x *exchange) setAuth(a auth) error {
	name, value := "Authorization", ""
	switch {
	case a.Bearer != "":
		value = "Bearer " + a.Bearer
	case a.Basic != nil:
		value = "Basic " + basic(a.Basic.Username, a.Basic.Password)
	case a.Header != nil:
		if name, value = a.Header.Name, a.Header.Value; isOurs(name) {
			return &Error{Code: Invalid, Message: fmt.Sprintf("the header %q can't hold a key", name)}
		}
	case a.Query != nil:
		x.addQuery(map[string]any{a.Query.Name: a.Query.Value})
		return nil
	default:
		return nil
	}
	if x.header.Get(name) != "" {
		return &Error{Code: Invalid, Message: fmt.Sprintf("the header %s is given twice: as auth and among headers", name)}
	}
	return x.setHeader(name, value)
}

func basic(username, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(username, password)
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Basic ")
}

// redactor takes out the keys that a request holds.
func (r requested) redactor() *Redactor {
	secrets := r.secrets
	for _, a := range append([]auth{r.Auth}, r.more...) {
		secrets = append(secrets, a.Bearer)
		if a.Basic != nil {
			secrets = append(secrets, a.Basic.Password, basic(a.Basic.Username, a.Basic.Password))
		}
		for _, n := range []*named{a.Header, a.Query} {
			if n != nil {
				secrets = append(secrets, n.Value)
			}
		}
	}
	return NewRedactor(secrets...)
}

// isToken reports whether a text may be the name of a header.
func isToken(name string) bool {
	return name != "" && len(name) < 200 && strings.Trim(name, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// isOurs reports whether a header belongs to the connection, so that no caller sets it.
func isOurs(name string) bool {
	name = http.CanonicalHeaderKey(name)
	return strings.HasPrefix(name, "Proxy-") || slices.Contains([]string{
		"Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Te", "Trailer", "Upgrade", "Expect", "Accept-Encoding",
	}, name)
}

// isCredential reports whether a header or a parameter has the name of something that is kept secret.
func isCredential(name string) bool {
	name = strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name))
	if name == "idempotencykey" {
		return false
	}
	for _, word := range []string{"authorization", "cookie", "token", "secret", "password", "signature"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return name == "key" || strings.HasSuffix(name, "key") || name == "sig" || name == "auth"
}
