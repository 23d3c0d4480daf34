package approval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
)

// Ask asks for a decision and waits for it, however long that takes. The name tells apart
// what a run asks; asked a second time it is name#2, an approval of its own. Steps and branches
// of the same name count too: behind a step "pay", an approval "pay" is pay#2.
//
// A rejection is a Decision, not an error. The error is [ErrExpired] when nobody has decided
// in time and there is no OnExpire; pawl.ErrInput in a *pawl.StepError for a Request that can't
// be asked; that of Notify in a *pawl.StepError when asking did not work; or that of a scope
// that was cancelled. That of a scope, as of the loser of a race, and the end of the run end
// the approval: nobody can decide it from then on.
//
// A fork that begins behind the asking asks nobody again. Its approval is one of its own: it is
// listed, links to it come with the next notice, and time goes on for it from where it was.
func Ask(c *pawl.Context, name string, q Request) (Decision, error) {
	return pawl.Go(c, name, func(c *pawl.Context) (Decision, error) {
		s, err := pawl.Step(c, "ask", func(ctx context.Context) (spec, error) { return specOf(ctx, name, &q) })
		if err != nil {
			return Decision{}, err
		}
		a := asking{q: &q, spec: s, start: c.Now()}
		if a.hook, err = pawl.NewHook[vote](c, pawl.HookKind(Kind), pawl.Meta(s)); err != nil {
			return Decision{}, err
		}
		d, err := a.decision(c)
		var step *pawl.StepError
		if err != nil && !errors.As(err, &step) { // nobody is to decide what nobody waits for; a step may be retried
			if cerr := a.hook.Close(c); cerr != nil {
				return d, cerr
			}
		}
		return d, err
	}).Wait(c)
}

func (a *asking) decision(c *pawl.Context) (Decision, error) {
	if err := a.notify(c, Asked, nil); err != nil {
		return Decision{}, err
	}
	return a.wait(c)
}

// asking is an Ask under way.
type asking struct {
	q     *Request
	spec  spec
	start time.Time
	hook  *pawl.Hook[vote]
}

// wait takes votes until they decide, and does meanwhile what is to be done while nobody has
// decided.
func (a *asking) wait(c *pawl.Context) (Decision, error) {
	todo := a.spec.moments()
	var votes []Decision
	for {
		// All by the clock of the journal: a fork waits for as long as was left.
		v, err := a.hook.Wait(c, pawl.Timeout(todo[0].after-c.Now().Sub(a.start)))
		switch {
		case err == nil && !v.Expired && v.Slot == len(votes)+1:
			votes = append(votes, v.Decision)
			if decides(votes, a.spec.Need) {
				return a.end(c, votes, nil)
			}
			continue
		case err == nil, errors.Is(err, pawl.ErrInput): // no vote: whatever it is, it counts for nothing
			continue
		case !errors.Is(err, pawl.ErrTimeout):
			return Decision{}, err
		}
		// What was missed while no worker was there is done once, and the end before all else.
		now := todo[0]
		for todo = todo[1:]; len(todo) > 0 && todo[0].after <= c.Now().Sub(a.start); todo = todo[1:] {
			if now.what != Escalated || todo[0].what == HasExpired {
				now = todo[0]
			}
		}
		if now.what != HasExpired {
			if err := a.tell(c, now.what, votes); err != nil {
				return Decision{}, err
			}
			continue
		}
		last, err := pawl.Step(c, "expire", a.expire)
		if err != nil {
			return Decision{}, err
		}
		return a.end(c, last.Votes, last.Expired)
	}
}

// closing is what came of an approval whose time is over.
type closing struct {
	Votes   []Decision `json:"votes,omitempty"`
	Expired *time.Time `json:"expired,omitempty"` // nil: it was decided after all, in the last moment
}

// expire takes the place of the decision, so that from then on there can't be one. If a vote
// has it already, that counts: its sender was told so.
func (a *asking) expire(ctx context.Context) (closing, error) {
	app, err := a.open(ctx, pathOf(pawl.InfoOf(ctx).Step))
	if err != nil {
		return closing{}, err
	}
	v := vote{Expired: true, Decision: Decision{At: time.Now().UTC()}}
	votes, last, err := cast(ctx, pawl.EngineOf(ctx), &app, &a.spec, v)
	if err != nil {
		return closing{}, err
	}
	out := closing{Votes: votes}
	if last.Expired {
		out.Expired = &last.At
	}
	return out, nil
}

// end keeps what was decided, ends the approval and tells about it.
func (a *asking) end(c *pawl.Context, votes []Decision, expired *time.Time) (Decision, error) {
	d, state, what := Decision{}, Decided, WasDecided
	switch {
	case expired == nil:
		d = decisionOf(votes, a.spec.Need)
	case a.q.OnExpire != nil:
		d, what = *a.q.OnExpire, HasExpired
		d.By, d.At, d.Shown, d.Via, d.Actor, d.Votes, state = "", *expired, a.spec.Shown, "", "", votes, Expired
	default:
		d.Votes, state, what = votes, Expired, HasExpired
	}
	app, err := pawl.Step(c, "record", func(ctx context.Context) (Approval, error) {
		app, err := a.open(ctx, pathOf(pawl.InfoOf(ctx).Step))
		if err != nil {
			return app, err
		}
		app.State, app.Votes = state, nil
		if state == Expired {
			app.Votes, app.Expires = votes, *expired
		}
		if expired == nil || a.q.OnExpire != nil {
			app.Decision = &d
		}
		return Approval{ID: app.ID, Expires: app.Expires}, keep(ctx, pawl.EngineOf(ctx), app, &a.spec)
	})
	if err != nil {
		return Decision{}, err
	}
	if err := a.hook.Close(c); err != nil {
		return Decision{}, err
	}
	if err := a.tell(c, what, votes); err != nil {
		return Decision{}, err
	}
	if expired != nil && a.q.OnExpire == nil {
		return Decision{}, &ExpiredError{ID: app.ID, At: app.Expires}
	}
	return d, nil
}

// tell is notify for what the run does not depend on.
func (a *asking) tell(c *pawl.Context, what What, votes []Decision) error {
	err := a.notify(c, what, votes)
	var step *pawl.StepError
	if errors.As(err, &step) { // the journal has it
		return nil
	}
	return err
}

// notify tells people. What a Notifier can't say is in the journal.
func (a *asking) notify(c *pawl.Context, what What, votes []Decision) error {
	if a.q.Notify != nil {
		if err := a.say(c, what, votes, a.q.Notify, a.q.NotifyOptions, pathOf); err != nil {
			return err
		}
	}
	if what == WasDecided || what == HasExpired {
		return nil
	}
	var told []*pawl.Future[struct{}]
	for _, n := range a.q.Notifiers {
		told = append(told, pawl.Go(c, n.Name, func(c *pawl.Context) (struct{}, error) {
			err := a.say(c, what, votes, n.Tell, n.Options, func(step string) string { return pathOf(pathOf(step)) })
			var step *pawl.StepError
			if errors.As(err, &step) {
				err = nil
			}
			return struct{}{}, err
		}))
	}
	_, err := pawl.All(c, told...)
	return err
}

// say tells people in one way. Path finds that of the asking, of the key of the step.
func (a *asking) say(c *pawl.Context, what What, votes []Decision, tell func(context.Context, Notice) error, opts []pawl.StepOption, path func(step string) string) error {
	opts = append([]pawl.StepOption{pawl.AttemptTimeout(time.Minute)}, opts...)
	return pawl.Do(c, notifyStep+string(what), func(ctx context.Context) error {
		e, i := pawl.EngineOf(ctx), pawl.InfoOf(ctx)
		n := Notice{What: what, links: Links{Engine: e, BaseURL: a.q.BaseURL}}
		if what == WasDecided || what == HasExpired { // its hook is closed: it is on record
			app, err := Get(ctx, e, pawl.Ref{Tenant: i.Tenant, ID: idOf(i.RunID, path(i.Step)+hookSuffix)})
			if err != nil {
				return err
			}
			n.Approval = app
			return tell(ctx, n)
		}
		app, err := a.open(ctx, path(i.Step))
		if err != nil {
			return err
		}
		app.Votes = votes
		n.Approval = app
		if a.q.BaseURL != "" {
			at := time.Now()
			if what == Escalated { // an operator may have woken the run before its time
				at = app.Asked.Add(a.spec.Escalate.After)
			}
			for _, name := range app.Deciders(at) {
				if app.Voted(name) != nil {
					continue
				}
				url, err := n.links.For(app, name)
				if err != nil {
					return pawl.Fatal(err)
				}
				n.Links = append(n.Links, Link{name, url})
			}
		}
		return tell(ctx, n)
	}, opts...)
}

// notifyStep and what it is about name the steps that tell people.
const notifyStep = "notify-"

// open is the approval of a path, as its hook has it.
func (a *asking) open(ctx context.Context, path string) (Approval, error) {
	i := pawl.InfoOf(ctx)
	h, err := findHook(ctx, pawl.EngineOf(ctx), pawl.Ref{Tenant: i.Tenant, ID: i.RunID}, path+hookSuffix)
	if err != nil {
		return Approval{}, fmt.Errorf("read approval %s: %w", a.spec.Name, err)
	}
	app, _, err := approvalOf(h.Run, h.Key, h.At, h.Meta)
	return app, err
}

// vote is what the run gets for a person's decision. Its slot is its place among the votes: a
// store gives each slot once.
type vote struct {
	Slot    int  `json:"slot"`
	Expired bool `json:"expired,omitempty"` // the run's own: nobody decided
	Decision
}

// decides reports whether votes are a decision: one rejection is, and as many approvals as
// are needed.
func decides(votes []Decision, need int) bool {
	n := len(votes)
	return n > 0 && (n >= need || !votes[n-1].Approved)
}

// decisionOf is the decision that votes are.
func decisionOf(votes []Decision, need int) Decision {
	d := votes[len(votes)-1]
	if need > 1 {
		d.Votes = votes
	}
	return d
}

// cast gives a vote the first slot that is free. It returns the votes that count by now and
// the last of them: v, if it has got a slot, or the one that kept it from getting one.
func cast(ctx context.Context, e *pawl.Engine, a *Approval, s *spec, v vote) (votes []Decision, last vote, err error) {
	_, hook, err := hookOf(a.ID)
	if err != nil {
		return nil, v, err
	}
	for v.Slot = 1; ; v.Slot++ {
		answer, err := json.Marshal(v)
		if err != nil {
			return votes, v, err
		}
		r, err := e.Deliver(ctx, pawl.Delivery{
			Run: pawl.Ref{Tenant: a.Tenant, ID: a.Run}, Hook: hook, Data: v,
			Once: fmt.Sprintf("vote-%d", v.Slot), Window: s.Expires + s.Keep, Answer: answer,
		})
		if err != nil {
			return votes, v, err
		}
		last = v
		if r.Repeated {
			last = vote{}
			if err := json.Unmarshal(r.First, &last); err != nil {
				return votes, v, fmt.Errorf("vote %d on approval %s can't be read: %w", v.Slot, a.ID, err)
			}
		}
		if last.Expired {
			return votes, last, nil
		}
		votes = append(votes, last.Decision)
		if !r.Repeated || decides(votes, a.Need) || last.By == v.By {
			return votes, last, nil
		}
	}
}
