package blocklist

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"rempart/internal/wire"
)

// Scope is the set of names that a listing reaches: the name itself, the names below it, or both.
type Scope uint8

const (
	Exact   Scope           = 1 << iota // the name itself
	Below                               // every name below it, not the name itself (RPZ "*.name")
	Subtree = Exact | Below             // the name and every name below it
)

// Category is the kind of threat of a listing. Its number is stored in snapshots and in policies: never renumber one.
type Category uint8

const (
	Malicious   Category = iota // unspecified: the list names no category
	Malware                     // spreads or controls malicious software
	Phishing                    // impersonates somebody to obtain credentials or money
	Scam                        // deceives to take money: false shops, investments, support
	Botnet                      // controls machines that were taken over (command and control)
	Stalkerware                 // monitors a person without their consent
	categoryCount
)

// Categories is a set of categories, bit c for Category c: what a policy enforces.
type Categories uint32

// AllCategories contains every category, future ones included.
const AllCategories Categories = ^Categories(0)

// Decision is the effect of a listing.
type Decision uint8

const (
	Block  Decision = iota // answer with the warning page
	Except                 // the source's own exception: cancels that source's blocks of the names that it reaches
	Allow                  // the operator's allow: it wins over every block, at any length
	gone                   // in an overlay: there is no claim about the name any more
	decisionCount
)

// Mark is the legal ground of a block, as the info code of an extended DNS error (RFC 8914 section 4).
type Mark uint8

const (
	Blocked  Mark = iota // 15: the operator's own decision, and feeds
	Censored             // 16: an external order
	Filtered             // 17: the subscriber's request
)

// Listing is one source's claim about one name or, from RPZ response-IP only, one address prefix.
type Listing struct {
	Name     []byte       // canonical wire format; borrowed for the call only
	Prefix   netip.Prefix // valid instead of Name for a prefix of addresses that answers must not contain; Scope is ignored then
	Scope    Scope
	Category Category
	Decision Decision
	Mark     Mark
	Since    int64  // Unix seconds at which the source first listed it, stored as a day; 0: unknown
	Start    int64  // Unix seconds from which it applies; 0: always
	Expiry   int64  // Unix seconds from which it no longer applies; 0: never
	ID       string // of the decision behind it, if there is one
}

// Source names where listings come from.
type Source struct {
	Name    string    // as the operator wrote it: a path, a URL, "built in"
	Fetched time.Time // when its content was last known to be the published one
	Weight  int       // weight towards the quorum of other sources; 0 is 1
	Quorum  int       // weight that all sources of a name need together for this source's listing to apply; 0 is 1
}

// AppendName appends the canonical wire format of an ASCII name in text form to dst. It is for packages that may not import wire. See wire.AppendName.
func AppendName(dst []byte, text string) ([]byte, error) { return wire.AppendName(dst, text) }

// NameText returns the text form of a canonical wire name, without the trailing dot. See wire.Text.
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

// ParseCategory returns the category with that name, as String writes it.
func ParseCategory(text string) (Category, bool) {
	i := slices.Index(categoryNames[:], text)
	return Category(max(i, 0)), i >= 0
}

// ParseCategories returns the set of the categories with these names. If a text is the name of no category, unknown is that text.
func ParseCategories(texts []string) (set Categories, unknown string) {
	for _, text := range texts {
		c, ok := ParseCategory(text)
		if !ok {
			return 0, text
		}
		set |= 1 << c
	}
	return set, ""
}

// CategoryNames returns the names of all categories. The caller may change the slice.
func CategoryNames() []string { return slices.Clone(categoryNames[:]) }

// MatchesDecision reports whether pattern stands for the decision with that ID: it is the ID, or the beginning of the ID with "*" at its end. No pattern stands for "".
func MatchesDecision(pattern, id string) bool {
	prefix, isPrefix := strings.CutSuffix(pattern, "*")
	return id != "" && (pattern == id || isPrefix && strings.HasPrefix(id, prefix))
}

// ParseScope returns the scope with that name, as String writes it.
func ParseScope(text string) (Scope, bool) {
	for _, s := range []Scope{Exact, Below, Subtree} {
		if s.String() == text {
			return s, true
		}
	}
	return 0, false
}
