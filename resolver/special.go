package resolver

import (
	"net/netip"
	"strconv"

	"rempart/internal/wire"
	"rempart/resolver/upstream"
)

// specialUse is the treatment of a name that is never forwarded, unless a configured zone contains it.
type specialUse uint8

const (
	ordinary     specialUse = iota
	judgedFirst             // .test and .invalid: the set is asked first, so that test names can be listed
	denied                  // no name below it exists
	empty                   // everything in it has no data
	loopback                // localhost
	probed                  // upstreams are probed with names in it; other processes' probes are forwarded
	canary                  // neither it nor a name below it exists, so that programs do not bypass the filter
	listedCanary            // the same if it is blocked; otherwise forwarded
	inProbeZone             // in the probe zone, whose names have the page's addresses
	grantAsked              // the same, and the name carries the token of a grant
)

// specialUses returns the zones by canonical name, with those of canaries.
func specialUses(canaries Canary) map[string]specialUse {
	zones := map[string]specialUse{}
	add := func(use specialUse, names ...string) {
		for _, text := range names {
			name, err := wire.AppendName(nil, text)
			if err != nil {
				panic(err) // a constant below is misspelt
			}
			zones[string(name)] = use
		}
	}
	add(judgedFirst, "test", "invalid") // RFC 6761 sections 6.2 and 6.4
	add(loopback, "localhost")          // RFC 6761 section 6.3
	add(denied,
		"onion",     // RFC 7686
		"local",     // RFC 6762 section 22.1
		"alt",       // RFC 9476
		"internal",  // reserved for private use by ICANN in 2024
		"home.arpa", // RFC 8375
	)
	add(probed, upstream.ProbeZone)
	add(empty, "resolver.arpa") // RFC 9462 section 6.4; answerDiscovery answers first
	// Locally served reverse zones: RFC 6303 section 4, RFC 7793.
	add(denied,
		"0.in-addr.arpa", "10.in-addr.arpa", "127.in-addr.arpa", "254.169.in-addr.arpa", "168.192.in-addr.arpa",
		"2.0.192.in-addr.arpa", "100.51.198.in-addr.arpa", "113.0.203.in-addr.arpa",
		"255.255.255.255.in-addr.arpa",
		"0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
		"d.f.ip6.arpa", "c.f.ip6.arpa", "8.e.f.ip6.arpa", "9.e.f.ip6.arpa", "a.e.f.ip6.arpa", "b.e.f.ip6.arpa",
		"8.b.d.0.1.0.0.2.ip6.arpa")
	for i := 16; i < 32; i++ {
		add(denied, strconv.Itoa(i)+".172.in-addr.arpa")
	}
	for i := 64; i < 128; i++ {
		add(denied, strconv.Itoa(i)+".100.in-addr.arpa")
	}
	for name, which := range map[string]Canary{firefoxCanary: FirefoxCanary, maskICloud: ICloudCanary, maskH2ICloud: ICloudCanary} {
		zones[name] = listedCanary
		if canaries&which != 0 {
			zones[name] = canary
		}
	}
	return zones
}

// specialUse returns the special-use zone of the question's name, and the byte of the name at which the zone begins, unless a configured zone is equal to it or
// below it. The probe zone is in use in any case.
func (r *Resolver) specialUse(q *wire.Query) (use specialUse, zoneAt int) {
	name := q.Name()
	if at := len(name) - r.probe.tail; uint(at) < uint(len(name)) && name[at] == r.probe.letter {
		if use, zoneAt, ok := r.probeUse(q); ok {
			return use, zoneAt
		}
	}
	last := lastLabel(name)
	switch string(name[last:]) {
	case "\x04arpa\x00", "\x04test\x00", "\x07invalid\x00", "\x09localhost\x00", "\x05onion\x00", "\x05local\x00",
		"\x03alt\x00", "\x08internal\x00", "\x07example\x00":
	case "\x03net\x00":
		if !endsIn(name, firefoxCanary) {
			return ordinary, 0
		}
	case "\x03com\x00":
		if !endsIn(name, "\x06icloud\x03com\x00") {
			return ordinary, 0
		}
	default:
		if last == 0 && r.keepSingle {
			return r.singleLabel(q)
		}
		return ordinary, 0
	}
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		use, ok := r.special[string(name[at:])]
		if !ok {
			continue
		}
		if z := r.zone(name); z != nil && len(z.Name) >= len(name)-at {
			return ordinary, 0
		}
		if at == 0 && q.Type == wire.TypeDS && (use == canary || endsIn(name, "\x04arpa\x00")) {
			return ordinary, 0 // its parent proves that it is not signed (RFC 6303 section 4, RFC 8375 section 4)
		}
		return use, at
	}
	if last == 0 && r.keepSingle {
		return r.singleLabel(q)
	}
	return ordinary, 0
}

// endsIn reports whether name ends in suffix, possibly within a label.
func endsIn(name []byte, suffix string) bool {
	return len(name) >= len(suffix) && string(name[len(name)-len(suffix):]) == suffix
}

// lastLabel returns where the last label before the root begins; 0 for the root.
func lastLabel(name []byte) int {
	last := 0
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		last = at
	}
	return last
}

const (
	specialTTL   = 10800 // RFC 6303 section 3
	loopbackTTL  = 10800
	anyTTL       = 3600
	chaosVersion = "\x07Rempart"
)

// answerSpecial answers a query for a name in a special-use zone that begins at byte zoneAt of the name.
func (r *Resolver) answerSpecial(q *wire.Query, use specialUse, zoneAt int) {
	switch {
	case use == inProbeZone:
		r.answerProbe(q, zoneAt)
		return
	case use == loopback && q.Type == wire.TypeA:
		q.Begin(wire.Success)
		q.AddAddress(loopbackTTL, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	case use == loopback && q.Type == wire.TypeAAAA:
		q.Begin(wire.Success)
		q.AddAddress(loopbackTTL, netip.IPv6Loopback())
	case use == loopback, use == empty, zoneAt == 0 && use != canary, // the apex exists
		r.probe.tail > 0 && wire.InZone(r.probe.name, q.Name()): // and so does a name above the probe zone
		q.Begin(wire.Success)
		q.AddSOA(specialTTL, zoneAt)
	default:
		q.Begin(wire.NXDomain)
		q.AddSOA(specialTTL, zoneAt)
		q.Finish(wire.NXDomain)
		return
	}
	q.Finish(wire.Success)
}

// otherClass answers queries that are not of class IN. CHAOS names this program and the instance only; nothing is forwarded.
func (r *Resolver) otherClass(q *wire.Query) {
	if q.Class == wire.ClassCH && q.Type == wire.TypeTXT {
		switch name := q.Name(); {
		case string(name) == "\x07version\x04bind\x00", string(name) == "\x07version\x06server\x00":
			q.Begin(wire.Success)
			q.AddData(wire.SectionAnswer, wire.TypeTXT, 0, []byte(chaosVersion))
			q.Finish(wire.Success)
			return
		case string(name) == string(r.instance):
			q.Begin(wire.Success)
			q.AddData(wire.SectionAnswer, wire.TypeTXT, 0, r.identity)
			q.Finish(wire.Success)
			return
		}
	}
	q.Fail(wire.Refused)
}

// metaType answers queries for types that ask for no data of a name (RFC 6895 section 3.1). It returns false for other types.
func (r *Resolver) metaType(q *wire.Query) bool {
	switch q.Type {
	case 0, wire.TypeOPT, wire.TypeNXNAME: // RFC 9824 section 3.4: a query must not ask for NXNAME
		q.Fail(wire.FormErr)
	case wire.TypeAXFR, wire.TypeIXFR:
		q.Fail(wire.Refused) // no zone is transferred from here
	case wire.TypeTKEY, wire.TypeTSIG, wire.TypeMAILA, wire.TypeMAILB:
		q.Fail(wire.NotImp)
	default:
		return false
	}
	return true
}

// answerANY gives the small answer of RFC 8482 section 4.2, without asking upstream.
func (r *Resolver) answerANY(q *wire.Query) {
	q.Begin(wire.Success)
	q.AddData(wire.SectionAnswer, wire.TypeHINFO, anyTTL, []byte("\x07RFC8482\x00"))
	q.Finish(wire.Success)
}
