// Package service is what a flow can call outside of pawl: an HTTP address, a Slack channel, a mailbox, a database, or
// what a Go program adds by implementing [Service]. It knows nothing of flows and runs: it takes parameters that fit
// a schema and gives a result, or an error that says whether another try is worth it.
package service

import (
	"context"
	"encoding/json"
)

// A Service does what its actions say. It is safe for concurrent use, and a Call of it ends soon after its context does.
type Service interface {
	// Actions tells what it can do. They don't change while a program runs; the first is the one that a flow means
	// which names none.
	Actions() []Action
	// Call carries out one action. What it returns is written as JSON into a run's journal. An error is an [*Error]
	// where it is known what went wrong; any other is tried again.
	Call(ctx context.Context, c Call) (any, error)
}

// Action is one thing that a service can do, as data: deploying checks a flow's parameters against it, people and
// models that write flows read it.
type Action struct {
	Name   string          `json:"name"`             // a letter, then letters, digits, "-" and "_"
	Doc    string          `json:"doc"`              // a sentence
	Params json.RawMessage `json:"params"`           // JSON Schema of an object; see [Fill] for what a template may put where
	Result json.RawMessage `json:"result,omitempty"` // JSON Schema of what Call returns; empty: anything
	Effect Effect          `json:"effect"`
	// Secrets are the names of those that it is given beside its parameters: who deploys a flow is warned of one that is not there.
	Secrets []string `json:"-"`
}

// Effect is what happens outside when an action is carried out twice.
type Effect string

const (
	Reads  Effect = "reads"  // nothing: it only looks
	Once   Effect = "once"   // as much as when it was carried out once: the other side knows Call.Key
	Writes Effect = "writes" // it happens twice: a step of which nobody knows whether it was carried out may repeat it
)

// Call is one action to carry out.
type Call struct {
	Action string          // a name of Actions; "" is the first
	Params json.RawMessage // an object that fits the action's schema
	// Key is the same in each attempt of one step and another for each other step: where the other side takes an idempotency key, it gets this one.
	Key string
	// DryRun does all but the effect: parameters are checked, addresses and names looked up where that has no effect,
	// and the result is a [Plan]: what would be sent, without secrets.
	DryRun bool
}

// Plan is the result of a dry run.
type Plan struct {
	Would   string `json:"would"`             // a sentence: "POST https://example.org/fix"
	Request any    `json:"request,omitempty"` // what would be sent, without secrets
}

// Fill is what a parameter does with the text of a template, under the key "x-pawl-fill" of its schema. It stands in a schema's leaf.
type Fill string

const (
	FillValue Fill = ""     // any value of the schema's type; text stands as it is
	FillURL   Fill = "url"  // an address: what a template puts in is escaped for its place, and can be no scheme and no host
	FillHTML  Fill = "html" // HTML: what a template puts in is escaped
	FillNone  Fill = "none" // no template at all, as in SQL
)

// Trusted is the key of a schema's leaf, with the value true, into which nothing may flow that a model wrote, unless the flow says allowModel: addresses, recipients, names of files and channels.
const Trusted = "x-pawl-trusted"

// Most is the key of a list in an action's Result, with the name of a parameter: it has at most as many items as that says. So a
// flow that goes over them is known to do so no oftener.
const Most = "x-pawl-most"

// Secret is the key of a schema's leaf, with the value true, that takes the name of a secret of the run's tenant: who deploys a flow is
// told if it is not there.
const Secret = "x-pawl-secret"

// Note is the key of a schema, or of a part of one, with a sentence that is told to who checks a flow that calls the action, or gives
// that parameter: what could not be checked here, and what to do about it.
const Note = "x-pawl-note"
