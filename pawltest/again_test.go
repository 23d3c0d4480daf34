package pawltest

import (
	"context"
	"errors"
	"testing"

	"github.com/pawlrun/pawl"
)

// lateRetry answers of a retry only when the step runs again.
type lateRetry struct {
	pawl.Store
	l *ledger
}

func (s *lateRetry) Commit(ctx context.Context, b *pawl.Batch) error {
	err := s.Store.Commit(ctx, b)
	if err != nil || len(b.Orders) == 0 {
		return err
	}
	return s.l.await(ctx, func() (bool, error) {
		s.l.mu.Lock()
		defer s.l.mu.Unlock()
		return len(s.l.bodies) == 2, nil
	})
}

// A retry is in the store before its commit has returned: the step may run again from then on.
func TestARetriedStepMayRunBeforeTheRetryReturns(t *testing.T) {
	w := pawl.Define("pays", func(c *pawl.Context, _ struct{}) (struct{}, error) {
		return struct{}{}, pawl.Do(c, "charge", func(context.Context) error { return pawl.Fatal(errors.New("declined")) })
	})
	h, err := open(t, pawl.Options{}, []pawl.Definition{w})
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	h.l.base = &lateRetry{h.l.base, h.l}
	if err := h.hire(newTap(h.l)); err != nil {
		t.Fatal(err)
	}
	run := Start(h, w, struct{}{})
	if _, err := ResultError(h, run); err == nil {
		t.Fatal("the run did not fail")
	}
	if _, err := h.Engine().Retry(h.Context(), pawl.Ref{ID: run.ID()}); err != nil {
		t.Fatal(err)
	}
	if _, err := ResultError(h, run); err == nil || h.Calls("charge") != 2 {
		t.Errorf("it ended with %v after %d calls", err, h.Calls("charge"))
	}
	if problems := h.l.problems; len(problems) > 0 {
		t.Errorf("reported: %q", problems)
	}
}
