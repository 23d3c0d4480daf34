package api

import (
	"context"
	"net/http"

	"github.com/pawlrun/pawl"
)

// FeedQuery picks what [Client.Feed] tells. Zero fields do not restrict.
type FeedQuery struct {
	Workflow string
	Run      string
	States   []pawl.State
	Attrs    map[string]string
	Types    []pawl.FeedType
	Kinds    []pawl.Kind // of entries
}

type feedInput struct {
	Workflow string   `query:"workflow"`
	Run      string   `query:"run" doc:"The id of one run."`
	States   []string `query:"state,explode" doc:"The run's state when the item was made; may be given more than once."`
	Types    []string `query:"type,explode" enum:"run,step" doc:"Of items; may be given more than once."`
	Kinds    []string `query:"kind,explode" doc:"Of entries; may be given more than once."`
	After    string   `query:"after" doc:"The id of the last event seen, for who can't send Last-Event-ID."`
	Last     string   `header:"Last-Event-ID" doc:"The id of the last event seen: the view goes on after it."`
}

func (s *server) feedRoutes() {
	add(s, route{id: "feed", method: http.MethodGet, path: "/api/feed", scope: RunsRead, prefix: "attr.", media: eventType, summary: "Follow all runs",
		about: "Server-sent events: run (its row has changed), step (an entry was appended to its journal), and gap: what came before is not told, list anew. " +
			"attr.NAME=VALUE restricts it to runs with an attribute."}, s.feed)
}

// feed tells what happens to all runs of the caller's tenant.
func (s *server) feed(ctx context.Context, in *feedInput) (*liveOutput, error) {
	filter, err := in.filter(ctx)
	if err != nil {
		return nil, err
	}
	after := in.After
	if in.Last != "" {
		after = in.Last
	}
	feed, err := s.engine.OpenFeed(ctx, filter, after)
	if err != nil {
		return nil, err
	}
	return s.view(ctx, eventType, "feed", func(ctx context.Context, l *live) {
		defer feed.Close()
		l.add([]byte("id: " + feed.Position() + "\n\n")) // no event: where to go on, should none come
		l.flush()
		err := follow(ctx, l, feed.Next, func(items []pawl.FeedItem) {
			for i := range items {
				l.pending = appendEvent(l.pending, string(items[i].Type), items[i].ID, items[i].JSON())
			}
		})
		if err != errGone {
			l.event(EventError, "", problemOf(err))
		}
	})
}

func (in *feedInput) filter(ctx context.Context) (pawl.FeedFilter, error) {
	f := pawl.FeedFilter{Tenant: tenantOf(ctx), Workflow: in.Workflow, Run: in.Run}
	for _, name := range in.States {
		state, err := pawl.ParseState(name)
		if err != nil {
			return f, badRequest("state: %v", err)
		}
		f.States = append(f.States, state)
	}
	for _, name := range in.Types {
		f.Types = append(f.Types, pawl.FeedType(name))
	}
	for _, name := range in.Kinds {
		var kind pawl.Kind
		if err := kind.UnmarshalText([]byte(name)); err != nil {
			return f, badRequest("kind: %v", err)
		}
		f.Kinds = append(f.Kinds, kind)
	}
	var err error
	f.Attrs, err = attributes(exchangeOf(ctx).r.URL.Query())
	return f, err
}
