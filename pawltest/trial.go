package pawltest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// outcome is what came of one run of a plan.
type outcome struct {
	runs     []*runOutcome
	effects  []string // different ones, sorted
	points   []string // the commits of the first worker
	claims   map[int]bool
	died     string // the commit that it died at; empty: it did not
	atDeath  string // all journals then
	journals string // at the end
	problems []string
	took     time.Duration
	log      string
}

func (o *outcome) warnings() string {
	if o.log == "" {
		return ""
	}
	return "\nThe engine's warnings:\n" + indent(o.log)
}

// once runs the plan in a bubble and kills its worker at the commit cutAt; 0: never.
func (p *plan) once(t *testing.T, id string, cutAt int, m moment, limit time.Duration) *outcome {
	t.Helper()
	began := time.Now()
	out := &outcome{}
	h, err := open(t, p.opt, p.defs)
	if err != nil {
		t.Fatalf("pawltest: %v", err)
	}
	h.limit = limit
	var mu sync.Mutex
	h.fatal = func(text string) {
		mu.Lock()
		out.problems = append(out.problems, text)
		mu.Unlock()
		runtime.Goexit()
	}
	first := newTap(h.l)
	first.cutAt, first.moment = cutAt, m
	first.atDeath = func() { out.atDeath = h.l.texts() }
	if h.client, err = h.newClient(); err != nil {
		t.Fatalf("pawltest: %v", err)
	}
	if p.setup != nil {
		p.setup(h)
	}
	if err := h.hire(first); err != nil {
		t.Fatalf("pawltest: %v", err)
	}
	var tookOver error
	back := make(chan struct{})
	go func() {
		defer close(back)
		select {
		case <-first.died:
			tookOver = h.takeOver(p.outage)
		case <-h.ctx.Done():
		}
	}()
	fail := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		out.problems = append(out.problems, fmt.Sprintf(format, args...))
	}

	err = p.begin(h.ctx, h.worker().engine, id) // not by the client: the worker may begin it at once
	if errors.Is(err, pawl.ErrUnknownOutcome) && first.isDead() {
		<-back // as one does who can't know: the id makes it safe
		err = p.begin(h.ctx, h.worker().engine, id)
	}
	if err != nil {
		fail("%v", err)
	} else {
		p.play(h, id, limit, fail)
	}
	if first.isDead() {
		<-back
		if tookOver != nil {
			fail("%v", tookOver)
		}
	}
	out.took = time.Since(began)
	out.journals = h.l.texts()
	if out.runs, err = h.l.outcomes(id); err != nil {
		fail("read what is in the store: %v", err)
	}
	h.shut()
	<-back
	out.points, out.claims = first.points, first.claims
	if first.isDead() {
		out.died = first.points[len(first.points)-1]
	}
	out.effects = p.effectsOf(out.runs)
	out.problems = append(out.problems, h.l.problems...)
	out.log = h.log.String()
	return out
}

// newClient makes the engine by which a driver acts: it works no runs and never dies.
func (h *Harness) newClient() (*pawl.Engine, error) {
	opt := h.opt
	opt.Intercept = nil
	e := pawl.New(newTap(h.l), &opt)
	return e, e.Register(h.defs...)
}

// play lets the driver act and returns when all runs have ended.
func (p *plan) play(h *Harness, id string, limit time.Duration, fail func(string, ...any)) {
	acted := make(chan struct{})
	go func() {
		defer close(acted)
		if p.driver != nil {
			p.driver(h, id)
		}
	}()
	ctx, cancel := context.WithTimeoutCause(h.ctx, limit, errors.New("limit"))
	defer cancel()
	stuck, seen := "", -1
	err := h.l.await(ctx, func() (bool, error) {
		moves := h.l.moved()
		if moves == seen { // a look at all runs after every step would make long workflows slow
			return false, nil
		}
		seen = moves
		infos, err := h.l.all()
		stuck = ""
		for _, info := range infos {
			if !info.State.Terminal() && info.State != pawl.Blocked {
				stuck = info.ID
			}
			// The commit may be known to the store and not yet to the ledger.
			if info.Next != "" && !slices.ContainsFunc(infos, func(next pawl.RunInfo) bool { return next.ID == info.Next && next.Tenant == info.Tenant }) {
				stuck = info.Next
			}
		}
		return stuck == "" && h.l.moved() == moves, err // or a run may have been started and not been looked at
	})
	if ctx.Err() != nil {
		why := ""
		if info, err := h.l.find(stuck); err == nil {
			why, _ = h.client.Why(context.Background(), pawl.Ref{Tenant: info.Tenant, ID: stuck})
		}
		fail("run %s has not ended after %v of virtual time: %s; what it waits for is the driver's to give, see WithDriver", stuck, limit, why)
		h.cancel(errTestEnded)
	} else if err != nil {
		fail("read what is in the store: %v", err)
		h.cancel(errTestEnded)
	}
	<-acted
}

// effectsOf lists what the plan's Effects saw of runs, with the runs' names.
func (p *plan) effectsOf(runs []*runOutcome) []string {
	names := map[string]string{}
	for _, r := range runs {
		names[r.id] = r.name
	}
	var out []string
	for _, e := range p.effects {
		for _, did := range e.list() {
			if name, ok := names[did.run]; ok {
				out = append(out, fmt.Sprintf("%s with the key %s/%s", did.name, name, did.step))
			}
		}
	}
	slices.Sort(out)
	return out
}
