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
	Last string `header:"Last-Event-ID" doc:"The id of the last event seen: the view goes on after it."`
}

func (s *server) streamRoutes() {
	add(s, route{id: "streams", method: http.MethodGet, path: "/api/runs/{id}/streams", scope: RunsRead, summary: "List a run's streams"}, s.streams)
	add(s, route{id: "readStream", method: http.MethodGet, path: "/api/runs/{id}/streams/{name...}", scope: RunsRead, free: true,
		media: eventType, also: []int{http.StatusNoContent}, summary: "Follow a stream of a run",
		about: "Server-sent events: chunk, whose id is the chunk's index, then end. 204: what Last-Event-ID names was the end."}, s.stream)
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
	if _, err := s.engine.Get(ctx, runRef(ctx, in.ID)); err != nil {
		return nil, err
	}
	return s.view(ctx, func(ctx context.Context, l *live) {
		chunks, failed := feed(ctx, func(yield func(pawl.Chunk) bool) error {
			for chunk, err := range s.engine.ReadStream(ctx, tenantOf(ctx), in.ID, in.Name, from) {
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
