package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/pawlrun/pawl"
)

// stepIDKey is the field of _meta that carries the idempotency key of a call.
const stepIDKey = "io.pawl/stepId"

// headerMismatch is the JSON-RPC code by which a server asks for headers that the SDK knows
// from its list of tools.
const headerMismatch = sdk.CodeHeaderMismatch

// Call calls a tool, by the name it has on the server, with a JSON object as its arguments
// ("" means none), and returns its result as text for a model: texts as they are, structured
// content as JSON, images, audio and other files as a short description.
//
// It is made to be the body of a step: in one, the server is told the step's idempotency
// key in _meta["io.pawl/stepId"]. A failure is an [*Error]. An error that the tool itself
// reports is one of Kind [Failed], with the tool's words. When ctx ends, the server is told
// that the call is cancelled, and the session stays in use.
func (s *Server) Call(ctx context.Context, tool string, args json.RawMessage) (string, error) {
	if !s.allows(tool) {
		return "", s.about(tool, &Error{Kind: Rejected, Message: "the tool is not among Options.Allow"})
	}
	if args = bytes.TrimSpace(args); len(args) == 0 {
		args = json.RawMessage("{}")
	}
	if len(args) > maxArguments {
		return "", s.about(tool, &Error{Kind: TooLarge, Message: fmt.Sprintf("the arguments have %d bytes; at most %d are sent", len(args), maxArguments)})
	}
	if args[0] != '{' || !json.Valid(args) {
		return "", s.about(tool, &Error{Kind: Rejected, Message: "the arguments are not a JSON object"})
	}
	params := &sdk.CallToolParams{Name: tool, Arguments: args}
	if id := pawl.InfoOf(ctx).StepID; id != "" {
		params.Meta = sdk.Meta{stepIDKey: id}
	}
	result, err := s.request(ctx, tool, func(ctx context.Context, sess *session) (json.RawMessage, error) {
		p := *params // the SDK adds to it
		p.Meta = cloneMeta(params.Meta)
		return s.do(ctx, sess, stubCall, func(ctx context.Context) error {
			_, err := sess.sdk.CallTool(ctx, &p)
			return err
		})
	})
	if err != nil {
		return "", err
	}
	text, fault := render(result, s.o.MaxResult)
	if fault != nil {
		return "", s.about(tool, fault)
	}
	return text, nil
}

// request does what one may do to get an answer within the time: it makes the session if
// there is none, and once more if the server had lost it before it got the request.
func (s *Server) request(parent context.Context, tool string, do func(context.Context, *session) (json.RawMessage, error)) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(parent, s.o.Timeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	for again := true; ; again = false {
		sess, err := s.session(ctx)
		var result json.RawMessage
		if err == nil {
			result, err = do(ctx, sess)
		}
		switch {
		case err == nil:
			return result, nil
		case parent.Err() != nil:
			return nil, context.Cause(parent)
		case s.ctx.Err() != nil:
			return nil, s.about(tool, &Error{Kind: Closed, Message: "the server was closed by this program"})
		case sess == nil && ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return nil, s.about(tool, &Error{Kind: Unavailable, Message: fmt.Sprintf("no session within %v; see that the server runs and answers", s.o.Timeout)})
		case sess == nil:
			return nil, s.about(tool, classify(err))
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			s.check(sess)
			return nil, s.about(tool, &Error{Kind: Timeout, Message: fmt.Sprintf("no answer within %v; the call was cancelled, but may have been carried out", s.o.Timeout)})
		}
		if errors.Is(err, errSessionGone) || errors.Is(err, sdk.ErrConnectionClosed) { // the server did not get it
			s.begin(func() { s.drop(sess) })
			s.forgetSession(sess)
			if again {
				continue
			}
		}
		e := classify(err)
		if e.Code == headerMismatch && again { // nor did the tool: let the SDK learn its headers
			if _, err := s.pages(ctx, sess); err == nil {
				continue
			}
		}
		return nil, s.about(tool, e)
	}
}

// forgetSession makes sure that sess is not current when it returns.
func (s *Server) forgetSession(sess *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == sess {
		s.current = nil
	}
}

// classify makes an *Error of what the SDK or the transport returned.
func classify(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, errSessionGone) {
		return &Error{Kind: Lost, Message: errSessionGone.Error()}
	}
	_, unsent := errors.AsType[*url.Error](err) // the SDK marks it with a code of its own
	if wire, ok := errors.AsType[*jsonrpc.Error](err); ok && !unsent {
		e := &Error{Kind: Internal, Code: wire.Code, Message: "the server says: " + words(wire.Message)}
		switch wire.Code {
		case jsonrpc.CodeInvalidParams, jsonrpc.CodeMethodNotFound, jsonrpc.CodeInvalidRequest, jsonrpc.CodeParseError,
			headerMismatch, sdk.CodeMissingRequiredClientCapabilities, sdk.CodeUnsupportedProtocolVersion, sdk.CodeURLElicitationRequired:
			e.Kind = Rejected
		}
		return e
	}
	cause := rootCause(err)
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return &Error{Kind: Unavailable, Message: "no connection: " + words(cause.Error()), Err: cause}
	}
	return &Error{Kind: Lost, Message: "the session was lost: " + words(cause.Error()), Err: cause}
}

// rootCause returns err without the URL, which may hold a key, that net/http puts into its
// errors.
func rootCause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// stubCall stands for a result of tools/call in the SDK's eyes.
func stubCall(json.RawMessage) json.RawMessage { return json.RawMessage(`{"content":[]}`) }

func cloneMeta(m sdk.Meta) sdk.Meta {
	if m == nil {
		return nil
	}
	out := make(sdk.Meta, len(m)+3)
	for k, v := range m {
		out[k] = v
	}
	return out
}
