// Package flowtest tests flows without a server, a network and Go code: [Run] takes a flow through cases, which say what
// models answer, services return and people decide, and what the run must do then. "pawl test" is this as a command.
//
// A case runs the interpreter and the engine that run flows in production, on a store of its own in memory. What a run reaches outside
// is replaced: models, services, secrets, prompts of the registry, children, people and those who send events. Parameters of
// services are held against their schemas. To be quick and to do the same each time, the document is changed in this: retries
// wait a millisecond, a delay takes one, a wait that times out in the case does so at once, and the items of a map go one by one.
package flowtest
