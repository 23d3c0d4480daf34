package dbchange

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/pawlrun/pawl"
)

// Status is how a source stands.
type Status struct {
	Source
	Watched  bool      `json:"watched"`            // a Runner has it; else none is there that knows its workflow and its connection
	LastPoll time.Time `json:"lastPoll,omitzero"`  // the last look that went well, known to a few seconds
	LastRow  time.Time `json:"lastRow,omitzero"`   // when runs were last started
	Error    string    `json:"error,omitempty"`    // of the last look
	Failures int       `json:"failures,omitempty"` // looks that have failed one after the other
	Cursor   string    `json:"at,omitempty"`       // the greatest value that was seen
	Low      string    `json:"low,omitempty"`      // up to here no row comes any more
	Rows     int64     `json:"rows"`               // that have started runs
	Refused  int64     `json:"refused"`            // that can't, see Refused
	// LastRefused is the reason of the last row that was refused.
	LastRefused string `json:"lastRefused,omitempty"`
	// Open are the virtual transactions of PostgreSQL that have been open for so long that rows are still waited for.
	Open []string `json:"open,omitempty"`
}

// Status tells how a source stands. ErrNotFound.
func (s Sources) Status(ctx context.Context, tenant, id string) (Status, error) {
	src, err := s.Get(ctx, tenant, id)
	if err != nil {
		return Status{}, err
	}
	out := Status{Source: src}
	c, _, err := readClaim(ctx, s.Engine, tenant, id)
	if err != nil {
		return out, err
	}
	out.Watched, out.LastPoll, out.Error, out.Failures = c.Holder != "" && c.Until.After(time.Now()), c.Polled, c.Error, c.Failures
	record, err := s.Engine.Record(ctx, stateSpace+tenant, id)
	if errors.Is(err, pawl.ErrNotFound) {
		return out, nil
	}
	var st state
	if err == nil {
		err = json.Unmarshal(record.Data, &st)
	}
	if err != nil || st.Place != src.place() {
		return out, err
	}
	out.LastRow, out.Cursor, out.Low, out.Rows, out.Refused, out.LastRefused = st.LastRow, st.Max.Text, st.Low.Text, st.Rows, st.Refused, st.LastRefused
	if len(st.Marks) > 0 {
		out.Open = st.Marks[0].Open
	}
	return out, nil
}
