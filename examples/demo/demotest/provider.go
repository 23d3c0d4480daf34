// Package demotest tests the example programs as their users run them: as processes that
// are killed, against a provider over real HTTP. It is for tests only.
package demotest

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/pawlrun/pawl/llm/llmtest"
)

// Provider speaks OpenAI's wire format on loopback, counts what arrives, and can leave a
// call without an answer, so that the caller can be killed while it waits for one.
type Provider struct {
	URL string // with /v1, as OPENAI_BASE_URL wants it

	mu      sync.Mutex
	arrived []string // path and body of each call
	hold    int      // which call from now is to be held; 0: none
	held    chan struct{}
}

// Serve starts a provider that answers by script, until the test ends.
func Serve(t *testing.T, script *llmtest.Scripted) *Provider {
	p := &Provider{held: make(chan struct{}, 1)}
	answer := llmtest.Server(script)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the caller died while it asked
		}
		if p.arrives(r.URL.Path + "\n" + string(body)) {
			p.held <- struct{}{}
			<-r.Context().Done()
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p.URL = server.URL + "/v1"
	return p
}

// arrives counts a call and reports whether it is the one to be held.
func (p *Provider) arrives(call string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arrived = append(p.arrived, call)
	p.hold--
	return p.hold == 0
}

// Hold lets the n-th call from now wait for an answer that never comes; 0 holds none.
// The channel has an element when that call has arrived.
func (p *Provider) Hold(n int) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = n
	return p.held
}

// Take returns the calls that have arrived since it was called last.
func (p *Provider) Take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.arrived
	p.arrived = nil
	return out
}
