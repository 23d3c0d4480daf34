package flow

import (
	"context"
	"fmt"
	"strconv"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/expr"
)

// each runs steps for each item of a list.
type each struct {
	over   *condition
	at     *node
	graph  graph
	limit  int
	mode   string // failFast, continue, quorum
	quorum int
}

func readEach(f *findings, config *node, w World) worker {
	e := &each{at: config.get("over"), graph: readGraph(f, config.get("steps"), w), limit: config.get("concurrency").int(defaultConcurrency)}
	if e.at.is(textKind) {
		e.over = readCondition(f, e.at, within, expr.List)
	}
	e.mode, e.quorum = config.get("failureMode").str(), config.get("quorum").int(0)
	checkQuorum(f, config, e.mode, e.quorum)
	return e
}

// one is an item and its place.
type one struct {
	index int
	value any
}

func (e *each) work(x *run, c *pawl.Context, s *step, in *scope) (result, error) {
	v, err := e.over.value(context.Background(), in.root)
	if err != nil {
		return result{}, refuse(c, s, err)
	}
	list, is := v.([]any)
	switch {
	case !is:
		return result{}, refuse(c, s, &codedError{"not_a_list", fmt.Errorf("map over %s: it is %s and must be a list", e.over.source, kindOf(v))})
	case len(list) > maxItems:
		return result{}, refuse(c, s, &codedError{"too_large", fmt.Errorf("map over %s: it has %d items, the limit is %d", e.over.source, len(list), maxItems)})
	}
	if err := x.spent.list(s.id, len(list)); err != nil {
		return result{}, err
	}
	before, most, atOnce := in.held.mark(), new(int), min(e.limit, len(list))
	items := make([]one, len(list))
	for i, v := range list {
		items[i] = one{i, v}
	}
	scoped, stop := pawl.WithCancel(c)
	ends, err := pawl.Map(scoped, s.id, items, func(c *pawl.Context, item one) (ended, error) {
		inner, err := in.inner(s, strconv.Itoa(item.index), most, atOnce)
		if err != nil {
			return ended{}, err
		}
		inner.root["item"], inner.root["index"] = item.value, int64(item.index)
		output, err := x.follow(c, e.graph, inner, len(e.graph.steps))
		inner.trail.over(err)
		if err == nil {
			err = in.held.grow(s.id, sizeOf(output, x.flow.limits.bytes))
		}
		end := ended{output: output, cost: inner.cost - in.cost, err: err}
		switch {
		case err == nil || cancelled(err):
		case endsRun(err):
			x.spent.come(err)
			if isCost(err) {
				return end, err
			}
			stop(errEnough)
			return end, nil
		case e.mode == "continue" || e.mode == "quorum":
			return end, nil
		default:
			err = &BranchError{Step: s.id, Branch: fmt.Sprintf("item %d", item.index), Need: len(items), Err: err}
		}
		return end, err
	}, pawl.Limit(e.limit))
	if over := x.spent.over(); over != nil && !isCost(err) {
		return result{}, over
	}
	if err != nil {
		return result{}, err
	}
	in.held.release(before)
	r := result{}
	outputs := make([]any, len(ends))
	first, done := -1, 0
	for i, end := range ends {
		if outputs[i] = end.output; end.err == nil {
			done++
		} else {
			if first < 0 {
				first = i
			}
			if r.after == nil {
				r.after = handled(fmt.Sprintf("%s[%d]", s.id, i), end.err, "")
			}
			f := failureOf(end.err)
			outputs[i] = map[string]any{"error": map[string]any{"message": f.message, "code": f.code}}
		}
		r.cost += end.cost
	}
	r.output = outputs
	if e.mode == "quorum" && done < e.quorum {
		err := &BranchError{Step: s.id, Branch: "the list", Done: done, Need: e.quorum, Err: fmt.Errorf("it has %d items", len(list))}
		if first >= 0 {
			err.Branch, err.Err = fmt.Sprintf("item %d", first), ends[first].err
		}
		return r, err
	}
	return r, nil
}

func (e *each) reads(f func(at *node, u use)) {
	for _, u := range e.over.paths() {
		f(e.at, u)
	}
}
