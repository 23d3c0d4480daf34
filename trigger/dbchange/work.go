package dbchange

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// work is the watching of one source, in one goroutine; another one renews its claim.
type work struct {
	house    *house
	e        *pawl.Engine
	db       database
	src      Source
	revision int64
	removed  bool
	holder   string

	mu           sync.Mutex // of what the other goroutine touches too
	told         claim
	claimVersion int64
	until        time.Time

	loaded  bool
	st      state
	version int64
	seen    map[string]position // rows that have started and may be shown again, by what their run's id ends in
	pages   []seen
	form    *form
	behind  bool      // the last look left rows
	full    time.Time // the last look at all above Low
	born    string    // of a table: what its outbox's numbers belong to
}

// lookFor bounds one look, and with it how long a database is asked.
const lookFor = 2 * time.Minute

// run watches until ctx ends, the claim is lost, or the source is not to be watched.
func (w *work) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	var beats sync.WaitGroup
	beats.Go(func() { w.beat(ctx, cancel) })
	defer func() {
		cancel()
		beats.Wait()
		ctx, done := context.WithTimeout(context.WithoutCancel(ctx), w.house.lease)
		defer done()
		err = errors.Join(err, w.release(ctx))
	}()
	for ctx.Err() == nil {
		if goOn, err := w.fresh(ctx); err != nil || !goOn {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		more, err := w.turn(ctx)
		if ctx.Err() != nil {
			return nil
		}
		wait := w.tell(ctx, err)
		if err == nil && more {
			continue
		}
		var news <-chan struct{}
		if w.src.Table != "" && w.st.Reader != "" && w.db.dialect == Postgres && err == nil {
			news = w.house.ears.listen(w.src.Connection, w.db, w.st.Reader)
		}
		if !w.wait(ctx, wait, news) {
			return nil
		}
	}
	return nil
}

// wait waits, and looks meanwhile whether the source has changed. false: it is over.
func (w *work) wait(ctx context.Context, d time.Duration, news <-chan struct{}) bool {
	for end := time.Now().Add(d); ; {
		timer := time.NewTimer(min(max(time.Until(end), 0), 2*time.Second))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-news:
			timer.Stop()
			return true
		case <-timer.C:
		}
		if !time.Now().Before(end) {
			return true
		}
		k, _, err := Sources{w.e}.read(ctx, w.src.Tenant, w.src.ID)
		if err == nil && k.Revision != w.revision {
			return true
		}
	}
}

// fresh takes up what has changed of the source. false: it is not to be watched here any more.
func (w *work) fresh(ctx context.Context) (bool, error) {
	k, version, err := Sources{w.e}.read(ctx, w.src.Tenant, w.src.ID)
	if err != nil {
		return false, err
	}
	switch {
	case version == 0:
		return false, nil
	case k.Removed:
		return false, w.end(ctx, version)
	case k.Revision == w.revision && !w.removed:
		return true, nil
	case k.Paused || k.Connection != w.src.Connection || k.Workflow != w.src.Workflow: // another look finds who can
		return false, nil
	}
	w.src, w.revision, w.loaded = k.Source, k.Revision, false
	return true, nil
}

// turn looks once, and starts what is there.
func (w *work) turn(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	defer func() {
		if err != nil {
			w.loaded = false // what is in memory may not be what was written
		}
	}()
	if !w.loaded {
		if err := w.load(ctx); err != nil {
			return false, err
		}
		w.loaded, w.behind = true, false
	}
	if len(w.st.Gone) > 0 {
		if err := w.clear(ctx); err != nil {
			w.house.log.Warn("database triggers: the former outbox of a source is not cleared; it grows until it is", "source", w.src.ID, "tenant", w.src.Tenant, "error", err)
		}
	}
	look := w.query
	if w.src.Table != "" {
		look = w.outbox
	}
	err = guarded(func() (err error) { more, err = look(ctx); return err })
	return more, err
}

// tell notes how a look has gone, and says how long to wait.
func (w *work) tell(ctx context.Context, err error) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.told.Polled, w.told.Error, w.told.Failures = time.Now().UTC(), "", 0
		return w.src.interval()
	}
	if errors.Is(err, errMoved) {
		return 0
	}
	w.told.Error = err.Error()
	w.told.Failures++
	pause := min(100*time.Millisecond<<min(w.told.Failures, 10), time.Minute)
	w.house.log.Error("database triggers: a look has failed", "source", w.src.ID, "tenant", w.src.Tenant, "failures", w.told.Failures, "again", pause, "error", err)
	return pause
}

// end takes away what there is of a source that was removed.
func (w *work) end(ctx context.Context, version int64) error {
	if err := w.load(ctx); err != nil {
		return err
	}
	if w.st.Reader != "" {
		w.st.Gone = append(w.st.Gone, w.reader())
	}
	if err := w.clear(ctx); err != nil {
		return fmt.Errorf("the source was removed, but its place in the outbox is not: %w", err)
	}
	if len(w.st.Gone) > 0 { // another server knows that connection
		return nil
	}
	if err := w.forget(ctx); err != nil {
		return err
	}
	_, err := w.e.Write(ctx,
		pawl.Put{Space: sourceSpace + w.src.Tenant, Key: w.src.ID, If: version},
		pawl.Put{Space: indexSpace, Key: indexKey(w.src.Tenant, w.src.ID), If: pawl.AnyVersion},
		pawl.Put{Space: stateSpace + w.src.Tenant, Key: w.src.ID, If: pawl.AnyVersion},
		pawl.Put{Space: claimSpace + w.src.Tenant, Key: w.src.ID, If: pawl.AnyVersion})
	var faster *pawl.RecordConflictError
	if errors.As(err, &faster) { // somebody has put it there again
		return nil
	}
	w.mu.Lock()
	w.claimVersion = 0
	w.mu.Unlock()
	return err
}
