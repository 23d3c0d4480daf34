package pawl

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"time"
)

// Future is the result of a branch that [Go] started.
type Future[T any] struct {
	f   future
	val T
}

// future is a Future without its type, under the run's mu.
type future struct {
	path    string // of its branch; "": there is none
	s       *scope // of its branch, until that has ended
	done    bool
	clock   time.Time // of its branch when it ended
	err     error
	waiters []*branch
}

// Go runs fn at the same time as what follows, as a branch of the run with a scope of its
// own: its steps are known as name/step. A second Go of the same name is name#2. A panic
// in fn is its error. Branches end with the run: wait for those that matter.
func Go[T any](c *Context, name string, fn func(c *Context) (T, error)) *Future[T] {
	f := &Future[T]{}
	if err := c.b.enter("Go", name); err != nil {
		f.f.done, f.f.err = true, err
		return f
	}
	defer c.b.exit()
	if err := checkName("name of a branch", name); err != nil {
		f.f.done, f.f.err = true, &MisuseError{Call: "Go", Why: err.Error()}
		return f
	}
	if fn == nil {
		f.f.done, f.f.err = true, noFunction("Go", name)
		return f
	}
	c.fork(&f.f, c.b.nextKey(name), func(c *Context) (err error) {
		f.val, err = fn(c)
		return err
	})
	return f
}

// fork starts a branch.
func (c *Context) fork(f *future, path string, fn func(c *Context) error) {
	r := c.b.r
	s := c.s.inner()
	b := newBranch(r, path, s)
	b.clock = c.b.clock
	f.path, f.s = path, s
	r.mu.Lock()
	r.active++
	r.mu.Unlock()
	r.e.background.Go(func() {
		err := error(&PanicError{Value: "the branch's goroutine was ended (runtime.Goexit)"})
		defer func() {
			if r.dead.Load() {
				_ = recover()
				return
			}
			if p := recover(); p != nil {
				err = panicError(p)
			}
			r.branchEnded(b, f, err)
		}()
		b.begin()
		err = fn(&Context{b: b, s: s})
	})
}

// branchEnded hands on how a branch ended. Of the branch nothing is kept: a Map may have very many.
func (r *live) branchEnded(b *branch, f *future, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.gone.Store(true)
	f.done, f.err, f.clock = true, err, b.clock
	for _, w := range f.waiters {
		if w.in != nil && w.key == anyBranch {
			r.wake(w, forBranch)
		}
	}
	f.waiters = nil
	f.s.cancel(nil)
	f.s = nil
	r.scopes = slices.DeleteFunc(r.scopes, func(s *scope) bool { return s.ctx.Err() != nil })
	r.active--
	if r.active == 0 && !r.dead.Load() {
		r.quiet()
	} else {
		r.round()
	}
}

// Wait returns what the branch returned.
func (f *Future[T]) Wait(c *Context) (T, error) {
	if f.f.path == "" { // it never started
		return f.val, f.f.err
	}
	if err := c.b.enter("Future.Wait", ""); err != nil {
		var zero T
		return zero, err
	}
	defer c.b.exit()
	key := c.b.nextKey("$wait")
	err := error(nil)
	if e := c.recorded(KindRace, key); e != nil {
		err = c.interruptedAgain(e)
	} else if _, jerr := c.join([]*future{&f.f}, nil); jerr != nil {
		err = c.interrupted(KindRace, key)
	}
	if err != nil {
		var zero T
		return zero, err
	}
	c.b.tell(f.f.clock)
	return f.val, f.f.err
}

// join waits until one of fs has ended, and done (if not nil) accepts it; it returns its
// index. Its error is that of a cancelled scope, which the caller must record: whether the
// branch or the cancel came first is not the same in a replay, so join does not look at the
// scope there.
func (c *Context) join(fs []*future, done func(*future) bool) (int, error) {
	b, r := c.b, c.b.r
	for round := false; ; {
		r.mu.Lock()
		if r.dead.Load() {
			r.mu.Unlock()
			runtime.Goexit()
		}
		for i, f := range fs {
			if f.done && (done == nil || done(f)) {
				r.mu.Unlock()
				return i, nil
			}
		}
		if c.s.ctx.Err() != nil && r.pausing == nil && !r.draining && (round || !r.replaying.Load()) {
			r.mu.Unlock()
			return 0, context.Cause(c.s.ctx)
		}
		for _, f := range fs {
			if n := len(f.waiters); !f.done && (n == 0 || f.waiters[n-1] != b) {
				f.waiters = append(f.waiters, b)
			}
		}
		round = b.wait(c.s, anyBranch, "", time.Time{}) == forRound
	}
}

const anyBranch = "$branch" // waits for another branch to end

// Join waits until all of fs have ended, whatever becomes of c: it is no wait that a cancel
// ends. Cancel what is no longer needed first. It leaves nothing in the journal. Code that
// stands behind a failed [All] of branches that it shares memory with, or behind an All, [Race]
// or [Any] that was cancelled itself, calls it before it touches that memory.
func Join[T any](c *Context, fs ...*Future[T]) {
	if c.b.enter("Join", "") != nil { // what was misused says so where it has an error to say it with
		return
	}
	defer c.b.exit()
	c.settle(plainFutures(fs))
}

func (c *Context) settle(fs []*future) {
	b, r := c.b, c.b.r
	for _, f := range fs {
		r.mu.Lock()
		for !f.done {
			f.waiters = append(f.waiters, b)
			b.wait(unending, anyBranch, "", time.Time{})
			r.mu.Lock()
		}
		r.mu.Unlock()
	}
}

// unending is a scope that nothing cancels.
var unending = &scope{ctx: context.Background()}

// All waits for all branches and returns their results in the order of fs. When one
// fails, the others are cancelled, and All returns its error once they have ended; which one failed first is
// recorded. After [Engine.Retry] of a run that this made fail, all of them go on.
func All[T any](c *Context, fs ...*Future[T]) ([]T, error) {
	if err := c.b.enter("All", ""); err != nil {
		return nil, err
	}
	defer c.b.exit()
	plain := plainFutures(fs)
	key := c.b.nextKey("$all")
	for _, f := range plain {
		if f.path == "" {
			return nil, f.err
		}
	}
	if err := c.all(plain, key, len(fs), func(int) {}); err != nil {
		return nil, err
	}
	out := make([]T, len(fs))
	for i, f := range fs {
		out[i] = f.val
		c.b.tell(f.f.clock)
	}
	return out, nil
}

func plainFutures[T any](fs []*Future[T]) []*future {
	plain := make([]*future, len(fs))
	for i, f := range fs {
		plain[i] = &f.f
	}
	return plain
}

// raceEntry is the data of a KindRace that did not fail.
type raceEntry struct {
	Index int `json:"index"`
	// Of All and Map, what a retry needs to take the decision back.
	Branch  string `json:"branch,omitempty"`  // the path of the branch that failed
	Failure string `json:"failure,omitempty"` // its mark
}

// mark names a failure in few bytes that tell nothing of it.
func (f *Failure) mark() string {
	sum := sha256.Sum256([]byte(f.Type + "\x00" + f.Message))
	return hex.EncodeToString(sum[:8])
}

// siblingError is why a branch was cancelled whose sibling failed in an All or a Map.
type siblingError struct {
	Branch string `json:"branch"` // the one that failed
}

func (e *siblingError) Error() string {
	return "branch " + e.Branch + " failed first: cancelled"
}
func (e *siblingError) Is(target error) bool { return target == ErrCancelled }

// sibling is the path of the branch whose failure f tells to have cancelled another; "": f is something else.
func (f *Failure) sibling() string {
	var e siblingError
	if f.Type != "*pawl.siblingError" || json.Unmarshal(f.Details, &e) != nil {
		return ""
	}
	return e.Branch
}

// all starts the branches of fs, at most limit at a time, and waits for them. When one fails, the others are cancelled
// and have ended when all returns its error. An error of c itself leaves them as they are.
func (c *Context) all(fs []*future, key string, limit int, start func(i int)) error {
	e := c.recorded(KindRace, key)
	first := -1 // the branch that failed first, by the journal
	if e != nil && !e.Failed {
		var err error
		if first, err = c.decided(e, len(fs)); err != nil {
			return err
		}
	}
	interrupted := func() error {
		if e != nil && e.Failed {
			return c.interruptedAgain(e)
		}
		return c.interrupted(KindRace, key)
	}
	var open []*future
	var at, failed []int // the indexes of those open
	for next := 0; next < len(fs) || len(open) > 0; {
		for ; next < len(fs) && len(open) < limit; next++ {
			start(next)
			open, at = append(open, fs[next]), append(at, next)
		}
		i, err := c.join(open, nil)
		if err != nil {
			return interrupted()
		}
		one, last := at[i], len(open)-1
		open[i], at[i] = open[last], at[last]
		open, at = open[:last], at[:last]
		if fs[one].err != nil {
			failed = append(failed, one)
		}
		if one == first { // a retry that asks it again has forgotten that
			if fs[one].err != nil {
				return c.failed(fs[:next], one, key)
			}
			c.b.r.block(fmt.Sprintf("the code no longer fits the journal: %q recorded that branch %s failed first, and now it does not fail; "+
				"run code that fits, then retry, or fork the run from an earlier step", key, fs[one].path))
			runtime.Goexit()
		}
		if len(failed) == 0 || first >= 0 || e != nil && e.Failed {
			continue
		}
		if err := c.act(); err != nil {
			return interrupted()
		}
		c.noteRace(key, raceEntry{Index: failed[0], Branch: fs[failed[0]].path, Failure: failureOf(fs[failed[0]].err).mark()})
		return c.failed(fs[:next], failed[0], key)
	}
	if e != nil && e.Failed { // its branches have taken up what the journal has of them
		return interrupted()
	}
	return nil
}

// failed cancels all branches but the one that failed first, waits until they have ended, and returns its error. Of those that
// failed too, and were not cancelled, it leaves in the journal what a retry has to ask again with the first.
func (c *Context) failed(fs []*future, first int, key string) error {
	c.cancelOthers(fs, first, &siblingError{fs[first].path})
	c.settle(fs)
	if c.recorded(KindRace, key+alsoMark) != nil {
		return fs[first].err
	}
	var of alsoEntry
	for i, f := range fs {
		if i != first && f.err != nil && !errors.Is(f.err, ErrCancelled) && len(of.Also) < maxAlso {
			of.Also = append(of.Also, brokenOf(f))
		}
	}
	if len(of.Also) > 0 {
		c.noteRace(key+alsoMark, of)
	}
	return fs[first].err
}

// alsoMark ends the key of the entry that tells which branches failed beside the first.
const (
	alsoMark = ".also"
	maxAlso  = 1000 // branches that it tells of
)

// alsoEntry is its data.
type alsoEntry struct {
	Also []broken `json:"also"`
}

// broken is a branch that failed beside the first.
type broken struct {
	Branch   string   `json:"branch"`
	Failures []string `json:"failures"`       // the marks of its error, and of what that wraps
	Runs     []string `json:"runs,omitempty"` // the ids of the children in it that did not complete
}

func brokenOf(f *future) broken {
	b := broken{Branch: f.path}
	for f := failureOf(f.err); f != nil; f = f.Cause {
		b.Failures = append(b.Failures, f.mark())
		if r := f.run(); r != nil {
			b.Runs = append(b.Runs, r.RunID)
			break
		}
	}
	return b
}

// decided is the index in a race's entry, of n branches.
func (c *Context) decided(e *Entry, n int) (int, error) {
	var race raceEntry
	if err := decode("a race's entry", e.Data, &race); err != nil {
		return 0, err
	}
	if race.Index >= n {
		c.b.r.block(fmt.Sprintf("the code no longer fits the journal: %q recorded that branch %d came first, the code now has %d", e.Key, race.Index, n))
		runtime.Goexit()
	}
	return race.Index, nil
}

// noteRace records what came first among branches, or beside that.
func (c *Context) noteRace(key string, of any) {
	r := c.b.r
	e := Entry{Kind: KindRace, Key: key, At: now(), Data: mustJSON(of)}
	r.mu.Lock()
	r.note(e)
	r.mu.Unlock()
	c.b.tell(e.At)
}

func (c *Context) cancelOthers(fs []*future, winner int, why error) {
	r := c.b.r
	var open []*scope
	r.mu.Lock()
	for i, f := range fs {
		if i != winner && f.s != nil {
			open = append(open, f.s)
		}
	}
	r.mu.Unlock()
	for _, s := range open {
		r.cancelScope(s, why)
	}
}

// Race returns what the first branch to finish returned, result or error. Which one that
// was is recorded: a replay has the same winner. The other branches are cancelled; a
// message that one of them was waiting for stays for the next wait.
func Race[T any](c *Context, fs ...*Future[T]) (T, error) {
	return race(c, "Race", fs, nil)
}

// Any returns the result of the first branch to succeed, and cancels the others. When all
// have failed it returns the error of the last.
func Any[T any](c *Context, fs ...*Future[T]) (T, error) {
	left := len(fs)
	counted := map[*future]bool{}
	return race(c, "Any", fs, func(f *future) bool {
		if f.err != nil && !counted[f] {
			counted[f] = true
			left--
		}
		return f.err == nil || left == 0
	})
}

func race[T any](c *Context, call string, fs []*Future[T], done func(*future) bool) (T, error) {
	var zero T
	if err := c.b.enter(call, ""); err != nil {
		return zero, err
	}
	defer c.b.exit()
	if len(fs) == 0 {
		return zero, &MisuseError{Call: call, Why: "there is no branch to wait for"}
	}
	plain := plainFutures(fs)
	for _, f := range plain {
		if f.path == "" {
			return zero, f.err
		}
	}
	key := c.b.nextKey("$race")
	first, err := 0, error(nil)
	switch e := c.recorded(KindRace, key); {
	case e == nil:
		if first, err = c.join(plain, done); err == nil {
			err = c.act()
		}
		if err != nil {
			return zero, c.interrupted(KindRace, key)
		}
		c.noteRace(key, raceEntry{Index: first})
	case e.Failed:
		return zero, c.interruptedAgain(e)
	default:
		if first, err = c.decided(e, len(fs)); err != nil {
			return zero, err
		}
	}
	// Before the winner is waited for: what the journal does not have of the others did not happen.
	c.cancelOthers(plain, first, fmt.Errorf("another branch came first: %w", ErrCancelled))
	if _, err := c.join(plain[first:first+1], nil); err != nil {
		return zero, err
	}
	c.b.tell(plain[first].clock)
	return fs[first].val, plain[first].err
}

// MapOption sets a property of a [Map]: [Limit].
type MapOption interface{ mapping(*mapOptions) }

type mapOptions struct {
	limit int
	err   error // an option that can't be
}

// LimitOption is what [Limit] returns.
type LimitOption struct{ n int }

// Limit lets a Map work on at most n elements at the same time. An n under 1 is refused.
func Limit(n int) LimitOption { return LimitOption{n} }

func (l LimitOption) mapping(o *mapOptions) {
	if o.limit = l.n; l.n < 1 {
		o.err = fmt.Errorf("Limit(%d): it must be 1 or more; leave it out for no limit", l.n)
	}
}

// Map calls fn for every element of in at the same time, each in a branch of its own
// (name[0]/step, name[1]/step, …), and returns the results in the order of in. When one
// fails, or c is cancelled, the others are cancelled and Map returns the error once all have ended. After [Engine.Retry]
// of a run that this made fail, all of them go on.
func Map[A, B any](c *Context, name string, in []A, fn func(c *Context, a A) (B, error), opts ...MapOption) ([]B, error) {
	if err := c.b.enter("Map", name); err != nil {
		return nil, err
	}
	defer c.b.exit()
	if err := checkName("name of a branch", name); err != nil {
		return nil, &MisuseError{Call: "Map", Why: err.Error()}
	}
	if fn == nil {
		return nil, noFunction("Map", name)
	}
	var o mapOptions
	if err := errors.Join(apply(opts, func(opt MapOption) { opt.mapping(&o) }), o.err); err != nil {
		return nil, &MisuseError{Call: "Map " + name, Why: err.Error()}
	}
	path := c.b.nextKey(name)
	out := make([]B, len(in))
	one := func(i int) func(*Context) error {
		return func(c *Context) (err error) {
			out[i], err = fn(c, in[i])
			return err
		}
	}
	fs := make([]*future, len(in))
	for i := range fs {
		fs[i] = &future{}
	}
	if o.limit == 0 {
		o.limit = len(in)
	}
	started := 0
	err := c.all(fs, c.b.nextKey("$all"), o.limit, func(i int) {
		c.fork(fs[i], path+"["+strconv.Itoa(i)+"]", one(i))
		started++
	})
	if err != nil {
		c.settle(fs[:started])
		return nil, err
	}
	for _, f := range fs {
		c.b.tell(f.clock)
	}
	return out, nil
}
