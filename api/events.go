package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl"
)

// The types of [Event].
const (
	EventEntry = "entry" // a journal entry; its id is the entry's seq
	EventState = "state" // the run's row has changed: a Run
	EventChunk = "chunk" // of a stream; its id is the chunk's index. One that is First of a step's attempt voids what came of that step
	EventRun   = "run"   // of the feed: a run's row has changed; its id is opaque
	EventStep  = "step"  // of the feed: an entry was appended to a run's journal
	EventGap   = "gap"   // of the feed: what came before is not told; list anew
	EventEnd   = "end"   // the last one: the run has ended (a Run), or the stream has
	EventError = "error" // the last one: a Problem
)

// Event is what a live view sends.
type Event struct {
	Type string
	ID   string          // empty where the type has none
	Data json.RawMessage // as it came

	Entry *pawl.Entry    // EventEntry
	Run   *Run           // EventState, and EventEnd of a run
	Chunk *pawl.Chunk    // EventChunk
	Item  *pawl.FeedItem // EventRun, EventStep, EventGap
}

type eventsInput struct {
	ID    string `path:"id"`
	After int64  `query:"after" default:"-1" doc:"Only entries with a greater seq."`
	Last  string `header:"Last-Event-ID" doc:"The id of the last event seen: the view goes on after it."`
	// Token is a stream token, in place of a key: see ticketOf.
	Token string `query:"token" doc:"A stream token, in place of a key."`
}

// events follows a run: its entries as they are committed, its state as it changes, and
// its end.
func (s *server) events(ctx context.Context, in *eventsInput) (*liveOutput, error) {
	if err := mayView(ctx, in.ID, nil, nil); err != nil {
		return nil, err
	}
	after, ended := in.After, ""
	if in.Last != "" {
		var err error
		if after, ended, err = lastSeen(in.Last); err != nil {
			return nil, err
		}
	}
	run := runRef(ctx, in.ID)
	entries, err := s.engine.OpenJournal(ctx, run, after)
	if err != nil {
		return nil, err
	}
	info := entries.Run()
	if err := mayView(ctx, in.ID, nil, &info); err != nil {
		entries.Close()
		return nil, err
	}
	if ended != "" && info.State.Terminal() && ended == endMark(info) { // all was seen
		entries.Close()
		return nothingMore(ctx)
	}
	name := "events " // what is sent is shared by all who may see the same
	if !noteReader(ctx) {
		name = "events without words "
	}
	return s.view(ctx, eventType, fmt.Sprint(name, info.Key), func(ctx context.Context, l *live) {
		defer entries.Close()
		s.showEvents(ctx, l, run, entries, after)
	})
}

func (s *server) showEvents(ctx context.Context, l *live, run pawl.Ref, entries *pawl.Reader[pawl.Entry], after int64) {
	info, words := entries.Run(), noteReader(ctx)
	if !l.event(EventState, "", Run{RunInfo: info}) {
		return
	}
	err := follow(ctx, l, entries.Next, func(batch []pawl.Entry) {
		for i := range batch {
			e := batch[i]
			after = e.Seq
			l.add(l.fan.get(e.Seq, func() []byte {
				if !words {
					e = withoutWords(e)
				}
				return appendEvent(nil, EventEntry, strconv.FormatInt(e.Seq, 10), marshal(&e))
			}))
		}
		// The end is told by the end event, after all entries.
		if now := entries.Run(); !now.State.Terminal() && (now.State != info.State || now.Reason != info.Reason || !now.Due.Equal(info.Due) || now.Gate != info.Gate) {
			info = now
			l.add(appendEvent(nil, EventState, "", marshal(Run{RunInfo: now})))
		}
	})
	if err != errGone {
		s.endEvents(ctx, l, run, after, err)
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
