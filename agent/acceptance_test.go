package agent

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

var (
	paceCalls = flag.Int("pace.calls", 120, "concurrent runs of the acceptance tests of pacing")
	paceRate  = flag.Int("pace.rate", 50, "calls a second that their provider allows")
)

// provider is a real HTTP server with a token bucket, which also refuses a fifth of the
// calls that it has room for, and asks to wait a second.
type provider struct {
	*httptest.Server
	client      *http.Client
	rate, burst float64
	callers     sync.WaitGroup // until all are there

	mu       sync.Mutex
	rand     *rand.Rand
	full     float64 // tokens in the bucket
	at       time.Time
	until    map[string]time.Time // before which a refused call must not come again
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

func newProvider(t *testing.T, callers int, rate, burst float64) *provider {
	p := &provider{rate: rate, burst: burst, full: burst, rand: rand.New(rand.NewPCG(1, 2)), until: map[string]time.Time{}, seen: map[string]bool{}}
	p.Server = httptest.NewServer(p)
	p.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	p.callers.Add(callers)
	t.Cleanup(p.client.CloseIdleConnections)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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

// call is what a step does: it takes a slot, calls, and says how it went.
func (p *provider) call(ctx context.Context, pacer *Pacer, id string) (string, error) {
	if info := pawl.InfoOf(ctx); info.Attempt == 1 { // no call before all want to: it is not the engines' speed that is measured
		p.callers.Done()
		p.callers.Wait()
	}
	slot, err := pacer.Take(ctx, pawl.EngineOf(ctx), "fake/model", 0, 0)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, "GET", p.URL+"?call="+id, nil)
	if err != nil {
		return "", err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		slot.Done(-1, Seen{})
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		wait := time.Duration(after) * time.Second
		slot.Done(-1, Seen{Refused: true, Wait: wait})
		return "", &llm.Error{Kind: llm.RateLimited, Provider: "fake", Status: resp.StatusCode, Wait: wait}
	}
	slot.Done(0, Seen{})
	return string(body), nil
}

func TestRunsFinishAtTheAllowedRate(t *testing.T) {
	for _, workers := range []int{1, 4} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) { runsFinish(t, workers, open) })
		})
	}
}

func runsFinish(t *testing.T, workers int, open func() pawl.Store) {
	rate := *paceRate
	p := newProvider(t, *paceCalls, float64(rate), 5)
	var engine *pawl.Engine
	var wf *pawl.Workflow[string, string]
	for range workers { // each as another process would: with a pacer and a store of its own
		pacer := NewPacer(map[string]Limit{"fake": {Requests: int64(rate), Per: time.Second}})
		wf = pawl.Define("ask", func(c *pawl.Context, id string) (string, error) {
			return pawl.Step(c, "call", func(ctx context.Context) (string, error) { return p.call(ctx, pacer, id) }, pawl.MaxAttempts(100))
		})
		engine = work(t, open(), wf)
	}
	runs := make([]*pawl.Run[string], *paceCalls)
	var starts sync.WaitGroup
	for i := range runs { // at once: else it may be the starts that are slow
		starts.Go(func() {
			run, err := wf.Start(t.Context(), engine, strconv.Itoa(i))
			if err != nil {
				t.Error(err)
			}
			runs[i] = run
		})
	}
	if starts.Wait(); t.Failed() {
		return
	}
	stalls := watchStalls(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, run := range runs {
		if out, err := run.Result(ctx); err != nil || out != "fine" {
			t.Fatal(out, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	stalled := stalls(p.first, p.lastNew)
	busy := float64(p.letByNew-1) / (p.lastNew.Sub(p.first) - stalled).Seconds()
	whole := float64(p.let-1) / p.last.Sub(p.first).Seconds()
	t.Logf("%d calls let in, %d of them refused at random, %d over the rate; %.1f/s while calls waited (%.1f %% of the rate), %.1f/s from first to last; the process stood still for %v",
		p.let, p.refused, p.over, busy, 100*busy/float64(rate), whole, stalled)
	if p.early > 0 {
		t.Errorf("%d refused calls were made again before the provider's wait was over", p.early)
	}
	if busy < 0.95*float64(rate) {
		t.Errorf("%.1f calls a second were let in while calls waited, of %d allowed", busy, rate)
	}
	if p.over > p.let/20 { // what waits for a processor comes in bunches
		t.Errorf("%d of %d calls went over the rate", p.over, p.let)
	}
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
