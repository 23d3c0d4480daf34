package pawl

import (
	"context"
	"fmt"
)

// MisfitError reports that a run can't go on with another version of its workflow: its journal does not fit that code.
type MisfitError struct {
	Version string
	Check   Check
}

func (e *MisfitError) Error() string {
	return fmt.Sprintf("run %s does not fit version %q: %s", e.Check.Run.ID, e.Version, e.Check.Diverged)
}

// Is makes it an ErrState.
func (e *MisfitError) Is(target error) bool { return target == ErrState }

// CheckVersion is [Engine.Check] of one run against another version of its workflow. Nothing is written. ErrNotFound: there is
// no such run, or version. ErrEnded.
func (e *Engine) CheckVersion(ctx context.Context, run Ref, version string) (Check, error) {
	_, check, err := e.checkVersion(ctx, run, version)
	return check, err
}

// checkVersion returns the run as it is, beside what came of the check.
func (e *Engine) checkVersion(ctx context.Context, run Ref, version string) (RunInfo, Check, error) {
	info, err := e.Get(ctx, run)
	if err != nil {
		return info, Check{}, err
	}
	if info.State.Terminal() {
		return info, Check{Run: info}, fmt.Errorf("%w: run %s is %s", ErrEnded, info.ID, info.State)
	}
	def, err := e.definition(info.Workflow)
	if err != nil {
		return info, Check{}, err
	}
	if def.versions == nil {
		return info, Check{}, fmt.Errorf("%w: workflow %s has no versions: its runs go on with the code that there is", ErrInput, info.Workflow)
	}
	if _, err := def.load(ctx, info.Tenant, version); err != nil {
		return info, Check{}, err
	}
	as := info
	as.Version = version
	found, err := e.check(ctx, []RunInfo{as}, checking{defs: e.code(), limit: checkLimit})
	if err != nil {
		return info, Check{}, err
	}
	return info, found[0], nil
}

// Migrate lets a run go on with another version of its workflow: what is recorded stays and is not done again, what
// follows is done as the other version says. The journal is held against that version first, as by [Engine.CheckVersion]; a run that
// waits then looks anew for what it waits for. Its children keep their versions.
//
// *[MisfitError]: the journal does not fit. ErrState: the run is at work; try again when it waits, or pause it first.
// ErrConflict: it has gone on while it was checked; try again. ErrNotFound, ErrEnded; nothing was changed.
func (e *Engine) Migrate(ctx context.Context, run Ref, version string) (RunInfo, error) {
	info, check, err := e.checkVersion(ctx, run, version)
	switch {
	case err != nil:
		return info, err
	case info.Version == version:
		return info, nil
	case check.Diverged != "":
		return info, &MisfitError{version, check}
	}
	data := mustJSON(map[string]string{"from": info.Version, "to": version})
	return e.order(ctx, &Order{Verb: VerbMigrate, Tenant: run.Tenant, RunID: info.ID, Version: version, Epoch: info.Epoch, Data: data})
}
