package email_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/emersion/go-smtp"

	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/service/email"
)

func TestAMessageArrivesWhole(t *testing.T) {
	s := serve(t, &server{}, true, false)
	long := strings.Repeat("A line that goes on. ", 100) + "\n.\n..\nÜ"
	params, err := json.Marshal(map[string]any{
		"to": "Zoë Ünal <zoe@example.org>", "cc": []string{"b@example.org", "zoe@example.org"}, "bcc": []string{"hidden@example.org"}, "replyTo": "desk@example.org",
		"subject": "Grüße, \"you\" =?utf-8?q?x?=", "text": long, "html": "<p>" + long + "</p>",
		"attachments": []map[string]string{
			{"name": "bild.bin", "content": base64.StdEncoding.EncodeToString([]byte{0, 1, 255, '\r', '\n'}), "encoding": "base64"},
			{"name": `größe "1".csv`, "content": "a;b\n", "contentType": "text/csv; charset=utf-8"}},
		"inReplyTo": "<2@example.org>", "references": []string{"1@example.org"},
		"headers": map[string]string{"auto-submitted": "auto-generated"},
	})
	if err != nil {
		t.Fatal(err)
	}
	result, err := send(t, open(t, s.options()), "run-1/send", string(params))
	if err != nil {
		t.Fatal(err)
	}
	got := s.messages()
	equal(t, "messages", len(got), 1)
	equal(t, "sender", got[0].from, "support@example.org")
	equal(t, "encrypted", got[0].encrypted, true)
	equal(t, "logged in", got[0].user, user)
	equal(t, "envelope", strings.Join(got[0].to, " "), "zoe@example.org b@example.org hidden@example.org")
	equal(t, "accepted", strings.Join(result.Accepted, " "), "zoe@example.org b@example.org hidden@example.org")
	if strings.Contains(got[0].text, "hidden@") {
		t.Error("the message names who gets it unseen")
	}
	m := parsed(t, got[0].text)
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "subject", subject, "Grüße, \"you\" =?utf-8?q?x?=")
	to, err := m.Header.AddressList("To")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "to", to[0].Name+" "+to[0].Address, "Zoë Ünal zoe@example.org")
	for name, want := range map[string]string{"From": `"Support" <support@example.org>`, "Cc": "<b@example.org>, <zoe@example.org>", "Reply-To": "<desk@example.org>",
		"Message-Id": result.MessageID, "In-Reply-To": "<2@example.org>", "References": "<1@example.org> <2@example.org>", "Auto-Submitted": "auto-generated"} {
		equal(t, name, m.Header.Get(name), want)
	}
	parts := leaves(t, m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Body)
	equal(t, "parts", len(parts), 4)
	lines := strings.ReplaceAll(long, "\n", "\r\n")
	equal(t, "text", parts[0], "text/plain  "+lines)
	equal(t, "html", parts[1], "text/html  <p>"+lines+"</p>")
	equal(t, "first file", parts[2], "application/octet-stream bild.bin \x00\x01\xff\r\n")
	if !strings.HasPrefix(parts[3], "text/csv größe ") || !strings.HasSuffix(parts[3], ".csv a;b\n") {
		t.Errorf("second file: %q", parts[3])
	}
}

// leaves are the parts of a message: their kinds, file names and contents.
func leaves(t *testing.T, contentType, encoding string, body io.Reader) []string {
	t.Helper()
	kind, args, err := mime.ParseMediaType(contentType)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(kind, "multipart/") {
		var all []string
		for r := multipart.NewReader(body, args["boundary"]); ; {
			p, err := r.NextRawPart()
			if errors.Is(err, io.EOF) {
				return all
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, leaf := range leaves(t, p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p) {
				file := ""
				if d := p.Header.Get("Content-Disposition"); d != "" {
					if _, args, err := mime.ParseMediaType(d); err != nil {
						t.Errorf("Content-Disposition %q: %v", d, err)
					} else if file, err = new(mime.WordDecoder).DecodeHeader(args["filename"]); err != nil {
						t.Error(err)
					}
				}
				if before, after, ok := strings.Cut(leaf, "\x00file\x00"); ok {
					leaf = before + " " + file + " " + after
				}
				all = append(all, leaf)
			}
		}
	}
	switch encoding {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return []string{kind + "\x00file\x00" + string(text)}
}

const plainParams = `{"to": "a@example.org", "subject": "s", "text": "t"}`

func TestARepeatedAttemptHasTheSameMessageID(t *testing.T) {
	s := serve(t, &server{}, true, false)
	mailer := open(t, s.options())
	ids := map[string]string{}
	for _, key := range []string{"r/a", "r/b", "r/a", "", ""} {
		result, err := send(t, mailer, key, plainParams)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(result.MessageID, "r/") || !strings.HasSuffix(result.MessageID, "@example.org>") {
			t.Errorf("the id is %s", result.MessageID)
		}
		if before := ids[key]; (key == "r/a") != (before == result.MessageID) && before != "" {
			t.Errorf("key %q: the id was %s and is %s", key, before, result.MessageID)
		}
		ids[key] = result.MessageID
	}
	if ids["r/a"] == ids["r/b"] {
		t.Error("two keys have one id")
	}
}

func TestManyAtOnce(t *testing.T) {
	s := serve(t, &server{}, true, false)
	mailer := open(t, s.options())
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if _, err := send(t, mailer, fmt.Sprint(i), fmt.Sprintf(`{"to": "a%d@example.org", "subject": "s", "text": "t"}`, i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	equal(t, "messages", len(s.messages()), 20)
}

func TestConnectionsAreSecretOrRefused(t *testing.T) {
	for _, test := range []struct {
		name             string
		host             string
		secure, implicit bool
		change           func(*email.Options)
		code, word       string // "": it is sent
	}{
		{"starttls", "", true, false, nil, "", ""},
		{"tls", "", true, true, func(o *email.Options) { o.TLS = email.OnlyTLS }, "", ""},
		{"a server without starttls", "", false, false, nil, service.Forbidden, "no STARTTLS"},
		{"a certificate of a stranger", "", true, false, func(o *email.Options) { o.RootCAs = nil }, service.Forbidden, "not trusted"},
		{"a certificate of a stranger, tls", "", true, true, func(o *email.Options) { o.TLS, o.RootCAs = email.OnlyTLS, nil }, service.Forbidden, "not trusted"},
		{"none on this machine", "", false, false, func(o *email.Options) { o.TLS = email.NoTLS }, "", ""},
		{"none, and a password that would be seen", "127.0.0.2", false, false, func(o *email.Options) { o.TLS = email.NoTLS }, service.Forbidden, "without TLS"},
		{"a wrong password", "", true, false, func(o *email.Options) { o.Password = "wrong password 1" }, service.Denied, "535 5.0.0 not [secret] of mailer"},
		{"tls with a server that speaks none", "", false, false, func(o *email.Options) { o.TLS = email.OnlyTLS }, service.Unavailable, "nothing was sent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, &server{host: test.host}, test.secure, test.implicit)
			opt := s.options()
			if test.change != nil {
				test.change(&opt)
			}
			_, err := send(t, open(t, opt), "k", plainParams)
			if test.code != "" {
				refused(t, err, test.code, test.word)
				equal(t, "messages", len(s.messages()), 0)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "messages", len(s.messages()), 1)
		})
	}
}

func TestWhatAServerAnswers(t *testing.T) {
	reply := func(code int) error { return &smtp.SMTPError{Code: code, Message: "since " + password} }
	for _, test := range []struct {
		name  string
		s     *server
		code  string
		words string
	}{
		{"not now", &server{onMail: func() error { return reply(451) }}, service.Unavailable, "answered 451 4.0.0 since [secret]; nothing was sent"},
		{"closing", &server{onMail: func() error { return reply(421) }}, service.Unavailable, "421"},
		{"log in first", &server{onMail: func() error { return reply(530) }}, service.Denied, "530"},
		{"no such person", &server{onRcpt: func(string) error { return reply(550) }}, service.Invalid, "RCPT TO a@example.org"},
		{"a full mailbox", &server{onRcpt: func(string) error { return reply(452) }}, service.Unavailable, "452"},
		{"spam", &server{onData: func(*smtp.Conn) error { return reply(554) }}, service.Invalid, "554"},
		{"a message not now", &server{onData: func(*smtp.Conn) error { return reply(450) }}, service.Unavailable, "450"},
		{"cut behind the end", &server{onData: func(c *smtp.Conn) error { return c.Conn().Close() }}, service.TimedOut, "may have been sent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, test.s, true, false)
			mailer := open(t, s.options())
			_, err := send(t, mailer, "k", plainParams)
			refused(t, err, test.code, test.words)
			var e *service.Error
			if errors.As(err, &e) {
				equal(t, "fatal", e.Fatal(), test.code == service.Denied || test.code == service.Invalid)
			}
		})
	}
}

func TestAnotherTryAfterAPassingRefusal(t *testing.T) {
	var mu sync.Mutex
	tries := 0
	s := serve(t, &server{onMail: func() error {
		mu.Lock()
		defer mu.Unlock()
		if tries++; tries == 1 {
			return &smtp.SMTPError{Code: 421, Message: "busy"}
		}
		return nil
	}}, true, false)
	mailer := open(t, s.options())
	_, err := send(t, mailer, "k", plainParams)
	refused(t, err, service.Unavailable, "busy")
	if _, err := send(t, mailer, "k", plainParams); err != nil {
		t.Fatal(err)
	}
	equal(t, "messages", len(s.messages()), 1)
}

// Nobody gets a message of which one recipient is refused; a refusal for good is told rather than one that passes.
func TestOneRefusedRecipientRefusesTheMessage(t *testing.T) {
	s := serve(t, &server{onRcpt: func(to string) error {
		switch to {
		case "full@example.org":
			return &smtp.SMTPError{Code: 452, Message: "full"}
		case "gone@example.org":
			return &smtp.SMTPError{Code: 550, Message: "gone"}
		}
		return nil
	}}, true, false)
	mailer := open(t, s.options())
	_, err := send(t, mailer, "k", `{"to": ["a@example.org", "full@example.org", "gone@example.org"], "subject": "s", "text": "t"}`)
	refused(t, err, service.Invalid, "RCPT TO gone@example.org")
	_, err = send(t, mailer, "k", `{"to": ["a@example.org", "full@example.org"], "subject": "s", "text": "t"}`)
	refused(t, err, service.Unavailable, "full")
	equal(t, "messages", len(s.messages()), 0)
}

// A connection that is cut before the message has gone is known to have sent nothing.
func TestACutBeforeTheEnd(t *testing.T) {
	s := serve(t, &server{}, true, false)
	s.beforeMail = func(c *smtp.Conn) { _ = c.Conn().Close() }
	_, err := send(t, open(t, s.options()), "k", plainParams)
	refused(t, err, service.Unavailable, "nothing was sent")
}

func TestNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	_, err = send(t, open(t, email.Options{Host: "127.0.0.1", Port: port, From: "a@example.org"}), "k", plainParams)
	refused(t, err, service.Unavailable, "nothing was sent")
}

func TestADryRunCallsNobody(t *testing.T) {
	s := serve(t, &server{}, true, false)
	mailer := open(t, s.options())
	out, err := mailer.Call(t.Context(), service.Call{Params: json.RawMessage(plainParams), DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if plan := out.(service.Plan); !strings.Contains(plan.Would, "to 1 recipients by 127.0.0.1:") {
		t.Errorf("it would %s", plan.Would)
	}
	_, err = mailer.Call(t.Context(), service.Call{Params: json.RawMessage(`{"to": "nobody", "subject": "s", "text": "t"}`), DryRun: true})
	refused(t, err, service.Invalid, "nobody")
	equal(t, "connections", s.connections(), 0)
}

func TestTemplates(t *testing.T) {
	s := serve(t, &server{}, true, false)
	opt := s.options()
	opt.MaxBytes = 20_000
	opt.Templates = fstest.MapFS{
		"ack.html":  {Data: []byte(`<p title="{{.name}}">{{.name}}: {{.n}}{{if gt .n 5}} many{{end}}</p><script>x = {{.name}}</script>`)},
		"ack.txt":   {Data: []byte(`{{.name}}: {{.price}}`)},
		"loop.txt":  {Data: []byte(`{{range .list}}{{range $.list}}{{range $.list}}0123456789{{end}}{{end}}{{end}}`)},
		"plain.txt": {Data: []byte(`Hello.`)},
	}
	mailer := open(t, opt)
	_, err := send(t, mailer, "k", `{"to": "a@example.org", "subject": "s", "template": "ack", "data": {"name": "</p>\"<b>{{.n}}", "n": 9007199254740993, "price": 12.50}}`)
	if err != nil {
		t.Fatal(err)
	}
	m := parsed(t, s.messages()[0].text)
	parts := leaves(t, m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Body)
	equal(t, "text", parts[0], "text/plain  </p>\"<b>{{.n}}: 12.50")
	if html := parts[1]; strings.Contains(html, "<b>") || !strings.Contains(html, "&lt;/p&gt;&#34;&lt;b&gt;{{.n}}: 9007199254740993 many</p>") {
		t.Errorf("html: %s", html)
	}
	list := strings.TrimSuffix(strings.Repeat("0,", 40), ",")
	for _, test := range []struct{ params, code, word string }{
		{`"template": "ack", "data": {"n": 1}`, service.Invalid, "name"},
		{`"template": "ack"`, service.Invalid, "name"},
		{`"template": "akc"`, service.Invalid, "there are ack, loop, plain"},
		{`"template": "../ack"`, service.Invalid, "there is no template"},
		{`"template": "loop", "data": {"list": [` + list + `]}`, service.Forbidden, "more than 20000 bytes"},
		{`"template": "plain", "text": "t"`, service.Invalid, "one of the two"},
		{`"text": "t", "data": {}`, service.Invalid, "no template"},
		{`"text": "` + strings.Repeat("x", 30_000) + `"`, service.Forbidden, "bytes"},
	} {
		_, err := send(t, mailer, "k", `{"to": "a@example.org", "subject": "s", `+test.params+`}`)
		refused(t, err, test.code, test.word)
	}
	for _, name := range []string{"Ack.html", "ack", "a/b.html", "ack.htm", "..html"} {
		opt.Templates = fstest.MapFS{name: {Data: []byte("x")}}
		if _, err := email.New(opt); err == nil {
			t.Errorf("the template name %q is taken", name)
		}
	}
	opt.Templates = fstest.MapFS{"bad.html": {Data: []byte("{{.x")}}
	if _, err := email.New(opt); err == nil || !strings.Contains(err.Error(), "bad.html") {
		t.Errorf("a broken template: %v", err)
	}
}
