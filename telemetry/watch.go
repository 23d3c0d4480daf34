package telemetry

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pawlrun/pawl"
)

// statsKept is how long counts of the store are told again before they are made anew: several may
// read the page, and counting costs the store a walk over an index of all runs.
const statsKept = 5 * time.Second

// statsLimit is how long the store may take to count.
const statsLimit = 5 * time.Second

// Watch adds what the store of an engine holds. Call it once for each store: two engines on one
// store would tell the same twice, which is a panic, as everywhere in Prometheus' client.
func (m *Metrics) Watch(e *pawl.Engine) { m.registry.MustRegister(&watch{engine: e}) }

// watch is a collector of what Engine.Stats says.
type watch struct {
	engine *pawl.Engine

	mu    sync.Mutex // held while the store counts: who comes meanwhile waits for the same
	at    time.Time
	stats pawl.Stats
	err   error
}

var (
	runsDesc    = prometheus.NewDesc("pawl_runs", "Runs in the store.", []string{"state"}, nil)
	depthDesc   = prometheus.NewDesc("pawl_queue_depth", "Runs that could be worked on and wait for a worker.", nil, nil)
	lagDesc     = prometheus.NewDesc("pawl_queue_lag_seconds", "How long the oldest of them has waited.", nil, nil)
	workersDesc = prometheus.NewDesc("pawl_workers", "Workers whose lease has not ended.", nil, nil)
	upDesc      = prometheus.NewDesc("pawl_store_up", "Whether the store answers.", nil, nil)
)

// Describe implements prometheus.Collector.
func (w *watch) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{runsDesc, depthDesc, lagDesc, workersDesc, upDesc} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (w *watch) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	stats, err := w.look()
	if err != nil {
		gauge(upDesc, 0)
		return
	}
	gauge(upDesc, 1)
	for state := pawl.Pending; state <= pawl.Blocked; state++ { // all of them, those without runs too
		gauge(runsDesc, float64(stats.Runs[state]), state.String())
	}
	gauge(depthDesc, float64(stats.Ready))
	gauge(lagDesc, stats.Oldest.Seconds())
	gauge(workersDesc, float64(stats.Workers))
}

func (w *watch) look() (pawl.Stats, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.at) >= statsKept {
		ctx, cancel := context.WithTimeout(context.Background(), statsLimit)
		defer cancel()
		w.stats, w.err = w.engine.Stats(ctx)
		w.at = time.Now()
	}
	return w.stats, w.err
}
