package service

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Redacted stands where a secret was.
const Redacted = "[secret]"

// How long a secret must be, in bytes and without white space around it, to be taken out. One of fewer than
// minSecret is left: it would take common words out of every text, and be told by what is missing. One below
// fullSecret is taken out where it stands as a word, unchanged. Longer ones go in all their forms.
const (
	minSecret  = 4
	fullSecret = 6
	lineSecret = 16 // of a line within a secret, as of a private key, and of a part of an address
)

// A Redactor takes secrets out of what goes into journals, logs and errors: as they are, and in the forms in which they
// come back: within a text in base64 (standard and URL, at any place), in hexadecimal digits, escaped for an address,
// and escaped for JSON. Of secrets with several lines it takes out long lines too, and of addresses the password, long values of the query, and the
// address of a long path without its query. A form within a form is not
// found, nor a part of a secret, but for its beginning (6 bytes or more) before an ellipsis, where somebody has cut a text off. Secrets below 4 bytes are not looked for, those of 4 and 5 only as whole words.
//
// It does not change and may be shared. A nil one takes out nothing.
type Redactor struct {
	forms []form
}

// form is one way in which a secret is written.
type form struct {
	text  string
	word  bool // only where no letter and no digit stands beside it
	wider bool // with a digit of base64 on each side, if there is one: they hold the secret's first and last bits
}

// NewRedactor makes one that takes out the secrets. White space around a secret is not part of it.
func NewRedactor(secrets ...string) *Redactor {
	r := &Redactor{}
	for _, secret := range secrets {
		r.add(strings.TrimSpace(secret))
		for _, part := range addressParts(strings.TrimSpace(secret)) {
			r.add(part)
		}
		if strings.ContainsAny(secret, "\r\n") {
			for line := range strings.Lines(secret) {
				if line = strings.TrimSpace(line); len(line) >= lineSecret {
					r.add(line)
				}
			}
		}
	}
	slices.SortStableFunc(r.forms, func(x, y form) int { return cmp.Compare(x.text, y.text) })
	r.forms = slices.Compact(r.forms)
	return r
}

// addressParts are what an address that is a secret has in it that is one by itself, or is told without the rest: errors name an address without
// its query.
func addressParts(secret string) (parts []string) {
	u, err := url.Parse(secret)
	if err != nil || u.Host == "" {
		return nil
	}
	if password, is := u.User.Password(); is {
		parts = append(parts, password)
	}
	if len(u.Path) > lineSecret && (u.Scheme == "http" || u.Scheme == "https") {
		parts = append(parts, plainURL(u))
	}
	for _, values := range u.Query() {
		for _, value := range values {
			if len(value) >= lineSecret {
				parts = append(parts, value)
			}
		}
	}
	return parts
}

func (r *Redactor) add(secret string) {
	switch {
	case len(secret) < minSecret:
		return
	case len(secret) < fullSecret:
		r.forms = append(r.forms, form{text: secret, word: true})
		return
	}
	digits := hex.EncodeToString([]byte(secret))
	texts := []string{secret, digits, strings.ToUpper(digits)}
	for _, escaped := range []string{url.QueryEscape(secret), url.PathEscape(secret), strings.ReplaceAll(url.QueryEscape(secret), "+", "%20"), url.User(secret).String(), allEscaped(secret)} {
		texts = append(texts, escaped, lowerEscapes(escaped))
	}
	for _, html := range []bool{true, false} {
		quoted := quoteJSON(secret, html)
		texts = append(texts, quoted, strings.ReplaceAll(quoted, "/", `\/`), asciiJSON(quoted))
	}
	for _, text := range texts {
		r.forms = append(r.forms, form{text: text})
	}
	for at := range 3 {
		r.forms = append(r.forms, inBase64(base64.RawStdEncoding, secret, at), inBase64(base64.RawURLEncoding, secret, at))
	}
}

// inBase64 is what a secret is in base64 whatever stands around it, if it begins at a byte whose number is at, modulo 3.
// The sign before it and the one behind hold some of its bits too.
func inBase64(e *base64.Encoding, secret string, at int) form {
	text := e.EncodeToString([]byte("\x00\x00"[:at] + secret))
	first, end := (at*8+5)/6, (at+len(secret))*8/6
	return form{text: text[first:end], wider: true}
}

// allEscaped is a text of which every byte but letters and digits is escaped, as some clients do.
func allEscaped(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < utf8.RuneSelf && isWord(rune(c)) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// lowerEscapes writes %2F as %2f.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], bytes.ToLower(b[i+1:i+3]))
			i += 2
		}
	}
	return string(b)
}

// quoteJSON is a text as it stands between the quotes of JSON.
func quoteJSON(s string, html bool) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	_ = e.Encode(s) // a bytes.Buffer takes all
	text := strings.TrimSuffix(b.String(), "\n")
	return text[1 : len(text)-1]
}

// asciiJSON escapes what is not ASCII, as many encoders do.
func asciiJSON(quoted string) string {
	var b strings.Builder
	for _, c := range quoted {
		switch {
		case c < utf8.RuneSelf:
			b.WriteRune(c)
		case c > 0xffff:
			c -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+c>>10, 0xdc00+c&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	return b.String()
}

func isWord(c rune) bool { return unicode.IsLetter(c) || unicode.IsDigit(c) }

// span is a part of a text, from a byte up to another.
type span struct{ from, to int }

// Text is s without the secrets.
func (r *Redactor) Text(s string) string {
	if r == nil {
		return s
	}
	var found []span
	for _, f := range r.forms {
		found = f.cut(s, f.find(s, found))
	}
	if found == nil {
		return s
	}
	slices.SortFunc(found, func(x, y span) int { return cmp.Compare(x.from, y.from) })
	var b strings.Builder
	done := 0
	for i := 0; i < len(found); {
		from, to := found[i].from, found[i].to
		for i++; i < len(found) && found[i].from < to; i++ {
			to = max(to, found[i].to)
		}
		b.WriteString(s[done:from])
		b.WriteString(Redacted)
		done = to
	}
	b.WriteString(s[done:])
	return b.String()
}

// find adds where the form stands. Places that overlap become one.
func (f form) find(s string, found []span) []span {
	own := len(found)
	for at := 0; ; {
		i := strings.Index(s[at:], f.text)
		if i < 0 {
			return found
		}
		p := span{at + i, at + i + len(f.text)}
		at = p.from + 1
		if f.word {
			before, _ := utf8.DecodeLastRuneInString(s[:p.from])
			behind, _ := utf8.DecodeRuneInString(s[p.to:])
			if isWord(before) || isWord(behind) {
				continue
			}
		}
		if p.from > 0 && f.wider && isBase64(s[p.from-1]) {
			p.from--
		}
		if p.to < len(s) && f.wider && isBase64(s[p.to]) {
			p.to++
		}
		if last := len(found) - 1; last >= own && p.from < found[last].to {
			found[last].to = p.to
			continue
		}
		found = append(found, p)
	}
}

// cut adds where the form's beginning stands before an ellipsis: an error quotes an answer, and the end of the quotation may
// fall into the secret.
func (f form) cut(s string, found []span) []span {
	if f.word {
		return found
	}
	for _, mark := range []string{"…", "..."} {
		for at := 0; ; {
			i := strings.Index(s[at:], mark)
			if i < 0 {
				break
			}
			end := at + i
			at = end + len(mark)
			for from := max(0, end-len(f.text)); ; from++ {
				i := strings.Index(s[from:end], f.text[:fullSecret])
				if i < 0 {
					break
				}
				if from += i; strings.HasPrefix(f.text, s[from:end]) {
					found = append(found, span{from, end})
					break
				}
			}
		}
	}
	return found
}

// isBase64 reports whether a byte is a digit of base64, of either alphabet.
func isBase64(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("+/-_", c) >= 0
}

// JSON is v as [json.Marshal] writes it, without the secrets: texts and names in objects are cleaned as they read, however they
// are escaped, and a number that holds a secret becomes a text. What holds none stays byte for byte, also in a
// [json.RawMessage], which must be JSON.
func (r *Redactor) JSON(v any) (json.RawMessage, error) {
	data, err := marshal(v)
	if err != nil || r == nil || len(r.forms) == 0 {
		return data, err
	}
	if !json.Valid(data) {
		return nil, errors.New("what should be cleaned of secrets is no JSON")
	}
	if !r.mayStandIn(data) {
		return data, nil
	}
	in := json.NewDecoder(bytes.NewReader(data))
	in.UseNumber()
	var out []byte
	done := 0 // of data, what out holds
	for {
		before := int(in.InputOffset())
		token, err := in.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		var text string
		switch t := token.(type) {
		case string:
			text = t
		case json.Number:
			text = t.String()
		default:
			continue
		}
		clean := r.Text(text)
		if clean == text {
			continue
		}
		end := int(in.InputOffset())
		from := before + bytes.IndexFunc(data[before:end], func(c rune) bool { return !strings.ContainsRune(" \t\r\n,:", c) })
		out = append(append(out, data[done:from]...), '"')
		out = append(append(out, quoteJSON(clean, true)...), '"')
		done = end
	}
	if done == 0 {
		return data, nil
	}
	return append(out, data[done:]...), nil
}

// marshal is json.Marshal. A text of which nothing is to be escaped is copied once, and a [json.RawMessage] not at all: what services
// answer may be large.
func marshal(v any) (json.RawMessage, error) {
	switch v := v.(type) {
	case json.RawMessage:
		if v != nil {
			return v, nil
		}
	case string:
		if isPlain(v) {
			data := make([]byte, 0, len(v)+2)
			return append(append(append(data, '"'), v...), '"'), nil
		}
	}
	return json.Marshal(v)
}

// isPlain reports whether a text stands in JSON as it is. It may say no of one that does.
func isPlain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c == '"', c == '\\', c == '<', c == '>', c == '&', c >= utf8.RuneSelf:
			return false
		}
	}
	return true
}

// mayStandIn reports whether JSON may hold a secret, without reading it value by value: where nothing is escaped, texts stand in it as
// they read, and what was cut off is told by its ellipsis.
func (r *Redactor) mayStandIn(data []byte) bool {
	if bytes.IndexByte(data, '\\') >= 0 || bytes.Contains(data, []byte("…")) || bytes.Contains(data, []byte("...")) {
		return true
	}
	return slices.ContainsFunc(r.forms, func(f form) bool { return bytes.Contains(data, []byte(f.text)) })
}

// String tells how many forms it knows, and none of them.
func (r *Redactor) String() string {
	if r == nil {
		return "redactor of no secrets"
	}
	return fmt.Sprintf("redactor of %d forms of secrets", len(r.forms))
}

// Format is String for every verb, so that no %+v prints secrets.
func (r *Redactor) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }
