// Package agent asks language models in durable steps and makes sure of what they answer.
//
// A [Shape] is what an answer must be: text, one of some values, a number, yes or no, or JSON
// of a schema. It says so to a provider that takes a schema and, in words, to a model that
// does not, and it reads the answer back: forgiving about fences, preambles, case and
// punctuation, never guessing. What does not fit is an [*AnswerError], whose Repair is the
// next thing to say to the model.
//
// A [Prompt] is a named text with variables. Its versions are kept in the engine's store,
// never change, and are activated, split between runs and rolled back by people while runs
// go on; [Rendered] tells which version a call used.
//
// The package never calls a model by itself, never fetches a schema that another one refers
// to, and reads neither environment nor files.
package agent
