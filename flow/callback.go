package flow

import (
	"slices"

	"github.com/pawlrun/pawl"
)

// {{webhooks.pay}} is the address at which the step pay, a wait for a request, will be called: a step before it tells it to
// who is to call. The webhook is made where a step first reads its address, or at the wait, and ends with the wait: each
// visit of the wait has one of its own. Who has an address can let the run go on, so they are kept as secrets are.

// callbacks are the webhooks that a scope has.
type callbacks struct {
	open  map[*step]*pawl.Webhook  // that were not waited for yet
	named map[string]*pawl.Webhook // by the id of their step, the newest
}

// clone is what a branch begins with.
func (k callbacks) clone() callbacks {
	out := callbacks{map[*step]*pawl.Webhook{}, map[string]*pawl.Webhook{}}
	for s, hook := range k.open {
		out.open[s] = hook
	}
	for id, hook := range k.named {
		out.named[id] = hook
	}
	return out
}

// webhookWait is the work of a step that waits for a request, or nil.
func webhookWait(s *step) *wait {
	if w, is := workOf(s).(*wait); is && w.what == "webhook" {
		return w
	}
	return nil
}

// readCallbacks finds which webhooks of the graph each step needs the address of, and of which others of those around it.
func (g *graph) readCallbacks() {
	outside := map[string]bool{}
	for _, s := range g.steps {
		read := map[string]bool{}
		if _, is := s.work.(*parallel); !is { // what its branches read, they know
			s.work.reads(func(_ *node, u use) {
				if len(u.path) > 1 && u.path[0].Name == "webhooks" {
					read[u.path[1].Name] = true
				}
			})
		}
		for _, inner := range s.graphs() {
			for _, id := range inner.outside {
				read[id] = true
			}
		}
		for _, id := range sortedNames(read) {
			if to := g.by[id]; webhookWait(to) != nil {
				s.opens = append(s.opens, to)
			} else {
				outside[id] = true
			}
		}
	}
	g.outside = sortedNames(outside)
}

// webhook is that of a step that waits for a request; it is made if there is none.
func (x *run) webhook(c *pawl.Context, s *step, in *scope) (*pawl.Webhook, error) {
	if hook := in.callbacks.open[s]; hook != nil {
		return hook, nil
	}
	var hook *pawl.Webhook
	_, err := pawl.Go(c, s.id+":webhook", func(c *pawl.Context) (_ result, err error) {
		hook, err = pawl.NewWebhook(c, webhookWait(s).door...)
		return result{}, err
	}).Wait(c)
	if err == nil {
		in.callbacks.open[s], in.callbacks.named[s.id] = hook, hook
	}
	return hook, err
}

// leads reports whether a run may come from one step of a graph to another.
func (g graph) leads(from, to *step) bool {
	seen := map[string]bool{}
	for next := from.targets(); len(next) > 0; {
		last := next[len(next)-1]
		next = next[:len(next)-1]
		if last.to == to.id {
			return true
		}
		if s := g.by[last.to]; s != nil && !seen[last.to] {
			seen[last.to] = true
			next = append(next, s.targets()...)
		}
	}
	return false
}

// callback checks {{webhooks.id}}.
func (k *checker) callback(s *step, at *node, id string, u use, steps *around) {
	of := steps.find(id)
	switch {
	case u.condition || !k.sends(s, at):
		k.f.fault(at, "", "{{%s}}: addresses of webhooks go to services only", u.path)
	case len(u.path) != 2:
		k.f.fault(at, "name one: {{webhooks.step}}", "{{%s}} names no step that waits for a request", u.path)
	case webhookWait(of) == nil:
		hint := k.f.did(id, slices.DeleteFunc(slices.Clone(steps.all()), func(id string) bool { return webhookWait(steps.find(id)) == nil }))
		k.f.fault(at, hint, "{{%s}}: there is no step %q here that waits for a request", u.path, id)
	case steps.own[id] == of && steps.own[s.id] == s && !steps.graph.leads(s, of):
		k.f.fault(at, "tell it before the wait", "{{%s}}: no way leads from step %q to the wait, so nobody would read what comes", u.path, s.id)
	}
}
