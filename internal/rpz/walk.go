package rpz

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"rempart/blocklist"
)

const maxPrefixes = 1 << 16 // of prefixes of addresses; they are held in memory

// walk calls each once for each name in the view, in no particular order, until each returns an error, which it returns. The name is borrowed. It returns the
// prefixes of addresses in the view, and the number of further ones. Memory is needed for these only.
func walk(view *blocklist.View, each func(name []byte) error) ([]netip.Prefix, int, error) {
	prefixes := prefixSet{in: map[netip.Prefix]struct{}{}}
	err := view.Input().EachName(each, func(c blocklist.Change) { prefixes.add(c.Listing.Prefix) })
	return prefixes.sorted(), prefixes.more, err
}

// prefixSet gathers prefixes.
type prefixSet struct {
	in   map[netip.Prefix]struct{}
	more int // the number of those for which there was no room
}

func (s *prefixSet) add(p netip.Prefix) {
	if _, ok := s.in[p]; !ok && len(s.in) == maxPrefixes {
		s.more++
		return
	}
	s.in[p] = struct{}{}
}

// sorted returns the prefixes by address; of one address the wider prefix is first.
func (s *prefixSet) sorted() []netip.Prefix {
	return slices.SortedFunc(maps.Keys(s.in), func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
}

// addresses returns the records of prefixes of addresses, which are sorted as walk returns them. Resolvers use the longest prefix that contains an address:
// each is judged by an address that no longer prefix contains.
func (z *zone) addresses(l look, prefixes []netip.Prefix) (all []record) {
	if l.view.Suspended() {
		return nil
	}
	for i, p := range prefixes {
		addr, ok := ownAddress(p, prefixes[i+1:])
		if !ok {
			continue
		}
		v := l.view.MatchAddr(addr, z.categories, l.at)
		*l.due = min(*l.due, v.Until)
		r := none
		switch {
		case v.Action == blocklist.BlockedBy:
			r = block
		case v.Action == blocklist.Allowed && !z.noAllows || within(p, prefixes[:i]):
			r = pass
		}
		if r != none {
			all = append(all, record{addressOwner(p), r})
		}
	}
	return all
}

// ownAddress returns the first address of p that none of the following prefixes contains.
func ownAddress(p netip.Prefix, after []netip.Prefix) (netip.Addr, bool) {
	addr := p.Addr()
	for _, q := range after {
		if !q.IsValid() || !p.Contains(q.Addr()) || addr.Less(q.Addr()) {
			break
		}
		if q.Contains(addr) {
			addr = lastOf(q).Next()
		}
	}
	return addr, addr.IsValid() && p.Contains(addr)
}

func lastOf(p netip.Prefix) netip.Addr {
	octets := p.Addr().AsSlice()
	for i := p.Bits(); i < len(octets)*8; i++ {
		octets[i/8] |= 0x80 >> (i % 8)
	}
	addr, _ := netip.AddrFromSlice(octets)
	return addr
}

// within reports whether one of the prefixes contains all of p.
func within(p netip.Prefix, of []netip.Prefix) bool {
	return slices.ContainsFunc(of, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) })
}

// addressOwner returns the owner of a prefix's record: its length, then the address backwards, in groups of 16 bits for IPv6, of which the longest row of zeros
// is "zz" (draft-vixie-dnsop-dns-rpz section 4.1.1).
func addressOwner(p netip.Prefix) string {
	labels := []string{strconv.Itoa(p.Bits())}
	octets := p.Addr().AsSlice()
	if p.Addr().Is4() {
		for i := len(octets) - 1; i >= 0; i-- {
			labels = append(labels, strconv.Itoa(int(octets[i])))
		}
	} else {
		labels = append(labels, groupsBackwards(octets)...)
	}
	var owner []byte
	for _, label := range append(labels, "rpz-ip") {
		owner = append(append(owner, byte(len(label))), label...)
	}
	return string(owner)
}

func groupsBackwards(octets []byte) (labels []string) {
	var groups [8]uint16
	for i := range groups {
		groups[i] = uint16(octets[14-2*i])<<8 | uint16(octets[15-2*i])
	}
	// Of rows of zeros of one length the first of the address, which is the last here (RFC 5952 section 4.2.3): BIND accepts no other form.
	start, length := 0, 1
	for i := 0; i < len(groups); i++ {
		n := 0
		for i+n < len(groups) && groups[i+n] == 0 {
			n++
		}
		if n >= length && n > 1 {
			start, length = i, n
		}
		i += n
	}
	for i := 0; i < len(groups); i++ {
		if length > 1 && i == start {
			labels = append(labels, "zz")
			i += length - 1
			continue
		}
		labels = append(labels, strconv.FormatUint(uint64(groups[i]), 16))
	}
	return labels
}
