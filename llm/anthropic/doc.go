// Package anthropic makes Anthropic's Messages API, and that of any endpoint that speaks
// it, an [llm.Model] and [llm.Streamer]. Anthropic has no embeddings, so a [Client] is no
// [llm.Embedder].
//
// The package never retries, never reads the environment (not ANTHROPIC_API_KEY, no
// profile in the home directory, no proxy), never logs, opens no span, and never puts a
// key into an error. It sets no time limit of its own: ctx does. It leaves the judgement
// of a request to the endpoint: parameters that only some models take are sent as they are
// given, and the endpoint's refusal comes back as an [llm.Error].
//
// The wire types, the headers and the calls are those of the official SDK,
// anthropic-sdk-go. What the SDK would decide by itself (retries, time limits by the size
// of max_tokens, when a stream is whole) is decided here.
//
// # What the Messages API says in its own way
//
//   - A limit of tokens is mandatory: a request without MaxTokens is sent with
//     [Options.MaxTokens], by default [DefaultMaxTokens]. An answer cut there has
//     llm.FinishLength.
//   - Turns of the user that follow each other, the results of tools among them, are sent
//     as one. An assistant's turn that says nothing is not sent at all, since Anthropic
//     refuses it.
//   - A schema has no name and no description; both are dropped.
//   - A tool call in the history whose arguments are no JSON object is sent with the
//     object {"arguments": text} in their place, so that the model sees what it wrote.
//   - llm.Request.Cache and llm.Message.Cache become cache_control marks, which keep a
//     prefix for five minutes. Of more than four the first and the last three are sent.
//   - Usage.Input counts what was read from the cache and written to it too, which
//     Anthropic counts apart; Usage.Cached and Usage.CacheWrites are these parts.
//   - What a model thinks is neither text nor delta. It is in [llm.Response.Raw], and in
//     llm.Message.Turn, by which the same model of the same provider gets its turn back as
//     it wrote it: models that think about what tools said want that.
package anthropic
