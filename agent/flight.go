package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// flight is an answer on its way, for those in this process who want it. The first of them
// leads: it alone asks the store, and makes the call if it must.
type flight struct {
	done chan struct{}

	// Set before done is closed.
	answer []byte // JSON of an *llm.Response; nil: there is none
	source CacheSource
	err    error // of the call, for all; nil with no answer: another is to lead
}

type flightKey struct {
	engine *pawl.Engine
	name   string
}

// cached is the data of a record of space cacheSpace: an answer, or in its place.
type cached struct {
	Answer json.RawMessage `json:"answer,omitempty"`
	Claim  string          `json:"claim,omitempty"` // somebody is making the call, until the record is gone
	Lease  time.Duration   `json:"lease,omitempty"` // or nobody has prolonged it for so long
	Large  bool            `json:"large,omitempty"` // the answer is too large: each makes the call
}

func (c *Cache) generate(ctx context.Context, key flightKey, ttl time.Duration, call func(context.Context) (*llm.Response, error)) (*llm.Response, CacheSource, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, CacheMiss, context.Cause(ctx)
		}
		f, leads := c.board(key)
		if leads {
			return c.lead(ctx, key, f, ttl, call)
		}
		select {
		case <-ctx.Done():
			return nil, CacheWait, context.Cause(ctx)
		case <-f.done:
		}
		if f.answer != nil {
			resp, err := readAnswer(key, f.answer)
			if f.source == CacheHit {
				return resp, CacheHit, err
			}
			return resp, CacheWait, err
		}
		if f.err != nil {
			return nil, CacheWait, fmt.Errorf("the same call was under way, and was waited for: %w", f.err)
		}
	}
}

// board joins the flight of key, or begins one.
func (c *Cache) board(key flightKey) (f *flight, leads bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[key]; f != nil {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	c.flights[key] = f
	return f, true
}

// lead gets the answer for all of a flight, and ends it, even if call panics.
func (c *Cache) lead(ctx context.Context, key flightKey, f *flight, ttl time.Duration, call func(context.Context) (*llm.Response, error)) (*llm.Response, CacheSource, error) {
	defer func() {
		c.mu.Lock()
		delete(c.flights, key)
		c.mu.Unlock()
		close(f.done)
	}()
	answer, hold, err := c.await(ctx, key)
	if err != nil {
		return nil, CacheMiss, err
	}
	if answer.data != nil {
		f.answer, f.source = answer.data, answer.source
		resp, err := readAnswer(key, answer.data)
		return resp, answer.source, err
	}
	var put pawl.Put // what is to be in the claim's place
	defer func() { hold.end(put) }()
	resp, err := call(ctx)
	switch {
	case err != nil:
		if llm.KindOf(err) != "" && ctx.Err() == nil {
			f.err = err
		}
		return resp, CacheMiss, err
	case resp == nil:
		return nil, CacheMiss, errors.New("the call returned neither an answer nor an error")
	}
	bare := *resp
	bare.Raw = nil
	data, err := json.Marshal(&bare)
	if err != nil {
		return resp, CacheMiss, nil // it can't be shared: the next one makes the call
	}
	f.answer, f.source = data, CacheMiss
	if resp.Finish == llm.FinishRefused || resp.Refusal != "" {
		return resp, CacheMiss, nil
	}
	if len(data) <= c.opt.MaxAnswer {
		put.Until = time.Now().Add(ttl)
		put.Data, _ = json.Marshal(cached{Answer: data}) // data was marshalled just now
	} else {
		put.Until = time.Now().Add(min(ttl, largeKept))
		put.Data = tooLarge
	}
	return resp, CacheMiss, nil
}

// found is an answer that another has got.
type found struct {
	data   []byte
	source CacheSource
}

// await returns the answer once it is there; or else the claim to make the call, or nil if
// the answer is known to be too large to be shared.
func (c *Cache) await(ctx context.Context, key flightKey) (found, *claim, error) {
	fail := func(err error) (found, *claim, error) {
		if ctx.Err() != nil {
			return found{}, nil, context.Cause(ctx)
		}
		return found{}, nil, fmt.Errorf("the cache: %w", err)
	}
	source := CacheHit
	var version int64 // of the claim that is waited for
	var since time.Time
	for pause := pollFirst; ; {
		r, err := key.engine.Record(ctx, cacheSpace, key.name)
		if err != nil && !errors.Is(err, pawl.ErrNotFound) {
			return fail(err)
		}
		kept, gone := cached{}, err != nil
		if !gone {
			if err := json.Unmarshal(r.Data, &kept); err != nil {
				return fail(fmt.Errorf("record %q of %s is not one of this program's: %w; delete it", r.Key, r.Space, err))
			}
			switch {
			case kept.Answer != nil:
				return found{kept.Answer, source}, nil, nil
			case kept.Claim == "":
				return found{}, nil, nil
			case r.Version != version:
				version, since = r.Version, time.Now()
			}
		}
		// Until is by the clock of who wrote it, which may be any: a claim is over too if
		// this process has seen nobody prolong it for as long as it lasts.
		if gone || time.Since(since) > kept.Lease {
			h, err := c.claim(key, r.Version)
			if err == nil {
				return found{}, h, nil
			}
			if !errors.Is(err, pawl.ErrConflict) {
				return fail(err)
			}
			continue // another has claimed it just now
		}
		source = CacheWait
		wait := pause/2 + rand.N(pause)
		if left := time.Until(r.Until); left > 0 && left < wait { // it runs out before
			wait = left
		}
		if err := sleep(ctx, wait); err != nil {
			return found{}, nil, err
		}
		pause = min(2*pause, pollMost)
	}
}

// claim is the right to make a call for all, prolonged until it is ended.
type claim struct {
	key     flightKey
	version int64
	stop    context.CancelFunc
	held    sync.WaitGroup
}

// claim claims a call, over a record of that version; 0: there is none.
func (c *Cache) claim(key flightKey, version int64) (*claim, error) {
	data, err := json.Marshal(cached{Claim: newID(), Lease: c.opt.Lease})
	if err != nil {
		return nil, err
	}
	h := &claim{key: key}
	if err := h.write(version, data, time.Now().Add(c.opt.Lease)); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	h.held.Go(func() {
		tick := time.NewTicker(c.opt.Lease / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := h.write(h.version, data, time.Now().Add(c.opt.Lease)); errors.Is(err, pawl.ErrConflict) {
				return // it ran out, and another has it
			}
		}
	})
	return h, nil
}

// end puts something in the claim's place; a Put without data: nothing. Where the claim was
// lost or the store is away, that is left undone: the claim runs out by itself, and whoever
// asks next makes the call.
func (h *claim) end(put pawl.Put) {
	if h == nil {
		return
	}
	h.stop()
	h.held.Wait()
	if err := h.write(h.version, put.Data, put.Until); errors.Is(err, pawl.ErrTooLarge) { // the engine takes less than the cache would
		_ = h.write(h.version, tooLarge, time.Now().Add(min(time.Until(put.Until), largeKept)))
	}
}

var tooLarge = json.RawMessage(`{"large":true}`) // cached{Large: true}

func (h *claim) write(version int64, data json.RawMessage, until time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	versions, err := h.key.engine.Write(ctx, pawl.Put{Space: cacheSpace, Key: h.key.name, If: version, Data: data, Until: until})
	if err == nil {
		h.version = versions[0]
	}
	return err
}

func readAnswer(key flightKey, data []byte) (*llm.Response, error) {
	var resp llm.Response
	if err := json.Unmarshal(data, &resp); err != nil {
		return nil, fmt.Errorf("the cache: the answer in record %q of %s does not read back: %w; delete it", key.name, cacheSpace, err)
	}
	return &resp, nil
}
