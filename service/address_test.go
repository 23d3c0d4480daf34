package service

import (
	"net/netip"
	"testing"
)

func TestOnlyAddressesOfTheOpenInternetArePublic(t *testing.T) {
	for _, closed := range []string{
		"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"100.100.100.200", "100.127.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9",
		"224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16",
		"::", "::1", "::a9fe:a9fe", "::7f00:1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1",
		"2001::1", "2001:0:a9fe:a9fe::", "2001:10::1", "2001:db8::1", "2002:a9fe:a9fe::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "4000::1",
	} {
		if public(netip.MustParseAddr(closed)) {
			t.Errorf("%s is taken for public", closed)
		}
	}
	if public(netip.Addr{}) {
		t.Error("no address is taken for public")
	}
	for _, open := range []string{
		"1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "192.0.1.1", "198.17.255.255", "198.20.0.0", "223.255.255.255", "168.63.129.15",
		"::ffff:8.8.8.8", "2001:200::1", "2001:4860:4860::8888", "2606:4700::1111", "2a00:1450::1", "2003::1",
	} {
		if !public(netip.MustParseAddr(open)) {
			t.Errorf("%s is taken for closed", open)
		}
	}
}

func TestRulesOpenAndClose(t *testing.T) {
	n := Network{
		Allow: []string{"10.1.0.0/16", "10.2.0.5:8200", "fd00::/8", "[fd01::5]:9000", "[fd02::/16]:*", "Vault.Internal.:8200", "*.corp.example", "8.8.8.8:53", "deny.corp.example", "::ffff:10.9.9.9"},
		Deny:  []string{"10.1.66.0/24", "deny.corp.example", "9.9.9.9:443", "bad.example"},
	}
	p, err := n.policy(587)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		host, address string
		port          uint16
		open          bool
	}{
		{"a.example", "1.1.1.1", 443, true},
		{"a.example", "1.1.1.1", 80, true},
		{"a.example", "1.1.1.1", 587, true},
		{"a.example", "1.1.1.1", 22, false},
		{"a.example", "10.1.2.3", 443, true},
		{"a.example", "::ffff:10.1.2.3", 443, true},
		{"a.example", "10.1.2.3", 6379, false},
		{"a.example", "10.1.66.3", 443, false},
		{"a.example", "10.2.0.5", 8200, true},
		{"a.example", "10.2.0.5", 443, false},
		{"a.example", "10.9.9.9", 443, true},
		{"a.example", "10.3.0.5", 443, false},
		{"a.example", "fd99::1", 443, true},
		{"a.example", "fd99::1", 9000, false},
		{"a.example", "fd01::5", 9000, true},
		{"a.example", "fd02::7", 1, true},
		{"a.example", "fe80::1%eth0", 443, false},
		{"vault.internal", "127.0.0.1", 8200, true},
		{"vault.internal", "127.0.0.1", 443, false},
		{"xvault.internal", "127.0.0.1", 8200, false},
		{"api.corp.example", "10.50.0.1", 443, true},
		{"corp.example", "10.50.0.1", 443, false},
		{"evilcorp.example", "10.50.0.1", 443, false},
		{"deny.corp.example", "10.50.0.1", 443, false},
		{"dns", "8.8.8.8", 53, true},
		{"nine", "9.9.9.9", 443, false},
		{"nine", "9.9.9.9", 80, true},
		{"bad.example", "1.1.1.1", 443, false},
	} {
		err := p.check(c.host, netip.AddrPortFrom(netip.MustParseAddr(c.address), c.port))
		if (err == nil) != c.open {
			t.Errorf("%s at %s port %d: %v", c.host, c.address, c.port, err)
		}
	}
	n.Closed = true
	if p, err = n.policy(); err != nil {
		t.Fatal(err)
	}
	if p.check("a.example", netip.MustParseAddrPort("1.1.1.1:443")) == nil || p.check("a.example", netip.MustParseAddrPort("10.1.2.3:443")) != nil {
		t.Error("Closed does not close")
	}
}

func TestRulesThatAreNoneAreRefused(t *testing.T) {
	for _, entry := range []string{
		"", "  ", ":80", "10.0.0.0/33", "10.0.0.1/8", "host:", "host:0", "host:65536", "host:x", "a b", "http://host", "host/path", "*", "*.", "**.x", "*x.example", ".example", "a..b", "fe80::1%eth0", "::ffff:10.0.0.0/104", "[fd00::/8]:-1", "user@host", "bücher.example",
	} {
		for _, n := range []Network{{Allow: []string{"10.0.0.1", entry}}, {Deny: []string{"10.0.0.1", entry}}} {
			if _, err := n.Client(); err == nil {
				t.Errorf("%q is taken for a rule", entry)
			}
			if _, err := n.Dialer(); err == nil {
				t.Errorf("%q is taken for a rule of a dialer", entry)
			}
			if _, err := NewHTTP(HTTPOptions{Network: n}); err == nil {
				t.Errorf("%q is taken for a rule of HTTP", entry)
			}
		}
	}
}
