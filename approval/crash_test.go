package approval_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/pawltest"
)

// The worker is killed at every commit: while it asks, reminds, waits, takes votes and keeps
// what was decided.
func TestACrashAtEveryCommit(t *testing.T) {
	for name, c := range map[string]struct {
		q      approval.Request
		driver func(h *pawltest.Harness, id string)
	}{
		"decided": {approval.Request{Approvers: []string{"ann", "bob", "cid"}, Need: 2, Every: 5 * time.Hour, Schema: form}, func(h *pawltest.Harness, id string) {
			h.AwaitHook(id)
			ref := pawl.Ref{ID: id + "/buy"}
			for _, by := range []string{"bob", "ann"} {
				time.Sleep(time.Hour)
				a, err := approval.Get(h.Context(), h.Engine(), ref)
				if err != nil {
					t.Errorf("%v", err)
					return
				}
				_, err = approval.Decide(h.Context(), h.Engine(), ref, approval.Answer{Approved: true, By: by, Shown: a.Shown, Form: []byte(`{"amount":1}`)})
				if err != nil {
					t.Errorf("%s: %v", by, err)
				}
			}
		}},
		"expired": {approval.Request{Approvers: []string{"ann"}, Expires: 6 * time.Hour, Remind: []time.Duration{2 * time.Hour}, OnExpire: &approval.Decision{Comment: "nobody"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var told pawltest.Effects
			q := c.q
			q.Notify = func(ctx context.Context, n approval.Notice) error {
				told.Do(ctx, string(n.What))
				return nil
			}
			w := pawl.Define("asks", func(c *pawl.Context, _ string) (string, error) {
				d, err := approval.Ask(c, "buy", q)
				return fmt.Sprint(d.Approved, d.By, d.Comment, len(d.Votes)), err
			})
			opts := []pawltest.CrashOption{pawltest.WithEffects(&told), pawltest.WithEngine(pawl.Options{Secret: secret})}
			if c.driver != nil {
				opts = append(opts, pawltest.WithDriver(c.driver))
			}
			pawltest.CrashEverywhere(t, w, "book", opts...)
		})
	}
}
