package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pawlrun/pawl"
)

// Health is the answer of /healthz and /readyz.
type Health struct {
	Status  string `json:"status" doc:"ok"`
	Name    string `json:"name" doc:"pawl"`
	Version string `json:"version,omitempty"`
}

func (s *server) healthRoutes() {
	add(s, route{id: "health", method: http.MethodGet, path: "/healthz", scope: public, summary: "Say that the server is there"},
		func(context.Context, *struct{}) (*output[Health], error) { return s.healthy(), nil })
	add(s, route{id: "metrics", method: http.MethodGet, path: "/metrics", scope: RunsRead, global: true, media: metricsType, summary: "Metrics of this process and of the store, for Prometheus"}, s.metrics)
	add(s, route{id: "ready", method: http.MethodGet, path: "/readyz", scope: public, summary: "Say whether the server can work"}, s.ready)
}

func (s *server) healthy() *output[Health] {
	return &output[Health]{Health{Status: "ok", Name: "pawl", Version: s.opt.Version}}
}

// ready asks the store for something, so that one that does not answer shows.
func (s *server) ready(ctx context.Context, _ *struct{}) (*output[Health], error) {
	limit, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := s.engine.List(limit, pawl.Filter{Limit: 1})
	if err == nil && s.opt.Ready != nil {
		err = s.opt.Ready(limit)
	}
	if err == nil && stopping(ctx).Err() != nil {
		err = errors.New("the server is shutting down")
	}
	if err != nil {
		return nil, newProblem(http.StatusServiceUnavailable, codeNotReady, "not ready: %v", plain(err))
	}
	return s.healthy(), nil
}

const metricsType = "text/plain"

// metrics lets Options.Metrics answer.
func (s *server) metrics(ctx context.Context, _ *struct{}) (*liveOutput, error) {
	x := exchangeOf(ctx)
	if s.opt.Metrics == nil {
		p := newProblem(http.StatusNotFound, codeNoRoute, "this server keeps no metrics")
		p.Hint = "set api.Options.Metrics, as to a telemetry.Metrics"
		return nil, p
	}
	return &liveOutput{func(huma.Context) {
		x.live = true
		s.opt.Metrics.ServeHTTP(x.w, x.r)
	}}, nil
}
