package pawl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"
)

// past is what a journal says about the calls that a replay will make.
type past struct {
	entries   map[string]*Entry
	slept     map[string]*Entry // sleeps that were interrupted: when they would have ended
	attempts  map[string]*Entry // the newest failed attempt of each step that has not ended, or else what it left before its first
	woken     map[string]bool   // waits that an operator ended
	perPath   map[string]int    // entries not yet asked for, by scope path
	cancelled *Failure
}

const (
	// pageLen is how many entries of a journal are asked for at once.
	pageLen = 2000
	// inline is how many bytes an entry of a long journal may hold to be in memory before
	// the replay asks for it.
	inline = 512
	// aheadLen is how many entries are read with one whose data is asked for: a replay asks
	// in about the order of the journal.
	aheadLen = 200
)

// load reads the journal: its first page whole, which for most runs is all of it. Of what
// comes after it only knows what there is; a replay reads that as it gets there, so that the
// memory that a run needs does not grow with what its steps have returned.
func (r *live) load() error {
	p := past{entries: map[string]*Entry{}, slept: map[string]*Entry{}, attempts: map[string]*Entry{}, woken: map[string]bool{}, perPath: map[string]int{}}
	ctx, run := context.Background(), r.info.Key
	page, err := r.e.store.Journal(ctx, run, -1, pageLen)
	if err == nil && len(page) == 0 {
		err = fmt.Errorf("%w: it is empty", errUnreadable)
	}
	for ; err == nil && len(page) > 0; page, err = r.e.store.Index(ctx, run, r.seq-1, pageLen, inline) {
		for _, e := range page { // a copy: what was replayed can be freed while its page can't
			if err := r.recall(&p, &e); err != nil {
				return err
			}
			r.seq = e.Seq + 1
		}
	}
	if err != nil {
		return err
	}
	r.past = p
	if len(p.entries)+len(p.attempts) > 0 {
		r.replaying.Store(true)
	}
	return nil
}

// whole reads the data of an entry, where it was left out, and of what comes next, up to
// limit entries.
func (r *live) whole(e *Entry, limit int) error {
	r.reading.Lock() // many branches may ask at once: each page is read once, and is in memory alone
	defer r.reading.Unlock()
	r.mu.Lock()
	known := e.Size == 0 // it came with what another branch asked for
	r.mu.Unlock()
	if known {
		return nil
	}
	page, err := r.e.store.Journal(context.Background(), r.info.Key, e.Seq-1, limit)
	if err != nil {
		return err
	}
	if len(page) == 0 || page[0].Seq != e.Seq {
		return fmt.Errorf("%w: entry %d is gone", errUnreadable, e.Seq)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Data, e.Size = page[0].Data, 0
	for i := range page[1:] {
		next := &page[1+i]
		if known := r.past.entries[next.Key]; known != nil && known.Seq == next.Seq {
			known.Data, known.Size = next.Data, 0
		}
	}
	return nil
}

// errUnreadable: reading the journal again would help nobody.
var errUnreadable = errors.New("the run's journal can't be read")

// recall sorts an entry of the journal into what a replay will look up. An error that is not
// errUnreadable is the store's.
func (r *live) recall(p *past, e *Entry) error {
	switch e.Kind {
	case KindOrder, KindChild, KindChildEnd, KindHookClosed: // are looked into
		if size := e.Size; size > 0 {
			if err := r.whole(e, 1); err != nil {
				return err
			}
			defer func() { e.Data, e.Size = nil, size }()
		}
	}
	switch e.Kind {
	case KindInput:
		r.input = e.Data
	case KindAttempt:
		p.attempts[e.Key] = e
	case KindDrift, KindNote:
	case KindOrder:
		switch e.Key {
		case "$cancel":
			p.cancelled = e.Failure()
		case "$wake":
			var o struct{ Keys []string }
			if err := e.readable(&o); err != nil {
				return err
			}
			for _, k := range o.Keys {
				p.woken[k] = true
			}
		case "$retry": // the run failed before this: what made it fail is asked again
			p.cancelled = nil
			if err := r.uninterrupt(p, (*Failure).ordered); err != nil { // of the cancel that is taken back
				return err
			}
			var o struct{ Keys []string }
			if err := e.readable(&o); err != nil {
				return err
			}
			for _, k := range o.Keys {
				if err := r.forget(p, k); err != nil {
					return err
				}
			}
		}
	case KindResult:
	default:
		if e.Kind == KindAttributes && e.Attempt > 0 { // a body's
			break
		}
		if step, ok := strings.CutSuffix(e.Key, firstMark); ok && e.Kind == KindScope {
			p.attempts[step] = e
			break
		}
		if hook, ok := strings.CutSuffix(e.Key, claimMark); ok && e.Kind == KindHookClosed {
			return r.recallClaim(hook, e)
		}
		switch old := p.entries[e.Key]; {
		case old == nil:
			p.perPath[pathOf(e.Key)]++
		case e.Kind == KindSleep && e.Failed && !old.Failed:
			p.slept[e.Key] = old
		}
		p.entries[e.Key] = e
		if e.Kind == KindStep {
			delete(p.attempts, e.Key)
		}
		if e.Kind == KindChild && !e.Failed {
			var ch childEntry
			if json.Unmarshal(e.Data, &ch) == nil && !ch.Detached && ch.Run != 0 {
				r.attach(ch.Run)
			}
		}
		if e.Kind == KindChildEnd {
			delete(r.children, childOf(e.Data))
		}
	}
	return nil
}

// uninterrupt drops what a cancel ended whose reason is one of those: what slept has its time again.
func (r *live) uninterrupt(p *past, those func(*Failure) bool) error {
	for k, e := range p.entries {
		if !e.cut() {
			continue
		}
		if err := r.whole(e, 1); err != nil {
			return err
		}
		if !those(e.Failure()) {
			continue
		}
		if slept := p.slept[k]; slept != nil {
			p.entries[k] = slept
			continue
		}
		delete(p.entries, k)
		p.perPath[pathOf(k)]--
	}
	return nil
}

// cut reports whether e is of something that a cancel ended: its failure is the reason.
func (e *Entry) cut() bool {
	switch e.Kind {
	case KindSleep, KindRace:
		return e.Failed
	case KindHookClosed:
		return len(e.Data)+e.Size > 0 && strings.HasSuffix(e.Key, closeMark)
	}
	return false
}

// forget drops what a retry asks again: the failure of a step, that a branch failed before its siblings, which were
// cancelled for it, the end of a child, which will have another, or the child, of which there will be another.
func (r *live) forget(p *past, key string) error {
	delete(p.attempts, key)
	old := p.entries[key]
	if old == nil || !old.Failed && old.Kind != KindChild && old.Kind != KindChildEnd && old.Kind != KindRace {
		return nil
	}
	if old.Kind == KindRace && !old.Failed {
		if err := r.whole(old, 1); err != nil {
			return err
		}
		var race raceEntry
		if err := old.readable(&race); err != nil {
			return err
		}
		if err := r.uninterrupt(p, func(f *Failure) bool { return race.Branch != "" && f.sibling() == race.Branch }); err != nil {
			return err
		}
	}
	if old.Kind == KindChild || old.Kind == KindChildEnd {
		if err := r.whole(old, 1); err != nil {
			return err
		}
		var ch struct{ Run int64 }
		if err := old.readable(&ch); err != nil {
			return err
		}
		if old.Kind == KindChild {
			delete(r.children, ch.Run)
			p.entries[key] = &Entry{Seq: old.Seq, Kind: KindChild, Key: key, At: old.At, Data: renewal}
			return nil
		}
		if ch.Run != 0 {
			r.attach(ch.Run)
		}
	}
	delete(p.entries, key)
	p.perPath[pathOf(key)]--
	return nil
}

// readable decodes what an entry holds for the engine itself.
func (e *Entry) readable(to any) error {
	if err := json.Unmarshal(e.Data, to); err != nil {
		return fmt.Errorf("%w: entry %d (%s %s): %w", errUnreadable, e.Seq, e.Kind, e.Key, err)
	}
	return nil
}

// recorded looks key up in the journal. It returns nil where there is nothing; a run whose
// journal has another kind there, or can't be read, does not return.
func (c *Context) recorded(kind Kind, key string) *Entry {
	b, r := c.b, c.b.r
	if !r.replaying.Load() {
		return nil
	}
	r.mu.Lock()
	e := r.past.entries[key]
	if e != nil {
		delete(r.past.entries, key)
		r.past.perPath[pathOf(key)]--
	}
	r.mu.Unlock()
	if e == nil {
		return nil
	}
	if e.Kind != kind {
		r.block((&DivergedError{Key: key, Journal: e.Kind, Code: kind}).Error())
		runtime.Goexit()
	}
	if err := r.whole(e, aheadLen); err != nil {
		r.unread(err)
		runtime.Goexit()
	}
	switch kind {
	case KindVersion, KindHookClosed: // another branch may have come first the first time
	default:
		b.tell(e.At)
	}
	return e
}

// attempted returns what a step that has not ended has left: its newest failed attempt, or
// when its first was refused by a budget that it waits for. It does so once.
func (r *live) attempted(key string) *Entry {
	if r.past.attempts == nil {
		return nil
	}
	r.mu.Lock()
	e := r.past.attempts[key]
	delete(r.past.attempts, key)
	r.mu.Unlock()
	if e != nil {
		if err := r.whole(e, 1); err != nil {
			r.unread(err)
			runtime.Goexit()
		}
	}
	return e
}

// outgrown stops a run whose journal holds JSON that the code can't read any more.
func (r *live) outgrown(misfit error) {
	r.block(fmt.Sprintf("the code no longer fits the journal: %v; run code that fits, then retry", misfit))
	runtime.Goexit()
}

// unread stops a run whose journal could not be read: for good if it is the journal's fault,
// for a moment if it is the store's.
func (r *live) unread(err error) {
	if errors.Is(err, errUnreadable) {
		r.block(err.Error() + "; look at what it holds, then cancel the run, or fork it from an earlier step")
		return
	}
	r.e.log.Error("pawl: a run's journal could not be read; the run is given back", "run", r.info.ID, "error", err)
	r.e.drop(r)
	r.kill()
	r.giveBack(Pending, "", time.Now().Add(time.Second))
}

// round ends a replay's round if every branch that could go on is in a step's body. Caller
// holds mu.
func (r *live) round() {
	if r.replaying.Load() && int64(r.active) <= r.bodies.Load() && !r.dead.Load() && r.phase != ending {
		r.endRound()
	}
}

// endRound is called, under mu, when every branch has come to something that is not in the
// journal, or is in a body: each of the first does that one thing. While the journal holds
// entries that were not asked for, whatever comes next that is new waits for such a moment again:
// the code may have been changed, and what stands behind its change is still found.
func (r *live) endRound() {
	if !r.acts && len(r.past.entries) > 0 && r.pausing == nil && !r.draining { // those stop a replay halfway
		r.drift()
	}
	r.acts = true
	if len(r.past.entries) == 0 {
		r.replaying.Store(false)
		r.past = past{attempts: r.past.attempts, woken: r.past.woken}
	}
	for el := r.waits.Front(); el != nil; {
		b := el.Value.(*branch)
		el = el.Next()
		if b.key == barrier || b.key == anyBranch && b.s.ctx.Err() != nil {
			r.wake(b, forRound)
		}
	}
}

// inBody is attempt; meanwhile the branch holds up no round of a replay.
func (c *Context) inBody(ctx *stepContext, o *stepOptions, body func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
	r := c.b.r
	r.bodies.Add(1)
	defer r.bodies.Add(-1)
	if r.replaying.Load() {
		r.mu.Lock()
		r.round()
		r.mu.Unlock()
	}
	return c.attempt(ctx, o, body)
}

// drift reports entries that the code has not asked for when it comes to something new. It may
// come to them later, if something was put before them; what it never asks for stays as it is.
func (r *live) drift() {
	keys := r.unasked()
	r.e.log.Warn("pawl: the code was changed: a run came to something new before it asked for all that its journal holds",
		"run", r.info.ID, "workflow", r.info.Workflow, "keys", keys)
	r.note(Entry{Kind: KindDrift, Key: "$drift", At: now(), Data: mustJSON(map[string]any{"keys": keys})})
}

// unasked are the keys of entries that a replay has not come to, at most 100, sorted. Caller
// holds mu.
func (r *live) unasked() []string {
	keys := slices.Sorted(maps.Keys(r.past.entries))
	return keys[:min(len(keys), 100)]
}

func pathOf(key string) string {
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		return key[:i]
	}
	return ""
}
