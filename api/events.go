package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl"
)

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
	entries, err := s.engine.OpenJournal(ctx, ref(r), after)
	if err != nil {
		return err
	}
	defer entries.Close()
	info := entries.Run()
	if ended != "" && info.State.Terminal() && ended == endMark(info) { // all was seen: do not come again
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	frames, leave := s.fans.join("events " + strconv.FormatInt(info.Key, 10))
	defer leave()
	l := s.live(w, r, frames)
	if !l.event(EventState, "", Run{RunInfo: info}) {
		return nil
	}
	err = follow(ctx, l, entries.Next, func(batch []pawl.Entry) {
		for i := range batch {
			e := &batch[i]
			after = e.Seq
			l.add(frames.get(e.Seq, func(b []byte) []byte { return appendEvent(b, EventEntry, strconv.FormatInt(e.Seq, 10), marshal(e)) }))
		}
		// The end is told by the end event, after all entries.
		if now := entries.Run(); !now.State.Terminal() && (now.State != info.State || now.Reason != info.Reason || !now.Due.Equal(info.Due) || now.Gate != info.Gate) {
			info = now
			l.add(appendEvent(nil, EventState, "", marshal(Run{RunInfo: now})))
		}
	})
	if err == errGone {
		return nil
	}
	return s.endEvents(ctx, l, r, after, err)
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
