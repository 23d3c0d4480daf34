package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/pawlrun/pawl"
)

// StreamList tells what streams a run has written.
type StreamList struct {
	Items []pawl.StreamInfo `json:"items"`
}

type streamInput struct {
	ID   string `path:"id"`
	Name string `path:"name"`
	From int64  `query:"from" doc:"Index of the first chunk; negative counts from the end as it is now."`
	Tail int64  `query:"tail" doc:"Begin with so many of the newest chunks: as from, negative."`
	Last string `header:"Last-Event-ID" doc:"The id of the last event seen: the view goes on after it."`
}

func (s *server) streamRoutes() {
	add(s, route{id: "streams", method: http.MethodGet, path: "/api/runs/{id}/streams", scope: RunsRead, summary: "List a run's streams"}, s.streams)
	add(s, route{id: "readStream", method: http.MethodGet, path: "/api/runs/{id}/streams/{name...}", scope: RunsRead, free: true,
		media: eventType + " " + lineType, also: []int{http.StatusNoContent}, summary: "Follow a stream of a run",
		about: "Server-sent events: chunk, whose id is the chunk's index, then end. 204: what Last-Event-ID names was the end. " +
			"With Accept: application/x-ndjson it is one chunk a line, and breaks off where it does not end. " +
			"The headers Pawl-Start-Index and Pawl-Tail-Index name the first chunk and the newest, -1: there is none."}, s.stream)
	add(s, route{id: "follow", method: http.MethodGet, path: "/api/runs/{id}/events", scope: RunsRead,
		media: eventType, also: []int{http.StatusNoContent}, summary: "Follow a run",
		about: "Server-sent events: state (a Run), entry (an Entry, whose id is its seq), then end (the Run). 204: what Last-Event-ID names was the end."}, s.events)
}

func (s *server) streams(ctx context.Context, in *idInput) (*output[StreamList], error) {
	infos, err := s.engine.Streams(ctx, tenantOf(ctx), in.ID)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", in.ID, err)
	}
	return &output[StreamList]{StreamList{Items: append([]pawl.StreamInfo{}, infos...)}}, nil
}

// stream follows one stream of a run.
func (s *server) stream(ctx context.Context, in *streamInput) (*liveOutput, error) {
	from := in.From
	if in.Tail != 0 {
		if in.Tail < 0 || in.From != 0 {
			return nil, badRequest("tail is %d; it is a number from 1, and not for a request with from", in.Tail)
		}
		from = -in.Tail
	}
	if in.Last != "" {
		last, ended, err := lastSeen(in.Last)
		if err != nil {
			return nil, err
		}
		if ended != "" {
			return nothingMore(ctx)
		}
		from = last + 1
	}
	run := runRef(ctx, in.ID)
	info, _, err := s.tail(ctx, run, in.Name)
	if err != nil {
		return nil, err
	}
	if from < 0 {
		from = max(info.Tail+1+from, 0)
	}
	x := exchangeOf(ctx)
	x.w.Header().Set("Pawl-Start-Index", strconv.FormatInt(from, 10))
	x.w.Header().Set("Pawl-Tail-Index", strconv.FormatInt(info.Tail, 10))
	return s.view(ctx, linesWanted(x.r), func(ctx context.Context, l *live) {
		chunks, failed := feed(ctx, func(yield func(pawl.Chunk) bool) error {
			for chunk, err := range s.engine.ReadStream(ctx, run.Tenant, run.ID, in.Name, from) {
				if err != nil {
					return err
				}
				if !yield(chunk) {
					return nil
				}
			}
			return nil
		})
		defer drained(l, chunks)
		last := max(from-1, -1)
		for {
			select {
			case <-ctx.Done():
				return
			case <-l.pulse.C:
				if !l.beat() {
					return
				}
			case chunk, ok := <-chunks:
				switch {
				case ok:
					last = chunk.Index
					if !l.event(EventChunk, strconv.FormatInt(last, 10), chunk) {
						return
					}
				case ctx.Err() != nil:
					return
				case *failed != nil:
					l.event(EventError, "", problemOf(*failed))
					return
				default:
					l.event(EventEnd, fmt.Sprintf("%d-end", last), struct{}{})
					return
				}
			}
		}
	})
}
