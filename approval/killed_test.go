package approval_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
)

// mortal is a store that its process loses at its nth commit, before or after that is durable.
type mortal struct {
	pawl.Store
	after bool

	mu   sync.Mutex
	left int // commits; the process is dead at zero
	dead chan struct{}
}

var errKilled = errors.New("the process was killed")

func (m *mortal) Commit(ctx context.Context, b *pawl.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		return errKilled
	}
	if m.left--; m.left > 0 {
		return m.Store.Commit(ctx, b)
	}
	close(m.dead)
	if m.after {
		_ = m.Store.Commit(ctx, b)
	}
	return errKilled
}

func (m *mortal) gone() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left == 0
}

func (m *mortal) Claim(ctx context.Context, r pawl.ClaimRequest) (pawl.Claims, error) {
	if m.gone() {
		return pawl.Claims{}, errKilled
	}
	return m.Store.Claim(ctx, r)
}

func (m *mortal) Beat(ctx context.Context, worker int64, now, until time.Time) error {
	if m.gone() {
		return errKilled
	}
	return m.Store.Beat(ctx, worker, now, until)
}

func (m *mortal) Join(ctx context.Context, w pawl.WorkerInfo, until time.Time) (int64, error) {
	if m.gone() {
		return 0, errKilled
	}
	return m.Store.Join(ctx, w, until)
}

func (m *mortal) Leave(ctx context.Context, worker int64, now time.Time) error {
	if m.gone() {
		return errKilled // its lease has to run out
	}
	return m.Store.Leave(ctx, worker, now)
}

// The same promise as TestACrashAtEveryCommit on both stores, in real time, as virtual time ends at a
// server's socket: whichever commit a worker dies at, before or after it is durable, another one goes on, one decision counts, and
// each vote is taken once.
func TestAWorkerIsKilledAtEachCommit(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		q := approval.Request{Approvers: []string{"ann", "bob", "cid"}, Need: 2, Schema: form}
		const points = 9 // more than the worker's commits until it is decided
		died := 0
		var all sync.WaitGroup
		var mu sync.Mutex
		for n := 1; n <= points; n++ {
			for _, after := range []bool{false, true} {
				all.Go(func() {
					ctx := t.Context()
					flow := pawl.Define(fmt.Sprint("asks ", n, after), func(c *pawl.Context, _ string) (string, error) {
						d, err := approval.Ask(c, "buy", q)
						return fmt.Sprint(d.Approved, len(d.Votes)), err
					})
					engine := func(s pawl.Store) *pawl.Engine {
						e := pawl.New(s, &pawl.Options{Secret: secret, Poll: 50 * time.Millisecond, Lease: 2 * time.Second})
						if err := e.Register(flow); err != nil {
							t.Error(err)
						}
						return e
					}
					run := func(e *pawl.Engine) (stop func()) {
						ctx, cancel := context.WithCancel(context.Background())
						done := make(chan struct{})
						go func() { defer close(done); _ = e.Run(ctx) }()
						return func() { cancel(); <-done }
					}
					client := engine(s)
					id := fmt.Sprint("run ", n, after)
					if _, err := flow.Start(ctx, client, "book", pawl.ID(id)); err != nil {
						t.Error(err)
						return
					}
					m := &mortal{Store: s, after: after, left: n, dead: make(chan struct{})}
					stop := run(engine(m))
					finished := make(chan struct{})
					go func() {
						defer close(finished)
						select {
						case <-m.dead:
							mu.Lock()
							died++
							mu.Unlock()
							defer run(engine(s))()
						case <-ctx.Done():
							return
						case <-endOf(client, id):
							return
						}
						<-endOf(client, id)
					}()
					ref := pawl.Ref{ID: id + "/buy"}
					for _, by := range []string{"bob", "ann"} {
						for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
							a, err := approval.Get(ctx, client, ref)
							if err == nil {
								_, err = approval.Decide(ctx, client, ref, approval.Answer{Approved: true, By: by, Shown: a.Shown, Form: []byte(`{"amount":1}`)})
							}
							if err == nil {
								break
							}
							if time.Now().After(end) {
								t.Errorf("%s: the vote of %s: %v", id, by, err)
								break
							}
						}
					}
					out, err := pawl.Attach[string](client, id).Result(ctx)
					if err != nil || out != "true2" && out != "true 2" {
						t.Errorf("%s ended with %q, %v", id, out, err)
					}
					<-finished
					stop()
				})
			}
		}
		all.Wait()
		if died < 8 {
			t.Errorf("%d workers died before the end; the test does not kill at the commits that it is about", died)
		}
		t.Logf("%d of %d workers died", died, 2*points)
	})
}

func endOf(e *pawl.Engine, id string) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _, _ = e.Wait(context.Background(), "", id)
	}()
	return ended
}
