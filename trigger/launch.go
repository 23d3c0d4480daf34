package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/pawlrun/pawl"
)

// launch is a run that a trigger is about to start.
type launch struct {
	trigger  string // its id
	tenant   string
	workflow string
	run      string // the id that it gets; whoever starts it again finds it by that
	input    json.RawMessage
	depth    int // of runs that start each other by their ends
	bounds   bounds
}

// name gives the run the id that a delivery's id makes, or returns that of the run which the delivery has started within
// DedupeFor. Who comes later with the same id gets an id that is made of the run before it too.
func (l *launch) name(ctx context.Context, e *pawl.Engine, delivery string) (first string, err error) {
	l.run = l.trigger + "@" + hashOf(delivery)
	for {
		info, err := e.Get(ctx, pawl.Ref{Tenant: l.tenant, ID: l.run})
		switch {
		case errors.Is(err, pawl.ErrNotFound):
			return "", nil
		case err != nil:
			return "", err
		case time.Since(info.Created) < DedupeFor:
			return l.run, nil
		}
		l.run = l.trigger + "@" + hashOf(delivery, strconv.FormatInt(info.Created.UnixMicro(), 10))
	}
}

// start starts the run, or finds it. ErrConflict: it is there with another input.
func (l *launch) start(ctx context.Context, e *pawl.Engine) (pawl.RunInfo, error) {
	attrs := map[string]any{TriggerAttribute: l.trigger}
	if l.depth > 0 {
		attrs[DepthAttribute] = l.depth
	}
	return e.StartRun(ctx, l.workflow, l.input, append(l.bounds.options(), pawl.ID(l.run), pawl.Tenant(l.tenant), pawl.Attributes(attrs))...)
}

// check says what the workflow would refuse of a delivery that gathers with others.
func (l *launch) check(ctx context.Context, e *pawl.Engine, c *Control) error {
	input := l.input
	if c.Batch != nil {
		var err error
		if input, err = batchOf([]json.RawMessage{input}); err != nil {
			return err
		}
	}
	_, err := e.CheckStart(ctx, l.workflow, input, pawl.Tenant(l.tenant))
	return err
}
