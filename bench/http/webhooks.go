package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// storm is deliveries on their way, and what came of them.
type storm struct {
	urls []string
	http *http.Client

	mu    sync.Mutex
	begun []string // ids of deliveries, in the order in which they were first sent
	took  []time.Duration
	tries atomic.Int64
	again atomic.Int64 // deliveries that were repeats
}

// webhooks sends deliveries and then reads every journal: each delivery that got a 2xx, and
// in the end all have, is there exactly once.
func webhooks(ctx context.Context, s *server) error {
	w := &storm{http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: *conns, MaxConnsPerHost: *conns}}}
	if err := w.find(ctx, s); err != nil {
		return err
	}
	killing, stop := context.WithCancel(ctx)
	defer stop()
	var killer sync.WaitGroup
	killer.Go(func() {
		for *killEvery > 0 {
			select {
			case <-killing.Done():
				return
			case <-time.After(*killEvery):
			}
			s.kill()
			if err := s.start(); err != nil {
				panic(err)
			}
		}
	})
	begun := time.Now()
	var senders sync.WaitGroup
	var failed atomic.Pointer[error]
	for i := range *conns {
		senders.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 4))
			for n := range *count / *conns {
				if err := w.send(ctx, fmt.Sprintf("d-%d-%d", i, n), r); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	senders.Wait()
	took := time.Since(begun)
	stop()
	killer.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	kills := s.kills
	found, err := w.check(ctx, s)
	if err != nil {
		return err
	}
	slices.Sort(w.took)
	at := func(q float64) float64 { return w.took[int(q*float64(len(w.took)-1))].Seconds() * 1e3 }
	fmt.Printf("%s: %d deliveries accepted in %.1f s, %.0f per second, %d of them repeats, %d requests, %d kills; p50 %.1f ms, p99 %.1f ms, most %.1f ms; %s\n",
		*storeFlag, len(w.took), took.Seconds(), float64(len(w.took))/took.Seconds(), w.again.Load(), w.tries.Load(), kills, at(.5), at(.99), at(1), found)
	return nil
}

// find learns where the sinks are.
func (w *storm) find(ctx context.Context, s *server) error {
	client, err := api.NewClient("http://"+s.address, nil)
	if err != nil {
		return err
	}
	for begun := time.Now(); len(w.urls) < *sinks; time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > 30*time.Second {
			return errors.New("the sinks do not come up")
		}
		page, err := client.Runs(ctx, api.RunQuery{Workflow: "sink", States: []pawl.State{pawl.Waiting}, Limit: 500})
		if err != nil {
			return err
		}
		w.urls = nil
		for _, run := range page.Items {
			if url := run.Attrs["url"]; url != "" {
				w.urls = append(w.urls, url)
			}
		}
	}
	return nil
}

// send delivers, until it is accepted, something new or, a fifth of the time, something that
// was sent before or is being sent just now.
func (w *storm) send(ctx context.Context, id string, r *rand.Rand) error {
	w.mu.Lock()
	if len(w.begun) > 0 && r.IntN(5) == 0 {
		id = w.begun[r.IntN(len(w.begun))]
		w.again.Add(1)
	} else {
		w.begun = append(w.begun, id)
	}
	w.mu.Unlock()
	sum := sha256.Sum256([]byte(id))
	url := w.urls[int(sum[0])%len(w.urls)] // a repeat goes where the first went
	body, _ := json.Marshal(map[string]any{"id": id, "type": "payment_intent.succeeded", "data": map[string]any{"amount": 1290, "currency": "eur", "note": hex.EncodeToString(sum[:])}})
	begun := time.Now()
	for {
		w.tries.Add(1)
		status, err := w.post(ctx, url, id, body)
		switch {
		case status/100 == 2:
			w.mu.Lock()
			w.took = append(w.took, time.Since(begun))
			w.mu.Unlock()
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && status != http.StatusServiceUnavailable:
			return fmt.Errorf("delivery %s was answered with %d", id, status)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (w *storm) post(ctx context.Context, url, id string, body []byte) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(deliveryHeader, id)
	req.Header.Set(signatureHeader, sign(body))
	res, err := w.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

const (
	deliveryHeader  = "X-Delivery"
	signatureHeader = "X-Signature"
	secret          = "the secret of the benchmark, which is none"
)

func sign(body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// check stops the sinks, and compares what their journals hold with what was accepted.
func (w *storm) check(ctx context.Context, s *server) (string, error) {
	client, err := api.NewClient("http://"+s.address, nil)
	if err != nil {
		return "", err
	}
	for i, url := range w.urls {
		if status, err := w.post(ctx, url, fmt.Sprintf("stop-%d", i), []byte("stop")); status/100 != 2 {
			return "", fmt.Errorf("stop: %d %w", status, err)
		}
	}
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		page, err := client.Runs(ctx, api.RunQuery{Workflow: "sink", States: []pawl.State{pawl.Completed}, Limit: 500})
		if err != nil {
			return "", err
		}
		if len(page.Items) == *sinks {
			break
		}
		if time.Since(begun) > time.Minute {
			return "", fmt.Errorf("%d of %d sinks have ended", len(page.Items), *sinks)
		}
	}
	s.kill()
	store, err := openStore(ctx, s.store)
	if err != nil {
		return "", err
	}
	defer store.Close()
	engine := pawl.New(store, nil)
	seen := map[string]int{}
	for i := range *sinks {
		for entry, err := range engine.Journal(ctx, pawl.Ref{ID: sinkID(i)}) {
			if err != nil {
				return "", err
			}
			var req pawl.Request
			var body struct{ ID string }
			if entry.Kind == pawl.KindPayload && json.Unmarshal(entry.Data, &req) == nil && json.Unmarshal(req.Body, &body) == nil {
				seen[body.ID]++
			}
		}
	}
	lost, doubled := 0, 0
	for _, id := range w.begun {
		switch seen[id] {
		case 0:
			lost++
		case 1:
		default:
			doubled++
		}
	}
	if lost+doubled > 0 || len(seen) != len(w.begun) {
		return "", fmt.Errorf("of %d deliveries %d were lost and %d doubled; the journals hold %d", len(w.begun), lost, doubled, len(seen))
	}
	return fmt.Sprintf("%d different ones, each exactly once in the journals", len(seen)), engine.Close()
}
