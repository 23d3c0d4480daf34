package draft

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
)

// View is a draft with all that is needed to decide on it. But for the text and the problems, nothing of it is stored: it is
// made of the text by our own rules, each time.
type View struct {
	Draft
	Text        string            `json:"text,omitempty"`     // what would be deployed, byte by byte; of an answer that is no JSON how it begins
	Workflow    json.RawMessage   `json:"workflow,omitempty"` // the same as JSON; none if it can't be read
	Problems    flow.Problems     `json:"problems"`           // with warnings
	Explanation *flow.Explanation `json:"explanation,omitempty"`
	Mermaid     string            `json:"mermaid,omitempty"`   // the flow drawn
	WorstCase   *flow.WorstCase   `json:"worstCase,omitempty"` // what a run of it takes at most; of one that can be deployed
	Diff        *flow.Comparison  `json:"diff,omitempty"`      // of a change: what it says otherwise than the version that it was made for
}

// Get returns a draft. pawl.ErrNotFound.
func (s *Drafts) Get(ctx context.Context, tenant, id string) (View, error) {
	d, err := s.read(ctx, tenant, id)
	if err == nil {
		d, err = s.standing(ctx, tenant, d)
	}
	if err != nil {
		return View{}, err
	}
	b, err := s.text(ctx, tenant, id)
	if err != nil {
		return View{}, err
	}
	v := View{Draft: d, Text: b.Text, Problems: b.Problems}
	if v.Problems == nil {
		v.Problems = flow.Problems{}
	}
	return v, s.complete(ctx, tenant, &v)
}

// complete explains, draws and compares.
func (s *Drafts) complete(ctx context.Context, tenant string, v *View) error {
	if v.Text == "" {
		return nil
	}
	text := []byte(v.Text)
	if e, err := flow.Explain(text, s.flows.World()); err == nil {
		v.Explanation = &e
	}
	if g, err := flow.Sketch(text); err == nil {
		v.Mermaid = g.Mermaid()
	}
	v.Workflow, _ = flow.JSON(text) // what is no flow has none
	if f, err := flow.Parse(text, s.flows.World()); err == nil {
		worst := s.flows.WorstCase(ctx, tenant, f)
		v.WorstCase = &worst
	}
	if !v.Change || v.Base == 0 {
		return nil
	}
	was, err := s.flows.Version(ctx, tenant, v.WorkflowID, v.Base)
	if errors.Is(err, pawl.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if c, err := flow.Compare(was.Document, text); err == nil {
		v.Diff = &c
	}
	return nil
}

// cut is a text of at most so many bytes, whole in its characters.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
