package agent

import (
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// provider is a real HTTP server with a token bucket, which also refuses a fifth of the
// calls that it has room for, and asks to wait a second.
type provider struct {
	*httptest.Server
	rate, burst float64

	gather sync.Once
	all    chan struct{} // closed when all callers are there

	mu       sync.Mutex
	rand     *rand.Rand
	full     float64 // tokens in the bucket
	at       time.Time
	until    map[string]time.Time // before which a refused call must not come again
	here     map[string]bool      // callers
	seen     map[string]bool
	let      int // in, refused at random included
	over     int // refused because the bucket was empty
	refused  int // at random
	early    int
	first    time.Time
	last     time.Time
	lastNew  time.Time // when the last call came for the first time
	letByNew int       // let in by then
}

// luck decides which calls a provider refuses.
func luck() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

func newProvider(t *testing.T, callers int, rate, burst float64) *provider {
	p := &provider{
		rate: rate, burst: burst, full: burst, rand: luck(), all: make(chan struct{}),
		until: map[string]time.Time{}, here: map[string]bool{}, seen: map[string]bool{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/call", p.answer)
	mux.HandleFunc("/ready", func(w http.ResponseWriter, r *http.Request) { // no call before all want to: it is not the engines' speed that is measured
		p.mu.Lock()
		p.here[r.URL.Query().Get("call")] = true
		if len(p.here) == callers {
			p.gather.Do(func() { close(p.all) })
		}
		p.mu.Unlock()
		select {
		case <-p.all:
		case <-r.Context().Done():
		}
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) answer(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("call")
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.first.IsZero() {
		p.first, p.at = now, now
	}
	p.full = min(p.burst, p.full+p.rate*now.Sub(p.at).Seconds())
	p.at = now
	if now.Before(p.until[id]) {
		p.early++
	}
	ok := p.full >= 1
	if ok {
		p.full--
		p.let++
		p.last = now
	} else {
		p.over++
	}
	if !p.seen[id] {
		p.seen[id] = true
		p.lastNew, p.letByNew = now, p.let
	}
	if ok && p.rand.Float64() >= 0.2 {
		io.WriteString(w, "fine")
		return
	}
	if ok {
		p.refused++
	}
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusTooManyRequests)
	p.until[id] = time.Now().Add(time.Second)
}

// watchStalls finds out for how long this process was not let run, which is no fault of a
// pacer, on a machine that has much else to do.
func watchStalls(t *testing.T) func(from, to time.Time) time.Duration {
	type stall struct{ from, to time.Time }
	var mu sync.Mutex
	var all []stall
	done := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for was := time.Now(); ; {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			now := time.Now()
			if now.Sub(was) > 40*time.Millisecond {
				mu.Lock()
				all = append(all, stall{was, now})
				mu.Unlock()
			}
			was = now
		}
	})
	t.Cleanup(func() { close(done); watcher.Wait() })
	return func(from, to time.Time) (sum time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range all {
			if s.from.After(from) && s.to.Before(to) {
				sum += s.to.Sub(s.from)
			}
		}
		return sum
	}
}
