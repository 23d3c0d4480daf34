package agent

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// points are moments at which a process can be killed, in the servers that it calls. Who
// comes to the one that the test has armed waits there until the test has done what it wants.
type points struct {
	hit  chan *point
	over chan struct{}

	arming sync.Mutex
	left   int
	counts func(what string) bool
}

type point struct {
	what string
	who  string // the process's name
	goOn chan struct{}
	once sync.Once
}

// letGo lets who waits there go on.
func (at *point) letGo() { at.once.Do(func() { close(at.goOn) }) }

// serve starts a server whose handlers come to the points. It returns its address.
func (p *points) serve(t *testing.T, h http.Handler) string {
	p.hit, p.over = make(chan *point, 1), make(chan struct{})
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		close(p.over)
		server.Close()
	})
	return server.URL
}

// await returns the nth from now of the points that count, at which somebody waits; nil:
// nobody came to it before the end.
func (p *points) await(n int, counts func(what string) bool, end <-chan struct{}) *point {
	p.arming.Lock()
	p.left, p.counts = n, counts
	p.arming.Unlock()
	select {
	case at := <-p.hit:
		return at
	case <-end:
		return nil
	}
}

func (p *points) pass(what, who string) {
	p.arming.Lock()
	if p.left > 0 && p.counts(what) {
		p.left--
	} else {
		what = ""
	}
	armed := what != "" && p.left == 0
	p.arming.Unlock()
	if !armed {
		return
	}
	at := &point{what: what, who: who, goOn: make(chan struct{})}
	p.hit <- at
	select {
	case <-at.goOn:
	case <-p.over:
	}
}

// keyOf is the name of the process that makes a request: its key.
func keyOf(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// watched is an answer whose pieces are seen before they are sent.
type watched struct {
	http.ResponseWriter
	pieces int
	before func(piece int) // from 0
}

func (w *watched) Write(b []byte) (int, error) {
	if !bytes.Equal(b, []byte("data: [DONE]\n\n")) {
		w.before(w.pieces)
	}
	w.pieces++
	return w.ResponseWriter.Write(b)
}

func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }
