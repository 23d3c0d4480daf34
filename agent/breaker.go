package agent

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Breaker keeps calls from an endpoint that does not work. All workers of a store share its
// circuits, one per endpoint, in records of the store.
//
// A circuit is closed at first, and its calls go. It opens after a number of failures in a
// row, of all workers: no call goes for the time of the cooldown. Then one call at a time
// may go to try; if the endpoint answers it the circuit is closed, if it fails a new cooldown
// begins. One that takes longer than Try no longer keeps others from trying: its answer still
// closes the circuit, its failure counts for nothing.
//
// What counts as a failure is that the endpoint does not answer: timeouts, no capacity, no
// connection, an answer that breaks off. A refusal because of the call's rate says
// nothing of the endpoint's health, except to one who tries; anything else is an answer.
//
// A circuit whose calls go well has no record and costs a read a second at most; each
// failure is a write. Other workers know of an open circuit within a second; and an answer
// that one got less than a second after the first failure of another does not break the row. There is no
// gobreaker beneath it: its distributed form holds a lock for as long as a call takes, and
// would stay half-open for ever after a worker that died while it tried.
//
// It is safe for concurrent use.
type Breaker struct {
	opt BreakerOptions

	mu    sync.Mutex
	views map[breakerKey]*breakerView
	swept time.Time // when views that nobody uses were last given up
}

type breakerKey struct {
	engine   *pawl.Engine
	endpoint string
}

// BreakerOptions are settings of a Breaker. All workers of a store should have the same.
type BreakerOptions struct {
	Failures int           // in a row open the circuit; 0 means 3
	Cooldown time.Duration // how long it stays open; 0 means 30 s
	Try      time.Duration // how long a call that tries may take before another may; 0 means a minute
}

// NewBreaker makes a Breaker. opt may be nil.
func NewBreaker(opt *BreakerOptions) *Breaker {
	var o BreakerOptions
	if opt != nil {
		o = *opt
	}
	o.Failures = max(cmp.Or(o.Failures, 3), 1)
	o.Cooldown = cmp.Or(max(o.Cooldown, 0), 30*time.Second)
	o.Try = cmp.Or(max(o.Try, 0), time.Minute)
	return &Breaker{opt: o, views: map[breakerKey]*breakerView{}}
}

// BreakerError reports that a call was not made because its endpoint's circuit is open. It
// is retryable: RetryAfter is the rest of the cooldown.
type BreakerError struct {
	Endpoint string    `json:"endpoint"`
	Since    time.Time `json:"since"` // when it opened
	Until    time.Time `json:"until"` // when to ask again: the cooldown is over, or a call that tries has had its time, or a cooldown's
	Failures int       `json:"failures"`
	Last     string    `json:"last"`             // what the last failure said
	Trying   bool      `json:"trying,omitempty"` // the cooldown is over, and another call is trying
}

func (e *BreakerError) Error() string {
	what := "until " + e.Until.Format(time.RFC3339)
	if e.Trying {
		what = "until a call that is trying it comes back"
	}
	return fmt.Sprintf("%s is not called: its circuit breaker is open since %s, after %d failures in a row, %s; the last was: %s; wait, use another meanwhile, or reset the breaker",
		e.Endpoint, e.Since.Format(time.RFC3339), e.Failures, what, e.Last)
}

// RetryAfter returns the time until Until, a second at least. While another call tries that is
// up to a cooldown, so that a step does not use up its attempts on an endpoint that hangs.
func (e *BreakerError) RetryAfter() (time.Duration, bool) {
	return max(time.Until(e.Until), time.Second), true
}

// ErrorCode names the error in a journal.
func (e *BreakerError) ErrorCode() string { return "breaker_open" }

// Pass is the leave to call an endpoint once.
type Pass struct {
	b        *Breaker
	engine   *pawl.Engine
	endpoint string
	since    time.Time
	trier    string // not empty: this call tries

	mu   sync.Mutex
	done bool
}

// Allow says whether an endpoint may be called now, and returns the leave to do it, whose
// Done must be called. endpoint is a name of 1 to 256 bytes, such as "openai".
// *BreakerError: its circuit is open. ErrInput; other errors are the store's.
func (b *Breaker) Allow(ctx context.Context, engine *pawl.Engine, endpoint string) (*Pass, error) {
	switch {
	case engine == nil:
		return nil, pawl.Fatal(fmt.Errorf("%w: call %q: there is no engine; in a step's body use pawl.EngineOf(ctx)", pawl.ErrInput, endpoint))
	case endpoint == "" || len(endpoint) > maxBucket:
		return nil, pawl.Fatal(fmt.Errorf("%w: the name of an endpoint has 1 to %d bytes, and this has %d", pawl.ErrInput, maxBucket, len(endpoint)))
	}
	c, err := b.view(ctx, engine, endpoint)
	if err != nil {
		return nil, err
	}
	p := &Pass{b: b, engine: engine, endpoint: endpoint, since: time.Now()}
	if c.Since.IsZero() {
		return p, nil
	}
	if err := b.refuses(&c, endpoint, p.since); err != nil {
		return nil, err
	}
	err = b.change(ctx, engine, endpoint, func(c *circuit, now time.Time) error {
		p.trier = ""
		if c.Since.IsZero() { // it was closed meanwhile
			return errSame
		}
		if err := b.refuses(c, endpoint, now); err != nil {
			return err
		}
		p.trier = newID()
		c.Trier, c.Lapses = p.trier, now.Add(b.opt.Try)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Open returns why no call of an endpoint may go now, as a *BreakerError, if so. It takes nothing.
func (b *Breaker) Open(ctx context.Context, engine *pawl.Engine, endpoint string) error {
	c, err := b.view(ctx, engine, endpoint)
	if err != nil {
		return err
	}
	return b.refuses(&c, endpoint, time.Now())
}

// Done says how the call ended; nil: it was answered. Only the first call counts. An error
// is the store's: what it was told is then not known to others.
func (p *Pass) Done(err error) error {
	p.mu.Lock()
	done := p.done
	p.done = true
	p.mu.Unlock()
	said := verdictOf(err)
	if done || said == nothing && p.trier == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if said == answered && p.trier == "" {
		if c, err := p.b.view(ctx, p.engine, p.endpoint); err != nil || c.Failures == 0 {
			return err
		}
	}
	return p.b.change(ctx, p.engine, p.endpoint, func(c *circuit, now time.Time) error {
		open := !c.Since.IsZero()
		switch {
		case open && p.trier != "" && said == answered: // even if it took so long that another tries
			*c = circuit{}
		case open && (p.trier == "" || p.trier != c.Trier): // it began before, or took so long
			return errSame
		case said == failed:
			c.Failures++
			c.Last = cutText(err.Error(), maxLast)
			if open || c.Failures >= p.b.opt.Failures {
				if !open {
					c.Since = now
				}
				c.Until = now.Add(p.b.opt.Cooldown)
			}
		case said == answered || open && llm.KindOf(err) == llm.RateLimited:
			*c = circuit{}
		case !open:
			return errSame
		}
		c.Trier, c.Lapses = "", time.Time{}
		return nil
	})
}

type verdict int

const (
	nothing  verdict = iota // was said of the endpoint's health
	answered                // by the endpoint
	failed
)

func verdictOf(err error) verdict {
	if err == nil {
		return answered
	}
	switch llm.KindOf(err) {
	case "", llm.RateLimited: // such as: the caller was cancelled
		return nothing
	case llm.Timeout, llm.Overloaded, llm.Unavailable, llm.Truncated:
		return failed
	}
	return answered
}
