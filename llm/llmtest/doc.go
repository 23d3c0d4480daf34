// Package llmtest tests what is built on llm, and what implements it, without a key and
// without a network beyond loopback.
//
//   - [Scripted] is a model that answers by rules. It asks no model, and all it says comes
//     from a script: its responses carry [ModelName] and [ProviderName], which say so, and
//     its counts are of words, not of tokens.
//   - [Server] serves a Scripted model in the wire formats of OpenAI and of Anthropic, so
//     that a test can have real HTTP, count the calls and see the faults of a real
//     provider. [ReadScript] reads its rules from JSON, and [Echo] is a rule for all that
//     no other answers.
//   - [Mock] is such a server that limits its rate, fails at random and keeps a bill, so
//     that a program's own account of what it spent can be checked against another's.
//     "pawl mock-llm" is this as a command.
//   - [Suite] checks that an implementation of llm keeps every promise of that package.
//
// The package never calls a real model. Nothing in it is fit for use as one: the
// embeddings see shared words, not meaning.
package llmtest
