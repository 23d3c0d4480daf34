package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// circuit is the data of a record of space breakerSpace.
type circuit struct {
	Failures int       `json:"failures"`         // in a row
	Last     string    `json:"last"`             // what the last of them said
	Since    time.Time `json:"since,omitzero"`   // when it opened; zero: it is closed
	Until    time.Time `json:"until,omitzero"`   // when one may try
	Trier    string    `json:"trier,omitempty"`  // who does
	Lapses   time.Time `json:"lapses,omitzero"`  // when another may
	Updated  time.Time `json:"updated,omitzero"` // when it was written
}

const (
	breakerSpace = "agent.breaker"
	breakerKept  = 24 * time.Hour  // a circuit without calls is forgotten
	maxSkew      = 2 * time.Second // what was written from further in the future, was by a clock that ran ahead
	maxLast      = 300             // bytes
)

// refuses returns why no call may go, if so.
func (b *Breaker) refuses(c *circuit, endpoint string, now time.Time) error {
	e := &BreakerError{Endpoint: endpoint, Since: c.Since, Until: c.Until, Failures: c.Failures, Last: c.Last}
	switch {
	case c.Since.IsZero():
		return nil
	case c.Until.After(now):
		return e
	case c.Trier != "" && c.Lapses.After(now):
		e.Trying = true
		if e.Until = now.Add(b.opt.Cooldown); c.Lapses.Before(e.Until) {
			e.Until = c.Lapses
		}
		return e
	}
	return nil
}

// breakerView is what was known of a circuit a moment ago.
type breakerView struct {
	mu   sync.Mutex
	c    circuit
	at   time.Time
	look *breakerLook // under way; nil: nobody looks
}

// breakerLook is a look at the store, for all who want to know.
type breakerLook struct {
	done chan struct{}
	c    circuit
	err  error
}

// view is what is known of a circuit, not older than a second.
func (b *Breaker) view(ctx context.Context, engine *pawl.Engine, endpoint string) (circuit, error) {
	v := b.viewOf(engine, endpoint)
	v.mu.Lock()
	if !v.at.IsZero() && time.Since(v.at) < glance {
		defer v.mu.Unlock()
		return v.c, nil
	}
	if v.look == nil {
		v.look = &breakerLook{done: make(chan struct{})}
		go b.look(v, v.at, engine, endpoint)
	}
	l := v.look
	v.mu.Unlock()
	select {
	case <-l.done:
		return l.c, l.err
	case <-ctx.Done():
		return circuit{}, context.Cause(ctx)
	}
}

// look asks the store, and ends the look of v. What others saw since at is newer.
func (b *Breaker) look(v *breakerView, at time.Time, engine *pawl.Engine, endpoint string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, _, err := readCircuit(ctx, engine, endpoint)
	if err == nil && c.Updated.After(time.Now().Add(maxSkew)) {
		if err = b.setBack(ctx, engine, endpoint); err == nil {
			c, _, err = readCircuit(ctx, engine, endpoint)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err == nil && (v.at.Equal(at) || time.Since(v.at) >= glance) {
		v.c, v.at = c, time.Now()
	}
	v.look.c, v.look.err = c, err
	close(v.look.done)
	v.look = nil
}

// setBack puts a circuit's times right that a clock running ahead has written, or this one
// before it was set back: as if it had been written now.
func (b *Breaker) setBack(ctx context.Context, engine *pawl.Engine, endpoint string) error {
	return b.change(ctx, engine, endpoint, func(c *circuit, now time.Time) error {
		ahead := c.Updated.Sub(now)
		if ahead <= maxSkew {
			return errSame
		}
		for _, t := range []*time.Time{&c.Since, &c.Until, &c.Lapses} {
			if !t.IsZero() {
				*t = t.Add(-ahead)
			}
		}
		return nil
	})
}

func (b *Breaker) viewOf(engine *pawl.Engine, endpoint string) *breakerView {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.swept) > laneKept {
		b.swept = time.Now()
		maps.DeleteFunc(b.views, func(_ breakerKey, v *breakerView) bool {
			v.mu.Lock()
			defer v.mu.Unlock()
			return v.look == nil && time.Since(v.at) > laneKept
		})
	}
	key := breakerKey{engine, endpoint}
	v := b.views[key]
	if v == nil {
		v = &breakerView{}
		b.views[key] = v
	}
	return v
}

func (b *Breaker) saw(engine *pawl.Engine, endpoint string, c circuit) {
	v := b.viewOf(engine, endpoint)
	v.mu.Lock()
	v.c, v.at = c, time.Now()
	v.mu.Unlock()
}

func readCircuit(ctx context.Context, engine *pawl.Engine, endpoint string) (c circuit, version int64, err error) {
	r, err := engine.Record(ctx, breakerSpace, endpoint)
	if errors.Is(err, pawl.ErrNotFound) {
		return circuit{}, 0, nil
	}
	if err == nil {
		if err = json.Unmarshal(r.Data, &c); err != nil {
			err = fmt.Errorf("its record is not one of this program's: %w; reset the breaker", err)
		}
	}
	if err != nil {
		return circuit{}, 0, fmt.Errorf("look at the circuit breaker of %s: %w", endpoint, err)
	}
	return c, r.Version, nil
}

// errSame says that there is nothing to change.
var errSame = errors.New("the same")

// change lets f change a circuit, again if others did at the same time.
func (b *Breaker) change(ctx context.Context, engine *pawl.Engine, endpoint string, f func(c *circuit, now time.Time) error) error {
	for {
		c, version, err := readCircuit(ctx, engine, endpoint)
		if err != nil {
			return err
		}
		now := time.Now()
		if err = f(&c, now); err == nil {
			put := pawl.Put{Space: breakerSpace, Key: endpoint, If: version, Until: now.Add(breakerKept + b.opt.Cooldown)}
			if c != (circuit{}) {
				c.Updated = now
				if put.Data, err = json.Marshal(c); err != nil {
					return err
				}
			}
			_, err = engine.Write(ctx, put)
		}
		switch {
		case err == nil || errors.Is(err, errSame):
			b.saw(engine, endpoint, c)
			return nil
		case !errors.Is(err, pawl.ErrConflict):
			var open *BreakerError
			if errors.As(err, &open) {
				b.saw(engine, endpoint, c)
				return err
			}
			return fmt.Errorf("write to the circuit breaker of %s: %w", endpoint, err)
		}
	}
}

// cutText shortens s to at most n bytes of valid UTF-8.
func cutText(s string, n int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
