package email_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/service/email"
)

const (
	user     = "mailer"
	password = "correct horse battery"
)

// server is a mail server that keeps what it gets. The hooks are called for each message, and may be nil.
type server struct {
	host  string
	port  int
	roots *x509.CertPool

	beforeMail func(c *smtp.Conn)

	onMail func() error
	onRcpt func(to string) error
	onData func(c *smtp.Conn) error // after the message has come whole

	mu       sync.Mutex
	sessions int
	got      []received
}

type received struct {
	from, user string
	to         []string
	text       string
	encrypted  bool
}

// serve starts a server. With secure it offers STARTTLS; with implicit it speaks TLS from the first byte.
func serve(t *testing.T, s *server, secure, implicit bool) *server {
	t.Helper()
	if s.host == "" {
		s.host = "127.0.0.1"
	}
	config, roots := certificate(t, s.host)
	s.roots = roots
	srv := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sessions++
		return &session{server: s, conn: c}, nil
	}))
	srv.Domain = "mail.test"
	srv.AllowInsecureAuth = true // what a hostile server does
	srv.EnableSMTPUTF8 = s.host == "127.0.0.1"
	srv.ErrorLog = silent{}
	if secure {
		srv.TLSConfig = config
	}
	l, err := net.Listen("tcp", net.JoinHostPort(s.host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	if implicit {
		l = tls.NewListener(l, config)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // it ends with the listener
	}()
	t.Cleanup(func() {
		_ = l.Close() // a server that has not begun yet does not know it
		_ = srv.Close()
		<-done
	})
	return s
}

func (s *server) messages() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.got...)
}

func (s *server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

type session struct {
	*server
	conn *smtp.Conn
	now  received
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, name, secret string) error {
		if name != user || secret != password {
			return &smtp.SMTPError{Code: 535, Message: "not " + secret + " of " + name}
		}
		s.now.user = name
		return nil
	}), nil
}

func (s *session) Reset()        { s.now = received{user: s.now.user} }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.beforeMail != nil {
		s.beforeMail(s.conn)
	}
	s.now.from = from
	_, s.now.encrypted = s.conn.TLSConnectionState()
	if s.onMail != nil {
		return s.onMail()
	}
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if s.onRcpt != nil {
		if err := s.onRcpt(to); err != nil {
			return err
		}
	}
	s.now.to = append(s.now.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.onData != nil {
		if err := s.onData(s.conn); err != nil {
			return err
		}
	}
	s.now.text = string(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, s.now)
	return nil
}

type silent struct{}

func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}

// certificate is one for an address, signed by an authority of its own.
func certificate(t *testing.T, host string) (*tls.Config, *x509.CertPool) {
	t.Helper()
	made := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if parent == nil {
			parent, signer = template, key
		}
		data, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(data)
		if err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	until := time.Now().Add(24 * time.Hour)
	ca, caKey := made(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: until, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	leaf, key := made(&x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: until, IPAddresses: []net.IP{net.ParseIP(host)}}, ca, caKey)
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}}, roots
}

// to are options that fit a server with STARTTLS.
func (s *server) options() email.Options {
	return email.Options{Host: s.host, Port: s.port, User: user, Password: password, RootCAs: s.roots, From: "Support <support@example.org>"}
}

func open(t *testing.T, opt email.Options) *email.Service {
	t.Helper()
	s, err := email.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func send(t *testing.T, s *email.Service, key, params string) (email.Result, error) {
	t.Helper()
	out, err := s.Call(t.Context(), service.Call{Action: "send", Params: json.RawMessage(params), Key: key})
	if err != nil {
		return email.Result{}, err
	}
	return out.(email.Result), nil
}

// refused asks for an error of a code with a word in it, and without the password.
func refused(t *testing.T, err error, code, word string) {
	t.Helper()
	var e *service.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an error with the code %s", err, code)
	}
	if e.Code != code || !strings.Contains(e.Error(), word) {
		t.Errorf("got %s: %v; want %s with %q", e.Code, e, code, word)
	}
	if strings.Contains(err.Error(), password) {
		t.Errorf("the password stands in the error: %v", err)
	}
}

func parsed(t *testing.T, text string) *mail.Message {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func within(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}
