package pawltest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// Client returns a client of a server that exists in memory only: whatever the scheme, host and
// port of a URL, the request goes over HTTP to what handler makes of the harness's engine, such as
//
//	client := h.Client(func(e *pawl.Engine) http.Handler { return api.New(e, api.Options{}) })
//	res, err := client.Post(h.AwaitWebhook(run.ID()), "text/plain", strings.NewReader("hello"))
//
// It works in virtual time, also where an answer is waited for or streamed. handler is
// called once for each life of the worker: a [Harness.Crash] cuts the connections of the old one,
// whose callers get an error, and later requests are answered by the new one. In a driver it is
// called once.
//
// A request that is under way when the test ends gets an error. Redirects are followed, cookies are not kept.
func (h *Harness) Client(handler func(e *pawl.Engine) http.Handler) *http.Client {
	n := &network{h: h, handler: handler, servers: map[*pawl.Engine]*memory{}}
	h.mu.Lock()
	h.networks = append(h.networks, n)
	h.mu.Unlock()
	return &http.Client{Transport: n}
}

// AwaitWebhook waits until a run has a live webhook and returns the URL of its newest, for the
// client that [Harness.Client] returns.
func (h *Harness) AwaitWebhook(runID string) string {
	h.tb.Helper()
	var token string
	h.await(runID, "make a webhook", func(info pawl.RunInfo) (bool, error) {
		hooks, err := h.Engine().Hooks(context.Background(), pawl.Ref{Tenant: info.Tenant, ID: info.ID})
		for _, hook := range hooks {
			if hook.Public {
				token = hook.Token
			}
		}
		return token != "", err
	})
	return h.opt.PublicURL + pawl.WebhookPath + token
}

// network leads each request to the server of the engine that is alive.
type network struct {
	h       *Harness
	handler func(e *pawl.Engine) http.Handler

	mu      sync.Mutex
	closed  bool
	servers map[*pawl.Engine]*memory
}

// memory is a server without a port.
type memory struct {
	server   *http.Server
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
	wires    *http.Transport
}

// RoundTrip ends with the test: a request whose response nobody reads would keep the bubble from
// ending.
func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	s, err := n.server()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	context.AfterFunc(n.h.ctx, func() { cancel(errTestEnded) })
	return s.wires.RoundTrip(req.WithContext(ctx))
}

func (n *network) server() (*memory, error) {
	e := n.h.Engine()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, errTestEnded
	}
	s := n.servers[e]
	if s == nil {
		s = serve(n.handler(e))
		n.servers[e] = s
	}
	return s, nil
}

// cut ends the server of an engine, or with nil all of them and those to come.
func (n *network) cut(e *pawl.Engine) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = n.closed || e == nil
	for of, s := range n.servers {
		if e == nil || of == e {
			_ = s.server.Close() // the listener's error, and it has none
		}
	}
}

// cut ends what is served for an engine that is dead, or with nil everything.
func (h *Harness) cut(e *pawl.Engine) {
	h.mu.Lock()
	all := h.networks
	h.mu.Unlock()
	for _, n := range all {
		n.cut(e)
	}
}

func serve(handler http.Handler) *memory {
	s := &memory{accepted: make(chan net.Conn), closed: make(chan struct{})}
	s.server = &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	// A connection for each request: none is left idle, and none leads to a dead server.
	s.wires = &http.Transport{DialContext: s.dial, DialTLSContext: s.dial, DisableKeepAlives: true}
	go func() { _ = s.server.Serve(s) }() // it ends when it is closed
	return s
}

func (s *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	var err error
	select {
	case s.accepted <- wire{far}:
		return wire{near}, nil
	case <-s.closed:
		err = errors.New("pawltest: the worker was killed")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	_, _ = near.Close(), far.Close() // pipes, which always close
	return nil, err
}

func (s *memory) Accept() (net.Conn, error) {
	select {
	case c := <-s.accepted:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *memory) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (s *memory) Addr() net.Addr { return here }

// here is the address of both ends of a wire, for handlers that look at it.
var here = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}

type wire struct{ net.Conn }

func (wire) LocalAddr() net.Addr  { return here }
func (wire) RemoteAddr() net.Addr { return here }
