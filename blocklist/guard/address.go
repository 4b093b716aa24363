package guard

import "net/netip"

// notPublicPrefixes are the special-purpose blocks (IANA registries of RFC 6890) in which no public service has an address. Of IPv6, only 2000::/3 is
// allocated.
var notPublicPrefixes = func() (all []netip.Prefix) {
	for _, p := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	} {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}()

var globalUnicast6 = netip.MustParsePrefix("2000::/3")

// checkPrefix judges a prefix of addresses that answers must not contain.
func (g *Guards) checkPrefix(p netip.Prefix) Finding {
	f := Finding{Outcome: Refuse, Guard: Address}
	addr := p.Addr()
	switch {
	case addr.Is4() && p.Bits() < 24, !addr.Is4() && p.Bits() < 48:
		f.why = tooWide
		return f
	case addr.Is6() && !globalUnicast6.Contains(addr):
		f.why = notPublic
		return f
	}
	for _, special := range notPublicPrefixes {
		if special.Overlaps(p) {
			f.why = notPublic
			return f
		}
	}
	for _, own := range g.ownAddresses {
		if p.Contains(own) {
			f.why = ownAddress
			return f
		}
	}
	return Finding{}
}
