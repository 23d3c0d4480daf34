package mcp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

var errTooLong = errors.New("too long")

// readMessage reads a line of at most limit bytes. A longer one is read to its end, without
// being kept, and is errTooLong. In both cases id is that of the JSON-RPC message on it, if
// it has one that a call of ours can have: so that a call can fail whose answer can't be
// read. The line is the caller's; err may come with the last one.
func readMessage(r *bufio.Reader, limit int) (line []byte, id jsonrpc.ID, err error) {
	var find idFinder
	long := false
	for {
		part, err := r.ReadSlice('\n')
		find.Write(part)
		if long = long || len(line)+len(part) > limit; long {
			line = nil
		} else {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if long && err == nil {
			err = errTooLong
		}
		return line, find.id(), err
	}
}

// idFinder finds the top-level "id" of a JSON object of any length that is written to it,
// and keeps no more than that. It takes JSON to be well-formed: for other input it finds
// nothing, or something that no call waits for.
type idFinder struct {
	level    int
	quoted   bool
	escaped  bool
	key      bool   // the next string on level 1 is a key
	name     []byte // of the field on level 1
	value    []byte // of "id"
	response bool   // it has a result or an error, so that id is one of ours
}

func (f *idFinder) Write(data []byte) {
	for _, c := range data {
		if f.quoted {
			f.inString(c)
			continue
		}
		switch c {
		case '"':
			f.quoted = true
			if f.level == 1 && f.key {
				f.name = f.name[:0]
			}
		case '{', '[':
			f.level++
			f.key = f.level == 1 && c == '{'
		case '}', ']':
			f.level--
		case ',':
			f.key = f.level == 1
		case ':':
			if f.level == 1 && f.key {
				f.key = false
				f.response = f.response || string(f.name) == "result" || string(f.name) == "error"
			}
		default:
			if f.level == 1 && !f.key && string(f.name) == "id" && len(f.value) < 20 && (c >= '0' && c <= '9') {
				f.value = append(f.value, c)
			}
		}
	}
}

func (f *idFinder) inString(c byte) {
	switch {
	case f.escaped:
		f.escaped = false
	case c == '\\':
		f.escaped = true
	case c == '"':
		f.quoted = false
	}
	if f.quoted && f.level == 1 && f.key && len(f.name) < 16 {
		f.name = append(f.name, c)
	}
}

func (f *idFinder) id() jsonrpc.ID {
	var n float64
	if !f.response || json.Unmarshal(f.value, &n) != nil {
		return jsonrpc.ID{}
	}
	id, err := jsonrpc.MakeID(n)
	if err != nil {
		return jsonrpc.ID{}
	}
	return id
}

func array(data []byte) (parts []json.RawMessage, ok bool) {
	return parts, json.Unmarshal(data, &parts) == nil && len(parts) > 0
}

// capped logs what a server says until it has said enough.
type capped struct {
	mu   sync.Mutex
	left int // bytes
	told bool
}

func (c *capped) log(to *slog.Logger, message, line string) {
	c.mu.Lock()
	c.left -= len(line)
	over, told := c.left < 0, c.told
	c.told = over
	c.mu.Unlock()
	switch {
	case !over:
		to.Info(message, "line", line)
	case !told:
		to.Warn("mcp server says too much; the rest of this session is not logged")
	}
}

const maxLogLine = 1 << 10

// lineLog is a writer that says each line, cut to maxLogLine bytes.
type lineLog struct {
	say  func(line string)
	line []byte
}

func (l *lineLog) Write(data []byte) (int, error) {
	for rest := data; len(rest) > 0; {
		part, after, ended := bytes.Cut(rest, []byte("\n"))
		if room := maxLogLine - len(l.line); room > 0 {
			l.line = append(l.line, part[:min(room, len(part))]...)
		}
		if ended {
			if line := bytes.TrimSpace(l.line); len(line) > 0 {
				l.say(string(line))
			}
			l.line = l.line[:0]
		}
		rest = after
	}
	return len(data), nil
}
