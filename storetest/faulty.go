package storetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// Fault is what happens to one call of a store. The zero value: nothing, the call goes
// through. Delay comes first, then Err, then Lose.
type Fault struct {
	// Delay holds the call back before it reaches the store, or until its context ends.
	Delay time.Duration
	// Err, if not nil, is returned, and the store is not asked.
	Err error
	// Lose lets the call through and then answers [pawl.ErrUnknownOutcome] in place of a
	// nil error, as a connection does that breaks during a commit.
	Lose bool
}

// Faulty is a store that fails when it is told to. hook is called before each call, with
// the name of the method and how many calls of that method there have been, from 1 on; it
// may be called by several goroutines at once. Close goes through without being asked
// about, so that a test can always give back what it opened.
//
// What it returns is a [pawl.Watcher] if and only if store is one; Watch is a method as
// the others are.
func Faulty(store pawl.Store, hook func(method string, n int) Fault) pawl.Store {
	f := &faulty{Store: store, hook: hook, calls: map[string]int{}}
	if w, ok := store.(pawl.Watcher); ok {
		return &faultyWatcher{f, w}
	}
	return f
}

type faulty struct {
	pawl.Store // Close
	hook       func(method string, n int) Fault

	mu    sync.Mutex
	calls map[string]int
}

// call does what the hook says, around the call itself.
func (f *faulty) call(ctx context.Context, method string, do func() error) error {
	f.mu.Lock()
	f.calls[method]++
	n := f.calls[method]
	f.mu.Unlock()
	fault := f.hook(method, n)
	if fault.Delay > 0 {
		timer := time.NewTimer(fault.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fault.Err != nil {
		return fault.Err
	}
	err := do()
	if err == nil && fault.Lose {
		err = fmt.Errorf("%w: the answer to %s %d was lost", pawl.ErrUnknownOutcome, method, n)
	}
	return err
}

func (f *faulty) Join(ctx context.Context, w pawl.WorkerInfo, until time.Time) (id int64, err error) {
	err = f.call(ctx, "Join", func() error { id, err = f.Store.Join(ctx, w, until); return err })
	return id, err
}

func (f *faulty) Beat(ctx context.Context, worker int64, now, until time.Time) error {
	return f.call(ctx, "Beat", func() error { return f.Store.Beat(ctx, worker, now, until) })
}

func (f *faulty) Leave(ctx context.Context, worker int64, now time.Time) error {
	return f.call(ctx, "Leave", func() error { return f.Store.Leave(ctx, worker, now) })
}

func (f *faulty) Commit(ctx context.Context, b *pawl.Batch) error {
	return f.call(ctx, "Commit", func() error { return f.Store.Commit(ctx, b) })
}

func (f *faulty) Claim(ctx context.Context, r pawl.ClaimRequest) (out pawl.Claims, err error) {
	err = f.call(ctx, "Claim", func() error { out, err = f.Store.Claim(ctx, r); return err })
	if err != nil {
		out = pawl.Claims{} // an answer that was lost
	}
	return out, err
}

func (f *faulty) Mail(ctx context.Context, worker int64) (out []pawl.Mail, err error) {
	err = f.call(ctx, "Mail", func() error { out, err = f.Store.Mail(ctx, worker); return err })
	return out, err
}

func (f *faulty) Index(ctx context.Context, run, after int64, limit, inline int) (out []pawl.Entry, err error) {
	err = f.call(ctx, "Index", func() error { out, err = f.Store.Index(ctx, run, after, limit, inline); return err })
	return out, err
}

func (f *faulty) Journal(ctx context.Context, run, after int64, limit int) (out []pawl.Entry, err error) {
	err = f.call(ctx, "Journal", func() error { out, err = f.Store.Journal(ctx, run, after, limit); return err })
	return out, err
}

func (f *faulty) Result(ctx context.Context, run int64) (out pawl.Entry, err error) {
	err = f.call(ctx, "Result", func() error { out, err = f.Store.Result(ctx, run); return err })
	return out, err
}

func (f *faulty) Lookup(ctx context.Context, tenant, id string) (out pawl.RunInfo, err error) {
	err = f.call(ctx, "Lookup", func() error { out, err = f.Store.Lookup(ctx, tenant, id); return err })
	return out, err
}

func (f *faulty) List(ctx context.Context, q pawl.Filter) (out []pawl.RunInfo, err error) {
	err = f.call(ctx, "List", func() error { out, err = f.Store.List(ctx, q); return err })
	return out, err
}

func (f *faulty) Chunks(ctx context.Context, run int64, stream string, from int64, limit int) (out []pawl.Chunk, err error) {
	err = f.call(ctx, "Chunks", func() error { out, err = f.Store.Chunks(ctx, run, stream, from, limit); return err })
	return out, err
}

func (f *faulty) Streams(ctx context.Context, run int64) (out []pawl.StreamInfo, err error) {
	err = f.call(ctx, "Streams", func() error { out, err = f.Store.Streams(ctx, run); return err })
	return out, err
}

func (f *faulty) Budgets(ctx context.Context, q pawl.BudgetFilter, now time.Time) (out []pawl.Budget, err error) {
	err = f.call(ctx, "Budgets", func() error { out, err = f.Store.Budgets(ctx, q, now); return err })
	return out, err
}

func (f *faulty) Charges(ctx context.Context, q pawl.ChargeFilter) (out []pawl.Charge, err error) {
	err = f.call(ctx, "Charges", func() error { out, err = f.Store.Charges(ctx, q); return err })
	return out, err
}

func (f *faulty) Costs(ctx context.Context, q pawl.CostFilter) (out []pawl.Cost, err error) {
	err = f.call(ctx, "Costs", func() error { out, err = f.Store.Costs(ctx, q); return err })
	return out, err
}

func (f *faulty) Records(ctx context.Context, space, prefix, after string, limit int, now time.Time) (out []pawl.Record, err error) {
	err = f.call(ctx, "Records", func() error { out, err = f.Store.Records(ctx, space, prefix, after, limit, now); return err })
	return out, err
}

func (f *faulty) News(ctx context.Context, now time.Time) (out pawl.NewsReader, err error) {
	err = f.call(ctx, "News", func() error { out, err = f.Store.News(ctx, now); return err })
	return out, err
}

func (f *faulty) FindHook(ctx context.Context, tenant, token string, now time.Time) (out pawl.HookInfo, err error) {
	err = f.call(ctx, "FindHook", func() error { out, err = f.Store.FindHook(ctx, tenant, token, now); return err })
	return out, err
}

func (f *faulty) ListHooks(ctx context.Context, q pawl.HookFilter) (out []pawl.HookInfo, err error) {
	err = f.call(ctx, "ListHooks", func() error { out, err = f.Store.ListHooks(ctx, q); return err })
	return out, err
}

func (f *faulty) Holders(ctx context.Context, run int64, now time.Time) (out pawl.Holders, err error) {
	err = f.call(ctx, "Holders", func() error { out, err = f.Store.Holders(ctx, run, now); return err })
	return out, err
}

func (f *faulty) Audit(ctx context.Context, now time.Time) (out []pawl.Finding, err error) {
	err = f.call(ctx, "Audit", func() error { out, err = f.Store.Audit(ctx, now); return err })
	return out, err
}

func (f *faulty) Purge(ctx context.Context, now time.Time, limit int) (n int, err error) {
	err = f.call(ctx, "Purge", func() error { n, err = f.Store.Purge(ctx, now, limit); return err })
	return n, err
}

func (f *faulty) Queued(ctx context.Context, tenant string, most int) (out int, err error) {
	err = f.call(ctx, "Queued", func() error { out, err = f.Store.Queued(ctx, tenant, most); return err })
	return out, err
}

func (f *faulty) Unread(ctx context.Context, run int64, most int) (out int, err error) {
	err = f.call(ctx, "Unread", func() error { out, err = f.Store.Unread(ctx, run, most); return err })
	return out, err
}

func (f *faulty) Tally(ctx context.Context, of pawl.TallyFilter) (out pawl.Tally, err error) {
	err = f.call(ctx, "Tally", func() error { out, err = f.Store.Tally(ctx, of); return err })
	return out, err
}

func (f *faulty) Stats(ctx context.Context, now time.Time) (out pawl.Stats, err error) {
	err = f.call(ctx, "Stats", func() error { out, err = f.Store.Stats(ctx, now); return err })
	return out, err
}

type faultyWatcher struct {
	*faulty
	watcher pawl.Watcher
}

func (f *faultyWatcher) Watch(ctx context.Context, hint func()) error {
	return f.call(ctx, "Watch", func() error { return f.watcher.Watch(ctx, hint) })
}
