package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/pawlrun/pawl"
)

// StreamList tells what streams a run has written.
type StreamList struct {
	Items []pawl.StreamInfo `json:"items"`
}

// ChunkPage is a page of a stream, as far as it is there.
type ChunkPage struct {
	Items    []pawl.Chunk `json:"items"`
	NextFrom int64        `json:"nextFrom"` // the from of the next page
	HasMore  bool         `json:"hasMore"`  // there is more now
	Done     bool         `json:"done"`     // this was the last page: the stream was closed, or its run has ended
}

func (s *server) streamRoutes() {
	add(s, route{id: "streams", method: http.MethodGet, path: "/api/runs/{id}/streams", scope: RunsRead, summary: "List a run's streams"}, s.streams)
	add(s, route{id: "readStream", method: http.MethodGet, path: "/api/runs/{id}/streams/{name...}", scope: RunsRead, free: true,
		media: eventType + " " + lineType, also: []int{http.StatusNoContent}, summary: "Follow a stream of a run",
		about: "Server-sent events: chunk, whose id is the chunk's index, then end; or, with Accept: application/x-ndjson, a chunk a line, and empty lines as signs of life. " +
			"At a chunk with first, drop what you have of its step: an attempt begins, and what one before it wrote was cut off, or has failed. " +
			"The headers Pawl-Start-Index and Pawl-Tail-Index tell where it begins and where the stream ended then. 204: what Last-Event-ID names was the end."}, s.stream)
	add(s, route{id: "chunkPage", method: http.MethodGet, path: "/api/runs/{id}/chunks/{name...}", scope: RunsRead, free: true, summary: "A page of a stream of a run"}, s.chunkPage)
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

type chunkPageInput struct {
	ID    string `path:"id"`
	Name  string `path:"name"`
	From  int64  `query:"from" doc:"Index of the first chunk; negative counts from the end as it is now."`
	Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// chunkPage answers with a page of a stream, as far as it is there.
func (s *server) chunkPage(ctx context.Context, in *chunkPageInput) (*output[ChunkPage], error) {
	if in.Limit < 1 || in.Limit > 1000 { // the route is free: a name may be empty
		return nil, badRequest("limit is %d; it is a number from 1 to 1000", in.Limit)
	}
	page, err := s.engine.Chunks(ctx, runRef(ctx, in.ID), in.Name, in.From, in.Limit)
	if err != nil {
		return nil, err
	}
	out := ChunkPage{Items: append([]pawl.Chunk{}, page.Items...), NextFrom: page.Next, HasMore: page.More, Done: page.Done}
	for i := range out.Items {
		out.Items[i].Stream = ""
	}
	return &output[ChunkPage]{out}, nil
}
