package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/trigger"
)

// Registry has the deployed flows of a store. Several processes may have one each: what one deploys, the others know
// within a second, if they [Registry.Watch].
type Registry struct {
	engine *pawl.Engine
	opt    Options
	ends   *trigger.Ends

	mu     sync.Mutex
	known  map[string]bool           // flows whose name the engine knows from here
	loaded map[place]pawl.Definition // versions; they don't change
}

// place names a version of a flow.
type place struct {
	tenant, id string
	version    int
}

// NewRegistry makes the registry of an engine's store. Call [Registry.Refresh] before the engine runs.
func NewRegistry(e *pawl.Engine, opt Options) *Registry {
	r := &Registry{engine: e, opt: opt, ends: trigger.NewEnds(e), known: map[string]bool{}, loaded: map[place]pawl.Definition{}}
	return r
}

// Spaces of records. The keys are tenant/flow, tenant/flow/version and tenant/flow/hash, each part escaped as in a URL.
const (
	headSpace    = "flow.flows"
	versionSpace = "flow.versions"
	hashSpace    = "flow.hashes"
	countSpace   = "flow.deployed" // one record, written with each new name
)

// Info is what there is of a flow.
type Info struct {
	ID       string    `json:"id"`
	Name     string    `json:"name,omitempty"`
	Active   int       `json:"active"`             // the version with which runs start; 0: none
	Previous int       `json:"previous,omitempty"` // that was active before: what a rollback returns to
	Latest   int       `json:"latest"`             // the highest
	Canary   *Canary   `json:"canary,omitempty"`
	Changed  time.Time `json:"changed"`
	By       string    `json:"by,omitempty"` // who changed it last
	Revision int64     `json:"revision"`     // grows with each change
}

// Canary lets a share of the starts have another version than the active one.
type Canary struct {
	Version int     `json:"version"`
	Percent float64 `json:"percent"` // above 0, up to 100
}

// Stored is one version of a flow.
type Stored struct {
	ID       string          `json:"id"`
	Version  int             `json:"version"`
	Hash     string          `json:"hash"`
	Document json.RawMessage `json:"document"`
	Deployed time.Time       `json:"deployed"`
	By       string          `json:"by,omitempty"`
}

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
	next := head
	next.ID, next.Name, next.Latest = f.ID, f.Name, max(head.Latest, number)
	if !d.Inactive && head.Active != number {
		next.Previous, next.Active, next.Canary = head.Active, number, nil
	}
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

// Activate lets new runs start with a version. Percent below 100 gives it that share of the starts, and the active version
// the others; the triggers stay those of the active version. *trigger.PathError: the path of a webhook of the version is taken. Revision, if not 0, is the one that the flow must have: pawl.ErrConflict if it has another.
func (r *Registry) Activate(ctx context.Context, tenant, id string, version int, percent float64, by string, revision int64) (Info, error) {
	if !(percent > 0 && percent <= 100) {
		return Info{}, fmt.Errorf("%w: a share of %v percent: give one above 0, up to 100", pawl.ErrInput, percent)
	}
	if _, err := r.Version(ctx, tenant, id, version); err != nil {
		return Info{}, err
	}
	return r.change(ctx, tenant, id, by, revision, func(head *Info) error {
		switch {
		case percent < 100 && head.Active == 0:
			return fmt.Errorf("%w: flow %s has no active version beside which version %d could be tried", pawl.ErrState, id, version)
		case percent < 100 && head.Active != version:
			head.Canary = &Canary{Version: version, Percent: percent}
		case head.Active != version:
			head.Previous, head.Active, head.Canary = head.Active, version, nil
		default:
			head.Canary = nil
		}
		return nil
	})
}

// Rollback ends a canary; if there is none, it activates the version that was active before.
func (r *Registry) Rollback(ctx context.Context, tenant, id, by string, revision int64) (Info, error) {
	return r.change(ctx, tenant, id, by, revision, func(head *Info) error {
		switch {
		case head.Canary != nil:
			head.Canary = nil
		case head.Previous == 0:
			return fmt.Errorf("%w: flow %s had no other active version", pawl.ErrState, id)
		default:
			head.Active, head.Previous = head.Previous, head.Active
		}
		return nil
	})
}

// Deactivate lets no run start any more, until a version is activated, and takes the flow's triggers away. Runs that are there go on.
func (r *Registry) Deactivate(ctx context.Context, tenant, id, by string, revision int64) (Info, error) {
	return r.change(ctx, tenant, id, by, revision, func(head *Info) error {
		if head.Active != 0 {
			head.Previous, head.Active, head.Canary = head.Active, 0, nil
		}
		return nil
	})
}

func (r *Registry) change(ctx context.Context, tenant, id, by string, revision int64, change func(*Info) error) (Info, error) {
	for {
		head, err := r.head(ctx, tenant, id)
		if err != nil {
			return head, err
		}
		if revision != 0 && head.Revision != revision {
			return head, fmt.Errorf("%w: flow %s has revision %d, not %d: read it again", pawl.ErrConflict, id, head.Revision, revision)
		}
		was, active := head.Revision, head.Active
		if err := change(&head); err != nil {
			return head, err
		}
		var starts []pawl.Put
		if head.Active != active {
			if starts, err = r.starts(ctx, tenant, id, head.Active); err != nil {
				return head, err
			}
		}
		head.Changed, head.By = time.Now().UTC(), by
		head, err = r.write(ctx, tenant, was, head, starts...)
		if !overtaken(err) || ctx.Err() != nil {
			return head, err
		}
	}
}

// starts are the writes that make the triggers of a version those of its flow; version 0 has none.
func (r *Registry) starts(ctx context.Context, tenant, id string, version int) ([]pawl.Put, error) {
	var f *Flow
	if version != 0 {
		var err error
		if f, err = r.read(ctx, tenant, id, version); err != nil {
			return nil, err
		}
	}
	puts, err := switchTriggers(ctx, r.engine, tenant, id, f)
	if err != nil {
		return nil, fmt.Errorf("triggers of version %d of flow %s: %w", version, id, err)
	}
	return puts, nil
}

// overtaken reports that somebody else has written what was to be written over, so that it is to be read again.
func overtaken(err error) bool {
	var conflict *pawl.RecordConflictError
	return errors.As(err, &conflict)
}

// Get tells of a flow. pawl.ErrNotFound.
func (r *Registry) Get(ctx context.Context, tenant, id string) (Info, error) {
	return r.head(ctx, tenant, id)
}

func (r *Registry) head(ctx context.Context, tenant, id string) (Info, error) {
	record, err := r.engine.Record(ctx, headSpace, key(tenant, id))
	if err != nil {
		return Info{ID: id}, fmt.Errorf("flow %s: %w", id, missing(err))
	}
	return infoOf(record)
}

// missing leaves out of the error of a record that is not there which record that is.
func missing(err error) error {
	if errors.Is(err, pawl.ErrNotFound) {
		return pawl.ErrNotFound
	}
	return err
}

func infoOf(record pawl.Record) (Info, error) {
	var head Info
	err := json.Unmarshal(record.Data, &head)
	head.Revision = record.Version
	return head, err
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

// World is what flows that are deployed here can refer to.
func (r *Registry) World() World {
	w := World{Services: r.opt.Services, Unset: r.opt.Unset, Model: r.opt.Model, Toolboxes: []string{}}
	w.Prompt, w.Provider = r.prompt, r.opt.Provider
	if r.opt.Models != nil {
		w.Price, w.Unpriced = r.opt.Models.Price, r.opt.Models.Unpriced()
	}
	w.Toolboxes = append(w.Toolboxes, sortedNames(r.opt.Toolboxes)...)
	return w
}

// promptWait bounds the look at a prompt while a document is read.
const promptWait = 10 * time.Second

// prompt returns the variables that a prompt needs.
func (r *Registry) prompt(name string, version int) (vars []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), promptWait)
	defer cancel()
	prompts := agent.Prompts{Engine: r.engine}
	versions := []int{version}
	if version == 0 {
		info, err := prompts.Get(ctx, name)
		switch {
		case err != nil:
			return nil, err
		case info.Active == nil:
			return nil, fmt.Errorf("no version of prompt %q is active", name)
		}
		versions = slices.Sorted(maps.Keys(info.Active.Weights))
	}
	for _, number := range versions {
		v, err := prompts.Version(ctx, name, number)
		if err != nil {
			return nil, err
		}
		for _, name := range v.Vars {
			if !slices.Contains(vars, name) {
				vars = append(vars, name)
			}
		}
	}
	return vars, nil
}

// Refresh tells the engine the flows of the store that it does not know yet, and finds out which runs are to tell of their ends.
func (r *Registry) Refresh(ctx context.Context) error {
	if err := r.ends.Refresh(ctx); err != nil {
		return err
	}
	for after := ""; ; {
		records, err := r.engine.Records(ctx, headSpace, "", after, 1000)
		if err != nil {
			return fmt.Errorf("read the deployed flows: %w", err)
		}
		for _, record := range records {
			head, err := infoOf(record)
			if err == nil {
				err = r.register(head.ID)
			}
			if err != nil {
				return err
			}
			after = record.Key
		}
		if len(records) < 1000 {
			return nil
		}
	}
}

// Watch refreshes whenever another process deploys a new flow, until ctx ends; every second it finds out which runs are to tell of their ends.
func (r *Registry) Watch(ctx context.Context) error {
	var seen int64
	for {
		err := r.ends.Refresh(ctx)
		var record pawl.Record
		if err == nil {
			record, err = r.engine.Record(ctx, countSpace, "names")
		}
		if err == nil && record.Version != seen {
			if err = r.Refresh(ctx); err == nil {
				seen = record.Version
			}
		}
		if err != nil && !errors.Is(err, pawl.ErrNotFound) && ctx.Err() == nil && r.opt.Logger != nil {
			r.opt.Logger.Warn("pawl: deployed flows", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// register tells the engine a flow's name.
func (r *Registry) register(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[id] {
		return nil
	}
	err := r.engine.Register(pawl.DefineVersions(id, pawl.Versions{
		Pick: func(ctx context.Context, s pawl.Starting) (string, error) { return r.pick(ctx, id, s) },
		Load: func(ctx context.Context, tenant, version string) (pawl.Definition, error) {
			return r.load(ctx, tenant, id, version)
		},
	}))
	if err != nil {
		return taken(id, err)
	}
	r.known[id] = true
	return nil
}

// taken is the error of a flow that has the name of a workflow of the program.
func taken(id string, err error) error {
	return fmt.Errorf("flow %s: %w: the program has a workflow of that name; give the flow another id", id, err)
}

// pick chooses the version of a run that starts. A flow that is another tenant's does not exist.
func (r *Registry) pick(ctx context.Context, id string, s pawl.Starting) (string, error) {
	head, err := r.head(ctx, s.Tenant, id)
	switch {
	case errors.Is(err, pawl.ErrNotFound):
		return "", fmt.Errorf("%w: %q", pawl.ErrUnknown, id)
	case err != nil:
		return "", err
	case s.Version != "":
		return s.Version, nil
	case head.Canary != nil && 100*rand.Float64() < head.Canary.Percent:
		return strconv.Itoa(head.Canary.Version), nil
	case head.Active == 0:
		return "", fmt.Errorf("%w: no version of flow %s is active: activate one, or name the version to start", pawl.ErrState, id)
	}
	return strconv.Itoa(head.Active), nil
}

// load makes a workflow of a version. It may refer to services that are no longer there: then its steps fail, and say so.
func (r *Registry) load(ctx context.Context, tenant, id, version string) (pawl.Definition, error) {
	number, err := strconv.Atoi(version)
	if err != nil || number < 1 {
		return nil, fmt.Errorf("%w: %q is no number of a version", pawl.ErrNotFound, version)
	}
	at := place{tenant, id, number}
	r.mu.Lock()
	d := r.loaded[at]
	r.mu.Unlock()
	if d != nil {
		return d, nil
	}
	stored, err := r.Version(ctx, tenant, id, number)
	if err != nil {
		return nil, err
	}
	f, err := reread(stored.Document, r.World())
	if err != nil {
		return nil, fmt.Errorf("version %d of flow %s: %w", number, id, err)
	}
	f.Version = number
	d = Define(f, r.opt)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.loaded) >= maxLoaded {
		clear(r.loaded) // runs have theirs
	}
	r.loaded[at] = d
	return d, nil
}

// maxLoaded is how many versions are remembered.
const maxLoaded = 1000

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
