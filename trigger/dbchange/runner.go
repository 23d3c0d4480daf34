package dbchange

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// Connection is a pool of connections to a watched database. Those who open it close it.
type Connection struct {
	DB      *sql.DB
	Dialect Dialect
	// Listen calls heard when it has begun, and for each notification of a channel of PostgreSQL, until ctx ends or it fails:
	// see package pglisten. nil: outboxes are looked at by their sources' Interval only.
	Listen func(ctx context.Context, channel string, heard func()) error
}

// Runner watches databases and starts runs. Any number may run on one store, in as many processes: none leads, and each source is
// watched by one of them at a time, for as long as that renews its lease. A Runner takes sources whose workflow
// its engine has registered and whose connection it knows, and leaves others to those that do.
type Runner struct {
	Engine *pawl.Engine
	// Connect finds a connection by its name. pawl.ErrNotFound: this program has none of that name. It is asked often, so it
	// is to keep its pools. On PostgreSQL the driver is that of pgx.
	Connect func(ctx context.Context, name string) (Connection, error)
	// Poll is how often the store is asked for sources that are new, or that nobody watches any more. 0 means 2 s.
	Poll time.Duration
	// Lease is for how long a source is left alone when its Runner has died; all Runners of a store should have the same.
	// 0 means 10 s; at least 100 ms.
	Lease time.Duration
	// Logger is told of trouble. nil means slog.Default().
	Logger *slog.Logger
}

// Run works until ctx ends, and returns nil when all it has begun is done. It does not work the runs that it starts: that
// is the engine's Run. No error of a watched database ends it, nor a panic of its driver: those are logged and told by [Sources.Status].
func (r *Runner) Run(ctx context.Context) error {
	if r.Engine == nil || r.Connect == nil {
		return fmt.Errorf("%w: a Runner needs an Engine and Connect", pawl.ErrInput)
	}
	log := r.Logger
	if log == nil {
		log = slog.Default()
	}
	h := &house{r: r, log: log, lease: max(cmp.Or(r.Lease, 10*time.Second), 100*time.Millisecond), holder: rand.Text(), at: map[entry]bool{}, ears: newEars(log)}
	ctx, cancel := context.WithCancel(ctx)
	defer h.ears.close()
	defer h.works.Wait()
	defer cancel()
	for pause := time.Duration(0); ctx.Err() == nil; {
		wait := cmp.Or(r.Poll, 2*time.Second)
		err := h.look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, pawl.ErrClosed):
			return err
		case err != nil:
			pause = min(max(2*pause, 100*time.Millisecond), 5*time.Second)
			wait = pause
			log.Error("database triggers: look for sources", "error", err)
		default:
			pause = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
	return nil
}

// house is what a Runner has under way.
type house struct {
	r      *Runner
	log    *slog.Logger
	lease  time.Duration
	holder string
	ears   *ears

	works sync.WaitGroup
	mu    sync.Mutex
	at    map[entry]bool
}

// look begins to watch the sources that nobody watches.
func (h *house) look(ctx context.Context) error {
	for after := ""; ; {
		page, err := h.r.Engine.Records(ctx, indexSpace, "", after, 1000)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, record := range page {
			after = record.Key
			var at entry
			if err := json.Unmarshal(record.Data, &at); err != nil {
				h.log.Error("database triggers: an entry of the index can't be read", "key", record.Key, "error", err)
				continue
			}
			h.mu.Lock()
			busy := h.at[at]
			h.at[at] = true
			h.mu.Unlock()
			if busy {
				continue
			}
			h.works.Go(func() {
				defer func() {
					h.mu.Lock()
					delete(h.at, at)
					h.mu.Unlock()
				}()
				if err := guarded(func() error { return h.watch(ctx, at) }); err != nil && ctx.Err() == nil {
					h.log.Error("database triggers: watch", "source", at.ID, "tenant", at.Tenant, "error", err)
				}
			})
		}
	}
}

// guarded makes an error of a panic: Connect and drivers are the program's, and their faults are to end no other source, nor the process.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}

// watch watches a source until somebody else does, or it is not to be watched any more.
func (h *house) watch(ctx context.Context, at entry) error {
	k, version, err := Sources{h.r.Engine}.read(ctx, at.Tenant, at.ID)
	if err != nil {
		return err
	}
	if version == 0 { // removed for good; who put it there again writes the entry again
		return nil
	}
	w := &work{house: h, e: h.r.Engine, src: k.Source, revision: k.Revision, removed: k.Removed, holder: h.holder}
	if !k.Removed && (k.Paused || !slices.Contains(h.r.Engine.Workflows(), k.Workflow)) {
		return nil
	}
	if c, _, err := readClaim(ctx, w.e, at.Tenant, at.ID); err != nil || c.Holder != "" && c.Until.After(time.Now()) {
		return err
	}
	if !k.Removed {
		c, err := h.r.Connect(ctx, k.Connection)
		if err != nil {
			if errors.Is(err, pawl.ErrNotFound) { // another server may know it
				return nil
			}
			return fmt.Errorf("connection %s: %w", k.Connection, err)
		}
		w.db = databaseOf(c)
	}
	mine, err := w.take(ctx)
	if err != nil || !mine {
		return err
	}
	return w.run(ctx)
}
