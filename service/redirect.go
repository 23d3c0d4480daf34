package service

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// guard looks at each request before it is sent, those of redirects too.
type guard struct{ next *http.Transport }

func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := checkURL(r.URL); err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	return g.next.RoundTrip(once(r))
}

// once is a request that the transport does not repeat by itself: of one with an idempotency key it takes for granted that who is asked
// knows it, and sends it again when a kept connection breaks. Whether there is another attempt is for the engine to say. Only the key's usual
// spelling is known there, and no server tells spellings apart.
func once(r *http.Request) *http.Request {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if key, is := r.Header[name]; is {
			r = r.WithContext(r.Context()) // a copy: it is not ours to change
			r.Header = r.Header.Clone()
			delete(r.Header, name)
			r.Header[strings.ToLower(name)] = key
		}
	}
	return r
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] asks for.
func (g *guard) CloseIdleConnections() { g.next.CloseIdleConnections() }

// checkURL refuses addresses that are none of http, or that say two things.
func checkURL(u *url.URL) *Error {
	switch {
	case u.Scheme == "":
		return &Error{Code: Invalid, Message: "the address does not begin with http:// or https://"}
	case u.Scheme != "http" && u.Scheme != "https":
		return forbidden("addresses begin with http:// or https://, and not with %q", u.Scheme+":")
	case u.Opaque != "" || u.Hostname() == "":
		return &Error{Code: Invalid, Message: "the address names no host"}
	case u.User != nil:
		return &Error{Code: Invalid, Message: "an address holds no name and password here: give them as auth"}
	case !readable(strings.ToLower(u.Hostname())):
		return &Error{Code: Invalid, Message: fmt.Sprintf("%.60q is no host: write a name, or an address like 192.0.2.1 or [2001:db8::1]", u.Hostname())}
	}
	return nil
}

// readable reports whether a host is an address or a name, and can't be read as both: some resolvers take 127.1, 2130706433
// and 0x7f000001 for addresses. What is not ASCII is left to the client, which writes it in its ASCII form.
func readable(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = hostName(host)
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last != "" && (strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x")) {
		return false
	}
	return isHost(host) || strings.IndexFunc(host, func(c rune) bool { return c >= utf8.RuneSelf }) >= 0
}

const maxRedirects = 5

// describing are the headers that go along to another host: they say what is sent and wanted, and hold no key.
var describing = []string{"Accept", "Accept-Language", "Content-Type", "Content-Encoding", "Content-Language", "Content-Length", "User-Agent"}

// checkRedirect is http.Client.CheckRedirect: next is about to be sent, and has the headers of the first of the requests before it.
func checkRedirect(next *http.Request, before []*http.Request) error {
	last := before[len(before)-1]
	if len(before) > maxRedirects {
		return forbidden("over %d redirects, the last to %s", maxRedirects, plainURL(next.URL))
	}
	if err := checkURL(next.URL); err != nil {
		return &Error{Code: err.Code, Message: "a redirect: " + err.Message}
	}
	if last.URL.Scheme == "https" && next.URL.Scheme == "http" {
		return forbidden("a redirect from https to %s, which is not encrypted", plainURL(next.URL))
	}
	next.Header.Del("Referer") // it would tell the query of the address before
	same := sameSite(last.URL, next.URL)
	if !same && next.Method != http.MethodGet && next.Method != http.MethodHead {
		return forbidden("a redirect of a %s to another host, %s: give that address if it is right", next.Method, plainURL(next.URL))
	}
	for _, r := range before {
		same = same && sameSite(r.URL, next.URL)
	}
	if !same {
		for name := range next.Header {
			if !slices.Contains(describing, name) {
				next.Header.Del(name)
			}
		}
	}
	return nil
}

// sameSite reports whether two addresses lead to the same host and port, or from http to https of one host.
func sameSite(from, to *url.URL) bool {
	if hostName(from.Hostname()) != hostName(to.Hostname()) {
		return false
	}
	return portOf(from) == portOf(to) && from.Scheme == to.Scheme || portOf(from) == "80" && portOf(to) == "443" && from.Scheme == "http" && to.Scheme == "https"
}

func portOf(u *url.URL) string {
	switch port := u.Port(); {
	case port != "":
		return port
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// plainURL is an address for people: without what may hold a key.
func plainURL(u *url.URL) string {
	return fmt.Sprintf("%s://%s%s", u.Scheme, u.Host, u.EscapedPath())
}
