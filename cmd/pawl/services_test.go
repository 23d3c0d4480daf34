package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/pawlrun/pawl/secret"
)

// mailbox is a mail server that keeps what it gets.
type mailbox struct {
	mu  sync.Mutex
	got []string
}

func (m *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &mailSession{m}, nil }

type mailSession struct{ *mailbox }

func (mailSession) Reset()                               {}
func (mailSession) Logout() error                        { return nil }
func (mailSession) Mail(string, *smtp.MailOptions) error { return nil }
func (mailSession) Rcpt(string, *smtp.RcptOptions) error { return nil }

func (s mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, string(text))
	return err
}

// serveMail starts it, and returns its port.
func serveMail(t *testing.T) (*mailbox, string) {
	t.Helper()
	box := &mailbox{}
	server := smtp.NewServer(box)
	server.Domain = "mail.test"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return box, port
}

const ticketsYAML = `name: tickets
baseURL: "{{env.TICKETS_URL}}"
auth: {bearer: "{{secrets.tickets}}"}
actions:
  create: {method: POST, path: /tickets, params: {required: [title], properties: {title: {type: string}}}}
`

const allYAML = `id: all
inputs: {type: object, properties: {title: {type: string}}, required: [title]}
steps:
  - {id: rows, type: service, config: {service: database, connection: shop, query: "SELECT name FROM items WHERE id = ?", values: [2]}, next: write}
  - {id: write, type: service, config: {service: database, action: execute, connection: shop, query: "DELETE FROM items WHERE id = ?", values: [1]}, next: open}
  - {id: open, type: service, config: {service: tickets, action: create, title: "{{variables.title}} {{steps.rows.output.rows[0].name}}"}, next: mail}
  - {id: mail, type: service, config: {service: email, to: ann@example.org, subject: "{{variables.title}}", template: opened, data: {number: "{{steps.open.output.number}}"}}, next: tell}
  - {id: tell, type: service, config: {service: webhook, url: "HOOKS/opened", event: ticket.opened, data: {number: "{{steps.open.output.number}}"}, secret: partner}, next: end}
`

// A flow that is deployed to a server calls a described service with a secret of the store, a database, a mail server, and a
// receiver of webhooks.
func TestAFlowOnAServerCallsItsServices(t *testing.T) {
	t.Chdir(t.TempDir())
	var mu sync.Mutex
	seen := map[string]string{}
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		seen[r.URL.Path] = r.Header.Get("Authorization") + r.Header.Get("Webhook-Signature") + string(body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"number": 17, "echo": "SENTINEL-77c0-tickets"}`))
	}))
	defer target.Close()
	shop, err := sql.Open("sqlite", "shop.db")
	if err != nil {
		t.Fatal(err)
	}
	defer shop.Close()
	if _, err := shop.Exec("CREATE TABLE items (id INTEGER, name TEXT); INSERT INTO items VALUES (1, 'coffee'), (2, 'tea')"); err != nil {
		t.Fatal(err)
	}
	box, port := serveMail(t)
	write(t, "services/tickets.yaml", ticketsYAML)
	write(t, "mails/opened.txt", "Ticket {{.number}} is open.")
	write(t, "all.yaml", strings.Replace(allYAML, "HOOKS", target.URL, 1))
	write(t, "pawl.yaml", fmt.Sprintf(`
services: services
http: {allow: [%q]}
smtp: {host: 127.0.0.1, port: %s, from: Desk <desk@example.org>, tls: none, templates: mails}
databases: {shop: {dsn: "sqlite:shop.db", execute: true}}
`, target.Listener.Addr(), port))
	env := environment{"PAWL_CONFIG": "pawl.yaml", "TICKETS_URL": target.URL + "/v1", "PAWL_ENCRYPTION_KEYS": secret.NewKey()}
	url, stop := serving(t, env, "--store", "pawl.db", "--admin-key-file", "admin.key")
	as := func(stdin string, args ...string) result {
		return pawlWith(t, environment{"PAWL_SERVER": url}, stdin, append(args, "--api-key-file", "admin.key")...)
	}
	as("SENTINEL-77c0-tickets", "secrets", "set", "tickets").want(t, 0)
	as("whsec_c2VjcmV0LW9mLXRoZS10ZXN0LWFib3V0LXdlYmhvb2tz", "secrets", "set", "partner").want(t, 0)
	as("", "deploy", "all.yaml").want(t, 0, "new")
	as("", "start", "all", "-i", `{"title":"Broken"}`, "--wait").want(t, 0)

	mu.Lock()
	if got := seen["/v1/tickets"]; got != `Bearer SENTINEL-77c0-tickets{"title":"Broken tea"}` {
		t.Errorf("the service got %s", got)
	}
	if got := seen["/opened"]; !strings.HasPrefix(got, "v1,") || !strings.Contains(got, `"number":17`) {
		t.Errorf("the receiver of webhooks got %s", got)
	}
	mu.Unlock()
	box.mu.Lock()
	if len(box.got) != 1 || !strings.Contains(box.got[0], "Ticket 17 is open.") || !strings.Contains(box.got[0], "Subject: Broken") {
		t.Errorf("the mail server got %q", box.got)
	}
	box.mu.Unlock()
	var left int
	if err := shop.QueryRow("SELECT count(*) FROM items").Scan(&left); err != nil || left != 1 {
		t.Errorf("the database has %d items, %v", left, err)
	}
	id := strings.TrimSpace(as("", "runs", "list", "-o", "name").want(t, 0).stdout)
	if shown := as("", "runs", "show", id, "-o", "json").want(t, 0).stdout + as("", "runs", "journal", id, "-o", "json").stdout; strings.Contains(shown, "SENTINEL") {
		t.Errorf("a secret is in the run: %s", shown)
	}
	if r := stop().want(t, 0, "database, email, http, tickets, webhook", "slack (set SLACK_BOT_TOKEN)"); strings.Contains(r.stdout+r.stderr, "SENTINEL") {
		t.Errorf("a secret is in the log: %s", r.stderr)
	}

	// The same flow on a server that lacks the settings: its runs say what to set.
	write(t, "pawl.yaml", "http: {closed: true}")
	url, stop = serving(t, env, "--store", "pawl.db")
	as("", "start", "all", "-i", `{"title":"Broken"}`, "--wait").want(t, exitRunFailed, "set databases, or PAWL_DATABASES")
	stop()
}

func calls(id, config string) string {
	return `{"id":"` + id + `","steps":[{"id":"call","type":"service","config":` + config + `,"next":"end"}]}`
}

// What a flow names and the server lacks is told to who deploys it; without a server it is checked all the same.
func TestWhatAServiceLacksIsSaid(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "slack.json", calls("slack", `{"service":"slack","channel":"#desk","text":"hello"}`))
	write(t, "email.json", calls("email", `{"service":"email","to":"ann@example.org","subject":"a","text":"b"}`))
	write(t, "database.json", calls("database", `{"service":"database","connection":"shop","query":"SELECT 1"}`))
	write(t, "agent.json", `{"id":"agent","steps":[{"id":"a","type":"agent","config":{"instructions":"x","tools":["slack.sendMessage"]},"next":"end"}]}`)
	eachStore(t, func(t *testing.T, h *house) {
		for file, want := range map[string]string{
			"slack.json":    `there is no service "slack"; set SLACK_BOT_TOKEN`,
			"email.json":    `there is no service "email"; set SMTP_HOST and SMTP_FROM`,
			"database.json": `there is no service "database"; set databases, or PAWL_DATABASES`,
			"agent.json":    `there is no service "slack"; set SLACK_BOT_TOKEN`,
		} {
			pawlAt(t, h.url, "deploy", file).want(t, exitUsage, want)
		}
	}, testWorkflows()...)
	pawlWith(t, environment{}, "", "validate", "slack.json", "email.json").want(t, 0)
	pawlWith(t, environment{}, "", "validate", "database.json").want(t, 0, "warning: the connections of databases are not known here; set databases")
	pawlWith(t, environment{"PAWL_DATABASES": "{shop: 'sqlite:shop.db'}"}, "", "validate", "database.json").want(t, 0)
	write(t, "bad.json", calls("bad", `{"service":"slack","chanel":"#desk","text":"hello"}`))
	pawlWith(t, environment{}, "", "validate", "bad.json").want(t, exitUsage, "chanel")

	write(t, "services/tickets.yaml", ticketsYAML)
	write(t, "tickets.json", calls("t", `{"service":"tickets","title":"x"}`))
	with := environment{"PAWL_SERVICES": "services"}
	pawlWith(t, with, "", "validate", "tickets.json").want(t, 0) // neither its address nor its key is here
	serve := []string{"serve", "--listen", "127.0.0.1:0", "--store", "x.db"}
	pawlWith(t, with, "", serve...).want(t, exitUsage, "services/tickets.yaml:", "{{env.TICKETS_URL}}")
	write(t, "services/more.yaml", strings.Replace(ticketsYAML, "path", "pth", 1))
	write(t, "services/mine.yaml", "name: http\nbaseURL: https://example.org\nactions: {a: {path: /}}\n")
	with["TICKETS_URL"] = "https://example.org"
	pawlWith(t, with, "", serve...).want(t, exitUsage, "services/more.yaml:5:26: ", `did you mean "path"?`, `services/mine.yaml: "http" is a service of pawl`)
	for name, value := range map[string]environment{
		"no-such":       {"PAWL_SERVICES": "no-such"},
		"From":          {"SMTP_HOST": "localhost", "SMTP_FROM": "nobody"},
		"starttls":      {"SMTP_HOST": "localhost", "SMTP_FROM": "a@example.org", "SMTP_TLS": "some"},
		"http: ":        {"PAWL_HTTP_ALLOW": "https://x"},
		"Once needs":    {"PAWL_DATABASES": "{shop: {dsn: 'sqlite:shop.db', once: true}}"},
		"mcp: ":         {"PAWL_MCP": "{files: {}}"},
		"for a url":     {"PAWL_MCP": "{files: {command: [x], header: {A: b}}}"},
		"are written":   {"PAWL_MCP": "{files: {comand: [x]}}"},
		"Channel needs": {"SLACK_WEBHOOK_URL": "https://hooks.slack.com/a", "SLACK_CHANNEL": "#x"},
		"not https":     {"SLACK_WEBHOOK_URL": "http://hooks.slack.com/a"},
		"is no folder":  {"PAWL_SERVICES": "slack.json"},
	} {
		pawlWith(t, value, "", serve...).want(t, exitUsage, name)
	}
}

// A server that is started where flows have descriptions of services with them has these services, as dev has.
func TestServeTakesTheServicesBesideItsFlows(t *testing.T) {
	for name, at := range map[string]string{"beside": "services/tickets.yaml", "in": "flows/services/tickets.yaml"} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			write(t, "flows/tickets.json", calls("t", `{"service":"tickets","title":"x"}`))
			write(t, at, ticketsYAML)
			deploy := func(env environment) result {
				env["PAWL_ENCRYPTION_KEYS"] = secret.NewKey()
				url, stop := serving(t, env, "--store", "pawl.db", "--admin-key-file", "admin.key")
				defer stop()
				return pawlWith(t, environment{"PAWL_SERVER": url}, "", "deploy", "flows", "--api-key-file", "admin.key")
			}
			deploy(environment{}).want(t, exitUsage, `there is no service "tickets"; set TICKETS_URL`)
			write(t, "others/none.txt", "")
			deploy(environment{"TICKETS_URL": "https://example.org", "PAWL_SERVICES": "others"}).want(t, exitUsage, `there is no service "tickets"`)
			deploy(environment{"TICKETS_URL": "https://example.org"}).want(t, 0, "new")
			write(t, at, strings.Replace(ticketsYAML, "path", "pth", 1))
			pawlWith(t, environment{"TICKETS_URL": "https://example.org"}, "", "serve", "--listen", "127.0.0.1:0", "--store", "x.db").
				want(t, exitUsage, at+":5:26: ", at[:strings.LastIndexByte(at, '/')]+" is read as descriptions of services", "PAWL_SERVICES")
		})
	}
}

func TestSettingsOfServicesShowNoKey(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "pawl.yaml", "smtp: {host: mail.example.org, port: 2525}\nhttp: {allow: [a.example, 'b.example:8080'], closed: true}\nslack: {channel: '#desk'}\n")
	write(t, "token", "xoxb-SENTINEL\n")
	env := environment{"PAWL_CONFIG": "pawl.yaml", "SLACK_BOT_TOKEN_FILE": "token", "SMTP_PASS": "SENTINEL", "SMTP_PORT": "26",
		"PAWL_MCP": "{files: {command: [mcp-files, --root, /srv], env: {KEY: SENTINEL}}, web: {url: 'https://example.org/mcp', header: {Authorization: Bearer SENTINEL}}}"}
	out := pawlWith(t, env, "", "config", "show", "--origin").want(t, 0, "smtp.host", "mail.example.org", "pawl.yaml:1", "$SMTP_PORT", "a.example,b.example:8080", "$SLACK_BOT_TOKEN_FILE", "$SMTP_PASS", "files: mcp-files, web: https://example.org/mcp", "#desk").stdout
	if strings.Contains(out, "SENTINEL") {
		t.Errorf("a key is shown: %s", out)
	}
	for text, want := range map[string]string{
		"smtp: {password: x}":                "give SMTP_PASSWORD or SMTP_PASSWORD_FILE",
		"slack: {token: x}":                  "give SLACK_BOT_TOKEN or SLACK_BOT_TOKEN_FILE",
		"secret: x":                          "give secretFile, PAWL_SECRET or PAWL_SECRET_FILE",
		"smtp: {hst: x}":                     `did you mean "smtp.host"?`,
		"smtp: x":                            "smtp is written as {name: value}, with host, port",
		"http: {closed: maybe}":              "http.closed",
		"smtp: {host: a}\nsmtp: {host: b}\n": "smtp.host is set twice",
	} {
		write(t, "pawl.yaml", text)
		pawlWith(t, env, "", "config", "show").want(t, exitUsage, want)
	}
}

// In development flows reach this machine only where that is said.
func TestDevOpensThisMachineWhereThatIsSaid(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello there")) }))
	defer target.Close()
	for _, open := range []bool{false, true} {
		dir := t.TempDir()
		t.Chdir(dir)
		write(t, "flows/get.json", calls("get", `{"service":"http","url":"`+target.URL+`"}`))
		var args []string
		if open {
			args = []string{"--http-allow", target.Listener.Addr().String()}
		}
		p := startDev(t, ".", "127.0.0.1:0", environment{}, args...)
		url := addressIn(t, &p.stdout, p.ended, &p.stderr)
		if !strings.Contains(p.stdout.String(), "services   http, webhook") {
			t.Errorf("the banner does not say which services are on: %s", &p.stdout)
		}
		if open {
			pawlAt(t, url, "start", "get", "--wait").want(t, 0, "hello there")
		} else {
			pawlAt(t, url, "start", "get", "--wait").want(t, exitRunFailed, "127.0.0.1 is not an address of the open internet")
		}
	}
}

// A service that does not answer is seen to be left alone, and can be tried again by hand.
func TestBreakersByCommandLine(t *testing.T) {
	t.Chdir(t.TempDir())
	gone := httptest.NewServer(http.NotFoundHandler())
	address := gone.Listener.Addr().String()
	gone.Close()
	write(t, "get.json", calls("get", `{"service":"http","url":"http://`+address+`"}`))
	url, _ := serving(t, environment{"PAWL_HTTP_ALLOW": address}, "--store", "pawl.db", "--admin-key-file", "admin.key")
	as := func(args ...string) result {
		return pawlWith(t, environment{"PAWL_SERVER": url}, "", append(args, "--api-key-file", "admin.key")...)
	}
	as("breakers", "list").want(t, 0, "all circuits are closed")
	as("deploy", "get.json").want(t, 0)
	as("start", "get").want(t, 0)
	endpoint := "service:/http/" + address
	eventually(t, func() bool {
		return strings.TrimSpace(as("breakers", "list", "--jq", ".items[].state").want(t, 0).stdout) == "open"
	}, &lockedBuffer{})
	as("breakers", "list").want(t, 0, endpoint, "open", "refused")
	as("breakers", "reset", endpoint).want(t, 0, "is closed")
	as("breakers", "reset", "service:/nothing").want(t, exitNotFound, "pawl breakers list")
}

// A server of tools in the settings is one that agents of flows can name, and its tools can be called.
func TestToolsOfTheSettings(t *testing.T) {
	server := sdk.NewServer(&sdk.Implementation{Name: "weather", Version: "1"}, nil)
	sdk.AddTool(server, &sdk.Tool{Name: "forecast", Description: "Tells tomorrow's weather."},
		func(context.Context, *sdk.CallToolRequest, struct{ City string }) (*sdk.CallToolResult, any, error) {
			return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: "rain"}}}, nil, nil
		})
	sdk.AddTool(server, &sdk.Tool{Name: "storm", Description: "Makes one."},
		func(context.Context, *sdk.CallToolRequest, struct{}) (*sdk.CallToolResult, any, error) {
			return &sdk.CallToolResult{}, nil, nil
		})
	var mu sync.Mutex
	key := ""
	handler := sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, nil)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		key = r.Header.Get("Authorization")
		mu.Unlock()
		handler.ServeHTTP(w, r)
	}))
	defer web.Close()
	t.Chdir(t.TempDir())
	write(t, "key", "Bearer k1\n")
	s := defaultSettings()
	if err := s.MCP.UnmarshalText([]byte("{weather: {url: '" + web.URL + "', headerFiles: {Authorization: key}, allow: [forecast]}}")); err != nil {
		t.Fatal(err)
	}
	c, err := (&app{env: environment{}.get}).services(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	list, err := c.boxes["weather"].List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tools, err := c.boxes["weather"].Bind(list)
	if err != nil || len(tools) != 1 || !json.Valid(list) {
		t.Fatalf("%s: %v, %v", list, tools, err)
	}
	mu.Lock()
	if key != "Bearer k1" {
		t.Errorf("the server was given the key %q", key)
	}
	mu.Unlock()
	if got := c.on(); !strings.HasSuffix(got, ", mcp:weather") {
		t.Errorf("on: %s", got)
	}
	if _, err := c.boxes["weather"].Bind([]byte(`{"tools":[{"name":"x"}]}`)); err == nil {
		t.Error("a list that the server can't have given was bound")
	}
}
