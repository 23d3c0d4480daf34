package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// CacheStats counts, for a day, what was asked of the cache. Calls with a ttl of 0 are not.
type CacheStats struct {
	Day    string    `json:"day"`    // 2026-11-21, in UTC
	Hits   int64     `json:"hits"`   // the cache had it
	Waits  int64     `json:"waits"`  // another's call was waited for
	Misses int64     `json:"misses"` // a call was made
	Failed int64     `json:"failed"` // of Waits and Misses, those that ended in an error
	Saved  llm.Usage `json:"saved"`  // tokens of answers that needed no call
}

// HitRate is the share of what needed no call, from 0 to 1; 0 if nothing was asked.
func (s CacheStats) HitRate() float64 {
	if all := s.Hits + s.Waits + s.Misses; all > 0 {
		return float64(s.Hits+s.Waits) / float64(all)
	}
	return 0
}

func (s *CacheStats) add(o CacheStats) {
	s.Hits += o.Hits
	s.Waits += o.Waits
	s.Misses += o.Misses
	s.Failed += o.Failed
	s.Saved = s.Saved.Add(o.Saved)
}

const (
	statsSpace = "agent.cache.stats"
	statsKept  = 90 * 24 * time.Hour
	statsEvery = 5 * time.Second
)

// count counts what Generate returned. It is told to the store within five seconds, so that
// a worker that dies loses no more than the counts of those.
func (c *Cache) count(engine *pawl.Engine, resp *llm.Response, source CacheSource, err error) {
	var one CacheStats
	switch source {
	case CacheHit:
		one.Hits = 1
	case CacheWait:
		one.Waits = 1
	default:
		one.Misses = 1
	}
	if err != nil {
		one.Failed = 1
	} else if source != CacheMiss {
		one.Saved = resp.Usage
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.counts[engine]
	if s == nil {
		s = &CacheStats{}
		c.counts[engine] = s
	}
	s.add(one)
	c.flushLater(engine)
}

// flushLater is called with mu held.
func (c *Cache) flushLater(engine *pawl.Engine) {
	if c.timers[engine] != nil {
		return
	}
	c.timers[engine] = time.AfterFunc(statsEvery, func() {
		c.mu.Lock()
		delete(c.timers, engine)
		c.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Flush(ctx, engine); err != nil && !errors.Is(err, pawl.ErrClosed) {
			c.mu.Lock()
			c.flushLater(engine)
			c.mu.Unlock()
		}
	})
}

// Flush tells the store what was counted in this process, as when it is about to end.
func (c *Cache) Flush(ctx context.Context, engine *pawl.Engine) error {
	c.mu.Lock()
	mine := c.counts[engine]
	delete(c.counts, engine)
	c.mu.Unlock()
	if mine == nil {
		return nil
	}
	err := addStats(ctx, engine, *mine)
	if err != nil && !errors.Is(err, pawl.ErrUnknownOutcome) && !errors.Is(err, pawl.ErrClosed) { // else it may be counted, or never will be
		c.mu.Lock()
		if newer := c.counts[engine]; newer != nil {
			mine.add(*newer)
		}
		c.counts[engine] = mine
		c.mu.Unlock()
	}
	return err
}

func addStats(ctx context.Context, engine *pawl.Engine, mine CacheStats) error {
	for {
		now := time.Now().UTC()
		sum := CacheStats{Day: now.Format(time.DateOnly)}
		r, err := engine.Record(ctx, statsSpace, sum.Day)
		if err == nil {
			err = json.Unmarshal(r.Data, &sum)
		} else if errors.Is(err, pawl.ErrNotFound) {
			err = nil
		}
		if err != nil {
			return fmt.Errorf("count what the cache did: %w", err)
		}
		sum.add(mine)
		data, err := json.Marshal(sum)
		if err != nil {
			return err
		}
		_, err = engine.Write(ctx, pawl.Put{Space: statsSpace, Key: sum.Day, If: r.Version, Data: data, Until: now.Add(statsKept)})
		if err == nil || !errors.Is(err, pawl.ErrConflict) {
			return err
		}
	}
}

// CacheStats returns what the cache of answers has done, in all workers; see [Cache.Stats].
func (m *Models) CacheStats(ctx context.Context, engine *pawl.Engine) ([]CacheStats, error) {
	return m.cache.Stats(ctx, engine)
}

// Stats returns the counts of all workers, a day each, oldest first: those of this process
// up to now, of others up to five seconds ago. They are kept for 90 days.
func (c *Cache) Stats(ctx context.Context, engine *pawl.Engine) ([]CacheStats, error) {
	if err := c.Flush(ctx, engine); err != nil {
		return nil, err
	}
	page, err := engine.Records(ctx, statsSpace, "", "", 1000)
	if err != nil {
		return nil, fmt.Errorf("read what the cache did: %w", err)
	}
	var out []CacheStats
	for _, r := range page {
		var s CacheStats
		if err := json.Unmarshal(r.Data, &s); err != nil {
			return nil, fmt.Errorf("record %q of %s is not one of this program's: %w; delete it", r.Key, r.Space, err)
		}
		out = append(out, s)
	}
	return out, nil
}
