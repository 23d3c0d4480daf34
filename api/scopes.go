package api

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/internal/spelling"
)

// Scope is what a key may do.
type Scope string

// The scopes.
const (
	RunsRead        Scope = "runs:read"        // look at runs, hooks, approvals, schedules, costs
	RunsStart       Scope = "runs:start"       // start runs
	RunsOperate     Scope = "runs:operate"     // cancel, pause, resume, retry, wake, fork, delete, signal, publish; budgets
	HooksSend       Scope = "hooks:send"       // send to hooks
	ApprovalsDecide Scope = "approvals:decide" // approve or refuse
	ModelsRead      Scope = "models:read"      // look at what models were asked, and at prompts
	ModelsWrite     Scope = "models:write"     // prompts, backtests, forks with another question
	SchedulesWrite  Scope = "schedules:write"  // schedules
	WorkflowsRead   Scope = "workflows:read"   // read the documents of flows, check others
	WorkflowsWrite  Scope = "workflows:write"  // deploy flows, choose the version that runs get
	DraftsWrite     Scope = "drafts:write"     // propose drafts of flows, and let a model write them, which costs; deploying them takes workflows:write
	SecretsRead     Scope = "secrets:read"     // which secrets there are, never their values
	SecretsWrite    Scope = "secrets:write"    // set and delete secrets; in the default tenant also change the keys that all are sealed with
	KeysWrite       Scope = "keys:write"       // keys of the tenant
	Admin           Scope = "admin"            // all of these, and in the default tenant what belongs to no tenant
)

// Scopes lists all scopes.
func Scopes() []Scope {
	return []Scope{RunsRead, RunsStart, RunsOperate, HooksSend, ApprovalsDecide, ModelsRead, ModelsWrite, SchedulesWrite, SecretsRead, SecretsWrite, WorkflowsRead, WorkflowsWrite, DraftsWrite, KeysWrite, Admin}
}

// Scopes of routes that no key has.
const (
	public Scope = "public" // nobody is asked for a key
	anyKey Scope = "any"    // any key will do
)

// security is how the document says what a route asks of a caller.
func (s Scope) security(with Scope) []map[string][]string {
	switch s {
	case public:
		return nil
	case anyKey:
		return []map[string][]string{{"key": {}}, {"session": {}}}
	}
	all := []string{string(s)}
	if with != "" {
		all = append(all, string(with))
	}
	return []map[string][]string{{"key": all}, {"session": all}}
}

// allows reports whether scopes let a caller use a route.
func allows(scopes []Scope, route Scope) bool {
	return route == public || route == anyKey || slices.Contains(scopes, route) || slices.Contains(scopes, Admin)
}

// checkScopes refuses names that are no scopes.
func checkScopes(scopes []Scope) error {
	for _, s := range scopes {
		if !slices.Contains(Scopes(), s) {
			p := badRequest("there is no scope %q", s)
			p.Hint = spelling.Choice(string(s), strings.Fields(strings.Trim(fmt.Sprint(Scopes()), "[]")))
			return p
		}
	}
	return nil
}
