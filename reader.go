package pawl

import (
	"context"
	"io"
	"slices"
	"sort"
	"sync"
	"time"
)

// Reader reads what a run appends, chunks of a stream ([Engine.OpenStream]) or entries of its
// journal ([Engine.OpenJournal]), each once and in order, at its own pace. All readers of
// one thing in a process share what is read of the store: a thousand cost it what one does,
// and a reader that falls behind asks the store for what it has missed. No reader slows the
// run or another reader. Use it in one goroutine, and Close it.
type Reader[T any] struct {
	s     *source[T]
	ends  func(State) bool
	start int64
	tail  int64

	pos    int64 // index of what it wants next
	round  int64 // the source's, when the reader came: a look that began earlier says nothing of an end
	moves  int64
	info   RunInfo
	over   bool
	closed sync.Once
}

// FromEnd is a from of [Engine.OpenStream]: only what is written from now on.
const FromEnd = int64(1<<63 - 1)

// Start is the index of the first element that the reader returns: what a negative from
// came to, or one after the entry to go on from.
func (r *Reader[T]) Start() int64 { return r.start }

// Tail is the index of the newest element at the time of opening; -1: there was none.
func (r *Reader[T]) Tail() int64 { return r.tail }

// Run is the run as the reader knows it: its row is looked at when nothing new comes, at
// least every Options.Poll.
func (r *Reader[T]) Run() RunInfo { return r.info }

// Next waits for elements and returns them, or none when the run's state, reason, gate or
// due time has changed: see Run. They are shared with other readers: do not change them.
// io.EOF: the stream was closed, or the run has ended, and all was returned.
func (r *Reader[T]) Next(ctx context.Context) ([]T, error) {
	for s := r.s; ; {
		if r.over {
			return nil, io.EOF
		}
		s.mu.Lock()
		behind, news, err := r.pos < s.first, s.news, s.err
		items := s.since(r.pos)
		moved := r.moves != s.moves
		if moved {
			r.moves, r.info = s.moves, s.info
		}
		atEnd := r.pos >= s.next && (s.closed || s.still > r.round && r.ends(s.info.State))
		s.mu.Unlock()
		switch {
		case behind:
			if items, err = s.page(ctx, r.pos); err != nil {
				return nil, err
			}
			if len(items) == 0 { // deleted with its run, of which the source will tell
				r.pos++
				continue
			}
			return r.took(items)
		case len(items) > 0:
			return r.took(items)
		case err != nil:
			return nil, err
		case atEnd:
			r.over = true
			continue
		case moved:
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-news:
		}
	}
}

func (r *Reader[T]) took(items []T) ([]T, error) {
	last := items[len(items)-1]
	r.pos = r.s.index(last) + 1
	if r.s.closes != nil && r.s.closes(last) {
		r.over = true
		if items = items[:len(items)-1]; len(items) == 0 {
			return nil, io.EOF
		}
	}
	return items, nil
}

// Close gives back what the reader holds.
func (r *Reader[T]) Close() { r.closed.Do(func() { r.s.e.sources.leave(r.s.key, &r.s.base) }) }

// sources are what readers in this process share, by what they read.
type sources struct {
	mu  sync.Mutex
	all map[sourceKey]any // *source[T]
}

type sourceKey struct {
	run     int64
	stream  string
	journal bool
}

// base is what a source has whatever it yields.
type base struct {
	readers int // under sources.mu
	stop    context.CancelFunc
}

func (all *sources) leave(key sourceKey, b *base) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if b.readers--; b.readers > 0 {
		return
	}
	b.stop()
	all.forget(key, b)
}

// forget sees to it that the next reader makes a source of its own. Caller holds mu.
func (all *sources) forget(key sourceKey, b *base) {
	if s, ok := all.all[key].(interface{ is(*base) bool }); ok && s.is(b) {
		delete(all.all, key)
	}
}

// source reads one stream or journal for all its readers in this process: the elements from
// first on lie in the ring. One goroutine reads on where the ring ends, when the engine
// commits something of the run, and else ever more seldom, down to once per Options.Poll.
type source[T any] struct {
	base
	e      *Engine
	key    sourceKey
	read   func(ctx context.Context, from int64) ([]T, error)
	index  func(T) int64
	size   func(T) int
	closes func(T) bool // nil: nothing does
	poke   chan struct{}

	mu     sync.Mutex
	ring   []T // never written to once it is there, as readers hold parts of it
	bytes  int
	first  int64 // of the ring
	next   int64 // after the ring
	old    map[int64]*page[T]
	info   RunInfo
	moves  int64         // how often info has changed
	round  int64         // looks at the store that have begun
	still  int64         // the newest of them that saw the run in a state to end in, and after that nothing new
	closed bool          // the ring holds the end of the stream
	err    error         // the source has ended
	news   chan struct{} // closed when there are any
}

const (
	ringItems = 1024
	ringBytes = 1 << 20
	pageItems = 256
	pageLimit = 4 // pages kept for readers that are behind
)

// page is a part of what lies before the ring. What was appended never changes, so that
// those who are behind by as much read it once.
type page[T any] struct {
	done  chan struct{}
	items []T
	err   error
}

func (s *source[T]) is(b *base) bool { return &s.base == b }

// attach makes a reader of the source with a key, and the source if there is none. tail is
// the index of the newest element in the store.
func attach[T any](e *Engine, key sourceKey, info RunInfo, from, tail int64, begin func() *source[T]) *Reader[T] {
	e.sources.mu.Lock()
	s, _ := e.sources.all[key].(*source[T])
	if s == nil {
		s = begin()
		s.e, s.key, s.info = e, key, info
		s.next = max(tail+1-pageItems, 0)
		s.first = s.next
		s.poke, s.news, s.old = make(chan struct{}, 1), make(chan struct{}), map[int64]*page[T]{}
		ctx, cancel := context.WithCancel(context.Background())
		s.stop = cancel
		if e.sources.all == nil {
			e.sources.all = map[sourceKey]any{}
		}
		e.sources.all[key] = s
		go s.follow(ctx)
	}
	s.readers++
	e.sources.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	wakeUp(s.poke)
	return &Reader[T]{s: s, start: from, tail: tail, pos: from, round: s.round, moves: s.moves, info: info}
}

// since returns what the ring holds from an index on. Caller holds mu.
func (s *source[T]) since(pos int64) []T {
	i := sort.Search(len(s.ring), func(i int) bool { return s.index(s.ring[i]) >= pos })
	return slices.Clip(s.ring[i:])
}

// page returns elements from an index on that lie before the ring.
func (s *source[T]) page(ctx context.Context, from int64) ([]T, error) {
	s.mu.Lock()
	p := s.old[from]
	if p == nil {
		if len(s.old) >= pageLimit {
			clear(s.old)
		}
		p = &page[T]{done: make(chan struct{})}
		s.old[from] = p
		s.mu.Unlock()
		p.items, p.err = s.read(context.WithoutCancel(ctx), from) // for the others too
		if p.err != nil {
			s.mu.Lock()
			if s.old[from] == p {
				delete(s.old, from)
			}
			s.mu.Unlock()
		}
		close(p.done)
		return p.items, p.err
	}
	s.mu.Unlock()
	select {
	case <-p.done:
		return p.items, p.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// follow reads on until the last reader has left, or something fails.
func (s *source[T]) follow(ctx context.Context) {
	sub := s.e.watch.subscribe(s.key.run)
	defer s.e.watch.unsubscribe(sub)
	soon := min(50*time.Millisecond, s.e.opt.Poll)
	pause := soon
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		n, err := s.look(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.e.sources.mu.Lock()
			s.e.sources.forget(s.key, &s.base)
			s.e.sources.mu.Unlock()
			s.mu.Lock()
			s.err = err
			s.tell()
			s.mu.Unlock()
			return
		}
		if n > 0 {
			pause = soon
			if n >= pageItems {
				continue
			}
		} else { // hints may come for nothing, and many at a time
			timer.Reset(min(5*time.Millisecond, pause))
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return
		case <-sub.c:
		case <-s.poke:
		case <-timer.C:
			pause = min(2*pause, s.e.opt.Poll)
		}
	}
}

// look reads what has been appended, and where that is nothing, how the run does.
func (s *source[T]) look(ctx context.Context) (n int, err error) {
	s.mu.Lock()
	s.round++
	round, from, info := s.round, s.next, s.info
	s.mu.Unlock()
	items, err := s.read(ctx, from)
	still := false
	if err == nil && len(items) == 0 {
		if info, err = s.e.Get(ctx, Ref{Tenant: info.Tenant, ID: info.ID}); err == nil && pauses(info.State) {
			items, err = s.read(ctx, from) // after the state: a run that has ended appends no more
			still = len(items) == 0
		}
	}
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range items {
		s.ring = append(s.ring, it)
		s.bytes += s.size(it)
		s.next = s.index(it) + 1
		s.closed = s.closes != nil && s.closes(it)
	}
	for len(s.ring) > 1 && (len(s.ring) > ringItems || s.bytes > ringBytes) {
		s.first = s.index(s.ring[0]) + 1
		s.bytes -= s.size(s.ring[0])
		s.ring = s.ring[1:]
	}
	if still {
		s.still = round
	}
	moved := info.State != s.info.State || info.Reason != s.info.Reason || info.Gate != s.info.Gate || !info.Due.Equal(s.info.Due)
	s.info = info
	if moved {
		s.moves++
	}
	if moved || still || len(items) > 0 {
		s.tell()
	}
	return len(items), nil
}

// tell wakes the readers. Caller holds mu.
func (s *source[T]) tell() {
	close(s.news)
	s.news = make(chan struct{})
}

// pauses reports whether a run in this state appends nothing by itself.
func pauses(s State) bool { return s.Terminal() || s == Paused || s == Blocked }
