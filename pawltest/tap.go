package pawltest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// tap is one worker's way to the store. It counts what the worker commits, and cuts it off
// at the commit that it was told: for the store the worker has died there.
//
// Invariant: once cut, the worker changes nothing in the store. (It may still read.)
type tap struct {
	pawl.Store
	l      *ledger
	cutAt  int // the commit to die at, from 1; 0: none
	moment moment

	mu      sync.Mutex
	id      int64    // the worker's
	points  []string // what it has committed; the last one, if dead, is where it died
	claims  map[int]bool
	cut     bool
	died    chan struct{} // closed when it died at cutAt
	atDeath func()        // called before
}

// moment is when in a commit a worker dies.
type moment uint8

const (
	lost moment = iota
	unanswered
)

func (m moment) String() string { return [...]string{"lost", "unanswered"}[m] }

func (m moment) text() string {
	return [...]string{"before the commit was applied", "after the commit was applied, before the worker heard of it"}[m]
}

func newTap(l *ledger) *tap {
	return &tap{Store: l.base, l: l, died: make(chan struct{}), claims: map[int]bool{}}
}

// errCut is what a dead worker hears: it can't know whether its commit was applied.
var errCut = fmt.Errorf("%w: the test has killed this worker", pawl.ErrUnknownOutcome)

// errGone keeps its engine from joining again.
var errGone = fmt.Errorf("%w: the test has killed this worker", pawl.ErrClosed)

func (t *tap) isCut() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cut
}

// kill cuts the worker off now.
func (t *tap) kill() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cut = true
}

// die is kill at the commit that the tap was told.
func (t *tap) die() {
	t.kill()
	if t.atDeath != nil {
		t.atDeath()
	}
	close(t.died)
}

// isDead tells whether it died at cutAt.
func (t *tap) isDead() bool {
	select {
	case <-t.died:
		return true
	default:
		return false
	}
}

// reach counts a commit; here tells that it is the one to die at.
func (t *tap) reach(what string, claim bool) (here bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cut {
		return false, errCut
	}
	t.points = append(t.points, what)
	t.claims[len(t.points)] = claim
	return len(t.points) == t.cutAt, nil
}

// Commit implements pawl.Store.
func (t *tap) Commit(ctx context.Context, b *pawl.Batch) error {
	here, err := t.reach(t.describe(b), false)
	if err != nil {
		return err
	}
	if here && t.moment == lost {
		t.die()
		return errCut
	}
	defer t.l.commits(b)()
	if err := t.Store.Commit(ctx, b); err != nil {
		return err
	}
	t.l.applied(b)
	if here {
		t.die()
		return errCut
	}
	return nil
}

// Claim implements pawl.Store. It is a commit only if it gives the worker something, which
// is known when it has been applied.
func (t *tap) Claim(ctx context.Context, r pawl.ClaimRequest) (pawl.Claims, error) {
	if t.isCut() {
		return pawl.Claims{}, errCut
	}
	c, err := t.Store.Claim(ctx, r)
	if err != nil || len(c.Runs) == 0 {
		return c, err
	}
	t.l.changed()
	var ids []string
	for _, claim := range c.Runs {
		ids = append(ids, claim.Info.ID)
	}
	here, err := t.reach("the worker claims run "+strings.Join(ids, ", "), true)
	if err == nil && here {
		t.die()
		err = errCut
	}
	if err != nil {
		return pawl.Claims{}, err
	}
	return c, nil
}

// Join implements pawl.Store.
func (t *tap) Join(ctx context.Context, w pawl.WorkerInfo, until time.Time) (int64, error) {
	if t.isCut() {
		return 0, errGone
	}
	id, err := t.Store.Join(ctx, w, until)
	t.mu.Lock()
	t.id = id
	t.mu.Unlock()
	return id, err
}

// Beat implements pawl.Store.
func (t *tap) Beat(ctx context.Context, worker int64, now, until time.Time) error {
	if t.isCut() {
		return pawl.ErrFenced
	}
	return t.Store.Beat(ctx, worker, now, until)
}

// Leave implements pawl.Store.
func (t *tap) Leave(ctx context.Context, worker int64, now time.Time) error {
	if t.isCut() {
		return errGone
	}
	return t.Store.Leave(ctx, worker, now)
}

// Watch implements pawl.Watcher.
func (t *tap) Watch(ctx context.Context, hint func()) error {
	if w, ok := t.Store.(pawl.Watcher); ok {
		return w.Watch(ctx, hint)
	}
	<-ctx.Done()
	return nil
}

// Audit implements pawl.Store. What it finds is a bug of the engine or the store.
func (t *tap) Audit(ctx context.Context, now time.Time) ([]pawl.Finding, error) {
	if t.isCut() {
		return nil, nil
	}
	found, err := t.Store.Audit(ctx, now)
	for _, f := range found {
		t.l.problem("nothing would ever have woken run %s, which is %s: %s", f.RunID, f.State, f.What)
	}
	return found, err
}

// Purge implements pawl.Store.
func (t *tap) Purge(ctx context.Context, now time.Time, limit int) (int, error) {
	if t.isCut() {
		return 0, nil
	}
	return t.Store.Purge(ctx, now, limit)
}

// Close does nothing: the store is the harness's, not its worker's.
func (t *tap) Close() error { return nil }

// bury ends the lease of a dead worker, so that the next one to ask for work gets its runs.
func (t *tap) bury() error {
	t.mu.Lock()
	id := t.id
	t.mu.Unlock()
	if id == 0 {
		return nil
	}
	now := time.Now()
	err := t.Store.Beat(context.Background(), id, now, now.Add(-time.Second))
	if err != nil && !errors.Is(err, pawl.ErrFenced) {
		return fmt.Errorf("declare a worker dead: %w", err)
	}
	return nil
}

// describe says for people what a batch is about.
func (t *tap) describe(b *pawl.Batch) string {
	var parts []string
	for _, s := range b.Starts {
		parts = append(parts, fmt.Sprintf("start of run %s of %s", s.Run.ID, s.Run.Workflow))
	}
	for _, ch := range b.Changes {
		var did []string
		for i := range ch.Entries {
			did = append(did, entryName(&ch.Entries[i]))
		}
		for _, c := range ch.Chunks {
			did = append(did, fmt.Sprintf("chunk %d of stream %q", c.Index, c.Stream))
		}
		for _, w := range ch.Waits {
			did = append(did, fmt.Sprintf("wait for %q", w.Event))
		}
		if ch.To != nil {
			did = append(did, "the run becomes "+ch.To.State.String())
		}
		parts = append(parts, fmt.Sprintf("run %s: %s", t.l.idOf(ch.Run), strings.Join(did, ", ")))
	}
	for _, s := range b.Sends {
		parts = append(parts, "message "+s.Name+s.Publish)
	}
	for _, o := range b.Orders {
		parts = append(parts, fmt.Sprintf("%s of run %s", o.Verb, o.RunID))
	}
	return strings.Join(parts, "; ")
}

// entryName is the kind and the key of an entry.
func entryName(e *pawl.Entry) string {
	s := e.Kind.String()
	if e.Key != "" {
		s += " " + e.Key
	}
	if e.Failed {
		s += " (failed)"
	}
	return s
}
