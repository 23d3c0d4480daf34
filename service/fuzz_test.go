package service

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

// An address that is taken says one thing: whoever reads it again finds the same host, and it is no number in disguise.
func FuzzURL(f *testing.F) {
	for _, text := range []string{"http://example.org/", "https://[::1]:443/a?b#c", "http://127.1", "http://0x7f.1", "http://2130706433/", "http://a@b/", "http://x#@y", "http://x\\@y", "HTTP://EXAMPLE.org.", "http://[fe80::1%25en0]/", "http://ex%61mple.org/", "http://１２７.0.0.1", "http://h:/", "//h", "http:h", "gopher://h"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := readURL(text)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		again, err := url.Parse(u.String())
		if err != nil || again.Host != u.Host || again.Scheme != u.Scheme || u.User != nil || u.Hostname() == "" || u.Fragment != "" {
			t.Fatalf("%q: %q is read again as %q, %v", text, u, again, err)
		}
		if u.Scheme != "http" && u.Scheme != "https" {
			t.Errorf("%q has the scheme %q", text, u.Scheme)
		}
		host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
		last := host[strings.LastIndexByte(host, '.')+1:]
		if _, err := netip.ParseAddr(u.Hostname()); err != nil && strings.Trim(last, "0123456789") == "" {
			t.Errorf("%q: %q may be taken for an address", text, host)
		}
	})
}

// A rule opens what it names, and never a part of this machine that it does not name.
func FuzzRule(f *testing.F) {
	for _, text := range []string{"10.0.0.0/8", "*.corp.example:*", "[::1]:80", "vault:8200", "1.2.3.4", "::ffff:1.2.3.4", "*", "*.", "a:0", "[::1]", "fe80::1%en0", "0.0.0.0/0"} {
		f.Add(text)
	}
	loopback := netip.MustParseAddr("127.0.0.1")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := readEntry(strings.TrimSpace(text))
		if err != nil {
			return
		}
		if e.prefix.IsValid() == (e.host != "") {
			t.Errorf("%q is %+v", text, e)
		}
		if e.is("evil.example", loopback) && !e.prefix.Contains(loopback) && e.host != "evil.example" && !strings.HasSuffix("evil.example", e.host) {
			t.Errorf("%q opens this machine", text)
		}
	})
}

// A time to wait is never negative and never over a day.
func FuzzRetryAfter(f *testing.F) {
	for _, text := range []string{"1", "-1", "99999999999999999999", "Wed, 21 Oct 2026 07:28:00 GMT", "1e3", " 5 ", "NaN"} {
		f.Add(text, "")
		f.Add(text, "Wed, 21 Oct 2015 07:28:00 GMT")
	}
	f.Fuzz(func(t *testing.T, text, date string) {
		if d := retryAfter(map[string][]string{"Retry-After": {text}, "Date": {date}}, time.Unix(1<<31, 0)); d < 0 || d > maxRetryAfter {
			t.Errorf("%q, %q: %v", text, date, d)
		}
	})
}
