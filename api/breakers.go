package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
)

// BreakerPage is a page of circuit breakers, by endpoint.
type BreakerPage struct {
	Items      []agent.BreakerState `json:"items"`
	NextCursor string               `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last."`
}

// BreakerReset says which circuit to close.
type BreakerReset struct {
	Endpoint string `json:"endpoint" minLength:"1" maxLength:"1024" doc:"As the list names it."`
}

type breakersInput struct {
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
}

type resetBreakerInput struct{ Body BreakerReset }

func (s *server) breakerRoutes() {
	add(s, route{id: "breakers", method: http.MethodGet, path: "/api/breakers", scope: RunsRead, summary: "List circuit breakers that are not closed, or whose last calls failed",
		about: "Those of the services that flows of the tenant call. The default tenant sees those of all tenants, and of models."}, s.breakers)
	add(s, route{id: "resetBreaker", method: http.MethodPost, path: "/api/breakers/reset", scope: RunsOperate, status: http.StatusNoContent, summary: "Close a circuit breaker",
		about: "Calls go again: workers know of it within a second. Repeating the request is safe."}, s.resetBreaker)
}

// circuits is how the names of those circuits begin that a caller sees; "": all.
func circuits(ctx context.Context) string {
	if tenant := tenantOf(ctx); tenant != "" {
		return flow.Circuits(tenant)
	}
	return ""
}

func (s *server) breakers(ctx context.Context, in *breakersInput) (*output[BreakerPage], error) {
	after, err := readMark("breaker:", in.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := agent.BreakersAfter(ctx, s.engine, circuits(ctx), after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	page := BreakerPage{Items: append([]agent.BreakerState{}, found[:min(in.Limit, len(found))]...)}
	if len(found) > in.Limit {
		page.NextCursor = mark("breaker:", page.Items[in.Limit-1].Endpoint)
	}
	return &output[BreakerPage]{page}, nil
}

func (s *server) resetBreaker(ctx context.Context, in *resetBreakerInput) (*noOutput, error) {
	endpoint := in.Body.Endpoint
	var found []agent.BreakerState
	if strings.HasPrefix(endpoint, circuits(ctx)) {
		var err error
		if found, err = agent.BreakersAfter(ctx, s.engine, endpoint, "", 1); err != nil {
			return nil, err
		}
	}
	if len(found) == 0 || found[0].Endpoint != endpoint {
		return nil, fmt.Errorf("%w: no circuit breaker of %q is open or has failures", pawl.ErrNotFound, endpoint)
	}
	return &noOutput{}, agent.ResetBreaker(ctx, s.engine, endpoint)
}
