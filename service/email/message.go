package email

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/mail"
	"slices"
	"strings"

	gomail "github.com/wneessen/go-mail"
)

// message is what goes to the server, written whole.
type message struct {
	id            string // with its brackets
	recipients    []string
	international bool // an address is not ASCII
	text          []byte
}

// compose writes the message. The same key gives the same Message-ID, so that mailboxes and people can tell a repeated attempt.
func (s *Service) compose(p *params, key string) (*message, error) {
	text, html := p.Text, p.HTML
	if p.Template != "" {
		var err error
		if text, html, err = s.fill(p.Template, p.Data); err != nil {
			return nil, err
		}
	}
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	_, domain, _ := strings.Cut(s.from.Address, "@")
	id := idOf(key) + "@" + domain
	m.FromMailAddress(s.from)
	m.ToMailAddress(p.to...)
	m.CcMailAddress(p.cc...)
	m.ReplyToMailAddress(p.replyTo...)
	m.Subject(p.Subject)
	m.SetMessageIDWithValue(id)
	for name, v := range p.Headers {
		at := slices.IndexFunc(headers, func(h string) bool { return strings.EqualFold(h, name) })
		m.SetGenHeader(gomail.Header(headers[at]), v)
	}
	thread(m, p)
	switch {
	case text == "":
		m.SetBodyString(gomail.TypeTextHTML, html)
	case html == "":
		m.SetBodyString(gomail.TypeTextPlain, text)
	default: // the form that is liked best comes last
		m.SetBodyString(gomail.TypeTextPlain, text)
		m.AddAlternativeString(gomail.TypeTextHTML, html)
	}
	for _, a := range p.Attachments {
		m.AttachReadSeeker(a.Name, bytes.NewReader(a.content), gomail.WithFileContentType(gomail.ContentType(a.ContentType)))
	}
	out := &message{id: "<" + id + ">"}
	for _, a := range slices.Concat(p.to, p.cc, p.bcc) {
		if !slices.Contains(out.recipients, a.Address) {
			out.recipients = append(out.recipients, a.Address)
		}
		out.international = out.international || !ascii(a.Address)
	}
	out.international = out.international || !ascii(s.from.Address)
	var written bytes.Buffer
	if _, err := m.WriteTo(&written); err != nil {
		return nil, invalid("the message can't be written: %v", err)
	}
	if written.Len() > s.opt.MaxBytes {
		return nil, forbidden("the message has %d bytes; %d are allowed", written.Len(), s.opt.MaxBytes)
	}
	out.text = written.Bytes()
	return out, nil
}

// thread says what the message answers.
func thread(m *gomail.Msg, p *params) {
	bracketed := func(id string) string { return "<" + messageID.FindStringSubmatch(id)[1] + ">" }
	references := make([]string, 0, len(p.References)+1)
	for _, id := range p.References {
		references = append(references, bracketed(id))
	}
	if p.InReplyTo != "" {
		answered := bracketed(p.InReplyTo)
		m.SetGenHeader(gomail.HeaderInReplyTo, answered)
		if !slices.Contains(references, answered) {
			references = append(references, answered)
		}
	}
	if len(references) > 0 {
		m.SetGenHeader(gomail.HeaderReferences, strings.Join(references, " "))
	}
}

// idOf hides the key, which names a run: a Message-ID is read by strangers.
func idOf(key string) string {
	if key == "" {
		return strings.ToLower(rand.Text())
	}
	sum := sha256.Sum256([]byte("pawl message " + key))
	return hex.EncodeToString(sum[:16])
}

func ascii(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r >= 0x80 }) < 0
}

// path is an address as SMTP's commands write it: with its brackets, and quotes where the part before the @ needs them.
func path(address string) string { return (&mail.Address{Address: address}).String() }
