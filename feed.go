package pawl

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// FeedType is what an item of the feed is about.
type FeedType string

// The types of items.
const (
	FeedRun  FeedType = "run"  // a run's row has changed: it was started, claimed, waits, has ended
	FeedStep FeedType = "step" // an entry was appended to a run's journal: a step has ended, a sleep began
	FeedGap  FeedType = "gap"  // what came before is not told: list anew
)

// FeedItem tells of one change, without payloads. What a run's row went through between two
// looks is told as what came of it.
type FeedItem struct {
	ID       string    `json:"-"` // opaque; the after of who goes on behind this item
	Type     FeedType  `json:"type"`
	Run      string    `json:"run,omitempty"`
	Tenant   string    `json:"tenant,omitempty"`
	Workflow string    `json:"workflow,omitempty"`
	State    State     `json:"state,omitempty"` // the run's when the item was made, also of a step
	Reason   string    `json:"reason,omitempty"`
	Gate     string    `json:"gate,omitempty"`
	Due      time.Time `json:"due,omitzero"`
	At       time.Time `json:"at,omitzero"` // of the entry, or when the row was written

	// Of a step.
	Seq     int64         `json:"seq,omitempty"`
	Key     string        `json:"key,omitempty"`
	Kind    Kind          `json:"kind,omitempty"`
	Attempt int           `json:"attempt,omitempty"`
	Failed  bool          `json:"failed,omitempty"`
	Took    time.Duration `json:"took,omitempty"` // in nanoseconds

	shared *feedShared
}

// feedShared is what all copies of an item have in common.
type feedShared struct {
	attrs map[string]string
	once  sync.Once
	json  []byte
}

// JSON is the item as JSON, made once for all who ask. Do not change it.
func (i *FeedItem) JSON() []byte {
	if i.shared == nil {
		return mustJSON(i)
	}
	i.shared.once.Do(func() { i.shared.json = mustJSON(i) })
	return i.shared.json
}

// FeedFilter picks items. Zero fields do not restrict, but for Tenant. Gaps are told to all.
type FeedFilter struct {
	Tenant     string // "" is the default tenant
	AllTenants bool   // whatever Tenant says
	Workflow   string
	Run        string // id
	States     []State
	Attrs      map[string]string
	Types      []FeedType
	Kinds      []Kind // of entries: it leaves items of runs alone
}

func (f *FeedFilter) takes(i *FeedItem) bool {
	if i.Type == FeedGap {
		return true
	}
	if !f.AllTenants && i.Tenant != f.Tenant || f.Workflow != "" && i.Workflow != f.Workflow || f.Run != "" && i.Run != f.Run ||
		len(f.States) > 0 && !slices.Contains(f.States, i.State) || len(f.Types) > 0 && !slices.Contains(f.Types, i.Type) ||
		len(f.Kinds) > 0 && i.Type == FeedStep && !slices.Contains(f.Kinds, i.Kind) {
		return false
	}
	for name, value := range f.Attrs {
		if got, ok := i.shared.attrs[name]; !ok || got != value {
			return false
		}
	}
	return true
}

// Feed tells what happens to all runs from now on, whatever process works them: what this
// engine commits within 50 ms or so, what others do within a second. It ends with ctx. after
// is the ID of the last item that was seen, or "". A FeedGap says that some items are not
// told: the reader was too slow, or after is of another process, or too long ago.
//
// All readers in a process share one reader of the store; without any, the feed costs a
// commit one atomic load.
func (e *Engine) Feed(ctx context.Context, f FeedFilter, after string) iter.Seq2[FeedItem, error] {
	return func(yield func(FeedItem, error) bool) {
		r, err := e.OpenFeed(ctx, f, after)
		if err != nil {
			yield(FeedItem{}, err)
			return
		}
		defer r.Close()
		for {
			items, err := r.Next(ctx)
			if err != nil {
				yield(FeedItem{}, err)
				return
			}
			for _, it := range items {
				if !yield(it, nil) {
					return
				}
			}
		}
	}
}

// OpenFeed is Feed for readers that take what there is at once: what is committed after it
// has returned is told.
func (e *Engine) OpenFeed(ctx context.Context, filter FeedFilter, after string) (*FeedReader, error) {
	f := &e.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.life == nil {
		news, err := e.store.News(ctx, time.Now())
		if err != nil {
			return nil, fmt.Errorf("open the feed: %w", err)
		}
		f.life = &feedLife{id: strings.ToLower(rand.Text()[:10]), next: 1, news: make(chan struct{})}
		f.on.Store(true)
		go e.tellFeed(f.life, news)
	}
	r := &FeedReader{e: e, life: f.life, filter: filter, pos: f.life.next}
	if after != "" {
		id, digits, _ := strings.Cut(after, "-")
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%w: %q is no id of an item of the feed", ErrInput, after)
		}
		if r.gap = id != f.life.id || n+1 < f.life.first() || n >= f.life.next; !r.gap {
			r.pos = n + 1
		}
	}
	f.life.readers++
	return r, nil
}

// FeedReader reads the feed: see [Engine.OpenFeed]. Use it in one goroutine, and Close it.
type FeedReader struct {
	e      *Engine
	life   *feedLife
	filter FeedFilter
	pos    int64
	gap    bool
	closed sync.Once
}

// Position is what to give as after to go on where the reader is.
func (r *FeedReader) Position() string { return r.life.name(r.pos - 1) }

// Next waits for items that the filter takes, and returns them.
func (r *FeedReader) Next(ctx context.Context) ([]FeedItem, error) {
	f, l := &r.e.feed, r.life
	for {
		var out []FeedItem
		f.mu.Lock()
		if r.pos < l.first() {
			r.gap, r.pos = true, l.next
		}
		if r.gap {
			r.gap = false
			out = append(out, FeedItem{ID: l.name(r.pos - 1), Type: FeedGap})
		}
		fresh, news, err := l.ring[r.pos-l.first():], l.news, l.err // items do not change
		f.mu.Unlock()
		for i := 0; i < len(fresh) && len(out) < feedPage; i++ {
			r.pos++
			if r.filter.takes(&fresh[i]) {
				out = append(out, fresh[i])
			}
		}
		if len(out) > 0 {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-news:
		}
	}
}

// Close gives back what the reader holds.
func (r *FeedReader) Close() {
	r.closed.Do(func() {
		f := &r.e.feed
		f.mu.Lock()
		defer f.mu.Unlock()
		r.life.readers--
		r.life.left = time.Now()
	})
}

// feed is what the readers of the feed in this process share.
type feed struct {
	on   atomic.Bool   // there is a life
	poke chan struct{} // has an element when something was committed
	mu   sync.Mutex
	life *feedLife
}

// feedLife is the feed from its first reader until a while after the last one has left, so
// that who was cut off may go on where it was. Under feed.mu.
type feedLife struct {
	id      string
	ring    []FeedItem
	next    int64
	readers int
	left    time.Time
	err     error
	news    chan struct{} // closed when there are any
}

const (
	feedRing   = 16 << 10
	feedPage   = 512
	feedLinger = 15 * time.Second
	feedPause  = 25 * time.Millisecond // between two looks at the store, at least
	feedPoll   = time.Second           // at most
)

func (l *feedLife) first() int64 { return l.next - int64(len(l.ring)) }

// name is the ID of the item with a number. The first has 1.
func (l *feedLife) name(n int64) string { return fmt.Sprintf("%s-%d", l.id, n) }

// touch says that something was committed.
func (f *feed) touch() {
	if f.on.Load() {
		wakeUp(f.poke)
	}
}

// tellFeed is the goroutine of a feedLife.
func (e *Engine) tellFeed(l *feedLife, news NewsReader) {
	f := &e.feed
	defer func() {
		if err := news.Close(); err != nil {
			e.log.Warn("pawl: close the reader of news", "error", err)
		}
	}()
	poll := min(feedPoll, e.opt.Poll)
	timer := time.NewTimer(poll)
	defer timer.Stop()
	for {
		select {
		case <-f.poke:
		case <-timer.C:
		}
		began := time.Now()
		what, err := news.Next(context.Background(), began)
		f.mu.Lock()
		switch {
		case errors.Is(err, ErrGap):
			l.add(FeedItem{Type: FeedGap, At: now()}, nil)
		case errors.Is(err, ErrClosed):
			l.err = err
		case err != nil:
			e.log.Warn("pawl: read what has changed, for the feed", "error", err)
		default:
			for i := range what {
				l.tell(&what[i])
			}
		}
		if err != nil || len(what) > 0 {
			close(l.news)
			l.news = make(chan struct{})
		}
		if l.err != nil || l.readers == 0 && time.Since(l.left) > feedLinger {
			f.life = nil
			f.on.Store(false)
			f.mu.Unlock()
			return
		}
		f.mu.Unlock()
		// The feed of a store that is hard at work must not be what it works for.
		time.Sleep(max(feedPause, 10*time.Since(began)))
		timer.Reset(poll)
	}
}

// tell adds what has happened to a run. Caller holds mu.
func (l *feedLife) tell(n *News) {
	r := &n.Run
	base := FeedItem{Run: r.ID, Tenant: r.Tenant, Workflow: r.Workflow, State: r.State, Reason: r.Reason, Gate: r.Gate, Due: r.Due}
	row := func() {
		if it := base; n.Moved {
			it.Type, it.At = FeedRun, r.Updated
			l.add(it, r.Attrs)
		}
	}
	first := r.State == Pending || r.State == Running // else what it did came before it stopped
	if first {
		row()
	}
	for i := range n.Entries {
		e, it := &n.Entries[i], base
		it.Type, it.At, it.Seq, it.Key, it.Kind, it.Attempt, it.Failed, it.Took = FeedStep, e.At, e.Seq, e.Key, e.Kind, e.Attempt, e.Failed, e.Took
		l.add(it, r.Attrs)
	}
	if !first {
		row()
	}
}

func (l *feedLife) add(it FeedItem, attrs map[string]string) {
	it.ID, it.shared = l.name(l.next), &feedShared{attrs: attrs}
	l.next++
	if l.ring = append(l.ring, it); len(l.ring) > feedRing {
		l.ring = l.ring[1:]
	}
}
