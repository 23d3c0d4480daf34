// Package email is the service by which flows send mail over SMTP. It is a room of its own, so that who sends none does
// not link a mail library.
//
// One call is one message on one connection: it is written whole before the server is called, and a server that refuses
// one recipient gets no message at all. The password, and what a server says, never stand in an error together.
package email

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl/service"
)

// TLS is how the connection to the mail server is kept secret.
type TLS string

const (
	StartTLS TLS = "starttls" // begins in the clear and goes over to TLS before anything is said; a server that can't is refused
	OnlyTLS  TLS = "tls"      // TLS from the first byte
	NoTLS    TLS = "none"     // in the clear: loopback only, unless Options.Insecure says otherwise
)

// Options says which server mail goes to and from whom it is. Host and From are needed.
type Options struct {
	Host     string
	Port     int // 0: 587 with starttls, 465 with tls, 25 with none
	User     string
	Password string
	TLS      TLS            // "": StartTLS
	Insecure bool           // allows NoTLS to hosts other than loopback; a password in the clear stays refused there
	RootCAs  *x509.CertPool // who may have signed the server's certificate; nil: whom the system trusts
	From     string         // "Support <support@example.org>", of every message
	// Templates holds files NAME.html and NAME.txt (package html/template and text/template) at its top, read once by New.
	// Any other name is an error. A field that the data lacks is an error of the call, never an empty place.
	Templates fs.FS

	ConnectTimeout time.Duration // until the server has greeted, is encrypted and knows who calls; 0: 15 s
	Timeout        time.Duration // of a whole call; 0: one minute
	MaxRecipients  int           // of to, cc and bcc together; 0: 100
	MaxBytes       int           // of a finished message, attachments and their encoding included; 0: 10 MiB
}

// Service sends mail. It holds no connection between calls.
type Service struct {
	opt       Options
	from      *mail.Address
	templates map[string]*template
	redact    *service.Redactor
}

// New reads the templates and checks the options; it does not call the server.
func New(opt Options) (*Service, error) {
	if opt.Host == "" || strings.ContainsAny(opt.Host, " \r\n/@") {
		return nil, fmt.Errorf("email: Host is %q, want the name or address of a mail server", opt.Host)
	}
	if opt.TLS == "" {
		opt.TLS = StartTLS
	}
	ports := map[TLS]int{StartTLS: 587, OnlyTLS: 465, NoTLS: 25}
	usual, known := ports[opt.TLS]
	switch {
	case !known:
		return nil, fmt.Errorf("email: TLS is %q, want starttls, tls or none", opt.TLS)
	case opt.TLS == NoTLS && !opt.Insecure && !loopback(opt.Host):
		return nil, fmt.Errorf("email: TLS is none and the host %s is not this machine: set starttls or tls, or Insecure if mail may be read on its way", opt.Host)
	case opt.Port < 0 || opt.Port > 65535:
		return nil, fmt.Errorf("email: Port is %d, want 1 to 65535", opt.Port)
	case opt.ConnectTimeout < 0 || opt.Timeout < 0 || opt.MaxRecipients < 0 || opt.MaxBytes < 0:
		return nil, fmt.Errorf("email: a limit is negative; 0 is the default")
	case opt.User == "" && opt.Password != "":
		return nil, fmt.Errorf("email: there is a Password and no User")
	}
	if opt.Port == 0 {
		opt.Port = usual
	}
	opt.ConnectTimeout = orElse(opt.ConnectTimeout, 15*time.Second)
	opt.Timeout = orElse(opt.Timeout, time.Minute)
	opt.MaxRecipients = orElse(opt.MaxRecipients, 100)
	opt.MaxBytes = orElse(opt.MaxBytes, 10<<20)
	from, err := address("from", opt.From)
	if err != nil {
		return nil, fmt.Errorf("email: From: %w", err)
	}
	templates, err := readTemplates(opt.Templates)
	if err != nil {
		return nil, fmt.Errorf("email: %w", err)
	}
	return &Service{opt: opt, from: from, templates: templates, redact: service.NewRedactor(opt.Password)}, nil
}

// Result is what the action send returns.
type Result struct {
	MessageID string   `json:"messageId"` // "<…@example.org>", what a later message names as inReplyTo
	Accepted  []string `json:"accepted"`  // the addresses that the server took
	Response  string   `json:"response"`  // what the server said to the message; often the id in its own log
}

// Actions are the one action send.
func (s *Service) Actions() []service.Action {
	return []service.Action{{
		Name: "send", Effect: service.Writes,
		Doc:    "Sends an e-mail. An attempt whose outcome is unknown may be repeated, with the same Message-ID, by which many mailboxes show it once.",
		Params: s.schema(),
		Result: json.RawMessage(`{"type":"object","required":["messageId","accepted","response"],"properties":{"messageId":{"type":"string"},"accepted":{"type":"array","items":{"type":"string"}},"response":{"type":"string"}}}`),
	}}
}

// schema is that of the parameters of send. It knows the templates' names, so that deploying checks them.
func (s *Service) schema() json.RawMessage {
	if len(s.templates) == 0 {
		return json.RawMessage(strings.Replace(paramsSchema, templateSchema, "", 1))
	}
	names, err := json.Marshal(slices.Sorted(maps.Keys(s.templates)))
	if err != nil {
		panic(err) // texts always are JSON
	}
	return json.RawMessage(strings.Replace(paramsSchema, `"x-pawl-fill":"none"`, `"x-pawl-fill":"none","enum":`+string(names), 1))
}

// Call sends one message.
func (s *Service) Call(ctx context.Context, c service.Call) (any, error) {
	if c.Action != "" && c.Action != "send" {
		return nil, invalid("there is no action %q; there is send", c.Action)
	}
	p, err := s.readParams(c.Params)
	if err != nil {
		return nil, err
	}
	m, err := s.compose(p, c.Key)
	if err != nil {
		return nil, err
	}
	if c.DryRun {
		return service.Plan{
			Would:   fmt.Sprintf("send an e-mail of %d bytes to %d recipients by %s", len(m.text), len(m.recipients), s.server()),
			Request: json.RawMessage(c.Params),
		}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	response, err := s.deliver(ctx, m)
	if err != nil {
		return nil, err
	}
	return Result{MessageID: m.id, Accepted: m.recipients, Response: response}, nil
}

func (s *Service) server() string { return net.JoinHostPort(s.opt.Host, fmt.Sprint(s.opt.Port)) }

// loopback reports whether a host is this machine by its very name: no other name is looked up.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

func orElse[T int | time.Duration](v, standard T) T {
	if v == 0 {
		return standard
	}
	return v
}

func invalid(format string, args ...any) error {
	return &service.Error{Code: service.Invalid, Message: "email: " + fmt.Sprintf(format, args...)}
}

func forbidden(format string, args ...any) error {
	return &service.Error{Code: service.Forbidden, Message: "email: " + fmt.Sprintf(format, args...)}
}
