package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// follow prints a run's journal as it grows, until the run has ended. Of its first known
// entries it says that they were there before this process.
func follow(ctx context.Context, e *pawl.Engine, id string, known int64) error {
	// The journal says that something was written to a stream, the stream says what.
	progress, stop := iter.Pull2(e.ReadStream(ctx, "", id, "progress", 0))
	defer stop()
	for entry, err := range e.Follow(ctx, pawl.Ref{ID: id}, -1) {
		if err != nil {
			return err
		}
		if entry.Kind == pawl.KindChunk && strings.Contains(entry.Key, "$stream:progress") {
			chunk, err, ok := progress()
			if err != nil {
				return err
			}
			var said struct{ Phase, Text string }
			if ok && json.Unmarshal(chunk.Data, &said) == nil {
				fmt.Fprintf(os.Stderr, "%-10s %s\n", said.Phase, said.Text)
			}
			continue
		}
		if text := describe(&entry); text != "" {
			if entry.Seq < known {
				text += "  (recorded at " + entry.At.Local().Format(time.TimeOnly) + ", not run again)"
			}
			fmt.Fprintf(os.Stderr, "%10s %s\n", "", text)
		}
	}
	return nil
}

// describe says what an entry means to somebody who watches; "" means nothing.
func describe(e *pawl.Entry) string {
	switch {
	case e.Kind == pawl.KindStep && e.Failed:
		return "✗ " + e.Failure().Error()
	case e.Kind == pawl.KindStep:
		return fmt.Sprintf("✓ %-24s %6s", e.Key, e.Took.Round(time.Millisecond))
	case e.Kind == pawl.KindAttempt:
		var a struct {
			Next  time.Time
			Error pawl.Failure
		}
		if json.Unmarshal(e.Data, &a) != nil {
			return ""
		}
		return fmt.Sprintf("! %s, attempt %d: %s; next at %s", e.Key, e.Attempt, a.Error.Message, a.Next.Local().Format(time.TimeOnly))
	case e.Kind == pawl.KindEvent && e.Failed:
		return "⧗ no event came in time"
	case e.Kind == pawl.KindEvent:
		return "→ event " + string(e.Data)
	}
	return ""
}
