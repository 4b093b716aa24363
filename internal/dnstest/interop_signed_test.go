package dnstest

import (
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// signedZone is a zone that is signed with one key. It answers queries.
type signedZone struct {
	key     *dns.DNSKEY
	private crypto.Signer
	records []dns.RR
}

const zoneName = "signed.example."

func newSignedZone(t *testing.T) *signedZone {
	t.Helper()
	z := &signedZone{key: &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: zoneName, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 300},
		Flags: dns.ZONE | dns.SEP, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}}
	private, err := z.key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	z.private = private.(crypto.Signer)
	z.records = []dns.RR{z.key}
	for _, text := range []string{
		zoneName + " 300 IN SOA ns.signed.example. nobody.invalid. 1 3600 1200 604800 300",
		zoneName + " 300 IN NS ns.signed.example.",
		"ns.signed.example. 300 IN A 192.0.2.53",
		"www.signed.example. 300 IN A " + originAddr,
		"bad.signed.example. 300 IN A " + originAddr,
		"bad.signed.example. 300 IN TXT \"signed\"",
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		z.records = append(z.records, rr)
	}
	return z
}

// answer is a Handler. For a name that does not exist, it answers with an NSEC record made for this name (RFC 9824).
func (z *signedZone) answer(q *Query) {
	question := q.Msg.Question[0]
	if !dns.IsSubDomain(zoneName, question.Name) {
		Answer("@ 300 IN A " + originAddr)(q)
		return
	}
	m := q.Reply(dns.RcodeSuccess)
	m.CheckingDisabled = q.Msg.CheckingDisabled
	name := dns.CanonicalName(question.Name)
	types := []uint16{dns.TypeRRSIG, dns.TypeNSEC}
	for _, rr := range z.records {
		if rr.Header().Name != name {
			continue
		}
		types = append(types, rr.Header().Rrtype)
		if rr.Header().Rrtype == question.Qtype {
			m.Answer = append(m.Answer, rr)
		}
	}
	if len(m.Answer) == 0 {
		nsec := &dns.NSEC{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: 300}, NextDomain: "\\000." + name}
		for typ := uint16(1); typ < 256; typ++ { // the types in an NSEC record must be in ascending order
			for _, have := range types {
				if have == typ {
					nsec.TypeBitMap = append(nsec.TypeBitMap, typ)
					break
				}
			}
		}
		m.Ns = z.signed([]dns.RR{z.records[1]})
		m.Ns = append(m.Ns, z.signed([]dns.RR{nsec})...)
	} else {
		m.Answer = z.signed(m.Answer)
	}
	q.Send(m)
}

// signed is a set of records and its signature.
func (z *signedZone) signed(set []dns.RR) []dns.RR {
	sig := &dns.RRSIG{
		Algorithm: z.key.Algorithm, KeyTag: z.key.KeyTag(), SignerName: zoneName,
		Inception: uint32(time.Now().Add(-time.Hour).Unix()), Expiration: uint32(time.Now().Add(24 * time.Hour).Unix()),
	}
	if err := sig.Sign(z.private, set); err != nil {
		panic(err) // the test itself made the invalid record
	}
	return append(set[:len(set):len(set)], sig)
}

// testDelv validates answers that pass through Rempart: answers that are not blocked are secure, and delv must report a blocked name of a signed zone as invalid.
func testDelv(t *testing.T, p *peers) {
	z := newSignedZone(t)
	u := NewUpstream(t, z.answer)
	r := p.rempart(t, "REMPART_UPSTREAMS=udp://"+u.Addr.String())
	anchor := filepath.Join(p.dir, "anchor.conf")
	text := fmt.Sprintf("trust-anchors { %q static-key 257 3 13 %q; };\n", zoneName, z.key.PublicKey)
	if err := os.WriteFile(anchor, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	secured := "-a " + anchor + " +root=" + zoneName + " "
	const validated = `fully validated`
	for _, a := range []asked{
		{secured + "www.signed.example A", []string{validated, `192\.0\.2\.1$`, `RRSIG`}, nil},
		{secured + "www.signed.example AAAA", []string{`negative response, fully validated`}, nil},
		{secured + "bad.signed.example DS", []string{`negative response, fully validated`}, nil}, // never blocked
		{secured + "bad.signed.example A", []string{`resolution failed`}, []string{validated, pageAddr + `$`}},
		{secured + "bad.signed.example TXT", []string{`resolution failed`}, []string{validated}},
		{"-i bad.signed.example A", []string{`127\.0\.0\.1$`}, nil},
	} {
		a.check(t, "delv", r.DNS)
	}
}
