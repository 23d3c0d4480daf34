package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// fans are what live views have in common that show the same.
type fans struct {
	mu  sync.Mutex
	all map[string]*fan
}

// fan is the readers of one thing, and what was encoded for one of them and is wanted by
// the next. A slot that holds another element is no fault: then it is encoded again.
type fan struct {
	readers atomic.Int64
	slots   [512]atomic.Pointer[frame]
}

type frame struct {
	index int64
	data  []byte
}

// maxFrame is the size beyond which what was encoded is not kept.
const maxFrame = 16 << 10

func (s *fans) join(what string) (f *fan, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f = s.all[what]; f == nil {
		f = &fan{}
		if s.all == nil {
			s.all = map[string]*fan{}
		}
		s.all[what] = f
	}
	f.readers.Add(1)
	return f, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if f.readers.Add(-1) == 0 {
			delete(s.all, what)
		}
	}
}

// get returns the element with an index, encoded. Nobody writes to it.
func (f *fan) get(index int64, encode func() []byte) []byte {
	slot := &f.slots[index%int64(len(f.slots))]
	if have := slot.Load(); have != nil && have.index == index {
		return have.data
	}
	made := &frame{index, encode()}
	if len(made.data) <= maxFrame {
		slot.Store(made)
	}
	return made.data
}

const (
	perReader = 250 * time.Microsecond
	mostPause = 250 * time.Millisecond
)

// pause is how long a view gathers before it writes: nothing for a lone reader, and with
// many enough that writing to all of them stays a small part of what the machine does. It
// is another each time, so that they do not all write at once.
func (f *fan) pause() time.Duration {
	n := f.readers.Load() - 1
	if n <= 0 {
		return 0
	}
	d := min(time.Duration(n)*perReader, mostPause*2/3)
	return d/2 + rand.N(d)
}

// live is a live view: a response that goes on. Each has a buffer of its own, and its own
// position in what it shows.
type live struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	fan     *fan
	beats   time.Duration
	beat    string // what is written when nothing else is
	pending []byte
	broken  error
}

// liveOutput answers by itself.
type liveOutput struct{ Body func(huma.Context) }

// nothingMore tells a reader that has seen the end not to come again.
func nothingMore(ctx context.Context) (*liveOutput, error) {
	x := exchangeOf(ctx)
	return &liveOutput{func(huma.Context) {
		x.live = true
		send(x.w, http.StatusNoContent, "", nil)
	}}, nil
}

const (
	eventType = "text/event-stream"
	lineType  = "application/x-ndjson"
)

// view answers with a live view, which show fills until its context ends: with the
// connection, with the server, or with the key that the view was opened with. Views of the
// same thing, in the same form, share what is encoded.
func (s *server) view(ctx context.Context, contentType, thing string, show func(ctx context.Context, l *live)) (*liveOutput, error) {
	x := exchangeOf(ctx)
	all, release, err := s.hold(ctx) // a view lasts longer than the context of an ordinary request
	if err != nil {
		over, end := context.WithCancel(ctx)
		end()
		show(over, &live{fan: &fan{}, broken: err}) // which closes what it was to show
		return nil, err
	}
	return &liveOutput{func(huma.Context) {
		defer release()
		x.live = true
		ctx, cancel := context.WithCancel(all)
		defer cancel()
		defer context.AfterFunc(stopping(all), cancel)()
		fan, leave := s.fans.join(contentType + " " + thing)
		defer leave()
		l := &live{w: x.w, rc: http.NewResponseController(x.w), fan: fan, beats: s.opt.Heartbeat, beat: "\n"}
		h := x.w.Header()
		h.Set("Content-Type", contentType)
		h.Set("X-Accel-Buffering", "no") // proxies of nginx's kind would hold events back
		x.w.WriteHeader(http.StatusOK)
		if contentType == eventType {
			l.beat = ":\n\n"
			l.add([]byte("retry: 1000\n\n"))
			l.flush()
		} else {
			l.push() // the head, though there may be nothing yet
		}
		show(ctx, l)
	}}, nil
}

func (l *live) add(data []byte) { l.pending = append(l.pending, data...) }

// flush writes what was added. A reader that does not take it within writeLimit is cut off.
func (l *live) flush() bool {
	if l.broken == nil && len(l.pending) > 0 {
		l.push()
	}
	if l.pending = l.pending[:0]; cap(l.pending) > 1<<20 {
		l.pending = nil
	}
	return l.broken == nil
}

func (l *live) push() {
	_ = l.rc.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, l.broken = l.w.Write(l.pending); l.broken == nil {
		l.broken = l.rc.Flush()
	}
	_ = l.rc.SetWriteDeadline(time.Time{})
}

// event writes one event at once.
func (l *live) event(kind, id string, v any) bool {
	l.add(appendEvent(nil, kind, id, marshal(v)))
	return l.flush()
}

// appendEvent writes an event. JSON has no line breaks of its own, so it is one line of data.
func appendEvent(b []byte, kind, id string, data []byte) []byte {
	if id != "" {
		b = append(append(append(b, "id: "...), id...), '\n')
	}
	b = append(append(b, "event: "...), kind...)
	b = append(append(b, "\ndata: "...), data...)
	return append(b, "\n\n"...)
}

// marshal encodes what is ours or was JSON before.
func marshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		data, _ = json.Marshal(newProblem(http.StatusInternalServerError, codeInternal, "it has no form as JSON: %v", err))
	}
	return data
}

// errGone says that nobody reads any more: the reader has left, or the server stops.
var errGone = errors.New("the reader is gone")

// follow has add encode what next returns, and writes it, until next fails: io.EOF is nil.
// Add is called with nothing when next has nothing to add, and yet returned.
func follow[T any](ctx context.Context, l *live, next func(context.Context) ([]T, error), add func([]T)) error {
	for {
		wait, cancel := context.WithTimeout(ctx, l.beats)
		items, err := next(wait)
		cancel()
		switch {
		case ctx.Err() != nil:
			return errGone
		case err == io.EOF:
			if !l.flush() {
				return errGone
			}
			return nil
		case errors.Is(err, context.DeadlineExceeded):
			if l.pending = append(l.pending, l.beat...); !l.flush() {
				return errGone
			}
			continue
		case err != nil:
			return err
		}
		add(items)
		if pause := l.fan.pause(); pause > 0 && len(l.pending) < 64<<10 {
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return errGone
			}
			now, cancel := context.WithCancel(ctx)
			cancel() // what came meanwhile, without waiting for more
			if items, err := next(now); err == nil {
				add(items)
			}
		}
		if !l.flush() {
			return errGone
		}
	}
}
