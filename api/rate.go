package api

import (
	"container/list"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate is how many requests are taken: Burst at once, and PerSecond on end. Zero fields mean the
// default; a negative PerSecond means no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

// maxLimiters is how many callers are counted apart. Who was not seen for longest is forgotten
// first, and so begins with a full burst again.
const maxLimiters = 10_000

// limiters count requests by name, in bounded memory.
type limiters struct {
	rate Rate

	mu     sync.Mutex
	byName map[string]*list.Element
	recent list.List // of *limiter, the latest first
}

type limiter struct {
	name string
	*rate.Limiter
}

func newLimiters(r, otherwise Rate) *limiters {
	if r.PerSecond == 0 {
		r.PerSecond = otherwise.PerSecond
	}
	if r.Burst <= 0 {
		r.Burst = otherwise.Burst
	}
	return &limiters{rate: r, byName: map[string]*list.Element{}}
}

// take counts a request; wait is how long the caller is to wait before it tries again, zero if
// it may go on.
func (l *limiters) take(name string) (wait time.Duration) {
	if l.rate.PerSecond < 0 {
		return 0
	}
	l.mu.Lock()
	el := l.byName[name]
	if el == nil {
		el = l.recent.PushFront(&limiter{name, rate.NewLimiter(rate.Limit(l.rate.PerSecond), l.rate.Burst)})
		l.byName[name] = el
		if l.recent.Len() > maxLimiters {
			last := l.recent.Back()
			l.recent.Remove(last)
			delete(l.byName, last.Value.(*limiter).name)
		}
	} else {
		l.recent.MoveToFront(el)
	}
	l.mu.Unlock()
	r := el.Value.(*limiter).Reserve()
	if wait = r.Delay(); wait > 0 {
		r.Cancel()
	}
	return wait
}

// client is the address that a request comes from: see [clientAddress].
func (s *webhooks) client(r *http.Request) string {
	if s.opt.TrustForwarded { // the last is what the proxy in front has seen itself
		if all := r.Header.Values("X-Forwarded-For"); len(all) > 0 {
			list := strings.Split(all[len(all)-1], ",")
			return clientAddress(strings.TrimSpace(list[len(list)-1]))
		}
	}
	return clientAddress(r.RemoteAddr)
}
