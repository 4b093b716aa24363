package resolver

import (
	"net/netip"

	"rempart/internal/wire"
	"rempart/resolver/cache"
)

// rebinding refuses public names whose answers hold addresses of the local network: a page on such a name could reach
// machines of that network from its visitor's browser (DNS rebinding).
type rebinding struct {
	refused bool
	allowed [][]byte // canonical names that may have such addresses, with all below them
	texts   reasonTexts
}

const rebindingReason = "a public name with an address of the local network (DNS rebinding)"

func newRebinding(c Config) (rebinding, error) {
	full, short, err := structuredError{Justification: "Ce nom public mène à une adresse du réseau local."}.texts(c.Contact, c.Organisation)
	return rebinding{c.RefuseRebinding, c.RebindingAllow, reasonTexts{plain: rebindingReason, full: full, short: short}}, err
}

// rebinds reports whether the answer e must be refused because of an address in it.
func (r *Resolver) rebinds(e *cache.Answer) bool {
	found := false
	e.EachAddress(func(addr netip.Addr) bool {
		found = r.embeddings.isLocal(addr)
		return !found
	})
	name := e.Name()
	if !found || !isPublic(name) || r.zone(name) != nil {
		return false
	}
	for _, zone := range r.rebinding.allowed {
		if wire.InZone(name, zone) {
			return false
		}
	}
	return true
}

// isPublic reports whether name can be registered on the Internet. Names of one label, and names of private networks
// (RFC 6762 appendix G), which routers answer, cannot.
func isPublic(name []byte) bool {
	last := lastLabel(name)
	switch string(name[last:]) {
	case "\x08intranet\x00", "\x08internal\x00", "\x07private\x00", "\x04corp\x00", "\x04home\x00", "\x03lan\x00":
		return false
	}
	return last > 0 || name[0] == 0 || topLevel(name)
}

// refuseRebinding answers q as if its name had no data. The extended error is Filtered, because the people who set up this
// protection use it themselves; Blocked is for an operator's decision, and Censored for the law.
func (r *Resolver) refuseRebinding(q *wire.Query) {
	r.slow.rebinding.Add(1)
	q.Begin(wire.Success)
	q.AddSOA(r.blocked.ttl, 0)
	text := r.rebinding.texts.plain
	if q.Structured {
		if text = r.rebinding.texts.full; len(text) > q.Room() {
			text = r.rebinding.texts.short
		}
	}
	q.Finish(wire.Success, wire.EDE{Code: wire.EDEFiltered, Text: text})
}
