package openai

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	"github.com/pawlrun/pawl/llm"
)

// maxErrorBytes is how much of an answer with an error status is read.
const maxErrorBytes = 64 << 10

// exchange is one call as it really went over the wire. go-openai hands out decoded
// answers and errors; what was sent, which status and headers came and the very bytes of
// the answer are seen by the recorder only, and kept here. It is used by the goroutine
// that makes the call and by no other.
type exchange struct {
	model  string
	stream bool
	limit  int64                        // of the answer, in bytes
	finish func([]byte) ([]byte, error) // completes the request's body; nil leaves it

	sent     bool      // the request was handed to the network
	until    time.Time // when ctx or the HTTP client's own time limit ends the call; zero is never
	status   int
	header   http.Header
	body     []byte // the answer; of a stream only if it is not a success
	broken   error  // why reading the answer ended early
	tooLarge bool

	lines *bufio.Reader // of a stream
	read  int64         // bytes of a stream so far
	stray []byte        // what came in the place of events
}

type exchangeKey struct{}

func withExchange(ctx context.Context, x *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

// ok reports whether the endpoint said that the call succeeded.
func (x *exchange) ok() bool { return x.status/100 == 2 }

// late reports whether the call's time is over. net/http cuts a body that comes too late
// with one error or another, so that the clock is the better witness.
func (x *exchange) late() bool { return !x.until.IsZero() && !time.Now().Before(x.until) }

// recorder is the outermost transport: it completes requests and records answers.
type recorder struct {
	next   http.RoundTripper
	header http.Header
}

func (t *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	x := req.Context().Value(exchangeKey{}).(*exchange)
	out, err := t.outgoing(req, x)
	if err != nil {
		return nil, err
	}
	x.sent = true
	x.until, _ = req.Context().Deadline() // http.Client puts its Timeout there
	res, err := t.next.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	x.status, x.header = res.StatusCode, res.Header
	if x.stream && x.ok() {
		res.Body = &metered{ReadCloser: res.Body, x: x}
		x.lines = bufio.NewReader(res.Body)
		return res, nil
	}
	// The whole answer is read here, not as far as a JSON decoder happens to look.
	x.readAll(res.Body)
	res.Body = io.NopCloser(io.MultiReader(bytes.NewReader(x.body), ending{x.broken}))
	return res, nil
}

// outgoing returns req with its body completed and our headers added. A RoundTripper must
// not change the request it is given, and must close its body.
func (t *recorder) outgoing(req *http.Request, x *exchange) (*http.Request, error) {
	out := req.Clone(req.Context())
	for name, values := range t.header {
		out.Header[name] = values
	}
	if x.finish == nil || req.Body == nil {
		return out, nil
	}
	body, err := io.ReadAll(req.Body)
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	if body, err = x.finish(body); err != nil {
		return nil, err
	}
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	out.Body, _ = out.GetBody()
	out.ContentLength = int64(len(body))
	return out, nil
}

// readAll takes the answer in, up to its limit. Of an error only the beginning matters.
func (x *exchange) readAll(r io.ReadCloser) {
	defer r.Close()
	limit := x.limit
	if !x.ok() {
		limit = maxErrorBytes
	}
	x.body, x.broken = io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(x.body)) <= limit {
		return
	}
	x.body = x.body[:limit]
	if x.ok() {
		x.tooLarge, x.broken = true, llm.ErrAnswerTooLarge
	}
}

// metered is the body of a stream. It ends with an error when the limit is passed.
type metered struct {
	io.ReadCloser
	x *exchange
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.x.read += int64(n)
	if m.x.read > m.x.limit {
		m.x.tooLarge, m.x.broken = true, llm.ErrAnswerTooLarge
		return 0, llm.ErrAnswerTooLarge
	}
	if err != nil && err != io.EOF {
		m.x.broken = err
	}
	return n, err
}

// ending ends a reader with err, or with io.EOF if err is nil.
type ending struct{ err error }

func (e ending) Read([]byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	return 0, io.EOF
}
