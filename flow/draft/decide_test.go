package draft_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/flow/draft"
)

// A person proposes, another approves.
func TestAPersonProposes(t *testing.T) {
	eachStore(t, func(t *testing.T, store pawl.Store) {
		h := open(t, store, nil)
		yaml := "id: hi # a greeting\nsteps:\n- {id: say, type: service, config: {service: desk, to: '#all'}, next: end}\n"
		d, err := h.drafts.Propose(t.Context(), draft.Proposal{Document: []byte(yaml), By: "ann", Comment: "a greeting"})
		if err != nil {
			t.Fatal(err)
		}
		v := h.gets(t, "", d.ID)
		if v.State != draft.Open || v.Change || v.Text != yaml || v.Model != "" || v.Words != "a greeting" || !strings.HasPrefix(string(v.Workflow), `{"id":"hi"`) {
			t.Errorf("%+v", v)
		}
		if _, _, err := h.drafts.Approve(t.Context(), draft.Verdict{ID: d.ID, Digest: d.Digest, By: "bob", Inactive: true}); err != nil {
			t.Fatal(err)
		}
		if info, err := h.flows.Get(t.Context(), "", "hi"); err != nil || info.Active != 0 || info.Latest != 1 {
			t.Errorf("%+v %v", info, err)
		}
		var found flow.Problems
		if _, err := h.drafts.Propose(t.Context(), draft.Proposal{Document: []byte(`{"id": "x"}`)}); !errors.As(err, &found) {
			t.Errorf("%v", err)
		}
		if _, err := h.drafts.Propose(t.Context(), draft.Proposal{Document: make([]byte, draft.MaxText+1)}); !errors.Is(err, pawl.ErrTooLarge) {
			t.Errorf("%v", err)
		}
		for _, words := range []string{"", " \n", strings.Repeat("x", draft.MaxWords+1), "\xff"} {
			if _, err := h.drafts.Generate(t.Context(), draft.Request{Words: words}); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("%.10q: %v", words, err)
			}
		}
	})
}

// Drafts are listed newest first, in pages; they are bounded, and go.
func TestDraftsAreListedAndBounded(t *testing.T) {
	eachStore(t, func(t *testing.T, store pawl.Store) {
		h := open(t, store, func(o *draft.Options) { o.MaxOpen, o.Keep = 5, time.Hour })
		var ids []string
		propose := func(i int) error {
			d, err := h.drafts.Propose(t.Context(), draft.Proposal{Tenant: "a", Document: []byte(says(fmt.Sprint("f", i), "x"))})
			ids = append(ids, d.ID)
			return err
		}
		for i := range 5 {
			if err := propose(i); err != nil {
				t.Fatal(err)
			}
		}
		var full *draft.FullError
		if err := propose(5); !errors.As(err, &full) || full.Open != 5 || !errors.Is(err, pawl.ErrState) {
			t.Errorf("%v", err)
		}
		var got []string
		for after := ""; ; {
			page, next, err := h.drafts.List(t.Context(), "a", draft.Filter{Limit: 2, After: after})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range page {
				got = append(got, d.ID)
			}
			if after = next; next == "" {
				break
			}
		}
		if len(got) != 5 || got[0] != ids[4] || got[4] != ids[0] {
			t.Errorf("%v of %v", got, ids)
		}
		if page, _, err := h.drafts.List(t.Context(), "b", draft.Filter{}); err != nil || len(page) > 0 {
			t.Errorf("%+v %v", page, err)
		}
		if _, _, err := h.drafts.List(t.Context(), "a", draft.Filter{After: "x"}); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("%v", err)
		}
		if _, err := h.drafts.Reject(t.Context(), draft.Verdict{Tenant: "a", ID: ids[0], By: "bob", Comment: "no"}); err != nil {
			t.Fatal(err)
		}
		if err := h.drafts.Delete(t.Context(), "a", ids[0]); !errors.Is(err, pawl.ErrConflict) {
			t.Errorf("a decided one is deleted: %v", err)
		}
		if err := h.drafts.Delete(t.Context(), "a", ids[1]); err != nil {
			t.Fatal(err)
		}
		if err := propose(6); err != nil {
			t.Error(err)
		}
		page, _, err := h.drafts.List(t.Context(), "a", draft.Filter{State: draft.Rejected})
		if err != nil || len(page) != 1 || page[0].Decided.Comment != "no" {
			t.Errorf("%+v %v", page, err)
		}
		if page, _, err := h.drafts.List(t.Context(), "a", draft.Filter{WorkflowID: "f2"}); err != nil || len(page) != 1 || page[0].ID != ids[2] || page[0].Expires.Sub(page[0].Created) != time.Hour {
			t.Errorf("%+v %v", page, err)
		}
	})
}
