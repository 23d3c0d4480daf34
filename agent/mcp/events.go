package mcp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// events is the body of an event stream, of which it lets whole events pass that the SDK can
// read. At one that is too large, or no message, it says instead that the call has failed,
// and ends. That a stream breaks is left to the SDK, which may resume it.
type events struct {
	src  io.ReadCloser
	in   *bufio.Reader
	x    *exchange
	out  []byte // what may pass
	over error  // what comes after out
}

func newEvents(src io.ReadCloser, x *exchange) *events {
	return &events{src: src, in: bufio.NewReaderSize(src, 32<<10), x: x}
}

func (e *events) Close() error { return e.src.Close() }

func (e *events) Read(p []byte) (int, error) {
	for len(e.out) == 0 {
		if e.over != nil {
			return 0, e.over
		}
		e.next()
	}
	n := copy(p, e.out)
	e.out = e.out[n:]
	return n, nil
}

// next reads one event.
func (e *events) next() {
	var event, data []byte
	name, size := "", 0
	for {
		line, _, err := readMessage(e.in, maxMessage)
		size += len(line)
		if errors.Is(err, errTooLong) || size > maxMessage {
			e.fail(tooLarge())
			return
		}
		if err != nil {
			e.over = err
			if !errors.Is(err, io.EOF) {
				return // part of an event
			}
		}
		line = bytes.TrimRight(line, "\r\n")
		key, value, isField := bytes.Cut(line, []byte(":"))
		switch {
		case !isField: // a field without a value, which the SDK takes for an error
		case string(key) == "data":
			if data != nil {
				data = append(data, '\n')
			}
			data = append(data, bytes.TrimSpace(value)...)
		case string(key) == "event":
			name = string(bytes.TrimSpace(value))
		}
		if isField && len(key) > 0 {
			event = append(append(event, line...), '\n')
		}
		if len(line) == 0 || err != nil {
			break
		}
	}
	if len(event) == 0 {
		return
	}
	if len(data) > 0 && (name == "" || name == "message") {
		if _, err := jsonrpc.DecodeMessage(data); err != nil {
			e.fail(&Error{Kind: Malformed, Message: "the answer can't be read: " + words(err.Error())})
			return
		}
	}
	e.out = append(event, '\n')
}

func (e *events) fail(fault *Error) {
	e.x.setFault(fault)
	e.out, e.over = faultEvent(e.x), io.EOF
}

// faultEvent is an event by which the SDK learns that a call has failed; why is in x.
func faultEvent(x *exchange) []byte {
	data, err := json.Marshal(map[string]any{
		"jsonrpc": "2.0", "id": x.requestID().Raw(),
		"error": map[string]any{"code": jsonrpc.CodeInternalError, "message": "the answer was refused"},
	})
	if err != nil { // an id of ours is a number
		return nil
	}
	return append(append([]byte("data: "), data...), "\n\n"...)
}
