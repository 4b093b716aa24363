package format

import (
	"bytes"
	"net/netip"

	"rempart/blocklist"
)

// A response policy zone (draft-vixie-dnsop-dns-rpz) in presentation form. Owners are
// triggers relative to the zone's apex, which is known from $ORIGIN or from the owner of the
// SOA; of a zone that names neither, owners are used as written.

// maxSOALines is the number of lines that a parenthesis of an SOA may span.
const maxSOALines = 16

// zone is the state that earlier lines set for later ones. Texts are without the trailing dot.
type zone struct {
	origin []byte // nil while unknown
	apex   []byte // nil while unknown
	owner  []byte // as written, of the record before
	inSOA  int    // lines an open parenthesis may still span
}

func (z *zone) continueSOA(line []byte) {
	z.inSOA--
	if bytes.IndexByte(line, ')') >= 0 {
		z.inSOA = 0
	}
}

// directive reads a line that begins with "$".
func (p *parser) directive(line []byte) {
	word, rest := cutField(line)
	switch {
	case equalFold(word, "$ttl"):
	case equalFold(word, "$origin") && len(rest) > 0:
		origin, _ := cutField(rest)
		p.zone.origin = p.zone.absolute(origin)
		if p.zone.apex == nil && len(p.zone.origin) > 0 {
			p.zone.apex = p.zone.origin
		}
	default:
		p.refuse(Modifier)
	}
}

// absolute is a copy of name, completed with the origin if it is relative.
func (z *zone) absolute(name []byte) []byte {
	if string(name) == "@" {
		return z.origin
	}
	name, whole := bytes.CutSuffix(name, []byte("."))
	name = bytes.Clone(name)
	if !whole && len(z.origin) > 0 {
		name = append(append(name, '.'), z.origin...)
	}
	return name
}

// trigger returns an owner relative to the apex, or as written while no apex is known. It returns false if the owner is outside the zone, or
// the apex itself.
func (z *zone) trigger(owner []byte) ([]byte, bool) {
	if string(owner) == "@" {
		return nil, false
	}
	if owner[len(owner)-1] != '.' && (z.apex == nil || bytes.Equal(z.origin, z.apex)) {
		return owner, true
	}
	name := z.absolute(owner)
	if z.apex == nil {
		return name, len(name) > 0
	}
	cut := len(name) - len(z.apex) - 1
	if cut <= 0 || name[cut] != '.' || !bytes.EqualFold(name[cut+1:], z.apex) {
		return nil, false
	}
	return name[:cut], true
}

// record reads "owner [TTL] [class] type data", or the same with the owner of the record before if
// the line is indented. It reports false if the line is no record of a type that occurs in
// policy zones.
func (p *parser) record(indented bool, line []byte) bool {
	owner, rest := p.zone.owner, line
	if !indented {
		owner, rest = cutField(line)
	}
	kind, data := cutField(rest)
	for range 2 { // TTL and class, in either order
		if isTTL(kind) || equalFold(kind, "in") {
			kind, data = cutField(data)
		}
	}
	if len(data) == 0 {
		return false
	}
	target, _ := cutField(data)
	switch {
	case equalFold(kind, "soa"):
		p.soa(owner, data)
	case equalFold(kind, "ns"), equalFold(kind, "txt"), equalFold(kind, "rrsig"), equalFold(kind, "dnskey"),
		equalFold(kind, "nsec"), equalFold(kind, "nsec3"), equalFold(kind, "nsec3param"):
		// the zone's own
	case equalFold(kind, "cname"):
		p.policy(owner, target)
	case equalFold(kind, "a"), equalFold(kind, "aaaa"):
		if _, err := netip.ParseAddr(string(target)); err != nil {
			return false
		}
		if isSink(target) {
			target = []byte(".")
		}
		p.policy(owner, target) // local data that is no sink is a redirect
	default:
		return false
	}
	if !indented {
		p.zone.owner = append(p.zone.owner[:0], owner...)
	}
	return true
}

func isTTL(w []byte) bool {
	if len(w) == 0 || w[0] < '0' || w[0] > '9' {
		return false
	}
	for _, c := range w {
		if (c < '0' || c > '9') && bytes.IndexByte([]byte("smhdwSMHDW"), c) < 0 {
			return false
		}
	}
	return true
}

func (p *parser) soa(owner, data []byte) {
	z := &p.zone
	if len(owner) > 0 {
		if apex := z.absolute(owner); len(apex) > 0 {
			z.apex = apex
			if z.origin == nil {
				z.origin = apex
			}
		}
	}
	if bytes.IndexByte(data, '(') >= 0 && bytes.IndexByte(data, ')') < 0 {
		z.inSOA = maxSOALines
	}
}

// policy reads an action on the name that owner triggers on.
func (p *parser) policy(owner, target []byte) {
	if len(owner) == 0 {
		p.refuse(UnknownForm)
		return
	}
	name, ok := p.zone.trigger(owner)
	if !ok {
		p.refuse(NotAName)
		return
	}
	if before, kind, ok := addressTrigger(name); ok {
		p.addressPolicy(before, kind, target)
		return
	}
	owned := name
	scope := blocklist.Exact
	if below, ok := bytes.CutPrefix(name, []byte("*.")); ok {
		name, scope = below, blocklist.Below
	}
	switch {
	case isBlockAction(target):
		p.add(name, scope, blocklist.Block)
	case isPassAction(target), bytes.EqualFold(bytes.TrimSuffix(target, []byte(".")), owned):
		p.add(name, scope, blocklist.Except) // a CNAME to the name itself is how passthru was first written
	case equalFold(target, "rpz-tcp-only."):
		p.exceptAnswered(name, scope)
	default: // another name or an address to answer with
		p.redirect(name, scope)
	}
}
