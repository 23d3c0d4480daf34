package service

import "net/netip"

// special are the ranges that lead to no host of the open internet, or not straight to it, by the registries of IANA,
// and Azure's host, which is at a public address.
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"168.63.129.16/32",
	"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", // within 2000::/3: Teredo, ORCHID, documentation, 6to4
)

// global is all of IPv6 that is given to hosts of the internet. Outside are loopback, private and link-local addresses,
// multicast, and those that hold one of IPv4: ::a.b.c.d, and 64:ff9b:: of NAT64.
var global = netip.MustParsePrefix("2000::/3")

// public reports whether an address is that of a host of the open internet.
func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("") // no prefix holds an address with a zone
	if !a.IsValid() || a.Is6() && !global.Contains(a) {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}
