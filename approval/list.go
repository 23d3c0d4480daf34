package approval

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Spaces of records. The keys of the first are hashes of tenant and id; those of the second
// begin with a hash of the tenant and sort by time, the newest first; those of the third begin
// with the hash of tenant and id.
const (
	spaceByID    = "approval"
	spaceDone    = "approval.done"
	spaceRefused = "approval.refused"
)

// record is what is kept of an approval. RunKey tells its run from a later one with its id.
type record struct {
	Approval
	RunKey int64 `json:"runKey"`
}

// Filter picks approvals of one tenant.
type Filter struct {
	Tenant   string
	State    State  // Pending, Decided or Expired; "" means Pending
	Approver string // pending ones that this one may decide and has not voted on; others that this one has voted on
	Run      string // the id of a run
	Cursor   string // the Next of the page before
	Limit    int    // 0 means 50, at most 200
}

// Page is a part of a list. There is no more when Next is "".
type Page struct {
	Items []Approval `json:"items"`
	Next  string     `json:"nextCursor,omitempty"`
}

// maxLook is how many approvals List looks at for one page: a filter that fits few of many
// gives short pages.
const maxLook = 2000

// List returns a page of approvals: pending ones in the order in which they were asked,
// others the newest first. pawl.ErrInput.
func List(ctx context.Context, e *pawl.Engine, f Filter) (Page, error) {
	f.Limit = min(cmp.Or(max(f.Limit, 0), 50), 200)
	switch f.State {
	case "", Pending:
		return listPending(ctx, e, &f)
	case Decided, Expired:
		return listDone(ctx, e, &f)
	}
	return Page{}, fmt.Errorf("%w: approvals can be listed that are %s, %s or %s, not %q", pawl.ErrInput, Pending, Decided, Expired, f.State)
}

func listPending(ctx context.Context, e *pawl.Engine, f *Filter) (Page, error) {
	page := Page{Items: []Approval{}}
	hooks := pawl.HookFilter{Tenant: f.Tenant, Kind: Kind, Limit: 100}
	if f.Run != "" {
		info, err := e.Get(ctx, pawl.Ref{Tenant: f.Tenant, ID: f.Run})
		if err != nil {
			return page, err
		}
		hooks.Run = info.Key
	}
	if f.Cursor != "" {
		var err error
		if hooks.After, err = strconv.ParseInt(f.Cursor, 10, 64); err != nil {
			return page, badCursor(f.Cursor)
		}
	}
	for range maxLook / hooks.Limit {
		all, err := e.ListHooks(ctx, hooks)
		if err != nil {
			return page, err
		}
		for _, h := range all {
			hooks.After = h.ID
			a, _, err := approvalOf(h.Run, h.Key, h.At, h.Meta)
			if err != nil { // somebody's own hook of that kind
				continue
			}
			if err := a.recall(ctx, e, h.Run.Key); err != nil {
				return page, err
			}
			now := time.Now()
			if a.State != Pending || !now.Before(a.Expires) { // its run has not come to it yet
				continue
			}
			if f.Approver != "" {
				if ok, _ := a.May(f.Approver, now); !ok || a.Voted(f.Approver) != nil {
					continue
				}
			}
			if page.Items = append(page.Items, a); len(page.Items) == f.Limit {
				page.Next = strconv.FormatInt(h.ID, 10)
				return page, nil
			}
		}
		if len(all) < hooks.Limit {
			return page, nil
		}
	}
	page.Next = strconv.FormatInt(hooks.After, 10)
	return page, nil
}

func badCursor(s string) error {
	return fmt.Errorf("%w: cursor %q is not one of this list's", pawl.ErrInput, s)
}

func listDone(ctx context.Context, e *pawl.Engine, f *Filter) (Page, error) {
	page := Page{Items: []Approval{}}
	prefix, after := tenantOf(f.Tenant)+"/", ""
	if f.Cursor != "" {
		after = prefix + f.Cursor
	}
	for range maxLook / 100 {
		all, err := e.Records(ctx, spaceDone, prefix, after, 100)
		if err != nil {
			return page, err
		}
		for _, r := range all {
			after = r.Key
			var rec record
			if err := json.Unmarshal(r.Data, &rec); err != nil {
				return page, fmt.Errorf("record %q of %s can't be read: %w", r.Key, r.Space, err)
			}
			if rec.State != f.State || f.Run != "" && rec.Run != f.Run || f.Approver != "" && !rec.votedBy(f.Approver) {
				continue
			}
			if page.Items = append(page.Items, rec.Approval); len(page.Items) == f.Limit {
				page.Next = strings.TrimPrefix(after, prefix)
				return page, nil
			}
		}
		if len(all) < 100 {
			return page, nil
		}
	}
	page.Next = strings.TrimPrefix(after, prefix)
	return page, nil
}

// votedBy reports whether somebody's vote is among those that counted.
func (a *Approval) votedBy(name string) bool {
	return a.Voted(name) != nil || a.Decision != nil && slices.ContainsFunc(a.Decision.Votes, func(v Decision) bool { return v.By == name })
}

// Get returns an approval by the tenant and the id of it. pawl.ErrNotFound: there is none, or
// it is forgotten.
func Get(ctx context.Context, e *pawl.Engine, ref pawl.Ref) (Approval, error) {
	a, _, err := find(ctx, e, ref)
	return a, err
}

// find looks for an approval where it waits, then where it is kept, then in the journal of a
// run that ended without it.
func find(ctx context.Context, e *pawl.Engine, ref pawl.Ref) (Approval, *spec, error) {
	run, hook, err := hookOf(ref.ID)
	if err != nil {
		return Approval{}, nil, err
	}
	h, err := findHook(ctx, e, pawl.Ref{Tenant: ref.Tenant, ID: run}, hook)
	if err == nil {
		a, s, err := approvalOf(h.Run, h.Key, h.At, h.Meta)
		if err != nil {
			return a, s, unknown(ref)
		}
		return a, s, a.recall(ctx, e, h.Run.Key)
	}
	if !errors.Is(err, pawl.ErrNotFound) {
		return Approval{}, nil, err
	}
	rec, err := recordOf(ctx, e, ref)
	if err == nil && rec.State != Pending {
		return rec.Approval, nil, nil
	}
	if err != nil && !errors.Is(err, pawl.ErrNotFound) {
		return Approval{}, nil, err
	}
	a, s, err := inJournal(ctx, e, ref, run, hook)
	if err == nil && a.Reason == goesOn { // or its hook was made after the first look
		if h, err := findHook(ctx, e, pawl.Ref{Tenant: ref.Tenant, ID: run}, hook); err == nil {
			return approvalOf(h.Run, h.Key, h.At, h.Meta)
		} else if !errors.Is(err, pawl.ErrNotFound) {
			return a, s, err
		}
		// or it was decided since
		if rec, err := recordOf(ctx, e, ref); err == nil && rec.State != Pending {
			return rec.Approval, nil, nil
		}
	}
	return a, s, err
}

const goesOn = "its run goes on without it"

func unknown(ref pawl.Ref) error { return fmt.Errorf("%w: approval %s", pawl.ErrNotFound, ref.ID) }

// findHook finds the live hook of a run with a key.
func findHook(ctx context.Context, e *pawl.Engine, run pawl.Ref, key string) (pawl.HookInfo, error) {
	hooks, err := e.Hooks(ctx, run)
	if err != nil {
		return pawl.HookInfo{}, err
	}
	for _, h := range hooks {
		if h.Key == key && h.Kind == Kind {
			return h, nil
		}
	}
	return pawl.HookInfo{}, fmt.Errorf("%w: hook %s of run %s", pawl.ErrNotFound, key, run.ID)
}

// inJournal finds an approval that was not decided before its run ended, or went on.
func inJournal(ctx context.Context, e *pawl.Engine, ref pawl.Ref, run, hook string) (Approval, *spec, error) {
	info, err := e.Get(ctx, pawl.Ref{Tenant: ref.Tenant, ID: run})
	if errors.Is(err, pawl.ErrNotFound) {
		err = unknown(ref)
	}
	if err != nil {
		return Approval{}, nil, err
	}
	for entry, err := range e.Journal(ctx, pawl.Ref{Tenant: ref.Tenant, ID: run}) {
		if err != nil {
			return Approval{}, nil, err
		}
		if entry.Key != hook || entry.Kind != pawl.KindHook || entry.Failed {
			continue
		}
		var h struct {
			Meta json.RawMessage `json:"meta"`
		}
		if json.Unmarshal(entry.Data, &h) != nil {
			break
		}
		a, s, err := approvalOf(info, hook, entry.At, h.Meta)
		if err != nil {
			break
		}
		a.State, a.Reason = Ended, goesOn
		if info.State.Terminal() {
			a.Reason = "its run is " + info.State.String()
		}
		return a, s, nil
	}
	return Approval{}, nil, unknown(ref)
}

// recall adds what is on record of an approval whose hook is open.
func (a *Approval) recall(ctx context.Context, e *pawl.Engine, runKey int64) error {
	rec, err := recordOf(ctx, e, pawl.Ref{Tenant: a.Tenant, ID: a.ID})
	if errors.Is(err, pawl.ErrNotFound) || err == nil && rec.RunKey != runKey {
		return nil
	}
	if err == nil {
		*a = rec.Approval
	}
	return err
}

func tenantOf(tenant string) string {
	sum := sha256.Sum256([]byte(tenant))
	return hex.EncodeToString(sum[:8])
}

func keyOf(tenant, id string) string {
	sum := sha256.Sum256([]byte(tenant + "\x00" + id))
	return hex.EncodeToString(sum[:16])
}

func recordOf(ctx context.Context, e *pawl.Engine, ref pawl.Ref) (record, error) {
	var rec record
	r, err := e.Record(ctx, spaceByID, keyOf(ref.Tenant, ref.ID))
	if err == nil {
		if err = json.Unmarshal(r.Data, &rec); err != nil {
			err = fmt.Errorf("record %q of %s can't be read: %w", r.Key, r.Space, err)
		}
	}
	return rec, err
}

// keep puts an approval on record. It may be called again with the same, and with less than
// is there.
func keep(ctx context.Context, e *pawl.Engine, a Approval, s *spec) error {
	info, err := e.Get(ctx, pawl.Ref{Tenant: a.Tenant, ID: a.Run})
	if err != nil {
		return err
	}
	data, err := json.Marshal(record{a, info.Key})
	if err != nil {
		return err
	}
	key, end := keyOf(a.Tenant, a.ID), a.Expires
	if a.Decision != nil {
		end = a.Decision.At
	}
	put := pawl.Put{Space: spaceByID, Key: key, Data: data, Until: a.Expires.Add(s.Keep)}
	if a.State != Pending {
		put.Until, put.If = end.Add(s.Keep), pawl.AnyVersion
		done := put
		done.Space, done.Key = spaceDone, fmt.Sprintf("%s/%016x-%s", tenantOf(a.Tenant), math.MaxInt64-end.UnixMicro(), key)
		_, err = e.Write(ctx, put, done)
		return err
	}
	// Votes so far: two may be kept at once, and the one with more of them is to stay.
	for {
		old, err := e.Record(ctx, spaceByID, key)
		switch {
		case errors.Is(err, pawl.ErrNotFound):
			put.If = 0
		case err != nil:
			return err
		default:
			var rec record
			if err := json.Unmarshal(old.Data, &rec); err == nil && rec.RunKey == info.Key && (rec.State != Pending || len(rec.Votes) >= len(a.Votes)) {
				return nil
			}
			put.If = old.Version
		}
		if _, err = e.Write(ctx, put); !errors.Is(err, pawl.ErrConflict) {
			return err
		}
	}
}

// refusal is an attempt of somebody to decide who may not.
type refusal struct {
	At    time.Time `json:"at"`
	By    string    `json:"by"`
	Why   string    `json:"why"`
	Via   string    `json:"via,omitempty"`
	Actor string    `json:"actor,omitempty"`
}

// maxRefusals is how many are kept of one approval.
const maxRefusals = 100

func keepRefusal(ctx context.Context, e *pawl.Engine, a *Approval, s *spec, in *Answer, why *NotAllowedError) error {
	prefix := keyOf(a.Tenant, a.ID) + "/"
	there, err := e.Records(ctx, spaceRefused, prefix, "", maxRefusals)
	if err != nil || len(there) >= maxRefusals {
		return err
	}
	r := refusal{At: time.Now().UTC(), By: in.By, Why: why.Why, Via: in.Via, Actor: in.Actor}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = e.Write(ctx, pawl.Put{Space: spaceRefused, Key: fmt.Sprintf("%s%016x-%s", prefix, r.At.UnixMicro(), rand.Text()[:8]), Data: data, Until: a.Expires.Add(s.Keep)})
	return err
}
