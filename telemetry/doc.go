// Package telemetry shows what engines do to those who watch over them: a [Metrics] is the
// Observer of an engine and the page that Prometheus reads.
//
//	m := telemetry.New()
//	e := pawl.New(store, &pawl.Options{Observer: m})
//	m.Watch(e)
//	handler := api.New(e, api.Options{Metrics: m, Observe: m.Served}) // GET /metrics
//
// Counters are of this process, since it was started: what a fleet did is the sum over its
// processes, which Prometheus makes. Gauges that begin with pawl_runs, pawl_queue and pawl_workers
// are of the whole store, so each process tells the same.
package telemetry
