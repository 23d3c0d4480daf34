package agent

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

var (
	paceCalls = flag.Int("pace.calls", 120, "concurrent runs of the acceptance tests of pacing")
	paceRate  = flag.Int("pace.rate", 50, "calls a second that their provider allows")
)

// question of a run: whom to ask, and as which caller.
type ask struct {
	URL  string `json:"url"`
	Call string `json:"call"`
}

// asking is a workflow that makes one call, with a pacer as each process has its own.
func asking(rate int) *pawl.Workflow[ask, string] {
	pacer := NewPacer(map[string]Limit{"fake": {Requests: int64(rate), Per: time.Second}})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	get := func(ctx context.Context, url string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp, err
	}
	return pawl.Define("ask", func(c *pawl.Context, in ask) (string, error) {
		return pawl.Step(c, "call", func(ctx context.Context) (string, error) {
			who := "?call=" + url.QueryEscape(in.Call)
			if _, err := get(ctx, in.URL+"/ready"+who); err != nil { //nolint:bodyclose // get closes it
				return "", err
			}
			slot, err := pacer.Take(ctx, pawl.EngineOf(ctx), "fake/model", 0, 0)
			if err != nil {
				return "", err
			}
			resp, err := get(ctx, in.URL+"/call"+who) //nolint:bodyclose // get closes it
			switch {
			case err != nil:
				slot.Done(-1, Seen{})
				return "", err
			case resp.StatusCode == http.StatusOK:
				slot.Done(0, Seen{})
				return "fine", nil
			}
			after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
			if err != nil {
				return "", pawl.Fatal(err)
			}
			wait := time.Duration(after) * time.Second
			slot.Done(-1, Seen{Refused: true, Wait: wait})
			return "", &llm.Error{Kind: llm.RateLimited, Provider: "fake", Status: resp.StatusCode, Wait: wait}
		}, pawl.MaxAttempts(100))
	})
}

// Runs that a provider refuses a fifth of the time finish without one of their calls made
// again too early, at 95 % or more of the allowed rate while calls wait for their turn.
//
// From the first call to the last no pacer can promise 95 % for 1,000 runs at 50 calls a
// second: calls that are refused near the end have to wait a second, some of them twice or
// three times, with nobody left to fill the time. [TestTheBestRateThereIs] plays it with a
// pacer that knows all: 93.7 % on average, 88.5 to 97.2 in nine games of ten; 65.8 % for 120
// runs and 99.3 % for 10,000. Whether refused calls go before new ones changes nothing in
// that, as each has the same chance to be refused whichever it is; they do go first, so that
// none waits a second time. With the refusals that this provider's luck brings the best is
// 93.7 %, and what was measured with -pace.calls=1000 is 93.3 to 93.9 % (it lets five calls
// go at once, hence the excess), 99.6 to 100.3 % while calls waited: on SQLite and PostgreSQL,
// with one worker and four, in one process and four, on a machine of two cores with other work.
func TestRunsFinishAtTheAllowedRate(t *testing.T) {
	for _, workers := range []int{1, 4} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				for range workers {
					work(t, open(), asking(*paceRate))
				}
				runsFinish(t, pawl.New(open(), nil))
			})
		})
	}
}

func TestRunsOfProcessesFinishAtTheAllowedRate(t *testing.T) {
	for _, workers := range []int{1, 4} {
		t.Run(fmt.Sprintf("processes=%d", workers), func(t *testing.T) {
			url := pgtest.URL(t)
			for range workers {
				spawn(t, workerOf{Work: "pace", Store: url, Rate: *paceRate})
			}
			runsFinish(t, pawl.New(postgresStore(t, url), nil))
		})
	}
}

func paceWorker(ctx context.Context, w workerOf, store pawl.Store) error {
	e := pawl.New(store, nil)
	if err := e.Register(asking(w.Rate)); err != nil {
		return err
	}
	fmt.Println("ready")
	return e.Run(ctx)
}

// runsFinish measures up to three times: other work on the machine can only slow a round down,
// so one that reaches the rate shows that the pacer allows it.
func runsFinish(t *testing.T, engine *pawl.Engine) {
	var slow []string
	for len(slow) < 3 && !t.Failed() {
		why := round(t, engine)
		if why == "" {
			return
		}
		slow = append(slow, why)
	}
	t.Errorf("in none of %d rounds the rate was reached: %s", len(slow), strings.Join(slow, "; "))
}

// round starts runs, waits for their ends, and says why that took longer than it should; "": it did not.
func round(t *testing.T, engine *pawl.Engine) string {
	rate := *paceRate
	p := newProvider(t, *paceCalls, float64(rate), 5)
	wf := asking(rate)
	runs := make([]*pawl.Run[string], *paceCalls)
	var starts sync.WaitGroup
	for i := range runs {
		starts.Go(func() {
			run, err := wf.Start(t.Context(), engine, ask{p.URL, strconv.Itoa(i)})
			if err != nil {
				t.Error(err)
			}
			runs[i] = run
		})
	}
	if starts.Wait(); t.Failed() {
		return ""
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
	raw := float64(p.letByNew-1) / p.lastNew.Sub(p.first).Seconds()
	busy := float64(p.letByNew-1) / (p.lastNew.Sub(p.first) - stalled).Seconds()
	whole := float64(p.let-1) / p.last.Sub(p.first).Seconds()
	best, _ := ideal(luck(), *paceCalls, float64(rate), true)
	t.Logf("%d calls let in, %d of them refused at random, %d over the rate, %d early; %.1f/s while calls waited (%.1f %% of the rate), %.1f/s from first to last (%.1f %%, the best with these refusals is %.1f %%); the process stood still for %v",
		p.let, p.refused, p.over, p.early, raw, 100*raw/float64(rate), whole, 100*whole/float64(rate), 100*best, stalled)
	if p.early > 0 {
		t.Errorf("%d refused calls were made again before the provider's wait was over", p.early)
	}
	if p.over > p.let/20 { // what waits for a processor comes in bunches
		t.Errorf("%d of %d calls went over the rate", p.over, p.let)
	}
	if busy < 0.95*float64(rate) {
		return fmt.Sprintf("%.1f calls a second were let in while calls waited, of %d allowed", busy, rate)
	}
	if all := float64(p.let-1) / (p.last.Sub(p.first) - stalls(p.first, p.last)).Seconds(); all < 0.8*best*float64(rate) { // the odd wait of a busy machine weighs much in a short test
		return fmt.Sprintf("%.1f calls a second from first to last, %.1f would be possible", all, best*float64(rate))
	}
	return ""
}
