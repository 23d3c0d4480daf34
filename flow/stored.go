package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/pawlrun/pawl"
)

// Spaces of records. The keys are tenant/flow, tenant/flow/version and tenant/flow/hash, each part escaped as in a URL.
const (
	headSpace    = "flow.flows"
	versionSpace = "flow.versions"
	hashSpace    = "flow.hashes"
	countSpace   = "flow.deployed" // one record, written with each new name
)

// Get tells of a flow. pawl.ErrNotFound.
func (r *Registry) Get(ctx context.Context, tenant, id string) (Info, error) {
	return r.head(ctx, tenant, id)
}

// Find is [Registry.Get] for who is about to start the flow: it tells the engine its name, which another process may have
// deployed a moment ago. pawl.ErrUnknown: the tenant has no such flow.
func (r *Registry) Find(ctx context.Context, tenant, id string) (Info, error) {
	head, err := r.head(ctx, tenant, id)
	if errors.Is(err, pawl.ErrNotFound) {
		err = fmt.Errorf("%w: %q", pawl.ErrUnknown, id)
	}
	if err != nil {
		return head, err
	}
	return head, r.register(head.ID)
}

// List lists a tenant's flows by their ids, from behind the id after on.
func (r *Registry) List(ctx context.Context, tenant, after string, limit int) ([]Info, error) {
	prefix := key(tenant, "")
	if after != "" {
		after = key(tenant, after)
	}
	records, err := r.engine.Records(ctx, headSpace, prefix, after, limit)
	var out []Info
	for _, record := range records {
		head, err := infoOf(record)
		if err != nil {
			return nil, err
		}
		out = append(out, head)
	}
	return out, err
}

func (r *Registry) head(ctx context.Context, tenant, id string) (Info, error) {
	record, err := r.engine.Record(ctx, headSpace, key(tenant, id))
	if err != nil {
		return Info{ID: id}, fmt.Errorf("flow %s: %w", id, missing(err))
	}
	return infoOf(record)
}

func infoOf(record pawl.Record) (Info, error) {
	var head Info
	err := json.Unmarshal(record.Data, &head)
	head.Revision = record.Version
	return head, err
}

// Version returns a version of a flow. pawl.ErrNotFound.
func (r *Registry) Version(ctx context.Context, tenant, id string, version int) (Stored, error) {
	record, err := r.engine.Record(ctx, versionSpace, key(tenant, id, padded(version)))
	if err != nil {
		return Stored{}, fmt.Errorf("version %d of flow %s: %w", version, id, missing(err))
	}
	var s Stored
	return s, json.Unmarshal(record.Data, &s)
}

// Versions lists the versions of a flow in their order, from behind the version after on.
func (r *Registry) Versions(ctx context.Context, tenant, id string, after, limit int) ([]Stored, error) {
	from := ""
	if after > 0 {
		from = key(tenant, id, padded(after))
	}
	records, err := r.engine.Records(ctx, versionSpace, key(tenant, id, ""), from, limit)
	var out []Stored
	for _, record := range records {
		var s Stored
		if err := json.Unmarshal(record.Data, &s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, err
}

// Inputs returns the JSON Schema of the variables of a version; nil: it takes any.
func (r *Registry) Inputs(ctx context.Context, tenant, id string, version int) (json.RawMessage, error) {
	stored, err := r.Version(ctx, tenant, id, version)
	if err != nil {
		return nil, err
	}
	root, err := readDocument(stored.Document)
	if err != nil {
		return nil, fmt.Errorf("version %d of flow %s: %w", version, id, err)
	}
	return schemaText(root.get("inputs")), nil
}

// missing leaves out of the error of a record that is not there which record that is.
func missing(err error) error {
	if errors.Is(err, pawl.ErrNotFound) {
		return pawl.ErrNotFound
	}
	return err
}

// write stores a flow's head, if it is still of the revision was.
func (r *Registry) write(ctx context.Context, tenant string, was int64, next Info, with ...pawl.Put) (Info, error) {
	next.Revision = 0 // it is the record's
	data, err := json.Marshal(next)
	if err != nil {
		return next, err
	}
	versions, err := r.engine.Write(ctx, append([]pawl.Put{{Space: headSpace, Key: key(tenant, next.ID), If: was, Data: data}}, with...)...)
	if err != nil {
		return next, fmt.Errorf("flow %s: %w", next.ID, err)
	}
	next.Revision = versions[0]
	if err := r.ends.Refresh(ctx); err != nil && r.opt.Logger != nil { // Watch tries again
		r.opt.Logger.Warn("pawl: deployed flows", "error", err)
	}
	return next, nil
}

// overtaken reports that somebody else has written what was to be written over, so that it is to be read again.
func overtaken(err error) bool {
	var conflict *pawl.RecordConflictError
	return errors.As(err, &conflict)
}

// key writes the parts of a record's key.
func key(parts ...string) string {
	out := ""
	for i, p := range parts {
		if i > 0 {
			out += "/"
		}
		out += url.PathEscape(p)
	}
	return out
}

// padded is a version so that text sorts as numbers do.
func padded(version int) string { return fmt.Sprintf("%010d", version) }
