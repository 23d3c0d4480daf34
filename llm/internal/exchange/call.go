package exchange

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl/llm"
)

// maxErrorBytes is how much of an answer with an error status is read.
const maxErrorBytes = 64 << 10

// Call is one request as it really went over the wire. SDKs hand out decoded answers and
// errors; which status and headers came and the very bytes of the answer are seen by the
// recorder only, and kept here. It is used by the goroutine that makes the call and by no
// other.
type Call struct {
	Model  string
	Stream bool                         // the answer is to be read with Event
	Finish func([]byte) ([]byte, error) // completes the request's body; nil leaves it
	Usage  llm.Usage                    // what the call is known to have used so far; errors carry it

	Header http.Header   // of the answer
	Body   []byte        // the answer; of a stream only if it is not a success
	Answer io.ReadCloser // of a stream, to be closed by who reads it with Event; the client may leave it nil

	line  *Line
	limit int64 // of the answer, in bytes

	sent     bool      // the request was handed to the network
	until    time.Time // when ctx or the HTTP client's own time limit ends the call; zero is never
	status   int
	broken   error // why reading the answer ended early
	tooLarge bool

	lines *bufio.Reader // of a stream
	read  int64         // bytes of a stream so far
	stray []byte        // what came in the place of events
}

type callKey struct{}

// With returns a context for the SDK to make the call in.
func (x *Call) With(ctx context.Context) context.Context {
	return context.WithValue(ctx, callKey{}, x)
}

// OK reports whether a whole answer with a status of success has come, or of a stream its
// beginning. SDKs take a redirect for an answer, and read no further than they must.
func (x *Call) OK() bool { return x.success() && !x.tooLarge }

func (x *Call) success() bool { return x.status/100 == 2 }

// TooLarge reports whether the answer went past its limit.
func (x *Call) TooLarge() bool { return x.tooLarge }

// Decode reads the answer as JSON. It looks no further than the end of the document.
func (x *Call) Decode(into any) error { return json.NewDecoder(bytes.NewReader(x.Body)).Decode(into) }

// Raw returns body, of which a decoder may have looked at the beginning only, as a
// document that a journal can hold.
func (x *Call) Raw(body []byte) (json.RawMessage, error) {
	if !json.Valid(body) {
		return nil, x.Error(llm.Unavailable, "the answer is not JSON: "+excerpt(body))
	}
	if !utf8.Valid(body) {
		body = bytes.ToValidUTF8(body, []byte("\uFFFD"))
	}
	return body, nil
}

// RawEvents is Raw of the array of a stream's events.
func (x *Call) RawEvents(events [][]byte) (json.RawMessage, error) {
	return x.Raw(append(append([]byte{'['}, bytes.Join(events, []byte{','})...), ']'))
}

// RequestID returns the name under which the provider logged the call, or else id.
func (x *Call) RequestID(id string) string {
	for _, name := range []string{"X-Request-Id", "Request-Id"} {
		if v := x.Header.Get(name); v != "" {
			return v
		}
	}
	return id
}

// late reports whether the call's time is over. net/http cuts a body that comes too late
// with one error or another, so that the clock is the better witness.
func (x *Call) late() bool { return !x.until.IsZero() && !time.Now().Before(x.until) }

// recorder is the outermost transport: it completes requests and records answers.
type recorder struct {
	next   http.RoundTripper
	header http.Header
}

func (t *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	x := req.Context().Value(callKey{}).(*Call)
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
	x.status, x.Header = res.StatusCode, res.Header
	if x.Stream && x.success() {
		res.Body = &metered{ReadCloser: res.Body, x: x}
		x.lines = bufio.NewReader(res.Body)
		return res, nil
	}
	// The whole answer is read here, not as far as a JSON decoder happens to look.
	x.readAll(res.Body)
	res.Body = io.NopCloser(io.MultiReader(bytes.NewReader(x.Body), ending{x.broken}))
	return res, nil
}

// outgoing returns req with its body completed and our headers added. A RoundTripper must
// not change the request it is given, and must close its body.
func (t *recorder) outgoing(req *http.Request, x *Call) (*http.Request, error) {
	out := req.Clone(req.Context())
	for name, values := range t.header {
		out.Header[name] = values
	}
	if x.Finish == nil || req.Body == nil {
		return out, nil
	}
	body, err := io.ReadAll(req.Body)
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	if body, err = x.Finish(body); err != nil {
		return nil, err
	}
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	out.Body, _ = out.GetBody()
	out.ContentLength = int64(len(body))
	return out, nil
}

// readAll takes the answer in, up to its limit. Of an error only the beginning matters.
func (x *Call) readAll(r io.ReadCloser) {
	defer r.Close()
	limit := x.limit
	if !x.success() {
		limit = maxErrorBytes
	}
	x.Body, x.broken = io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(x.Body)) <= limit {
		return
	}
	x.Body = x.Body[:limit]
	if x.success() {
		x.tooLarge, x.broken = true, llm.ErrAnswerTooLarge
	}
}

// metered is the body of a stream. It ends with an error when the limit is passed.
type metered struct {
	io.ReadCloser
	x *Call
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
