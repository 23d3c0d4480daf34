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

// ledger is what a test knows of everything that was committed to its store, by whatever
// worker: it sees each commit at the moment at which it has been applied.
type ledger struct {
	base pawl.Store

	mu       sync.Mutex
	news     chan struct{} // closed at the next commit
	runs     []runRef      // all that were started, in the order of their start
	recorded map[string]bool
	bodies   []call
	problems []string
	audited  time.Time
}

type runRef struct {
	key        int64
	tenant, id string
	workflow   string
}

// call is one run of a step's body.
type call struct {
	pawl.Info
	worker *tap
}

func newLedger(base pawl.Store) *ledger {
	return &ledger{base: base, news: make(chan struct{}), recorded: map[string]bool{}}
}

// applied takes note of a batch that is in the store.
func (l *ledger) applied(b *pawl.Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range b.Starts {
		l.started(s)
	}
	for _, ch := range b.Changes {
		if ch.Err != nil {
			continue
		}
		for _, s := range ch.Children {
			l.started(s)
		}
		if ch.To != nil && ch.To.Next != nil && len(ch.Mail) == 0 {
			l.started(ch.To.Next)
		}
		for i := range ch.Entries {
			if e := &ch.Entries[i]; e.Kind == pawl.KindStep {
				key := fmt.Sprintf("%d %s", ch.Run, e.Key)
				if l.recorded[key] {
					l.problems = append(l.problems, fmt.Sprintf("step %q of run %s was recorded twice", e.Key, l.idOf(ch.Run)))
				}
				l.recorded[key] = true
			}
		}
	}
	for _, o := range b.Orders {
		if o.Verb == pawl.VerbRetry && o.Err == nil { // what failed may run and be recorded again
			for key := range l.recorded {
				if strings.HasPrefix(key, fmt.Sprintf("%d ", o.Info.Key)) {
					delete(l.recorded, key)
				}
			}
		}
	}
	l.tell()
}

func (l *ledger) started(s *pawl.Start) {
	if s.Err == nil && !s.Existed && s.Info.ID != "" {
		l.runs = append(l.runs, runRef{s.Info.Key, s.Info.Tenant, s.Info.ID, s.Info.Workflow})
	}
}

func (l *ledger) idOf(key int64) string {
	for _, r := range l.runs {
		if r.key == key {
			return r.id
		}
	}
	return fmt.Sprintf("#%d", key)
}

// tell wakes all who wait for news. Caller holds mu.
func (l *ledger) tell() {
	close(l.news)
	l.news = make(chan struct{})
}

// begins takes note that a worker begins the body of a step.
func (l *ledger) begins(t *tap, info pawl.Info) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.runs {
		if r.id == info.RunID && l.recorded[fmt.Sprintf("%d %s", r.key, info.Step)] {
			l.problems = append(l.problems, fmt.Sprintf("the body of step %q of run %s ran again after its result was recorded", info.Step, info.RunID))
		}
	}
	l.bodies = append(l.bodies, call{info, t})
}

// await returns nil when cond holds. cond is asked again after every commit.
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

// all returns what the store says of all runs that were started.
func (l *ledger) all() ([]pawl.RunInfo, error) {
	l.mu.Lock()
	refs := l.runs
	l.mu.Unlock()
	var out []pawl.RunInfo
	for _, r := range refs {
		info, err := l.base.Lookup(context.Background(), r.tenant, r.id)
		switch {
		case errors.Is(err, pawl.ErrNotFound): // deleted, or its retention has ended
			continue
		case err != nil:
			return nil, err
		}
		out = append(out, info)
	}
	return out, nil
}

// find returns a run by its id, in whatever tenant it is.
func (l *ledger) find(id string) (pawl.RunInfo, error) {
	l.mu.Lock()
	tenant := ""
	for _, r := range l.runs {
		if r.id == id {
			tenant = r.tenant
		}
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
