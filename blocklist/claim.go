package blocklist

import (
	"cmp"
	"net/netip"
	"slices"
)

// claim is everything that a listing says about its name; a source has few distinct claims.
type claim struct {
	Decision Decision
	Scope    Scope
	Category Category
	Mark     Mark
	Start    int64
	Expiry   int64
	ID       string
}

// compare orders claims as in an entry: allows first, then exceptions, then blocks, the most specific first, and of equally specific ones an exact one before
// wider ones. The first block that reaches a name decides and is shown.
func (c claim) compare(o claim) int {
	return cmp.Or(
		-cmp.Compare(c.Decision, o.Decision),
		cmp.Compare(c.unspecific(), o.unspecific()),
		cmp.Compare(c.Scope&Below, o.Scope&Below), cmp.Compare(o.Scope, c.Scope),
		cmp.Compare(c.Category, o.Category), cmp.Compare(c.Mark, o.Mark),
		cmp.Compare(c.Start, o.Start), cmp.Compare(c.Expiry, o.Expiry), cmp.Compare(c.ID, o.ID),
	)
}

// unspecific returns 1 for a block that says only that the name is malicious, otherwise 0.
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

// earlier returns the first of two days; an unknown day is later than any.
func earlier(a, b day) day {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// sourcedClaim is a claim with the sources that make it, as ascending indices of a table of sources.
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

// fact is a claim as a record holds it, with interned sources.
type fact struct {
	claim
	since day
	muted bool // too few of its sources agree: kept for people to read, without effect
	set   uint32
}

// entryOf merges equal claims into one, with all their sources, in the order of an entry. It works in place, but never changes the sources slices of its
// argument.
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

// quorum decides which blocks of an entry have an effect: those with a source whose quorum is reached by the weight of all sources that list the name.
type quorum struct {
	sources []Source
	needed  bool // some source requires more than its own weight
}

func newQuorum(sources []Source) quorum {
	return quorum{sources, slices.ContainsFunc(sources, func(s Source) bool { return s.Quorum > max(1, s.Weight) })}
}

// mutes reports whether claim i of an entry has no effect.
func (q quorum) mutes(entry []sourcedClaim, i int) bool {
	if !q.needed || entry[i].Decision != Block {
		return false
	}
	weight := 0
	var counted [32]uint16 // further sources of one name only ever add weight
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

// A prefix of addresses is stored among names under a key that no name can have: its first byte is no valid length of a label (RFC 1035 section 2.3.4). The
// following bytes are the family, the length in bits, the address.
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

// prefixOf returns the prefix of a key; false if the key is a name.
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
