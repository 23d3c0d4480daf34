package chat

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/examples/demo"
)

const (
	maxBody = 64 << 10 // bytes of a message
	maxPage = 200      // messages that are listed at once
)

//go:embed page
var page embed.FS

type handler struct {
	chats   *Chats
	engine  *pawl.Engine
	closing context.Context
}

// Handler serves chats:
//
//	GET  /                     a page to chat
//	POST /chats/{id}/messages  {"text": …}; Idempotency-Key. The first one begins the chat
//	GET  /chats/{id}/messages  what was said; ?upto= the message of that number
//	GET  /chats/{id}/stream    what is said, as server-sent events; Last-Event-ID
//
// Streams end when closing does; their readers know where to go on.
func (s *Chats) Handler(closing context.Context, e *pawl.Engine, log *slog.Logger) http.Handler {
	h := &handler{chats: s, engine: e, closing: closing}
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // it is in the program
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /chats/{id}/messages", demo.Answer(log, h.post))
	mux.HandleFunc("GET /chats/{id}/messages", demo.Answer(log, h.list))
	stream := demo.Answer(log, func(w http.ResponseWriter, r *http.Request) (int, any, error) {
		return 0, nil, h.stream(w, r)
	})
	mux.HandleFunc("GET /chats/{id}/stream", stream)
	mux.Handle("GET /", http.FileServerFS(files))
	guarded := http.NewCrossOriginProtection().Handler(mux) // no page of another site writes here
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cache-Control", "no-store")
		guarded.ServeHTTP(w, r)
	})
}

var chatID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func idOf(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if !chatID.MatchString(id) {
		return "", demo.Refuse(http.StatusBadRequest, "the id of a chat is 1 to 64 letters, digits, - and _")
	}
	return id, nil
}

// runOf is the id of the first run of a chat. Messages for it reach the run that goes on in its place.
func runOf(chat string) string { return Name + "-" + chat }

// post takes a message. Its 202 means that the message is durable, and will be answered.
func (h *handler) post(w http.ResponseWriter, r *http.Request) (int, any, error) {
	id, err := idOf(r)
	if err != nil {
		return 0, nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return 0, nil, err
	}
	var m Message
	if err := json.Unmarshal(body, &m); err != nil || strings.TrimSpace(m.Text) == "" {
		return 0, nil, demo.Refuse(http.StatusBadRequest, `the body must be {"text": "what is said"}`)
	}
	once := r.Header.Get("Idempotency-Key")
	if m.ID = once; once == "" {
		m.ID = rand.Text()
	}
	answer, err := json.Marshal(m)
	if err != nil {
		return 0, nil, err
	}
	d := pawl.Delivery{Run: pawl.Ref{ID: runOf(id)}, Event: event, Data: m, Once: once, Answer: answer}
	receipt, err := h.engine.Deliver(r.Context(), d)
	if errors.Is(err, pawl.ErrNotFound) {
		_, err = h.chats.Start(r.Context(), h.engine, Session{Chat: id}, pawl.ID(runOf(id)), pawl.Attributes(map[string]any{attribute: id}))
		if err == nil { // events are kept from the start of the run on
			receipt, err = h.engine.Deliver(r.Context(), d)
		}
	}
	switch {
	case errors.Is(err, pawl.ErrEnded):
		return 0, nil, demo.Refuse(http.StatusGone, "the chat has ended: %v", err)
	case err != nil:
		return 0, nil, err
	case receipt.Repeated && string(receipt.First) != string(answer):
		return 0, nil, demo.Refuse(http.StatusConflict, "this Idempotency-Key was used for another message; take a new one")
	}
	return http.StatusAccepted, m, nil
}

// shown is a message as it is listed.
type shown struct {
	Number int    `json:"number"` // from 1
	By     string `json:"by"`     // user or assistant
	Text   string `json:"text"`
}

// list answers with the last messages of those up to a number.
func (h *handler) list(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	id, err := idOf(r)
	if err != nil {
		return 0, nil, err
	}
	upto := math.MaxInt
	if text := r.URL.Query().Get("upto"); text != "" {
		if upto, err = strconv.Atoi(text); err != nil || upto < 0 {
			return 0, nil, demo.Refuse(http.StatusBadRequest, "upto is %.40q; it must be the number of a message", text)
		}
	}
	out := []shown{}
	chats := agent.Conversations{Engine: h.engine}
	info, err := chats.Get(r.Context(), id)
	if errors.Is(err, pawl.ErrNotFound) { // nothing is written down yet: it may have begun all the same
		_, err = h.engine.Get(r.Context(), pawl.Ref{ID: runOf(id)})
		return http.StatusOK, out, err
	}
	if err != nil {
		return 0, nil, err
	}
	for m, err := range chats.Messages(r.Context(), id, max(0, min(upto, info.Messages)-maxPage)) {
		if err != nil {
			return 0, nil, err
		}
		if m.Position > upto {
			break
		}
		out = append(out, shown{m.Position, string(m.Role), m.Content})
	}
	return http.StatusOK, out, nil
}
