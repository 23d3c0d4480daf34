package flow

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// Attributes of runs that flows have started, detached ones too: who was the first of them, and how many starts lie between.
const (
	FamilyAttribute     = "pawl.family"
	GenerationAttribute = "pawl.generation"
)

// kin is where a run stands among those that flows have started.
type kin struct {
	First      string `json:"first"`
	Generation int    `json:"generation"`
}

// descend looks whether one more run may be started below this one, and returns how it is started. A flow that starts itself would do so for
// ever. It is a durable step, below the step that starts; what was started before there was such a step was not counted, and is found without it.
func (x *run) descend(c *pawl.Context, s *step) (pawl.StartOption, error) {
	if c.Version("family", 1) < 1 {
		return pawl.Attributes(nil), nil
	}
	out, err := pawl.Step(c, ":family", func(ctx context.Context) (json.RawMessage, error) {
		info, e := pawl.InfoOf(ctx), pawl.EngineOf(ctx)
		run, err := e.Get(ctx, pawl.Ref{Tenant: info.Tenant, ID: info.RunID})
		if err != nil {
			return nil, err
		}
		of := kin{First: run.ID}
		if first := run.Attrs[FamilyAttribute]; first != "" {
			of.First = first
			if of.Generation, err = strconv.Atoi(run.Attrs[GenerationAttribute]); err != nil {
				return nil, pawl.Fatal(fmt.Errorf("the attribute %s: %w", GenerationAttribute, err))
			}
		}
		if of.Generation++; of.Generation > maxGenerations {
			return nil, &LimitError{Step: s.id, Limit: "maxGenerations", Most: maxGenerations}
		}
		if of.Generation > 1 { // what one run starts, its limits bound
			if err := x.kin.another(ctx, e, info.Tenant, of, cmp.Or(x.opt.MaxFamily, defaultMaxFamily), s.id); err != nil {
				return nil, err
			}
		}
		return json.Marshal(of)
	})
	if err != nil {
		return nil, err
	}
	var of kin
	if err := json.Unmarshal(out, &of); err != nil {
		return nil, err
	}
	return pawl.Attributes(map[string]any{FamilyAttribute: of.First, GenerationAttribute: strconv.Itoa(of.Generation)}), nil
}

// families counts the runs of families, for all runs of a flow in this process.
type families struct {
	mu sync.Mutex
	by map[string]*tallied // by tenant and first run
}

type tallied struct {
	runs int
	at   time.Time
}

// Limits of what families remembers.
const (
	countsFor   = time.Second // a count holds so long; what is started here is added to it, what others start is not
	maxFamilies = 1000
)

// another counts one more run, and returns an error if there are too many.
func (n *families) another(ctx context.Context, e *pawl.Engine, tenant string, of kin, most int, step string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := strconv.Quote(tenant) + of.First
	c := n.by[key]
	if c == nil || time.Since(c.at) > countsFor {
		runs, err := members(ctx, e, tenant, of.First, most)
		if err != nil {
			return err
		}
		if c != nil { // some that were counted may not be stored yet
			runs = max(runs, c.runs)
		}
		if c = (&tallied{runs, time.Now()}); n.by == nil || len(n.by) >= maxFamilies {
			n.by = map[string]*tallied{}
		}
		n.by[key] = c
	}
	if c.runs >= most {
		return &LimitError{Step: step, Limit: "maxFamily", Most: most}
	}
	c.runs++
	return nil
}

// members is how many runs the first of a family has led to; it counts to most.
func members(ctx context.Context, e *pawl.Engine, tenant, first string, most int) (n int, err error) {
	f := pawl.Filter{Tenant: tenant, Attrs: map[string]string{FamilyAttribute: first}, Limit: 1000}
	for n < most {
		page, err := e.List(ctx, f)
		if err != nil {
			return 0, err
		}
		if n += len(page); len(page) < f.Limit {
			break
		}
		f.Cursor = page[len(page)-1].Key
	}
	return n, nil
}
