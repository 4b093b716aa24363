package limits

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
)

// address is an IPv6 address, or an IPv4 address as IPv6 contains it (RFC 4291 section 2.5.5.2).
type address struct{ hi, lo uint64 }

const mappedBits = 96 // of the prefix of IPv4 in IPv6

func addressOf(addr netip.Addr) address {
	b := addr.As16()
	return address{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (a address) compare(b address) int {
	return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo))
}

func (a address) less(b address) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// mask returns the first address of the network of a with that prefix length.
func (a address) mask(bits int) address {
	return address{a.hi & highBits(bits), a.lo & highBits(bits-64)}
}

// highBits returns a number whose first n bits are set.
func highBits(n int) uint64 { return ^(math.MaxUint64 >> max(n, 0)) }

// rule is the limit of the clients in a range of addresses.
type rule struct {
	bits       int     // prefix length of the networks that have the limit each
	mask       address // its bits
	bytes      int64   // per second; 0: no limit
	answerCost int64   // of an answer, in ticks; 0: no limit
}

// byteCost returns the cost of n bytes in ticks.
func (r *rule) byteCost(n int) int64 { return (int64(n)*ticks + r.bytes - 1) / r.bytes }

// rules finds the rule of a client: ranges of addresses that follow each other and cover all addresses. They never change.
type rules struct {
	starts       []address // first addresses of the ranges, ascending
	rules        []rule
	countAnswers bool // some rule limits the number of answers
}

// network is a client's network: its first address and its prefix length.
type network struct {
	first address
	bits  int
}

func newRules(c Config) rules {
	// Limits for IPv6 do not apply to IPv4.
	limits := append([]Limit{{Clients: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}}, c.Limits...)
	starts := []address{{}}
	for _, l := range limits {
		first, bits := prefixOf(l.Clients)
		starts = append(starts, first)
		if after, ok := first.after(bits); ok {
			starts = append(starts, after)
		}
	}
	slices.SortFunc(starts, address.compare)
	r := rules{starts: slices.Compact(starts)}
	for _, start := range r.starts {
		rule := ruleAt(start, limits, c)
		r.rules = append(r.rules, rule)
		r.countAnswers = r.countAnswers || rule.answerCost > 0
	}
	return r
}

// ruleAt returns the rule of the client with that address.
func ruleAt(at address, limits []Limit, c Config) rule {
	longest, applies := -1, Limit{}
	for _, l := range limits {
		if first, bits := prefixOf(l.Clients); bits >= longest && at.mask(bits) == first {
			longest, applies = bits, l
		}
	}
	r := rule{bits: c.IPv6Bits, bytes: applies.Bytes}
	if first, _ := prefixOf(limits[0].Clients); at.mask(mappedBits) == first {
		r.bits = mappedBits + c.IPv4Bits
	}
	r.bits = max(r.bits, longest)
	r.mask = address{highBits(r.bits), highBits(r.bits - 64)}
	if applies.Answers > 0 {
		r.answerCost = (ticks + applies.Answers - 1) / applies.Answers
	}
	return r
}

// prefixOf returns the first address and the length of a prefix, both as of IPv6.
func prefixOf(p netip.Prefix) (first address, bits int) {
	bits = p.Bits()
	if p.Addr().Is4() {
		bits += mappedBits
	}
	return addressOf(p.Addr()).mask(bits), bits
}

// after returns the first address after the network that begins at a; false if there is none.
func (a address) after(bits int) (address, bool) {
	if bits > 64 {
		lo := a.lo + 1<<(128-bits)
		if lo == 0 {
			return address{a.hi + 1, 0}, a.hi != math.MaxUint64
		}
		return address{a.hi, lo}, true
	}
	if bits == 0 {
		return address{}, false
	}
	hi := a.hi + 1<<(64-bits)
	return address{hi, 0}, hi != 0
}

// find returns the rule of a client and the network with which the client shares the limit.
func (r *rules) find(client netip.Addr) (*rule, network) {
	addr := addressOf(client)
	low, high := 0, len(r.starts) // the first range begins at the lowest address
	for high-low > 1 {
		if middle := int(uint(low+high) / 2); addr.less(r.starts[middle]) {
			high = middle
		} else {
			low = middle
		}
	}
	found := &r.rules[low]
	return found, network{address{addr.hi & found.mask.hi, addr.lo & found.mask.lo}, found.bits}
}
