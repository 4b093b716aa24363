package resolver

import (
	"golang.org/x/net/publicsuffix"

	"rempart/internal/wire"
)

// Canary is a set of canary names that do not exist here. Programs ask for such a name to learn whether the network wants its resolver used: if it does not
// exist, they do not bypass the filter. A canary name that a list blocks is never answered with the page's address, with any setting: that would say the
// opposite.
type Canary uint8

const (
	// FirefoxCanary is use-application-dns.net: Firefox then keeps its own DNS over HTTPS off, unless the user turned it on.
	FirefoxCanary Canary = 1 << iota
	// ICloudCanary is mask.icloud.com and mask-h2.icloud.com: Apple devices then turn iCloud Private Relay off and say so.
	ICloudCanary
)

// The canary names, canonical.
const (
	firefoxCanary = "\x13use-application-dns\x03net\x00"
	maskICloud    = "\x04mask\x06icloud\x03com\x00"
	maskH2ICloud  = "\x07mask-h2\x06icloud\x03com\x00"
)

// isCanary reports whether name is a canary name, configured or not.
func isCanary(name []byte) bool {
	switch string(name) {
	case firefoxCanary, maskICloud, maskH2ICloud:
		return true
	}
	return false
}

// singleLabel returns the special use of a name of one label, or none. Such a name of the local network is answered here,
// unless it is a top-level domain or in a configured zone. Types that belong to a zone as a whole are always forwarded:
// a validator needs them for top-level domains that are newer than this program's list.
func (r *Resolver) singleLabel(q *wire.Query) (use specialUse, zoneAt int) {
	name := q.Name()
	switch q.Type {
	case wire.TypeNS, wire.TypeSOA, wire.TypeDS, wire.TypeDNSKEY:
		return ordinary, 0
	}
	if name[0] == 0 || topLevel(name) || r.zone(name) != nil {
		return ordinary, 0
	}
	return denied, len(name) - 1
}

// topLevel reports whether a canonical name of one label is a top-level domain.
func topLevel(name []byte) bool {
	const longest = 30 // bytes of a label; the longest top-level domain has 24
	label := name[1 : len(name)-1]
	if len(label) > longest {
		return false
	}
	_, icann := publicsuffix.PublicSuffix("x." + string(label)) // some have only rules for names below them
	return icann
}
