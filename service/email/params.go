package email

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// templateSchema are the parameters that only are there where templates are.
const templateSchema = `"template":{"description":"The name of a template, instead of text and html","type":"string","x-pawl-fill":"none"},
"data":{"description":"What the template is filled with","type":"object"},
`

const paramsSchema = `{"type":"object","required":["to","subject"],"additionalProperties":false,"properties":{
"to":{"description":"One address, or a list of them","type":["string","array"],"items":{"type":"string"},"minItems":1,"x-pawl-trusted":true},
"cc":{"type":["string","array"],"items":{"type":"string"},"x-pawl-trusted":true},
"bcc":{"type":["string","array"],"items":{"type":"string"},"x-pawl-trusted":true},
"replyTo":{"type":["string","array"],"items":{"type":"string"},"x-pawl-trusted":true},
"subject":{"description":"One line","type":"string"},
"text":{"description":"The message as plain text","type":"string"},
"body":{"description":"Another name of text","type":"string"},
"html":{"description":"The message as HTML","type":"string","x-pawl-fill":"html"},
` + templateSchema + `"attachments":{"type":"array","maxItems":50,"items":{"type":"object","required":["name","content"],"additionalProperties":false,"properties":{
"name":{"description":"A file name without a folder","type":"string","x-pawl-trusted":true},
"contentType":{"description":"text/plain by default, application/octet-stream with base64","type":"string"},
"content":{"type":"string"},
"encoding":{"description":"What content is: text as it stands, or base64","enum":["text","base64"]}}}},
"inReplyTo":{"description":"The Message-ID that is answered","type":"string"},
"references":{"description":"The Message-IDs of the thread, oldest first; inReplyTo by default","type":"array","items":{"type":"string"}},
"headers":{"description":"Auto-Submitted, Importance, List-Id, List-Unsubscribe, List-Unsubscribe-Post, Precedence, X-Auto-Response-Suppress, X-Priority","type":"object","additionalProperties":{"type":"string"}}}}`

// headers are those that a flow may set. Those that say who sends, to whom, and what parts there are, are the service's own.
var headers = []string{"Auto-Submitted", "Importance", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post", "Precedence", "X-Auto-Response-Suppress", "X-Priority"}

const (
	maxAttachments = 50
	maxLine        = 2000 // bytes of a subject or a header's value
	maxReferences  = 100
)

type params struct {
	To          addresses         `json:"to"`
	Cc          addresses         `json:"cc"`
	Bcc         addresses         `json:"bcc"`
	ReplyTo     addresses         `json:"replyTo"`
	Subject     string            `json:"subject"`
	Text        string            `json:"text"`
	Body        string            `json:"body"`
	HTML        string            `json:"html"`
	Template    string            `json:"template"`
	Data        map[string]any    `json:"data"`
	Attachments []attachment      `json:"attachments"`
	InReplyTo   string            `json:"inReplyTo"`
	References  []string          `json:"references"`
	Headers     map[string]string `json:"headers"`

	to, cc, bcc, replyTo []*mail.Address
}

type attachment struct {
	Name        string `json:"name"`
	ContentType string `json:"contentType"`
	Content     string `json:"content"`
	Encoding    string `json:"encoding"`
	content     []byte
}

// addresses are one text or a list of texts. Each is one address: a comma in what a template filled in must not add another recipient.
type addresses []string

func (a *addresses) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil && string(data) != "null" {
		*a = addresses{one}
		return nil
	}
	var list []string
	if err := json.Unmarshal(data, &list); err != nil {
		return errors.New("want an address, or a list of addresses")
	}
	*a = list
	return nil
}

// readParams decodes parameters and checks all that needs no server.
func (s *Service) readParams(data json.RawMessage) (*params, error) {
	// What stands in JSON is never more than six times as long as what it means, and base64 adds a third less.
	if len(data) > 6*s.opt.MaxBytes {
		return nil, forbidden("the parameters have %d bytes; a message has %d at most", len(data), s.opt.MaxBytes)
	}
	p := &params{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	d.UseNumber()
	if err := d.Decode(p); err != nil {
		return nil, invalid("the parameters of send: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, invalid("the parameters of send: something stands behind the object")
	}
	if p.Text != "" && p.Body != "" {
		return nil, invalid("text and body are the same: give one of them")
	}
	p.Text += p.Body
	if err := p.readAddresses(); err != nil {
		return nil, invalid("%v", err)
	}
	if n := len(p.to) + len(p.cc) + len(p.bcc); n > s.opt.MaxRecipients {
		return nil, forbidden("%d recipients; a message goes to %d at most", n, s.opt.MaxRecipients)
	}
	if err := p.checkContent(); err != nil {
		return nil, invalid("%v", err)
	}
	if err := p.checkHeaders(); err != nil {
		return nil, invalid("%v", err)
	}
	for i := range p.Attachments {
		if err := p.Attachments[i].read(); err != nil {
			return nil, invalid("attachments[%d]: %v", i, err)
		}
	}
	return p, nil
}

func (p *params) readAddresses() error {
	if len(p.To) == 0 {
		return errors.New("to is missing: name at least one recipient")
	}
	for _, field := range []struct {
		name string
		from addresses
		to   *[]*mail.Address
	}{{"to", p.To, &p.to}, {"cc", p.Cc, &p.cc}, {"bcc", p.Bcc, &p.bcc}, {"replyTo", p.ReplyTo, &p.replyTo}} {
		for _, text := range field.from {
			a, err := address(field.name, text)
			if err != nil {
				return err
			}
			*field.to = append(*field.to, a)
		}
	}
	return nil
}

// address reads one address, "ann@example.org" or "Ann <ann@example.org>".
func address(field, text string) (*mail.Address, error) {
	if err := line(field, text); err != nil {
		return nil, err
	}
	a, err := mail.ParseAddress(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %q is not one e-mail address (%v)", field, text, err)
	}
	local, domain, _ := strings.Cut(a.Address, "@")
	if len(a.Address) > 254 || len(local) > 64 || domain == "" {
		return nil, fmt.Errorf("%s: the address has %d bytes; 254 are allowed, and 64 before the @", field, len(a.Address))
	}
	return a, nil
}

func (p *params) checkContent() error {
	if strings.TrimSpace(p.Subject) == "" {
		return errors.New("subject is missing")
	}
	if err := line("subject", p.Subject); err != nil {
		return err
	}
	written := p.Text != "" || p.HTML != ""
	switch {
	case p.Template != "" && written:
		return errors.New("there is a template and a text: name one of the two")
	case p.Template == "" && !written:
		return errors.New("there is nothing to send: name text, html or template")
	case p.Template == "" && p.Data != nil:
		return errors.New("data fills a template, and no template is named")
	case len(p.Attachments) > maxAttachments:
		return fmt.Errorf("%d attachments; %d are allowed", len(p.Attachments), maxAttachments)
	}
	for name, text := range map[string]string{"text": p.Text, "html": p.HTML} {
		if strings.ContainsRune(text, 0) || !utf8.ValidString(text) {
			return fmt.Errorf("%s holds a zero byte, or bytes that are no UTF-8", name)
		}
	}
	return nil
}

var messageID = regexp.MustCompile(`^<?([!-;=?-~]{1,400}@[!-;=?-~]{1,255})>?$`)

func (p *params) checkHeaders() error {
	ids := p.References
	if p.InReplyTo != "" {
		ids = append(slices.Clone(ids), p.InReplyTo)
	}
	for _, id := range ids {
		if !messageID.MatchString(id) {
			return fmt.Errorf("%q is no Message-ID, such as <1@example.org>", id)
		}
	}
	if len(p.References) > maxReferences {
		return fmt.Errorf("%d references; %d are allowed: leave the oldest out", len(p.References), maxReferences)
	}
	seen := map[string]bool{}
	for name, v := range p.Headers {
		at := slices.IndexFunc(headers, func(h string) bool { return strings.EqualFold(h, name) })
		if at < 0 {
			return fmt.Errorf("the header %q can't be set; these can: %s", name, strings.Join(headers, ", "))
		}
		if seen[headers[at]] {
			return fmt.Errorf("the header %s is set twice", headers[at])
		}
		seen[headers[at]] = true
		if err := line("header "+headers[at], v); err != nil {
			return err
		}
	}
	return nil
}

func (a *attachment) read() error {
	if err := line("name", a.Name); err != nil {
		return err
	}
	if a.Name == "" || len(a.Name) > 255 || strings.ContainsAny(a.Name, `/\`) || strings.Trim(a.Name, ".") == "" {
		return fmt.Errorf("name is %q, want the name of a file without a folder", a.Name)
	}
	kind := "text/plain"
	switch a.Encoding {
	case "", "text":
		a.content = []byte(a.Content)
	case "base64":
		kind = "application/octet-stream"
		var err error
		if a.content, err = base64.StdEncoding.DecodeString(a.Content); err != nil {
			return fmt.Errorf("content is no base64: %v", err)
		}
	default:
		return fmt.Errorf("encoding is %q, want text or base64", a.Encoding)
	}
	if a.ContentType == "" {
		a.ContentType = kind
		return nil
	}
	media, _, err := mime.ParseMediaType(a.ContentType)
	if err != nil || line("contentType", a.ContentType) != nil || !strings.Contains(media, "/") {
		return fmt.Errorf("contentType is %q, want one such as application/pdf", a.ContentType)
	}
	if strings.HasPrefix(media, "multipart/") || strings.HasPrefix(media, "message/") {
		return fmt.Errorf("contentType is %s: a message in a message is not sent as an attachment", media)
	}
	a.ContentType = media
	return nil
}

// line refuses what would end a header and begin another, and everything else that no header can hold.
func line(field, text string) error {
	if len(text) > maxLine {
		return fmt.Errorf("%s has %d bytes; %d are allowed", field, len(text), maxLine)
	}
	if !utf8.ValidString(text) {
		return fmt.Errorf("%s is no UTF-8", field)
	}
	for _, r := range text {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return fmt.Errorf("%s holds a line break or another control character (%U), which no header may", field, r)
		}
	}
	return nil
}
