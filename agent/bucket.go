package agent

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/pawlrun/pawl"
)

// Limit bounds the calls of a bucket. The zero value sets no limit: what response headers
// say is then all that is known.
type Limit struct {
	Requests int64         `json:"requests,omitempty"` // calls per Per; 0: what headers say
	Tokens   int64         `json:"tokens,omitempty"`   // tokens per Per, of requests and answers; 0: what headers say
	Per      time.Duration `json:"per,omitempty"`      // 0 means a minute
	// Burst is for how long a bucket fills while nobody calls: with 50 calls a second and
	// 100 ms five calls may go at once after a pause. 0: one call, then evenly spaced.
	Burst time.Duration `json:"burst,omitempty"`
}

// Seen is what a call's answer, or its refusal, said of the provider's limits.
type Seen struct {
	RequestsLimit int64         // calls per period; 0: the answer did not say, and the next two mean nothing
	RequestsLeft  int64         // of them, when the call was let in
	RequestsReset time.Duration // until all are there again; 0: it did not say
	TokensLimit   int64         // the same for tokens
	TokensLeft    int64
	TokensReset   time.Duration
	Refused       bool          // the call was refused because of its rate
	Wait          time.Duration // with Refused: how long the provider asks to wait; 0: it did not ask
}

// gauge is a token bucket as one instant: what is in it is the time since Zero, times the
// rate, up to its size.
type gauge struct {
	Zero  int64         `json:"zero,omitempty"`  // when it was, or will be, empty
	Limit int64         `json:"limit,omitempty"` // as headers say; 0: they did not
	Per   time.Duration `json:"per,omitempty"`   // the period of Limit, found out
}

// rule is what holds of a gauge: limit units per per, and how long it takes to fill.
type rule struct {
	limit int64 // 0: there is none
	per   time.Duration
	full  time.Duration
}

// most is as many units as one call is counted for: what comes in a while, however many it is
// said to need or to have used.
func (r rule) most() int64 {
	if r.limit == 0 {
		return maxTokens
	}
	return max(1, int64(min(float64(r.held())/float64(r.per)*float64(r.limit), maxTokens)))
}

// held is for how long a gauge is in debt at most.
func (r rule) held() time.Duration { return max(maxHeld, r.per, r.full) }

// span is how long n units take to come.
func (r rule) span(n int64) time.Duration {
	d := float64(n) / float64(r.limit) * float64(r.per)
	return time.Duration(math.Ceil(max(-maxSpan, min(d, maxSpan))))
}

const (
	maxSpan = float64(10 * 365 * 24 * time.Hour)
	maxHeld = 24 * time.Hour // what a provider says stops nobody for longer
)

// when is the instant, not before t, at which n units can be taken. More than the gauge
// holds can be taken when it is full, and leave a debt.
func (g gauge) when(r rule, t, n int64) int64 {
	if r.limit == 0 {
		return t
	}
	return max(t, g.Zero+int64(min(r.span(n), r.full)))
}

// take takes n units at t, which when has said.
func (g *gauge) take(r rule, t, n int64) {
	if r.limit > 0 {
		g.Zero = max(g.Zero, t-int64(r.full)) + int64(r.span(n))
	}
}

// owe takes n units that were used without asking, or gives back some that were not used. It
// stops nobody for longer than a debt may last.
func (g *gauge) owe(r rule, t, n int64) {
	if r.limit > 0 {
		g.Zero = min(g.Zero+int64(r.span(n)), max(g.Zero, t+int64(r.held())))
	}
}

// after is when n calls that go one after another, none before t, will have gone, and one
// more may go.
func (g gauge) after(r rule, t int64, n int) int64 {
	if r.limit == 0 {
		return t
	}
	return max(t, max(g.Zero, t-int64(r.full))+int64(r.span(int64(n)+1)))
}

// atMost says that at t no more than n units were there; n may be negative. It reports
// whether that is less than was thought, by more than a fiftieth of what it holds.
func (g *gauge) atMost(r rule, t, n int64) bool {
	zero := min(t-int64(r.span(n)), t+int64(r.held()))
	if r.limit == 0 || zero <= g.Zero+int64(r.full/50) {
		return false
	}
	g.Zero = zero
	return true
}

// left is how many units there are at t, in whole ones.
func (g gauge) left(r rule, t int64) int64 {
	return int64(math.Floor(float64(min(t-g.Zero, int64(r.full))) / float64(r.per) * float64(r.limit)))
}

// learn takes the limit that headers say. It reports whether that is news.
func (g *gauge) learn(limit, left int64, reset time.Duration) bool {
	if limit <= 0 {
		return false
	}
	per := cmp.Or(g.Per, time.Minute)
	// The headers do not say per what. The time until all is there again does, once enough
	// was used for it not to be a matter of rounding.
	if used := limit - left; reset > 0 && used > 0 && used >= limit/10 {
		per = periodNear(float64(reset) * float64(limit) / float64(used))
	}
	news := g.Limit != limit || g.Per != per
	g.Limit, g.Per = limit, per
	return news
}

// periodNear is the usual period that is nearest to d, in nanoseconds.
func periodNear(d float64) time.Duration {
	best := time.Minute
	for _, p := range []time.Duration{time.Second, time.Hour, 24 * time.Hour} {
		if math.Abs(math.Log(d/float64(p))) < math.Abs(math.Log(d/float64(best))) {
			best = p
		}
	}
	return best
}

// bucket is what all workers know of a bucket: the data of a record of space paceSpace.
type bucket struct {
	At       int64            `json:"at"` // when it was written, by the bucket's clock as all times here, in unix nanoseconds
	Requests gauge            `json:"requests"`
	Tokens   gauge            `json:"tokens"`
	Blocked  int64            `json:"blocked,omitempty"` // nobody calls before
	Taken    int64            `json:"taken,omitempty"`   // calls let go so far
	Spent    int64            `json:"spent,omitempty"`   // tokens taken for them
	Refused  int64            `json:"refused,omitempty"` // of them the provider refused
	Queues   map[string]queue `json:"queues,omitempty"`  // by worker
}

// queue is what others are to know of a worker's queue.
type queue struct {
	Callers int   `json:"callers"`
	Rank    int64 `json:"rank"` // of the first
	At      int64 `json:"at"`   // when that was so
}

const (
	paceSpace  = "agent.pace"
	queueFresh = int64(time.Second) // what was said of a queue longer ago holds nobody back
	queueShown = 5 * queueFresh     // nor is it shown
	bucketKept = 24 * time.Hour     // a bucket that is not used is forgotten
	maxBucket  = 256                // bytes of a name
)

func readBucket(r pawl.Record) (*bucket, error) {
	var b bucket
	if err := json.Unmarshal(r.Data, &b); err != nil {
		return nil, fmt.Errorf("bucket %q: its record is not one of this program's: %w; delete record %q of %s", r.Key, err, r.Key, r.Space)
	}
	return &b, nil
}

// rules are what holds of b, given what was configured: that goes before what headers say.
func (b *bucket) rules(l Limit) (requests, tokens rule) {
	per := cmp.Or(max(l.Per, 0), time.Minute)
	of := func(limit int64, g gauge) rule {
		if limit > 0 {
			r := rule{limit: limit, per: per}
			r.full = max(l.Burst, r.span(1))
			return r
		}
		return rule{limit: g.Limit, per: g.Per, full: g.Per} // providers let a full period's worth go at once
	}
	return of(l.Requests, b.Requests), of(l.Tokens, b.Tokens)
}

// report is what a call that ended has to say to its bucket.
type report struct {
	Seen
	taken, spent int64 // of the bucket, with this call; zero: it was let go without a count
	released     int64 // when it was let go
	heard        int64 // when it ended
	more         int64 // tokens used beyond those taken
}

// hear takes up what a call had to say. It reports whether others need to know.
func (b *bucket) hear(r report, l Limit) (news bool) {
	wasRequests, wasTokens := b.rules(l)
	news = b.Requests.learn(r.RequestsLimit, r.RequestsLeft, r.RequestsReset)
	news = b.Tokens.learn(r.TokensLimit, r.TokensLeft, r.TokensReset) || news
	requests, tokens := b.rules(l)
	if requests.per != wasRequests.per { // what is there was reckoned by another period, and means nothing
		b.Requests.Zero = 0
	}
	if tokens.per != wasTokens.per {
		b.Tokens.Zero = 0
	}
	if tokens.limit > 0 && r.more != 0 {
		b.Tokens.owe(tokens, r.heard, r.more)
		news = true
	}
	// What was left then has been refilled since, and calls let go later have taken of it.
	var calls, spent int64
	if r.taken > 0 {
		calls, spent = b.Taken-r.taken, b.Spent-r.spent
	}
	if r.RequestsLimit > 0 {
		news = b.Requests.atMost(requests, r.released, r.RequestsLeft-calls) || news
	}
	if r.TokensLimit > 0 {
		news = b.Tokens.atMost(tokens, r.released, r.TokensLeft-spent) || news
	}
	if !r.Refused {
		return news
	}
	b.Refused++
	empty := r.RequestsLimit > 0 && r.RequestsLeft <= 0 || r.TokensLimit > 0 && r.TokensLeft <= 0
	room := !empty && (r.RequestsLimit > 0 || r.TokensLimit > 0)
	configured := l.Requests > 0 || l.Tokens > 0
	if until := r.heard + int64(cmp.Or(r.Wait, time.Second)); empty && r.Wait > 0 || !configured && !room && !empty {
		b.Blocked = max(b.Blocked, until)
	}
	return true
}
