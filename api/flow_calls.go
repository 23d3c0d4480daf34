package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

func workflowPath(id string) string { return "/api/workflows/" + segment(id) }

// DeployOptions are how a flow is deployed. The zero value activates what it deploys.
type DeployOptions struct {
	Inactive bool // keep the version, and let runs start with the one that is active
	DryRun   bool // check all of it and deploy nothing
}

// Deploy deploys a flow, JSON or YAML. The same document again is the same version. A *[Problem] with Errors: it can't be
// deployed; [pawl.ErrConflict]: its number is taken by another document.
func (c *Client) Deploy(ctx context.Context, flow []byte, opt DeployOptions) (Deployed, error) {
	query := url.Values{}
	if opt.Inactive {
		query.Set("activate", "false")
	}
	if opt.DryRun {
		query.Set("dryRun", "true")
	}
	return call[Deployed](ctx, c, http.MethodPost, "/api/workflows", query, document(flow))
}

// Validate says all that is wrong with a flow, JSON or YAML, and deploys nothing.
func (c *Client) Validate(ctx context.Context, flow []byte) (Validation, error) {
	return call[Validation](ctx, c, http.MethodPost, "/api/workflows/validate", nil, document(flow))
}

// ValidateWorkflow holds a version of a flow against what the server has now. version 0: the active one, or else the
// highest.
func (c *Client) ValidateWorkflow(ctx context.Context, id string, version int) (Validation, error) {
	return call[Validation](ctx, c, http.MethodPost, workflowPath(id)+"/validate", atVersion(version), nil)
}

func atVersion(version int) url.Values {
	if version == 0 {
		return url.Values{}
	}
	return url.Values{"version": {strconv.Itoa(version)}}
}

// WorkflowVersions returns a page of the versions of a flow, oldest first. limit 0 means 50; at most 500.
func (c *Client) WorkflowVersions(ctx context.Context, id, cursor string, limit int) (FlowVersionPage, error) {
	return call[FlowVersionPage](ctx, c, http.MethodGet, workflowPath(id)+"/versions", paged(cursor, limit), nil)
}

// WorkflowVersion returns a version of a flow with its document.
func (c *Client) WorkflowVersion(ctx context.Context, id string, version int) (FlowVersion, error) {
	return call[FlowVersion](ctx, c, http.MethodGet, workflowPath(id)+"/versions/"+strconv.Itoa(version), nil, nil)
}

// ActivateWorkflow lets new runs have a version of a flow: with [WithIfMatch] only if the flow still has an ETag.
func (c *Client) ActivateWorkflow(ctx context.Context, id string, q ActivateFlowRequest) (Workflow, error) {
	return call[Workflow](ctx, c, http.MethodPost, workflowPath(id)+"/activate", nil, q)
}

// RollbackWorkflow ends the canary of a flow; if there is none, it activates the version that was active before.
func (c *Client) RollbackWorkflow(ctx context.Context, id string) (Workflow, error) {
	return call[Workflow](ctx, c, http.MethodPost, workflowPath(id)+"/rollback", nil, nil)
}

// DeactivateWorkflow lets no new run of a flow start, until a version is activated.
func (c *Client) DeactivateWorkflow(ctx context.Context, id string) (Workflow, error) {
	return call[Workflow](ctx, c, http.MethodPost, workflowPath(id)+"/deactivate", nil, nil)
}

// FlowSchema returns the JSON Schema of flows.
func (c *Client) FlowSchema(ctx context.Context) (json.RawMessage, error) {
	return call[json.RawMessage](ctx, c, http.MethodGet, "/api/schema/flow.json", nil, nil)
}

// Templates lists the templates of flows, by name, without their documents.
func (c *Client) Templates(ctx context.Context) (TemplateList, error) {
	return call[TemplateList](ctx, c, http.MethodGet, "/api/templates", nil, nil)
}

// Template returns a template with its documents.
func (c *Client) Template(ctx context.Context, name string) (Template, error) {
	return call[Template](ctx, c, http.MethodGet, "/api/templates/"+segment(name), nil, nil)
}

// Execute starts a run of a workflow with variables, a JSON object, and returns when it is durable, or, with a wait, when it
// has ended or the wait is over. version 0: the active one. With [WithIdempotencyKey] it may be repeated.
func (c *Client) Execute(ctx context.Context, id string, variables json.RawMessage, version int, wait time.Duration) (Execution, error) {
	query := atVersion(version)
	if wait > 0 {
		query.Set("wait", wait.String())
	}
	return call[Execution](ctx, c, http.MethodPost, workflowPath(id)+"/execute", query, orNull(variables))
}
