// Package draft keeps flows that nobody has let run yet: such as a model wrote from a person's words, and such as a person
// proposes for another's approval.
//
// A model is asked by a durable run of its own ([Workflow]), so that an answer that was paid for is never asked for again. It
// gets the format's JSON Schema and the services that there are; what it answers goes through the same checks as a deployment,
// and back to it with the problems. What comes of it is a draft, and no more: it is executed by nobody, and becomes a version
// of a flow when a person approves exactly what was shown ([Drafts.Approve]).
package draft
