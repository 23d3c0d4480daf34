// Package api is pawl over HTTP: one handler around an engine, and the Go client that
// speaks to it with the same types.
//
// [New] makes an [http.Handler] of an engine. It starts, lists, shows and follows runs and
// carries out what operators order; answers are JSON, live views are server-sent events,
// errors are RFC 9457 problem documents with a stable code. [Serve] runs it on a listener
// with time limits and ends it gracefully. [NewClient] makes a client: errors that it
// returns answer to the same sentinels as the engine's, as if there were no network
// between.
//
// A 2xx means that what was asked is durable. A request that did not end in a 2xx may be
// sent again if it names the run's id.
//
// With [Options.Auth] every call needs a key, which belongs to a tenant and has scopes, or the
// session of a person who has logged in with an OpenID Connect provider; every handler looks
// into the caller's tenant only. Without it nobody is asked: then the package protects a
// server on loopback from web pages (the Host and Origin of requests are checked) and from
// nothing else; do not offer it to a network. The page docs/http.md tells of all of it.
//
// It never knows how the engine keeps its runs, and never answers from a memory of its own:
// everything is asked of the engine.
package api
