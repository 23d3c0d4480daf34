package trigger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pawlrun/pawl"
)

// Runner fires what is due: slots of schedules, and starts that an event has asked for and that
// its publisher did not get to. Any number may run on one store, in as many processes: none leads,
// and each slot starts one run. A Runner starts workflows that its engine has registered, and leaves
// others to those that know them. If for a minute none does, the log and the ledger say so, or what
// [Publish] tells of the event; they are started as soon as one does.
type Runner struct {
	Engine *pawl.Engine
	// Poll is how often the store is asked whether something has become due sooner than was known.
	// 0 means 2 s. A slot that is known is fired at its time.
	Poll time.Duration
	// Logger is told of trouble. nil means slog.Default().
	Logger *slog.Logger
}

// atOnce is how many rows a Runner works on at the same time.
const atOnce = 8

// Run works until ctx ends, and returns nil when all it has begun is done. It does not work the
// runs that it starts: that is the engine's Run.
func (r *Runner) Run(ctx context.Context) error {
	if r.Engine == nil {
		return fmt.Errorf("%w: a Runner needs an Engine", pawl.ErrInput)
	}
	poll, log := cmp.Or(r.Poll, 2*time.Second), r.Logger
	if log == nil {
		log = slog.Default()
	}
	w := newWatch(r.Engine)
	ctx, cancel := context.WithCancel(ctx)
	defer w.work.Wait()
	defer cancel()
	pause := time.Duration(0)
	for ctx.Err() == nil {
		did, next, err := r.look(ctx, log, w)
		wait := poll
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, pawl.ErrClosed):
			return err
		case err != nil:
			pause = min(max(2*pause, 100*time.Millisecond), 5*time.Second)
			wait = pause
			log.Error("trigger: look for what is due", "error", err)
		default:
			pause = 0
			if did {
				wait = 0 // what is due next has changed
			} else if !next.IsZero() {
				wait = min(max(time.Until(next), 10*time.Millisecond), poll)
			}
			wait = w.soonest(wait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		case <-w.news:
			timer.Stop()
		}
	}
	return nil
}

// look works on all that is due, and tells whether it could, and when the next will be.
func (r *Runner) look(ctx context.Context, log *slog.Logger, w *watch) (did bool, next time.Time, err error) {
	var work sync.WaitGroup
	var wrote atomic.Bool
	defer func() { did = wrote.Load() }()
	defer work.Wait()
	places := make(chan struct{}, atOnce)
	for after := ""; ; {
		page, err := r.Engine.Records(ctx, dueSpace, "", after, 100)
		if err != nil {
			return false, next, err
		}
		due := dueTime(time.Now())
		end := len(page) < 100
		if i := slices.IndexFunc(page, func(e pawl.Record) bool { return e.Key[:strings.IndexByte(e.Key, '.')] > due }); i >= 0 {
			at, _ := strconv.ParseInt(page[i].Key[:strings.IndexByte(page[i].Key, '.')], 10, 64)
			next, page, end = time.UnixMicro(at), page[:i], true
		}
		if len(page) > 0 {
			after = page[len(page)-1].Key
		}
		// In another order on each node, so that they do not all want the same.
		rand.Shuffle(len(page), func(i, j int) { page[i], page[j] = page[j], page[i] })
		for _, record := range page {
			var e dueEntry
			if err := json.Unmarshal(record.Data, &e); err != nil {
				log.Error("trigger: an entry in the index of what is due can't be read", "key", record.Key, "error", err)
				continue
			}
			if w.resting(e) {
				continue
			}
			places <- struct{}{}
			work.Go(func() {
				defer func() { <-places }()
				moved, err := r.one(ctx, log, e, record.Key, w)
				if moved {
					wrote.Store(true)
				}
				if err != nil && ctx.Err() == nil {
					log.Error("trigger: fire", "schedule", e.ID, "event", e.Event, "run", e.Run, "tenant", e.Tenant, "error", err)
				}
			})
		}
		if end {
			return false, next, nil
		}
	}
}

// one moves a row on until it rests, and logs what could not be started or was missed. moved: something was written.
func (r *Runner) one(ctx context.Context, log *slog.Logger, e dueEntry, key string, w *watch) (moved bool, err error) {
	if e.Gate != "" {
		return turnGate(ctx, r.Engine, e.Tenant, e.Gate)
	}
	if e.Run != "" {
		err = turnEnd(ctx, r.Engine, e, key)
		return err == nil, err // after an error it stays due
	}
	if e.Event != "" {
		return turnEvent(ctx, r.Engine, e.Tenant, e.Event)
	}
	for ctx.Err() == nil {
		t, err := Schedules{r.Engine}.turn(ctx, e.Tenant, e.ID)
		moved = moved || t.did
		if n := len(t.missed); n > 0 {
			log.Warn("trigger: slots of a schedule were missed and are not caught up", "schedule", e.ID, "tenant", e.Tenant, "first", clock(t.missed[0].Slot), "lines", n, "reason", t.missed[n-1].Reason)
		}
		for _, o := range t.bad {
			log.Warn("trigger: a slot's run could not be started", "schedule", e.ID, "tenant", e.Tenant, "slot", o.Slot, "outcome", o.Outcome, "attempts", o.Attempts, "reason", o.Reason)
		}
		if w.rest(ctx, e, t.waits, t.until); err != nil || !t.more {
			return moved, err
		}
	}
	return moved, nil
}

// errNobody says that nobody has come for a minute who knows the workflow.
var errNobody = errors.New("it is not started")

// turned is what came of a turn.
type turned struct {
	did    bool         // something was written
	more   bool         // it is worth another turn at once
	waits  []string     // nothing can be done before one of these runs has ended
	until  time.Time    // or before that, if it is not zero
	missed []Occurrence // slots that nobody fired in time, and nobody will
	bad    []Occurrence // what could not be started, for the log
}

// turn moves a row on by what is due: it decides, which is one write, then starts, then writes
// what came of it.
func (s Schedules) turn(ctx context.Context, tenant, id string) (turned, error) {
	r, version, err := s.read(ctx, tenant, id)
	if err != nil || version == 0 {
		return turned{}, err
	}
	now := time.Now().UTC()
	if r.Due.IsZero() || r.Due.After(now) { // somebody was here
		return turned{}, nil
	}
	known := slices.Contains(s.Engine.Workflows(), r.Workflow)
	if !known && now.Sub(r.Due) < late { // else it is this Runner that says so, once a minute
		return turned{}, nil
	}
	before := len(r.Live)
	if err := s.refresh(ctx, r); err != nil {
		return turned{}, err
	}
	if !known && before > 0 && len(r.Live) == 0 { // nothing is in its way any more: those who know it have a minute
		_, err := s.write(ctx, r, version, nil, now)
		return turned{did: err == nil}, ignoreConflict(err)
	}
	live := slices.Clone(r.Live)
	lines, more, err := r.come(now)
	if err != nil {
		return turned{}, err
	}
	var missed []Occurrence
	for _, line := range lines {
		if line.Outcome == Skipped && strings.HasPrefix(line.Reason, missedSlot) {
			missed = append(missed, line)
		}
	}
	claims, claimed, cancel := r.claim(now)
	lines = append(lines, claims...)
	at, blocked := r.wake(now)
	if blocked && len(r.Live) > 0 && len(lines) == 0 && len(claimed) == 0 && !cancel && !more && (at.IsZero() || at.After(now)) {
		return turned{waits: r.Live, until: at}, nil // it stays due, and nothing is written
	}
	if version, err = s.write(ctx, r, version, lines, now); err != nil {
		return turned{}, ignoreConflict(err)
	}
	done := turned{did: true, missed: missed}
	if cancel {
		for _, run := range live {
			_, err := s.Engine.Cancel(ctx, pawl.Ref{Tenant: tenant, ID: run}, "a later slot of schedule "+id+" has come")
			if err != nil && !errors.Is(err, pawl.ErrEnded) && !errors.Is(err, pawl.ErrNotFound) {
				return done, err
			}
		}
	}
	if len(claimed) == 0 {
		done.more = more
		return done, nil
	}
	var results []Occurrence
	for _, q := range claimed {
		o, err := s.start(ctx, &r.Schedule, q)
		if err != nil {
			return done, err // the claim runs out, and another one goes on
		}
		if results = append(results, o); o.Outcome == Failed || o.Outcome == Retrying {
			done.bad = append(done.bad, o)
		}
	}
	if err := s.finish(ctx, r, version, results); err != nil || known {
		done.more = true
		return done, err
	}
	done.bad = nil // the error says it
	return done, fmt.Errorf("%w: %s", errNobody, unknownWorkflow(r.Workflow))
}

// finish takes what was started out of the queue. Whoever wrote meanwhile left it there.
func (s Schedules) finish(ctx context.Context, r *row, version int64, results []Occurrence) error {
	for {
		var lines []Occurrence
		for _, o := range results {
			if r.result(o) {
				lines = append(lines, o)
			}
		}
		if len(lines) == 0 {
			return nil
		}
		_, err := s.write(ctx, r, version, lines, time.Now().UTC())
		var faster *pawl.RecordConflictError
		if !errors.As(err, &faster) {
			return err
		}
		if r, version, err = s.read(ctx, r.Tenant, r.ID); err != nil || version == 0 {
			return err
		}
	}
}

func ignoreConflict(err error) error {
	var faster *pawl.RecordConflictError
	if errors.As(err, &faster) {
		return nil
	}
	return err
}

// refresh drops the runs that have ended from Live, where anybody asks for them.
func (s Schedules) refresh(ctx context.Context, r *row) (err error) {
	if r.Overlap == Allow && !slices.ContainsFunc(r.Queue, func(q pending) bool { return q.Overlap != Allow }) {
		return nil
	}
	var live []string
	for _, id := range r.Live {
		for id != "" {
			info, gerr := s.Engine.Get(ctx, pawl.Ref{Tenant: r.Tenant, ID: id})
			switch {
			case errors.Is(gerr, pawl.ErrNotFound):
				id = ""
				continue
			case gerr != nil:
				return gerr
			case info.Next != "":
				id = info.Next // it goes on as another
				continue
			case !info.State.Terminal():
				live = append(live, id)
			}
			id = ""
		}
	}
	r.Live = live
	return nil
}

// start starts the run of an occurrence. An error means that it is not known what came of it, and
// that this engine can't tell.
func (s Schedules) start(ctx context.Context, sch *Schedule, q pending) (Occurrence, error) {
	if !slices.Contains(s.Engine.Workflows(), sch.Workflow) { // it stays due, for whoever knows it
		now := time.Now().UTC()
		if now.Sub(q.Since) > giveUp {
			return q.line(now, Failed, "given up after a day: %s", unknownWorkflow(sch.Workflow)), nil
		}
		return q.line(now, Retrying, "%s", unknownWorkflow(sch.Workflow)), nil
	}
	// The id must stay one and the same: a workflow's own policy could make another of it.
	opts := append(sch.options(q.Run, q.Slot), pawl.OnConflict(pawl.ReturnExisting))
	info, err := s.Engine.StartRun(ctx, sch.Workflow, sch.Input, opts...)
	now := time.Now().UTC()
	switch {
	case err == nil && info.ID != q.Run:
		return q.line(now, Skipped, "run %s holds the singleton key of workflow %s", info.ID, sch.Workflow), nil
	case err == nil && info.Existed && q.Attempts == 1:
		return q.line(now, Started, "its run was there already"), nil
	case err == nil:
		return q.line(now, Started, ""), nil
	case errors.Is(err, pawl.ErrClosed), ctx.Err() != nil:
		return Occurrence{}, err
	case errors.Is(err, pawl.ErrConflict):
		info, gerr := s.Engine.Get(ctx, pawl.Ref{Tenant: sch.Tenant, ID: q.Run})
		if gerr != nil {
			return Occurrence{}, gerr
		}
		if info.Attrs[ScheduleAttribute] == sch.ID { // the schedule was changed after its run was started
			return q.line(now, Started, "its run was there already, with what the schedule said then"), nil
		}
		return q.line(now, Failed, "%v; that run is none of this schedule", err), nil
	case errors.Is(err, pawl.ErrInput), errors.Is(err, pawl.ErrTooLarge), errors.Is(err, pawl.ErrEncoding):
		return q.line(now, Failed, "%v", err), nil
	case now.Sub(q.Since) > giveUp:
		return q.line(now, Failed, "given up after %d attempts in a day: %v", q.Attempts, err), nil
	}
	q.Retry = now.Add(min(time.Second<<min(q.Attempts-1, 10), time.Minute))
	return q.line(now, Retrying, "%v", err), nil
}
