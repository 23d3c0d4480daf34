package flow

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pawlrun/pawl"
)

// parallel runs branches at the same time, each a graph of its own.
type parallel struct {
	branches []branch
	mode     string // failFast, continue, quorum
	quorum   int
	timeout  time.Duration // of each branch; 0: none
}

type branch struct {
	id    string
	graph graph
}

// BranchError is a step whose branches, or items, did not complete as they had to.
type BranchError struct {
	Step   string
	Branch string // the first that failed
	Done   int    // how many completed
	Need   int
	Err    error // of that branch
}

func (e *BranchError) Error() string {
	return fmt.Sprintf("%s: %d completed and %d must; %s: %v", e.Step, e.Done, e.Need, e.Branch, e.Err)
}

func (e *BranchError) Unwrap() error { return e.Err }

// ErrorCode names the error where it is kept.
func (e *BranchError) ErrorCode() string { return "branch_failed" }

// errEnough ends what is no longer needed: another branch has failed, or enough have completed.
var errEnough = fmt.Errorf("%w: the other branches have decided", pawl.ErrCancelled)

func readParallel(f *findings, config *node, w World) worker {
	p := &parallel{mode: config.get("failureMode").str(), quorum: config.get("quorum").int(0), timeout: milliseconds(config.get("branchTimeoutMs"))}
	seen := map[string]bool{}
	branches := config.get("branches")
	if !branches.is(listKind) {
		return p
	}
	for _, at := range branches.items {
		id := at.get("id").str()
		if seen[id] && id != "" {
			f.fault(at.get("id"), "", "another branch is called %q too", id)
		}
		seen[id] = true
		p.branches = append(p.branches, branch{id, readGraph(f, at.get("steps"), w)})
	}
	checkQuorum(f, config, p.mode, p.quorum)
	if p.quorum > len(p.branches) {
		f.fault(config.get("quorum"), "", "%d of %d branches can't complete", p.quorum, len(p.branches))
	}
	return p
}

func checkQuorum(f *findings, config *node, mode string, quorum int) {
	switch {
	case mode == "quorum" && quorum == 0:
		f.fault(config, `give "quorum"`, "failureMode quorum needs the number that must complete")
	case mode != "quorum" && quorum != 0:
		f.fault(config.get("quorum"), `set failureMode to "quorum", or leave it out`, "quorum has no meaning for failureMode %q", mode)
	}
}

// ended is how a branch, or the steps of an item, ended.
type ended struct {
	output  any
	results map[string]any // of its own steps
	cost    int64
	err     error
}

func (p *parallel) work(x *run, c *pawl.Context, s *step, in *scope) (result, error) {
	before := in.held.mark()
	scoped, stop := pawl.WithCancel(c)
	futures := make([]*pawl.Future[*ended], len(p.branches))
	for i, b := range p.branches {
		futures[i] = pawl.Go(scoped, s.id+"."+b.id, func(c *pawl.Context) (*ended, error) {
			end, err := x.branch(c, s, b, p.timeout, in)
			switch {
			case endsRun(err):
				x.spent.come(err)
				if isCost(err) {
					return end, err
				}
				stop(errEnough)
				return end, nil
			case p.mode != "continue":
				return end, err
			}
			return end, nil // it is in end, and stops nobody
		})
	}
	var failed error
	if p.mode == "quorum" {
		failed = p.await(c, futures, s)
		stop(errEnough)
	} else {
		_, failed = pawl.All(c, futures...)
	}
	pawl.Join(c, futures...) // they share what they have come to with the steps behind them
	r := result{}
	branches, all := map[string]any{}, map[string]any{}
	first, done := -1, 0
	for i, f := range futures {
		end, err := f.Wait(c)
		if end == nil {
			end = &ended{err: err}
		}
		id := p.branches[i].id
		all[id], branches[id] = end.value(id), map[string]any{"steps": end.results}
		r.cost += end.cost
		if end.err != nil && r.after == nil {
			r.after = handled(s.id+"."+id, end.err, "")
		}
		if end.err == nil {
			done++
		} else if first < 0 && failed != nil && errors.Is(failed, end.err) {
			first = i
		}
	}
	in.held.release(before)
	r.output, r.more = all, map[string]any{"branches": branches}
	switch over := x.spent.over(); {
	case isCost(failed):
		return r, failed
	case over != nil:
		return r, over
	case failed == nil:
		return r, nil
	case first < 0 || cancelled(failed):
		return r, failed // the run is over, or the branch that this is part of
	}
	return r, &BranchError{Step: s.id, Branch: p.branches[first].id, Done: done, Need: p.need(), Err: failed}
}

// await waits until enough branches have completed, or can't any more.
func (p *parallel) await(c *pawl.Context, futures []*pawl.Future[*ended], s *step) error {
	left := slices.Clone(futures)
	for done := 0; done < p.quorum; {
		if done+len(left) < p.quorum {
			if _, err := pawl.All(c, futures...); err != nil { // which also ends the others
				return err
			}
			return fmt.Errorf("%d of %d branches completed, and %d must", done, len(futures), p.quorum)
		}
		// What waits for a branch may be cancelled without harm to the branch; which was first is recorded.
		waits := make([]*pawl.Future[int], len(left))
		for i, f := range left {
			waits[i] = pawl.Go(c, s.id+":quorum", func(c *pawl.Context) (int, error) {
				if _, err := f.Wait(c); err != nil {
					return -1 - i, nil
				}
				return i, nil
			})
		}
		i, err := pawl.Race(c, waits...)
		if err != nil {
			return err
		}
		if i >= 0 {
			done++
		} else {
			i = -1 - i
		}
		left = slices.Delete(left, i, i+1)
	}
	return nil
}

// need is how many branches must complete.
func (p *parallel) need() int {
	if p.mode == "quorum" {
		return p.quorum
	}
	return len(p.branches)
}

// branch goes through a graph in a scope of its own.
func (x *run) branch(c *pawl.Context, s *step, b branch, timeout time.Duration, in *scope) (*ended, error) {
	if timeout > 0 {
		var stop func(error)
		c, stop = pawl.WithTimeout(c, timeout)
		defer stop(nil)
	}
	inner, err := in.inner(s, b.id, new(int), 1)
	if err != nil {
		return nil, err
	}
	output, err := x.follow(c, b.graph, inner, 0)
	if timeout > 0 && cancelled(err) && errors.Is(err, pawl.ErrTimeout) { // it has failed: nobody else has ended it
		err = &codedError{"timed_out", fmt.Errorf("the branch took longer than its %v", timeout)}
	}
	inner.trail.over(err)
	end := &ended{output: output, err: err, cost: inner.cost - in.cost, results: map[string]any{}}
	for _, s := range b.graph.steps {
		if kept, is := inner.results[s.id]; is {
			end.results[s.id] = kept
		}
	}
	return end, err
}

// value is what templates see of a branch.
func (e *ended) value(id string) map[string]any {
	v := map[string]any{"branchId": id, "status": "completed", "results": e.results, "output": e.output}
	switch {
	case e.err != nil && cancelled(e.err):
		v["status"] = "cancelled"
	case e.err != nil:
		f := failureOf(e.err)
		v["status"], v["error"] = "failed", map[string]any{"message": f.message, "code": f.code}
	}
	return v
}

func (p *parallel) reads(f func(at *node, u use)) {
	for _, b := range p.branches {
		for _, s := range b.graph.steps {
			s.work.reads(f)
		}
	}
}
