// Package exchange is what the clients of all providers do alike: it sends one HTTP
// request, keeps the answer byte for byte, and says in the words of package llm what went
// wrong. A provider's own package knows how a request and an answer are written, and
// nothing of the network.
//
// A [Line] leads to one provider and a [Call] is one request on it. SDKs are given the
// Line's HTTP client and a context with the Call in it: whatever an SDK makes of an
// answer, the Call has what really came.
//
// The package never retries, never follows a redirect unless the caller's own HTTP client
// does, never reads the environment (not even for a proxy), never logs, and never puts a
// key into an error.
package exchange
