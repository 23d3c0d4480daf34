package api

import (
	"context"
	"errors"
	"net/http"
	"time"

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
