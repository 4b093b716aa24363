package dnstest

import (
	"crypto"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// SignedZone is a zone that is signed with one key while it is served. ServeZones makes a Handler of it.
type SignedZone struct {
	Name string
	Key  *dns.DNSKEY

	private crypto.Signer
	records []dns.RR
	faults  map[string]SignatureFault
}

// SignatureFault is a way in which the signatures of a name are invalid.
type SignatureFault int

// The faults of signatures.
const (
	Forged  SignatureFault = iota + 1 // made with another key
	Expired                           // two days ago: validators tolerate clocks that differ by a day
)

// NewSignedZone returns a zone with an SOA, an NS, and records in zone-file format.
func NewSignedZone(t testing.TB, name string, records ...string) *SignedZone {
	t.Helper()
	z := &SignedZone{Name: name, faults: map[string]SignatureFault{}, Key: &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: name, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 300},
		Flags: dns.ZONE | dns.SEP, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}}
	private, err := z.Key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	z.private = private.(crypto.Signer)
	z.records = []dns.RR{z.Key}
	for _, text := range append([]string{name + " 300 IN SOA ns.invalid. nobody.invalid. 1 3600 1200 604800 300", name + " 300 IN NS ns.invalid."}, records...) {
		z.Add(t, text)
	}
	return z
}

// Add adds a record in zone-file format.
func (z *SignedZone) Add(t testing.TB, record string) {
	t.Helper()
	rr, err := dns.NewRR(record)
	if err != nil {
		t.Fatal(err)
	}
	z.records = append(z.records, rr)
}

// Delegate adds the DS record of child, which makes child secure.
func (z *SignedZone) Delegate(child *SignedZone) {
	z.records = append(z.records, child.Key.ToDS(dns.SHA256), child.records[2])
}

// Spoil makes the signatures of all records of a name invalid.
func (z *SignedZone) Spoil(name string, how SignatureFault) { z.faults[name] = how }

// ServeZones returns a Handler that answers as the name servers of zones do. A zone is a parent of another one if it has the DS record of the other. Names in no zone,
// and names that a zone delegates without a DS, are answered by other.
func ServeZones(other Handler, zones ...*SignedZone) Handler {
	return func(q *Query) {
		question := q.Msg.Question[0]
		name := dns.CanonicalName(question.Name)
		var zone *SignedZone
		for _, z := range zones {
			if z.contains(name, question.Qtype) && (zone == nil || dns.IsSubDomain(zone.Name, z.Name)) {
				zone = z
			}
		}
		if zone == nil || zone.delegates(name, question.Qtype) {
			other(q)
			return
		}
		zone.answer(q, name)
	}
}

// contains reports whether the zone answers for a name. The DS records of a zone are in its parent.
func (z *SignedZone) contains(name string, typ uint16) bool {
	return dns.IsSubDomain(z.Name, name) && !(typ == dns.TypeDS && name == z.Name && name != ".")
}

// delegates reports whether the zone has an NS record for a name below itself that contains name.
func (z *SignedZone) delegates(name string, typ uint16) bool {
	for _, rr := range z.records {
		cut := rr.Header().Name
		if rr.Header().Rrtype == dns.TypeNS && cut != z.Name && dns.IsSubDomain(cut, name) && !(typ == dns.TypeDS && cut == name) {
			return true
		}
	}
	return false
}

// answer answers a query for a name of the zone. If there is no record, it answers with an NSEC record made for the name (RFC 9824).
func (z *SignedZone) answer(q *Query, name string) {
	m := q.Reply(dns.RcodeSuccess)
	m.Authoritative, m.CheckingDisabled = true, q.Msg.CheckingDisabled
	present := map[uint16]bool{dns.TypeRRSIG: true, dns.TypeNSEC: true}
	for _, rr := range z.records {
		if rr.Header().Name != name {
			continue
		}
		present[rr.Header().Rrtype] = true
		if rr.Header().Rrtype == q.Msg.Question[0].Qtype {
			m.Answer = append(m.Answer, rr)
		}
	}
	if len(m.Answer) > 0 {
		m.Answer = z.signed(m.Answer)
		q.Send(m)
		return
	}
	nsec := &dns.NSEC{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: 300}, NextDomain: "\\000." + name}
	if name == "." {
		nsec.NextDomain = "\\000."
	}
	for typ := uint16(1); typ < 256; typ++ { // the types in an NSEC record must be in ascending order
		if present[typ] {
			nsec.TypeBitMap = append(nsec.TypeBitMap, typ)
		}
	}
	m.Ns = append(z.signed([]dns.RR{z.records[1]}), z.signed([]dns.RR{nsec})...)
	q.Send(m)
}

// signed returns a set of records and its signature.
func (z *SignedZone) signed(set []dns.RR) []dns.RR {
	now, fault := time.Now(), z.faults[set[0].Header().Name]
	sig := &dns.RRSIG{
		Algorithm: z.Key.Algorithm, KeyTag: z.Key.KeyTag(), SignerName: z.Name,
		Inception: uint32(now.Add(-96 * time.Hour).Unix()), Expiration: uint32(now.Add(24 * time.Hour).Unix()),
	}
	if fault == Expired {
		sig.Expiration = uint32(now.Add(-48 * time.Hour).Unix())
	}
	private := z.private
	if fault == Forged {
		private = mustKey(z.Key)
	}
	if err := sig.Sign(private, set); err != nil {
		panic(err) // the test itself made the invalid record
	}
	return append(set[:len(set):len(set)], sig)
}

// mustKey returns a new private key of the kind of key.
func mustKey(key *dns.DNSKEY) crypto.Signer {
	other := *key
	private, err := other.Generate(256)
	if err != nil {
		panic(err) // no randomness
	}
	return private.(crypto.Signer)
}
