package support

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
)

// Text puts an answer together of the pieces in which it comes.
type Text struct {
	step    string
	attempt int
	text    string
}

// Add takes the next piece. begins: what came before is not part of this text, as another
// turn of the model has begun, or the same turn anew.
func (t *Text) Add(d agent.Delta) (begins bool) {
	if d.Restart || d.Step != t.step || d.Attempt != t.attempt {
		begins = t.text != ""
		*t = Text{step: d.Step, attempt: d.Attempt}
	}
	t.text += d.Text
	return begins
}

// String is the text of the turn that the last piece was of.
func (t *Text) String() string { return t.text }

// Read calls each with the pieces of a run's answers from an index on, until the run has ended
// or each returns an error, and returns the index to go on from.
func Read(ctx context.Context, e *pawl.Engine, runID string, from int64, each func(agent.Delta) error) (int64, error) {
	for chunk, err := range e.ReadStream(ctx, "", runID, Stream, from) {
		if err != nil {
			return from, err
		}
		var d agent.Delta
		if err := json.Unmarshal(chunk.Data, &d); err != nil {
			return from, fmt.Errorf("piece %d of the answer of run %s: %w", chunk.Index, runID, err)
		}
		from = chunk.Index + 1
		if err := each(d); err != nil {
			return from, err
		}
	}
	return from, nil
}
