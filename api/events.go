package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/pawlrun/pawl"
)

const (
	stateSoon  = 100 * time.Millisecond // after an entry, the run's row is looked at again
	stateLater = time.Second            // and in any case
	idlePoll   = 500 * time.Millisecond // while a run is paused or blocked, of which the engine tells no end
)

// The types of [Event].
const (
	EventEntry = "entry" // a journal entry; its id is the entry's seq
	EventState = "state" // the run's row has changed: a Run
	EventChunk = "chunk" // of a stream; its id is the chunk's index
	EventEnd   = "end"   // the last one: the run has ended (a Run), or the stream has
	EventError = "error" // the last one: a Problem
)

// Event is what a live view sends.
type Event struct {
	Type string
	ID   string          // empty where the type has none
	Data json.RawMessage // as it came

	Entry *pawl.Entry // EventEntry
	Run   *Run        // EventState, and EventEnd of a run
	Chunk *pawl.Chunk // EventChunk
}

// live is a live view: server-sent events on a response that goes on.
type live struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	pulse  *time.Ticker
	cancel context.CancelFunc
	broken error
}

// liveOutput answers by itself.
type liveOutput struct{ Body func(huma.Context) }

// nothingMore tells a reader that has seen the end not to come again.
func nothingMore(ctx context.Context) (*liveOutput, error) {
	x := exchangeOf(ctx)
	return &liveOutput{func(huma.Context) {
		x.live = true
		x.w.WriteHeader(http.StatusNoContent)
	}}, nil
}

// view answers with a live view, which show fills until its context ends: with the
// connection, with the server, or with the key that the view was opened with.
func (s *server) view(ctx context.Context, show func(ctx context.Context, l *live)) (*liveOutput, error) {
	x := exchangeOf(ctx)
	return &liveOutput{func(huma.Context) {
		x.live = true
		all := x.r.Context() // a view lasts longer than the context of an ordinary request
		ctx, cancel := context.WithCancel(all)
		defer cancel()
		defer context.AfterFunc(stopping(all), cancel)()
		defer context.AfterFunc(expiry(all), cancel)()
		l := &live{w: x.w, rc: http.NewResponseController(x.w), pulse: time.NewTicker(s.opt.Heartbeat), cancel: cancel}
		defer l.pulse.Stop()
		h := x.w.Header()
		h.Set("Content-Type", eventType)
		h.Set("X-Accel-Buffering", "no") // proxies of nginx's kind would hold events back
		x.w.WriteHeader(http.StatusOK)
		l.write("retry: 1000\n\n")
		show(ctx, l)
	}}, nil
}

const eventType = "text/event-stream"

// drained ends what feeds a view: its goroutine is gone when the handler is.
func drained[T any](l *live, c <-chan T) {
	l.cancel()
	for range c {
	}
}

func (l *live) write(text string) bool {
	if l.broken == nil {
		_ = l.rc.SetWriteDeadline(time.Now().Add(writeLimit))
		if _, l.broken = l.w.Write([]byte(text)); l.broken == nil {
			l.broken = l.rc.Flush()
		}
		_ = l.rc.SetWriteDeadline(time.Time{})
	}
	return l.broken == nil
}

// event sends v. JSON has no line breaks of its own, so it is one line of data.
func (l *live) event(kind, id string, v any) bool {
	data, err := json.Marshal(v)
	if err != nil {
		l.broken = err
		return false
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	return l.write(id + "event: " + kind + "\ndata: " + string(data) + "\n\n")
}

func (l *live) beat() bool { return l.write(":\n\n") }

// feed runs produce in a goroutine of its own, so that what it yields can be awaited
// beside the heartbeat. produce ends when ctx does; feed's error is there when the channel
// is closed.
func feed[T any](ctx context.Context, produce func(yield func(T) bool) error) (<-chan T, *error) {
	c, failed := make(chan T), new(error)
	go func() {
		defer close(c)
		*failed = produce(func(v T) bool {
			select {
			case c <- v:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	return c, failed
}

type eventsInput struct {
	ID    string `path:"id"`
	After int64  `query:"after" default:"-1" doc:"Only entries with a greater seq."`
	Last  string `header:"Last-Event-ID" doc:"The id of the last event seen: the view goes on after it."`
}

// events follows a run: its entries as they are committed, its state as it changes, and
// its end.
func (s *server) events(ctx context.Context, in *eventsInput) (*liveOutput, error) {
	after, ended := in.After, ""
	if in.Last != "" {
		var err error
		if after, ended, err = lastSeen(in.Last); err != nil {
			return nil, err
		}
	}
	run := runRef(ctx, in.ID)
	info, err := s.engine.Get(ctx, run)
	if err != nil {
		return nil, err
	}
	if ended != "" && info.State.Terminal() && ended == endMark(info) { // all was seen
		return nothingMore(ctx)
	}
	return s.view(ctx, func(ctx context.Context, l *live) { s.showEvents(ctx, l, run, info, after) })
}

func (s *server) showEvents(ctx context.Context, l *live, run pawl.Ref, info pawl.RunInfo, after int64) {
	if !l.event(EventState, "", Run{RunInfo: info}) {
		return
	}
	entries, failed := feed(ctx, func(yield func(pawl.Entry) bool) error { return s.followAll(ctx, run, after, yield) })
	defer drained(l, entries)
	look := time.NewTimer(stateSoon)
	defer look.Stop()
	changed := func(now pawl.RunInfo) bool {
		same := now.State == info.State && now.Reason == info.Reason && now.Due.Equal(info.Due) && now.Gate == info.Gate
		info = now
		return !same
	}
	for soon := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-l.pulse.C:
			if !l.beat() {
				return
			}
		case <-look.C:
			now, err := s.engine.Get(ctx, run)
			// The end is told by the end event, after all entries.
			if err == nil && !now.State.Terminal() && changed(now) && !l.event(EventState, "", Run{RunInfo: now}) {
				return
			}
			soon = false
			look.Reset(stateLater)
		case entry, ok := <-entries:
			if !ok {
				s.endEvents(ctx, l, run, after, *failed)
				return
			}
			after = entry.Seq
			if !l.event(EventEntry, strconv.FormatInt(after, 10), entry) {
				return
			}
			if !soon {
				soon = true
				look.Reset(stateSoon)
			}
		}
	}
}

// followAll yields a run's entries until it has ended, through pauses and blocks.
func (s *server) followAll(ctx context.Context, run pawl.Ref, after int64, yield func(pawl.Entry) bool) error {
	for {
		info, err := s.engine.Get(ctx, run) // before the entries: an ended run appends no more
		if err != nil {
			return err
		}
		for entry, err := range s.engine.Follow(ctx, run, after) {
			if err != nil {
				return err
			}
			if !yield(entry) {
				return nil
			}
			after = entry.Seq
		}
		switch info.State {
		case pawl.Completed, pawl.Failed, pawl.Cancelled:
			return nil
		case pawl.Paused, pawl.Blocked:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(idlePoll):
			}
		}
	}
}

func (s *server) endEvents(ctx context.Context, l *live, ref pawl.Ref, after int64, err error) {
	if ctx.Err() != nil {
		return
	}
	var run Run
	if err == nil {
		var info pawl.RunInfo
		if info, err = s.engine.Get(ctx, ref); err == nil {
			run, err = s.full(ctx, info)
		}
	}
	if err != nil { // the answer has begun: the error is its last event
		l.event(EventError, "", problemOf(err))
		return
	}
	l.event(EventEnd, fmt.Sprintf("%d%s", after, endMark(run.RunInfo)), run)
}

// endMark makes the id of an end event: a run that was retried has another end.
func endMark(info pawl.RunInfo) string { return fmt.Sprintf("-end-%d", info.Epoch) }

// lastSeen reads the Last-Event-ID that a reader sends when it comes back. ended is the
// mark of the end event, if that is what was seen last.
func lastSeen(text string) (after int64, ended string, err error) {
	digits, mark, ok := strings.Cut(text, "-end")
	after, perr := strconv.ParseInt(digits, 10, 64)
	if perr != nil || after < -1 {
		return 0, "", badRequest("Last-Event-ID is %q, which is no id of this view's events", text)
	}
	if ok {
		ended = "-end" + mark
	}
	return after, ended, nil
}
