// Package mcp brings the tools of MCP servers to durable agents, over stdio and over
// streamable HTTP, with the official SDK.
//
// A [Server] is one server and the session with it. The session is made when it is first
// needed, shared by all runs of the process, and made again after a loss: the process
// died, the server forgot the session, the stream broke. A tool's call is the body of one
// durable step: it is made at least once, its result is recorded once, and the server is
// told the step's idempotency key in _meta["io.pawl/stepId"].
//
//	files, err := mcp.New(mcp.Options{
//		Name:    "files",
//		Command: []string{"mcp-files", "--root", "/srv/data"},
//		Allow:   []string{"read", "list"},
//	})
//	if err != nil {
//		return err
//	}
//	defer files.Close()
//	tools, err := files.Tools(ctx)
//
// # When the tools are listed
//
// A run that replays must find the tools it had. There are three ways to see to that:
//
//   - At the start of the program, by [Server.Tools]. The server must then be reachable
//     whenever the program starts.
//   - From a file, for a program that must start without the server: keep a [Snapshot] as
//     JSON, and make its tools with [Server.Bind], which asks nobody.
//   - In a step of the run, whose result is a [Snapshot]: the journal then holds the tools
//     that the run began with, and Bind makes them again after a restart.
//
// Nothing is listed behind the caller's back: that a server says its list has changed is
// ignored until Tools or Snapshot is called again. A tool that vanished is an error of its
// call, which the model is told.
//
// # What a server can do to the program
//
// A server is taken for an attacker. Its messages, lists, schemas, descriptions and
// results have limits, each of which is in the documentation of what it limits. What one
// tool does, be it to hang, to fail or to answer with rubbish, ends its own call only. A
// process that no longer answers at all is stopped and started again.
//
// What a limit can't help against is text: descriptions and results go to the model, which
// may do what they ask. Name the tools you want in [Options.Allow], read the [Snapshot],
// and put approval before what can't be undone.
//
// # What the package never does
//
// It never gives a server sampling, elicitation or roots: those requests are refused. It
// never follows a redirect to another host, never hands the environment to a server, and
// reads nothing from it but PATH, to find a command; not even a proxy. It never tries a call
// again that a server may have got: that is for the step's policy.
package mcp
