package chat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
)

const (
	heartbeat  = 15 * time.Second
	writeLimit = 30 * time.Second // a reader that takes nothing for so long is gone
)

// stream sends the pieces of a chat: those of its newest run, or those after the one that
// Last-Event-ID names, and then what comes, from run to run. Pawl's own route follows a stream of
// one run; here one view goes over all of them, so the id of an event is its run and its index.
func (h *handler) stream(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	id, err := idOf(r)
	if err != nil {
		return err
	}
	run, from, err := h.place(ctx, id, r.Header.Get("Last-Event-ID"))
	if err != nil {
		return err
	}
	out := &view{w: w, rc: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // proxies of nginx's kind would hold events back
	out.write("retry: 1000\n\n")

	pieces := make(chan string)
	go func() {
		defer close(pieces)
		h.follow(ctx, run, from, pieces)
	}()
	defer func() { // the goroutine is gone when the handler is
		cancel()
		for range pieces {
		}
	}()
	pulse := time.NewTicker(heartbeat)
	defer pulse.Stop()
	for out.err == nil {
		select {
		case <-pulse.C:
			out.write(":\n\n")
		case event, ok := <-pieces:
			if !ok {
				return nil // the reader comes again, if it wants more
			}
			out.write(event)
		}
	}
	return nil
}

// follow makes events of the pieces of a run from an index on, and of the runs that go on in its
// place, until there are no more or ctx ends.
func (h *handler) follow(ctx context.Context, run string, from int64, to chan<- string) {
	for run != "" {
		for chunk, err := range h.engine.ReadStream(ctx, "", run, Stream, from) {
			if err != nil {
				return
			}
			select {
			case to <- fmt.Sprintf("id: %s/%d\ndata: %s\n\n", run, chunk.Index, chunk.Data): // JSON is one line
			case <-ctx.Done():
				return
			}
		}
		info, err := h.engine.Get(ctx, pawl.Ref{ID: run})
		if err != nil {
			return
		}
		run, from = info.Next, 0
	}
}

// place is where a reader begins: behind what it has seen last, or with the newest run.
func (h *handler) place(ctx context.Context, chat, seen string) (run string, from int64, err error) {
	if seen == "" {
		newest, err := h.engine.List(ctx, pawl.Filter{Attrs: map[string]string{attribute: chat}, Limit: 1})
		if err != nil {
			return "", 0, err
		}
		if len(newest) == 0 {
			return "", 0, demo.Refuse(http.StatusNotFound, "there is no chat %s; the first message begins it", chat)
		}
		return newest[0].ID, 0, nil
	}
	run, index, _ := strings.Cut(seen, "/")
	last, err := strconv.ParseInt(index, 10, 64)
	if err == nil && last >= 0 {
		var info pawl.RunInfo
		info, err = h.engine.Get(ctx, pawl.Ref{ID: run})
		if err == nil && info.Attrs[attribute] == chat {
			return run, last + 1, nil
		}
		if err != nil && !errors.Is(err, pawl.ErrNotFound) {
			return "", 0, err
		}
	}
	return "", 0, demo.Refuse(http.StatusBadRequest, "Last-Event-ID is %.80q, which is no id of this chat's events", seen)
}

// view writes server-sent events.
type view struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	err error
}

func (v *view) write(text string) {
	_ = v.rc.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, v.err = v.w.Write([]byte(text)); v.err == nil {
		v.err = v.rc.Flush()
	}
}
