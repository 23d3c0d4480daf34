// Package load is the load that every peer's program puts on its engine, the same as pawl's own, and the form in which it
// reports. It knows no engine, and never starts or judges one.
package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Steps is how many steps a run of the workload takes.
const Steps = 10

// HundredBytes stands in each step's answer, as it does in pawl's.
const HundredBytes = "a hundred bytes of text, as the short answer of a model would be, so that payloads are not nothing…"

// Answer is what each step returns.
type Answer struct {
	N    int
	Text string
}

// Report is what a peer's program prints, as one line of JSON on standard output.
type Report struct {
	Version    string `json:"version"`
	Durability string `json:"durability"` // as read from the settings in force
	InFlight   int    `json:"in_flight"`
	// Figures by name, as the constants below name them. A figure that was not measured is absent.
	Figures map[string]float64 `json:"figures"`
}

// Names of figures.
const (
	StepsPerSecond = "steps_per_second" // ten × runs, by the time from the first start to the end of the last run
	RunP50         = "run_p50_ms"       // from a run's start until its result is known
	RunP99         = "run_p99_ms"
	AlonePerStep   = "alone_ms_per_step" // a tenth of a run's median, one in flight
	EventP50       = "event_p50_ms"      // from the call that sends the event until the run's result is known
	EventP99       = "event_p99_ms"
)

// Print writes the report for the program that started this one.
func (r Report) Print() error { return json.NewEncoder(os.Stdout).Encode(r) }

// Ten runs runs of ten steps, inFlight at a time, and adds steps per second and the run's p50 and p99. one starts run i and
// returns what the run returned, which must be i + Steps.
func (r *Report) Ten(inFlight, runs int, one func(i int) (int, error)) error {
	took, wall, err := many(inFlight, runs, one)
	if err != nil {
		return err
	}
	r.InFlight = min(inFlight, runs)
	r.set(StepsPerSecond, float64(runs*Steps)/wall.Seconds())
	r.set(RunP50, ms(took[runs/2]))
	r.set(RunP99, ms(took[runs*99/100]))
	return nil
}

// Alone runs runs of ten steps one after the other and adds the time per step.
func (r *Report) Alone(runs int, one func(i int) (int, error)) error {
	took, _, err := many(1, runs, one)
	if err != nil {
		return err
	}
	r.set(AlonePerStep, ms(took[runs/2])/Steps)
	return nil
}

// Event adds the time from an event to the end of the run that waits for it. one makes a run wait, sends it the event and
// returns what passed from there until its result was known.
func (r *Report) Event(times int, one func(i int) (time.Duration, error)) error {
	var took []time.Duration
	for i := range times {
		d, err := one(i)
		if err != nil {
			return fmt.Errorf("event %d: %w", i, err)
		}
		took = append(took, d)
	}
	slices.Sort(took)
	r.set(EventP50, ms(took[times/2]))
	r.set(EventP99, ms(took[times*99/100]))
	return nil
}

func (r *Report) set(name string, v float64) {
	if r.Figures == nil {
		r.Figures = map[string]float64{}
	}
	r.Figures[name] = v
}

func many(inFlight, runs int, one func(i int) (int, error)) (took []time.Duration, wall time.Duration, err error) {
	took = make([]time.Duration, runs)
	var next atomic.Int64
	var firstErr atomic.Pointer[error]
	var wg sync.WaitGroup
	start := time.Now()
	for range min(inFlight, runs) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < runs && firstErr.Load() == nil; i = int(next.Add(1)) - 1 {
				began := time.Now()
				out, err := one(i)
				took[i] = time.Since(began)
				if err == nil && out != i+Steps {
					err = errors.New("returned " + fmt.Sprint(out))
				}
				if err != nil {
					err = fmt.Errorf("run %d: %w", i, err)
					firstErr.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	wall = time.Since(start)
	if e := firstErr.Load(); e != nil {
		return nil, 0, *e
	}
	slices.Sort(took)
	return took, wall, nil
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
