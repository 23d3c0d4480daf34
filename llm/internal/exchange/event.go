package exchange

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
)

// otherField matches the lines of a stream that say nothing to us, comments among them.
var otherField = regexp.MustCompile(`^(event|id|retry)?:`)

// Event returns the data of the stream's next event, and io.EOF at its end. The SDKs have
// readers for this too, but they lose an error that follows a comment, and the comments
// that some endpoints send to keep the connection alive are common.
func (x *Call) Event() ([]byte, error) {
	var data []byte
	for {
		line, err := x.lines.ReadBytes('\n')
		line = bytes.TrimRight(line, "\r\n")
		if field, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			if data != nil {
				data = append(data, '\n')
			}
			data = append(data, bytes.TrimPrefix(field, []byte(" "))...)
		} else if !otherField.Match(line) {
			x.stray = append(x.stray, line...)
		}
		// An event ends with an empty line. The last one is forgiven for ending with the
		// stream, unless it is cut.
		if len(data) > 0 && (len(line) == 0 || err == io.EOF && (string(data) == "[DONE]" || json.Valid(data))) {
			if string(data) == "[DONE]" {
				return nil, io.EOF
			}
			return data, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// StrayError returns the error that came in the place of a stream, or nil.
func (x *Call) StrayError() *Said { return ErrorIn(x.stray) }
