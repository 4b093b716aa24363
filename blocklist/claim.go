package blocklist

import (
	"cmp"
	"net/netip"
	"slices"
)

// claim is all that a listing says of its name; few distinct ones occur in a source.
type claim struct {
	Decision Decision
	Scope    Scope
	Category Category
	Mark     Mark
	Start    int64
	Expiry   int64
	ID       string
}

// compare orders claims as an entry holds them: allows first, exceptions, then blocks, those that say most first, of those an exact one
// before wider ones, so that the first block that reaches a name is the one that decides and is shown.
func (c claim) compare(o claim) int {
	return cmp.Or(
		-cmp.Compare(c.Decision, o.Decision),
		cmp.Compare(c.unspecific(), o.unspecific()),
		cmp.Compare(c.Scope&Below, o.Scope&Below), cmp.Compare(o.Scope, c.Scope),
		cmp.Compare(c.Category, o.Category), cmp.Compare(c.Mark, o.Mark),
		cmp.Compare(c.Start, o.Start), cmp.Compare(c.Expiry, o.Expiry), cmp.Compare(c.ID, o.ID),
	)
}

// unspecific is 1 for a block that says no more than that the name is malicious, otherwise 0.
func (c claim) unspecific() int {
	if c.Category == Malicious && c.Mark == Blocked {
		return 1
	}
	return 0
}

// day is a date as days since 1970, enough until 2149; 0 is unknown.
type day uint16

const secondsPerDay = 24 * 60 * 60

func dayOf(unix int64) day {
	if unix <= 0 || unix/secondsPerDay > 1<<16-1 {
		return 0
	}
	return day(unix / secondsPerDay)
}

func (d day) unix() int64 { return int64(d) * secondsPerDay }

// earlier is the first of two days, an unknown one being later than any.
func earlier(a, b day) day {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// sourcedClaim is a claim with the sources that make it, as ascending indices of the table it comes with.
type sourcedClaim struct {
	claim
	since   day
	sources []uint16
}

// maxClaims is how many claims one source may make about one name, because a query examines each of them. Of more claims than that, those with the
// latest expiry are kept.
const maxClaims = 256

// limitEntry removes the claims of an entry that exceed maxClaims of their source. It changes entry in place, but not the sources slices of its claims.
func limitEntry(entry []sourcedClaim) []sourcedClaim {
	if len(entry) <= maxClaims {
		return entry
	}
	order := make([]int, len(entry))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return entry[i].compareExpiry(entry[j].claim) })
	made := map[uint16]int{}
	for _, i := range order {
		entry[i].sources = slices.DeleteFunc(slices.Clone(entry[i].sources), func(s uint16) bool { return made[s] >= maxClaims })
		for _, s := range entry[i].sources {
			made[s]++
		}
	}
	return slices.DeleteFunc(entry, func(c sourcedClaim) bool { return len(c.sources) == 0 })
}

// compareExpiry orders claims by their expiry, the latest first; of equal ones the earliest start first.
func (c claim) compareExpiry(o claim) int {
	return cmp.Or(-cmp.Compare(uint64(c.Expiry-1), uint64(o.Expiry-1)), cmp.Compare(c.Start, o.Start)) // no expiry is 0, and becomes the largest number
}

// fact is a claim as a record holds it, its sources interned.
type fact struct {
	claim
	since day
	muted bool // too few of its sources agree: kept for people to read, without force
	set   uint32
}

// entryOf makes one claim of those that are equal, with all their sources, in the order of an entry.
// It works in place, but never on the sources of what it is given.
func entryOf(claims []sourcedClaim) []sourcedClaim {
	if len(claims) < 2 {
		return claims
	}
	slices.SortFunc(claims, func(x, y sourcedClaim) int { return x.compare(y.claim) })
	out := claims[:0]
	for _, c := range claims {
		last := len(out) - 1
		if last < 0 || out[last].claim != c.claim {
			out = append(out, c)
			continue
		}
		union := append(slices.Clone(out[last].sources), c.sources...)
		slices.Sort(union)
		out[last].sources = slices.Compact(union)
		out[last].since = earlier(out[last].since, c.since)
	}
	return out
}

// quorum decides which blocks of an entry count: those one of whose sources is content with how much
// the sources that list the name weigh together.
type quorum struct {
	sources []Source
	needed  bool // some source asks for more than its own word
}

func newQuorum(sources []Source) quorum {
	return quorum{sources, slices.ContainsFunc(sources, func(s Source) bool { return s.Quorum > max(1, s.Weight) })}
}

// mutes reports which of an entry's claims are without force.
func (q quorum) mutes(entry []sourcedClaim, i int) bool {
	if !q.needed || entry[i].Decision != Block {
		return false
	}
	weight := 0
	var counted [32]uint16 // more sources than that about one name only ever add weight
	seen := counted[:0]
	for _, c := range entry {
		if c.Decision != Block {
			continue
		}
		for _, s := range c.sources {
			if !slices.Contains(seen, s) {
				seen = append(seen, s)
				weight += max(1, q.sources[s].Weight)
			}
		}
	}
	for _, s := range entry[i].sources {
		if max(1, q.sources[s].Quorum) <= weight {
			return false
		}
	}
	return true
}

// A prefix of addresses stands among names under a key no name can have: its first octet is no length
// of a label (RFC 1035 section 2.3.4). The octets after are the family, the length in bits, the address.
const (
	prefixMark   = 0xff
	prefixKeyLen = 3 + 16
)

// appendPrefix appends the key of p, whose bits past its length are cleared.
func appendPrefix(dst []byte, p netip.Prefix) []byte {
	p = p.Masked()
	family := byte(6)
	if p.Addr().Is4() {
		family = 4
	}
	addr := p.Addr().As16()
	return append(append(dst, prefixMark, family, byte(p.Bits())), addr[:]...)
}

// prefixOf is the prefix that key stands for; false if it is a name.
func prefixOf(key []byte) (netip.Prefix, bool) {
	if len(key) != prefixKeyLen || key[0] != prefixMark {
		return netip.Prefix{}, false
	}
	addr := netip.AddrFrom16([16]byte(key[3:]))
	if key[1] == 4 {
		addr = addr.Unmap()
	}
	p, err := addr.Prefix(int(key[2]))
	return p, err == nil
}

func isName(key []byte) bool { return len(key) == 0 || key[0] != prefixMark }
