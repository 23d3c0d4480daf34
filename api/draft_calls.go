package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/flow/draft"
)

// DraftQuery picks drafts. The zero value takes all.
type DraftQuery struct {
	State    draft.State
	Workflow string
	Cursor   string
	Limit    int // 0: 50; at most 500
}

// Generate lets a model write a flow from words, and returns the draft when it is written or the wait is over: then its
// State is draft.Writing. wait 0: the server's, 2 minutes. With [WithIdempotencyKey] it may be repeated.
func (c *Client) Generate(ctx context.Context, q GenerateRequest, wait time.Duration) (Generated, error) {
	return call[Generated](ctx, c, http.MethodPost, "/api/workflows/generate", waiting(wait), q)
}

// GenerateChange lets a model change a flow as words say. See [Client.Generate].
func (c *Client) GenerateChange(ctx context.Context, workflow string, q GenerateRequest, wait time.Duration) (Generated, error) {
	return call[Generated](ctx, c, http.MethodPost, workflowPath(workflow)+"/generate", waiting(wait), q)
}

// Propose keeps a flow, JSON or YAML, as a draft for somebody's approval. A *[Problem] with Errors: it could not be deployed.
func (c *Client) Propose(ctx context.Context, flow []byte, comment string) (DraftView, error) {
	query := url.Values{}
	if comment != "" {
		query.Set("comment", comment)
	}
	return call[DraftView](ctx, c, http.MethodPost, "/api/drafts", query, document(flow))
}

// Drafts returns a page of drafts, newest first.
func (c *Client) Drafts(ctx context.Context, q DraftQuery) (DraftPage, error) {
	query := paged(q.Cursor, q.Limit)
	if q.State != "" {
		query.Set("state", string(q.State))
	}
	if q.Workflow != "" {
		query.Set("workflow", q.Workflow)
	}
	return call[DraftPage](ctx, c, http.MethodGet, "/api/drafts", query, nil)
}

// Draft returns a draft with its text, explained, drawn and compared.
func (c *Client) Draft(ctx context.Context, id string) (DraftView, error) {
	return call[DraftView](ctx, c, http.MethodGet, DraftPath(id), nil, nil)
}

// ApproveDraft deploys a draft as it was shown. [pawl.ErrConflict]: it, or what it would change, is not what it was.
func (c *Client) ApproveDraft(ctx context.Context, id string, q ApproveDraftRequest) (ApprovedDraft, error) {
	return call[ApprovedDraft](ctx, c, http.MethodPost, DraftPath(id)+"/approve", nil, q)
}

// RejectDraft rejects a draft.
func (c *Client) RejectDraft(ctx context.Context, id string, q RejectDraftRequest) (draft.Draft, error) {
	return call[draft.Draft](ctx, c, http.MethodPost, DraftPath(id)+"/reject", nil, q)
}

// DeleteDraft withdraws a draft on which nobody has decided.
func (c *Client) DeleteDraft(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, DraftPath(id), nil, nil)
	return err
}

// Explain says in words what a flow does. version 0: the active one, or else the highest.
func (c *Client) Explain(ctx context.Context, workflow string, version int) (flow.Explanation, error) {
	return call[flow.Explanation](ctx, c, http.MethodGet, workflowPath(workflow)+"/explain", atVersion(version), nil)
}

// ExportWorkflow returns the document of a flow with the number of its version. version 0: the active one, or else the highest.
func (c *Client) ExportWorkflow(ctx context.Context, workflow string, version int) (json.RawMessage, error) {
	return call[json.RawMessage](ctx, c, http.MethodGet, workflowPath(workflow)+"/export", atVersion(version), nil)
}
