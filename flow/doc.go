// Package flow runs workflows that are written as data: JSON or YAML that people who do not program can read, that
// version control can compare, and that a model can write.
//
// A document is read by [Parse], which looks at all of it and tells everything that is wrong at once, with places and
// likely spellings. [Define] makes a workflow of it. One interpreter runs all flows on the durable core: it goes from
// step to step, each step is a durable call under the step's id, and what a step brought is read by the steps behind it
// as stepResults.<id>.
//
// Texts may hold places that are filled in, {{variables.name}}; what is filled in is never read as a template again.
package flow
