// Package openai makes OpenAI's chat completions and embeddings, and those of any
// endpoint that speaks the same protocol, an [llm.Model], [llm.Streamer] and
// [llm.Embedder].
//
// The package never retries, never reads the environment (not even for a proxy), never
// logs, and never puts a key into an error. It sets no time limit of its own: ctx does.
// It leaves the judgement of a request to the endpoint: parameters that only some models
// take are sent as they are given, and the endpoint's refusal comes back as an
// [llm.Error].
//
// The wire types and the calls are go-openai's. What its types cannot say (a temperature
// of 0, an empty tool result) is added to the request on its way out, and what they drop
// stays in [llm.Response.Raw].
package openai
