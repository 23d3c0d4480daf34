package service_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl/service"
)

func TestThisMachineIsClosedUnlessOpened(t *testing.T) {
	var got atomic.Int64
	s := serve(t, func(http.ResponseWriter, *http.Request) { got.Add(1) })
	port := s.Listener.Addr().(*net.TCPAddr).Port
	closed := webOf(t, service.HTTPOptions{Network: service.Network{Ports: []int{port}}})
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "127.1.2.3"} {
		refuses(t, closed, service.Forbidden, "not an address of the open internet", "url", fmt.Sprintf("http://%s:%d/", host, port))
	}
	// what another name says of it, as 2130706433 or 0x7f.1, is no address to Go, and a name that nobody has
	if got.Load() != 0 {
		t.Errorf("%d requests were served", got.Load())
	}
	asked(t, web(t), "url", s.URL)
}

func TestANameThatChangesItsAddressGainsNothing(t *testing.T) {
	var outside, inside atomic.Int64
	open := serve(t, func(w http.ResponseWriter, _ *http.Request) { outside.Add(1); w.Header().Set("Connection", "close") })
	port := open.Listener.Addr().(*net.TCPAddr).Port
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port)) // the same port, within
	if err != nil {
		t.Fatal(err)
	}
	closed := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside.Add(1) })}}
	closed.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			inside.Add(1)
		}
	}
	closed.Start()
	defer closed.Close()
	var looks atomic.Int64
	names := nameServer(t, func(string) []string {
		return []string{[]string{"127.0.0.1", "127.0.0.2"}[looks.Add(1)/2%2]} // A and AAAA are asked each time
	})
	s := webOf(t, service.HTTPOptions{Network: service.Network{Allow: []string{fmt.Sprintf("127.0.0.1:%d", port)}, Resolver: names}})
	reached := 0
	for range 100 {
		answer, err := request(t, s, "url", fmt.Sprintf("http://rebind.test:%d/", port))
		switch {
		case err == nil && answer.Status == 200:
			reached++
		case err.Code != service.Forbidden:
			t.Fatal(err)
		}
	}
	if inside.Load() != 0 || reached == 0 || reached == 100 || int(outside.Load()) != reached {
		t.Errorf("%d of 100 reached the one outside, which saw %d; the one inside saw %d", reached, outside.Load(), inside.Load())
	}
}

func TestMetadataNamesAreClosed(t *testing.T) {
	at := map[string]string{"metadata.google.internal": "169.254.169.254", "six.test": "fd00:ec2::254", "nat64.test": "64:ff9b::a9fe:a9fe", "azure.test": "168.63.129.16", "carrier.test": "100.100.100.200"}
	s := webOf(t, service.HTTPOptions{Network: service.Network{Resolver: nameServer(t, func(name string) []string {
		if a := at[name]; a != "" {
			return []string{a}
		}
		return nil
	})}})
	for name := range at {
		refuses(t, s, service.Forbidden, name, "url", "http://"+name+"/latest/meta-data/")
	}
	if err := refuses(t, s, service.Unavailable, "nowhere.test", "url", "http://nowhere.test/"); err.Fatal() {
		t.Error("a name that is not found now is not looked for again")
	}
}

func TestNoProxyOfTheEnvironmentIsUsed(t *testing.T) {
	var proxied atomic.Int64
	proxy := serve(t, func(http.ResponseWriter, *http.Request) { proxied.Add(1) })
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.Host)) })
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	names := nameServer(t, func(string) []string { return []string{"127.0.0.1"} })
	port := s.Listener.Addr().(*net.TCPAddr).Port
	n := service.Network{Allow: []string{fmt.Sprintf("api.test:%d", port)}, Resolver: names}
	answer := asked(t, webOf(t, service.HTTPOptions{Network: n}), "url", fmt.Sprintf("http://API.test.:%d/", port))
	if proxied.Load() != 0 || !strings.HasPrefix(text(answer.Body), "API.test.") {
		t.Errorf("the proxy saw %d requests, the server %q", proxied.Load(), answer.Body)
	}
}

// odd are addresses that people and attackers write. None may lead to a connection without a rule that opens it.
var odd = map[string][]string{
	service.Invalid: {
		"", " ", "example.org", "//example.org/", "/path", "?q", "#f", "http:", "http:/", "http://", "http:///path", "http:example.org", "http:///127.0.0.1/", "https:opaque/path",
		"http://user@127.0.0.1/", "http://user:password@127.0.0.1/", "http://good.test@127.0.0.1/", "http://good.test:80@127.0.0.1/", "http://@127.0.0.1/", "http://:@127.0.0.1/",
		`http://127.0.0.1\@good.test/`, `http:\\127.0.0.1\`, `http://good.test\.127.0.0.1/`, "http://127.0.0.1 /", "http://127.0. 0.1/", "http://127.0.0.1\t/", "http://127.0.0.1\r\nHost: x/", "http://127.0.0.1/\nx", "http://127.0.0.1/\x00",
		"http://127.0.0.1:x/", "http://127.0.0.1:/", "http://127.0.0.1:0/", "http://127.0.0.1:65536/", "http://127.0.0.1:-1/", "http://127.0.0.1:80:80/", "http://::1/", "http://[::1/", "http://[127.0.0.1/", "http://%31%32%37.0.0.1/", "http://[::1]x/",
		"http://127.1/", "http://0/", "http://127.0.0.1.:80/", "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://0177.0.0.1/", "http://./", "http://a..b/", "ht tp://127.0.0.1/", "://127.0.0.1", "1http://127.0.0.1/", "http://127.0.0.1/%zz", "http://exa%00mple/", "http://exa<mple>/", "http://[fe80::1%25]/\x7f",
	},
	service.Forbidden: {
		"ftp://127.0.0.1/", "file:///etc/passwd", "FILE:///etc/passwd", "gopher://127.0.0.1:6379/_FLUSHALL", "unix:///var/run/docker.sock", "javascript:alert(1)", "data:text/html,x", "ws://127.0.0.1/", "dict://127.0.0.1/", "mailto:a@example.org", "ldap://127.0.0.1/", "jar:http://127.0.0.1/!/",
		"http://127.0.0.1/", "HTTP://127.0.0.1/", "hTTps://127.0.0.1/", "http://localhost/", "http://LOCALHOST./", "http://127.0.0.1:22/", "http://127.0.0.1:25/", "http://127.0.0.1:6379/", "http://[::1]/", "http://[::]/", "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[fe80::1%25lo]/", "http://0.0.0.0/",
		"http://127.0.0.1.nip.test/", "http://x.test#@y.test/", "http://x.test?@y.test/", "http://x.test/@y.test", "http://xn--bcher-kva.test/", "http://bücher.test/", "http://１２７.０.０.１/", "http://ⓛocal.test/", "http://127。0。0。1/", "http://x.test:22/", "http://x_y.test/", "http://169.254.169.254/latest/", "http://[fd00:ec2::254]/", "http://metadata.google.internal/",
	},
}

func TestOddAddressesLeadNowhere(t *testing.T) {
	names := nameServer(t, func(string) []string { return []string{"127.0.0.1"} })
	s := webOf(t, service.HTTPOptions{Network: service.Network{Resolver: names, Ports: []int{80, 443, 6379}}})
	for code, list := range odd {
		for _, address := range list {
			if _, err := request(t, s, "url", address, "timeoutMs", 5000); err == nil || err.Code != code {
				t.Errorf("%q: %v, want %s", address, err, code)
			} else if !err.Fatal() {
				t.Errorf("%q would be tried again", address)
			}
		}
	}
}

// hops are two servers that send from one to the other.
func TestRedirectsAreFollowedWithoutKeys(t *testing.T) {
	var second *httptest.Server
	seen := make(chan *http.Request, 20)
	handler := func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
		}
	}
	first := serve(t, handler)
	second = serve(t, handler)
	s := web(t)
	call := func(address string) (last *http.Request) {
		t.Helper()
		asked(t, s, "url", address, "auth", map[string]any{"bearer": "sk-secret"}, "headers", map[string]string{"X-Api-Key": "k", "Cookie": "c=1", "Accept": "text/x", "X-Other": "o"})
		for len(seen) > 0 {
			last = <-seen
		}
		return last
	}
	same := call(first.URL + "/?to=/next")
	if same.Header.Get("Authorization") != "Bearer sk-secret" || same.Header.Get("X-Api-Key") != "k" || same.URL.Path != "/next" || same.Header.Get("Referer") != "" {
		t.Errorf("on one host: %v", same.Header)
	}
	for name, address := range map[string]string{
		"another port":      first.URL + "/?to=" + url.QueryEscape(second.URL+"/end"),
		"there and back":    first.URL + "/?to=" + url.QueryEscape(second.URL+"/?to="+url.QueryEscape(first.URL+"/end")),
		"the host's name":   first.URL + "/?to=" + url.QueryEscape(strings.Replace(first.URL, "127.0.0.1", "localhost", 1)+"/end"),
		"without a scheme":  first.URL + "/?to=" + url.QueryEscape(strings.TrimPrefix(second.URL, "http:")+"/end"),
		"and then stays so": first.URL + "/?to=" + url.QueryEscape(second.URL+"/?to=/end"),
	} {
		last := call(address)
		if last.URL.Path != "/end" || last.Header.Get("Accept") != "text/x" {
			t.Errorf("%s: %s %v", name, last.URL, last.Header)
		}
		for _, header := range []string{"Authorization", "X-Api-Key", "Cookie", "X-Other", "Referer"} {
			if last.Header.Get(header) != "" {
				t.Errorf("%s: %s was taken along", name, header)
			}
		}
	}
}

func TestRedirectsThatAreNotFollowed(t *testing.T) {
	var served atomic.Int64
	other := serve(t, func(http.ResponseWriter, *http.Request) { served.Add(1) })
	for _, status := range []int{301, 302, 303, 307, 308} {
		for to, words := range map[string]string{
			"http://169.254.169.254/latest/": "169.254.169.254", "file:///etc/passwd": "file:", "gopher://127.0.0.1/": "gopher:", "ftp://x/": "ftp:",
			"http://user:password@127.0.0.1/": "name and password", "http://[fd00:ec2::254]/": "fd00:ec2::254", "http:opaque": "names no host", "//0.0.0.0:1/": "0.0.0.0", "http://10.0.0.1/": "10.0.0.1",
		} {
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Location", to); w.WriteHeader(status) })
			_, err := request(t, web(t), "url", s.URL)
			if err == nil || err.Code != service.Forbidden && err.Code != service.Invalid || !strings.Contains(err.Error(), words) {
				t.Errorf("%d to %s: %v", status, to, err)
			}
		}
	}
	// A body goes to no other host.
	for _, status := range []int{307, 308} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", other.URL)
			w.WriteHeader(status)
		})
		refuses(t, web(t), service.Forbidden, "to another host", "url", s.URL, "method", "POST", "body", "secret")
	}
	if served.Load() != 0 {
		t.Errorf("%d requests were served", served.Load())
	}
	// From https to http nothing goes.
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }))
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	n := loopback
	n.RootCAs = roots
	refuses(t, webOf(t, service.HTTPOptions{Network: n}), service.Forbidden, "not encrypted", "url", secure.URL)
	// What leads nowhere is an answer like any other.
	nowhere := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
	refuses(t, web(t), service.BadAnswer, "304", "url", nowhere.URL)
	if asked(t, web(t), "url", nowhere.URL, "expect", []int{304}).Status != 304 {
		t.Error("an expected status is no result")
	}
}

func TestFiveRedirectsAreEnough(t *testing.T) {
	var served atomic.Int64
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var n int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &n)
		if served.Add(1); n > 0 {
			http.Redirect(w, r, fmt.Sprintf("/%d", n-1), http.StatusTemporaryRedirect)
		}
	})
	if answer := asked(t, web(t), "url", s.URL+"/5"); answer.URL != s.URL+"/0" {
		t.Error(answer.URL)
	}
	served.Store(0)
	refuses(t, web(t), service.Forbidden, "over 5 redirects", "url", s.URL+"/6")
	refuses(t, web(t), service.Forbidden, "over 5 redirects", "url", s.URL+"/1000000")
	if served.Load() != 12 {
		t.Errorf("%d requests were served", served.Load())
	}
	// A body goes along on one host.
	echo := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			http.Redirect(w, r, "/end", http.StatusPermanentRedirect)
			return
		}
		b := make([]byte, 10)
		n, _ := r.Body.Read(b)
		_, _ = w.Write(append([]byte(r.Header.Get("Idempotency-Key")+" "), b[:n]...))
	})
	if answer := asked(t, web(t), "url", echo.URL, "method", "POST", "body", "hello"); answer.Body != "step-1 hello" {
		t.Errorf("%q", answer.Body)
	}
}

func TestCertificatesCount(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.Proto)) }))
	secure.EnableHTTP2 = true
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	defer secure.Close()
	err := refuses(t, web(t), service.Forbidden, "certificate is not trusted", "url", secure.URL)
	if !err.Fatal() {
		t.Error("it would be tried again")
	}
	n := loopback
	n.RootCAs = x509.NewCertPool()
	n.RootCAs.AddCert(secure.Certificate())
	if answer := asked(t, webOf(t, service.HTTPOptions{Network: n}), "url", secure.URL); answer.Body != "HTTP/2.0" {
		t.Errorf("it spoke %v", answer.Body)
	}
	refuses(t, webOf(t, service.HTTPOptions{Network: n}), service.Forbidden, "certificate is not trusted", "url", strings.Replace(secure.URL, "127.0.0.1", "localhost", 1))
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.Config.ErrorLog = quiet
	old.StartTLS()
	defer old.Close()
	n.RootCAs.AddCert(old.Certificate())
	if _, err := request(t, webOf(t, service.HTTPOptions{Network: n}), "url", old.URL); err == nil || err.Status != 0 {
		t.Errorf("TLS 1.1 was spoken: %v", err)
	}
}

func TestADialerKeepsToTheRules(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	for _, c := range []struct {
		rules service.Network
		open  bool
	}{{service.Network{}, false}, {service.Network{Allow: []string{"127.0.0.1"}}, true}, {service.Network{Allow: []string{"127.0.0.1:1"}}, false}, {loopback, true}} {
		dial, err := c.rules.Dialer(port)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		conn, err := dial(ctx, "tcp", listener.Addr().String())
		cancel()
		var known *service.Error
		if c.open != (err == nil) || err != nil && (!errors.As(err, &known) || known.Code != service.Forbidden) {
			t.Errorf("%+v: %v", c.rules, err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
}
