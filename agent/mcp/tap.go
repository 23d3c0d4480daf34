package mcp

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// exchange is one request and what came of it. It travels in the request's context, down
// to the transport.
//
// The SDK decodes a result into its own types, all or nothing, with numbers as float64: one
// malformed tool would lose the whole list, and a large number its digits. So the tap below
// the SDK keeps the result as it came, for this package to decode, and hands the SDK what
// stub makes of it.
type exchange struct {
	stub func(result json.RawMessage) json.RawMessage // nil: the SDK gets the result itself

	mu     sync.Mutex
	id     jsonrpc.ID
	result json.RawMessage
	fault  *Error // what the transport found wrong
}

type exchangeKey struct{}

// pass is what the tap tells the transport of a message, through its context.
type pass struct {
	x       *exchange // nil: not a request
	version string    // of the protocol, once initialize has settled it
}

type passKey struct{}

func passed(ctx context.Context) (*exchange, string) {
	p, _ := ctx.Value(passKey{}).(pass)
	return p.x, p.version
}

func (x *exchange) setFault(e *Error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.fault == nil {
		x.fault = e
	}
}

func (x *exchange) outcome() (result json.RawMessage, fault *Error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.result, x.fault
}

func (x *exchange) requestID() jsonrpc.ID {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.id
}

// tap is a transport whose messages pass through this package on their way to the SDK.
type tap struct {
	sdk.Transport
	conn *tapped // set by Connect
}

func (t *tap) Connect(ctx context.Context) (sdk.Connection, error) {
	c, err := t.Transport.Connect(ctx)
	if err != nil {
		return nil, err
	}
	t.conn = &tapped{Connection: c, open: make(map[jsonrpc.ID]*exchange)}
	return t.conn, nil
}

type tapped struct {
	sdk.Connection
	mu      sync.Mutex
	open    map[jsonrpc.ID]*exchange // requests that were neither answered nor cancelled at the server
	empty   chan struct{}            // closed when open is empty, if somebody waits for that
	version string                   // hidden from the SDK's HTTP transport by this wrapper, so kept here
}

func (t *tapped) Write(ctx context.Context, m jsonrpc.Message) error {
	r, ok := m.(*jsonrpc.Request)
	if !ok {
		return t.Connection.Write(ctx, m)
	}
	t.mu.Lock()
	p := pass{version: t.version}
	t.mu.Unlock()
	if r.IsCall() {
		if p.x, _ = ctx.Value(exchangeKey{}).(*exchange); p.x == nil {
			p.x = &exchange{}
			if r.Method == "initialize" {
				p.x.stub = t.settle
			}
		}
		p.x.mu.Lock()
		p.x.id = r.ID
		p.x.mu.Unlock()
		t.mu.Lock()
		t.open[r.ID] = p.x
		t.mu.Unlock()
	}
	err := t.Connection.Write(context.WithValue(ctx, passKey{}, p), m)
	switch {
	case r.IsCall() && err != nil && ctx.Err() == nil:
		t.forget(r.ID)
	case r.Method == "notifications/cancelled":
		var params struct {
			ID any `json:"requestId"`
		}
		if json.Unmarshal(r.Params, &params) == nil {
			if id, err := jsonrpc.MakeID(params.ID); err == nil {
				t.forget(id)
			}
		}
	}
	return err
}

// settle notes the version of the protocol that an answer to initialize names.
func (t *tapped) settle(result json.RawMessage) json.RawMessage {
	var v string
	if fields, ok := object(result); ok && json.Unmarshal(fields["protocolVersion"], &v) == nil && len(v) < 32 {
		t.mu.Lock()
		t.version = v
		t.mu.Unlock()
	}
	return result
}

func (t *tapped) Read(ctx context.Context) (jsonrpc.Message, error) {
	m, err := t.Connection.Read(ctx)
	r, ok := m.(*jsonrpc.Response)
	if !ok || err != nil {
		return m, err
	}
	x := t.forget(r.ID)
	if x == nil || x.stub == nil || r.Error != nil {
		return m, nil
	}
	x.mu.Lock()
	x.result = r.Result
	x.mu.Unlock()
	stubbed := *r
	stubbed.Result = x.stub(r.Result)
	return &stubbed, nil
}

func (t *tapped) forget(id jsonrpc.ID) *exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.open[id]
	delete(t.open, id)
	if len(t.open) == 0 && t.empty != nil {
		close(t.empty)
		t.empty = nil
	}
	return x
}

// quiet waits until no request is open, but no longer than d. The SDK tells the server of a
// cancelled call in a goroutine that the closing of the session would forestall.
func (t *tapped) quiet(d time.Duration) {
	t.mu.Lock()
	if len(t.open) == 0 {
		t.mu.Unlock()
		return
	}
	if t.empty == nil {
		t.empty = make(chan struct{})
	}
	empty := t.empty
	t.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-empty:
	case <-timer.C:
	}
}
