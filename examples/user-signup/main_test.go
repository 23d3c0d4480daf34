package main

import (
	"bufio"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/mail"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pawlrun/pawl/examples/demo/demotest"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

func TestMain(m *testing.M) {
	demotest.Become(main)
	os.Exit(pgtest.Main(m))
}

// eachStore runs f on a file, and on a database, at the same time: they wait most of it.
func eachStore(t *testing.T, f func(t *testing.T, program, store string)) {
	t.Parallel()
	program := demotest.Program(t)
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		f(t, program, filepath.Join(t.TempDir(), "s.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		f(t, program, pgtest.URL(t))
	})
}

// letter is a mail that has arrived.
type letter struct{ from, to, subject, id, text string }

func read(t *testing.T, r io.Reader) letter {
	t.Helper()
	m, err := mail.ReadMessage(r)
	if err != nil {
		t.Error(err)
		return letter{}
	}
	body, err := io.ReadAll(m.Body)
	kind, _, merr := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if _, derr := m.Header.Date(); err != nil || merr != nil || derr != nil || kind != "text/plain" {
		t.Errorf("mail %v: %v %v %v", m.Header, err, merr, derr)
	}
	return letter{m.Header.Get("From"), m.Header.Get("To"), m.Header.Get("Subject"), m.Header.Get("Message-ID"), string(body)}
}

// post plays a mail server.
type post struct {
	t    *testing.T
	addr string

	mu      sync.Mutex
	letters []letter
	hold    string // the subject of a mail that is taken, and never answered
	held    chan struct{}
	refuse  string // an address that it does not know
}

func play(t *testing.T) *post {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &post{t: t, addr: l.Addr().String(), held: make(chan struct{}, 1)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				p.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
	})
	return p
}

func (p *post) serve(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	lines := bufio.NewReader(conn)
	say := func(text string) { fmt.Fprintf(conn, "%s\r\n", text) }
	say("220 test")
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(verb) {
		case "EHLO", "HELO", "MAIL", "RSET", "NOOP":
			say("250 ok")
		case "RCPT":
			if p.refuse != "" && strings.Contains(rest, p.refuse) {
				say("550 no such person")
				continue
			}
			say("250 ok")
		case "DATA":
			say("354 go on")
			var text strings.Builder
			for {
				line, err := lines.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				text.WriteString(strings.TrimPrefix(line, "."))
			}
			got := read(p.t, strings.NewReader(text.String()))
			p.mu.Lock()
			p.letters = append(p.letters, got)
			held := p.hold != "" && got.subject == p.hold
			if held {
				p.hold = ""
			}
			p.mu.Unlock()
			if held {
				p.held <- struct{}{}
				_, _ = lines.ReadString('\n') // until the caller is killed
				return
			}
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("502 what?")
		}
	}
}

// got are the mails for an address, each once by its Message-ID, as a mail program shows them.
func (p *post) got(to string) (out []letter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.letters {
		if l.to == to && !slices.ContainsFunc(out, func(o letter) bool { return o.id == l.id }) {
			out = append(out, l)
		}
	}
	return out
}

func (p *post) await(t *testing.T, to string, n int) []letter {
	t.Helper()
	demotest.Await(t, fmt.Sprintf("%d mails to %s", n, to), func() bool { return len(p.got(to)) >= n }, func() string { return fmt.Sprint(p.got(to)) })
	return p.got(to)
}

func launch(t *testing.T, program, store string, p *post, more ...string) *demotest.Server {
	t.Helper()
	return demotest.Launch(t, program, t.TempDir(), []string{"SMTP_HOST=" + p.addr, "MAIL_FROM=shop@example.com"}, append([]string{"-store", store, "-lease", "3s"}, more...)...)
}

func signUp(t *testing.T, p *demotest.Server, email string) {
	t.Helper()
	if r := p.Call(t, "POST", "/signup", fmt.Sprintf(`{"email": %q}`, email)); r.Status != 202 || r.Object["status"] != "look into your mail" {
		t.Fatalf("%d %s", r.Status, r.Text)
	}
}

var link = regexp.MustCompile(`http://\S+`)

// visit opens the link of a mail, wherever the program is now.
func visit(t *testing.T, p *demotest.Server, method string, l letter) demotest.Reply {
	t.Helper()
	u, err := url.Parse(link.FindString(l.text))
	if err != nil || u.Path == "" {
		t.Fatalf("no link in %q, %v", l.text, err)
	}
	return p.Call(t, method, u.Path, "")
}

const (
	first    = "Please confirm your address"
	reminder = "Your address is not confirmed yet"
	welcome  = "Welcome"
)

func subjects(all []letter) (out []string) {
	for _, l := range all {
		out = append(out, l.subject)
	}
	return out
}

// The program is killed while a mail is on its way, while the link is waited for, and after the
// reminder: each mail is one, and a link of before the kills is good.
func TestASignupGoesOn(t *testing.T) {
	eachStore(t, func(t *testing.T, program, store string) {
		v := play(t)
		v.hold = first
		p := launch(t, program, store, v, "-remind", "1s")
		signUp(t, p, "Ann@example.com ")
		select {
		case <-v.held:
		case <-time.After(time.Minute):
			t.Fatalf("no mail comes\n%s", p.Said())
		}
		p.Kill(t)
		p = launch(t, program, store, v, "-remind", "1s")
		signUp(t, p, "ann@example.com") // impatient: no second mail
		all := v.await(t, "ann@example.com", 2)
		if got := subjects(all); !slices.Equal(got, []string{first, reminder}) || all[0].from != "shop@example.com" {
			t.Errorf("the mails are %q from %s", got, all[0].from)
		}
		p.Kill(t)
		p = launch(t, program, store, v, "-remind", "1s")
		demotest.Await(t, "the run is taken over", func() bool { // until then callers are told that it takes longer
			r := visit(t, p, "GET", all[0])
			if r.Status == 202 && !strings.Contains(r.Text, "Nothing is lost") {
				t.Errorf("%d %s", r.Status, r.Text)
			}
			return r.Status == 200
		}, p.Said)
		for _, method := range []string{"GET", "HEAD", "GET"} { // a scanner, and a curious person
			r := visit(t, p, method, all[0])
			if r.Status != 200 || method == "GET" && !strings.Contains(r.Text, `<form method="post"><button>`) || !strings.Contains(r.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
				t.Errorf("%s: %d %s", method, r.Status, r.Text)
			}
		}
		if r := visit(t, p, "PUT", all[0]); r.Status != 405 {
			t.Errorf("PUT: %d", r.Status)
		}
		if got := v.got("ann@example.com"); len(got) != 2 {
			t.Errorf("a visit has confirmed it: %q", subjects(got))
		}
		if r := visit(t, p, "POST", all[1]); r.Status != 200 || !strings.Contains(r.Text, "Thank you") {
			t.Errorf("the button: %d %s", r.Status, r.Text)
		}
		p.Kill(t)
		p = launch(t, program, store, v, "-remind", "1s")
		if got := subjects(v.await(t, "ann@example.com", 3)); !slices.Equal(got, []string{first, reminder, welcome}) {
			t.Errorf("the mails are %q", got)
		}
		demotest.Await(t, "it is confirmed", func() bool { return strings.Contains(p.Call(t, "GET", "/signups", "").Text, `"confirmed"`) }, p.Said)
		for _, method := range []string{"GET", "POST"} {
			if r := visit(t, p, method, all[0]); r.Status != http.StatusGone {
				t.Errorf("%s afterwards: %d %s", method, r.Status, r.Text)
			}
		}
		signUp(t, p, "ann@example.com") // has an account: the same answer, and no mail
		signUp(t, p, "bob@example.com")
		v.await(t, "bob@example.com", 1)
		if got := v.got("ann@example.com"); len(got) != 3 {
			t.Errorf("the mails are %q", subjects(got))
		}
		if code := p.End(t, syscall.SIGTERM); code != 0 {
			t.Errorf("after SIGTERM it ended with code %d\n%s", code, p.Said())
		}
	})
}

// Who is quick, and has 4 s for it, gets no reminder; who does nothing may begin again.
func TestRemindersAndExpiry(t *testing.T) {
	eachStore(t, func(t *testing.T, program, store string) {
		v := play(t)
		p := launch(t, program, store, v, "-remind", "4s", "-expiry", "6s")
		signUp(t, p, "quick@example.com")
		signUp(t, p, "slow@example.com")
		if r := visit(t, p, "POST", v.await(t, "quick@example.com", 1)[0]); r.Status != 200 {
			t.Errorf("the button: %d %s", r.Status, r.Text)
		}
		if got := subjects(v.await(t, "quick@example.com", 2)); !slices.Equal(got, []string{first, welcome}) {
			t.Errorf("the mails are %q", got)
		}
		demotest.Await(t, "it expires", func() bool { return strings.Contains(p.Call(t, "GET", "/signups", "").Text, `"expired"`) }, p.Said)
		old := v.got("slow@example.com")
		if got := subjects(old); !slices.Equal(got, []string{first, reminder}) {
			t.Errorf("the mails are %q", got)
		}
		if r := visit(t, p, "POST", old[0]); r.Status != http.StatusGone {
			t.Errorf("the button afterwards: %d %s", r.Status, r.Text)
		}
		signUp(t, p, "slow@example.com")
		if r := visit(t, p, "POST", v.await(t, "slow@example.com", 3)[2]); r.Status != 200 {
			t.Errorf("the new button: %d %s", r.Status, r.Text)
		}
		if got := subjects(v.await(t, "quick@example.com", 2)); len(got) != 2 {
			t.Errorf("the mails are %q", got)
		}
	})
}

func TestAnAddressThatTheMailServerRefuses(t *testing.T) {
	v := play(t)
	v.refuse = "nobody@example.com"
	p := launch(t, demotest.Program(t), filepath.Join(t.TempDir(), "s.db"), v)
	signUp(t, p, "nobody@example.com")
	demotest.Await(t, "it says why", func() bool { return strings.Contains(p.Call(t, "GET", "/signups", "").Text, "no such person") }, p.Said)
}

func TestWithoutAMailServerThereIsAnOutbox(t *testing.T) {
	program, dir := demotest.Program(t), t.TempDir()
	p := demotest.Launch(t, program, dir, nil)
	signUp(t, p, "ann@example.com")
	var files []string
	demotest.Await(t, "there is a mail", func() bool {
		files, _ = filepath.Glob(filepath.Join(dir, "outbox", "*.eml"))
		return len(files) == 1
	}, p.Said)
	f, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if r := visit(t, p, "GET", read(t, f)); r.Status != 200 {
		t.Errorf("%d %s", r.Status, r.Text)
	}
	for _, text := range []string{"NOWHERE", "SMTP_HOST"} {
		if !strings.Contains(p.Said(), text) {
			t.Errorf("it does not say %s:\n%s", text, p.Said())
		}
	}
	for _, email := range []string{"", "ann", "Ann <ann@example.com>", `ann@example.com\r\nBcc: eve@example.com`, strings.Repeat("x", 250) + "@example.com"} {
		if r := p.Call(t, "POST", "/signup", `{"email": "`+email+`"}`); r.Status != 400 {
			t.Errorf("%q: %d %s", email, r.Status, r.Text)
		}
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Dir, cmd.Env = dir, []string{"SMTP_HOST=localhost"}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "MAIL_FROM") {
		t.Errorf("without MAIL_FROM: %v %s", err, out)
	}
}
