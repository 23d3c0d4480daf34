package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Follow returns what happens to a run, entries with Seq > after first, until it has
// ended: its last event is of type EventEnd. A connection that is lost, even because the
// server was restarted, is made again, and nothing is missed or seen twice but EventState.
// When the server stays away for longer than the client's patience the error wraps
// [ErrUnreachable].
func (c *Client) Follow(ctx context.Context, id string, after int64) iter.Seq2[Event, error] {
	return c.view(ctx, RunPath(id)+"/events", url.Values{"after": {strconv.FormatInt(after, 10)}}, nil)
}

// ReadStream returns the chunks of a run's stream from an index on and follows it until it
// has ended: see [pawl.Engine.ReadStream] for a negative from, [pawl.FromEnd] for what is
// written from now on only, and Follow for connections.
func (c *Client) ReadStream(ctx context.Context, id, stream string, from int64) iter.Seq2[Event, error] {
	query := url.Values{"from": {strconv.FormatInt(from, 10)}}
	if from == pawl.FromEnd {
		query = url.Values{"tail": {"true"}}
	}
	return c.view(ctx, RunPath(id)+"/streams/"+segment(stream), query, func(res *http.Response) {
		if start := res.Header.Get(headerStart); start != "" { // what the server made of it: a second connection begins there too
			query.Set("from", start)
			query.Del("tail")
		}
	})
}

// ChunkPage returns a page of a run's stream: chunks from an index on, at most limit of
// them; 0 means 100.
func (c *Client) ChunkPage(ctx context.Context, id, stream string, from int64, limit int) (ChunkPage, error) {
	query := url.Values{"from": {strconv.FormatInt(from, 10)}}
	if limit != 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	return call[ChunkPage](ctx, c, http.MethodGet, RunPath(id)+"/chunks/"+segment(stream), query, nil)
}

// Feed tells what happens to all runs from now on, or behind the item with the ID after.
// It does not end by itself. A connection that is lost is made again as by Follow; an
// EventGap says that some of what happened is not told: list anew.
func (c *Client) Feed(ctx context.Context, q FeedQuery, after string) iter.Seq2[Event, error] {
	query := url.Values{}
	for name, value := range map[string]string{"workflow": q.Workflow, "run": q.Run, "after": after} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for _, state := range q.States {
		query.Add("state", state.String())
	}
	for _, of := range q.Types {
		query.Add("type", string(of))
	}
	for _, kind := range q.Kinds {
		query.Add("kind", kind.String())
	}
	for name, value := range q.Attrs {
		query.Set("attr."+name, value)
	}
	return c.view(ctx, "/api/feed", query, nil)
}

// silence is how long a live view may stay without a sign of life, of which the server
// sends one at least every 15 s, before its connection is taken for dead.
const silence = time.Minute

// view reads a live view over as many connections as it takes. opened, if not nil, is called
// with the answer of each.
func (c *Client) view(ctx context.Context, path string, query url.Values, opened func(*http.Response)) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		const first = 100 * time.Millisecond
		header := http.Header{}
		var met bool       // the server was there
		var gone time.Time // since when it is not
		pause := first
		for {
			done, err := c.read(ctx, path, query, header, opened, func(e Event) bool {
				met, gone, pause = true, time.Time{}, first
				if e.ID != "" {
					header.Set("Last-Event-ID", e.ID)
				}
				return e.Type == "" || yield(e, nil)
			})
			if done {
				return
			}
			if gone.IsZero() {
				gone = time.Now()
			}
			if !met || !lasting(err) || time.Since(gone) > c.patience {
				if ctx.Err() != nil {
					err = context.Cause(ctx)
				}
				yield(Event{}, err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, 2*time.Second)
		}
	}
}

// lasting reports whether a view that ended with err is worth connecting again: the server
// went away, or is about to.
func lasting(err error) bool {
	var p *Problem
	if errors.As(err, &p) {
		return p.Status == http.StatusServiceUnavailable
	}
	return errors.Is(err, ErrUnreachable)
}

// read makes one connection and reads it to its end. An event without a type has an id only.
// done: the reader has all it wanted.
func (c *Client) read(ctx context.Context, path string, query url.Values, header http.Header, opened func(*http.Response), each func(Event) bool) (done bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	header.Set("Accept", "text/event-stream")
	res, err := c.do(ctx, http.MethodGet, path, query, nil, header)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNoContent {
		return true, nil
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind != "text/event-stream" {
		return false, c.strange(res)
	}
	if opened != nil {
		opened(res)
	}
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	lines := bufio.NewReader(res.Body)
	var e Event
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return false, fmt.Errorf("%w at %s: the connection broke off: %w", ErrUnreachable, c.Address(), err)
		}
		watchdog.Reset(silence)
		line = strings.TrimRight(line, "\r\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "id":
			e.ID = value
		case name == "event":
			e.Type = value
		case name == "data":
			e.Data = json.RawMessage(value)
		case line == "" && e.Type == "" && e.ID != "":
			each(e)
			e = Event{}
		case line == "" && e.Type != "": // the end of an event
			if err := e.decode(); err != nil {
				return false, fmt.Errorf("an event of %s can't be read: %w", c.Address(), err)
			}
			if e.Type == EventError {
				p := &Problem{}
				if err := json.Unmarshal(e.Data, p); err != nil {
					return false, err
				}
				return false, p
			}
			if !each(e) || e.Type == EventEnd {
				return true, nil
			}
			e = Event{}
		}
	}
}

// decode fills in the field that belongs to the event's type.
func (e *Event) decode() error {
	switch e.Type {
	case EventEntry:
		e.Entry = &pawl.Entry{}
		return json.Unmarshal(e.Data, e.Entry)
	case EventChunk:
		e.Chunk = &pawl.Chunk{}
		return json.Unmarshal(e.Data, e.Chunk)
	case EventRun, EventStep, EventGap:
		e.Item = &pawl.FeedItem{ID: e.ID}
		return json.Unmarshal(e.Data, e.Item)
	case EventState, EventEnd:
		e.Run = &Run{}
		return json.Unmarshal(e.Data, e.Run)
	}
	return nil
}
