package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// loris measures what others wait for while sockets never finish their requests: rounds
// without and with them in turn. The process that has the sockets is niced, as it stands for
// other machines: it is to load the server, not the server's cores.
func loris(ctx context.Context, s *server) error {
	alone, err := others(ctx, s)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	slow := exec.CommandContext(ctx, "nice", "-n", "19", self, fmt.Sprintf("-sockets=%d", *sockets), "-loris", s.address)
	slow.Stderr = os.Stderr
	out, err := slow.StdoutPipe()
	if err != nil {
		return err
	}
	if err := slow.Start(); err != nil {
		return err
	}
	defer func() { _ = slow.Process.Kill(); _ = slow.Wait() }()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("the slow sockets did not come up: %w", err)
	}
	among, err := others(ctx, s)
	if err != nil {
		return err
	}
	fmt.Printf("others' requests, p99: %.2f ms alone, %.2f ms beside %d slow sockets: %.2f times (medians %.2f and %.2f ms)\n",
		alone.p99, among.p99, *sockets, among.p99/alone.p99, alone.p50, among.p50)
	return nil
}

type waits struct{ p50, p99 float64 }

// others asks for the page of runs, four clients at a time, for ten seconds.
func others(ctx context.Context, s *server) (waits, error) {
	client := &http.Client{Timeout: 10 * time.Second}
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	var asking sync.WaitGroup
	end := time.Now().Add(10 * time.Second)
	for range 4 {
		asking.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				begun := time.Now()
				res, err := client.Get("http://" + s.address + "/api/runs?limit=10")
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				mu.Lock()
				if err != nil {
					failed = err
				}
				all = append(all, time.Since(begun))
				mu.Unlock()
				time.Sleep(2 * time.Millisecond) // clients that the machine has time for
			}
		})
	}
	asking.Wait()
	slices.Sort(all)
	at := func(q float64) float64 { return all[int(q*float64(len(all)-1))].Seconds() * 1e3 }
	return waits{at(.5), at(.99)}, failed
}
