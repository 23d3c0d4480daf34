// Package llmtest tests what is built on llm, and what implements it, without a key and
// without a network beyond loopback.
//
//   - [Scripted] is a model that answers by rules. It asks no model, and all it says comes
//     from a script: its responses carry [ModelName] and [ProviderName], which say so, and
//     its counts are of words, not of tokens.
//   - [Server] serves a Scripted model in OpenAI's wire format, so that a test can have
//     real HTTP, count the calls and see the faults of a real provider.
//   - [Suite] checks that an implementation of llm keeps every promise of that package.
//
// The package never calls a real model. Nothing in it is fit for use as one: the
// embeddings see shared words, not meaning.
package llmtest
