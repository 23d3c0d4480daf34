package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/pawlrun/pawl"
)

// Endpoint answers a request with a status and a body that becomes JSON, or with an error.
type Endpoint func(w http.ResponseWriter, r *http.Request) (status int, body any, err error)

// refusal is an error that is the caller's.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

// Refuse is an error that the caller is told with that status.
func Refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

type failure struct {
	Error string `json:"error"`
}

// Answer makes a handler of an endpoint. Its errors become {"error": …}: those of [Refuse] and
// those that say that something is not there, is there already, or is not well formed, with their
// text; all others go to the log, and the caller is told that they do. A nil body is no body.
func Answer(log *slog.Logger, f Endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, body, err := f(w, r)
		var refused *refusal
		var large *http.MaxBytesError
		switch {
		case err == nil:
		case errors.As(err, &refused):
			status, body = refused.status, failure{refused.text}
		case errors.As(err, &large):
			status, body = http.StatusRequestEntityTooLarge, failure{fmt.Sprintf("the body has more than %d bytes", large.Limit)}
		case errors.Is(err, pawl.ErrNotFound):
			status, body = http.StatusNotFound, failure{err.Error()}
		case errors.Is(err, pawl.ErrConflict):
			status, body = http.StatusConflict, failure{err.Error()}
		case errors.Is(err, pawl.ErrInput), errors.Is(err, pawl.ErrTooLarge):
			status, body = http.StatusBadRequest, failure{err.Error()}
		case r.Context().Err() != nil:
			return // nobody is there to be answered
		default:
			log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
			status, body = http.StatusInternalServerError, failure{"the server could not do it; its log says why"}
		}
		if body == nil {
			w.WriteHeader(status)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(body); err != nil && r.Context().Err() == nil {
			log.Warn("answer", "path", r.URL.Path, "error", err)
		}
	}
}
