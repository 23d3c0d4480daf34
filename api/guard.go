package api

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/approval"
)

const headerRequestID = "X-Request-Id"

var requestID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)

// mark sets what every answer carries: the request's id, the caller's own if it has one,
// and the headers that keep browsers from doing more with an answer than showing it.
func (s *server) mark(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	id := r.Header.Get(headerRequestID)
	if !requestID.MatchString(id) {
		id = "req_" + rand.Text()
	}
	h.Set(headerRequestID, id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// guard refuses what only a web page of another site can have sent.
func (s *server) guard(r *http.Request) error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if !slices.ContainsFunc(s.hosts, func(known string) bool { return strings.EqualFold(known, host) }) {
		p := newProblem(http.StatusMisdirectedRequest, codeHost, "this server is not called %q", host)
		p.Hint = "address it by a name it knows, such as localhost; or tell it this one: pawl serve --public-url or --host (PAWL_PUBLIC_URL, PAWL_HOSTS), Options.Hosts of a program of your own"
		return p
	}
	if strings.HasPrefix(r.URL.Path, approval.LinkPath) { // who knows the address may decide; browsers do not tell where from
		return nil
	}
	if err := s.origins.Check(r); err != nil {
		return newProblem(http.StatusForbidden, codeCrossOrigin, "a web page of another origin may not write here: %v", err)
	}
	return nil
}

// logged is the path of a request without what is secret in it.
func logged(r *http.Request) string {
	for _, before := range []string{approval.LinkPath, "/api/hooks/"} {
		if strings.HasPrefix(r.URL.Path, before) {
			return before + "…"
		}
	}
	return r.URL.Path
}

// recover turns a panic in a handler into a problem, or, when the answer has begun,
// into a connection that breaks off.
func (s *server) recover(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	s.log.Error("pawl: panic in a request", "method", r.Method, "path", logged(r), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if w.Header().Get("Content-Type") != "" {
		panic(http.ErrAbortHandler)
	}
	s.refuse(w, r, fmt.Errorf("panic: %v", p))
}
