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
	return c.view(ctx, RunPath(id)+"/events", "after", after)
}

// ReadStream returns the chunks of a run's stream from an index on and follows it until it
// has ended: see [pawl.Engine.ReadStream] for a negative from, and Follow for connections.
func (c *Client) ReadStream(ctx context.Context, id, stream string, from int64) iter.Seq2[Event, error] {
	return c.view(ctx, RunPath(id)+"/streams/"+segment(stream), "from", from)
}

// silence is how long a live view may stay without a sign of life, of which the server
// sends one at least every 15 s, before its connection is taken for dead.
const silence = time.Minute

func (c *Client) view(ctx context.Context, path, param string, begin int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		const first = 100 * time.Millisecond
		query, header := url.Values{param: {strconv.FormatInt(begin, 10)}}, http.Header{}
		var met bool       // the server was there
		var gone time.Time // since when it is not
		pause := first
		for {
			done, err := c.read(ctx, path, query, header, func(e Event) bool {
				met, gone, pause = true, time.Time{}, first
				if e.ID != "" {
					header.Set("Last-Event-ID", e.ID)
				}
				return yield(e, nil)
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

// read makes one connection and reads it to its end. done: the reader has all it wanted.
func (c *Client) read(ctx context.Context, path string, query url.Values, header http.Header, each func(Event) bool) (done bool, err error) {
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
	case EventState, EventEnd:
		e.Run = &Run{}
		return json.Unmarshal(e.Data, e.Run)
	}
	return nil
}
