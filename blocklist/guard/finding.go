package guard

import (
	"fmt"

	"rempart/blocklist"
)

// Outcome is the decision of a guard.
type Outcome uint8

const (
	Pass   Outcome = iota
	Refuse         // the listing never takes effect
	Hold           // the listing takes no effect until a person releases it
)

// Guard is the check that decided.
type Guard uint8

const (
	None         Guard = iota // no guard objects
	Name                      // it is no name that can be listed
	Address                   // the prefix is too wide, not public, or this service's own
	PublicSuffix              // the names below it belong to people who have nothing to do with each other
	Essential                 // names that must always be reachable, and this service itself
	Popular                   // names that very many people use
	Mass                      // a feed shrank or grew out of proportion
	GuardCount                // number of guards, None included
)

// Finding is the guards' decision about one listing or one change; the zero value means that no guard objects. It holds numbers only, so that it costs nothing
// until Explain is called.
type Finding struct {
	Outcome Outcome
	Guard   Guard
	why     reason
	at      uint8 // where the ancestor of the name that decided begins, in bytes of the name
	a, b    int   // rank and bound; counts before and after
}

// reason is the reason of a finding.
type reason uint8

const (
	malformed reason = iota
	badOctet
	noScope
	root
	singleLabel
	numeric
	localhost
	tooWide
	notPublic
	ownAddress
	suffix
	suffixBelow
	suffixesBelow
	wildcardSuffix
	protected
	protectedBelow
	ownName
	popular
	popularBelow
	shrank
	grew
	becameOther
	emptied
)

var reasonTexts = [...]string{
	malformed:      "it is not a domain name within the lengths of RFC 1035",
	badOctet:       "it contains a byte that no host name has, or a capital letter",
	noScope:        "its scope reaches nothing",
	root:           "it is the root: everything is below it",
	singleLabel:    "it is a top-level domain",
	numeric:        "its last label is a number: it is an address, or nothing",
	localhost:      "it is localhost, or below it",
	tooWide:        "the prefix is no address prefix of /24 to /32 (IPv4) or /48 to /128 (IPv6)",
	notPublic:      "it holds addresses that are not public",
	ownAddress:     "it holds an address of this service",
	suffix:         "it is a public suffix: names below it belong to people who have nothing to do with each other",
	suffixBelow:    "a public suffix is below it: a person should look",
	suffixesBelow:  "every name right below it is a public suffix",
	wildcardSuffix: "it is a public suffix by a wildcard only: it may be one person's, a person should look",
	protected:      "%s is essential",
	protectedBelow: "an essential name is below it",
	ownName:        "this service is called that, or uses it",
	popular:        "it is among the first %d in popularity, and the bound is %d: a person should look",
	popularBelow:   "a name among the first %[2]d in popularity is below it: a person should look",
	shrank:         "it shrank from %d to %d listings",
	grew:           "it grew from %d to %d listings",
	becameOther:    "nothing it listed is left, and of its lines %d are not understood: it became something else than a list",
	emptied:        "it lists nothing any more, after %d listings",
}

// Explain returns the reason for people, as a sentence about name, the checked name; nil if no name was checked.
func (f Finding) Explain(name []byte) string {
	if f.Outcome == Pass {
		return "nothing speaks against it"
	}
	text := reasonTexts[f.why]
	switch f.why {
	case protected:
		if int(f.at) >= len(name) {
			return fmt.Sprintf(text, "it")
		}
		return fmt.Sprintf(text, blocklist.NameText(name[f.at:]))
	case popular, popularBelow, shrank, grew:
		return fmt.Sprintf(text, f.a, f.b)
	case becameOther, emptied:
		return fmt.Sprintf(text, f.a)
	}
	return text
}

func (o Outcome) String() string {
	switch o {
	case Pass:
		return "pass"
	case Refuse:
		return "refuse"
	case Hold:
		return "hold"
	}
	return "unknown"
}

// String returns the guard's name, in the form of a metric label.
func (g Guard) String() string {
	if g >= GuardCount {
		return "unknown"
	}
	return [GuardCount]string{"none", "name", "address", "public-suffix", "essential", "popular", "mass-change"}[g]
}
