package api

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// buckets limit how often each of many callers may do something.
type buckets struct {
	rate  rate.Limit
	burst int

	mu  sync.Mutex
	all map[string]*rate.Limiter
}

func newBuckets(perSecond float64, burst int) *buckets {
	return &buckets{rate: rate.Limit(perSecond), burst: burst, all: map[string]*rate.Limiter{}}
}

// manyBuckets is how many callers are remembered before those are forgotten whose buckets
// are full, of whom nothing is worth remembering.
const manyBuckets = 10_000

// take takes one from the caller's bucket, or says after how long there is one.
func (b *buckets) take(who string) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.all[who]
	if l == nil {
		if len(b.all) >= manyBuckets {
			b.forget()
		}
		l = rate.NewLimiter(b.rate, b.burst)
		b.all[who] = l
	}
	if l.Allow() {
		return 0, true
	}
	return time.Duration((1 - l.Tokens()) / float64(b.rate) * float64(time.Second)), false
}

// empty reports whether the caller's bucket has none left, and takes none.
func (b *buckets) empty(who string) (wait time.Duration, empty bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.all[who]
	if l == nil || l.Tokens() >= 1 {
		return 0, false
	}
	return time.Duration((1 - l.Tokens()) / float64(b.rate) * float64(time.Second)), true
}

func (b *buckets) forget() {
	for who, l := range b.all {
		if l.Tokens() >= float64(b.burst) {
			delete(b.all, who)
		}
	}
	if len(b.all) >= manyBuckets { // as many callers at once as that: all begin anew
		clear(b.all)
	}
}

// counts bound how many of something each caller has at once.
type counts struct {
	most int
	mu   sync.Mutex
	all  map[string]int
}

func newCounts(most int) *counts { return &counts{most: most, all: map[string]int{}} }

func (c *counts) add(who string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[who] >= c.most {
		return false
	}
	c.all[who]++
	return true
}

func (c *counts) done(who string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[who]--; c.all[who] <= 0 {
		delete(c.all, who)
	}
}

// tooMany is the problem of who asks too often. After wait it is worth another try.
func tooMany(w http.ResponseWriter, wait time.Duration, format string, args ...any) *Problem {
	seconds := int64(max(1, (wait+time.Second-1)/time.Second))
	w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	p := newProblem(http.StatusTooManyRequests, codeTooMany, format, args...)
	p.Hint = "wait as long as Retry-After says"
	return p
}
