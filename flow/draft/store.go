package draft

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Spaces of records. The keys are tenant/draft, each part escaped as in a URL.
const (
	headSpace = "flow.drafts"
	bodySpace = "flow.draft.texts"
)

func key(tenant, id string) string { return url.PathEscape(tenant) + "/" + url.PathEscape(id) }

// put writes what there is of a draft, over the revision that it has.
func (d *Draft) put(tenant string) (pawl.Put, error) {
	data, err := json.Marshal(d)
	return pawl.Put{Space: headSpace, Key: key(tenant, d.ID), If: d.revision, Data: data, Until: d.Expires}, err
}

func (b *body) put(tenant string, of *Draft) (pawl.Put, error) {
	data, err := json.Marshal(b)
	return pawl.Put{Space: bodySpace, Key: key(tenant, of.ID), If: pawl.AnyVersion, Data: data, Until: of.Expires}, err
}

// write stores a draft, with its text unless that is nil.
func (s *Drafts) write(ctx context.Context, tenant string, d Draft, text *body, more ...pawl.Put) error {
	put, err := d.put(tenant)
	if err != nil {
		return err
	}
	puts := append([]pawl.Put{put}, more...)
	if text != nil {
		if put, err = text.put(tenant, &d); err != nil {
			return err
		}
		puts = append(puts, put)
	}
	_, err = s.engine.Write(ctx, puts...)
	return err
}

// read returns a draft as it is stored. pawl.ErrNotFound.
func (s *Drafts) read(ctx context.Context, tenant, id string) (Draft, error) {
	record, err := s.engine.Record(ctx, headSpace, key(tenant, id))
	if errors.Is(err, pawl.ErrNotFound) {
		err = fmt.Errorf("draft %s: %w", id, pawl.ErrNotFound)
	}
	if err != nil {
		return Draft{}, err
	}
	return decoded(record)
}

func decoded(record pawl.Record) (d Draft, err error) {
	err = json.Unmarshal(record.Data, &d)
	d.revision = record.Version
	return d, err
}

// text returns the text of a draft; one that has none yet has an empty one.
func (s *Drafts) text(ctx context.Context, tenant, id string) (b body, err error) {
	record, err := s.engine.Record(ctx, bodySpace, key(tenant, id))
	if errors.Is(err, pawl.ErrNotFound) {
		return b, nil
	}
	if err == nil {
		err = json.Unmarshal(record.Data, &b)
	}
	return b, err
}

// all are the drafts of a tenant, newest first. There are at most maxOpen and maxDecided of them, and what came at the same time.
func (s *Drafts) all(ctx context.Context, tenant string) (out []Draft, err error) {
	for after := ""; ; {
		records, err := s.engine.Records(ctx, headSpace, key(tenant, ""), after, 1000)
		if err != nil {
			return nil, err
		}
		for _, record := range records {
			d, err := decoded(record)
			if err != nil {
				return nil, err
			}
			out, after = append(out, d), record.Key
		}
		if len(records) < 1000 {
			break
		}
	}
	slices.SortFunc(out, newest)
	return out, nil
}

func newest(x, y Draft) int { return cmp.Or(y.Created.Compare(x.Created), cmp.Compare(y.ID, x.ID)) }

// FullError reports that too many drafts of a tenant wait for a decision. It is a pawl.ErrState.
type FullError struct{ Open, Limit int }

func (e *FullError) Error() string {
	return fmt.Sprintf("%d drafts wait for a decision, the limit is %d: approve, reject or delete some", e.Open, e.Limit)
}

// Is makes it a pawl.ErrState.
func (e *FullError) Is(target error) bool { return target == pawl.ErrState }

// room makes room for another draft: old ones that were decided are deleted with what it returns. A *FullError: too many wait.
func (s *Drafts) room(ctx context.Context, tenant string) (puts []pawl.Put, err error) {
	all, err := s.all(ctx, tenant)
	if err != nil {
		return nil, err
	}
	open, decided := 0, 0
	for _, d := range all {
		if d.State == Writing || d.State == Open {
			open++
		} else if decided++; decided >= maxDecided {
			puts = append(puts, gone(tenant, d.ID)...)
		}
	}
	if open >= s.opt.MaxOpen {
		return nil, &FullError{open, s.opt.MaxOpen}
	}
	return puts, nil
}

// gone deletes a draft.
func gone(tenant, id string) []pawl.Put {
	return []pawl.Put{{Space: headSpace, Key: key(tenant, id), If: pawl.AnyVersion}, {Space: bodySpace, Key: key(tenant, id), If: pawl.AnyVersion}}
}

// Filter chooses drafts. The zero value takes all.
type Filter struct {
	State      State  // "": any
	WorkflowID string // "": any
	After      string // a mark that List has returned: what comes behind it
	Limit      int    // 0: 50; at most 500
}

// List lists drafts of a tenant, newest first, and where the next page begins; "": there is none. pawl.ErrInput: After is no mark.
func (s *Drafts) List(ctx context.Context, tenant string, f Filter) (page []Draft, next string, err error) {
	all, err := s.all(ctx, tenant)
	if err != nil {
		return nil, "", err
	}
	var from *Draft
	if f.After != "" {
		at, id, ok := strings.Cut(f.After, " ")
		created, err := time.Parse(time.RFC3339Nano, at)
		if !ok || err != nil {
			return nil, "", fmt.Errorf("%w: %q is no place in a list of drafts", pawl.ErrInput, f.After)
		}
		from = &Draft{ID: id, Created: created}
	}
	limit := min(cmp.Or(max(f.Limit, 0), 50), 500)
	page = []Draft{}
	for _, d := range all {
		if from != nil && newest(d, *from) <= 0 || f.WorkflowID != "" && d.WorkflowID != f.WorkflowID {
			continue
		}
		if d, err = s.standing(ctx, tenant, d); err != nil {
			return nil, "", err
		}
		if f.State != "" && d.State != f.State {
			continue
		}
		if len(page) == limit {
			last := page[limit-1]
			return page, last.Created.Format(time.RFC3339Nano) + " " + last.ID, nil
		}
		page = append(page, d)
	}
	return page, "", nil
}

// started is how long a run may take to be stored after its draft.
const started = time.Minute

// standing looks at the run of a draft that is being written: it may have ended otherwise than by storing the draft.
func (s *Drafts) standing(ctx context.Context, tenant string, d Draft) (Draft, error) {
	if d.State != Writing {
		return d, nil
	}
	run, err := s.engine.Get(ctx, pawl.Ref{Tenant: tenant, ID: d.ID})
	switch {
	case errors.Is(err, pawl.ErrNotFound):
		if time.Since(d.Created) > started {
			d.State, d.Error = Failed, "its run was not begun, or is gone: ask again"
		}
	case err != nil:
		return d, err
	case run.State == pawl.Completed: // a moment ago
		return s.read(ctx, tenant, d.ID)
	case run.State.Terminal():
		d.State, d.Error = Failed, cmp.Or(run.Reason, "its run was "+run.State.String())
	case run.State == pawl.Paused || run.State == pawl.Blocked:
		d.Error = fmt.Sprintf("its run is %s: %s", run.State, run.Reason)
	}
	return d, nil
}
