package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
)

// CircuitState says whether calls go to an endpoint.
type CircuitState string

// The states of a circuit.
const (
	CircuitClosed   CircuitState = "closed"    // calls go
	CircuitOpen     CircuitState = "open"      // none does
	CircuitHalfOpen CircuitState = "half-open" // one at a time may try
)

// BreakerState is what is known of an endpoint's circuit, for people.
type BreakerState struct {
	Endpoint string       `json:"endpoint"`
	State    CircuitState `json:"state"`
	Failures int          `json:"failures"`       // in a row
	Last     string       `json:"last,omitempty"` // what the last of them said, at most 300 bytes
	Since    time.Time    `json:"since,omitzero"` // when it opened
	Until    time.Time    `json:"until,omitzero"` // when a call may try
	Trying   bool         `json:"trying,omitempty"`
	Updated  time.Time    `json:"updated"`
}

// Breakers returns the circuits that are not closed, or whose last calls failed, by
// endpoint; all others are closed.
func Breakers(ctx context.Context, engine *pawl.Engine) ([]BreakerState, error) {
	var out []BreakerState
	for after := ""; ; {
		page, err := BreakersAfter(ctx, engine, "", after, 1000)
		if err != nil {
			return nil, err
		}
		out = append(out, page...)
		if len(page) < 1000 {
			return out, nil
		}
		after = page[len(page)-1].Endpoint
	}
}

// BreakersAfter returns a page of what Breakers returns: those whose endpoint begins with prefix and comes after after. limit
// is 1 to 1,000.
func BreakersAfter(ctx context.Context, engine *pawl.Engine, prefix, after string, limit int) ([]BreakerState, error) {
	page, err := engine.Records(ctx, breakerSpace, prefix, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read the circuit breakers: %w", err)
	}
	var out []BreakerState
	now := time.Now()
	for _, r := range page {
		var c circuit
		if err := json.Unmarshal(r.Data, &c); err != nil {
			return nil, fmt.Errorf("the circuit breaker of %s: its record is not one of this program's: %w; reset it", r.Key, err)
		}
		s := BreakerState{Endpoint: r.Key, State: CircuitClosed, Failures: c.Failures, Last: c.Last, Since: c.Since, Until: c.Until, Updated: c.Updated}
		switch {
		case c.Since.IsZero():
		case c.Until.After(now):
			s.State = CircuitOpen
		default:
			s.State, s.Trying = CircuitHalfOpen, c.Trier != "" && c.Lapses.After(now)
		}
		out = append(out, s)
	}
	return out, nil
}

// ResetBreaker closes an endpoint's circuit, by hand. Workers know of it within a second. It
// is no error if the circuit is closed.
func ResetBreaker(ctx context.Context, engine *pawl.Engine, endpoint string) error {
	_, err := engine.Write(ctx, pawl.Put{Space: breakerSpace, Key: endpoint, If: pawl.AnyVersion})
	if err != nil {
		return fmt.Errorf("reset the circuit breaker of %q: %w", endpoint, err)
	}
	return nil
}
