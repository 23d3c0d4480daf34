package flow

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/trigger"
)

// Registry has the deployed flows of a store. Several processes may have one each: what one deploys, the others know
// within a second, if they [Registry.Watch].
type Registry struct {
	engine *pawl.Engine
	opt    Options
	ends   *trigger.Ends

	loaded loaded

	mu    sync.Mutex
	known map[string]bool // flows whose name the engine knows from here
}

// NewRegistry makes the registry of an engine's store. Call [Registry.Refresh] before the engine runs.
func NewRegistry(e *pawl.Engine, opt Options) *Registry {
	r := &Registry{engine: e, opt: opt, ends: trigger.NewEnds(e), known: map[string]bool{}}
	return r
}

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
