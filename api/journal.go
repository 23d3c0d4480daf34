package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/pawlrun/pawl"
)

// EntryPage is a page of a run's journal, in order.
type EntryPage struct {
	Items     []pawl.Entry `json:"items"`
	NextAfter *int64       `json:"nextAfter,omitempty" doc:"The after of the next page; left out: there is none yet."`
}

// maxPageBytes is about how large a page of a journal may become.
const maxPageBytes = 4 << 20

type journalInput struct {
	ID    string `path:"id"`
	After int64  `query:"after" default:"-1" minimum:"-1" doc:"Only entries with a greater seq."`
	Limit int    `query:"limit" default:"500" minimum:"1" maximum:"500"`
}

func (s *server) journalRoutes() {
	add(s, route{id: "journalPage", method: http.MethodGet, path: "/api/runs/{id}/journal", scope: RunsRead, summary: "Read a page of a run's journal"}, s.journal)
}

func (s *server) journal(ctx context.Context, in *journalInput) (*output[EntryPage], error) {
	run := runRef(ctx, in.ID)
	info, err := s.engine.Get(ctx, run)
	if err != nil {
		return nil, err
	}
	entries := s.engine.Journal(ctx, run)
	if info.State.Terminal() {
		// Journal begins at the first entry, Follow after any; so the pages of a long run
		// that has ended cost no more the further on they are. Should the run be retried
		// just now, Follow waits: then the page ends, and asks to be gone on from.
		wait, done := context.WithTimeout(ctx, 5*time.Second)
		defer done()
		entries = s.engine.Follow(wait, run, in.After)
	}
	page := EntryPage{Items: []pawl.Entry{}}
	size := 0
	for entry, err := range entries {
		if err != nil && info.State.Terminal() && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			page.NextAfter = &in.After
			if n := len(page.Items); n > 0 {
				page.NextAfter = &page.Items[n-1].Seq
			}
			break
		}
		if err != nil {
			return nil, err
		}
		if entry.Seq <= in.After {
			continue
		}
		if len(page.Items) == in.Limit || size > maxPageBytes {
			page.NextAfter = &page.Items[len(page.Items)-1].Seq
			break
		}
		page.Items = append(page.Items, entry)
		size += len(entry.Data)
	}
	return &output[EntryPage]{page}, nil
}
