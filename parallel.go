package pawl

import (
	"context"
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
	b       *branch
	s       *scope
	done    bool
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
	f.b, f.s = b, s
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
			r.branchEnded(f, err)
		}()
		b.begin()
		err = fn(&Context{b: b, s: s})
	})
}

func (r *live) branchEnded(f *future, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.b.gone.Store(true)
	f.done, f.err = true, err
	for _, w := range f.waiters {
		if w.in != nil && w.key == anyBranch {
			r.wake(w, forBranch)
		}
	}
	f.waiters = nil
	f.s.cancel(nil)
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
	if f.f.b == nil { // it never started
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
	c.b.tell(f.f.b.clock)
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

// All waits for all branches and returns their results in the order of fs. When one
// fails, the others are cancelled, and All returns its error; which one failed first is
// recorded.
func All[T any](c *Context, fs ...*Future[T]) ([]T, error) {
	if err := c.b.enter("All", ""); err != nil {
		return nil, err
	}
	defer c.b.exit()
	plain := plainFutures(fs)
	if err := c.all(plain, c.b.nextKey("$all")); err != nil {
		return nil, err
	}
	out := make([]T, len(fs))
	for i, f := range fs {
		out[i] = f.val
		if f.f.b != nil {
			c.b.tell(f.f.b.clock)
		}
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

type raceEntry struct {
	Index int `json:"index"`
}

func (c *Context) all(fs []*future, key string) error {
	if e := c.recorded(KindRace, key); e != nil {
		// In a retry, and in code that has changed, the branch that failed first may not fail again: then all are waited for.
		if err := c.failAll(fs, e); err != nil {
			return err
		}
	}
	left := make([]*future, 0, len(fs))
	for i, f := range fs {
		if f.b == nil {
			return f.err
		}
		left = append(left, fs[i])
	}
	for len(left) > 0 {
		i, err := c.join(left, nil)
		if err != nil {
			return c.interrupted(KindRace, key)
		}
		if left[i].err != nil {
			if err := c.act(); err != nil {
				return c.interrupted(KindRace, key)
			}
			for n, f := range fs {
				if f == left[i] {
					e := c.noteRace(key, n)
					return c.failAll(fs, e)
				}
			}
		}
		left[i] = left[len(left)-1]
		left = left[:len(left)-1]
	}
	return nil
}

// failAll cancels all branches but the one that failed first, and returns its error; nil: it has not failed.
func (c *Context) failAll(fs []*future, e *Entry) error {
	i, err := c.winner(fs, e)
	if err != nil {
		return err
	}
	if fs[i].err != nil {
		c.cancelOthers(fs, i)
	}
	return fs[i].err
}

func (c *Context) winner(fs []*future, e *Entry) (int, error) {
	if e.Failed {
		return 0, c.interruptedAgain(e)
	}
	var race raceEntry
	if err := decode("a race's entry", e.Data, &race); err != nil {
		return 0, err
	}
	if race.Index >= len(fs) {
		c.b.r.block(fmt.Sprintf("the code no longer fits the journal: %q recorded that branch %d came first, the code now has %d", e.Key, race.Index, len(fs)))
		runtime.Goexit()
	}
	_, err := c.join(fs[race.Index:race.Index+1], nil)
	return race.Index, err
}

func (c *Context) noteRace(key string, index int) *Entry {
	r := c.b.r
	e := Entry{Kind: KindRace, Key: key, At: now(), Data: mustJSON(raceEntry{index})}
	r.mu.Lock()
	r.note(e)
	r.mu.Unlock()
	c.b.tell(e.At)
	return &e
}

func (c *Context) cancelOthers(fs []*future, winner int) {
	for i, f := range fs {
		if i != winner && f.s != nil {
			c.b.r.cancelScope(f.s, fmt.Errorf("another branch came first: %w", ErrCancelled))
		}
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
		if f.b == nil {
			return zero, f.err
		}
	}
	key := c.b.nextKey("$race")
	e := c.recorded(KindRace, key)
	if e == nil {
		i, err := c.join(plain, done)
		if err == nil {
			err = c.act()
		}
		if err != nil {
			return zero, c.interrupted(KindRace, key)
		}
		e = c.noteRace(key, i)
	}
	i, err := c.winner(plain, e)
	if err != nil {
		return zero, err
	}
	c.cancelOthers(plain, i)
	c.b.tell(plain[i].b.clock)
	return fs[i].val, plain[i].err
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
// fails, the others are cancelled and Map returns its error.
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
	key := c.b.nextKey("$all")
	if o.limit <= 0 || o.limit >= len(in) {
		for i := range in {
			fs[i] = &future{}
			c.fork(fs[i], path+"["+strconv.Itoa(i)+"]", one(i))
		}
		return out, c.all(fs, key)
	}
	return out, c.window(fs, key, o.limit, func(i int) { c.fork(fs[i], path+"["+strconv.Itoa(i)+"]", one(i)) })
}

// window is all with at most limit branches under way: the next starts when one is done.
func (c *Context) window(fs []*future, key string, limit int, start func(i int)) error {
	e := c.recorded(KindRace, key)
	next := 0
	var open []*future
	for next < len(fs) || len(open) > 0 {
		for next < len(fs) && len(open) < limit {
			fs[next] = &future{}
			start(next)
			open = append(open, fs[next])
			next++
		}
		i, err := c.join(open, nil)
		if err != nil {
			return c.interrupted(KindRace, key)
		}
		if open[i].err != nil && (e == nil || !e.Failed) {
			if e == nil {
				if err := c.act(); err != nil {
					return c.interrupted(KindRace, key)
				}
				for n := range next {
					if fs[n] == open[i] {
						e = c.noteRace(key, n)
					}
				}
			}
			return c.failAll(fs[:next], e)
		}
		open[i] = open[len(open)-1]
		open = open[:len(open)-1]
	}
	if e != nil { // its branches have taken up what the journal has of them
		return c.failAll(fs[:next], e)
	}
	return nil
}
