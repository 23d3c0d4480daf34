package draft

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
)

// Proposal is a flow that a person proposes.
type Proposal struct {
	Tenant   string
	Document []byte // JSON or YAML, of at most MaxText bytes
	By       string
	Comment  string // what it is for, at most MaxWords bytes
	ID       string // of the draft; "": a new one. The same ID again is the same draft
}

// Propose keeps a flow that a person wrote as a draft. It must be one that could be deployed: [flow.Problems] otherwise.
// pawl.ErrTooLarge, pawl.ErrInput; a *FullError.
func (s *Drafts) Propose(ctx context.Context, p Proposal) (Draft, error) {
	if len(p.Document) > MaxText {
		return Draft{}, &pawl.TooLargeError{What: "the draft", Size: len(p.Document), Limit: MaxText}
	}
	if len(p.Comment) > MaxWords {
		return Draft{}, fmt.Errorf("%w: the comment has %d bytes, the limit is %d", pawl.ErrInput, len(p.Comment), MaxWords)
	}
	if p.ID != "" {
		if d, err := s.read(ctx, p.Tenant, p.ID); err == nil {
			d.Existed = true
			return d, nil
		}
	}
	found, err := s.flows.Try(ctx, flow.Deployment{Tenant: p.Tenant, Document: p.Document})
	if err != nil {
		return Draft{}, err
	}
	was, err := s.active(ctx, p.Tenant, found.ID)
	if err != nil {
		return Draft{}, err
	}
	d := Draft{ID: p.ID, State: Open, WorkflowID: found.ID, Change: was != 0, Base: was, Words: strings.TrimSpace(p.Comment), By: p.By, Digest: digestOf(string(p.Document))}
	if d.ID == "" {
		d.ID = newID()
	}
	return d, s.add(ctx, p.Tenant, &d, &body{string(p.Document), found.Warnings})
}

// active is the version of a flow that runs start with; 0: none, or there is no such flow.
func (s *Drafts) active(ctx context.Context, tenant, id string) (int, error) {
	head, err := s.flows.Get(ctx, tenant, id)
	return head.Active, ignoreGone(err)
}

// Verdict is a person's decision on a draft.
type Verdict struct {
	Tenant, ID string
	By         string
	Comment    string // at most MaxComment bytes
	// Digest is that of the draft that was looked at: another one is a *StaleError. It must be given to approve.
	Digest string
	// Inactive, of an approval, keeps the version, and lets runs start with the one that is active.
	Inactive bool
}

// StaleError reports that a draft can't be decided on, as it is not, or no longer, what was looked at. It is a pawl.ErrConflict.
type StaleError struct {
	ID  string
	Why string
}

func (e *StaleError) Error() string { return fmt.Sprintf("draft %s %s", e.ID, e.Why) }

// Is makes it a pawl.ErrConflict.
func (e *StaleError) Is(target error) bool { return target == pawl.ErrConflict }

// Approve deploys a draft: exactly the text whose digest was shown, and only if the version is still active that was when the
// draft was made. Both, and that it was approved, are decided in one transaction.
// [flow.Problems]: it can't be deployed; a *StaleError, a *flow.BaseError: something has changed since; pawl.ErrNotFound.
func (s *Drafts) Approve(ctx context.Context, v Verdict) (Draft, flow.Deployed, error) {
	d, err := s.open(ctx, v, Open)
	if err != nil {
		return d, flow.Deployed{}, err
	}
	if v.Digest == "" {
		return d, flow.Deployed{}, fmt.Errorf("%w: to approve draft %s, give the digest of what you have looked at", pawl.ErrInput, d.ID)
	}
	b, err := s.text(ctx, v.Tenant, v.ID)
	if err != nil {
		return d, flow.Deployed{}, err
	}
	if digestOf(b.Text) != v.Digest {
		return d, flow.Deployed{}, &StaleError{d.ID, "has changed since you looked at it"}
	}
	if faults := b.Problems.Faults(); len(faults) > 0 {
		return d, flow.Deployed{}, b.Problems
	}
	s.decide(&d, v, Approved)
	done, err := s.flows.Deploy(ctx, flow.Deployment{
		Tenant: v.Tenant, Document: []byte(b.Text), By: v.By, Inactive: v.Inactive, Base: &d.Base,
		With: func(version int) ([]pawl.Put, error) {
			d.Version = version
			put, err := d.put(v.Tenant)
			if err != nil {
				return nil, err
			}
			text, err := b.put(v.Tenant, &d) // which is kept as long
			return []pawl.Put{put, text}, err
		},
	})
	return d, done, err
}

// Reject decides that a draft is not deployed. The digest may be left out.
func (s *Drafts) Reject(ctx context.Context, v Verdict) (Draft, error) {
	d, err := s.open(ctx, v, Open)
	if err != nil {
		return d, err
	}
	b, err := s.text(ctx, v.Tenant, v.ID)
	if err != nil {
		return d, err
	}
	s.decide(&d, v, Rejected)
	return d, s.write(ctx, v.Tenant, d, &b)
}

// Delete deletes a draft on which nobody has decided; what a run that is writing it brings is dropped. pawl.ErrNotFound; a
// *StaleError: it was decided.
func (s *Drafts) Delete(ctx context.Context, tenant, id string) error {
	d, err := s.open(ctx, Verdict{Tenant: tenant, ID: id}, Open, Writing, Failed)
	if err != nil {
		return err
	}
	puts := gone(tenant, id)
	puts[0].If = d.revision
	_, err = s.engine.Write(ctx, puts...)
	return err
}

// open returns a draft that is in one of some states and has the digest of a verdict.
func (s *Drafts) open(ctx context.Context, v Verdict, states ...State) (Draft, error) {
	if len(v.Comment) > MaxComment {
		return Draft{}, fmt.Errorf("%w: the comment has %d bytes, the limit is %d", pawl.ErrInput, len(v.Comment), MaxComment)
	}
	d, err := s.read(ctx, v.Tenant, v.ID)
	switch {
	case err != nil:
		return d, err
	case !slices.Contains(states, d.State):
		why := "is " + string(d.State)
		if d.Decided != nil {
			why += fmt.Sprintf(" by %s at %s", d.Decided.By, d.Decided.At.Format(time.RFC3339))
		}
		return d, &StaleError{d.ID, why + ": there is nothing to decide"}
	case v.Digest != "" && v.Digest != d.Digest:
		return d, &StaleError{d.ID, "has another digest than the one that was looked at: look again"}
	}
	return d, nil
}

func (s *Drafts) decide(d *Draft, v Verdict, state State) {
	now := time.Now().UTC()
	d.State, d.Decided, d.Expires = state, &Decided{By: v.By, Comment: v.Comment, At: now}, now.Add(s.opt.Keep)
}
