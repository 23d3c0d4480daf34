package llmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/pawlrun/pawl/llm"
)

// maxBody is the largest request that Server reads.
const maxBody = 16 << 20

// Server returns a handler that speaks the wire formats of OpenAI (chat completions, whole
// and as a stream of events, and embeddings) and of Anthropic (messages, whole and as a
// stream), lists models, and answers by s:
//
//	POST /v1/chat/completions   POST /v1/embeddings   POST /v1/messages   GET /v1/models
//
// The paths may begin with /v1 or not. Any key, or none, is accepted. s.Calls counts the
// HTTP calls that reached it.
//
// An [llm.Error] that s returns is sent with the status, code and Retry-After headers
// that the provider would use for its kind, or with its own Status and Code if it has
// them. One of kind llm.Truncated breaks the connection off in the middle of an answer. A
// request that the provider would refuse for its form, such as a message without content,
// gets status 400.
func Server(s *Scripted) http.Handler { return (&server{script: s}).handler() }

// server answers by script. What is done to calls beside that, refusing and counting them,
// is the affair of its gate, which may be nil.
type server struct {
	script *Scripted
	gate   gate
}

// gate sees every call that could be read. It lets the call through or refuses it with an
// error, and is told how it ended. The limits of both go into the headers.
type gate interface {
	admit(ctx context.Context, d *dialect, model string, body []byte) (llm.Limits, *llm.Error)
	done(d *dialect, model string, body []byte, usage llm.Usage, err error)
}

// dialect is how one provider writes what all have in common.
type dialect struct {
	provider  string
	read      func(body []byte) (*llm.Request, reply, error)
	answer    func(w http.ResponseWriter, res *llm.Response)
	stream    func(w http.ResponseWriter, res *llm.Response, how reply)
	cut       func(w http.ResponseWriter, how reply) // begins an answer
	fail      func(w http.ResponseWriter, e *llm.Error)
	setLimits func(h http.Header, l llm.Limits)
	named     func(wait time.Duration) time.Duration // as a client can read it
}

// reply is how an answer is asked for.
type reply struct{ stream, usage bool }

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	for _, prefix := range []string{"", "/v1"} {
		mux.HandleFunc("POST "+prefix+"/chat/completions", func(w http.ResponseWriter, r *http.Request) { s.generate(&openAI, w, r) })
		mux.HandleFunc("POST "+prefix+"/embeddings", func(w http.ResponseWriter, r *http.Request) { s.embed(&openAI, w, r) })
		mux.HandleFunc("POST "+prefix+"/messages", func(w http.ResponseWriter, r *http.Request) { s.generate(&anthropic, w, r) })
		mux.HandleFunc("GET "+prefix+"/models", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, models) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		dialectOf(r).fail(w, &llm.Error{Kind: llm.BadRequest, Status: http.StatusNotFound, Code: "unknown_url", Message: "there is no " + r.Method + " " + r.URL.Path + " here"})
	})
	return mux
}

// models is a list that clients of both formats can read.
var models = map[string]any{
	"object": "list", "has_more": false, "first_id": ModelName, "last_id": ModelName,
	"data": []any{map[string]any{
		"id": ModelName, "object": "model", "type": "model", "display_name": ModelName,
		"owned_by": ProviderName, "created": 0, "created_at": "1970-01-01T00:00:00Z",
	}},
}

// dialectOf is what a call without a path of its own is answered in.
func dialectOf(r *http.Request) *dialect {
	if r.Header.Get("Anthropic-Version") != "" {
		return &anthropic
	}
	return &openAI
}

func (s *server) generate(d *dialect, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		d.fail(w, badRequest("", "the body cannot be read: "+err.Error()))
		return
	}
	req, how, err := d.read(body)
	if err != nil {
		d.fail(w, badRequest("", err.Error()))
		return
	}
	limits, refused := s.admit(r.Context(), d, req.Model, body)
	if refused != nil {
		d.setLimits(w.Header(), limits)
		d.fail(w, refused)
		return
	}
	res, err := s.script.Generate(r.Context(), req)
	if err != nil {
		var used llm.Usage
		if e, ok := errors.AsType[*llm.Error](err); ok {
			used, limits = e.Usage, both(limits, e.Limits)
		}
		s.done(d, req.Model, body, used, err)
		d.setLimits(w.Header(), limits)
		s.failed(d, w, how, err)
		return
	}
	s.done(d, req.Model, body, res.Usage, nil)
	d.setLimits(w.Header(), both(limits, res.Limits))
	if how.stream {
		d.stream(w, res, how)
	} else {
		d.answer(w, res)
	}
}

func (s *server) embed(d *dialect, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		d.fail(w, badRequest("", "the body cannot be read: "+err.Error()))
		return
	}
	var wire wireEmbedRequest
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&wire); err != nil {
		d.fail(w, badRequest("", "the body is not an embeddings request: "+err.Error()))
		return
	}
	limits, refused := s.admit(r.Context(), d, wire.Model, body)
	d.setLimits(w.Header(), limits)
	if refused != nil {
		d.fail(w, refused)
		return
	}
	res, err := s.script.Embed(r.Context(), &llm.EmbedRequest{Model: wire.Model, Input: wire.Input, Dimensions: wire.Dimensions})
	if err != nil {
		s.done(d, wire.Model, body, llm.Usage{}, err)
		s.failed(d, w, reply{}, err)
		return
	}
	s.done(d, wire.Model, body, res.Usage, nil)
	writeJSON(w, wireVectorsOf(res, wire.EncodingFormat == "base64"))
}

func (s *server) admit(ctx context.Context, d *dialect, model string, body []byte) (llm.Limits, *llm.Error) {
	if s.gate == nil {
		return llm.Limits{}, nil
	}
	return s.gate.admit(ctx, d, model, body)
}

func (s *server) done(d *dialect, model string, body []byte, usage llm.Usage, err error) {
	if s.gate != nil {
		s.gate.done(d, model, body, usage, err)
	}
}

// both is what a script says of limits, or else what the gate says.
func both(gate, script llm.Limits) llm.Limits {
	if script != (llm.Limits{}) {
		return script
	}
	return gate
}

// failed tells the client of an error of the script.
func (s *server) failed(d *dialect, w http.ResponseWriter, how reply, err error) {
	if errors.Is(err, context.Canceled) {
		return // by the client, which does not listen any more
	}
	e, ok := errors.AsType[*llm.Error](err)
	if !ok {
		e = &llm.Error{Kind: llm.Unavailable, Message: err.Error()}
	}
	if e.Kind == llm.Truncated {
		d.cut(w, how)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	d.fail(w, e)
}

func writeJSON(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	// A client that has gone away is no affair of a server's.
	_ = json.NewEncoder(w).Encode(body)
}
