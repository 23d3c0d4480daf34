package flow_test

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"

	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/service/database"
	"github.com/pawlrun/pawl/service/email"
)

// town is what flows reach, each in its own wire format: Slack, a mail server, a database, and systems with an HTTP API.
// It keeps what it was told, and fails as often as a test says.
type town struct {
	url  string
	port int
	db   *sql.DB
	dsn  string

	mu    sync.Mutex
	told  []string            // in order: "slack #a: text"
	keys  map[string][]string // idempotency keys of the requests that a place has had, failed ones too
	fails map[string]int      // how often a place is out of order yet
}

// newTown makes it. dsn is of an empty database, as the service takes it; driver is that of package sql, at is what it opens.
func newTown(t *testing.T, dsn, driver, at string) *town {
	t.Helper()
	w := &town{dsn: dsn, keys: map[string][]string{}, fails: map[string]int{}}
	srv := httptest.NewServer(w)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	w.mailServer(t)
	var err error
	if w.db, err = sql.Open(driver, at); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	for _, table := range []string{database.CallsTable, "CREATE TABLE audit_log (text VARCHAR(200))",
		"CREATE TABLE leads (domain VARCHAR(99) PRIMARY KEY, company VARCHAR(99), score INTEGER)", "CREATE TABLE incidents (id VARCHAR(99) PRIMARY KEY, severity VARCHAR(9), message VARCHAR(200))"} {
		if _, err := w.db.Exec(table); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// out reports whether a place is out of order, this once.
func (w *town) out(place, key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys[place] = append(w.keys[place], key)
	if w.fails[place] > 0 {
		w.fails[place]--
		return true
	}
	return false
}

func (w *town) tell(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, fmt.Sprintf(format, args...))
}

func (w *town) ServeHTTP(res http.ResponseWriter, r *http.Request) {
	place, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if w.out(place, r.Header.Get("Idempotency-Key")) {
		http.Error(res, "out of order", http.StatusServiceUnavailable)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(res, err.Error(), http.StatusBadRequest)
		return
	}
	res.Header().Set("Content-Type", "application/json")
	answer := func(status int, text string) {
		res.WriteHeader(status)
		_, _ = io.WriteString(res, text)
	}
	who := map[string]string{"slack": "Bearer xoxb-1-test", "alerts": "Token token=key of paging", "find": ""}
	want, known := who[place]
	if !known {
		want = "Bearer key of " + map[string]string{"tickets": "tickets", "incidents": "tickets", "payments": "payments", "contents": "cms"}[place]
	}
	if got := r.Header.Get("Authorization"); got != want {
		answer(http.StatusUnauthorized, `{"ok": false, "error": "invalid_auth"}`)
		return
	}
	switch place {
	case "slack":
		var m struct{ Channel, Text string }
		if err := json.Unmarshal(body, &m); err != nil || r.URL.Path != "/slack/chat.postMessage" {
			answer(http.StatusOK, `{"ok": false, "error": "invalid_json"}`)
			return
		}
		w.tell("slack %s: %s", m.Channel, m.Text)
		answer(http.StatusOK, `{"ok": true, "channel": "C024BE91L", "ts": "1719000000.000100"}`)
	case "find":
		if domain := r.URL.Query().Get("domain"); domain != "acme.example" {
			answer(http.StatusNotFound, `{"error": "nobody knows it"}`)
			return
		}
		answer(http.StatusOK, `{"name": "Acme", "size": 300}`)
	default:
		w.tell("%s", strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Method, r.URL.Path, body)))
		status := map[string]int{"incidents": http.StatusCreated, "payments": http.StatusCreated, "alerts": http.StatusAccepted}[place]
		answer(cmp.Or(status, http.StatusOK), `{"id": 1}`)
	}
}

func (w *town) mailServer(t *testing.T) {
	t.Helper()
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &postbox{town: w}, nil }))
	server.Domain = "mail.test"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.port = l.Addr().(*net.TCPAddr).Port
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // it ends with the listener
	}()
	t.Cleanup(func() {
		_ = l.Close()
		_ = server.Close()
		<-done
	})
}

// postbox is one connection to the mail server.
type postbox struct {
	*town
	to []string
}

func (p *postbox) Reset()        { p.to = nil }
func (p *postbox) Logout() error { return nil }

func (p *postbox) Mail(string, *smtp.MailOptions) error {
	if p.out("mail", "") {
		return &smtp.SMTPError{Code: 451, Message: "not now"}
	}
	return nil
}

func (p *postbox) Rcpt(to string, _ *smtp.RcptOptions) error {
	p.to = append(p.to, to)
	return nil
}

func (p *postbox) Data(r io.Reader) error {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(m.Body)
	p.tell("mail %s: %s: %s", strings.Join(p.to, ","), m.Header.Get("Subject"), strings.Join(strings.Fields(string(body)), " "))
	return err
}

// rows are those of a query, one line each.
func (w *town) rows(t *testing.T, query string) (all []string) {
	t.Helper()
	found, err := w.db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	names, err := found.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for found.Next() {
		values, into := make([]any, len(names)), make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := found.Scan(into...); err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprint(values...))
	}
	slices.Sort(all)
	return all
}

// seen is all that was told, in order.
func (w *town) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

// services are pawl's own, which reach the town.
func (w *town) services(t *testing.T) service.Set {
	t.Helper()
	u, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	inside := service.HTTPOptions{Network: service.Network{Allow: []string{u.Host}}}
	set := service.Set{}
	add := func(name string, s service.Service, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		set[name] = s
	}
	web, err := service.NewHTTP(inside)
	add("http", web, err)
	chat, err := service.NewSlack(service.SlackOptions{Token: "xoxb-1-test", BaseURL: w.url + "/slack", HTTP: inside})
	add("slack", chat, err)
	post, err := email.New(email.Options{Host: "127.0.0.1", Port: w.port, From: "Desk <desk@example.org>", TLS: email.NoTLS, Templates: os.DirFS("testdata/completed/mails")})
	add("email", post, err)
	data, err := database.New(database.Options{Connections: map[string]database.Connection{"main": {DSN: w.dsn, Execute: true, Once: true}}})
	add("database", data, err)
	t.Cleanup(func() { _ = data.Close() })
	files, err := filepath.Glob("testdata/completed/services/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		made, err := service.Describe(text, service.DescribeOptions{HTTP: inside,
			Secret: func(_ context.Context, name string) (string, error) { return "key of " + name, nil },
			Env:    func(name string) (string, bool) { return w.url, strings.HasSuffix(name, "_URL") }})
		if err != nil {
			t.Fatal(errors.Join(errors.New(file), err))
		}
		set[made.Name()] = made
	}
	return set
}
