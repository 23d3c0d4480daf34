package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/pawlrun/pawl/approval"
)

// DecisionRequest is the body of a decision.
type DecisionRequest struct {
	Approved *bool           `json:"approved"` // must be there
	By       string          `json:"by"`       // in whose name; of a person who is logged in it is theirs. The key is kept beside it
	Comment  string          `json:"comment,omitempty"`
	Form     json.RawMessage `json:"form,omitempty"`
	Shown    string          `json:"shown"` // of the approval as it was read
}

// ApprovalAnswer is an approval, with its history where that was asked for.
type ApprovalAnswer struct {
	approval.Approval
	History []approval.Event `json:"history,omitempty"`
}

// ApprovalQuery picks approvals; see [approval.Filter].
type ApprovalQuery struct {
	State    approval.State
	Approver string
	Run      string
	Cursor   string
	Limit    int
}

// ApprovalPath is the path of an approval's resource.
func ApprovalPath(id string) string { return "/api/approvals/" + segment(id) }

type approvalsInput struct {
	State    approval.State `query:"state" enum:"pending,decided,expired" doc:"Left out: pending."`
	Approver string         `query:"approver" doc:"Pending ones that this one may decide and has not; others that this one voted on."`
	Run      string         `query:"run" doc:"The id of a run."`
	Cursor   string         `query:"cursor" doc:"nextCursor of the page before."`
	Limit    int            `query:"limit" default:"50" minimum:"1" maximum:"200"`
}

type approvalInput struct {
	ID      string `path:"id"`
	History bool   `query:"history" doc:"Tell also what happened to it; of a long run that takes a while."`
}

type approvalLinkInput struct {
	ID       string `path:"id"`
	Approver string `query:"approver" required:"true" doc:"Whom the link is for: who has it decides in this name."`
}

type decideInput struct {
	ID   string `path:"id"`
	Body DecisionRequest
}

func (s *server) approvalRoutes() {
	add(s, route{id: "approvals", method: http.MethodGet, path: "/api/approvals", scope: RunsRead, summary: "List approvals",
		about: "Pending ones in the order in which they were asked, others the newest first."}, s.approvals)
	add(s, route{id: "approval", method: http.MethodGet, path: "/api/approvals/{id...}", scope: RunsRead, summary: "Show an approval"}, s.approval)
	add(s, route{id: "approvalLink", method: http.MethodGet, path: "/api/approval-links/{id...}", scope: ApprovalsDecide, summary: "Make the link at which an approver decides",
		about: "Who has it decides in the approver's name, without a key. 409: the server has no secret to sign it with."}, s.approvalLink)
	add(s, route{id: "decide", method: http.MethodPost, path: "/api/approvals/{id...}", scope: ApprovalsDecide, summary: "Approve or reject",
		about: "One decision counts. It repeats what the approval calls shown, so that it is about what was seen."}, s.decide)
	add(s, route{id: "showApprovalLink", method: http.MethodGet, path: approval.LinkPath + "{link}", scope: public, loose: true, media: htmlType,
		summary: "Show what a link asks for", about: "A page for people. It changes nothing, however often it is read."}, s.getLink)
	add(s, route{id: "decideApprovalLink", method: http.MethodPost, path: approval.LinkPath + "{link}", scope: public, loose: true, status: http.StatusSeeOther, media: htmlType,
		summary: "Decide by a link", about: "A form: decision is approve or reject; comment; f. and the name of each field of the form."}, s.postLink)
}

func (s *server) approvals(ctx context.Context, in *approvalsInput) (*output[approval.Page], error) {
	page, err := approval.List(ctx, s.engine, approval.Filter{
		Tenant: tenantOf(ctx), State: in.State, Approver: in.Approver, Run: in.Run, Cursor: in.Cursor, Limit: in.Limit,
	})
	return &output[approval.Page]{page}, err
}

func (s *server) approval(ctx context.Context, in *approvalInput) (*output[ApprovalAnswer], error) {
	ref := runRef(ctx, in.ID)
	a, err := approval.Get(ctx, s.engine, ref)
	out := ApprovalAnswer{Approval: a}
	if err == nil && in.History {
		out.History, err = approval.History(ctx, s.engine, ref)
	}
	return &output[ApprovalAnswer]{out}, err
}

// approvalLink makes a link. Who is logged in gets none that is another's, as it would be a way to
// decide in their name.
func (s *server) approvalLink(ctx context.Context, in *approvalLinkInput) (*output[approval.Link], error) {
	if c := callerOf(ctx); c.person && in.Approver != c.name && !allows(c.scopes, Admin) {
		return nil, &approval.NotAllowedError{ID: in.ID, By: c.name, Why: "a link for " + strconv.Quote(in.Approver) + " is theirs"}
	}
	a, err := approval.Get(ctx, s.engine, runRef(ctx, in.ID))
	if err != nil {
		return nil, err
	}
	url, err := approval.Links{Engine: s.engine, BaseURL: s.webhooks.base(exchangeOf(ctx).r)}.For(a, in.Approver)
	return &output[approval.Link]{approval.Link{Approver: in.Approver, URL: url}}, err
}

func (s *server) decide(ctx context.Context, in *decideInput) (*output[approval.Approval], error) {
	q := in.Body
	if q.Approved == nil {
		return nil, badRequest(`the body must say "approved": true or false`)
	}
	if c := callerOf(ctx); c.person { // nobody who is known decides in the name of another
		if q.By != "" && q.By != c.name {
			return nil, badRequest("by is %q, and you are logged in as %q: leave it out", q.By, c.name)
		}
		q.By = c.name
	}
	a, err := approval.Decide(ctx, s.engine, runRef(ctx, in.ID), approval.Answer{
		Approved: *q.Approved, By: q.By, Comment: q.Comment, Form: q.Form, Shown: q.Shown, Via: "api", Actor: callerOf(ctx).actor(),
	})
	return &output[approval.Approval]{a}, err
}

// Approvals returns a page of approvals.
func (c *Client) Approvals(ctx context.Context, q ApprovalQuery) (approval.Page, error) {
	query := url.Values{}
	for name, value := range map[string]string{"state": string(q.State), "approver": q.Approver, "run": q.Run, "cursor": q.Cursor} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if q.Limit != 0 {
		query.Set("limit", strconv.Itoa(q.Limit))
	}
	return call[approval.Page](ctx, c, http.MethodGet, "/api/approvals", query, nil)
}

// Approval returns an approval, and what happened to it if history is true.
func (c *Client) Approval(ctx context.Context, id string, history bool) (ApprovalAnswer, error) {
	query := url.Values{}
	if history {
		query.Set("history", "true")
	}
	return call[ApprovalAnswer](ctx, c, http.MethodGet, ApprovalPath(id), query, nil)
}

// ApprovalLink makes the address at which an approver decides without a key: see [approval.Links].
// It must be sent to nobody else.
func (c *Client) ApprovalLink(ctx context.Context, id, approver string) (approval.Link, error) {
	return call[approval.Link](ctx, c, http.MethodGet, "/api/approval-links/"+segment(id), url.Values{"approver": {approver}}, nil)
}

// Decide decides an approval and returns it as it then is; see [approval.Decide].
func (c *Client) Decide(ctx context.Context, id string, q DecisionRequest) (approval.Approval, error) {
	return call[approval.Approval](ctx, c, http.MethodPost, ApprovalPath(id), nil, q)
}
