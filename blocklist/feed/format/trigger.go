package format

import (
	"bytes"
	"net/netip"
	"strconv"

	"rempart/blocklist"
)

// The triggers of a policy zone except QNAME (draft-vixie-dnsop-dns-rpz-00 section 4). Response-IP
// triggers are listed as prefixes; the others depend on the client or on name servers, which a set
// of names does not know, and only their syntax is checked.

// The shortest prefixes listed: a shorter one would block a provider, or a country.
const (
	minBits4 = 24
	minBits6 = 48
)

// isBlockAction reports whether a record with this target blocks: NXDOMAIN, NODATA, no answer.
func isBlockAction(target []byte) bool {
	return string(target) == "." || string(target) == "*." || equalFold(target, "rpz-drop.")
}

func isPassAction(target []byte) bool { return equalFold(target, "rpz-passthru.") }

// addressTrigger splits an owner whose last label begins with "rpz-" into the text before it and that label.
func addressTrigger(owner []byte) (before, kind []byte, ok bool) {
	i := bytes.LastIndexByte(owner, '.')
	kind = owner[i+1:]
	return owner[:max(i, 0)], kind, hasPrefixFold(kind, "rpz-")
}

func (p *parser) addressPolicy(before, kind, target []byte) {
	switch {
	case equalFold(kind, "rpz-ip"):
		p.responseIP(before, target)
	case equalFold(kind, "rpz-client-ip"), equalFold(kind, "rpz-nsip"):
		if _, ok := triggerPrefix(before); !ok {
			p.refuse(BadTrigger)
			return
		}
		p.refuse(Trigger)
	case equalFold(kind, "rpz-nsdname"):
		name := bytes.TrimPrefix(before, []byte("*."))
		if _, why := appendName(p.name[:0], name); why != accepted && why != SingleLabel {
			p.refuse(BadTrigger)
			return
		}
		p.refuse(Trigger)
	default:
		p.refuse(BadTrigger)
	}
}

// responseIP lists the addresses that answers must not hold.
func (p *parser) responseIP(before, target []byte) {
	prefix, ok := triggerPrefix(before)
	switch {
	case !ok:
		p.refuse(BadTrigger)
	case isPassAction(target):
		p.refuse(PassedAddress)
	case !isBlockAction(target) && (!p.opt.RedirectsBlock || equalFold(target, "rpz-tcp-only.")):
		p.refuse(Redirect)
	case prefix.Addr().Is4() && prefix.Bits() < minBits4, prefix.Addr().Is6() && prefix.Bits() < minBits6:
		p.refuse(ShortPrefix)
	case !isGlobal(prefix):
		p.refuse(NotGlobal)
	default:
		p.stats.Listings++
		p.sink.Add(p.line, blocklist.Listing{Prefix: prefix, Decision: blocklist.Block})
	}
}

// triggerPrefix reads "bits.d.c.b.a" (IPv4) or "bits.h.g.….a" (IPv6, "zz" for one "::"). The bits
// beyond the prefix must be zero.
func triggerPrefix(text []byte) (netip.Prefix, bool) {
	var words [9][]byte
	n := 0
	for word := range bytes.SplitSeq(text, []byte(".")) {
		if n == len(words) {
			return netip.Prefix{}, false
		}
		words[n] = word
		n++
	}
	if n < 3 { // "128.zz.1" is the shortest
		return netip.Prefix{}, false
	}
	bits, ok := decimal(words[0], 128)
	if !ok {
		return netip.Prefix{}, false
	}
	addr, ok := reversed4(words[1:n])
	if !ok {
		addr, ok = reversed6(words[1:n])
	}
	if !ok || addr.Is4() && bits > 32 {
		return netip.Prefix{}, false
	}
	prefix := netip.PrefixFrom(addr, bits)
	return prefix, bits > 0 && prefix == prefix.Masked()
}

func reversed4(words [][]byte) (netip.Addr, bool) {
	var a [4]byte
	if len(words) != len(a) {
		return netip.Addr{}, false
	}
	for i, word := range words {
		n, ok := decimal(word, 255)
		if !ok {
			return netip.Addr{}, false
		}
		a[3-i] = byte(n)
	}
	return netip.AddrFrom4(a), true
}

func reversed6(words [][]byte) (netip.Addr, bool) {
	var a [16]byte
	at, elided := 16, false
	for i, word := range words {
		if equalFold(word, "zz") {
			if elided {
				return netip.Addr{}, false
			}
			elided = true
			at = 2 * (len(words) - 1 - i)
			continue
		}
		n, err := strconv.ParseUint(string(word), 16, 16)
		if at -= 2; err != nil || at < 0 || len(word) > 4 {
			return netip.Addr{}, false
		}
		a[at], a[at+1] = byte(n>>8), byte(n)
	}
	if len(words) > 8 || !elided && len(words) != 8 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16(a), at == 0
}

// decimal reads a number up to most, without leading zeros.
func decimal(text []byte, most int) (int, bool) {
	if len(text) == 0 || len(text) > 3 || len(text) > 1 && text[0] == '0' {
		return 0, false
	}
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, n <= most
}

// Addresses that are not globally routed, or represent others (IANA special-purpose registries,
// RFC 6890). Of IPv6, only 2000::/3 is global unicast.
var (
	notGlobal4 = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"224.0.0.0/3")
	notGlobal6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
	global6    = netip.MustParsePrefix("2000::/3")
)

func prefixes(texts ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, text := range texts {
		ps = append(ps, netip.MustParsePrefix(text))
	}
	return ps
}

func isGlobal(p netip.Prefix) bool {
	special := notGlobal4
	if p.Addr().Is6() {
		if special = notGlobal6; !global6.Contains(p.Addr()) {
			return false
		}
	}
	for _, s := range special {
		if s.Overlaps(p) {
			return false
		}
	}
	return true
}
