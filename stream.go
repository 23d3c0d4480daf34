package pawl

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
)

// Stream is a named sequence of values that a run writes and others read while it goes on
// or later: tokens of a model's answer, progress. Chunks have indexes 0, 1, 2, …; they are
// kept with the run and are no part of its journal. Streams end with their run.
type Stream struct {
	name string
	c    *Context // a workflow's
	step *stepContext
}

// Stream returns the run's stream of a name, for the workflow function. "" is a name.
func (c *Context) Stream(name string) *Stream { return &Stream{name: name, c: c} }

// StreamOf returns the run's stream of a name, for the body of a step. What an attempt wrote
// that failed or was cut off stays in the stream: a [Chunk] says who wrote it. An attempt that
// has ended, as a body does that outlives its time limit, writes nothing more: ErrState.
func StreamOf(ctx context.Context, name string) *Stream {
	return &Stream{name: name, step: stepOf(ctx)}
}

// Write appends v. In a workflow function it is a durable call and writes once; in a step
// it returns at once, and the chunk is durable before the step's result is.
func (s *Stream) Write(v any) error { return s.put("Stream.Write", v, false) }

// Close ends the stream: readers see its end, and Write returns ErrEnded.
func (s *Stream) Close() error { return s.put("Stream.Close", nil, true) }

func (s *Stream) put(call string, v any, closed bool) error {
	if len(s.name) > maxName {
		return &MisuseError{Call: call, Why: fmt.Sprintf("the stream's name is %d bytes long, the limit is %d", len(s.name), maxName)}
	}
	if s.step != nil {
		return s.step.writeChunk(s.name, v, closed)
	}
	if s.c == nil {
		return &MisuseError{Call: call, Why: "StreamOf needs the context that a step's body was given"}
	}
	b, r := s.c.b, s.c.b.r
	if err := b.enter(call, s.name); err != nil {
		return err
	}
	defer b.exit()
	key := b.nextKey("$stream:" + s.name)
	if e := s.c.recorded(KindChunk, key); e != nil {
		_, err := stepResult(e)
		return err
	}
	chunk, err := r.chunk(s.name, v, closed) // before act: a replay must not stop at what the code alone decides
	if err != nil {
		return err
	}
	if err := s.c.act(); err != nil {
		return err
	}
	if err := r.openStreams(); err != nil {
		return err
	}
	var full error
	b.commit(func(ch *Change) {
		e := Entry{Seq: r.nextSeq(), Kind: KindChunk, Key: key, At: chunk.At}
		if full = r.number(&chunk); full == nil {
			ch.Chunks = []Chunk{chunk}
		} else {
			e.Failed, e.Data = true, mustJSON(failureOf(full))
		}
		ch.Entries = append(ch.Entries, e)
	})
	b.tell(chunk.At)
	return full
}

func (r *live) chunk(name string, v any, closed bool) (Chunk, error) {
	c := Chunk{Stream: name, At: now(), Closed: closed}
	if closed {
		return c, nil
	}
	data, err := encode("chunk of stream "+name, v, r.e.opt.MaxPayload)
	c.Data = data
	return c, err
}

// number gives the chunk its index. Caller holds mu.
func (r *live) number(c *Chunk) error {
	n := r.streams[c.Stream]
	if n < 0 {
		return fmt.Errorf("%w: stream %q was closed", ErrEnded, c.Stream)
	}
	c.Index = n
	r.streams[c.Stream] = n + 1
	if c.Closed {
		r.streams[c.Stream] = -1
	}
	return nil
}

// openStreams learns how far the streams of the run have come.
func (r *live) openStreams() error {
	r.mu.Lock()
	known := r.streams != nil
	r.mu.Unlock()
	if known {
		return nil
	}
	infos, err := r.e.store.Streams(context.Background(), r.info.Key)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.streams == nil {
		r.streams = map[string]int64{}
		for _, s := range infos {
			r.streams[s.Name] = s.Tail + 1
			if s.Closed {
				r.streams[s.Name] = -1
			}
		}
	}
	return nil
}

func (s *stepContext) writeChunk(name string, v any, closed bool) error {
	r := s.r
	if err := r.openStreams(); err != nil {
		return err
	}
	c, err := r.chunk(name, v, closed)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dead.Load() || r.phase == ending {
		return context.Cause(r.ctx)
	}
	if s.over() { // under mu: what the next attempt writes comes after
		return fmt.Errorf("%w: write to stream %q in step %s: attempt %d has ended", ErrState, name, s.key, s.attempt)
	}
	if err := r.number(&c); err != nil {
		return err
	}
	c.Step, c.Attempt, c.Epoch = s.key, s.attempt, s.epoch
	if c.First = !slices.Contains(s.wrote, name); c.First {
		s.wrote = append(s.wrote, name)
	}
	ch := r.collect(&Change{})
	ch.Chunks = []Chunk{c}
	r.e.pipe.post(&item{worker: r.worker, change: ch, then: func(it *item) {
		if it.err == nil && ch.Err == nil {
			r.e.watch.touch(r.info.Key)
		}
	}})
	return nil
}

// ReadStream returns the chunks of a run's stream from an index on, in order, and follows
// the stream until it is closed, its run has ended, or ctx does. A negative from counts
// from the end as it is now: -1 is the newest chunk. A reader that goes on from the index
// after the last that it saw misses nothing and sees nothing twice. Chunks are shared with
// other readers: do not change their Data.
func (e *Engine) ReadStream(ctx context.Context, tenant, runID, name string, from int64) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		r, err := e.OpenStream(ctx, Ref{Tenant: tenant, ID: runID}, name, from)
		if err != nil {
			yield(Chunk{}, err)
			return
		}
		each(ctx, r, yield)
	}
}

// OpenStream is ReadStream for readers that take what there is at once, and want to know
// where they begin: a negative from, or [FromEnd], is resolved when it returns.
func (e *Engine) OpenStream(ctx context.Context, run Ref, name string, from int64) (*Reader[Chunk], error) {
	info, err := e.Get(ctx, run)
	if err != nil {
		return nil, err
	}
	s, err := e.stream(ctx, info.Key, name)
	if err != nil {
		return nil, fmt.Errorf("stream %q of run %s: %w", name, run.ID, err)
	}
	switch {
	case from == FromEnd:
		from = s.Tail + 1
	case from < 0:
		from = max(s.Tail+1+from, 0)
	}
	r := attach(e, sourceKey{run: info.Key, stream: name}, info, from, s.Tail, func() *source[Chunk] {
		return &source[Chunk]{
			read: func(ctx context.Context, from int64) ([]Chunk, error) {
				return e.store.Chunks(ctx, info.Key, name, from, pageItems)
			},
			index: func(c Chunk) int64 { return c.Index }, size: func(c Chunk) int { return len(c.Data) }, closes: func(c Chunk) bool { return c.Closed },
		}
	})
	r.ends = State.Terminal
	return r, nil
}

// each yields what a reader returns, and closes it.
func each[T any](ctx context.Context, r *Reader[T], yield func(T, error) bool) {
	defer r.Close()
	for {
		items, err := r.Next(ctx)
		if err == io.EOF {
			return
		}
		if err != nil {
			var none T
			yield(none, err)
			return
		}
		for _, it := range items {
			if !yield(it, nil) {
				return
			}
		}
	}
}

// ChunkPage is a part of a stream.
type ChunkPage struct {
	Items []Chunk // in order
	Next  int64   // the from of the next page
	More  bool    // there is more now
	Done  bool    // there is no more, and there will be none: the stream was closed, or its run has ended
}

// Chunks returns up to limit chunks of a run's stream from an index on, as far as they are
// there; a negative from counts from the end. ErrNotFound: there is no such run.
func (e *Engine) Chunks(ctx context.Context, run Ref, name string, from int64, limit int) (p ChunkPage, err error) {
	info, err := e.Get(ctx, run) // before the chunks: an ended run writes no more
	if err != nil {
		return p, err
	}
	if from < 0 {
		s, err := e.stream(ctx, info.Key, name)
		if err != nil {
			return p, fmt.Errorf("stream %q of run %s: %w", name, run.ID, err)
		}
		from = max(s.Tail+1+from, 0)
	}
	p.Next, p.Done = from, info.State.Terminal()
	for {
		page, err := e.store.Chunks(ctx, info.Key, name, p.Next, limit+1-len(p.Items))
		if err != nil {
			return p, fmt.Errorf("stream %q of run %s: %w", name, run.ID, err)
		}
		for _, c := range page {
			switch {
			case c.Closed:
				p.Done = true
				return p, nil
			case len(p.Items) == limit:
				p.More, p.Done = true, false
				return p, nil
			}
			p.Items, p.Next = append(p.Items, c), c.Index+1
		}
		if len(page) == 0 {
			return p, nil
		}
	}
}

func (e *Engine) stream(ctx context.Context, run int64, name string) (StreamInfo, error) {
	infos, err := e.store.Streams(ctx, run)
	for _, s := range infos {
		if s.Name == name {
			return s, nil
		}
	}
	return StreamInfo{Name: name, Tail: -1}, err
}

// Streams tells what streams a run has written and how far each has come.
func (e *Engine) Streams(ctx context.Context, tenant, runID string) ([]StreamInfo, error) {
	info, err := e.store.Lookup(ctx, tenant, runID)
	if err != nil {
		return nil, err
	}
	return e.store.Streams(ctx, info.Key)
}
