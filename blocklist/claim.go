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

// compare orders the claims of an entry: allows, then exceptions, then blocks. Among blocks, unspecific ones are last, and otherwise an exact block is
// before a wider one. The first block that covers a name decides, and is shown to people.
func (c claim) compare(o claim) int {
	return cmp.Or(
		-cmp.Compare(c.Decision, o.Decision),
		cmp.Compare(c.unspecific(), o.unspecific()),
		cmp.Compare(c.Scope&Below, o.Scope&Below), cmp.Compare(o.Scope, c.Scope),
		cmp.Compare(c.Category, o.Category), cmp.Compare(c.Mark, o.Mark),
		cmp.Compare(c.Start, o.Start), cmp.Compare(c.Expiry, o.Expiry), cmp.Compare(c.ID, o.ID),
	)
}

// unspecific returns 1 for a claim whose only reason is the general category Malicious, otherwise 0.
func (c claim) unspecific() int {
	if c.Category == Malicious && c.Mark == Blocked {
		return 1
	}
	return 0
}

// day is a date in days since 1970, up to 2149; 0 is unknown.
type day uint16

const secondsPerDay = 24 * 60 * 60

func dayOf(unix int64) day {
	if unix <= 0 || unix/secondsPerDay > 1<<16-1 {
		return 0
	}
	return day(unix / secondsPerDay)
}

func (d day) unix() int64 { return int64(d) * secondsPerDay }

// earlier returns the earlier of two days; an unknown day is later than any other.
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

// maxClaims is the number of claims that one source may make about one name; it is bounded because a query examines all claims about a name. If a
// source makes more, those with the latest expiry are kept.
const maxClaims = 256

// limitEntry removes claims until no source makes more than maxClaims. It changes entry in place, but not the sources slices of its claims.
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
	return cmp.Or(-cmp.Compare(uint64(c.Expiry-1), uint64(o.Expiry-1)), cmp.Compare(c.Start, o.Start)) // 0 means no expiry; 0-1 is the largest number
}

// fact is a claim as it is stored: records refer to a fact, and a fact to a set of sources, by number.
type fact struct {
	claim
	since day
	muted bool   // below the quorum of its sources: shown to people, but not enforced
	set   uint32 // the number of its set of sources
}

// entryOf merges equal claims into one claim with all their sources, and orders the claims as compare does. It changes claims in place, but never their
// sources slices.
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

// quorum decides which blocks of an entry are in effect. A block is in effect if the total weight of all sources that block the name reaches the quorum
// of one of the block's own sources.
type quorum struct {
	sources []Source
	needed  bool // some source requires more than its own weight
}

func newQuorum(sources []Source) quorum {
	return quorum{sources, slices.ContainsFunc(sources, func(s Source) bool { return s.Quorum > max(1, s.Weight) })}
}

// mutes reports whether claim i of entry is a block below its quorum, which has no effect.
func (q quorum) mutes(entry []sourcedClaim, i int) bool {
	if !q.needed || entry[i].Decision != Block {
		return false
	}
	weight := 0
	var counted [32]uint16 // room for the sources of most names; append allocates for more
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

// An address prefix is stored among the names under a key that is not a valid name: its first byte is not a valid length of a label (RFC 1035 section
// 2.3.4). The following bytes are the address family (4 or 6), the length of the prefix in bits, and 16 bytes of address.
const (
	prefixMark   = 0xff
	prefixKeyLen = 3 + 16
)

// appendPrefix appends the key of p to dst. It clears the address bits that are not part of the prefix.
func appendPrefix(dst []byte, p netip.Prefix) []byte {
	p = p.Masked()
	family := byte(6)
	if p.Addr().Is4() {
		family = 4
	}
	addr := p.Addr().As16()
	return append(append(dst, prefixMark, family, byte(p.Bits())), addr[:]...)
}

// prefixOf returns the address prefix of a key, and false if the key is a name.
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
