package trigger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/pawlrun/pawl"
)

// Set is what a program declares of triggers. Declare all, then let Run work and mount the Set
// for its webhooks. Schedules and subscriptions become rows when Run begins; what is not declared any more
// stays there until somebody deletes it.
type Set struct {
	engine    *pawl.Engine
	schedules []Schedule
	events    []Subscription
	webhooks  map[string]http.Handler
	ids       []string
	uses      []use
	elsewhere []string
}

// use is a workflow that a trigger starts.
type use struct{ trigger, workflow string }

// NewSet makes an empty Set for an engine.
func NewSet(e *pawl.Engine) *Set { return &Set{engine: e, webhooks: map[string]http.Handler{}} }

// claim refuses an id that is declared twice: its runs would share ids.
func (s *Set) claim(tenant, id string) error {
	key := tenant + "\x00" + id
	if slices.Contains(s.ids, key) {
		return fmt.Errorf("%w: trigger %s is declared twice", pawl.ErrInput, id)
	}
	s.ids = append(s.ids, key)
	return nil
}

// OnSchedule declares a schedule. Whether it is paused is decided by those who run it: a Set
// leaves that as it is there. ErrInput.
func (s *Set) OnSchedule(sch Schedule) error {
	if err := sch.check(); err != nil {
		return err
	}
	if err := s.claim(sch.Tenant, sch.ID); err != nil {
		return err
	}
	s.schedules = append(s.schedules, sch)
	s.uses = append(s.uses, use{"schedule " + sch.ID, sch.Workflow})
	return nil
}

// OnEvent declares that events of a name start runs. ErrInput.
func (s *Set) OnEvent(sub Subscription) error {
	if err := sub.check(); err != nil {
		return err
	}
	if err := s.claim(sub.Tenant, sub.ID); err != nil {
		return err
	}
	s.events = append(s.events, sub)
	s.uses = append(s.uses, use{"subscription " + sub.ID, sub.Workflow})
	return nil
}

// OnWebhook declares a webhook. ErrInput: it can't be, or its path is taken.
func (s *Set) OnWebhook(w Webhook) error {
	h, err := NewWebhookHandler(s.engine, w)
	if err != nil {
		return err
	}
	if s.webhooks[w.Path] != nil {
		return fmt.Errorf("%w: webhook %s: path %s is taken by another", pawl.ErrInput, w.ID, w.Path)
	}
	if err := s.claim(w.Tenant, w.ID); err != nil {
		return err
	}
	s.webhooks[w.Path] = h
	s.uses = append(s.uses, use{"webhook " + w.ID, w.Workflow})
	return nil
}

// ServeHTTP answers the requests of the webhooks, by their paths; others get 404.
func (s *Set) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := s.webhooks[r.URL.Path]; h != nil {
		h.ServeHTTP(w, r)
		return
	}
	expectBody(w, r)
	problem(w, http.StatusNotFound, "there is no webhook at this path")
}

// Paths are those of the webhooks, sorted.
func (s *Set) Paths() []string {
	var out []string
	for p := range s.webhooks {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

// Elsewhere says that programs with other engines on the same store have registered these workflows: this
// one declares triggers for them, and leaves the starting to those.
func (s *Set) Elsewhere(workflows ...string) { s.elsewhere = append(s.elsewhere, workflows...) }

// known refuses a trigger of a workflow that the engine has not registered: nobody would start it. An
// engine without any workflow is a client, of which nothing can be said.
func (s *Set) known() error {
	names := s.engine.Workflows()
	if len(names) == 0 {
		return nil
	}
	for _, u := range s.uses {
		if !slices.Contains(names, u.workflow) && !slices.Contains(s.elsewhere, u.workflow) {
			return fmt.Errorf("%w: %s starts workflow %q, which this engine has not registered%s; register it, or name it in Set.Elsewhere if another program has it", pawl.ErrInput, u.trigger, u.workflow, likely(u.workflow, names))
		}
	}
	return nil
}

// Sync writes the rows of schedules and subscriptions that are new or changed. ErrInput: one of the Set's
// triggers starts a workflow that its engine, which has others, has not registered, see Elsewhere; nothing was written.
func (s *Set) Sync(ctx context.Context) error {
	if err := s.known(); err != nil {
		return err
	}
	store := Schedules{s.engine}
	for _, sch := range s.schedules {
		old, err := store.Get(ctx, sch.Tenant, sch.ID)
		switch {
		case err == nil:
			sch.Paused, sch.Reason = old.Paused, old.Reason
			if !sch.At.IsZero() && sch.sameTimes(&old) && old.Next.IsZero() {
				continue // it has been
			}
		case !errors.Is(err, pawl.ErrNotFound):
			return err
		}
		sch.Revision = AnyRevision
		if _, err := store.Put(ctx, sch); err != nil {
			return err
		}
	}
	for _, sub := range s.events {
		if _, err := Subscribe(ctx, s.engine, sub); err != nil {
			return err
		}
	}
	return nil
}

// Run syncs, and then fires what is due until ctx ends: it is a [Runner] too.
func (s *Set) Run(ctx context.Context) error {
	if err := s.Sync(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return (&Runner{Engine: s.engine}).Run(ctx)
}
