package api

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/pawlrun/pawl"
)

// Health asks the server whether it is there, and of what version.
func (c *Client) Health(ctx context.Context) (Health, error) {
	return call[Health](ctx, c, http.MethodGet, "/healthz", nil, nil)
}

// Ready asks the server whether its engine and its store answer: a *[Problem] with status
// 503 says what is wrong.
func (c *Client) Ready(ctx context.Context) (Health, error) {
	return call[Health](ctx, c, http.MethodGet, "/readyz", nil, nil)
}

// Metrics returns what Prometheus reads, as text. An error that is [pawl.ErrNotFound]: the server keeps none.
func (c *Client) Metrics(ctx context.Context) (string, error) {
	res, err := c.do(ctx, http.MethodGet, "/metrics", nil, nil, http.Header{"Accept": {metricsType}})
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return "", c.lost(ctx, err)
	}
	return string(data), nil
}

// OpenAPI returns the server's OpenAPI document.
func (c *Client) OpenAPI(ctx context.Context) (json.RawMessage, error) {
	return call[json.RawMessage](ctx, c, http.MethodGet, "/openapi.json", nil, nil)
}

// Workflow looks at a workflow that the server can start.
func (c *Client) Workflow(ctx context.Context, name string) (Workflow, error) {
	return call[Workflow](ctx, c, http.MethodGet, workflowPath(name), nil, nil)
}

// Workflows returns a page of what the server can start, by name. limit 0 means 100; at most 500.
func (c *Client) Workflows(ctx context.Context, cursor string, limit int) (WorkflowPage, error) {
	return call[WorkflowPage](ctx, c, http.MethodGet, "/api/workflows", paged(cursor, limit), nil)
}

// Start starts a run and returns when it is durable, or, with a wait, when it has ended or
// the wait is over: see the state. With an ID in q it may be repeated.
func (c *Client) Start(ctx context.Context, q StartRequest, wait time.Duration) (Run, error) {
	return call[Run](ctx, c, http.MethodPost, "/api/runs", waiting(wait), q)
}

// StartWorkflow is Start with the workflow's name in the path.
func (c *Client) StartWorkflow(ctx context.Context, name string, q StartRequest, wait time.Duration) (Run, error) {
	return call[Run](ctx, c, http.MethodPost, workflowPath(name)+"/runs", waiting(wait), q)
}

// DeleteRun removes an ended run and all that is its own.
func (c *Client) DeleteRun(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, RunPath(id), nil, nil)
	return err
}

// Run returns what is known of a run, with a wait when it has ended or the wait is over.
func (c *Client) Run(ctx context.Context, id string, wait time.Duration) (Run, error) {
	return call[Run](ctx, c, http.MethodGet, RunPath(id), waiting(wait), nil)
}

func waiting(d time.Duration) url.Values {
	if d <= 0 {
		return nil
	}
	return url.Values{"wait": {d.String()}}
}

// Runs returns a page of runs, newest first.
func (c *Client) Runs(ctx context.Context, q RunQuery) (RunPage, error) {
	query := url.Values{}
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	set("workflow", q.Workflow)
	set("cursor", q.Cursor)
	if q.Limit != 0 {
		set("limit", strconv.Itoa(q.Limit))
	}
	for _, state := range q.States {
		query.Add("state", state.String())
	}
	set("parent", q.Parent)
	set("q", q.Prefix)
	setTime(query, "since", q.Since)
	setTime(query, "until", q.Until)
	for name, value := range q.Attrs {
		query.Set("attr."+name, value)
	}
	return call[RunPage](ctx, c, http.MethodGet, "/api/runs", query, nil)
}

func setTime(query url.Values, name string, at time.Time) {
	if !at.IsZero() {
		query.Set(name, at.UTC().Format(time.RFC3339Nano))
	}
}

// Costs sums what runs have cost.
func (c *Client) Costs(ctx context.Context, q CostQuery) (CostList, error) {
	query := url.Values{}
	for name, value := range map[string]string{
		"by": string(q.By), "run": q.Run, "workflow": q.Workflow, "step": q.Step, "item": q.Item, "meter": q.Meter,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if q.Family {
		query.Set("family", "true")
	}
	setTime(query, "from", q.From)
	setTime(query, "to", q.To)
	return call[CostList](ctx, c, http.MethodGet, "/api/costs", query, nil)
}

// JournalPage returns a page of a run's entries, those with Seq > after: -1 is before the first.
func (c *Client) JournalPage(ctx context.Context, id string, after int64) (EntryPage, error) {
	return call[EntryPage](ctx, c, http.MethodGet, RunPath(id)+"/journal", url.Values{"after": {strconv.FormatInt(after, 10)}}, nil)
}

// Journal returns a run's entries in order, as far as they are there.
func (c *Client) Journal(ctx context.Context, id string) iter.Seq2[pawl.Entry, error] {
	return func(yield func(pawl.Entry, error) bool) {
		for after := int64(-1); ; {
			page, err := c.JournalPage(ctx, id, after)
			if err != nil {
				yield(pawl.Entry{}, err)
				return
			}
			for _, entry := range page.Items {
				if !yield(entry, nil) {
					return
				}
			}
			if page.NextAfter == nil {
				return
			}
			after = *page.NextAfter
		}
	}
}

// Why says in one sentence what a run is waiting for.
func (c *Client) Why(ctx context.Context, id string) (Why, error) {
	return call[Why](ctx, c, http.MethodGet, RunPath(id)+"/why", nil, nil)
}

// Streams tells what streams a run has written.
func (c *Client) Streams(ctx context.Context, id string) (StreamList, error) {
	return call[StreamList](ctx, c, http.MethodGet, RunPath(id)+"/streams", nil, nil)
}

// Hooks lists a run's live hooks.
func (c *Client) Hooks(ctx context.Context, id string) (HookList, error) {
	return call[HookList](ctx, c, http.MethodGet, RunPath(id)+"/hooks", nil, nil)
}

// Cancel ends a run: see [pawl.Engine.Cancel].
func (c *Client) Cancel(ctx context.Context, id, reason string) (Run, error) {
	return c.order(ctx, id, "cancel", ReasonRequest{Reason: reason})
}

// Pause stops a run until Resume.
func (c *Client) Pause(ctx context.Context, id, reason string) (Run, error) {
	return c.order(ctx, id, "pause", ReasonRequest{Reason: reason})
}

// Resume lets a paused or blocked run go on.
func (c *Client) Resume(ctx context.Context, id string) (Run, error) {
	return c.order(ctx, id, "resume", nil)
}

// Retry lets a failed run go on from the step that made it fail: see [pawl.Engine.Retry].
func (c *Client) Retry(ctx context.Context, id string) (Run, error) {
	return c.order(ctx, id, "retry", nil)
}

// Wake ends sleeps and timed waits of a run early: see [pawl.Engine.Wake].
func (c *Client) Wake(ctx context.Context, id string, q WakeRequest) (Run, error) {
	return c.order(ctx, id, "wake", q)
}

// Fork starts a new run from the journal of another: see [pawl.Engine.Fork].
func (c *Client) Fork(ctx context.Context, id string, q ForkRequest) (Run, error) {
	return c.order(ctx, id, "fork", q)
}

func (c *Client) order(ctx context.Context, id, verb string, body any) (Run, error) {
	return call[Run](ctx, c, http.MethodPost, RunPath(id)+"/"+verb, nil, body)
}

// Signal sends an event to a run. It is durable when Signal returns. nil data is null.
func (c *Client) Signal(ctx context.Context, id, event string, data json.RawMessage) (Run, error) {
	return call[Run](ctx, c, http.MethodPost, RunPath(id)+"/signal/"+segment(event), nil, orNull(data))
}

// Publish makes an event known: to every run that waits for it, and to subscriptions, which start
// runs: see [trigger.Publish]. With [WithIdempotencyKey] the key is the event's id.
func (c *Client) Publish(ctx context.Context, event string, data json.RawMessage) (Published, error) {
	return call[Published](ctx, c, http.MethodPost, "/api/events/"+segment(event), nil, orNull(data))
}

// SendHook sends a payload to the hook with a token.
func (c *Client) SendHook(ctx context.Context, token string, data json.RawMessage) (Accepted, error) {
	return call[Accepted](ctx, c, http.MethodPost, "/api/hooks/"+segment(token), nil, orNull(data))
}

func orNull(data json.RawMessage) json.RawMessage {
	if data == nil {
		return json.RawMessage("null")
	}
	return data
}
