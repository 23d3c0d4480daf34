package api_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow/draft"
)

// From words to a flow that runs, over HTTP: a member asks, an owner approves.
func TestJ9_AMemberAsksAndAnOwnerApproves(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()})
		_, member := h.key("a", api.DraftsWrite, api.WorkflowsRead)
		_, owner := h.key("a", api.WorkflowsWrite, api.WorkflowsRead)
		_, stranger := h.key("b", api.Admin)
		ctx := t.Context()
		g, err := h.as(member).Generate(api.WithIdempotencyKey(ctx, "k1"), api.GenerateRequest{Description: "greets all who come"}, 0)
		if err != nil || g.DraftID == "" || g.DraftID != g.ID || g.State != draft.Open || g.WorkflowID != "greets" || len(g.Problems) != 0 || !strings.Contains(string(g.Workflow), `"greets"`) || g.By == "" {
			t.Fatalf("%+v %v", g, err)
		}
		if g.Explanation == nil || len(g.Explanation.Steps) != 1 || !strings.Contains(g.Mermaid, "say") || g.Digest == "" {
			t.Errorf("%+v", g)
		}
		again, err := h.as(member).Generate(api.WithIdempotencyKey(ctx, "k1"), api.GenerateRequest{Description: "greets all who come"}, 0)
		if err != nil || again.DraftID != g.DraftID || !again.Existed {
			t.Errorf("%+v %v", again, err)
		}
		// It is no flow before somebody approves, and who may propose may not.
		if _, err := h.as(owner).Workflow(ctx, "greets"); err == nil {
			t.Error("it is there")
		}
		if _, err := h.as(member).ApproveDraft(ctx, g.ID, api.ApproveDraftRequest{Digest: g.Digest}); err == nil || !strings.Contains(err.Error(), "workflows:write") {
			t.Errorf("%v", err)
		}
		for _, err := range []error{
			second(h.as(stranger).Draft(ctx, g.ID)), second(h.as(stranger).ApproveDraft(ctx, g.ID, api.ApproveDraftRequest{Digest: g.Digest})),
			second(h.as(stranger).RejectDraft(ctx, g.ID, api.RejectDraftRequest{})), h.as(stranger).DeleteDraft(ctx, g.ID),
		} {
			if !errors.Is(err, pawl.ErrNotFound) {
				t.Errorf("another tenant: %v", err)
			}
		}
		if _, err := h.as(owner).ApproveDraft(ctx, g.ID, api.ApproveDraftRequest{Digest: strings.Repeat("0", 64)}); !errors.Is(err, pawl.ErrConflict) {
			t.Errorf("%v", err)
		}
		done, err := h.as(owner).ApproveDraft(ctx, g.ID, api.ApproveDraftRequest{Digest: g.Digest, Comment: "fine"})
		if err != nil || done.Deployed.WorkflowID != "greets" || done.Deployed.Version != 1 || done.Deployed.Active != 1 || done.Draft.State != draft.Approved || done.Draft.Decided.Comment != "fine" {
			t.Fatalf("%+v %v", done, err)
		}
		// A change, with what differs; it is stale when somebody else deploys.
		c, err := h.as(member).GenerateChange(ctx, "greets", api.GenerateRequest{Description: "nobody"}, 0)
		if err != nil || !c.Change || c.Base != 1 || c.Diff == nil || len(c.Diff.Changes) != 1 || c.Diff.Changes[0].What != "step say" || c.Diff.Text == "" {
			t.Fatalf("%+v %v", c, err)
		}
		if _, err := h.as(owner).Deploy(ctx, []byte(aFlow("greets", "meanwhile")), api.DeployOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.as(owner).ApproveDraft(ctx, c.ID, api.ApproveDraftRequest{Digest: c.Digest}); !errors.Is(err, pawl.ErrConflict) || !strings.Contains(err.Error(), "version 2 is") {
			t.Errorf("%v", err)
		}
		if d, err := h.as(owner).RejectDraft(ctx, c.ID, api.RejectDraftRequest{Comment: "late"}); err != nil || d.State != draft.Rejected {
			t.Errorf("%+v %v", d, err)
		}
		if _, err := h.as(member).GenerateChange(ctx, "nobody", api.GenerateRequest{Description: "x"}, 0); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("%v", err)
		}
		// By hand, in YAML; what is wrong is told as by a deployment.
		p, err := h.as(member).Propose(ctx, []byte(yamlFlow), "a greeter")
		if err != nil || p.State != draft.Open || p.WorkflowID != "greets" || !p.Change || p.Words != "a greeter" || p.Text != yamlFlow {
			t.Errorf("%+v %v", p, err)
		}
		var problem *api.Problem
		if _, err := h.as(member).Propose(ctx, []byte(`{"id":"x"}`), ""); !errors.As(err, &problem) || len(problem.Errors) == 0 {
			t.Errorf("%v", err)
		}
		page, err := h.as(owner).Drafts(ctx, api.DraftQuery{Limit: 2})
		if err != nil || len(page.Items) != 2 || page.Items[0].ID != p.ID || page.NextCursor == "" {
			t.Fatalf("%+v %v", page, err)
		}
		if page, err = h.as(owner).Drafts(ctx, api.DraftQuery{Cursor: page.NextCursor}); err != nil || len(page.Items) != 1 || page.Items[0].ID != g.ID || page.NextCursor != "" {
			t.Errorf("%+v %v", page, err)
		}
		if err := h.as(member).DeleteDraft(ctx, p.ID); err != nil {
			t.Error(err)
		}
		if page, err := h.as(stranger).Drafts(ctx, api.DraftQuery{}); err != nil || len(page.Items) > 0 {
			t.Errorf("%+v %v", page, err)
		}
		if e, err := h.as(owner).Explain(ctx, "greets", 1); err != nil || e.ID != "greets" || len(e.Steps) != 1 {
			t.Errorf("%+v %v", e, err)
		}
		doc, err := h.as(owner).ExportWorkflow(ctx, "greets", 1)
		if err != nil || !strings.Contains(string(doc), `"version":1`) {
			t.Errorf("%s %v", doc, err)
		}
		if d, err := h.as(owner).Deploy(ctx, doc, api.DeployOptions{Inactive: true}); err != nil || !d.Existed || d.Version != 1 {
			t.Errorf("%+v %v", d, err)
		}
		if _, err := h.as(stranger).ExportWorkflow(ctx, "greets", 0); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("%v", err)
		}
	})
}

func TestWhatNoDraftIsMadeOf(t *testing.T) {
	h := open(t, api.Options{})
	for _, body := range []string{`{}`, `{"description":""}`, `{"description":" "}`, `{"description":"` + strings.Repeat("x", draft.MaxWords+1) + `"}`} {
		if r := h.send("POST", "/api/workflows/generate", body); r.status != 400 {
			t.Errorf("%.40s: %d %s", body, r.status, r.body)
		}
	}
	h.refused(404, "not_found", "POST", "/api/drafts/nobody/approve", `{"digest":"x"}`)
	h.refused(404, "not_found", "GET", "/api/drafts/nobody", "")
	h.refused(400, "bad_request", "GET", "/api/drafts?cursor=x", "")
	// Later is an answer too.
	var g api.Generated
	r := h.send("POST", "/api/workflows/generate?wait=0s", `{"description":"later"}`)
	if r.into(t, &g); r.status != 202 && r.status != 200 || g.DraftID == "" || r.header.Get("Location") != api.DraftPath(g.DraftID) {
		t.Errorf("%d %s", r.status, r.body)
	}
}
