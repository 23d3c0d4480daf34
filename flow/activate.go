package flow

import (
	"context"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
)

// Activate lets new runs start with a version. Percent below 100 gives it that share of the starts, and the active version
// the others; the triggers stay those of the active version. *trigger.PathError: the path of a webhook of the version is taken. Revision, if not 0, is the one that the flow must have: pawl.ErrConflict if it has another.
func (r *Registry) Activate(ctx context.Context, tenant, id string, version int, percent float64, by string, revision int64) (Info, error) {
	if !(percent > 0 && percent <= 100) {
		return Info{}, fmt.Errorf("%w: a share of %v percent: give one above 0, up to 100", pawl.ErrInput, percent)
	}
	if _, err := r.Version(ctx, tenant, id, version); err != nil {
		return Info{}, err
	}
	return r.change(ctx, tenant, id, by, revision, func(head *Info) error {
		switch {
		case percent < 100 && head.Active == 0:
			return fmt.Errorf("%w: flow %s has no active version beside which version %d could be tried", pawl.ErrState, id, version)
		case percent < 100 && head.Active != version:
			head.Canary = &Canary{Version: version, Percent: percent}
		case head.Active != version:
			head.Previous, head.Active, head.Canary = head.Active, version, nil
		default:
			head.Canary = nil
		}
		return nil
	})
}

// Rollback ends a canary; if there is none, it activates the version that was active before.
func (r *Registry) Rollback(ctx context.Context, tenant, id, by string, revision int64) (Info, error) {
	return r.change(ctx, tenant, id, by, revision, func(head *Info) error {
		switch {
		case head.Canary != nil:
			head.Canary = nil
		case head.Previous == 0:
			return fmt.Errorf("%w: flow %s had no other active version", pawl.ErrState, id)
		default:
			head.Active, head.Previous = head.Previous, head.Active
		}
		return nil
	})
}

// Deactivate lets no run start any more, until a version is activated, and takes the flow's triggers away. Runs that are there go on.
func (r *Registry) Deactivate(ctx context.Context, tenant, id, by string, revision int64) (Info, error) {
	return r.change(ctx, tenant, id, by, revision, func(head *Info) error {
		if head.Active != 0 {
			head.Previous, head.Active, head.Canary = head.Active, 0, nil
		}
		return nil
	})
}

func (r *Registry) change(ctx context.Context, tenant, id, by string, revision int64, change func(*Info) error) (Info, error) {
	for {
		head, err := r.head(ctx, tenant, id)
		if err != nil {
			return head, err
		}
		if revision != 0 && head.Revision != revision {
			return head, fmt.Errorf("%w: flow %s has revision %d, not %d: read it again", pawl.ErrConflict, id, head.Revision, revision)
		}
		was, active := head.Revision, head.Active
		if err := change(&head); err != nil {
			return head, err
		}
		var starts []pawl.Put
		if head.Active != active {
			if starts, err = r.starts(ctx, tenant, id, head.Active); err != nil {
				return head, err
			}
		}
		head.Changed, head.By = time.Now().UTC(), by
		head, err = r.write(ctx, tenant, was, head, starts...)
		if !overtaken(err) || ctx.Err() != nil {
			return head, err
		}
	}
}

// starts are the writes that make the triggers of a version those of its flow; version 0 has none.
func (r *Registry) starts(ctx context.Context, tenant, id string, version int) ([]pawl.Put, error) {
	var f *Flow
	if version != 0 {
		var err error
		if f, err = r.read(ctx, tenant, id, version); err != nil {
			return nil, err
		}
	}
	puts, err := switchTriggers(ctx, r.engine, tenant, id, f)
	if err != nil {
		return nil, fmt.Errorf("triggers of version %d of flow %s: %w", version, id, err)
	}
	return puts, nil
}
