package api

import (
	"context"
	"net/http"
	"strconv"

	"github.com/pawlrun/pawl/flow"
)

const migrateList = "migrate:"

// MigrateRequest says which runs are to go on with which version of their flow.
type MigrateRequest struct {
	From   int      `json:"from,omitempty" minimum:"0" doc:"Only runs of this version; left out, of all others."`
	To     int      `json:"to,omitempty" minimum:"0" doc:"The version that they go on with; left out, the active one."`
	Runs   []string `json:"runs,omitempty" maxItems:"1000" doc:"Only these runs; left out, all that have not ended."`
	DryRun bool     `json:"dryRun,omitempty" doc:"Only tell which runs fit."`
	Limit  int      `json:"limit,omitempty" minimum:"0" maximum:"500" doc:"How many runs are looked at; 0 means 100."`
	Cursor string   `json:"cursor,omitempty" doc:"The nextCursor of the page before."`
}

// Migration is what came of a migration: one page of runs.
type Migration struct {
	To       int          `json:"to" doc:"The version."`
	Runs     []flow.Mover `json:"runs"`
	Fit      int          `json:"fit" doc:"How many fit the version."`
	Misfit   int          `json:"misfit" doc:"How many do not, and stay with theirs."`
	Migrated int          `json:"migrated" doc:"How many go on with the version now."`
	Next     string       `json:"nextCursor,omitempty"`
}

type migrateInput struct {
	ID   string `path:"id"`
	Body MigrateRequest
}

func (s *server) migrateRoute() {
	add(s, route{id: "migrateWorkflow", method: http.MethodPost, path: "/api/workflows/{id}/migrate", scope: WorkflowsWrite, summary: "Let runs that are under way go on with another version of their flow",
		about: "What is recorded stays. A run whose journal or variables don't fit the version keeps its own, and why is told; so does one that is at work just now: ask again. With dryRun nothing is changed."},
		func(ctx context.Context, in *migrateInput) (*output[Migration], error) {
			flows, err := s.flows()
			if err != nil {
				return nil, err
			}
			q := in.Body
			cursor, err := readNumber(migrateList, q.Cursor)
			if err != nil {
				return nil, err
			}
			done, err := flows.Migrate(ctx, flow.Migration{Tenant: tenantOf(ctx), ID: in.ID, From: q.From, To: q.To, Runs: q.Runs, DryRun: q.DryRun, Limit: q.Limit, Cursor: cursor})
			if err != nil {
				return nil, s.noFlow(in.ID, err)
			}
			out := Migration{To: done.To, Runs: done.Runs, Fit: done.Sums.Fit, Misfit: done.Sums.Misfit, Migrated: done.Sums.Migrated}
			if done.Next != 0 {
				out.Next = mark(migrateList, strconv.FormatInt(done.Next, 10))
			}
			return &output[Migration]{Body: out}, nil
		})
}

// MigrateWorkflow lets runs of a flow go on with another of its versions, or with DryRun says which fit.
func (c *Client) MigrateWorkflow(ctx context.Context, id string, q MigrateRequest) (Migration, error) {
	return call[Migration](ctx, c, http.MethodPost, workflowPath(id)+"/migrate", nil, q)
}
