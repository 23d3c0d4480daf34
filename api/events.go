package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

const (
	stateSoon  = 100 * time.Millisecond // after an entry, the run's row is looked at again
	stateLater = time.Second            // and in any case
	idlePoll   = 500 * time.Millisecond // while a run is paused or blocked, of which the engine tells no end
)

// live is a live view: server-sent events on a response that goes on.
type live struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	pulse  *time.Ticker
	broken error
}

func (s *server) live(w http.ResponseWriter) *live {
	l := &live{w: w, rc: http.NewResponseController(w), pulse: time.NewTicker(s.opt.Heartbeat)}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // proxies of nginx's kind would hold events back
	w.WriteHeader(http.StatusOK)
	l.write("retry: 1000\n\n")
	return l
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

// events follows a run: its entries as they are committed, its state as it changes, and
// its end.
func (s *server) events(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(stopping(r.Context()), cancel)()
	after, ended, err := lastSeen(r, "after", -1)
	if err != nil {
		return err
	}
	info, err := s.engine.Get(ctx, ref(r))
	if err != nil {
		return err
	}
	if ended != "" && info.State.Terminal() && ended == endMark(info) { // all was seen: do not come again
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	l := s.live(w)
	defer l.pulse.Stop()
	if !l.event(EventState, "", Run{RunInfo: info}) {
		return nil
	}
	entries, failed := feed(ctx, func(yield func(pawl.Entry) bool) error { return s.followAll(ctx, ref(r), after, yield) })
	defer func() { // the goroutine is gone when the handler is
		cancel()
		for range entries {
		}
	}()
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
			return nil
		case <-l.pulse.C:
			if !l.beat() {
				return nil
			}
		case <-look.C:
			now, err := s.engine.Get(ctx, ref(r))
			// The end is told by the end event, after all entries.
			if err == nil && !now.State.Terminal() && changed(now) && !l.event(EventState, "", Run{RunInfo: now}) {
				return nil
			}
			soon = false
			look.Reset(stateLater)
		case entry, ok := <-entries:
			if !ok {
				return s.endEvents(ctx, l, r, after, *failed)
			}
			after = entry.Seq
			if !l.event(EventEntry, strconv.FormatInt(after, 10), entry) {
				return nil
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

func (s *server) endEvents(ctx context.Context, l *live, r *http.Request, after int64, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	var run Run
	if err == nil {
		var info pawl.RunInfo
		if info, err = s.engine.Get(ctx, ref(r)); err == nil {
			run, err = s.full(ctx, info)
		}
	}
	if err != nil { // the answer has begun: the error is its last event
		l.event(EventError, "", problemOf(err))
		return nil
	}
	l.event(EventEnd, fmt.Sprintf("%d%s", after, endMark(run.RunInfo)), run)
	return nil
}

// endMark makes the id of an end event: a run that was retried has another end.
func endMark(info pawl.RunInfo) string { return fmt.Sprintf("-end-%d", info.Epoch) }

// lastSeen reads where a live view goes on: after the Last-Event-ID that a reader sends
// when it comes back, or else after the query's parameter. ended is the mark of the end
// event, if that is what was seen last.
func lastSeen(r *http.Request, param string, otherwise int64) (after int64, ended string, err error) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		after, err = number[int64](r.URL.Query(), param, otherwise, -1<<62, 1<<62)
		return after, "", err
	}
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

// stream follows one stream of a run.
func (s *server) stream(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(stopping(r.Context()), cancel)()
	from, err := number[int64](r.URL.Query(), "from", 0, -1<<62, 1<<62)
	if err != nil {
		return err
	}
	if r.Header.Get("Last-Event-ID") != "" {
		last, ended, err := lastSeen(r, "from", 0)
		if err != nil {
			return err
		}
		if ended != "" {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		from = last + 1
	}
	if _, err := s.engine.Get(ctx, ref(r)); err != nil {
		return err
	}
	l := s.live(w)
	defer l.pulse.Stop()
	chunks, failed := feed(ctx, func(yield func(pawl.Chunk) bool) error {
		for chunk, err := range s.engine.ReadStream(ctx, "", r.PathValue("id"), r.PathValue("name"), from) {
			if err != nil {
				return err
			}
			if !yield(chunk) {
				return nil
			}
		}
		return nil
	})
	defer func() {
		cancel()
		for range chunks {
		}
	}()
	last := max(from-1, -1)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.pulse.C:
			if !l.beat() {
				return nil
			}
		case chunk, ok := <-chunks:
			switch {
			case ok:
				last = chunk.Index
				if !l.event(EventChunk, strconv.FormatInt(last, 10), chunk) {
					return nil
				}
			case ctx.Err() != nil:
				return nil
			case *failed != nil:
				l.event(EventError, "", problemOf(*failed))
				return nil
			default:
				l.event(EventEnd, fmt.Sprintf("%d-end", last), struct{}{})
				return nil
			}
		}
	}
}
