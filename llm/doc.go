// Package llm is how pawl speaks of language models: one [Model] interface, the
// [Request] it is asked and the [Response] it gives, tools, structured output, usage and
// typed errors. Providers live in rooms of their own, such as llm/openai; scripted models
// for tests and for demos without a key live in llm/llmtest.
//
// Everything that crosses the interface can be written as JSON and read back, because it
// goes into a durable journal: a request, a response and an [Error] mean the same after a
// crash as before it.
//
// The package never calls a network, never reads the environment, and never retries. A
// failed call comes back as an [*Error] that says whether another attempt is worth it and
// how long to wait first; who runs the call decides. It knows nothing of runs and steps
// and imports the standard library only.
package llm
