package telemetry

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pawlrun/pawl"
)

// Metrics counts what engines and servers of this process do. It is safe for concurrent use, and
// any number of engines may share one.
//
//	pawl_runs_started_total{workflow}             runs stored
//	pawl_runs_ended_total{workflow,state}         completed, failed, cancelled
//	pawl_run_duration_seconds{workflow}           from when a run was stored until it ended
//	pawl_run_claims_total{workflow}               how often a run was taken up, from the start or from its journal
//	pawl_step_attempts_total{workflow,outcome}    ok, failed
//	pawl_step_duration_seconds{workflow}          of one attempt
//	pawl_llm_calls_total{model}                   model calls that were paid for
//	pawl_llm_cost_usd_total{model}                what they cost; the sum over failed attempts too
//	pawl_llm_assumed_usd_total{model}             what budgets count of those whose cost is not known
//	pawl_llm_tokens_total{model,direction}        input, output, cached
//	pawl_spent_total{meter,item}                  of meters other than usd, in their units
//	pawl_http_requests_total{route,method,code}   by the route's pattern
//	pawl_http_request_duration_seconds{route}     live views excepted
//
// and, with [Metrics.Watch]:
//
//	pawl_runs{state}                              runs in the store
//	pawl_queue_depth                              runs that could be worked on and wait for a worker
//	pawl_queue_lag_seconds                        how long the oldest of them has waited
//	pawl_workers                                  workers whose lease has not ended
//	pawl_store_up                                 0: the store did not answer; the four above are missing then
//
// A name of a workflow, model or meter that comes after a thousand others is counted as "(other)".
type Metrics struct {
	registry *prometheus.Registry
	page     http.Handler
	names    names

	started, ended, claims, attempts            *prometheus.CounterVec
	calls, cost, assumed, tokens, spent, served *prometheus.CounterVec
	runSeconds, stepSeconds, webSeconds         *prometheus.HistogramVec
}

var _ pawl.Observer = (*Metrics)(nil)

// New returns metrics that are all zero, beside those of the Go runtime and of the process.
func New() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.started = m.counter("runs_started_total", "Runs stored.", "workflow")
	m.ended = m.counter("runs_ended_total", "Runs that have ended.", "workflow", "state")
	m.claims = m.counter("run_claims_total", "How often a run was taken up, from the start or from its journal.", "workflow")
	m.attempts = m.counter("step_attempts_total", "Attempts of steps that have ended.", "workflow", "outcome")
	m.calls = m.counter("llm_calls_total", "Model calls that were paid for.", "model")
	m.cost = m.counter("llm_cost_usd_total", "What model calls cost, in US dollars.", "model")
	m.assumed = m.counter("llm_assumed_usd_total", "What budgets count of model calls whose cost is not known, in US dollars.", "model")
	m.tokens = m.counter("llm_tokens_total", "Tokens of model calls.", "model", "direction")
	m.spent = m.counter("spent_total", "What steps spent of meters other than usd, in their units.", "meter", "item")
	m.served = m.counter("http_requests_total", "Requests answered.", "route", "method", "code")
	// A run may wait for a person for a week, a step for a model for minutes.
	m.runSeconds = m.histogram("run_duration_seconds", "From when a run was stored until it ended.", prometheus.ExponentialBuckets(0.01, 4, 14), "workflow")
	m.stepSeconds = m.histogram("step_duration_seconds", "How long one attempt of a step took.", prometheus.ExponentialBuckets(0.001, 4, 11), "workflow")
	m.webSeconds = m.histogram("http_request_duration_seconds", "How long answers took, live views excepted.", prometheus.DefBuckets, "route")
	m.page = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, Timeout: 20 * time.Second})
	return m
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "pawl", Name: name, Help: help}, labels)
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "pawl", Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(h)
	return h
}

// ServeHTTP answers with all metrics, in the format that the caller asks for: Prometheus' text, or OpenMetrics.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.page.ServeHTTP(w, r) }

// RunStarted implements pawl.Observer.
func (m *Metrics) RunStarted(run pawl.RunInfo) {
	m.started.WithLabelValues(m.names.of(run.Workflow)).Inc()
}

// RunClaimed implements pawl.Observer.
func (m *Metrics) RunClaimed(run pawl.RunInfo) {
	m.claims.WithLabelValues(m.names.of(run.Workflow)).Inc()
}

// RunWaits implements pawl.Observer.
func (m *Metrics) RunWaits(pawl.RunInfo) {}

// RunEnded implements pawl.Observer.
func (m *Metrics) RunEnded(run pawl.RunInfo, _ *pawl.Entry) {
	workflow := m.names.of(run.Workflow)
	m.ended.WithLabelValues(workflow, run.State.String()).Inc()
	m.runSeconds.WithLabelValues(workflow).Observe(run.Ended.Sub(run.Created).Seconds())
}

// StepEnded implements pawl.Observer.
func (m *Metrics) StepEnded(run pawl.RunInfo, _ string, _ int, took time.Duration, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	workflow := m.names.of(run.Workflow)
	m.attempts.WithLabelValues(workflow, outcome).Inc()
	m.stepSeconds.WithLabelValues(workflow).Observe(took.Seconds())
}

// microUSD are the units of the meter pawl.USD in a dollar.
const microUSD = 1e6

// StepSpent implements pawl.Observer. Of what package agent keeps with a charge it reads the tokens.
func (m *Metrics) StepSpent(_ pawl.RunInfo, c pawl.Charge) {
	item := m.names.of(c.Item)
	if c.Meter != pawl.USD {
		m.spent.WithLabelValues(m.names.of(c.Meter), item).Add(float64(c.Amount))
		return
	}
	m.calls.WithLabelValues(item).Inc()
	if c.Guess {
		m.assumed.WithLabelValues(item).Add(float64(c.Amount) / microUSD)
	} else {
		m.cost.WithLabelValues(item).Add(float64(c.Amount) / microUSD)
	}
	var detail struct {
		Usage struct{ Input, Output, Cached uint32 }
	}
	if json.Unmarshal(c.Detail, &detail) != nil { // it is of somebody else
		return
	}
	for direction, n := range map[string]uint32{"input": detail.Usage.Input, "output": detail.Usage.Output, "cached": detail.Usage.Cached} {
		if n > 0 {
			m.tokens.WithLabelValues(item, direction).Add(float64(n))
		}
	}
}

// Served counts an answered request: give it to api.Options.Observe.
func (m *Metrics) Served(route, method string, status int, took time.Duration, live bool) {
	m.served.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	if !live {
		m.webSeconds.WithLabelValues(route).Observe(took.Seconds())
	}
}
