// Package expr evaluates small expressions that come from others: the conditions and mappings of flows and triggers. The
// language is CEL, the Common Expression Language, on values of JSON, with functions that people look for there. An expression
// can read the values that it is given and nothing else: no files, no clock, no names of Go; and what it costs is bounded
// before it is spent ([Limits]). The same values have the same result, wherever and however often it is evaluated.
//
// CEL's own parser reads the source. Checking and evaluating are of this package:
// docs/decisions/0025-expressions-have-an-evaluator-of-our-own.md says why, docs/expressions.md what the language has.
package expr
