package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// What holds of sessions:
//
//   - At most one is current, and at most one is being made, for all callers together. The
//     making belongs to the Server: a caller that gives up does not end it.
//   - A session that was dropped is never current again. Calls under way on it go on, or
//     fail with its loss.
//   - The wait before the next session is zero after one that served something; else it
//     doubles, from half a second to half a minute.

// session is a connection to the server, initialized.
type session struct {
	sdk      *sdk.ClientSession
	wire     *tapped
	process  *process // nil: HTTP
	served   atomic.Bool
	checking atomic.Bool
	dropped  atomic.Bool
}

// dialing is the making of a session.
type dialing struct {
	done chan struct{}
	sess *session
	err  error
}

const (
	firstWait = 500 * time.Millisecond
	mostWait  = 30 * time.Second
)

// session returns the current session, making it if there is none.
func (s *Server) session(ctx context.Context) (*session, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, &Error{Kind: Closed, Message: "the server was closed by this program"}
	}
	if sess := s.current; sess != nil {
		s.mu.Unlock()
		return sess, nil
	}
	d := s.dial
	if d == nil {
		if deadline, ok := ctx.Deadline(); ok && deadline.Before(s.next) {
			wait, last := time.Until(s.next), s.lastErr
			s.mu.Unlock()
			return nil, unavailable(last, wait)
		}
		d = &dialing{done: make(chan struct{})}
		s.dial = d
		wait := time.Until(s.next)
		s.work.Go(func() { s.connect(d, wait) })
	}
	s.mu.Unlock()
	select {
	case <-d.done:
		return d.sess, d.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *Server) connect(d *dialing, wait time.Duration) {
	defer close(d.done)
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-s.ctx.Done():
		}
	}
	sess, err := s.open()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dial = nil
	switch {
	case err != nil && s.closed:
		d.err = &Error{Kind: Closed, Message: "the server was closed by this program"}
	case err != nil:
		s.failed(err)
		d.err = unavailable(err, time.Until(s.next))
		s.log.Warn("mcp session not made", "err", rootCause(err), "wait", time.Until(s.next))
	default:
		s.work.Go(func() { s.watch(sess) })
		d.sess = sess
		if s.closed {
			s.work.Go(func() { s.drop(sess) })
		} else {
			s.current = sess
		}
	}
}

// open makes a session. What it started is stopped if that fails.
func (s *Server) open() (*session, error) {
	ctx, cancel := context.WithTimeout(s.ctx, connectTimeout)
	defer cancel()
	sess := &session{}
	var transport sdk.Transport
	if s.http != nil {
		transport = &sdk.StreamableClientTransport{
			Endpoint: s.o.URL, HTTPClient: s.http, DisableStandaloneSSE: true,
			MaxRetries: 2, MaxEventSize: 2 * maxMessage, // vetEvents has the limit
		}
	} else {
		p, err := startProcess(&s.o, s.log)
		if err != nil {
			return nil, err
		}
		s.work.Go(p.wait)
		sess.process = p
		transport = p
	}
	client := sdk.NewClient(&sdk.Implementation{Name: "pawl", Version: version()}, &sdk.ClientOptions{
		Capabilities:   &sdk.ClientCapabilities{},
		MultiRoundTrip: &sdk.MultiRoundTripOptions{Disabled: true},
	})
	client.AddReceivingMiddleware(refuseRequests)
	var err error
	wire := &tap{Transport: transport}
	sess.sdk, err = client.Connect(ctx, wire, nil)
	if err != nil {
		if sess.process != nil {
			sess.process.stop()
		}
		if ctx.Err() != nil && s.ctx.Err() == nil {
			err = fmt.Errorf("it did not begin a session within %v", connectTimeout)
		}
		return nil, err
	}
	sess.wire = wire.conn
	return sess, nil
}

// watch waits for the end of a session.
func (s *Server) watch(sess *session) {
	err := sess.sdk.Wait()
	if sess.process != nil {
		sess.process.stop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == sess {
		s.current = nil
	}
	if s.closed {
		return
	}
	if err == nil {
		err = errors.New("the server ended the session")
	}
	if !sess.served.Load() {
		s.failed(fmt.Errorf("the last session ended before it served anything: %w", err))
	}
	if !sess.dropped.Load() {
		s.log.Warn("mcp session lost; the next call makes a new one", "err", rootCause(err))
	}
}

// failed counts a session that was no use. s.mu is held.
func (s *Server) failed(err error) {
	s.fails++
	wait := min(firstWait<<min(s.fails-1, 10), mostWait)
	s.next, s.lastErr = time.Now().Add(wait/2+rand.N(wait/2)), err
}

// serves notes that the session is of use.
func (s *Server) serves(sess *session) {
	if sess.served.Swap(true) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails, s.next, s.lastErr = 0, time.Time{}, nil
}

// drop takes a session out of use, and ends it: a process at once, an HTTP session when the
// calls under way on it have ended.
func (s *Server) drop(sess *session) {
	s.mu.Lock()
	if s.current == sess {
		s.current = nil
	}
	s.mu.Unlock()
	if sess.dropped.Swap(true) {
		return
	}
	if sess.process != nil {
		sess.process.stop()
	}
	_ = sess.sdk.Close() // it fails if the server forgot the session, or is gone: all the same
}

// check ends a process that answers nothing any more. It is called after a call timed out:
// that call alone is no sign, as it was cancelled and others go on beside it.
func (s *Server) check(sess *session) {
	if sess.process == nil || sess.checking.Swap(true) {
		return
	}
	s.begin(func() {
		defer sess.checking.Store(false)
		ctx, cancel := context.WithTimeout(s.ctx, pingTimeout)
		defer cancel()
		answered := make(chan struct{})
		s.work.Go(func() { // not waited for: it may hang in a write
			_ = sess.sdk.Ping(ctx, nil) // an error is an answer too
			close(answered)
		})
		select {
		case <-answered:
			if ctx.Err() == nil {
				return
			}
		case <-ctx.Done():
		}
		if s.ctx.Err() == nil {
			s.log.Warn("mcp server does not answer a ping and is stopped; the next call starts it again", "waited", pingTimeout)
			s.drop(sess)
		}
	})
}

// refuseRequests refuses what a server may ask of a client, but for pings, and drops its
// notifications.
func refuseRequests(next sdk.MethodHandler) sdk.MethodHandler {
	return func(ctx context.Context, method string, req sdk.Request) (sdk.Result, error) {
		switch {
		case method == "ping":
			return next(ctx, method, req)
		case strings.HasPrefix(method, "notifications/"):
			return nil, nil
		}
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeMethodNotFound, Message: "pawl serves no sampling, elicitation or roots"}
	}
}

// do makes one request over the session and returns its result as it came.
func (s *Server) do(ctx context.Context, sess *session, stub func(json.RawMessage) json.RawMessage, request func(context.Context) error) (json.RawMessage, error) {
	x := &exchange{stub: stub}
	ended := make(chan error, 1)
	ctx = context.WithValue(ctx, exchangeKey{}, x)
	started := s.begin(func() { // so that ctx is heeded even where a write hangs
		defer func() {
			if p := recover(); p != nil {
				ended <- fmt.Errorf("panic in the MCP SDK: %v", p)
			}
		}()
		ended <- request(ctx)
	})
	if !started {
		return nil, &Error{Kind: Closed, Message: "the server was closed by this program"}
	}
	select {
	case err := <-ended:
		result, fault := x.outcome()
		switch {
		case result != nil: // whatever the SDK made of the stub
			s.serves(sess)
			return result, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case fault != nil:
			return nil, fault
		case err == nil:
			return nil, &Error{Kind: Malformed, Message: "the server's answer has no result"}
		}
		if classify(err).Code != 0 { // an answer too
			s.serves(sess)
		}
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func unavailable(err error, wait time.Duration) *Error {
	if e, ok := errors.AsType[*Error](err); ok { // what the transport found
		out := *e
		out.Message = "no session: " + e.Message
		if out.Wait == 0 && retryable[e.Kind] {
			out.Kind, out.Wait = Unavailable, wait
		}
		return &out
	}
	cause := rootCause(err)
	return &Error{Kind: Unavailable, Message: "no session: " + words(cause.Error()), Wait: wait, Err: cause}
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	const path = "github.com/pawlrun/pawl"
	if info.Main.Path == path {
		return info.Main.Version
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "unknown"
}
