package pawl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Versions are the code of one workflow, of which there are several versions at a time: a run goes through its life with
// the one that it was started with, whatever is deployed meanwhile, and on whichever worker. They serve code that is data,
// as flows are. Functions of Go that change are better served by [Context.Version].
type Versions struct {
	// Pick names the version of a run that is about to be started. It is asked in the process that starts it, before
	// anything is stored; an error refuses the start. ErrUnknown: the tenant has no such workflow.
	Pick func(ctx context.Context, s Starting) (version string, err error)
	// Load returns the workflow that is a version, under the name of them all. Its options hold for its runs, and its input is
	// checked as theirs. It is asked at each start and whenever a worker begins with a run, so it should
	// remember. ErrNotFound blocks the run; with any other error it is given back, and begun again a second later.
	Load func(ctx context.Context, tenant, version string) (Definition, error)
}

// Starting is a run that is about to be started.
type Starting struct {
	Tenant  string
	ID      string // "": none was given
	Version string // that [AtVersion] asks for; "": none
	Input   json.RawMessage
}

// DefineVersions makes a workflow whose runs each keep the version they were started with. The name is as in [Define].
func DefineVersions(name string, v Versions) Definition {
	if err := checkName("workflow", name); err != nil {
		panic(err.Error())
	}
	if strings.Contains(name, "/") {
		panic(fmt.Sprintf("pawl: workflow name %q contains a slash", name))
	}
	return versioned{&definition{name: name, versions: &v}}
}

type versioned struct{ def *definition }

func (v versioned) definition() *definition { return v.def }

// AtVersion starts a run of a workflow with versions with this one, instead of the one that it would pick.
func AtVersion(version string) StartOption {
	return startOption(func(o *startOptions) { o.version = version })
}

// CheckInput refuses a start whose input a function refuses, with an ErrInput.
func CheckInput(check func(input json.RawMessage) error) Option {
	return option(func(o *options) { o.check = check })
}

// pick chooses a version for a start.
func (d *definition) pick(ctx context.Context, s Starting) (*definition, string, error) {
	if d.versions == nil {
		return d, d.opts.version, nil
	}
	version, err := d.versions.Pick(ctx, s)
	if errors.Is(err, ErrUnknown) {
		return nil, "", err
	}
	if err != nil {
		return nil, "", fmt.Errorf("version of %s: %w", d.name, err)
	}
	code, err := d.load(ctx, s.Tenant, version)
	return code, version, err
}

// load finds the code of a version.
func (d *definition) load(ctx context.Context, tenant, version string) (*definition, error) {
	if d.versions == nil {
		return d, nil
	}
	loaded, err := d.versions.Load(ctx, tenant, version)
	if err != nil {
		return nil, fmt.Errorf("version %q of %s: %w", version, d.name, err)
	}
	code := loaded.definition()
	if code.name != d.name || code.versions != nil {
		return nil, fmt.Errorf("%w: version %q of workflow %s is the workflow %s", ErrState, version, d.name, code.name)
	}
	return code, nil
}

// find makes r.def the code of the run's version, and reports whether it is there.
func (r *live) find() bool {
	code, err := r.def.load(r.ctx, r.info.Tenant, r.info.Version)
	switch {
	case err == nil:
		own := *code
		own.opts.version = r.info.Version // what goes on in its place keeps the version
		r.def = &own
		return true
	case errors.Is(err, ErrNotFound):
		r.block(err.Error() + "; deploy it again, or cancel the run")
	default:
		r.unread(err)
	}
	return false
}

// SpawnNamed is [Workflow.Spawn] of a workflow that is known by its name. ErrUnknown: it is not registered here.
func SpawnNamed(c *Context, workflow string, input json.RawMessage, opts ...StartOption) (*Child[json.RawMessage], error) {
	ch, key, err := c.spawn(workflow, func() (*definition, error) { return c.b.r.e.definition(workflow) }, input, opts)
	if err != nil {
		return nil, err
	}
	return &Child[json.RawMessage]{key: key, id: ch.ID, detached: ch.Detached}, nil
}
