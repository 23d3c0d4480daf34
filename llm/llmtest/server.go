package llmtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/pawlrun/pawl/llm"
)

// maxBody is the largest request that Server reads.
const maxBody = 16 << 20

// Server returns a handler that speaks OpenAI's wire format, chat completions (whole and
// as a stream of events) and embeddings, and answers by s. The paths may begin with /v1
// or not. Any key, or none, is accepted. s.Calls counts the HTTP calls that reached it.
//
// An [llm.Error] that s returns is sent with the status, code and Retry-After headers
// that OpenAI would use for its kind, or with its own Status and Code if it has them. One
// of kind llm.Truncated breaks the connection off in the middle of an answer. A request
// that OpenAI would refuse for its form, such as a message without content, gets status
// 400.
func Server(s *Scripted) http.Handler {
	mux := http.NewServeMux()
	for _, prefix := range []string{"", "/v1"} {
		mux.HandleFunc("POST "+prefix+"/chat/completions", func(w http.ResponseWriter, r *http.Request) { serveChat(s, w, r) })
		mux.HandleFunc("POST "+prefix+"/embeddings", func(w http.ResponseWriter, r *http.Request) { serveEmbeddings(s, w, r) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &llm.Error{Kind: llm.BadRequest, Status: http.StatusNotFound, Code: "unknown_url", Message: "there is no " + r.Method + " " + r.URL.Path + " here"})
	})
	return mux
}

func serveChat(s *Scripted, w http.ResponseWriter, r *http.Request) {
	var wire wireRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&wire); err != nil {
		writeError(w, badRequest("", "the body is not a chat completion request: "+err.Error()))
		return
	}
	req, err := wire.request()
	if err != nil {
		writeError(w, badRequest(wire.Model, err.Error()))
		return
	}
	res, err := s.Generate(r.Context(), req)
	switch {
	case llm.KindOf(err) == llm.Truncated:
		cutOff(w, wire.Stream)
	case err != nil:
		writeError(w, err)
	case wire.Stream:
		writeStream(w, res, wire.StreamOptions.IncludeUsage)
	default:
		writeJSON(w, res.RequestID, wireAnswerOf(res))
	}
}

func serveEmbeddings(s *Scripted, w http.ResponseWriter, r *http.Request) {
	var wire wireEmbedRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&wire); err != nil {
		writeError(w, badRequest("", "the body is not an embeddings request: "+err.Error()))
		return
	}
	res, err := s.Embed(r.Context(), &llm.EmbedRequest{Model: wire.Model, Input: wire.Input, Dimensions: wire.Dimensions})
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, "", wireVectorsOf(res, wire.EncodingFormat == "base64"))
}

func writeJSON(w http.ResponseWriter, requestID string, body any) {
	w.Header().Set("Content-Type", "application/json")
	if requestID != "" {
		w.Header().Set("X-Request-Id", requestID)
	}
	// A client that has gone away is no affair of a server's.
	_ = json.NewEncoder(w).Encode(body)
}

// writeStream sends an answer event by event, each in a write of its own.
func writeStream(w http.ResponseWriter, res *llm.Response, includeUsage bool) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Request-Id", res.RequestID)
	out := http.NewResponseController(w)
	send := func(event any) {
		b, err := json.Marshal(event)
		if err != nil {
			panic(fmt.Sprintf("llmtest: an event that is no JSON: %v", err))
		}
		fmt.Fprintf(w, "data: %s\n\n", b)
		_ = out.Flush() // fails only if the client has gone away
	}
	for _, event := range wireEventsOf(res, includeUsage) {
		send(event)
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

// cutOff begins an answer and breaks the connection.
func cutOff(w http.ResponseWriter, stream bool) {
	if stream {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: {\"id\":\"cut\",\"model\":%q,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"This answer \"},\"finish_reason\":null}]}\n\n", ModelName)
	} else {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "{\"id\":\"cut\",\"model\":%q,\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"This answer ", ModelName)
	}
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// wireErrors says how OpenAI reports each kind.
var wireErrors = map[llm.Kind]struct {
	status     int
	kind, code string
}{
	llm.RateLimited:    {http.StatusTooManyRequests, "requests", "rate_limit_exceeded"},
	llm.Overloaded:     {http.StatusServiceUnavailable, "service_unavailable_error", "server_is_overloaded"},
	llm.Timeout:        {http.StatusGatewayTimeout, "server_error", ""},
	llm.Unavailable:    {http.StatusInternalServerError, "server_error", ""},
	llm.ContextTooLong: {http.StatusBadRequest, "invalid_request_error", "context_length_exceeded"},
	llm.Refused:        {http.StatusBadRequest, "invalid_request_error", "content_policy_violation"},
	llm.BadRequest:     {http.StatusBadRequest, "invalid_request_error", ""},
	llm.Auth:           {http.StatusUnauthorized, "invalid_request_error", "invalid_api_key"},
	llm.QuotaExceeded:  {http.StatusTooManyRequests, "insufficient_quota", "insufficient_quota"},
}

func writeError(w http.ResponseWriter, err error) {
	if errors.Is(err, context.Canceled) {
		return // by the client, which does not listen any more
	}
	e, ok := errors.AsType[*llm.Error](err)
	if !ok {
		e = &llm.Error{Kind: llm.Unavailable, Message: err.Error()}
	}
	about, ok := wireErrors[e.Kind]
	if !ok {
		about = wireErrors[llm.Unavailable]
	}
	if e.Status != 0 {
		about.status = e.Status
	}
	if e.Code != "" {
		about.code = e.Code
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if e.RequestID != "" {
		h.Set("X-Request-Id", e.RequestID)
	}
	if e.Wait > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.Wait.Seconds()))))
		h.Set("Retry-After-Ms", strconv.FormatFloat(float64(e.Wait)/float64(time.Millisecond), 'f', -1, 64))
	}
	w.WriteHeader(about.status)
	var code any // null, if there is none
	if about.code != "" {
		code = about.code
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"error": map[string]any{"message": e.Message, "type": about.kind, "param": nil, "code": code},
	})
}
