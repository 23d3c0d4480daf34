package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/pawlrun/pawl"
)

// serveStream sends the chunks of the agent's answers, one a line.
func serveStream(e *pawl.Engine, w http.ResponseWriter, r *http.Request) {
	var from int64
	if _, err := fmt.Sscan(r.URL.Query().Get("from"), &from); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out, to := json.NewEncoder(w), http.NewResponseController(w)
	for c, err := range e.ReadStream(r.Context(), "", sagaID, "answers", from) {
		if err != nil || out.Encode(c) != nil {
			panic(http.ErrAbortHandler) // this is not the stream's end
		}
		_ = to.Flush() // fails only if the client has gone away
	}
}

// reader reads the agent's answers as they come. It goes away again and again, comes back
// with the index after the last that it saw, and drops a part when it is told that an answer
// begins anew.
type reader struct {
	at     atomic.Pointer[string] // the address of the process
	random *rand.Rand
	done   chan struct{} // closed at the end of the stream

	// Until then these are the reader's.
	next     int64
	texts    map[string]string // by step
	chunks   int
	restarts int
	dropped  int // bytes
	visited  int
	found    findings
}

func newReader(random *rand.Rand) *reader {
	return &reader{random: random, done: make(chan struct{}), texts: map[string]string{}}
}

func (r *reader) read(ctx context.Context) {
	defer close(r.done)
	for ctx.Err() == nil {
		resp, err := http.Get(fmt.Sprintf("%s?from=%d", *r.at.Load(), r.next))
		if err != nil { // the process was killed: the next one is about to come
			time.Sleep(5 * time.Millisecond)
			continue
		}
		r.visited++
		end := r.visit(resp.Body)
		resp.Body.Close()
		if end {
			return
		}
	}
}

// visit reads a chunk or two. It reports whether the stream has come to its end.
func (r *reader) visit(body io.Reader) (end bool) {
	in := json.NewDecoder(body)
	for range 1 + r.random.IntN(4)/3 {
		var c pawl.Chunk
		var d Delta
		if err := in.Decode(&c); err != nil {
			return err == io.EOF // else the process was killed
		}
		if err := json.Unmarshal(c.Data, &d); err != nil || c.Index != r.next {
			r.found.add("chunk %d came for %d: %s, %v", c.Index, r.next, c.Data, err)
		}
		r.next = c.Index + 1
		r.chunks++
		if d.Restart {
			if part := r.texts[d.Step]; part != "" {
				r.restarts++
				r.dropped += len(part)
			}
			delete(r.texts, d.Step)
		}
		r.texts[d.Step] += d.Text
	}
	return false
}

func (r *reader) String() string {
	return fmt.Sprintf("the reader has come %d times for %d chunks, and has dropped %d parts of %d bytes in all", r.visited, r.chunks, r.restarts, r.dropped)
}
