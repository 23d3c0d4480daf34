package email_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/service/email"
)

// What would add a header, a recipient or a command is refused before the server is called.
func TestNothingIsInjected(t *testing.T) {
	s := serve(t, &server{}, true, false)
	mailer := open(t, s.options())
	many := `"` + strings.Repeat(`a@example.org", "`, 100) + `a@example.org"`
	for _, test := range []struct{ params, code string }{
		{`"to": "a@example.org", "subject": "x\r\nBcc: evil@example.org", "text": "t"`, service.Invalid},
		{`"to": "a@example.org", "subject": "x\nBcc: evil@example.org", "text": "t"`, service.Invalid},
		{`"to": "a@example.org", "subject": "x\u0000", "text": "t"`, service.Invalid},
		{`"to": "a@example.org", "subject": "x\u2028y", "text": "t"`, service.Invalid},
		{`"to": "a@example.org\r\nRCPT TO:<evil@example.org>", "subject": "s", "text": "t"`, service.Invalid},
		{`"to": "a@example.org, evil@example.org", "subject": "s", "text": "t"`, service.Invalid},
		{`"to": "a@example.org; evil@example.org", "subject": "s", "text": "t"`, service.Invalid},
		{`"to": "x:a@example.org,evil@example.org;", "subject": "s", "text": "t"`, service.Invalid},
		{`"to": "a@example.org> <evil@example.org", "subject": "s", "text": "t"`, service.Invalid},
		{`"to": "\"a\r\n\"@example.org", "subject": "s", "text": "t"`, service.Invalid},
		{`"to": "Ann\r\n <a@example.org>", "subject": "s", "text": "t"`, service.Invalid},
		{`"to": "nobody", "subject": "s", "text": "t"`, service.Invalid},
		{`"to": "{{variables.to}}", "subject": "s", "text": "t"`, service.Invalid},
		{`"to": null, "subject": "s", "text": "t"`, service.Invalid},
		{`"to": [], "subject": "s", "text": "t"`, service.Invalid},
		{`"to": 5, "subject": "s", "text": "t"`, service.Invalid},
		{`"to": [` + many + `], "subject": "s", "text": "t"`, service.Forbidden},
		{`"to": "a@example.org", "replyTo": "x\r\ny", "subject": "s", "text": "t"`, service.Invalid},
		{`"to": "a@example.org", "subject": "s", "text": "t", "headers": {"Bcc": "evil@example.org"}`, service.Invalid},
		{`"to": "a@example.org", "subject": "s", "text": "t", "headers": {"From": "evil@example.org"}`, service.Invalid},
		{`"to": "a@example.org", "subject": "s", "text": "t", "headers": {"List-Id": "x\r\nBcc: evil@example.org"}`, service.Invalid},
		{`"to": "a@example.org", "subject": "s", "text": "t", "headers": {"List-Id": "x", "list-id": "y"}`, service.Invalid},
		{`"to": "a@example.org", "subject": "s", "text": "t", "inReplyTo": "<1@x>\r\nBcc: e@x"`, service.Invalid},
		{`"to": "a@example.org", "subject": "s", "text": "t", "references": ["1@x> <2@x"]`, service.Invalid},
		{`"to": "a@example.org", "subject": "s", "text": "t", "attachments": [{"name": "../x", "content": ""}]`, service.Invalid},
		{`"to": "a@example.org", "subject": "s", "text": "t", "attachments": [{"name": "a\"\r\nX: y", "content": ""}]`, service.Invalid},
		{`"to": "a@example.org", "subject": "s", "text": "t", "attachments": [{"name": "a", "content": "", "contentType": "text/html\r\nX: y"}]`, service.Invalid},
		{`"to": "a@example.org", "subject": "s", "text": "t", "attachments": [{"name": "a", "content": "", "contentType": "message/rfc822"}]`, service.Invalid},
		{`"to": "a@example.org", "subject": "s", "text": "t", "attachments": [{"name": "a", "content": "%", "encoding": "base64"}]`, service.Invalid},
		{`"to": "a@example.org", "subject": "s", "text": "t", "from": "evil@example.org"`, service.Invalid},
		{`"to": "a@example.org", "subject": "", "text": "t"`, service.Invalid},
		{`"to": "a@example.org", "subject": "s"`, service.Invalid},
	} {
		_, err := send(t, mailer, "k", "{"+test.params+"}")
		var e *service.Error
		if !errors.As(err, &e) || e.Code != test.code || !e.Fatal() {
			t.Errorf("%.120s: %v, want %s", test.params, err, test.code)
		}
	}
	equal(t, "connections", s.connections(), 0)
}

// A name of somebody else is only a name: it does not break out of its quotes.
func TestANameIsOnlyAName(t *testing.T) {
	s := serve(t, &server{}, true, false)
	mailer := open(t, s.options())
	for i, name := range []string{`boss@bank.example`, `x, evil@example.org`, `a" <evil@example.org>, "`, `=?utf-8?q?=3Cevil=40example.org=3E?=`} {
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `" <a@example.org>`
		params, err := json.Marshal(map[string]any{"to": quoted, "subject": name, "text": "t"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := send(t, mailer, "k", string(params)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := s.messages()[i]
		equal(t, "envelope", strings.Join(got.to, " "), "a@example.org")
		to, err := parsed(t, got.text).Header.AddressList("To")
		if err != nil || len(to) != 1 || to[0].Address != "a@example.org" {
			t.Errorf("%s: to is %v, %v", name, to, err)
		}
	}
}

// A server that has no way to carry letters beyond ASCII gets no address with such, which it would misread.
func TestInternationalAddresses(t *testing.T) {
	able, unable := serve(t, &server{}, true, false), serve(t, &server{host: "127.0.0.2"}, true, false)
	params := `{"to": "jürgen@münchen.example", "subject": "s", "text": "t"}`
	if _, err := send(t, open(t, able.options()), "k", params); err != nil {
		t.Error(err)
	}
	_, err := send(t, open(t, unable.options()), "k", params)
	refused(t, err, service.Invalid, "beyond ASCII")
}

func TestACallEndsSoonAfterItsContext(t *testing.T) {
	reached := make(chan struct{}, 8)
	hold := make(chan struct{})
	s := serve(t, &server{onData: func(*smtp.Conn) error {
		reached <- struct{}{}
		<-hold
		return nil
	}}, true, false)
	t.Cleanup(func() { close(hold) }) // before the server's own end
	mailer := open(t, s.options())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := mailer.Call(ctx, service.Call{Params: json.RawMessage(plainParams)})
		ended <- err
	}()
	<-reached
	cancel()
	select {
	case err := <-ended:
		refused(t, err, service.TimedOut, "may have been sent")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v does not say that its context ended", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the call goes on")
	}
	opt := s.options()
	opt.Timeout = 200 * time.Millisecond
	_, err := send(t, open(t, opt), "k", plainParams)
	if err == nil {
		t.Error("a call outlives its time limit")
	}
}

// Servers that say nothing, nonsense, or without end.
func TestServersThatAreNone(t *testing.T) {
	for name, talk := range map[string]func(net.Conn){
		"silent": func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) },
		"gone":   func(net.Conn) {},
		"http":   func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n") },
		"endless": func(c net.Conn) {
			for {
				if _, err := c.Write([]byte(strings.Repeat("x", 1<<16))); err != nil {
					return
				}
			}
		},
		"endless lines": func(c net.Conn) {
			for {
				if _, err := c.Write([]byte(strings.Repeat("220-hello\r\n", 1<<12))); err != nil {
					return
				}
			}
		},
		"a command for us": func(c net.Conn) {
			r := bufio.NewReader(c)
			fmt.Fprint(c, "220 mail\r\n")
			for {
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
				fmt.Fprint(c, "999 \x00what\r\n")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					talk(c)
					_ = c.Close()
				}
			}()
			mailer := open(t, email.Options{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, From: "a@example.org", TLS: email.NoTLS, ConnectTimeout: time.Second})
			_, err = mailer.Call(within(t, time.Minute), service.Call{Params: json.RawMessage(plainParams)})
			var e *service.Error
			if !errors.As(err, &e) || e.Code != service.Unavailable && e.Code != service.BadAnswer {
				t.Errorf("got %v", err)
			}
			_ = l.Close()
			<-done
		})
	}
}

func TestOptionsThatCantBe(t *testing.T) {
	good := email.Options{Host: "mail.example.org", From: "a@example.org"}
	for word, change := range map[string]func(*email.Options){
		"Host":           func(o *email.Options) { o.Host = "" },
		"name or":        func(o *email.Options) { o.Host = "smtp://mail.example.org" },
		"Port":           func(o *email.Options) { o.Port = 70000 },
		"starttls, tls":  func(o *email.Options) { o.TLS = "ssl" },
		"Insecure":       func(o *email.Options) { o.TLS = email.NoTLS },
		"From":           func(o *email.Options) { o.From = "" },
		"no User":        func(o *email.Options) { o.Password = "x" },
		"negative":       func(o *email.Options) { o.MaxBytes = -1 },
		"From: from: \"": func(o *email.Options) { o.From = "a@example.org, b@example.org" },
	} {
		opt := good
		change(&opt)
		if _, err := email.New(opt); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("got %v, want %q", err, word)
		}
	}
	good.TLS, good.Insecure = email.NoTLS, true
	if _, err := email.New(good); err != nil {
		t.Error(err)
	}
}
