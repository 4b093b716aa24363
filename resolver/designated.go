package resolver

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"rempart/internal/wire"
)

// Designated describes the encrypted transports of this resolver, which clients discover by the address that they ask (RFC 9462) or by this resolver's own name
// (RFC 9461).
type Designated struct {
	Name      []byte       // this resolver's own name, canonical: the name by which clients check its certificate
	Endpoints []Endpoint   // in the order in which clients should prefer them
	Covered   []netip.Addr // addresses for which the certificate is valid: only a client that asks one of them can check that it may use the endpoints
}

// Endpoint is one encrypted transport on one port.
type Endpoint struct {
	Transport wire.Transport // wire.TLS, HTTPS or QUIC
	ALPN      []string       // protocol IDs
	Port      uint16
	Path      string       // URI template of DNS over HTTPS; "" for other transports
	Addrs     []netip.Addr // addresses on which it listens; an unspecified one stands for every address of its family
}

// designation holds the answers made of a Designated. It is immutable.
type designation struct {
	name      []byte                         // the own name, canonical
	service   []byte                         // the name _dns.<own name>, canonical
	byAddress map[netip.Addr]*serviceRecords // by the address asked
	byName    *serviceRecords                // for service asked at another address; nil: no record
}

// serviceRecords are the records about the endpoints, packed.
type serviceRecords struct {
	services  []byte // SVCB records of the question's name
	count     int
	addresses []byte // the address record of the own name, for the additional section; nil: none
}

// resolverService is the name _dns.resolver.arpa, canonical.
const resolverService = "\x04_dns\x08resolver\x04arpa\x00"

// designatedTTL is the TTL of the records about this resolver, in seconds: a client asks again after this time whether they have changed.
const designatedTTL = 300

// SetDesignated replaces the encrypted transports that clients discover; nil for none. It keeps no reference to d.
func (r *Resolver) SetDesignated(d *Designated) {
	if d == nil {
		r.designated.Store(nil)
		return
	}
	table := &designation{
		name:      slices.Clone(d.Name),
		service:   append([]byte("\x04_dns"), d.Name...),
		byAddress: map[netip.Addr]*serviceRecords{},
		byName:    d.records(netip.Addr{}),
	}
	for _, asked := range d.Covered {
		if records := d.records(asked.Unmap()); records != nil {
			table.byAddress[asked.Unmap()] = records
		}
	}
	r.designated.Store(table)
}

// records returns the records for clients that ask the address asked, which is not valid if it is unknown. It returns nil if those clients reach no endpoint.
func (d *Designated) records(asked netip.Addr) *serviceRecords {
	all := &serviceRecords{}
	for i := range d.Endpoints {
		hints, reachable := d.Endpoints[i].reachedBy(asked)
		if !reachable {
			continue
		}
		all.count++
		s := d.Endpoints[i].service(uint16(all.count), d.Name, hints)
		all.services = appendRecord(all.services, []byte(wire.OwnerPointer), wire.TypeSVCB, s.Append(nil))
		if slices.Contains(hints, asked) && all.addresses == nil {
			all.addresses = appendRecord(nil, d.Name, addressType(asked), asked.AsSlice())
		}
	}
	if all.count == 0 {
		return nil
	}
	return all
}

// reachedBy reports whether clients that ask the address asked reach the endpoint, and at which addresses, if these are known.
func (e *Endpoint) reachedBy(asked netip.Addr) (at []netip.Addr, reachable bool) {
	wildcard := false
	for _, addr := range e.Addrs {
		switch {
		case addr == asked, addr.IsUnspecified() && asked.IsValid() && addr.Is4() == asked.Is4():
			return []netip.Addr{asked}, true
		case addr.IsUnspecified():
			wildcard = true
		case !addr.IsLoopback(): // other clients do not reach a loopback address
			at = append(at, addr)
		}
	}
	return at, wildcard || len(at) > 0
}

// service returns the SVCB data of the endpoint. The default port is left out (RFC 9461 section 4.2).
func (e *Endpoint) service(priority uint16, name []byte, hints []netip.Addr) wire.Service {
	s := wire.Service{Priority: priority, Target: name}
	s.ALPN, s.Port, s.Hints, s.Path = e.ALPN, e.Port, hints, e.Path
	if e.Port == e.Transport.DefaultPort() {
		s.Port = 0
	}
	return s
}

func addressType(addr netip.Addr) uint16 {
	if addr.Is4() {
		return wire.TypeA
	}
	return wire.TypeAAAA
}

// appendRecord appends a record of class IN to dst.
func appendRecord(dst, owner []byte, typ uint16, data []byte) []byte {
	dst = append(dst, owner...)
	dst = binary.BigEndian.AppendUint16(dst, typ)
	dst = binary.BigEndian.AppendUint16(dst, wire.ClassIN)
	dst = binary.BigEndian.AppendUint32(dst, designatedTTL)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(data)))
	return append(dst, data...)
}

// answerDiscovery answers a query about this resolver itself, and reports whether it did: for its encrypted transports (SVCB) or for information (RESINFO).
// Other types have no such answer.
func (r *Resolver) answerDiscovery(q *wire.Query) bool {
	if q.Type != wire.TypeSVCB && q.Type != wire.TypeRESINFO {
		return false
	}
	d := r.designated.Load()
	switch {
	case d == nil:
		return false
	case q.Type == wire.TypeRESINFO:
		return r.answerInfo(q, d)
	}
	return r.answerServices(q, d)
}

// answerServices answers a query for the encrypted transports. A client that asks by an address gets records only if the certificate is valid for that address,
// because the client checks this (RFC 9462 section 4.2). A client that asks by the own name checks the name only.
func (r *Resolver) answerServices(q *wire.Query, d *designation) bool {
	records := d.byAddress[q.Local]
	switch name := q.Name(); {
	case string(name) == string(d.service):
		if records == nil {
			records = d.byName
		}
	case string(name) != resolverService || r.forwardsResolverArpa(name):
		return false
	}
	if records == nil {
		return false
	}
	q.Begin(wire.Success)
	q.AddPacked(wire.SectionAnswer, records.count, records.services)
	if records.addresses != nil && q.Fits(len(records.addresses)) {
		q.AddPacked(wire.SectionAdditional, 1, records.addresses)
	}
	q.Finish(wire.Success)
	return true
}

// forwardsResolverArpa reports whether the zone of Config.Forward that contains name, at or below resolver.arpa, is not merely the root or
// arpa.
func (r *Resolver) forwardsResolverArpa(name []byte) bool {
	z := r.zone(name)
	return z != nil && wire.Labels(z.Name) > 1
}
