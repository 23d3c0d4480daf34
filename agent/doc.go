// Package agent makes durable calls to language models, and durable agents of them.
//
// A call of [Ask], [Generate], [Decide] or [Embed] is one step of a run: its answer is
// recorded once, and from then on no model is asked again. Within the step a call is paced
// together with all other workers of the store, bounded by budgets, answered from a cache
// where that is allowed, tried on fallback models, and repaired where the answer is not what
// was asked for. What was asked, said, used and paid is in the journal, attempt by attempt
// ([Asked]), and in the ledger.
//
// A [Shape] is what an answer must be: text, one of some values, a number, yes or no, or JSON
// of a schema. It says so to a provider that takes a schema and, in words, to a model that
// does not, and it reads the answer back: forgiving about fences, preambles, case and
// punctuation, never guessing.
//
// A [Prompt] is a named text with variables. Its versions are kept in the engine's store,
// never change, and are activated, split between runs and rolled back by people while runs
// go on.
//
// An [Agent] is a workflow: a loop of a model and tools, each model call and each tool call a
// step. With a conversation it remembers what was said in runs before: see [Conversations].
// A [Backtest] asks the questions of past runs again, with something changed.
//
// The package is written with the exported names of pawl only. It keeps no state that a
// restart would lose: what workers share lies in records of the store. It reads neither
// environment nor files, and never fetches a schema that another one refers to.
package agent
