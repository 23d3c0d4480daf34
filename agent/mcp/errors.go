package mcp

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Kind says what went wrong with a call.
type Kind string

// The kinds. Of those marked with a star another attempt may succeed.
const (
	Unavailable Kind = "unavailable" // * there is no session, or the server is overloaded; nothing was done
	Lost        Kind = "lost"        // * process, session or connection was lost during the call; it may have been done
	Timeout     Kind = "timeout"     // * no answer in time; it may have been done
	Internal    Kind = "internal"    // * the server says that it failed itself
	Closed      Kind = "closed"      // * Server.Close was called
	Failed      Kind = "failed"      // the tool says that it failed; its words are the message
	Rejected    Kind = "rejected"    // the server refuses the call: no such tool, wrong arguments
	Denied      Kind = "denied"      // not authorised
	Malformed   Kind = "malformed"   // the answer is not what the protocol says
	TooLarge    Kind = "too_large"   // the answer, or what was to be sent, is over a limit
)

var retryable = map[Kind]bool{Unavailable: true, Lost: true, Timeout: true, Internal: true, Closed: true}

// Error is a call, or a list, that failed. It goes through JSON whole but for Err.
//
// Its methods Fatal and RetryAfter are what pawl's engine looks for to decide about
// another attempt, ErrorCode and MarshalJSON what its journal keeps. The message is written
// for the model too: it holds no key, no URL and nothing of the server's stderr.
type Error struct {
	Kind    Kind          `json:"kind"`
	Server  string        `json:"server"`
	Tool    string        `json:"tool,omitempty"`   // as the server calls it; empty for a list
	Status  int           `json:"status,omitempty"` // the HTTP status, where it says something
	Code    int64         `json:"code,omitempty"`   // the JSON-RPC code of the server's error
	Message string        `json:"message"`
	Wait    time.Duration `json:"wait,omitempty"` // how long to wait before another attempt, in nanoseconds; 0: not known
	Err     error         `json:"-"`              // the cause, if there is one in this process
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "mcp server %s: ", e.Server)
	if e.Tool != "" {
		fmt.Fprintf(&b, "tool %s: ", e.Tool)
	}
	b.WriteString(e.Message)
	var facts []string
	if e.Status != 0 {
		facts = append(facts, fmt.Sprintf("HTTP %d", e.Status))
	}
	if e.Code != 0 {
		facts = append(facts, fmt.Sprintf("code %d", e.Code))
	}
	if len(facts) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(facts, ", "))
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Fatal reports whether another attempt is not worth it.
func (e *Error) Fatal() bool { return !retryable[e.Kind] }

// RetryAfter returns how long to wait before another attempt, if that is known.
func (e *Error) RetryAfter() (time.Duration, bool) { return e.Wait, e.Wait > 0 }

// ErrorCode returns "mcp_" and the kind: the name of the failure in a journal.
func (e *Error) ErrorCode() string { return "mcp_" + string(e.Kind) }

// MarshalJSON writes the fields.
func (e *Error) MarshalJSON() ([]byte, error) {
	type fields Error
	return json.Marshal((*fields)(e))
}

// about returns e as an error of this server and tool.
func (s *Server) about(tool string, e *Error) *Error {
	out := *e
	out.Server, out.Tool = s.o.Name, tool
	return &out
}

const maxWords = 4 << 10 // bytes of a server's words in an error

// words is what a server says, fit for an error: valid, and not too long.
func words(s string) string {
	return shorten(strings.ToValidUTF8(s, "\uFFFD"), maxWords)
}

// shorten cuts s to at most n bytes, without splitting a character.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}
