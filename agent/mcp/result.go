package mcp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// render makes text for a model of the result of a call.
func render(result json.RawMessage, limit int) (string, *Error) {
	fields, ok := object(result)
	if !ok {
		return "", &Error{Kind: Malformed, Message: "the server's result is not a JSON object"}
	}
	var kind string
	_ = json.Unmarshal(fields["resultType"], &kind)
	if kind == "input_required" || len(fields["inputRequests"]) > 0 {
		return "", &Error{Kind: Rejected, Message: "the tool asks its caller for input, which this program does not give"}
	}
	var blocks []json.RawMessage
	if c := fields["content"]; len(c) > 0 && json.Unmarshal(c, &blocks) != nil {
		return "", &Error{Kind: Malformed, Message: "the content of the server's result is not an array"}
	}
	structured := fields["structuredContent"]
	if string(structured) == "null" {
		structured = nil
	}
	var parts []string
	for _, b := range blocks {
		text, same := renderBlock(b, structured)
		if !same {
			parts = append(parts, text)
		}
	}
	if structured != nil {
		var compact bytes.Buffer
		if err := json.Compact(&compact, structured); err != nil {
			return "", &Error{Kind: Malformed, Message: "the structured content of the server's result is not JSON"}
		}
		parts = append(parts, compact.String())
	}
	text := strings.ToValidUTF8(strings.Join(parts, "\n"), "\uFFFD")
	var failed bool
	if json.Unmarshal(fields["isError"], &failed) == nil && failed {
		if strings.TrimSpace(text) == "" {
			text = "the tool failed without saying why"
		}
		return "", &Error{Kind: Failed, Message: words(text)}
	}
	if len(text) > limit {
		kept := shorten(text, limit)
		text = fmt.Sprintf("%s\n[cut: the result has %d bytes, of which these are the first %d]", kept, len(text), len(kept)-len("…"))
	}
	return text, nil
}

// renderBlock renders one block of content; same says that it only repeats the structured
// content, as the protocol asks servers to do for old clients.
func renderBlock(block, structured json.RawMessage) (text string, same bool) {
	var b struct {
		Type     string          `json:"type"`
		Text     string          `json:"text"`
		MIMEType string          `json:"mimeType"`
		Data     json.RawMessage `json:"data"`
		URI      string          `json:"uri"`
		Name     string          `json:"name"`
		Title    string          `json:"title"`
		Resource struct {
			URI      string          `json:"uri"`
			MIMEType string          `json:"mimeType"`
			Text     *string         `json:"text"`
			Blob     json.RawMessage `json:"blob"`
		} `json:"resource"`
	}
	if json.Unmarshal(block, &b) != nil {
		return "[content that can't be read]", false
	}
	switch b.Type {
	case "text":
		return b.Text, structured != nil && sameJSON(b.Text, structured)
	case "image", "audio":
		return fmt.Sprintf("[%s, %s, %d bytes, not shown]", b.Type, named(b.MIMEType), decodedLen(b.Data)), false
	case "resource_link":
		name := b.Title
		if name == "" {
			name = b.Name
		}
		return fmt.Sprintf("[link to %s: %s, %s]", named(name), named(b.URI), named(b.MIMEType)), false
	case "resource":
		if r := b.Resource; r.Text != nil {
			return fmt.Sprintf("[resource %s, %s]\n%s", named(r.URI), named(r.MIMEType), *r.Text), false
		}
		return fmt.Sprintf("[resource %s, %s, %d bytes, not shown]", named(b.Resource.URI), named(b.Resource.MIMEType), decodedLen(b.Resource.Blob)), false
	}
	return fmt.Sprintf("[content of type %s, not shown]", named(b.Type)), false
}

// named is a short word of the server in a description.
func named(s string) string {
	if s == "" {
		return "unnamed"
	}
	return shorten(plain(s), 256)
}

// decodedLen is how long a JSON string of base64 is when decoded.
func decodedLen(quoted json.RawMessage) int {
	s := strings.TrimRight(strings.Trim(string(quoted), `"`), "=")
	return len(s) * 3 / 4
}

func sameJSON(text string, structured json.RawMessage) bool {
	text = strings.TrimSpace(text)
	if text == "" || len(text) > 4*len(structured)+64 {
		return false
	}
	a, err := decodeExact([]byte(text))
	if err != nil {
		return false
	}
	b, err := decodeExact(structured)
	return err == nil && reflect.DeepEqual(a, b)
}

// decodeExact decodes one JSON value and keeps the digits of its numbers.
func decodeExact(data []byte) (v any, err error) {
	if !json.Valid(data) {
		return nil, fmt.Errorf("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

// object splits a JSON object into its fields, whose names are taken exactly.
func object(data json.RawMessage) (map[string]json.RawMessage, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil || fields == nil {
		return nil, false
	}
	return fields, true
}
