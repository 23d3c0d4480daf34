package flow

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/pawlrun/pawl"
)

// Migration asks for runs of a flow to go on with another of its versions.
type Migration struct {
	Tenant string
	ID     string
	From   int      // of which version; 0: all others
	To     int      // the version; 0: the one that is active
	Runs   []string // these; nil: all that have not ended
	DryRun bool     // only tell what would come of it
	Limit  int      // how many runs are looked at; 0 means 100, at most 1000
	Cursor int64    // where the last page ended
}

// Migrated is what came of a migration.
type Migrated struct {
	To   int       `json:"to"`
	Runs []Mover   `json:"runs"`
	Next int64     `json:"next,omitempty"` // the cursor of the page that follows; 0: there is none
	Sums MoverSums `json:"sums"`
}

// Mover is a run that a migration looked at.
type Mover struct {
	Run      string   `json:"run"`
	From     int      `json:"from"`
	Fits     bool     `json:"fits"`
	Migrated bool     `json:"migrated"`
	Why      string   `json:"why,omitempty"`   // it does not fit, or was not migrated
	Drift    []string `json:"drift,omitempty"` // what is recorded and the version does not ask for
	Next     string   `json:"next,omitempty"`  // what it would do
}

// MoverSums counts the runs of a page.
type MoverSums struct {
	Fit      int `json:"fit"`
	Misfit   int `json:"misfit"`
	Migrated int `json:"migrated"`
}

// Migrate lets runs that are under way go on with another version of their flow: what is recorded stays. A run whose
// journal, or whose variables, do not fit the version stays with its own, and the answer says why; so does one that is
// at work just now. pawl.ErrNotFound: there is no such flow or version.
func (r *Registry) Migrate(ctx context.Context, m Migration) (Migrated, error) {
	if m.To == 0 {
		head, err := r.head(ctx, m.Tenant, m.ID)
		switch {
		case err != nil:
			return Migrated{}, err
		case head.Active == 0:
			return Migrated{}, fmt.Errorf("%w: no version of flow %s is active: name the version to migrate to", pawl.ErrState, m.ID)
		}
		m.To = head.Active
	}
	stored, err := r.Version(ctx, m.Tenant, m.ID, m.To)
	if err != nil {
		return Migrated{}, err
	}
	to, err := reread(stored.Document, r.World())
	if err != nil {
		return Migrated{}, err
	}
	done := Migrated{To: m.To, Runs: []Mover{}}
	runs, err := r.movers(ctx, m, &done)
	if err != nil {
		return done, err
	}
	for _, run := range runs {
		one, err := r.move(ctx, m, to, run)
		if err != nil {
			return done, err
		}
		done.Runs = append(done.Runs, one)
		switch {
		case one.Migrated:
			done.Sums.Migrated++
			done.Sums.Fit++
		case one.Fits:
			done.Sums.Fit++
		default:
			done.Sums.Misfit++
		}
	}
	return done, nil
}

// movers are the runs of one page.
func (r *Registry) movers(ctx context.Context, m Migration, done *Migrated) (out []pawl.RunInfo, err error) {
	if m.Limit <= 0 {
		m.Limit = 100
	}
	var page []pawl.RunInfo
	if m.Runs == nil {
		m.Limit = min(m.Limit, 1000)
		page, err = r.engine.List(ctx, pawl.Filter{
			Tenant: m.Tenant, Workflow: m.ID, Limit: m.Limit, Cursor: m.Cursor,
			States: []pawl.State{pawl.Pending, pawl.Running, pawl.Waiting, pawl.Paused, pawl.Blocked},
		})
		if len(page) == m.Limit {
			done.Next = page[len(page)-1].Key
		}
	}
	for _, id := range m.Runs {
		info, err := r.engine.Get(ctx, pawl.Ref{Tenant: m.Tenant, ID: id})
		switch {
		case err != nil:
			return nil, err
		case info.Workflow != m.ID:
			return nil, fmt.Errorf("%w: run %s is one of workflow %s, not of flow %s", pawl.ErrInput, id, info.Workflow, m.ID)
		}
		page = append(page, info)
	}
	for _, info := range page {
		if from, _ := strconv.Atoi(info.Version); from != m.To && (m.From == 0 || m.From == from) {
			out = append(out, info)
		}
	}
	return out, err
}

// move looks at one run, and migrates it unless that is only to be told.
func (r *Registry) move(ctx context.Context, m Migration, to *Flow, run pawl.RunInfo) (Mover, error) {
	from, _ := strconv.Atoi(run.Version)
	one, ref := Mover{Run: run.ID, From: from}, pawl.Ref{Tenant: m.Tenant, ID: run.ID}
	if to.Inputs != nil {
		for entry, err := range r.engine.Journal(ctx, ref) {
			if err == nil && entry.Kind == pawl.KindInput {
				if err := to.checkInput(entry.Data); err != nil {
					one.Why = err.Error()
					return one, nil
				}
			}
			if err != nil {
				return one, err
			}
			break // the input is the first
		}
	}
	version := strconv.Itoa(m.To)
	check, err := r.engine.CheckVersion(ctx, ref, version)
	one.Drift, one.Next, one.Why = check.Drift, check.Next, check.Diverged
	one.Fits = err == nil && one.Why == ""
	if one.Fits && !m.DryRun {
		_, err = r.engine.Migrate(ctx, ref, version)
		one.Migrated = err == nil
	}
	var misfit *pawl.MisfitError
	switch {
	case errors.As(err, &misfit):
		one.Fits, one.Why = false, misfit.Check.Diverged
	case errors.Is(err, pawl.ErrEnded), errors.Is(err, pawl.ErrState), errors.Is(err, pawl.ErrConflict):
		one.Why = err.Error()
	case err != nil:
		return one, err
	}
	return one, nil
}
