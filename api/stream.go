package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

const (
	headerStart = "Pawl-Start-Index"
	headerTail  = "Pawl-Tail-Index"
	typeLines   = "application/x-ndjson"
)

// stream follows one stream of a run, as server-sent events or as lines of JSON.
func (s *server) stream(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(stopping(r.Context()), cancel)()
	from, ended, err := beginning(r)
	if err != nil {
		return err
	}
	chunks, err := s.engine.OpenStream(ctx, ref(r), r.PathValue("name"), from)
	if err != nil {
		return err
	}
	defer chunks.Close()
	if ended { // all was seen: do not come again
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	h := w.Header()
	h.Set(headerStart, strconv.FormatInt(chunks.Start(), 10))
	h.Set(headerTail, strconv.FormatInt(chunks.Tail(), 10))
	last := chunks.Start() - 1
	what := fmt.Sprintf("%d/%s", chunks.Run().Key, r.PathValue("name"))
	if wantsLines(r) {
		frames, leave := s.fans.join("lines " + what)
		defer leave()
		l := s.lines(w, frames, typeLines, "\n")
		_ = l.rc.Flush() // the head, though there may be nothing yet
		err = follow(ctx, l, chunks.Next, func(batch []pawl.Chunk) {
			for i := range batch {
				c := &batch[i]
				l.add(frames.get(c.Index, func(b []byte) []byte { return append(appendChunk(b, c), '\n') }))
			}
		})
		if err != nil || ctx.Err() != nil { // that it was not all must show: there is no other end than that of the body
			panic(http.ErrAbortHandler)
		}
		return nil
	}
	frames, leave := s.fans.join("stream " + what)
	defer leave()
	l := s.live(w, r, frames)
	err = follow(ctx, l, chunks.Next, func(batch []pawl.Chunk) {
		for i := range batch {
			c := &batch[i]
			last = c.Index
			l.add(frames.get(c.Index, func(b []byte) []byte {
				return appendEvent(b, EventChunk, strconv.FormatInt(c.Index, 10), appendChunk(nil, c))
			}))
		}
	})
	switch {
	case err == errGone:
	case err != nil:
		l.event(EventError, "", problemOf(err))
	default:
		l.event(EventEnd, fmt.Sprintf("%d-end", last), struct{}{})
	}
	return nil
}

// beginning reads where a stream is to be read from. ended: its end was seen.
func beginning(r *http.Request) (from int64, ended bool, err error) {
	query := r.URL.Query()
	if from, err = number[int64](query, "from", 0, -1<<62, 1<<62); err != nil {
		return 0, false, err
	}
	if query.Has("tail") {
		tail, err := strconv.ParseBool(query.Get("tail"))
		if err != nil {
			return 0, false, badRequest("parameter tail is %q, which is neither true nor false", query.Get("tail"))
		}
		if tail && query.Has("from") {
			return 0, false, badRequest("tail begins at the end, from somewhere else: give one of them")
		}
		if tail {
			from = pawl.FromEnd
		}
	}
	if r.Header.Get("Last-Event-ID") != "" {
		last, mark, err := lastSeen(r, "from", 0)
		if err != nil {
			return 0, false, err
		}
		return last + 1, mark != "", nil
	}
	return from, false, nil
}

// wantsLines reports whether the reader asks for lines of JSON rather than for events.
func wantsLines(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(accept, ",") {
			switch kind, _, _ := mime.ParseMediaType(part); kind {
			case typeLines:
				return true
			case "text/event-stream":
				return false
			}
		}
	}
	return false
}

// appendChunk writes a chunk without its stream, which the reader knows. Its data is JSON.
func appendChunk(b []byte, c *pawl.Chunk) []byte {
	b = strconv.AppendInt(append(b, `{"index":`...), c.Index, 10)
	b = c.At.UTC().AppendFormat(append(b, `,"at":"`...), time.RFC3339Nano)
	b = append(b, '"')
	if c.Data != nil {
		b = append(append(b, `,"data":`...), oneLine(c.Data)...)
	}
	return append(b, '}')
}

// oneLine is JSON without line breaks.
func oneLine(data []byte) []byte {
	if bytes.IndexByte(data, '\n') < 0 && bytes.IndexByte(data, '\r') < 0 {
		return data
	}
	var b bytes.Buffer
	if json.Compact(&b, data) != nil {
		return marshal(string(data))
	}
	return b.Bytes()
}

// chunkPage answers with a page of a stream, as far as it is there.
func (s *server) chunkPage(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	from, err := number[int64](query, "from", 0, -1<<62, 1<<62)
	if err != nil {
		return err
	}
	limit, err := number(query, "limit", 100, 1, 1000)
	if err != nil {
		return err
	}
	ctx, cancel := limited(r)
	defer cancel()
	page, err := s.engine.Chunks(ctx, ref(r), r.PathValue("name"), from, limit)
	if err != nil {
		return err
	}
	out := ChunkPage{Items: append([]pawl.Chunk{}, page.Items...), NextFrom: page.Next, HasMore: page.More, Done: page.Done}
	for i := range out.Items {
		out.Items[i].Stream = ""
	}
	return answer(w, http.StatusOK, out)
}
