package api

import (
	"context"
	"net/http"
	"time"
)

// Stats counts runs of all tenants, and workers.
type Stats struct {
	Runs        map[string]int64 `json:"runs" doc:"By state."`
	Ready       int64            `json:"ready" doc:"Runs that a worker could take now."`
	Workers     int64            `json:"workers"`
	OldestReady time.Duration    `json:"oldestReady" doc:"How long the oldest ready run has waited, in nanoseconds."`
}

func (s *server) statRoutes() {
	add(s, route{id: "stats", method: http.MethodGet, path: "/api/stats", scope: RunsRead, global: true, summary: "Count runs, of all tenants, and workers"},
		func(ctx context.Context, _ *struct{}) (*output[Stats], error) {
			found, err := s.engine.Stats(ctx)
			stats := Stats{Runs: map[string]int64{}, Ready: found.Ready, Workers: found.Workers, OldestReady: found.Oldest}
			for state, n := range found.Runs {
				stats.Runs[state.String()] = n
			}
			return &output[Stats]{stats}, err
		})
}
