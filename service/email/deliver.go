package email

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"github.com/pawlrun/pawl/service"
)

// deliver hands the message to the server and returns what the server said to it.
func (s *Service) deliver(ctx context.Context, m *message) (string, error) {
	w := &wire{ctx: ctx}
	defer w.close()
	client, err := s.dial(w)
	if err != nil {
		return "", s.failed(ctx, "connect", err)
	}
	if until, ok := ctx.Deadline(); ok {
		if err := client.UpdateDeadline(time.Until(until)); err != nil {
			return "", s.failed(ctx, "connect", err)
		}
	}
	client.SkipSMTPUTF8(!m.international) // who asks for it without need is refused by servers further on that can't
	if able, _ := client.Extension("SMTPUTF8"); m.international && !able {
		return "", invalid("an address holds letters beyond ASCII, which the server %s does not take", s.server())
	}
	if err := client.Mail(path(s.from.Address)); err != nil {
		return "", s.failed(ctx, "MAIL FROM "+s.from.Address, err)
	}
	if err := s.recipients(ctx, client, m.recipients); err != nil {
		return "", err
	}
	data, err := client.Data()
	if err != nil {
		return "", s.failed(ctx, "DATA", err)
	}
	if _, err := data.Write(m.text); err != nil {
		return "", s.failed(ctx, "send the message", err)
	}
	// From the end of the data on, the server may have taken the message, whatever becomes of its answer.
	if err := data.Close(); err != nil {
		return "", s.unknown(ctx, err)
	}
	// A connection that is left without a word is as good, so errors have no reader.
	_ = client.UpdateDeadline(time.Second)
	_ = client.Quit()
	if closed, ok := data.(*smtp.DataCloser); ok {
		return s.redact.Text(short(closed.ServerResponse())), nil
	}
	return "", nil
}

// dial connects, encrypts and tells who calls, all within ConnectTimeout.
func (s *Service) dial(w *wire) (*smtp.Client, error) {
	config := &tls.Config{ServerName: s.opt.Host, RootCAs: s.opt.RootCAs, MinVersion: tls.VersionTLS12}
	policy := gomail.NoTLS
	if s.opt.TLS == StartTLS {
		policy = gomail.TLSMandatory
	}
	options := []gomail.Option{
		gomail.WithPort(s.opt.Port), gomail.WithTimeout(s.opt.ConnectTimeout), gomail.WithTLSPolicy(policy), gomail.WithTLSConfig(config),
		gomail.WithDialContextFunc(func(ctx context.Context, _, _ string) (net.Conn, error) { // the address that comes here has no brackets around IPv6
			return w.dial(ctx, s.server(), s.opt.TLS == OnlyTLS, config)
		}),
	}
	if s.opt.TLS == OnlyTLS {
		options = append(options, gomail.WithSSL())
	}
	caller, err := gomail.NewClient(s.opt.Host, options...)
	if err != nil {
		return nil, err
	}
	client, err := caller.DialToSMTPClientWithContext(w.ctx)
	if err != nil || s.opt.User == "" {
		return client, err
	}
	_, mechanisms := client.Extension("AUTH")
	for _, m := range []struct {
		name string
		auth smtp.Auth
	}{ // in the order of preference; PLAIN and LOGIN show the password, and refuse themselves without TLS
		{"SCRAM-SHA-256", smtp.ScramSHA256Auth(s.opt.User, s.opt.Password)},
		{"SCRAM-SHA-1", smtp.ScramSHA1Auth(s.opt.User, s.opt.Password)},
		{"PLAIN", smtp.PlainAuth("", s.opt.User, s.opt.Password, s.opt.Host, false)},
		{"LOGIN", smtp.LoginAuth(s.opt.User, s.opt.Password, s.opt.Host, false)},
	} {
		if slices.Contains(strings.Fields(mechanisms), m.name) {
			return client, client.Auth(m.auth)
		}
	}
	return nil, errNoLogin
}

var errNoLogin = errors.New("it offers none of the logins SCRAM-SHA-256, SCRAM-SHA-1, PLAIN and LOGIN, and there is a User")

// recipients names all of them. One that is refused for good refuses the message, since another try can't help.
func (s *Service) recipients(ctx context.Context, client *smtp.Client, all []string) error {
	var refused, later error
	for _, to := range all {
		err := client.Rcpt(path(to))
		var reply *textproto.Error
		switch {
		case err == nil:
		case !errors.As(err, &reply):
			return s.failed(ctx, "RCPT TO "+to, err)
		case reply.Code >= 500 && refused == nil:
			refused = s.failed(ctx, "RCPT TO "+to, err)
		case reply.Code < 500 && later == nil:
			later = s.failed(ctx, "RCPT TO "+to, err)
		}
	}
	if refused != nil {
		return refused
	}
	return later
}

// failed is an error from before the end of the data: nothing was sent.
func (s *Service) failed(ctx context.Context, during string, err error) error {
	var reply *textproto.Error
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var timeout net.Error
	answer := func(code, format string, args ...any) error {
		return &service.Error{Code: code, Message: "email: " + s.redact.Text(fmt.Sprintf(format, args...)) + "; nothing was sent", Err: cause(ctx)}
	}
	switch {
	case ctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout():
		return answer(service.Unavailable, "%s at %s: no answer in time", during, s.server())
	case errors.As(err, &certificate) || errors.As(err, &authority):
		return answer(service.Forbidden, "%s at %s: its certificate is not trusted: %v", during, s.server(), err)
	case errors.Is(err, smtp.ErrUnencrypted):
		return answer(service.Forbidden, "%s at %s: the password is not sent over a connection without TLS", during, s.server())
	case errors.As(err, &reply):
		return answer(codeOf(reply.Code), "%s at %s: the server answered %d %s", during, s.server(), reply.Code, short(reply.Msg))
	case strings.Contains(err.Error(), "does not support STARTTLS"):
		return answer(service.Forbidden, "%s at %s: it offers no STARTTLS, and TLS is required", during, s.server())
	case errors.Is(err, errNoLogin):
		return answer(service.Denied, "%s at %s: %v", during, s.server(), err)
	}
	return answer(service.Unavailable, "%s at %s: %s", during, s.server(), short(err.Error()))
}

// unknown is an error behind the end of the data. A refusal is a clear one; anything else leaves open what became of the message.
func (s *Service) unknown(ctx context.Context, err error) error {
	var reply *textproto.Error
	if errors.As(err, &reply) {
		return s.failed(ctx, "the message", err)
	}
	return &service.Error{Code: service.TimedOut, Err: cause(ctx),
		Message: fmt.Sprintf("email: %s took the message and did not say what became of it: it may have been sent", s.server())}
}

// cause keeps a context's end for those who ask for it. What a connection says is told in the message, without secrets.
func cause(ctx context.Context) error { return context.Cause(ctx) }

// codeOf sorts SMTP's replies: 4xx pass, 53x are about who asks, other 5xx about what is asked.
func codeOf(reply int) string {
	switch {
	case reply >= 400 && reply < 500:
		return service.Unavailable
	case reply == 530 || reply == 534 || reply == 535 || reply == 538:
		return service.Denied
	case reply >= 500 && reply < 600:
		return service.Invalid
	}
	return service.BadAnswer
}

// short is a server's text on one line, bounded.
func short(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	return text
}

// wire is the one connection of a call, which is cut when the call's context ends.
type wire struct {
	ctx  context.Context
	mu   sync.Mutex
	conn net.Conn
	stop func() bool
}

func (w *wire) dial(ctx context.Context, address string, encrypt bool, config *tls.Config) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn = &bounded{Conn: conn, left: maxReplies}
	w.mu.Lock()
	w.conn = conn
	w.stop = context.AfterFunc(w.ctx, w.cut)
	w.mu.Unlock()
	if !encrypt {
		return conn, nil
	}
	encrypted := tls.Client(conn, config)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return encrypted, nil
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.conn.Close() // it ends whoever waits for it, who tells
}

func (w *wire) close() {
	if w.stop != nil {
		w.stop()
		w.cut()
	}
}

const maxReplies = 1 << 20 // bytes that a server may say in one call, certificates included

// bounded ends a connection over which more comes than a mail server has to say.
type bounded struct {
	net.Conn
	left int
}

func (c *bounded) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, fmt.Errorf("it says more than %d bytes", maxReplies)
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
