package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// Pacer lets calls go no faster than their provider allows. All workers of a store share its
// buckets, each known by its name. [Models] has one per model, as provider/model; a provider
// of [Options] stands for one endpoint with one key, so that is one per provider, model and key.
//
// A bucket is limited by what was configured for it; where nothing was, by what response
// headers say (see [Slot.Done]). Without either its calls go at once, and cost no write.
// A limited bucket costs each worker whose calls wait about ten writes a second, however
// many they are, and at most twenty: a call may wait 50 ms for others to share its write.
//
// A bucket is kept by the clock of the worker whose clock is furthest ahead; others follow
// it. Clocks that differ, by however much, and clocks that are set while a worker runs let
// no more calls go, and hold none; but a refusal where no limit is known stops a worker whose
// clock is ahead of the one that was refused for that much less.
//
// A worker that stands still between getting a turn and making the call makes it late: such
// calls come beside those of other workers, spaced, as many as this one had turns for, which
// is about a third of a second's worth, and two seconds' more with a slow store.
//
// It is safe for concurrent use.
type Pacer struct {
	limits map[string]Limit

	mu    sync.Mutex
	lanes map[laneKey]*lane
	swept time.Time // when lanes that nobody uses were last given up
}

type laneKey struct {
	engine *pawl.Engine
	bucket string
}

// NewPacer makes a Pacer. The keys of limits are names of buckets, or the beginnings of
// names up to a slash ("openai/gpt-4o", "openai"), the longest of which holds; "" holds for
// all others. Each bucket has the whole limit for itself. All workers of a store should be
// given the same limits.
func NewPacer(limits map[string]Limit) *Pacer {
	return &Pacer{limits: maps.Clone(limits), lanes: map[laneKey]*lane{}}
}

// limit returns what is configured for a bucket.
func (p *Pacer) limit(bucket string) Limit {
	for name := bucket; ; {
		if l, ok := p.limits[name]; ok {
			return l
		}
		if name == "" {
			return Limit{}
		}
		name = name[:max(strings.LastIndexByte(name, '/'), 0)]
	}
}

// Take waits until the bucket lets a call go that is expected to use so many tokens, and
// returns the leave to make it now. engine names the store: in a step, pawl.EngineOf(ctx).
//
// Who waits is served by rank: one step of priority, higher first, is worth ten seconds of
// waiting, so that nobody starves; a step that is tried again has waited since it first
// started, for up to an hour of that, and a second more: so it goes before those that wait
// for their first turn, which came after it or with it. A call that is expected to use more tokens than a
// bucket ever holds goes when it is full.
//
// When ctx ends it returns the cause, and has taken nothing that another caller of this
// process could use. ErrInput: the bucket's name is none; other errors are the store's,
// after it could not be read or written for five seconds.
func (p *Pacer) Take(ctx context.Context, engine *pawl.Engine, bucket string, tokens int64, priority int) (*Slot, error) {
	switch {
	case engine == nil:
		return nil, pawl.Fatal(fmt.Errorf("%w: take a slot of bucket %q: there is no engine; in a step's body use pawl.EngineOf(ctx)", pawl.ErrInput, bucket))
	case bucket == "" || len(bucket) > maxBucket:
		return nil, pawl.Fatal(fmt.Errorf("%w: the name of a bucket has 1 to %d bytes, and this has %d", pawl.ErrInput, maxBucket, len(bucket)))
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	ahead := time.Duration(min(max(priority, -maxPriority), maxPriority)) * priorityWorth
	if info := pawl.InfoOf(ctx); !info.FirstStarted.IsZero() {
		ahead += min(max(time.Since(info.FirstStarted), 0), maxAge)
		if info.Attempt > 1 {
			ahead += againWorth
		}
	}
	l := p.lane(engine, bucket)
	c := &caller{tokens: min(max(tokens, 0), maxTokens), rank: l.steady() - int64(ahead), answer: make(chan grant, 1)}
	l.enter(c)
	var g grant
	select {
	case g = <-c.answer:
	case <-ctx.Done():
		l.leave(c)
		return nil, context.Cause(ctx)
	}
	if g.err != nil {
		return nil, g.err
	}
	if err := sleep(ctx, l.until(g.at)); err != nil {
		l.pass(g, true)
		return nil, err
	}
	if err := sleep(ctx, l.release(g)); err != nil {
		l.pass(g, false)
		return nil, err
	}
	return &Slot{lane: l, grant: g, released: l.now()}, nil
}

const (
	priorityWorth = 10 * time.Second
	maxPriority   = 1000
	againWorth    = time.Second
	maxAge        = time.Hour // what a step gets for having been tried before
	maxTokens     = 1 << 40
	laneKept      = time.Minute // by a process that does not use it
)

func sleep(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Slot is the leave to make one call.
type Slot struct {
	lane     *lane
	grant    grant
	released int64

	mu   sync.Mutex
	done bool
}

// Done says how the call went: how many tokens it used, or a negative number if that is not
// known, and what the answer said of the provider's limits. A refused call has used none.
// It returns at once; what it says is shared with other workers within half a second. Only
// the first call counts. A slot without Done stays as it was taken.
//
// A refusal stops the whole bucket for as long as the provider asks, or a second, only where
// nothing better is known: no limit is configured, and no header says that there is room; or
// if a header says that nothing is left. The refused call's own wait is not the Pacer's to keep.
func (s *Slot) Done(used int64, seen Seen) {
	s.mu.Lock()
	done := s.done
	s.done = true
	s.mu.Unlock()
	if done {
		return
	}
	r := report{Seen: seen.sane(), taken: s.grant.taken, spent: s.grant.spent, released: s.released, heard: s.lane.now()}
	switch {
	case seen.Refused && used < 0:
		r.more = -s.grant.tokens
	case used >= 0:
		r.more = min(used, maxTokens) - s.grant.tokens
	}
	s.lane.tell(r)
}

// sane bounds what a provider said, so that nonsense can't stop a bucket for ever.
func (s Seen) sane() Seen {
	for _, n := range []*int64{&s.RequestsLimit, &s.RequestsLeft, &s.TokensLimit, &s.TokensLeft} {
		*n = min(max(*n, 0), maxTokens)
	}
	for _, d := range []*time.Duration{&s.RequestsReset, &s.TokensReset, &s.Wait} {
		*d = min(max(*d, 0), maxHeld)
	}
	return s
}

// BucketState is what is known of a bucket, for people.
type BucketState struct {
	Bucket   string     `json:"bucket"`
	Requests GaugeState `json:"requests"`
	Tokens   GaugeState `json:"tokens"`
	Blocked  time.Time  `json:"blockedUntil,omitzero"` // nobody calls before, because a provider said so
	Waiting  int        `json:"waiting"`               // callers, of all workers
	Taken    int64      `json:"taken"`                 // calls let go since the record was made
	Refused  int64      `json:"refused"`               // of them, by the provider
	Updated  time.Time  `json:"updated"`
}

// GaugeState is what is known of one of a bucket's limits.
type GaugeState struct {
	Limit   int64         `json:"limit,omitempty"` // 0: none is known
	Per     time.Duration `json:"per,omitempty"`   // in nanoseconds
	Learned bool          `json:"learned,omitempty"`
	Left    int64         `json:"left"` // now; negative: a debt
}

// State returns the buckets that are limited, or were refused, in the last 24 hours, by
// name. Limits are those that this Pacer would use.
func (p *Pacer) State(ctx context.Context, engine *pawl.Engine) ([]BucketState, error) {
	var out []BucketState
	for after := ""; ; {
		page, err := engine.Records(ctx, paceSpace, "", after, 1000)
		if err != nil {
			return nil, fmt.Errorf("read the buckets: %w", err)
		}
		for _, r := range page {
			s, err := p.state(r, time.Now())
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		}
		if len(page) < 1000 {
			return out, nil
		}
		after = page[len(page)-1].Key
	}
}

func (p *Pacer) state(r pawl.Record, at time.Time) (BucketState, error) {
	b, err := readBucket(r)
	if err != nil {
		return BucketState{}, err
	}
	ahead := max(b.At-at.UnixNano(), 0) // of the bucket's clock
	now := at.UnixNano() + ahead
	limit := p.limit(r.Key)
	requests, tokens := b.rules(limit)
	s := BucketState{
		Bucket:   r.Key,
		Requests: gaugeState(b.Requests, requests, limit.Requests, now),
		Tokens:   gaugeState(b.Tokens, tokens, limit.Tokens, now),
		Taken:    b.Taken, Refused: b.Refused, Updated: time.Unix(0, b.At-ahead),
	}
	if b.Blocked > now {
		s.Blocked = time.Unix(0, b.Blocked-ahead)
	}
	for _, q := range b.Queues {
		if now-q.At < queueShown {
			s.Waiting += q.Callers
		}
	}
	return s, nil
}

func gaugeState(g gauge, r rule, configured, now int64) GaugeState {
	if r.limit == 0 {
		return GaugeState{}
	}
	return GaugeState{Limit: r.limit, Per: cmp.Or(r.per, time.Minute), Learned: configured <= 0, Left: g.left(r, now)}
}

// lane returns this process's queue of a bucket.
func (p *Pacer) lane(engine *pawl.Engine, bucket string) *lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.swept) > laneKept {
		p.swept = time.Now()
		maps.DeleteFunc(p.lanes, func(_ laneKey, l *lane) bool { return l.idle() })
	}
	key := laneKey{engine, bucket}
	l := p.lanes[key]
	if l == nil {
		l = &lane{engine: engine, name: bucket, worker: newID(), limit: p.limit(bucket), wake: make(chan struct{}, 1), born: time.Now()}
		p.lanes[key] = l
	}
	return l
}
