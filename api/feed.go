package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
)

// feed tells what happens to all runs.
func (s *server) feed(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(stopping(r.Context()), cancel)()
	filter, err := feedFilter(r.URL.Query())
	if err != nil {
		return err
	}
	after := r.Header.Get("Last-Event-ID")
	if after == "" {
		after = r.URL.Query().Get("after")
	}
	feed, err := s.engine.OpenFeed(ctx, filter, after)
	if err != nil {
		return err
	}
	defer feed.Close()
	fan, leave := s.fans.join("feed")
	defer leave()
	l := s.live(w, r, fan)
	l.add([]byte("id: " + feed.Position() + "\n\n")) // no event: where to go on, should none come
	l.flush()
	err = follow(ctx, l, feed.Next, func(items []pawl.FeedItem) {
		for i := range items {
			l.pending = appendEvent(l.pending, string(items[i].Type), items[i].ID, items[i].JSON())
		}
	})
	if err != errGone {
		l.event(EventError, "", problemOf(err))
	}
	return nil
}

func feedFilter(query url.Values) (f pawl.FeedFilter, err error) {
	f.Workflow, f.Run = query.Get("workflow"), query.Get("run")
	for _, name := range query["state"] {
		state, err := pawl.ParseState(name)
		if err != nil {
			return f, badRequest("parameter state: %v", err)
		}
		f.States = append(f.States, state)
	}
	for _, name := range query["type"] {
		if f.Types = append(f.Types, pawl.FeedType(name)); !slices.Contains([]string{EventRun, EventStep}, name) {
			return f, badRequest("parameter type is %q; it may be %s or %s", name, EventRun, EventStep)
		}
	}
	for _, name := range query["kind"] {
		var kind pawl.Kind
		if err := kind.UnmarshalText([]byte(name)); err != nil {
			return f, badRequest("parameter kind: %v", err)
		}
		f.Kinds = append(f.Kinds, kind)
	}
	for name, values := range query {
		if attr, ok := strings.CutPrefix(name, "attr."); ok {
			if f.Attrs == nil {
				f.Attrs = map[string]string{}
			}
			f.Attrs[attr] = values[0]
		}
	}
	return f, nil
}
