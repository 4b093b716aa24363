package resolver

import (
	"bytes"
	"net/netip"

	"rempart/internal/grant"
	"rempart/internal/probe"
	"rempart/internal/wire"
)

// probeZone is the zone of REMPART_PROBE. Its apex and all names below it have the addresses of the warning page, so that browsers connect to the page's server;
// answerProbe describes the exceptions.
type probeZone struct {
	tail       int    // length of name without its first byte; 0 if there is no zone
	letter     byte   // with which the tail begins: comparing it first excludes nearly all names that are not in the zone
	name       []byte // canonical
	grants     grant.Zone
	ipv4, ipv6 netip.Addr // of the page
	hasParent  bool       // its parent zone is public, and proves that the zone is not signed
}

// probeTTL is the TTL in the zone, in seconds: an answer depends on the address of the client, and a token is used once.
const probeTTL = 0

func newProbeZone(c Config, special map[string]specialUse) probeZone {
	if len(c.Probe) <= 1 {
		return probeZone{}
	}
	z := probeZone{len(c.Probe) - 1, c.Probe[1], bytes.Clone(c.Probe), grant.NewZone(c.Probe), c.PageIPv4, c.PageIPv6, true}
	for at := 0; z.name[at] != 0; at += 1 + int(z.name[at]) {
		if _, ok := special[string(z.name[at:])]; ok {
			z.hasParent = false
		}
	}
	return z
}

// probeUse returns the use of a name at or below the probe zone, and the byte at which the zone begins. ok is false for other names.
func (r *Resolver) probeUse(q *wire.Query) (use specialUse, zoneAt int, ok bool) {
	name := q.Name()
	at := len(name) - len(r.probe.name)
	if !wire.InZone(name, r.probe.name) {
		return ordinary, 0, false
	}
	switch {
	case at == 0 && q.Type == wire.TypeDS && r.probe.hasParent:
		return ordinary, 0, true
	case r.grants != nil && (q.Type == wire.TypeA || q.Type == wire.TypeAAAA || q.Type == wire.TypeHTTPS):
		if kind, _, _ := r.probe.grants.Split(name); kind == grant.Go {
			return grantAsked, at, true
		}
	}
	return inProbeZone, at, true
}

// answerProbe answers a query for a name in the probe zone. The name has one address of the page, of the family of the client's address, so that the page's
// server sees the same client address as this resolver. If the page has no address of that family, the name has the address of the other family. The name of a
// check has no address if the check does not apply to the client.
func (r *Resolver) answerProbe(q *wire.Query, zoneAt int) {
	addr := r.probe.ipv6
	if q.Client.Is4() && r.probe.ipv4.IsValid() || !addr.IsValid() {
		addr = r.probe.ipv4
	}
	if c, ok := probe.Of(q.Name(), r.probe.name); ok && !c.Applies(q) {
		addr = netip.Addr{}
	}
	q.Begin(wire.Success)
	if addr.IsValid() && q.Type == addressType(addr) {
		q.AddAddress(probeTTL, addr)
	} else {
		q.AddSOA(probeTTL, zoneAt)
	}
	q.Finish(wire.Success)
}
