package resolver

import (
	"fmt"
	"net/netip"
)

// localPrefixes contain addresses of a machine itself or of its network.
var localPrefixes = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), // "this host", which systems treat as themselves
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), // between a provider and its customers (RFC 6598)
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::/127"),                                       // unspecified and loopback
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"), // unique local, link-local
	netip.MustParsePrefix("fec0::/10"), // site-local, deprecated
}

// embedding is a prefix of IPv6 addresses that hold an IPv4 address, with the bytes that hold it.
type embedding struct {
	prefix netip.Prefix
	at     [4]uint8
}

// embeddings are all embeddings that clients or their networks use.
type embeddings []embedding

// lastFour are the bytes of an IPv4 address at the end of an IPv6 address.
var lastFour = [4]uint8{12, 13, 14, 15}

// newEmbeddings returns the well-known embeddings, and those of the NAT64 prefixes of a network (RFC 6052 section 2.2).
func newEmbeddings(nat64 []netip.Prefix) (embeddings, error) {
	all := embeddings{
		{netip.MustParsePrefix("::ffff:0:0/96"), lastFour},         // IPv4-mapped
		{netip.MustParsePrefix("::ffff:0:0:0/96"), lastFour},       // IPv4-translated (RFC 7915)
		{netip.MustParsePrefix("::/96"), lastFour},                 // IPv4-compatible, deprecated
		{netip.MustParsePrefix("64:ff9b::/96"), lastFour},          // NAT64 (RFC 6052)
		{netip.MustParsePrefix("64:ff9b:1::/96"), lastFour},        // NAT64 of a local network (RFC 8215), with the longest prefix
		{netip.MustParsePrefix("2002::/16"), [4]uint8{2, 3, 4, 5}}, // 6to4
	}
	for _, p := range nat64 {
		at, ok := map[int][4]uint8{32: {4, 5, 6, 7}, 40: {5, 6, 7, 9}, 48: {6, 7, 9, 10}, 56: {7, 9, 10, 11}, 64: {9, 10, 11, 12}, 96: lastFour}[p.Bits()]
		if !ok || !p.Addr().Is6() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%s is no prefix of NAT64: they are IPv6 prefixes of 32, 40, 48, 56, 64 or 96 bits", p)
		}
		all = append(all, embedding{p, at})
	}
	return all, nil
}

// inner returns the IPv4 address that an IPv6 address holds. A client that connects to addr reaches it.
func (all embeddings) inner(addr netip.Addr) (inner netip.Addr, ok bool) {
	if addr.Is4() {
		return inner, false
	}
	in := addr.As16()
	for _, e := range all {
		if e.prefix.Contains(addr) || addr.Is4In6() && e.prefix.Addr().Is4In6() {
			return netip.AddrFrom4([4]byte{in[e.at[0]], in[e.at[1]], in[e.at[2]], in[e.at[3]]}), true
		}
	}
	return inner, false
}

// isLocal reports whether addr belongs to a machine itself or to its network.
func (all embeddings) isLocal(addr netip.Addr) bool {
	for _, p := range localPrefixes {
		if p.Contains(addr) {
			return true
		}
	}
	inner, ok := all.inner(addr)
	return ok && all.isLocal(inner)
}
