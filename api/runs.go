package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Run is what the API tells of a run. Lists leave Result and Error out.
type Run struct {
	pawl.RunInfo
	Result json.RawMessage `json:"result,omitempty" doc:"Of a completed run; of one that went on as another (next), nothing."`
	Error  *pawl.Failure   `json:"error,omitempty" doc:"Of a failed or cancelled run."`
}

// RunPage is a page of runs, newest first.
type RunPage struct {
	Items      []pawl.RunInfo `json:"items"`
	NextCursor string         `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last."`
}

// RunQuery picks runs for [Client.Runs]. Zero fields do not restrict.
type RunQuery struct {
	Workflow string
	States   []pawl.State
	Attrs    map[string]string
	Since    time.Time // created at or after
	Until    time.Time // created before
	Parent   string    // children of the run with this id
	Prefix   string    // of the id
	Cursor   string
	Limit    int // 0 means 50; at most 500
}

// callLimit is how long the engine may take over an ordinary request.
const callLimit = 30 * time.Second

// maxWait is the longest ?wait.
const maxWait = 10 * time.Minute

// runRef names a run of the caller's tenant. There is no other way to a run: the id of
// another tenant's run is an id that does not exist.
func runRef(ctx context.Context, id string) pawl.Ref {
	return pawl.Ref{Tenant: tenantOf(ctx), ID: id}
}

// RunPath is the path of a run's resource: ids may hold any character, dots and slashes
// too, which are escaped so that nothing on the way takes them for structure.
func RunPath(id string) string { return "/api/runs/" + segment(id) }

func segment(s string) string {
	return strings.ReplaceAll(url.PathEscape(s), ".", "%2E")
}

type runOutput struct {
	Status   int
	Location string `header:"Location" doc:"The path of a run that was made."`
	Replayed string `header:"Idempotency-Replayed" doc:"true: the request was carried out before."`
	Body     Run
}

type runInput struct {
	ID   string `path:"id"`
	Wait span   `query:"wait" doc:"Answer when the run has ended, or after this, at most 10m."`
}

type listInput struct {
	Workflow string   `query:"workflow"`
	States   []string `query:"state,explode" doc:"One of these states; several are separated by commas, or given one by one."`
	Since    moment   `query:"since" doc:"Created at or after: a day in UTC or a time."`
	Until    moment   `query:"until" doc:"Created before."`
	Parent   string   `query:"parent" doc:"Only children of the run with this id."`
	Prefix   string   `query:"q" doc:"Only ids that begin so."`
	Cursor   string   `query:"cursor"`
	Limit    int      `query:"limit" default:"50" minimum:"1" maximum:"500"`
}

func (s *server) runRoutes() {
	add(s, route{id: "runs", method: http.MethodGet, path: "/api/runs", scope: RunsRead, prefix: "attr.", summary: "List runs, newest first",
		about: "attr.team=red restricts to runs whose attribute team is red."}, s.list)
	add(s, route{id: "run", method: http.MethodGet, path: "/api/runs/{id}", scope: RunsRead, also: []int{http.StatusAccepted}, summary: "Look at a run",
		about: "202: a wait was asked for, and the run has not ended."}, s.get)
	add(s, route{id: "deleteRun", method: http.MethodDelete, path: "/api/runs/{id}", scope: RunsOperate, status: http.StatusNoContent,
		summary: "Remove an ended run and all that is its own"},
		func(ctx context.Context, in *idInput) (*noOutput, error) {
			if _, err := s.engine.Get(ctx, runRef(ctx, in.ID)); err != nil { // Delete's own error would not name the run
				return nil, err
			}
			return &noOutput{}, s.engine.Delete(ctx, runRef(ctx, in.ID))
		})
	add(s, route{id: "why", method: http.MethodGet, path: "/api/runs/{id}/why", scope: RunsRead, summary: "Say what a run is waiting for"}, s.why)
}

func (s *server) get(ctx context.Context, in *runInput) (*runOutput, error) {
	if err := in.Wait.atMost(maxWait); err != nil {
		return nil, err
	}
	info, err := s.engine.Get(ctx, runRef(ctx, in.ID))
	if err != nil {
		return nil, err
	}
	return s.tell(ctx, info, in.Wait.Duration, http.StatusOK)
}

// tell answers with a run. With a wait it does so when the run has ended or the wait is
// over, whichever comes first: 200 if it has ended, else 202.
func (s *server) tell(ctx context.Context, info pawl.RunInfo, wait time.Duration, status int) (*runOutput, error) {
	if wait > 0 {
		held, release, err := s.hold(ctx) // it may last longer than an ordinary request
		if err != nil {
			return nil, err
		}
		defer release()
		limit, cancel := context.WithTimeout(held, wait)
		defer cancel()
		defer context.AfterFunc(stopping(held), cancel)()
		existed, all := info.Existed, exchangeOf(ctx).r.Context()
		ended, _, err := s.engine.Wait(limit, info.Tenant, info.ID)
		var done context.CancelFunc
		ctx, done = context.WithTimeout(all, callLimit)
		defer done()
		switch {
		case err == nil:
			info = ended
		case limit.Err() == nil:
			return nil, err
		case held.Err() != nil && all.Err() == nil:
			return nil, unauthorized(exchangeOf(ctx).w, fmt.Errorf("%w: the key is no longer valid", ErrKey))
		default:
			if info, err = s.engine.Get(ctx, pawl.Ref{Tenant: info.Tenant, ID: info.ID}); err != nil {
				return nil, err
			}
		}
		status, info.Existed = http.StatusAccepted, existed
	}
	if info.State.Terminal() {
		status = http.StatusOK
	}
	run, err := s.full(ctx, info)
	return &runOutput{Status: status, Body: run}, err
}

// full adds to a run that has ended how it ended.
func (s *server) full(ctx context.Context, info pawl.RunInfo) (Run, error) {
	run := Run{RunInfo: info}
	if !info.State.Terminal() || info.Next != "" { // Wait would follow to the next run
		return run, nil
	}
	_, end, err := s.engine.Wait(ctx, info.Tenant, info.ID)
	switch {
	case err != nil || end == nil:
		return run, err
	case end.Failed:
		run.Error = end.Failure()
	case info.State == pawl.Completed:
		run.Result = end.Data
	}
	return run, nil
}

func (s *server) list(ctx context.Context, in *listInput) (*output[RunPage], error) {
	f := pawl.Filter{Tenant: tenantOf(ctx), Workflow: in.Workflow, Query: in.Prefix, After: in.Since.Time, Before: in.Until.Time, Limit: in.Limit + 1} // one more, to know whether there is a next page
	if in.Parent != "" {
		parent, err := s.engine.Get(ctx, runRef(ctx, in.Parent))
		if err != nil {
			return nil, err
		}
		f.Parent = parent.Key
	}
	var err error
	if f.States, err = statesOf(in.States); err != nil {
		return nil, err
	}
	if f.Attrs, err = attributes(exchangeOf(ctx).r.URL.Query()); err != nil {
		return nil, err
	}
	if f.Cursor, err = readNumber("before:", in.Cursor); err != nil {
		return nil, err
	}
	runs, err := s.engine.List(ctx, f)
	if err != nil {
		return nil, err
	}
	page := RunPage{Items: append([]pawl.RunInfo{}, runs...)}
	if len(runs) == f.Limit {
		page.Items = page.Items[:in.Limit]
		page.NextCursor = mark("before:", strconv.FormatInt(page.Items[in.Limit-1].Key, 10))
	}
	return &output[RunPage]{page}, nil
}

// attributes reads attr.name=value of a query.
func attributes(query url.Values) (map[string]string, error) {
	var attrs map[string]string
	for name, values := range query {
		if attr, ok := strings.CutPrefix(name, "attr."); ok {
			if attr == "" || len(values) != 1 {
				return nil, badRequest("%s: an attribute is asked for once, as attr.name=value", name)
			}
			if attrs == nil {
				attrs = map[string]string{}
			}
			attrs[attr] = values[0]
		}
	}
	return attrs, nil
}

// Why says what a run is waiting for: in a sentence, and apart what it is made of.
type Why struct {
	State    pawl.State `json:"state"`
	Why      string     `json:"why" doc:"One sentence."`
	Events   []string   `json:"events,omitempty" doc:"Events that it waits for."`
	Hooks    []string   `json:"hooks,omitempty" doc:"Keys of the hooks that it waits with."`
	Budgets  []string   `json:"budgets,omitempty" doc:"Budgets that it waits for more of."`
	Children []string   `json:"children,omitempty" doc:"Children that have not ended."`
	Until    time.Time  `json:"until,omitzero" doc:"When its timer ends what it waits for."`
	Ready    bool       `json:"ready,omitempty" doc:"It waits for nothing but a worker."`
	Unread   []string   `json:"unread,omitempty" doc:"Events that were sent and that it does not wait for."`
}

type idInput struct {
	ID string `path:"id"`
}

func (s *server) why(ctx context.Context, in *idInput) (*output[Why], error) {
	r, err := s.engine.Reason(ctx, runRef(ctx, in.ID))
	return &output[Why]{Why{r.State, r.Text, r.Events, r.Hooks, r.Budgets, r.Children, r.Until, r.Ready, r.Unread}}, err
}
