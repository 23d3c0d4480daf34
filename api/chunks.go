package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/pawlrun/pawl"
)

// ChunkPage is a page of a stream, in order.
type ChunkPage struct {
	Items    []pawl.Chunk `json:"items"`
	NextFrom int64        `json:"nextFrom" doc:"The from of the next page."`
	Done     bool         `json:"done" doc:"There is no next page, and never will be."`
}

type chunksInput struct {
	ID    string `path:"id"`
	Name  string `path:"name"`
	From  int64  `query:"from" doc:"Index of the first chunk; negative counts from the end as it is now."`
	Limit int    `query:"limit" default:"100" doc:"1 to 1000."`
}

func (s *server) chunkRoutes() {
	add(s, route{id: "chunks", method: http.MethodGet, path: "/api/runs/{id}/chunks/{name...}", scope: RunsRead, free: true, summary: "Read a page of a stream"}, s.chunks)
}

// tail returns how far a stream has come, and whether it will come further.
func (s *server) tail(ctx context.Context, run pawl.Ref, name string) (info pawl.StreamInfo, ended bool, err error) {
	state, err := s.engine.Get(ctx, run) // before the streams: an ended run writes no more
	if err != nil {
		return info, false, err
	}
	all, err := s.engine.Streams(ctx, run.Tenant, run.ID)
	info = pawl.StreamInfo{Name: name, Tail: -1}
	for _, one := range all {
		if one.Name == name {
			info = one
		}
	}
	return info, info.Closed || state.State.Terminal(), err
}

func (s *server) chunks(ctx context.Context, in *chunksInput) (*output[ChunkPage], error) {
	if in.Limit < 1 || in.Limit > 1000 {
		return nil, badRequest("limit is %d; it is a number from 1 to 1000", in.Limit)
	}
	run := runRef(ctx, in.ID)
	info, ended, err := s.tail(ctx, run, in.Name)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", in.ID, err)
	}
	page := ChunkPage{Items: []pawl.Chunk{}, NextFrom: in.From}
	if in.From < 0 {
		page.NextFrom = max(info.Tail+1+in.From, 0)
	}
	size := 0
	if page.NextFrom <= info.Tail { // else the stream would be waited for
		for chunk, err := range s.engine.ReadStream(ctx, run.Tenant, run.ID, in.Name, page.NextFrom) {
			if err != nil {
				return nil, err
			}
			page.Items = append(page.Items, chunk)
			page.NextFrom = chunk.Index + 1
			if size += len(chunk.Data); len(page.Items) == in.Limit || size > maxPageBytes || chunk.Index >= info.Tail {
				break
			}
		}
	}
	page.Done = ended && page.NextFrom > info.Tail
	return &output[ChunkPage]{page}, nil
}
