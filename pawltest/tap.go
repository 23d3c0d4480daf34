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
// at the commit that it was told: as far as the store can see, the worker has died there.
//
// Invariant: once cut, nothing of the worker reaches the store, and none of its step
// bodies begins.
type tap struct {
	*ledger
	cutAt  int    // the commit to die at; 0: none
	moment moment // of that commit

	mu      sync.Mutex
	commits int
	cut     bool
	point   string // what the commit was that it died at
	id      int64  // the worker's
	dead    chan struct{}
	atDeath func() // called once, before anybody is told
}

type moment uint8

const (
	lost       moment = iota // the worker dies before the commit is applied
	unanswered               // the commit is applied, and the worker dies before it hears of it
)

func (m moment) String() string { return [...]string{"lost", "unanswered"}[m] }

func (m moment) text() string {
	return [...]string{"before it was applied", "after it was applied, before the worker heard of it"}[m]
}

func newTap(l *ledger) *tap { return &tap{ledger: l, dead: make(chan struct{})} }

// errCut is what a dead worker hears. It can't know whether its commit was applied.
var errCut = fmt.Errorf("%w: the test has killed this worker", pawl.ErrUnknownOutcome)

// errGone keeps an engine from joining again.
var errGone = fmt.Errorf("%w: the test has killed this worker", pawl.ErrClosed)

func (t *tap) isCut() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cut
}

// kill cuts the worker off now.
func (t *tap) kill(point string) {
	t.mu.Lock()
	already := t.cut
	t.cut = true
	if !already {
		t.point = point
	}
	t.mu.Unlock()
	if already {
		return
	}
	if t.atDeath != nil {
		t.atDeath()
	}
	close(t.dead)
}

// commit applies one transaction of the worker's, unless it is the one to die at.
func (t *tap) commit(describe func() string, apply func() error) error {
	t.mu.Lock()
	if t.cut {
		t.mu.Unlock()
		return errCut
	}
	t.commits++
	here := t.commits == t.cutAt
	t.mu.Unlock()
	if here && t.moment == lost {
		t.kill(describe())
		return errCut
	}
	if err := apply(); err != nil {
		return err
	}
	if here {
		t.kill(describe())
		return errCut
	}
	return nil
}

func (t *tap) Commit(ctx context.Context, b *pawl.Batch) error {
	return t.commit(func() string { return t.describe(b) }, func() error {
		err := t.base.Commit(ctx, b)
		if err == nil {
			t.applied(b)
		}
		return err
	})
}

// Claim is a commit if it gives the worker something.
func (t *tap) Claim(ctx context.Context, r pawl.ClaimRequest) (c pawl.Claims, err error) {
	if t.isCut() {
		return c, errCut
	}
	if c, err = t.base.Claim(ctx, r); err != nil || len(c.Runs) == 0 {
		return c, err
	}
	t.mu.Lock()
	t.ledger.mu.Lock()
	t.tell()
	t.ledger.mu.Unlock()
	if t.cut {
		t.mu.Unlock()
		return pawl.Claims{}, errCut
	}
	t.commits++
	here := t.commits == t.cutAt
	t.mu.Unlock()
	if !here {
		return c, nil
	}
	var ids []string
	for _, claim := range c.Runs {
		ids = append(ids, claim.Info.ID)
	}
	t.kill("the worker claims run " + strings.Join(ids, ", "))
	return pawl.Claims{}, errCut
}

func (t *tap) Join(ctx context.Context, w pawl.WorkerInfo, until time.Time) (int64, error) {
	if t.isCut() {
		return 0, errGone
	}
	id, err := t.base.Join(ctx, w, until)
	t.mu.Lock()
	t.id = id
	t.mu.Unlock()
	return id, err
}

func (t *tap) Beat(ctx context.Context, worker int64, now, until time.Time) error {
	if t.isCut() {
		return pawl.ErrFenced
	}
	return t.base.Beat(ctx, worker, now, until)
}

func (t *tap) Leave(ctx context.Context, worker int64, now time.Time) error {
	if t.isCut() {
		return errGone
	}
	return t.base.Leave(ctx, worker, now)
}

func (t *tap) Watch(ctx context.Context, hint func()) error {
	if w, ok := t.base.(pawl.Watcher); ok && !t.isCut() {
		return w.Watch(ctx, hint)
	}
	<-ctx.Done()
	return nil
}

// bury lets the next Claim of another worker find that this one is dead, as it would when
// its lease has run out.
func (t *tap) bury() error {
	t.mu.Lock()
	id := t.id
	t.mu.Unlock()
	if id == 0 {
		return nil
	}
	now := time.Now()
	if err := t.base.Beat(context.Background(), id, now, now.Add(-time.Second)); err != nil && !errors.Is(err, pawl.ErrFenced) {
		return fmt.Errorf("declare a worker dead: %w", err)
	}
	return nil
}

// The rest is reading, which a dead worker can't do either.

func (t *tap) Mail(ctx context.Context, worker int64) ([]pawl.Mail, error) {
	if t.isCut() {
		return nil, errGone
	}
	return t.base.Mail(ctx, worker)
}

func (t *tap) Journal(ctx context.Context, run, after int64, limit int) ([]pawl.Entry, error) {
	if t.isCut() {
		return nil, errGone
	}
	return t.base.Journal(ctx, run, after, limit)
}

func (t *tap) Result(ctx context.Context, run int64) (pawl.Entry, error) {
	if t.isCut() {
		return pawl.Entry{}, errGone
	}
	return t.base.Result(ctx, run)
}

func (t *tap) Lookup(ctx context.Context, tenant, id string) (pawl.RunInfo, error) {
	if t.isCut() {
		return pawl.RunInfo{}, errGone
	}
	return t.base.Lookup(ctx, tenant, id)
}

func (t *tap) List(ctx context.Context, f pawl.Filter) ([]pawl.RunInfo, error) {
	if t.isCut() {
		return nil, errGone
	}
	return t.base.List(ctx, f)
}

func (t *tap) Chunks(ctx context.Context, run int64, stream string, from int64, limit int) ([]pawl.Chunk, error) {
	if t.isCut() {
		return nil, errGone
	}
	return t.base.Chunks(ctx, run, stream, from, limit)
}

func (t *tap) Streams(ctx context.Context, run int64) ([]pawl.StreamInfo, error) {
	if t.isCut() {
		return nil, errGone
	}
	return t.base.Streams(ctx, run)
}

func (t *tap) FindHook(ctx context.Context, token string) (pawl.HookInfo, error) {
	if t.isCut() {
		return pawl.HookInfo{}, errGone
	}
	return t.base.FindHook(ctx, token)
}

func (t *tap) Hooks(ctx context.Context, run int64) ([]pawl.HookInfo, error) {
	if t.isCut() {
		return nil, errGone
	}
	return t.base.Hooks(ctx, run)
}

func (t *tap) Holders(ctx context.Context, run int64, now time.Time) (pawl.Holders, error) {
	if t.isCut() {
		return pawl.Holders{}, errGone
	}
	return t.base.Holders(ctx, run, now)
}

// Audit asks the store once an hour: in virtual time the engine's thirty seconds are a
// blink, and a year has a million of them.
func (t *tap) Audit(ctx context.Context, now time.Time) ([]pawl.Finding, error) {
	t.ledger.mu.Lock()
	skip := now.Sub(t.audited) < time.Hour
	if !skip {
		t.audited = now
	}
	t.ledger.mu.Unlock()
	if skip || t.isCut() {
		return nil, nil
	}
	found, err := t.base.Audit(ctx, now)
	t.ledger.mu.Lock()
	for _, f := range found {
		t.problems = append(t.problems, fmt.Sprintf("nothing would ever have woken run %s, which is %s: %s", f.RunID, f.State, f.What))
	}
	t.ledger.mu.Unlock()
	return found, err
}

func (t *tap) Purge(ctx context.Context, now time.Time, limit int) (int, error) {
	t.ledger.mu.Lock()
	skip := !now.Equal(t.audited) && now.Sub(t.audited) > 0 && now.Sub(t.audited) < time.Hour
	t.ledger.mu.Unlock()
	if skip || t.isCut() {
		return 0, nil
	}
	return t.base.Purge(ctx, now, limit)
}

func (t *tap) Stats(ctx context.Context, now time.Time) (pawl.Stats, error) {
	if t.isCut() {
		return pawl.Stats{}, errGone
	}
	return t.base.Stats(ctx, now)
}

// Close is the harness's to call.
func (t *tap) Close() error { return nil }

// describe says what a batch is about, for people.
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
		if n := len(ch.Waits); n > 0 {
			did = append(did, fmt.Sprintf("wait for %q", ch.Waits[0].Event))
		}
		if ch.To != nil {
			did = append(did, "run becomes "+ch.To.State.String())
		}
		parts = append(parts, fmt.Sprintf("run %s: %s", t.id2(ch.Run), strings.Join(did, ", ")))
	}
	for _, s := range b.Sends {
		parts = append(parts, "message "+s.Name+s.Publish)
	}
	for _, o := range b.Orders {
		parts = append(parts, fmt.Sprintf("%s run %s", o.Verb, o.RunID))
	}
	return strings.Join(parts, "; ")
}

func (t *tap) id2(key int64) string {
	t.ledger.mu.Lock()
	defer t.ledger.mu.Unlock()
	return t.idOf(key)
}

// entryName is kind and key of an entry.
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
