package api

import (
	"net/http"
	"strings"
)

// seen is a ResponseWriter that remembers how it was answered, for Options.Observe.
type seen struct {
	http.ResponseWriter
	route  string // "": none yet
	status int
}

// Unwrap is for http.ResponseController.
func (s *seen) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// WriteHeader remembers the first status that is not one of information.
func (s *seen) WriteHeader(status int) {
	if s.status == 0 && status >= http.StatusOK {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

// Write writes, with 200 if no status was written.
func (s *seen) Write(data []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return s.ResponseWriter.Write(data)
}

// code is the status; 499, as proxies say it, where the caller was gone before there was one.
func (s *seen) code() int {
	if s.status == 0 {
		return 499
	}
	return s.status
}

// live reports whether what was answered is a view that lasts.
func (s *seen) live() bool {
	kind := s.Header().Get("Content-Type")
	return strings.HasPrefix(kind, eventType) || strings.HasPrefix(kind, lineType)
}

// noRoute stands for all paths that are no route's: callers make them up.
const noRoute = "none"

// took notes the route that a request has taken, as a pattern with or without its method.
func took(w http.ResponseWriter, pattern string) {
	if s, ok := w.(*seen); ok {
		s.route = pattern[strings.IndexByte(pattern, ' ')+1:]
	}
}

// methodOf is a request's method, of those that callers have not made up.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "other"
}
