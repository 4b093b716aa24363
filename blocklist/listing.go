package blocklist

import (
	"net/netip"
	"slices"
	"time"

	"rempart/internal/wire"
)

// Scope says which names a listing reaches: the name itself, the names below it, or both.
type Scope uint8

const (
	Exact   Scope           = 1 << iota // the name itself
	Below                               // every name below it, not itself (RPZ "*.name")
	Subtree = Exact | Below             // the name and every name below it
)

// Category is the kind of threat a listing claims. Its number stands in snapshots and in
// policies: never renumber one.
type Category uint8

const (
	Malicious   Category = iota // unspecified: a list that does not say
	Malware                     // spreads or steers malicious software
	Phishing                    // passes itself off as another to take credentials or money
	Scam                        // deceives to take money: false shops, investments, support
	Botnet                      // steers machines that were taken over (command and control)
	Stalkerware                 // watches over somebody without their consent
	categoryCount
)

// Categories is a set of categories, bit c for Category c: what a policy enforces.
type Categories uint32

// AllCategories holds every category, later ones included.
const AllCategories Categories = ^Categories(0)

// Decision is what a listing asks for.
type Decision uint8

const (
	Block  Decision = iota // answer with the page
	Except                 // the source's own exception: cancels that source's blocks of the names it reaches
	Allow                  // the operator's: wins over every block, at any length
	gone                   // of an overlay: nothing is claimed of the name any more
	decisionCount
)

// Mark is the legal ground of a block, as the info code of an extended DNS error
// (RFC 8914 section 4): who decided.
type Mark uint8

const (
	Blocked  Mark = iota // 15: the operator's own decision, and feeds
	Censored             // 16: an order from outside
	Filtered             // 17: the subscriber's wish
)

// Listing is one source's claim about one name or, from RPZ response-IP only, one address prefix.
type Listing struct {
	Name     []byte       // canonical wire form; borrowed for the call only
	Prefix   netip.Prefix // valid instead of Name for a prefix of addresses that answers must not hold; Scope does not count then
	Scope    Scope
	Category Category
	Decision Decision
	Mark     Mark
	Since    int64  // Unix seconds at which the source first listed it, kept to the day; 0 is unknown
	Start    int64  // Unix seconds from which it is in force; 0 is always
	Expiry   int64  // Unix seconds from which it no longer is; 0 is never
	ID       string // of the decision behind it, where there is one
}

// Source names where listings come from.
type Source struct {
	Name    string    // as the operator wrote it: a path, a URL, "built in"
	Fetched time.Time // when its content was last known to be what the publisher publishes
	Weight  int       // how much its word counts where others want more than one's own; 0 is 1
	Quorum  int       // how much the sources that list a name must weigh together for its word to count; 0 is 1
}

// AppendName appends the canonical wire form of an ASCII name in text form to dst; rooms that
// may not import wire read names through it. See wire.AppendName.
func AppendName(dst []byte, text string) ([]byte, error) { return wire.AppendName(dst, text) }

// NameText is the text form of a canonical wire name, without the trailing dot. See wire.Text.
func NameText(name []byte) string { return wire.Text(name) }

func (s Scope) String() string {
	return [...]string{"none", "exact", "below", "subtree"}[s&Subtree]
}

func (d Decision) String() string {
	return [...]string{"block", "except", "allow", "gone"}[min(d, gone)]
}

func (c Category) String() string {
	if c >= categoryCount {
		return "unknown"
	}
	return categoryNames[c]
}

var categoryNames = [categoryCount]string{"malicious", "malware", "phishing", "scam", "botnet", "stalkerware"}

// ParseCategory is the category of that name, as String writes it.
func ParseCategory(text string) (Category, bool) {
	i := slices.Index(categoryNames[:], text)
	return Category(max(i, 0)), i >= 0
}

// ParseScope is the scope of that name, as String writes it.
func ParseScope(text string) (Scope, bool) {
	for _, s := range []Scope{Exact, Below, Subtree} {
		if s.String() == text {
			return s, true
		}
	}
	return 0, false
}
