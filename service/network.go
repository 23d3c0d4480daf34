package service

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Network says with whom services may speak. The zero value lets them reach what is public on the internet, on the ports 80
// and 443, and nothing else: not this machine, not private networks, not the metadata addresses of clouds.
//
// It is the address that is connected to which counts, after all names were looked up and for each redirect anew, so a
// name that changes its address between two looks gains nothing.
type Network struct {
	// Allow opens more, and Deny closes, also what Allow opens. An entry is an address ("10.1.2.3"), a range
	// ("10.0.0.0/8"), a host ("vault.internal", whatever its address), or all hosts below a name ("*.corp.example").
	// With a port ("vault.internal:8200", "[fd00::/8]:8080") it means that port; ":*" means all. Without one it
	// means those of Ports in Allow, and all in Deny. Hosts are compared by name: who denies one denies no address.
	Allow, Deny []string
	// Closed lets nothing be reached but what Allow names.
	Closed bool
	// Ports are those that are open. Nil: 80 and 443.
	Ports []int
	// RootCAs are the authorities whose certificates are good. Nil: those of the system.
	RootCAs *x509.CertPool
	// Resolver finds the addresses of names. Nil: that of the system.
	Resolver *net.Resolver
}

// Limits of connections.
const (
	connectTime   = 10 * time.Second
	idleTime      = 30 * time.Second
	maxHeader     = 64 << 10 // bytes of all headers of an answer
	idlePerHost   = 4
	handshakeTime = 10 * time.Second
)

// Client gives a client that keeps to n, with a pool of connections of its own. It speaks http and https only, TLS 1.2 or newer,
// uses no proxy of the environment and keeps no cookies. It follows up to 5 redirects: none from https to http, none with a body to
// another host, and to another host it takes along no header but those that describe content. What n forbids is an
// [*Error] of the code Forbidden. The client has no time limit: give requests a context. An entry that is none is an error.
func (n Network) Client() (*http.Client, error) {
	p, err := n.policy()
	if err != nil {
		return nil, err
	}
	return p.client(n.RootCAs), nil
}

// Dialer gives the function that connects as n allows, for protocols other than HTTP. Ports are open besides those of n.
func (n Network) Dialer(ports ...int) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	p, err := n.policy(ports...)
	if err != nil {
		return nil, err
	}
	return p.dial, nil
}

// policy is a Network, read.
type policy struct {
	allow, deny []entry
	closed      bool
	ports       []int
	resolver    *net.Resolver
}

func (n Network) policy(ports ...int) (*policy, error) {
	p := &policy{closed: n.Closed, ports: append(slices.Clone(n.Ports), ports...), resolver: n.Resolver}
	if n.Ports == nil {
		p.ports = append(p.ports, 80, 443)
	}
	var err error
	if p.allow, err = readEntries("Allow", n.Allow); err != nil {
		return nil, err
	}
	if p.deny, err = readEntries("Deny", n.Deny); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *policy) client(roots *x509.CertPool) *http.Client {
	transport := &http.Transport{
		DialContext:            p.dial,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    handshakeTime,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTime,
		MaxResponseHeaderBytes: maxHeader,
		ExpectContinueTimeout:  time.Second,
	}
	return &http.Client{Transport: &guard{transport}, CheckRedirect: checkRedirect}
}

// dial connects to an address, and looks at where it leads before anything is sent there.
func (p *policy) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, forbidden("%q is no address with a port", address)
	}
	d := &net.Dialer{Timeout: connectTime, Resolver: p.resolver}
	d.ControlContext = func(_ context.Context, _, connected string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(connected)
		if err != nil {
			return forbidden("%q is not an address of the internet protocol", connected)
		}
		return p.check(hostName(host), to)
	}
	return d.DialContext(ctx, network, address)
}

// check tells whether a connection to an address, asked for by the name of a host, may be made.
func (p *policy) check(host string, to netip.AddrPort) error {
	address, port := to.Addr().Unmap().WithZone(""), int(to.Port())
	open := slices.Contains(p.ports, port)
	is := func(e entry) bool { return e.is(host, address) }
	switch {
	case slices.ContainsFunc(p.deny, func(e entry) bool { return is(e) && (e.port == ownPorts || e.port == allPorts || e.port == port) }):
		return forbidden("the network rules deny %s", shown(host, address))
	case slices.ContainsFunc(p.allow, func(e entry) bool {
		return is(e) && (e.port == allPorts || e.port == port || e.port == ownPorts && open)
	}):
		return nil
	case p.closed:
		return forbidden("%s is not among what the network rules allow", shown(host, address))
	case !public(address):
		return forbidden("%s is not an address of the open internet; the server's rules (http.allow) may allow it", shown(host, address))
	case !open:
		return forbidden("port %d of %s is closed to services; the server's rules (http.allow) may allow %q", port, host, net.JoinHostPort(host, strconv.Itoa(port)))
	}
	return nil
}

func forbidden(format string, args ...any) *Error {
	return &Error{Code: Forbidden, Message: fmt.Sprintf(format, args...)}
}

func shown(host string, address netip.Addr) string {
	if host == address.String() {
		return host
	}
	return fmt.Sprintf("%s (%s)", host, address)
}

// hostName is a host as names are compared: in small letters, without the root's dot.
func hostName(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }

// entry is one of Allow or Deny.
type entry struct {
	prefix netip.Prefix // of an address or a range; else
	host   string       // of one host, or with a dot in front all below a name
	port   int          // or one of those below
}

const (
	ownPorts = 0 // the entry names none
	allPorts = -1
)

func (e entry) is(host string, address netip.Addr) bool {
	switch {
	case e.prefix.IsValid():
		return e.prefix.Contains(address)
	case strings.HasPrefix(e.host, "."):
		return strings.HasSuffix(host, e.host) && len(host) > len(e.host)
	}
	return host == e.host
}

func readEntries(field string, texts []string) ([]entry, error) {
	var list []entry
	for i, text := range texts {
		e, err := readEntry(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%s of the network, entry %d: %q %w", field, i+1, text, err)
		}
		list = append(list, e)
	}
	return list, nil
}

func readEntry(text string) (entry, error) {
	var e entry
	place := text
	if _, err := netip.ParseAddr(text); err != nil && !isPrefix(text) && strings.Contains(text, ":") {
		i := strings.LastIndexByte(text, ':')
		port := text[i+1:]
		place = text[:i]
		if inner, is := strings.CutPrefix(place, "["); is {
			place = strings.TrimSuffix(inner, "]")
		}
		e.port = allPorts
		if port != "*" {
			number, err := strconv.ParseUint(port, 10, 16)
			if err != nil || number == 0 {
				return e, fmt.Errorf("has no port between 1 and 65535 behind its colon")
			}
			e.port = int(number)
		}
	}
	if strings.Contains(place, "/") {
		prefix, err := netip.ParsePrefix(place)
		switch {
		case err != nil:
			return e, fmt.Errorf("is no range of addresses: write it like 10.0.0.0/8")
		case prefix != prefix.Masked():
			return e, fmt.Errorf("has bits behind its length: write %s", prefix.Masked())
		case prefix.Addr().Is4In6():
			return e, fmt.Errorf("is a range of IPv4: write it without ::ffff:")
		}
		e.prefix = prefix
		return e, nil
	}
	if address, err := netip.ParseAddr(place); err == nil {
		address = address.Unmap()
		if address.Zone() != "" {
			return e, fmt.Errorf("has a zone: write it without")
		}
		e.prefix = netip.PrefixFrom(address, address.BitLen())
		return e, nil
	}
	name := hostName(strings.TrimPrefix(place, "*"))
	if !isHost(strings.TrimPrefix(name, ".")) || strings.HasPrefix(place, "*") != strings.HasPrefix(name, ".") {
		return e, fmt.Errorf("is neither an address, a range, a host nor *.host")
	}
	e.host = name
	return e, nil
}

func isPrefix(text string) bool {
	_, err := netip.ParsePrefix(text)
	return err == nil
}

// isHost reports whether a text may be the name of a host: letters, digits, "-", "_" and dots between them. Others are
// written in their ASCII form (xn--…).
func isHost(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}
