package signup

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Mail is a mail to one person, in plain text.
type Mail struct {
	Key     string // the same for the same mail: it makes the Message-ID
	To      string // an address alone
	Subject string // ASCII
	Text    string
}

// Mailer sends mails. Send is called in the body of a step, and again with the same Key if a
// process died in it.
type Mailer interface {
	Send(ctx context.Context, m Mail) error
}

// name is made of the key.
func (m *Mail) name() string {
	sum := sha256.Sum256([]byte(m.Key))
	return hex.EncodeToString(sum[:16])
}

// message is the mail as it goes over the wire. A second one of the same key has the same
// Message-ID, by which mail programs know it.
func (m *Mail) message(from string, at time.Time) []byte {
	_, domain, _ := strings.Cut(from, "@")
	var b bytes.Buffer
	for _, h := range [][2]string{
		{"From", from}, {"To", m.To}, {"Subject", m.Subject}, {"Date", at.Format(time.RFC1123Z)},
		{"Message-ID", "<" + m.name() + "@" + cmp.Or(domain, "localhost") + ">"},
		{"MIME-Version", "1.0"}, {"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "8bit"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n" + strings.ReplaceAll(m.Text, "\n", "\r\n") + "\r\n")
	return b.Bytes()
}

// Outbox is no mail server: it puts mails into a folder, a file each.
type Outbox struct{ Dir string }

// Send writes a file, whose name is the mail's key. The same mail again is the same file.
func (o *Outbox) Send(_ context.Context, m Mail) error {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return err
	}
	whole := filepath.Join(o.Dir, m.name()+".eml")
	part := whole + ".part"
	if err := os.WriteFile(part, m.message("signup@localhost", time.Now()), 0o600); err != nil {
		return err
	}
	return os.Rename(part, whole)
}

// SMTP is a mail server. It is spoken to over TLS as soon as it offers that.
type SMTP struct {
	Host     string // with or without a port, which is 587 without
	User     string // "": it asks for none
	Password string
	From     string
}

const smtpLimit = 30 * time.Second // for a mail

// Send hands a mail over. A server takes a mail that was cut off on the way twice, if a process
// dies between its yes and the record of that: mail programs see the Message-ID.
func (s *SMTP) Send(ctx context.Context, m Mail) (err error) {
	host, port, err := net.SplitHostPort(s.Host)
	if err != nil {
		host, port = s.Host, "587"
	}
	ctx, cancel := context.WithTimeout(ctx, smtpLimit)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // package smtp knows no context
	defer func() {
		var said *textproto.Error
		if errors.As(err, &said) && said.Code >= 500 {
			err = pawl.Fatal(err) // it will say so again
		}
	}()
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return err
	}
	if ok, _ := c.Extension("STARTTLS"); ok {
		if err := c.StartTLS(&tls.Config{ServerName: host}); err != nil {
			return err
		}
	}
	if s.User != "" { // without TLS PlainAuth refuses, but for localhost
		if err := c.Auth(smtp.PlainAuth("", s.User, s.Password, host)); err != nil {
			return err
		}
	}
	if err := c.Mail(s.From); err != nil {
		return err
	}
	if err := c.Rcpt(m.To); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(m.message(s.From, time.Now())); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = c.Quit() // it has the mail
	return nil
}
