package flow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/sqlite"
)

// working is an engine at work on a file.
func working(tb testing.TB, defs ...pawl.Definition) *pawl.Engine {
	tb.Helper()
	store, err := sqlite.Open(filepath.Join(tb.TempDir(), "pawl.db"), nil)
	if err != nil {
		tb.Fatal(err)
	}
	e := pawl.New(store, nil)
	if err := e.Register(defs...); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
		_ = e.Close()
		_ = store.Close()
	})
	return e
}

// tenSteps are ten steps, each of which adds one to what the step before brought: as a flow, and as a function.
func tenSteps(tb testing.TB) (data, code pawl.Definition) {
	opt := options(tb, &desk{})
	f := parse(tb, stepsOf(10, func(i int) string {
		expression := "variables.n + 1"
		if i > 0 {
			expression = fmt.Sprintf("steps.a%d.output + 1", i-1)
		}
		return fmt.Sprintf(`{"id":"a%d","type":"transform","config":{"expression":%q},"next":%q}`, i, expression, then(i, 10))
	}), opt)
	return flow.Define(f, opt), pawl.Define("code", func(c *pawl.Context, in map[string]int) (n int, err error) {
		n = in["n"]
		for i := range 10 {
			if n, err = pawl.Step(c, fmt.Sprintf("a%d", i), func(context.Context) (int, error) { return n + 1, nil }); err != nil {
				return 0, err
			}
		}
		return n, nil
	})
}

// BenchmarkTenSteps compares a flow of ten transforms with the same ten steps in Go: so many runs at a time, and runs for each
// second.
func BenchmarkTenSteps(b *testing.B) {
	data, code := tenSteps(b)
	for _, atATime := range []int{1, 100} {
		for _, of := range []struct {
			name string
			def  pawl.Definition
			as   string
		}{{"flow", data, "h"}, {"code", code, "code"}} {
			b.Run(fmt.Sprintf("%s/%d", of.name, atATime), func(b *testing.B) {
				e := working(b, of.def)
				b.ReportAllocs()
				runs := 0
				for b.Loop() {
					var all sync.WaitGroup
					for range atATime {
						all.Go(func() {
							run, err := e.StartRun(context.Background(), of.as, json.RawMessage(`{"n":0}`))
							if err == nil {
								_, _, err = e.Wait(context.Background(), "", run.ID)
							}
							if err != nil {
								panic(err) // a benchmark that goes on would tell of it for ever
							}
						})
					}
					all.Wait()
					runs += atATime
				}
				b.ReportMetric(float64(runs)/b.Elapsed().Seconds(), "runs/s")
			})
		}
	}
}

// A map over 10,000 items, 50 at a time, takes little memory, and needs no setting.
func TestAMapOverTenThousandItemsIsSmall(t *testing.T) {
	opt := options(t, &desk{})
	f := parse(t, of(`{"id": "m", "type": "map", "config": {"over": "variables.list", "concurrency": 50, "steps": [`+
		`{"id": "look", "type": "transform", "config": {"expression": "item.n * 2"}, "next": "end"}]}, "next": "sum"}`,
		`{"id": "sum", "type": "transform", "config": {"expression": "size(steps.m.output)"}, "next": "end"}`), opt)
	var list strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&list, `,{"n":%d,"text":"the item %d of a list"}`, i, i)
	}
	e := working(t, flow.Define(f, opt))
	var most uint64
	measured := make(chan bool)
	stop := make(chan bool)
	go func() {
		defer close(measured)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	started := time.Now()
	run, err := e.StartRun(t.Context(), "f", json.RawMessage(`{"list":[`+list.String()[1:]+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	_, result, err := e.Wait(t.Context(), "", run.ID)
	close(stop)
	<-measured
	if err != nil || string(result.Data) != "10000" {
		t.Fatalf("%s %v", result.Data, err)
	}
	t.Logf("%d MiB of heap at most, %v", most>>20, time.Since(started).Round(time.Millisecond))
	if most > 150<<20 {
		t.Errorf("%d MiB of heap, the limit is 150", most>>20)
	}
}
