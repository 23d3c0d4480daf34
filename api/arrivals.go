package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/trigger"
)

// arrived answers a request to a path that a deployed flow has for itself (trigger.Route), and reports whether it was one.
// Such paths are public, as those of webhooks are: the checks against web pages are not for them. What stands for the check of a
// caller is the signature, of the bytes as they came.
//
// Invariants:
//   - a status of 200 to 299 is sent after the run is stored, never before;
//   - a path that is a flow's secret, as with the scheme none, is in no log.
func (s *server) arrived(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.EscapedPath() != r.URL.Path || trigger.CheckPath(r.URL.Path) != nil {
		return false
	}
	s.mark(w, r)
	if wait := s.webhooks.clients.take(s.webhooks.client(r)); wait > 0 {
		s.refuse(w, r, tooMany(w, wait, "too many requests from this address"))
		return true
	}
	ctx, cancel := context.WithTimeout(r.Context(), callLimit)
	defer cancel()
	route, err := trigger.FindRoute(ctx, s.engine, r.URL.Path)
	if errors.Is(err, pawl.ErrNotFound) {
		return false
	}
	took(w, "/{webhook of a flow}")
	if err == nil {
		err = s.arrive(ctx, w, r, &route)
	}
	if err != nil {
		s.arrivalFailed(w, r, &route, err)
	}
	return true
}

// arrive takes one request and answers it.
func (s *server) arrive(ctx context.Context, w http.ResponseWriter, r *http.Request, route *trigger.Route) error {
	if !route.Takes(r.Method) {
		w.Header().Set("Allow", route.Allow())
		return newProblem(http.StatusMethodNotAllowed, codeMethod, "this webhook takes %s", route.Allow())
	}
	if wait := s.webhooks.tokens.take("route:" + route.ID + "@" + route.Tenant); wait > 0 {
		return tooMany(w, wait, "too many requests to this webhook")
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return newProblem(http.StatusUnsupportedMediaType, codeMedia, "send the body without Content-Encoding")
	}
	body, err := readBody(w, r, s.webhooks.opt.MaxWebhookBody)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return newProblem(http.StatusRequestEntityTooLarge, "too_large", "the body is over %d bytes", large.Limit)
	case err != nil:
		return badRequest("the body broke off")
	}
	if types := r.Header.Values("Content-Type"); len(body) > 0 && (len(types) != 1 || !route.TakesType(types[0])) {
		return newProblem(http.StatusUnsupportedMediaType, codeMedia, "send it once with Content-Type: %s", route.Type())
	}
	a := trigger.Arrival{Method: r.Method, Header: r.Header, Query: r.URL.Query(), Body: body}
	if a.ID, err = s.signed(ctx, route, r.Header, body); err != nil {
		return err
	}
	leave, err := s.queued.enter(ctx, route.Tenant)
	switch {
	case err != nil:
		return err
	case leave == nil:
		return tooMany(w, backlogRetry, "too many runs wait for their beginning: nothing was done")
	}
	defer leave()
	got, err := route.Accept(ctx, s.engine, a)
	if err != nil {
		return err
	}
	s.arrivalTaken(w, route, got)
	return nil
}

// signed checks the signature, where the route asks for one, and returns what it says names the delivery.
func (s *server) signed(ctx context.Context, route *trigger.Route, header http.Header, body []byte) (id string, err error) {
	if route.Scheme == trigger.None {
		return "", nil
	}
	id, err = s.webhooks.verify(ctx, header, route.Tenant, route.Signature(), route.Secret, body)
	var bad *badSignature
	switch {
	case errors.As(err, &bad):
		return "", newProblem(http.StatusUnauthorized, codeUnauthorized, "%s", plain(err))
	case err != nil: // it is not the caller's fault
		return "", fmt.Errorf("check the signature with the secret %q: %v", route.Secret, err)
	}
	return id, nil
}

// Started is the answer to a request that has started a run of a flow.
type Started struct {
	ExecutionID string `json:"executionId"`
	Status      string `json:"status"` // started; waiting, for more or for nothing more to come; or skipped, for that run
}

func (s *server) arrivalTaken(w http.ResponseWriter, route *trigger.Route, got trigger.Accepted) {
	if got.Challenge != "" {
		send(w, http.StatusOK, "text/plain; charset=utf-8", []byte(got.Challenge))
		return
	}
	if got.Repeated {
		w.Header().Set(headerReplayed, "true")
	}
	answer := route.Response
	if answer == nil {
		status := "started"
		switch {
		case got.Skipped:
			status = "skipped"
		case got.Waits:
			status = "waiting"
		}
		body, _ := json.Marshal(Started{got.Run, status}) // texts
		send(w, http.StatusAccepted, "application/json", body)
		return
	}
	header := http.Header{}
	body := []byte(answer.Body)
	if len(body) > 0 {
		header.Set("Content-Type", "application/json")
	}
	var text string
	if json.Unmarshal(body, &text) == nil && len(body) > 0 && body[0] == '"' {
		body = []byte(text)
		header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	for name, value := range answer.Headers {
		header.Set(name, value)
	}
	s.webhooks.send(w, cmp.Or(answer.Status, http.StatusOK), header, body)
}

// arrivalFailed answers with an error. What is wrong with the server is in the log, by the route's id.
func (s *server) arrivalFailed(w http.ResponseWriter, r *http.Request, route *trigger.Route, err error) {
	var place *trigger.PlaceError
	var read *trigger.ArrivalError
	var p *Problem
	switch {
	case errors.As(err, &p):
	case errors.As(err, &place), errors.As(err, &read):
		p = badRequest("%s", plain(err))
	case errors.Is(err, pawl.ErrTooLarge), errors.Is(err, pawl.ErrEncoding):
		p = problemOf(err)
	case errors.Is(err, pawl.ErrInput):
		p = newProblem(http.StatusUnprocessableEntity, "input", "%s", plain(err))
	case errors.Is(err, pawl.ErrState): // it was deactivated a moment ago
		p = newProblem(http.StatusNotFound, codeNoRoute, "no version of the flow is active")
	default:
		if r.Context().Err() == nil {
			s.log.Error("pawl: a webhook of a flow could not be answered", "trigger", route.ID, "tenant", route.Tenant, "requestId", w.Header().Get(headerRequestID), "error", err)
		}
		w.Header().Set("Retry-After", strconv.Itoa(int(storeRetry/time.Second)))
		p = newProblem(http.StatusServiceUnavailable, "unavailable", "it could not be taken; send it again")
	}
	p.RequestID = w.Header().Get(headerRequestID)
	body, _ := json.Marshal(p) // strings and a number
	send(w, p.Status, problemType, body)
}
