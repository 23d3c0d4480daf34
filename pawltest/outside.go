package pawltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
)

// Start starts a run of a workflow that the harness knows.
func Start[In, Out any](h *Harness, w *pawl.Workflow[In, Out], in In, opts ...pawl.StartOption) *pawl.Run[Out] {
	h.tb.Helper()
	run, err := w.Start(h.ctx, h.Engine(), in, opts...)
	if err != nil {
		h.failf("%v", err)
	}
	return run
}

// Result waits until the run has ended and returns its result. A run that did not complete
// ends the test; see ResultError.
func Result[Out any](h *Harness, run *pawl.Run[Out]) Out {
	h.tb.Helper()
	out, err := ResultError(h, run)
	if err != nil {
		h.failf("%v\n%s", err, h.text(run.ID()))
	}
	return out
}

// ResultError is Result for a run that may fail.
func ResultError[Out any](h *Harness, run *pawl.Run[Out]) (Out, error) {
	h.tb.Helper()
	info := h.await(run.ID(), "end", func(info pawl.RunInfo) (bool, error) {
		for info.Next != "" {
			var err error
			if info, err = h.l.find(info.Next); err != nil {
				return false, err
			}
		}
		return info.State.Terminal() || info.State == pawl.Blocked, nil
	})
	return pawl.Attach[Out](h.Engine(), run.ID(), pawl.Tenant(info.Tenant)).Result(h.ctx)
}

// Signal sends an event to a run.
func (h *Harness) Signal(runID, event string, data any) {
	h.tb.Helper()
	info, err := h.l.find(runID)
	if err == nil {
		err = h.Engine().SignalRef(h.ctx, pawl.Ref{Tenant: info.Tenant, ID: runID}, event, data)
	}
	if err != nil {
		h.failf("signal %s: %v", event, err)
	}
}

// Publish sends an event to all runs that wait for it.
func (h *Harness) Publish(event string, data any) {
	h.tb.Helper()
	if err := h.Engine().Publish(h.ctx, event, data); err != nil {
		h.failf("publish %s: %v", event, err)
	}
}

// Resume sends a payload to the hook with a token.
func (h *Harness) Resume(token string, data any) {
	h.tb.Helper()
	if _, err := h.Engine().Resume(h.ctx, token, data); err != nil {
		h.failf("resume: %v", err)
	}
}

// Cancel ends a run.
func (h *Harness) Cancel(runID, reason string) {
	h.tb.Helper()
	info, err := h.l.find(runID)
	if err == nil {
		_, err = h.Engine().Cancel(h.ctx, pawl.Ref{Tenant: info.Tenant, ID: runID}, reason)
	}
	if err != nil {
		h.failf("%v", err)
	}
}

// Info returns what is known of a run.
func (h *Harness) Info(runID string) pawl.RunInfo {
	h.tb.Helper()
	info, err := h.l.find(runID)
	if err != nil {
		h.failf("%v", err)
	}
	return info
}

// Journal returns a run's entries.
func (h *Harness) Journal(runID string) []pawl.Entry {
	h.tb.Helper()
	entries, err := h.l.journal(h.Info(runID).Key)
	if err != nil {
		h.failf("journal of run %s: %v", runID, err)
	}
	return entries
}

// Keys returns the keys of the steps whose results a run has recorded, in order.
func (h *Harness) Keys(runID string) []string {
	h.tb.Helper()
	var keys []string
	for _, e := range h.Journal(runID) {
		if e.Kind == pawl.KindStep {
			keys = append(keys, e.Key)
		}
	}
	return keys
}

// AwaitState waits until a run is in one of some states, and returns what is known of it.
func (h *Harness) AwaitState(runID string, states ...pawl.State) pawl.RunInfo {
	h.tb.Helper()
	return h.await(runID, fmt.Sprintf("be %v", states), func(info pawl.RunInfo) (bool, error) {
		return slices.Contains(states, info.State), nil
	})
}

// AwaitEvent waits until a run waits for an event, so that it gets what is published.
func (h *Harness) AwaitEvent(runID, event string) {
	h.tb.Helper()
	h.await(runID, fmt.Sprintf("wait for the event %q", event), func(info pawl.RunInfo) (bool, error) {
		held, err := h.store.Holders(context.Background(), info.Key, info.Updated)
		return slices.ContainsFunc(held.Events, func(w pawl.Wait) bool { return w.Event == event }), err
	})
}

// AwaitHook waits until a run has a live hook and returns the token of its newest.
func (h *Harness) AwaitHook(runID string) string {
	h.tb.Helper()
	token := ""
	h.await(runID, "make a hook", func(info pawl.RunInfo) (bool, error) {
		hooks, err := h.Engine().Hooks(context.Background(), pawl.Ref{Tenant: info.Tenant, ID: info.ID})
		if len(hooks) > 0 {
			token = hooks[len(hooks)-1].Token
		}
		return token != "", err
	})
	return token
}

// AwaitEntry waits until a run's journal has an entry of a kind with a key, and returns it.
func (h *Harness) AwaitEntry(runID string, kind pawl.Kind, key string) pawl.Entry {
	h.tb.Helper()
	var found pawl.Entry
	h.await(runID, fmt.Sprintf("record %s %q", kind, key), func(info pawl.RunInfo) (bool, error) {
		entries, err := h.l.journal(info.Key)
		for _, e := range entries {
			if e.Kind == kind && e.Key == key {
				found = e
				return true, err
			}
		}
		return false, err
	})
	return found
}

// await waits until a run, which must exist by now or come to exist, is as cond wants it.
// It ends the test when the run has ended another way, or after the harness's limit.
func (h *Harness) await(runID, what string, cond func(pawl.RunInfo) (bool, error)) pawl.RunInfo {
	h.tb.Helper()
	ctx, cancel := context.WithTimeoutCause(h.ctx, h.limit, fmt.Errorf("waited for %v", h.limit))
	defer cancel()
	var info pawl.RunInfo
	err := h.l.await(ctx, func() (ok bool, err error) {
		if info, err = h.l.find(runID); err != nil {
			if errors.Is(err, pawl.ErrNotFound) {
				err = nil
			}
			return false, err
		}
		if ok, err = cond(info); ok || err != nil {
			return ok, err
		}
		if (info.State.Terminal() || info.State == pawl.Blocked) && info.Next == "" {
			return false, fmt.Errorf("the run is %s: %s", info.State, info.Reason)
		}
		return false, nil
	})
	if err != nil {
		h.failf("run %s did not %s: %v\n%s", runID, what, err, h.text(runID))
	}
	return info
}

func (h *Harness) failf(format string, args ...any) {
	h.tb.Helper()
	h.fatal("pawltest: " + fmt.Sprintf(format, args...))
}

// text is a run's state and journal, for people.
func (h *Harness) text(runID string) string {
	info, err := h.l.find(runID)
	if err != nil {
		return err.Error()
	}
	return h.l.text(info)
}

func (l *ledger) text(info pawl.RunInfo) string {
	var s strings.Builder
	fmt.Fprintf(&s, "run %s of %s, %s", info.ID, info.Workflow, info.State)
	if info.Reason != "" {
		fmt.Fprintf(&s, ": %s", info.Reason)
	}
	s.WriteByte('\n')
	entries, err := l.journal(info.Key)
	if err != nil {
		fmt.Fprintf(&s, "  its journal can't be read: %v\n", err)
	}
	for i := range entries {
		e := &entries[i]
		fmt.Fprintf(&s, "  %3d  %-34s %s\n", e.Seq, entryName(e), short(string(e.Data)))
	}
	return s.String()
}

// texts is text for all runs.
func (l *ledger) texts() string {
	infos, err := l.all()
	if err != nil {
		return err.Error()
	}
	var s strings.Builder
	for _, info := range infos {
		s.WriteString(l.text(info))
	}
	return s.String()
}

func short(s string) string {
	if r := []rune(s); len(r) > 100 {
		return string(r[:99]) + "…"
	}
	return s
}
