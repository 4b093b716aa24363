package guard

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"golang.org/x/net/publicsuffix"

	"rempart/blocklist"
)

// DefaultBound is the last rank that is popular if Config.Bound is 0.
const DefaultBound = 10000

// Config configures the guards in addition to the shipped lists. Its zero value is valid.
type Config struct {
	Essential    io.Reader    // more essential names, in the format of essential.txt; may be nil
	Own          []string     // names of this service: its page, its upstreams, the hosts of its feeds; ASCII
	OwnAddresses []netip.Addr // its addresses
	Popular      io.Reader    // a popularity list instead of the shipped one: lines of "rank,name", or names in the order of their ranks, gzip or not; may be nil
	Bound        int          // the last rank that is popular; 0 is DefaultBound
}

// Guards judges listings. It is immutable, and safe for concurrent use.
type Guards struct {
	names        *table
	ownAddresses []netip.Addr
	bound        int
	stats        Stats
}

// Stats counts the content of the lists.
type Stats struct {
	Essential  int // protected names, those of this service included
	Popular    int // names with a rank
	BadPopular int // invalid lines of the popularity list
}

// New reads the lists. It does not use its readers after it returned. Its error names the list that cannot be used, and the reason.
func New(c Config) (*Guards, error) {
	g := &Guards{
		names: newTable(shippedNames), bound: or(c.Bound, DefaultBound),
	}
	for _, a := range c.OwnAddresses {
		g.ownAddresses = append(g.ownAddresses, a.Unmap().WithZone(""))
	}
	if err := g.readShipped(); err != nil {
		return nil, fmt.Errorf("shipped lists of the guards: %w", err)
	}
	if c.Essential != nil {
		if err := g.readEssential(c.Essential); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrEssential, err)
		}
	}
	if err := g.addOwn(c.Own); err != nil {
		return nil, err
	}
	popular, what := c.Popular, ErrPopular
	if popular == nil {
		popular, what = shippedPopular(), errShippedPopular
	}
	if err := g.readPopular(popular); err != nil {
		return nil, fmt.Errorf("%w: %w", what, err)
	}
	return g, nil
}

// ErrEssential and ErrPopular are wrapped by New's error if the content of Config.Essential or Config.Popular cannot be used.
var (
	ErrEssential      = errors.New("essential names")
	ErrPopular        = errors.New("popularity list")
	errShippedPopular = errors.New("shipped popularity list")
)

// Stats returns the numbers of names in the lists.
func (g *Guards) Stats() Stats { return g.stats }

// Check judges a listing. The first guard that objects decides, except that a hold yields to a refusal by a later guard: a person who releases the name was not
// asked about that. Only blocks are judged, because an exception and an allow make the set smaller. It does not allocate, except for names right below wildcard
// public suffixes. The listing is borrowed for the call only.
func (g *Guards) Check(l blocklist.Listing) Finding {
	if l.Decision != blocklist.Block {
		return Finding{}
	}
	if l.Prefix.IsValid() {
		return g.checkPrefix(l.Prefix)
	}
	if why, ok := checkName(l.Name); !ok {
		return Finding{Outcome: Refuse, Guard: Name, why: why}
	}
	exact, below := l.Scope&blocklist.Exact != 0, l.Scope&blocklist.Below != 0
	if !exact && !below {
		return Finding{Outcome: Refuse, Guard: Name, why: noScope}
	}
	n := g.look(l.Name)
	held := checkSuffix(l.Name, n, below)
	if held.Outcome == Refuse {
		return held
	}
	if f := checkEssential(n, exact, below); f.Outcome != Pass {
		return f
	}
	if held.Outcome == Hold {
		return held
	}
	return g.checkPopular(n, below)
}

// CheckAllow judges an operator's allow, which defeats every block below it: an allow of a public suffix, or of a name above one, would unblock names of people
// who have nothing to do with each other. The listing is borrowed for the call only.
func (g *Guards) CheckAllow(l blocklist.Listing) Finding {
	if why, ok := checkName(l.Name); !ok {
		return Finding{Outcome: Refuse, Guard: Name, why: why}
	}
	f := checkSuffix(l.Name, g.look(l.Name), l.Scope&blocklist.Below != 0)
	if f.Outcome == Hold && f.why == suffixBelow {
		f.Outcome = Refuse
	}
	return f
}

// known holds the facts about a name and the names above it.
type known struct {
	itself fact
	above  fact // of the name right above
	realm  int  // where the nearest name begins that is essential with all names below it; -1 for none
	named  int  // where the name begins that the facts are about: after "www", which is treated as its parent
}

// look collects the facts about a name that checkName accepted.
func (g *Guards) look(name []byte) known {
	n := known{itself: g.names.of(name), realm: -1}
	if n.itself&isRealm != 0 {
		n.realm = 0
	}
	for s := parent(name); s[0] != 0; s = parent(s) {
		f := g.names.of(s)
		if len(s)+1+int(name[0]) == len(name) {
			n.above = f
		}
		if f&isRealm != 0 && n.realm < 0 {
			n.realm = len(name) - len(s)
		}
	}
	if isWWW(name) {
		joined := join(n.itself, n.above&^flags|n.above&(isProtected|isOwn))
		if joined != n.itself {
			n.itself, n.named = joined, 4
		}
	}
	return n
}

func checkSuffix(name []byte, n known, below bool) Finding {
	f := Finding{Outcome: Refuse, Guard: PublicSuffix}
	switch {
	case n.itself&isSuffix != 0:
		f.why = suffix
	case n.itself&isWildcard != 0 && below:
		f.why = suffixesBelow
	case n.above&isWildcard != 0 && !isException(name):
		f.Outcome, f.why = Hold, wildcardSuffix
	case n.itself&holdsSuffix != 0 && below:
		f.Outcome, f.why = Hold, suffixBelow
	default:
		return Finding{}
	}
	return f
}

// isException reports whether a name right below a wildcard is excepted from it ("!www.ck").
func isException(name []byte) bool {
	text := blocklist.NameText(name)
	suffix, _ := publicsuffix.PublicSuffix(text)
	return suffix != text
}

func checkEssential(n known, exact, below bool) Finding {
	f := Finding{Outcome: Refuse, Guard: Essential}
	switch {
	case n.realm >= 0:
		f.why, f.at = protected, uint8(n.realm)
	case exact && n.itself&isProtected != 0:
		f.why, f.at = protected, uint8(n.named)
	case exact && n.itself&isOwn != 0:
		f.why = ownName
	case below && n.itself&holdsProtected != 0:
		f.why = protectedBelow
	default:
		return Finding{}
	}
	return f
}

func (g *Guards) checkPopular(n known, below bool) Finding {
	f := Finding{Outcome: Hold, Guard: Popular, a: n.itself.rank(), b: g.bound}
	switch {
	case f.a > 0 && f.a <= g.bound:
		f.why = popular
	case below && n.itself&holdsPopular != 0:
		f.why = popularBelow
	default:
		return Finding{}
	}
	return f
}

// Rank returns the place of a name in the popularity list, from 1. Names whose place is not known precisely share the place of the last of them.
func (g *Guards) Rank(name []byte) (rank int, ok bool) {
	rank = g.names.of(name).rank()
	return rank, rank > 0
}

// SharedHost reports whether a page of a host shows nothing about the host: it is a public suffix; or it, or a name above it up to the registered one, is in
// the popularity list at any rank, or among the shipped shorteners, link pages and file sharers.
func (g *Guards) SharedHost(name []byte) bool {
	if _, ok := checkName(name); !ok {
		return false
	}
	for s := name; labelsAtLeast2(s); s = parent(s) {
		f := g.names.of(s)
		if f&isSuffix != 0 || g.names.of(parent(s))&isWildcard != 0 && !isException(s) {
			return len(s) == len(name)
		}
		if f&isShared != 0 || f.rank() > 0 {
			return true
		}
	}
	return false
}

// addOwn protects the names of this service.
func (g *Guards) addOwn(own []string) error {
	var buf [maxName]byte
	for _, text := range own {
		name, err := blocklist.AppendName(buf[:0], text)
		if err != nil {
			return fmt.Errorf("names of this service: %w", err)
		}
		g.names.add(name, isOwn)
		g.names.addAbove(name, holdsProtected)
	}
	g.stats.Essential += len(slices.Compact(slices.Sorted(slices.Values(own))))
	return nil
}
