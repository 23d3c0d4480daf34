package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/flow"
)

const problemType = "application/problem+json"

// Problem is an error as it travels: an RFC 9457 problem document. It answers to the
// sentinel that it was made of: errors.Is(err, pawl.ErrNotFound) is true at the client
// where it was at the server.
type Problem struct {
	Title     string `json:"title"`  // of the status
	Status    int    `json:"status"` // as in the answer's status line
	Code      string `json:"code"`   // stable; what programs look at
	Detail    string `json:"detail,omitempty"`
	Hint      string `json:"hint,omitempty"` // what to do next
	RequestID string `json:"requestId,omitempty"`
	// Errors are all that is wrong with a flow, and Warnings what is odd about it.
	Errors   []Finding `json:"errors,omitempty" doc:"All that is wrong with a document."`
	Warnings []Finding `json:"warnings,omitempty" doc:"What is odd about it."`
}

func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	if p.Hint != "" {
		text += "; " + p.Hint
	}
	return text
}

// Is reports whether target is the sentinel that p stands for.
func (p *Problem) Is(target error) bool {
	for _, row := range table {
		if row.err == target {
			return row.code == p.Code
		}
	}
	return false
}

// table gives every sentinel of the engine its status and its code. The first row that
// an error matches counts: an outcome that is unknown says so before it says why.
var table = []struct {
	err    error
	status int
	code   string
}{
	{approval.ErrDecided, http.StatusConflict, "approval_decided"},
	{approval.ErrExpired, http.StatusGone, "approval_expired"},
	{approval.ErrChanged, http.StatusConflict, "approval_changed"},
	{approval.ErrNotAllowed, http.StatusForbidden, "approval_not_allowed"},
	{approval.ErrLink, http.StatusNotFound, "approval_link"},
	{pawl.ErrUnknownOutcome, http.StatusServiceUnavailable, "unknown_outcome"},
	{pawl.ErrUnknown, http.StatusNotFound, "unknown_workflow"},
	{pawl.ErrNotFound, http.StatusNotFound, "not_found"},
	{pawl.ErrTooLarge, http.StatusRequestEntityTooLarge, "too_large"},
	{pawl.ErrEncoding, http.StatusBadRequest, "encoding"},
	{pawl.ErrInput, http.StatusBadRequest, "input"},
	{pawl.ErrConflict, http.StatusConflict, "conflict"},
	{pawl.ErrExists, http.StatusConflict, "exists"},
	{pawl.ErrEnded, http.StatusGone, "ended"},
	{pawl.ErrState, http.StatusConflict, "state"},
	{pawl.ErrDuplicate, http.StatusConflict, "duplicate"},
	{pawl.ErrBudget, http.StatusConflict, "budget"},
	{pawl.ErrCancelled, http.StatusConflict, "cancelled"},
	{pawl.ErrTimeout, http.StatusGatewayTimeout, "timeout"},
	{pawl.ErrClosed, http.StatusServiceUnavailable, "closed"},
	{pawl.ErrFenced, http.StatusServiceUnavailable, "fenced"},
	{pawl.ErrRefused, http.StatusUnprocessableEntity, "refused"}, // after those that it may wrap, which say more
	{pawl.ErrGap, http.StatusServiceUnavailable, "gap"},
	{pawl.ErrLocked, http.StatusServiceUnavailable, "locked"},
	{pawl.ErrSchema, http.StatusInternalServerError, "schema"},
	{pawl.ErrMisuse, http.StatusInternalServerError, "misuse"},
}

// Codes of problems that no sentinel stands for.
const (
	codeBadRequest   = "bad_request"     // 400: the request's form is wrong
	codeCrossOrigin  = "cross_origin"    // 403: a web page of another origin wrote
	codeUnauthorized = "unauthorized"    // 401: no key, or one that is not valid
	codeScope        = "scope"           // 403: the key lacks a scope
	codeTenant       = "tenant"          // 403: it is not for keys of a tenant
	codeLogin        = "login"           // 403: somebody could not log in
	codeNoRoute      = "no_route"        // 404: there is no such path
	codeMethod       = "method"          // 405
	codeChanged      = "changed"         // 412: it is not what If-Match names any more
	codeKeyReused    = "idempotency_key" // 422: an Idempotency-Key was given to another request
	codeKeyMade      = "key_made"        // 409: the request was carried out, and what it has told is told once
	codeMedia        = "media_type"      // 415: not sent as JSON
	codeTooMany      = "too_many"        // 429: more often than allowed; Retry-After says when again
	codeHost         = "host"            // 421: addressed under a name that is not the server's
	codeInternal     = "internal"        // 500: the log says more
	codeProvider     = "provider"        // 503: whom people log in with does not answer
	codeNotReady     = "not_ready"       // 503
)

func newProblem(status int, code, format string, args ...any) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Code: code, Detail: fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) *Problem {
	return newProblem(http.StatusBadRequest, codeBadRequest, format, args...)
}

// problemOf finds the row of err. An error without one is internal: its text is for the
// log, not for the caller.
func problemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		copied := *p
		return &copied
	}
	if found, ok := errors.AsType[flow.Problems](err); ok {
		return faulty(found)
	}
	for _, row := range table {
		if errors.Is(err, row.err) {
			return newProblem(row.status, row.code, "%s", plain(err))
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return newProblem(http.StatusGatewayTimeout, "timeout", "the server did not finish this in time")
	}
	return newProblem(http.StatusInternalServerError, codeInternal, "the server has met an error that is not yours; its log has it under the request id")
}

// plain is an error's text without the mark of the package that each sentinel carries.
func plain(err error) string {
	return strings.ReplaceAll(strings.TrimPrefix(err.Error(), "pawl: "), ": pawl: ", ": ")
}

// refuse answers with err as a problem document.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	p.RequestID = w.Header().Get(headerRequestID)
	if p.Status >= 500 && r.Context().Err() == nil {
		s.log.Error("pawl: request failed", "method", r.Method, "path", logged(r), "status", p.Status, "requestId", p.RequestID, "error", err)
	}
	body, merr := json.Marshal(p)
	if merr != nil { // strings and a number: can't be
		panic(merr)
	}
	send(w, p.Status, problemType, body)
}
