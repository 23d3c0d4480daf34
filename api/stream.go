package api

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Headers of the answer to who reads a stream.
const (
	headerStart = "Pawl-Start-Index" // the index of the first chunk, whatever a negative from came to
	headerTail  = "Pawl-Tail-Index"  // the newest one's as the view begins; -1: there was none
)

type streamInput struct {
	ID   string `path:"id"`
	Name string `path:"name"`
	From int64  `query:"from" doc:"Index of the first chunk; negative counts from the end as it is now."`
	Tail bool   `query:"tail" doc:"Begin at the end: only what is written from now on."`
	Last string `header:"Last-Event-ID" doc:"The id of the last event seen: the view goes on after it."`
	// Token is a stream token, in place of a key: see ticketOf.
	Token string `query:"token" doc:"A stream token, in place of a key."`
}

// stream follows one stream of a run, as server-sent events or as lines of JSON.
func (s *server) stream(ctx context.Context, in *streamInput) (*liveOutput, error) {
	if err := mayView(ctx, in.ID, &in.Name, nil); err != nil {
		return nil, err
	}
	x := exchangeOf(ctx)
	from := in.From
	switch {
	case in.Last != "":
		last, ended, err := lastSeen(in.Last)
		if err != nil {
			return nil, err
		}
		if ended != "" {
			return nothingMore(ctx)
		}
		from = last + 1
	case in.Tail && x.r.URL.Query().Has("from"):
		return nil, badRequest("tail begins at the end, from somewhere else: give one of them")
	case in.Tail:
		from = pawl.FromEnd
	}
	chunks, err := s.engine.OpenStream(ctx, runRef(ctx, in.ID), in.Name, from)
	if err != nil {
		return nil, err
	}
	info := chunks.Run()
	if err := mayView(ctx, in.ID, &in.Name, &info); err != nil {
		chunks.Close()
		return nil, err
	}
	h := x.w.Header()
	h.Set(headerStart, strconv.FormatInt(chunks.Start(), 10))
	h.Set(headerTail, strconv.FormatInt(chunks.Tail(), 10))
	show, form := showChunks, eventType
	if wantsLines(x.r) {
		show, form = showLines, lineType
	}
	return s.view(ctx, form, fmt.Sprintf("%d/%s", info.Key, in.Name), func(ctx context.Context, l *live) {
		defer chunks.Close()
		show(ctx, l, chunks)
	})
}

func showChunks(ctx context.Context, l *live, chunks *pawl.Reader[pawl.Chunk]) {
	last := chunks.Start() - 1
	err := follow(ctx, l, chunks.Next, func(batch []pawl.Chunk) {
		for i := range batch {
			c := &batch[i]
			last = c.Index
			l.add(l.fan.get(c.Index, func() []byte {
				return appendEvent(nil, EventChunk, strconv.FormatInt(c.Index, 10), appendChunk(nil, c))
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
}

func showLines(ctx context.Context, l *live, chunks *pawl.Reader[pawl.Chunk]) {
	err := follow(ctx, l, chunks.Next, func(batch []pawl.Chunk) {
		for i := range batch {
			c := &batch[i]
			l.add(l.fan.get(c.Index, func() []byte { return append(appendChunk(nil, c), '\n') }))
		}
	})
	if err != nil { // that it was not all must show, and there is no other end than the body's
		panic(http.ErrAbortHandler)
	}
}

// wantsLines reports whether the reader asks for lines of JSON rather than for events.
func wantsLines(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(accept, ",") {
			switch kind, _, _ := mime.ParseMediaType(part); kind {
			case lineType:
				return true
			case eventType:
				return false
			}
		}
	}
	return false
}

// appendChunk writes a chunk without its stream, which the reader knows. Its data is JSON as the engine encodes it, on one line.
func appendChunk(b []byte, c *pawl.Chunk) []byte {
	b = strconv.AppendInt(append(b, `{"index":`...), c.Index, 10)
	b = c.At.UTC().AppendFormat(append(b, `,"at":"`...), time.RFC3339Nano)
	b = append(b, '"')
	if c.Data != nil {
		b = append(append(b, `,"data":`...), c.Data...)
	}
	if c.Step != "" {
		b = append(append(b, `,"step":`...), marshal(c.Step)...)
		b = strconv.AppendInt(append(b, `,"attempt":`...), int64(c.Attempt), 10)
		b = strconv.AppendInt(append(b, `,"epoch":`...), c.Epoch, 10)
		if c.First {
			b = append(b, `,"first":true`...)
		}
	}
	return append(b, '}')
}
