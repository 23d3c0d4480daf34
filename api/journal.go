package api

import (
	"context"
	"net/http"

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
	add(s, route{id: "journalPage", method: http.MethodGet, path: "/api/runs/{id}/journal", scope: RunsRead, summary: "Read a page of a run's journal",
		about: "Notes of what models were asked are whole with models:read; without it they tell the model, its cost and its time."}, s.journal)
}

func (s *server) journal(ctx context.Context, in *journalInput) (*output[EntryPage], error) {
	page := EntryPage{Items: []pawl.Entry{}}
	size, words := 0, noteReader(ctx)
	for entry, err := range s.engine.JournalAfter(ctx, runRef(ctx, in.ID), in.After) {
		if err != nil {
			return nil, err
		}
		if len(page.Items) == in.Limit || size > maxPageBytes {
			page.NextAfter = &page.Items[len(page.Items)-1].Seq
			break
		}
		if !words {
			entry = withoutWords(entry)
		}
		page.Items = append(page.Items, entry)
		size += len(entry.Data)
	}
	return &output[EntryPage]{page}, nil
}
