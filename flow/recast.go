package flow

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
)

// recaster makes questions of decisions anew, with what the step saw in the run.
type recaster struct{ r *Registry }

// Recast is as agent.Recaster says.
func (k recaster) Recast(ctx context.Context, ref pawl.Ref, place string, with json.RawMessage) (agent.Recast, error) {
	var how asks
	if err := json.Unmarshal(with, &how); err != nil {
		return agent.Recast{}, pawl.Fatal(fmt.Errorf("%w: what the backtest changes can't be read: %w", pawl.ErrInput, err))
	}
	out := agent.Recast{}
	if how.RouteOn != "" {
		path, err := ParsePath(how.RouteOn)
		if err != nil {
			return out, pawl.Fatal(fmt.Errorf("%w: routeOn: %w", pawl.ErrInput, err))
		}
		out.Counts = func(value json.RawMessage) json.RawMessage { return countsOf(path, value) }
	}
	if how.Document == nil && how.PromptRef == "" {
		return out, nil
	}
	info, err := k.r.engine.Get(ctx, ref)
	if err != nil {
		return out, err
	}
	f, err := k.r.flowOf(ctx, info)
	if err != nil {
		return out, err
	}
	of := f
	if how.Document != nil {
		if of, err = reread(how.Document, k.r.World()); err != nil {
			return out, pawl.Fatal(err)
		}
	}
	_, d, err := of.decisionAt(place)
	if err != nil {
		return out, err
	}
	if how.PromptRef != "" {
		if d, err = d.asking(how.PromptRef); err != nil {
			return out, err
		}
	}
	out.Questions, err = k.questions(ctx, ref, f, place, d)
	return out, err
}

// asking is the decision with a prompt of the registry in the place of its own.
func (d *decision) asking(ref string) (*decision, error) {
	name, version, err := cutRef(ref)
	if err != nil {
		return nil, err
	}
	other := *d
	other.prompt, other.ref, other.version = value{}, name, version
	return &other, nil
}

// questions replays a run over its journal, and has d ask wherever the run came to the step.
func (k recaster) questions(ctx context.Context, ref pawl.Ref, f *Flow, place string, d *decision) (map[string]agent.Recasting, error) {
	made := map[string]agent.Recasting{}
	seen := newTrail()
	seen.of.asked = func(key string, _ *step, in *scope) {
		if pawl.NameOf(key) != place {
			return
		}
		call, err := d.question(&k.r.opt, in)
		if err != nil {
			err = fmt.Errorf("%w: %w", pawl.ErrInput, err)
		}
		made[key] = agent.Recasting{Call: call, Err: err}
	}
	check, err := k.r.engine.Replay(ctx, ref, define(f, k.r.opt, seen), pawl.Replaying{Entries: maxLookedAt, Limit: lookTakesMost, Arrived: seen.seal})
	if err != nil {
		return nil, err
	}
	seen.seal() // it may not have arrived
	if check.Diverged != "" && !check.NoSecret {
		return nil, fmt.Errorf("%w: run %s can't be gone through again: %s", pawl.ErrInput, ref.ID, check.Diverged)
	}
	return made, nil
}

// countsOf is what a decision chooses the next step by.
func countsOf(path Path, value json.RawMessage) json.RawMessage {
	v, err := decode(value)
	if err != nil {
		return value
	}
	object, _ := v.(map[string]any)
	by, err := path.Lookup(object)
	if err != nil {
		return value
	}
	data, err := json.Marshal(by)
	if err != nil {
		return value
	}
	return data
}
