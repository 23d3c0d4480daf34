package main

import (
	"bytes"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/pawlrun/pawl/api"
)

// answered is what is kept of the server's last answer.
type answered struct {
	body []byte        // of JSON, as it came
	at   time.Time     // the server's clock
	sent time.Time     // ours, when the request went out
	took time.Duration // until the answer began
}

// connect finds out which server is meant, and with which key, and makes the client. It
// asks nothing of the server. A flag goes before the environment, that before the file of
// contexts. A key that was meant for one server is sent to no other: that of a context goes
// with its address only, and one of the environment not to a context that --context names.
func (a *app) connect() error {
	file, err := a.contexts()
	if err != nil {
		return err
	}
	name, named := a.context, a.context != ""
	if !named && a.server == "" && a.env("PAWL_SERVER") == "" {
		if name = a.env("PAWL_CONTEXT"); name == "" {
			name = file.Current
		}
	}
	var chosen target
	if name != "" {
		t, ok := file.Contexts[name]
		if !ok {
			return a.noContext(file, name)
		}
		chosen = *t
	}
	switch {
	case a.server != "":
		if a.where == "" && a.server != defaultServer && a.env("PAWL_SERVER") != a.server {
			a.where = " --server " + shellQuote(a.server)
		}
		if chosen.Server != a.server {
			chosen = target{}
		}
	case named:
		a.server, a.where = chosen.Server, " --context "+shellQuote(name)
	case a.env("PAWL_SERVER") != "":
		a.server = a.env("PAWL_SERVER")
	case name != "":
		a.server = chosen.Server
	default:
		a.server = defaultServer
	}
	if _, _, err := net.SplitHostPort(a.server); err == nil && !strings.Contains(a.server, "/") {
		a.server = "http://" + a.server // as people write it
	}
	key, from, err := a.key(chosen, named)
	if err != nil {
		return err
	}
	a.meant = shownTarget{Server: shownURL(a.server), Key: from}
	if chosen.Server != "" {
		a.meant.Name, a.meant.Current = name, name == file.Current
	}
	a.client, err = api.NewClient(a.server, &api.ClientOptions{Key: key, HTTP: &http.Client{
		Transport:     &recorder{app: a, next: http.DefaultTransport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}})
	if err != nil {
		return a.usage("%w; give --server, or PAWL_SERVER, an http:// address", err)
	}
	if key != "" && !private(a.server) {
		a.note("the key goes to %s unencrypted; use https", a.server)
	}
	return nil
}

// key finds the key to send, "" if there is none, and tells where it comes from.
func (a *app) key(chosen target, named bool) (key, from string, err error) {
	switch {
	case a.keyFile != "":
		key, err = a.readKey("--api-key-file", a.keyFile)
		return key, "in " + a.keyFile, err
	case !named && a.env("PAWL_API_KEY") != "":
		return strings.TrimSpace(a.env("PAWL_API_KEY")), "$PAWL_API_KEY", nil
	case !named && a.env("PAWL_API_KEY_FILE") != "":
		file := a.env("PAWL_API_KEY_FILE")
		key, err = a.readKey("PAWL_API_KEY_FILE", file)
		return key, "in " + file, err
	case chosen.APIKeyFile != "":
		key, err = a.readKey("apiKeyFile of the context", chosen.APIKeyFile)
	default:
		key = chosen.APIKey
	}
	return key, chosen.shown("", "").Key, err
}

func (a *app) readKey(what, file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", a.usage("%s: %w", what, err)
	}
	key := strings.TrimSpace(string(data))
	if key == "" || strings.ContainsAny(key, " \t\r\n") {
		return "", a.usage("%s: %s is not one key", what, file)
	}
	return key, nil
}

// private reports whether nobody on the way can read what goes to an address.
func private(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "https" || u.Hostname() == "localhost" {
		return true // an address that is none is refused elsewhere
	}
	ip := net.ParseIP(u.Hostname())
	return ip != nil && ip.IsLoopback()
}

// recorder keeps the server's JSON answers as they came.
type recorder struct {
	app  *app
	next http.RoundTripper
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	sent := time.Now()
	res, err := r.next.RoundTrip(req)
	if err != nil {
		return res, err
	}
	got := answered{sent: sent, took: time.Since(sent)}
	got.at, _ = http.ParseTime(res.Header.Get("Date")) // zero: it did not say
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind == "application/json" {
		got.body, err = io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			return nil, err
		}
		res.Body = io.NopCloser(bytes.NewReader(got.body))
	}
	r.app.mu.Lock()
	r.app.last = got
	r.app.mu.Unlock()
	return res, nil
}
