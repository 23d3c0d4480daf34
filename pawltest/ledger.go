package pawltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/pawlrun/pawl"
)

// ledger is what a test knows of everything that happened on its store, by whatever worker:
// it is told of each commit when it has been applied, and of each body before it begins.
type ledger struct {
	base pawl.Store

	mu       sync.Mutex
	news     chan struct{} // closed at the next commit
	moves    int           // grows when a run was started or may have changed its state
	runs     []runRef      // all that were started, in order
	recorded map[stepRef]bool
	again    map[runStep]int // steps that an order under way lets run again: it may be in the store before its commit has returned
	bodies   []pawl.Info     // of every run of a body, in order
	problems []string        // promises that were broken
}

type runRef struct {
	key        int64
	tenant, id string
}

type stepRef struct {
	run int64
	key string
}

type runStep struct{ tenant, id, key string }

func newLedger(base pawl.Store) *ledger {
	return &ledger{base: base, news: make(chan struct{}), recorded: map[stepRef]bool{}, again: map[runStep]int{}}
}

// commits takes note of a batch that is about to be committed; done, that it was, or was not.
func (l *ledger) commits(b *pawl.Batch) (done func()) {
	count := func(by int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, o := range retries(b) {
			for _, key := range o.Keys {
				l.again[runStep{o.Tenant, o.RunID, key}] += by
			}
		}
	}
	count(1)
	return func() { count(-1) }
}

// retries are the orders of a batch that let runs go on, with those for their children.
func retries(b *pawl.Batch) (all []*pawl.Order) {
	for _, o := range b.Orders {
		if o.Verb == pawl.VerbRetry && o.Err == nil {
			all = append(append(all, o), o.Also...)
		}
	}
	return all
}

// applied takes note of a batch that is in the store.
func (l *ledger) applied(b *pawl.Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range b.Starts {
		l.started(s)
	}
	for _, ch := range b.Changes {
		if ch.Err != nil { // refused: it was another's run by now
			continue
		}
		for _, s := range ch.Children {
			l.started(s)
		}
		l.moves += len(ch.Children)
		if ch.To != nil {
			l.moves++
			if ch.To.Next != nil {
				l.started(ch.To.Next)
			}
		}
		for i := range ch.Entries {
			e := &ch.Entries[i]
			if e.Kind != pawl.KindStep {
				continue
			}
			ref := stepRef{ch.Run, e.Key}
			if l.recorded[ref] {
				l.problems = append(l.problems, fmt.Sprintf("step %q of run %s was recorded twice", e.Key, l.name(ch.Run)))
			}
			l.recorded[ref] = true
		}
	}
	l.moves += len(b.Orders) + len(b.Starts)
	for _, o := range retries(b) { // what failed is asked again
		for _, key := range o.Keys {
			delete(l.recorded, stepRef{o.Info.Key, key})
		}
	}
	l.tell()
}

func (l *ledger) moved() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.moves
}

func (l *ledger) started(s *pawl.Start) {
	if s.Err == nil && !s.Existed {
		l.runs = append(l.runs, runRef{s.Info.Key, s.Info.Tenant, s.Info.ID})
	}
}

// tell wakes all who wait for news. Caller holds mu.
func (l *ledger) tell() {
	close(l.news)
	l.news = make(chan struct{})
}

func (l *ledger) changed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell()
}

// begins takes note that the body of a step is about to run.
func (l *ledger) begins(info pawl.Info) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.runs, func(r runRef) bool { return r.id == info.RunID })
	if i >= 0 && l.recorded[stepRef{l.runs[i].key, info.Step}] && l.again[runStep{l.runs[i].tenant, info.RunID, info.Step}] == 0 {
		l.problems = append(l.problems, fmt.Sprintf("the body of step %q of run %s ran again after its result was recorded", info.Step, info.RunID))
	}
	l.bodies = append(l.bodies, info)
	l.tell()
}

func (l *ledger) problem(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if text := fmt.Sprintf(format, args...); !slices.Contains(l.problems, text) {
		l.problems = append(l.problems, text)
	}
}

func (l *ledger) idOf(key int64) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.name(key)
}

func (l *ledger) name(key int64) string {
	for _, r := range l.runs {
		if r.key == key {
			return r.id
		}
	}
	return fmt.Sprintf("#%d", key)
}

// await returns nil when cond holds. cond is asked again whenever something has happened.
func (l *ledger) await(ctx context.Context, cond func() (bool, error)) error {
	for {
		l.mu.Lock()
		news := l.news
		l.mu.Unlock()
		if ok, err := cond(); ok || err != nil {
			return err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// all returns what the store says of all runs that were started and are still there.
func (l *ledger) all() ([]pawl.RunInfo, error) {
	l.mu.Lock()
	refs := l.runs
	l.mu.Unlock()
	var out []pawl.RunInfo
	for _, r := range refs {
		info, err := l.base.Lookup(context.Background(), r.tenant, r.id)
		if errors.Is(err, pawl.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("run %s: %w", r.id, err)
		}
		out = append(out, info)
	}
	return out, nil
}

// find returns a run by its id, in whatever tenant's space it is.
func (l *ledger) find(id string) (pawl.RunInfo, error) {
	l.mu.Lock()
	tenant := ""
	if i := slices.IndexFunc(l.runs, func(r runRef) bool { return r.id == id }); i >= 0 {
		tenant = l.runs[i].tenant
	}
	l.mu.Unlock()
	info, err := l.base.Lookup(context.Background(), tenant, id)
	if err != nil {
		return info, fmt.Errorf("run %s: %w", id, err)
	}
	return info, nil
}

// journal reads all entries of a run.
func (l *ledger) journal(key int64) ([]pawl.Entry, error) {
	var out []pawl.Entry
	after := int64(-1)
	for {
		page, err := l.base.Journal(context.Background(), key, after, 1000)
		if err != nil || len(page) == 0 {
			return out, err
		}
		out = append(out, page...)
		after = page[len(page)-1].Seq
	}
}
