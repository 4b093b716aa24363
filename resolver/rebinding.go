package resolver

import (
	"net/netip"

	"rempart/internal/wire"
	"rempart/resolver/cache"
)

// rebinding refuses public names whose answers hold addresses of the local network: a page on such a name could reach
// machines of that network from its visitor's browser (DNS rebinding).
type rebinding struct {
	refused bool
	allowed [][]byte // canonical names that may have such addresses, with all below them
	texts   reasonTexts
}

const rebindingReason = "a public name with an address of the local network (DNS rebinding)"

func newRebinding(c Config) (rebinding, error) {
	full, short, err := structuredError{Justification: "Ce nom public mène à une adresse du réseau local."}.texts(c.Contact, c.Organisation)
	return rebinding{c.RefuseRebinding, c.RebindingAllow, reasonTexts{rebindingReason, full, short}}, err
}

// rebinds reports whether the answer e must be refused because of an address in it.
func (r *Resolver) rebinds(e *cache.Entry) bool {
	found := false
	e.EachAddress(func(addr netip.Addr) bool {
		found = isLocal(addr)
		return !found
	})
	name := e.Name()
	if !found || !isPublic(name) || r.zone(name) != nil {
		return false
	}
	for _, zone := range r.rebinding.allowed {
		if wire.InZone(name, zone) {
			return false
		}
	}
	return true
}

// isPublic reports whether name can be registered on the Internet. Names of one label, and names of private networks
// (RFC 6762 appendix G), which routers answer, cannot.
func isPublic(name []byte) bool {
	last := lastLabel(name)
	switch string(name[last:]) {
	case "\x08intranet\x00", "\x08internal\x00", "\x07private\x00", "\x04corp\x00", "\x04home\x00", "\x03lan\x00":
		return false
	}
	return last > 0 || name[0] == 0 || topLevel(name)
}

// refuseRebinding answers q as if its name had no data. The extended error is Filtered, because the people who set up this
// protection use it themselves; Blocked is for an operator's decision, and Censored for the law.
func (r *Resolver) refuseRebinding(q *wire.Query) {
	r.slow.rebinding.Add(1)
	q.Begin(wire.Success)
	q.AddSOA(r.blocked.ttl, 0)
	text := r.rebinding.texts.plain
	if q.Structured {
		if text = r.rebinding.texts.full; len(text) > q.Room() {
			text = r.rebinding.texts.short
		}
	}
	q.Finish(wire.Success, wire.EDE{Code: wire.EDEFiltered, Text: text})
}

// localPrefixes hold addresses that lead to a machine itself or to its network.
var localPrefixes = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), // "this host", which systems treat as themselves
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), // between a provider and its customers (RFC 6598)
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::/127"),                                       // unspecified and loopback
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"), // unique local, link-local
	netip.MustParsePrefix("fec0::/10"), // site-local, deprecated
}

// embeddings are the prefixes of IPv6 addresses that hold an IPv4 address, with the byte at which the IPv4 address begins.
var embeddings = [...]struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("::ffff:0:0/96"), 12},   // IPv4-mapped
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // IPv4-translated (RFC 7915)
	{netip.MustParsePrefix("::/96"), 12},           // IPv4-compatible, deprecated
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64 (RFC 6052)
	{netip.MustParsePrefix("64:ff9b:1::/96"), 12},  // NAT64 of a local network (RFC 8215), with the longest prefix
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4
}

// isLocal reports whether addr belongs to a machine itself or to its network.
func isLocal(addr netip.Addr) bool {
	for _, p := range localPrefixes {
		if p.Contains(addr) {
			return true
		}
	}
	inner, ok := embedded(addr)
	return ok && isLocal(inner)
}

// embedded returns the IPv4 address that an IPv6 address holds. A client that connects to addr reaches it.
func embedded(addr netip.Addr) (inner netip.Addr, ok bool) {
	if addr.Is4() {
		return inner, false
	}
	for _, e := range embeddings {
		if in := addr.As16(); e.prefix.Contains(addr) || addr.Is4In6() && e.at == 12 && e.prefix.Addr().Is4In6() {
			return netip.AddrFrom4([4]byte(in[e.at : e.at+4])), true
		}
	}
	return inner, false
}
