package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/trigger"
)

// Deployment is what to deploy.
type Deployment struct {
	Tenant   string
	Document []byte // JSON or YAML
	By       string
	// Inactive keeps the version, and lets runs start with the one that is active.
	Inactive bool
	// Base, if not nil, is the version that must be active for it, 0: none. Another one is a *BaseError.
	Base *int
	// With are records that are written together with the version, or not at all; nil: none. One that is no longer of the
	// version that its Put names is a pawl.ErrConflict, and nothing is deployed.
	With func(version int) ([]pawl.Put, error)
}

// Deployed is what came of a deployment.
type Deployed struct {
	Info
	Version  int      `json:"version"`
	Existed  bool     `json:"existed"` // the version was there already
	Warnings Problems `json:"warnings,omitempty"`
	// WorstCase is what a run of it takes at most.
	WorstCase WorstCase `json:"worstCase"`
}

// VersionError reports that a version is there with another body.
type VersionError struct {
	ID      string
	Version int
	Free    int // a number that is not taken
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("version %d of flow %s is there and says something else; versions never change: number it %d, or leave the number out", e.Version, e.ID, e.Free)
}

// Is reports that it is a pawl.ErrConflict.
func (e *VersionError) Is(target error) bool { return target == pawl.ErrConflict }

// BaseError reports that another version of a flow is active than the one that a deployment was made for.
type BaseError struct {
	ID           string
	Base, Active int // 0: none
}

func (e *BaseError) Error() string {
	was, is := fmt.Sprintf("while version %d was active", e.Base), fmt.Sprintf("version %d", e.Active)
	if e.Base == 0 {
		was = "while no version was active"
	}
	if e.Active == 0 {
		is = "none"
	}
	return fmt.Sprintf("this was made for flow %s %s, and now %s is: look at what has changed, and make it again", e.ID, was, is)
}

// Is reports that it is a pawl.ErrConflict.
func (e *BaseError) Is(target error) bool { return target == pawl.ErrConflict }

// Deploy checks a document and keeps it as a version of its flow, which new runs have from then on. Runs that are there
// stay with theirs. Its triggers take the place of those that the flow had, in the same transaction; those that stay the same go on where they are. The same document again is the same version.
// [Problems]: it can't be deployed; a *VersionError: its number is taken; a *BaseError: another version is active than Base; ErrDuplicate: the program has a workflow of that name.
func (r *Registry) Deploy(ctx context.Context, d Deployment) (Deployed, error) {
	f, err := Parse(d.Document, r.WorldOf(ctx, d.Tenant))
	if err != nil {
		return Deployed{}, err
	}
	if err := r.register(f.ID); err != nil {
		return Deployed{}, err
	}
	for {
		done, err := r.deploy(ctx, d, f)
		if overtaken(err) && ctx.Err() == nil { // somebody came between: look again
			continue
		}
		if err == nil {
			done.WorstCase = r.WorstCase(ctx, d.Tenant, f)
		}
		return done, f.taken(err)
	}
}

func (r *Registry) deploy(ctx context.Context, d Deployment, f *Flow) (Deployed, error) {
	head, err := r.head(ctx, d.Tenant, f.ID)
	isNew := errors.Is(err, pawl.ErrNotFound)
	if err != nil && !isNew {
		return Deployed{}, err
	}
	if d.Base != nil && head.Active != *d.Base {
		return Deployed{}, &BaseError{ID: f.ID, Base: *d.Base, Active: head.Active}
	}
	number, existed, err := r.number(ctx, d.Tenant, f, head.Latest)
	if err != nil {
		return Deployed{}, err
	}
	done := Deployed{Version: number, Existed: existed, Warnings: f.Warnings}
	var with []pawl.Put
	if d.With != nil {
		if with, err = d.With(number); err != nil {
			return done, err
		}
	}
	was := head.Revision
	next := d.next(head, f, number)
	if next == head {
		done.Info = head
		_, err = r.engine.Write(ctx, with...)
		return done, among(with, err)
	}
	next.Changed, next.By = time.Now().UTC(), d.By
	puts := slices.Clone(with)
	if !existed {
		data, err := json.Marshal(Stored{ID: f.ID, Version: number, Hash: f.Hash, Document: f.JSON(), Deployed: next.Changed, By: d.By})
		if err != nil {
			return done, err
		}
		puts = append(puts,
			pawl.Put{Space: versionSpace, Key: key(d.Tenant, f.ID, padded(number)), Data: data},
			pawl.Put{Space: hashSpace, Key: key(d.Tenant, f.ID, f.Hash), Data: json.RawMessage(strconv.Itoa(number))})
	}
	if next.Active != head.Active {
		starts, err := switchTriggers(ctx, r.engine, d.Tenant, f.ID, f)
		if err != nil {
			return done, err
		}
		puts = append(puts, starts...)
	}
	if isNew {
		puts = append(puts, pawl.Put{Space: countSpace, Key: "names", If: pawl.AnyVersion, Data: json.RawMessage(`{}`)})
	}
	done.Info, err = r.write(ctx, d.Tenant, was, next, puts...)
	return done, among(with, err)
}

// next is what a flow is with the version that a document has.
func (d Deployment) next(head Info, f *Flow, number int) Info {
	next := head
	next.ID, next.Name, next.Latest = f.ID, f.Name, max(head.Latest, number)
	if !d.Inactive && head.Active != number {
		next.Previous, next.Active, next.Canary = head.Active, number, nil
	}
	return next
}

// Try tells what Deploy would do, and does nothing.
func (r *Registry) Try(ctx context.Context, d Deployment) (Deployed, error) {
	f, err := Parse(d.Document, r.WorldOf(ctx, d.Tenant))
	if err != nil {
		return Deployed{}, err
	}
	if _, err := r.engine.Workflow(f.ID); err == nil && !r.Is(f.ID) {
		return Deployed{}, taken(f.ID, pawl.ErrDuplicate)
	}
	head, err := r.head(ctx, d.Tenant, f.ID)
	if err != nil && !errors.Is(err, pawl.ErrNotFound) {
		return Deployed{}, err
	}
	done := Deployed{Warnings: f.Warnings, WorstCase: r.WorstCase(ctx, d.Tenant, f)}
	if done.Version, done.Existed, err = r.number(ctx, d.Tenant, f, head.Latest); err != nil {
		return Deployed{}, err
	}
	done.Info = d.next(head, f, done.Version)
	if done.Active != head.Active {
		if _, err := trigger.Replace(ctx, r.engine, d.Tenant, owner(f.ID), f.owned(d.Tenant)); err != nil {
			return Deployed{}, f.taken(err)
		}
	}
	return done, nil
}

// among words the conflict of a record that was written along as one that is not tried again: it is not the flow that has changed.
func among(with []pawl.Put, err error) error {
	var conflict *pawl.RecordConflictError
	if errors.As(err, &conflict) && slices.ContainsFunc(with, func(p pawl.Put) bool { return p.Space == conflict.Space && p.Key == conflict.Key }) {
		return fmt.Errorf("%w: %s", pawl.ErrConflict, conflict)
	}
	return err
}

// number finds the version that a document is, or will be.
func (r *Registry) number(ctx context.Context, tenant string, f *Flow, latest int) (number int, existed bool, err error) {
	if f.Version == 0 {
		record, err := r.engine.Record(ctx, hashSpace, key(tenant, f.ID, f.Hash))
		switch {
		case err == nil:
			return number, true, json.Unmarshal(record.Data, &number)
		case errors.Is(err, pawl.ErrNotFound):
			return latest + 1, false, nil
		}
		return 0, false, err
	}
	stored, err := r.Version(ctx, tenant, f.ID, f.Version)
	switch {
	case errors.Is(err, pawl.ErrNotFound):
		return f.Version, false, nil
	case err == nil && stored.Hash != f.Hash:
		err = &VersionError{ID: f.ID, Version: f.Version, Free: latest + 1}
	}
	return f.Version, true, err
}
