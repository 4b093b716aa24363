package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"rempart/internal/wire"
)

// sent packs a message of an upstream: records in zone-file format, "?" before those of the authority section, "+" before additional ones.
func sent(t testing.TB, typ uint16, rcode int, rrs ...string) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion("example.com.", typ)
	m.Response, m.Compress, m.Rcode = true, true, rcode
	for _, s := range rrs {
		section := &m.Answer
		switch s[0] {
		case '?':
			section, s = &m.Ns, s[1:]
		case '+':
			section, s = &m.Extra, s[1:]
		}
		rr, err := dns.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		*section = append(*section, rr)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// admitted returns what a client with DO receives of a message: the rcode and the records of all sections, or the error of NewAnswer.
func admitted(t testing.TB, typ uint16, msg []byte) string { return admittedTo(t, true, typ, msg) }

func admittedTo(t testing.TB, do bool, typ uint16, msg []byte) string {
	t.Helper()
	k := key(t, "example.com")
	k.Type, k.DO = typ, do
	e, err := NewAnswer(k, msg, false, 0)
	if err != nil {
		return err.Error()
	}
	query, err := new(dns.Msg).SetQuestion("example.com.", typ).Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := wire.Query{Packet: query, Transport: wire.TCP}
	q.Parse(0)
	e.WriteAnswer(&q, 0, false)
	q.Finish(e.Rcode(), e.Errors()...)
	a := new(dns.Msg)
	if err := a.Unpack(q.Out); err != nil {
		t.Fatalf("unpacking the answer %x: %v", q.Out, err)
	}
	parts := []string{dns.RcodeToString[a.Rcode]}
	for _, rr := range append(append(a.Answer, a.Ns...), a.Extra...) {
		parts = append(parts, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	return strings.Join(parts, " | ")
}

// TestOnlyAnsweringRecordsAreAdmitted checks that clients receive only records that answer the question or prove that there is no answer.
func TestOnlyAnsweringRecordsAreAdmitted(t *testing.T) {
	const (
		a1, a2  = "example.com. 300 IN A 192.0.2.1", "example.com. 300 IN A 192.0.2.2"
		foreign = "victim.example. 300 IN A 192.0.2.66"
		sig     = "example.com. 300 IN RRSIG A 13 2 300 20300101000000 20200101000000 1 example.com. AAAA"
		alias   = "example.com. 300 IN CNAME www.example.com."
		end     = "www.example.com. 300 IN A 192.0.2.3"
		soa     = "?example.com. 300 IN SOA ns.example.com. host.example.com. 1 2 3 4 60"
		soaText = "example.com. 60 IN SOA ns.example.com. host.example.com. 1 2 3 4 60"
	)
	none := ErrAnswer.Error()
	long := []string{"example.com. 300 IN CNAME a0.example."}
	for i := range maxChain {
		long = append(long, fmt.Sprintf("a%d.example. 300 IN CNAME a%d.example.", i, i+1))
	}
	for _, tt := range []struct {
		name  string
		typ   uint16
		rcode int
		rrs   []string
		want  string
	}{
		{"a foreign record first", dns.TypeA, 0, []string{foreign, a1}, "NOERROR | " + a1},
		{"a foreign record between", dns.TypeA, 0, []string{a1, foreign, a2}, "NOERROR | " + a1 + " | " + a2},
		{"a foreign record before a signature", dns.TypeA, 0, []string{a1, foreign, sig}, "NOERROR | " + a1 + " | " + sig},
		{"foreign records only", dns.TypeA, 0, []string{foreign}, none},
		{"names that are compressed by foreign ones", dns.TypeA, 0, []string{"www.example.com. 300 IN A 192.0.2.9", alias, "mail.www.example.com. 1 IN A 192.0.2.8", end},
			"NOERROR | www.example.com. 300 IN A 192.0.2.9 | " + alias + " | " + end},
		{"another type only", dns.TypeA, 0, []string{`example.com. 300 IN TXT "x"`}, "NOERROR"},
		{"record of another type before the answer", dns.TypeA, 0, []string{"example.com. 300 IN AAAA 2001:db8::1", a1}, "NOERROR | " + a1},
		{"another class", dns.TypeA, 0, []string{"example.com. 300 CH A 192.0.2.9", a1}, "NOERROR | " + a1},
		{"another class only", dns.TypeA, 0, []string{"example.com. 300 HS A 192.0.2.9"}, none},
		{"two aliases of one name", dns.TypeA, 0, []string{alias, "example.com. 300 IN CNAME evil.example.", end}, none},
		{"an alias twice", dns.TypeA, 0, []string{alias, alias, end}, "NOERROR | " + alias + " | " + alias + " | " + end},
		{"an alias to itself", dns.TypeA, 0, []string{"example.com. 300 IN CNAME example.com."}, none},
		{"an alias to itself, with the asked record", dns.TypeA, 0, []string{"example.com. 300 IN CNAME example.com.", a1}, none},
		{"aliases in a loop", dns.TypeA, 0, []string{alias, "www.example.com. 300 IN CNAME w.example.", "w.example. 300 IN CNAME www.example.com."}, none},
		{"aliases back to the name", dns.TypeA, 0, []string{alias, "www.example.com. 300 IN CNAME example.com."}, none},
		{"an alias to itself that was asked for", dns.TypeCNAME, 0, []string{"example.com. 300 IN CNAME example.com."}, "NOERROR | example.com. 300 IN CNAME example.com."},
		{"one alias too many", dns.TypeA, 0, append(long, fmt.Sprintf("a%d.example. 300 IN A 192.0.2.1", maxChain)), none},
		{"DNAME record of a parent", dns.TypeA, 0, []string{"com. 300 IN DNAME net.", "example.com. 300 IN CNAME example.net.", "example.net. 300 IN A 192.0.2.3"},
			"NOERROR | com. 300 IN DNAME net. | example.com. 300 IN CNAME example.net. | example.net. 300 IN A 192.0.2.3"},
		{"a DNAME record of the name", dns.TypeA, 0, []string{"example.com. 300 IN DNAME example.net.", a1}, "NOERROR | " + a1},
		{"only a DNAME record of the name", dns.TypeA, 0, []string{"example.com. 300 IN DNAME example.net."}, "NOERROR"},
		{"a DNAME record that was asked for", dns.TypeDNAME, 0, []string{"example.com. 300 IN DNAME example.net."}, "NOERROR | example.com. 300 IN DNAME example.net."},
		{"YXDOMAIN with a DNAME record", dns.TypeA, dns.RcodeYXDomain, []string{"com. 300 IN DNAME net."}, "YXDOMAIN | com. 300 IN DNAME net."},
		{"alias without its target", dns.TypeA, 0, []string{alias}, "NOERROR | " + alias},
		{"NXDOMAIN with the asked record", dns.TypeA, 3, []string{a1}, none},
		{"NXDOMAIN of an alias", dns.TypeA, 3, []string{alias, soa}, "NXDOMAIN | example.com. 60 IN CNAME www.example.com. | " + soaText},
		{"SERVFAIL with records", dns.TypeA, 2, []string{a1, soa}, "SERVFAIL"},
		{"REFUSED with records", dns.TypeA, 5, []string{a1}, "SERVFAIL"},
		{"additional records", dns.TypeMX, 0, []string{"example.com. 300 IN MX 1 evil.example.", "+evil.example. 300 IN A 192.0.2.66"}, "NOERROR | example.com. 300 IN MX 1 evil.example."},
		{"addresses in the authority section", dns.TypeA, 0, []string{a1, "?evil.example. 300 IN A 192.0.2.66", "?example.com. 300 IN NS ns.evil.example."},
			"NOERROR | " + a1 + " | example.com. 300 IN NS ns.evil.example."},
		{"another zone in the authority section", dns.TypeA, 0, []string{a1, "?evil.example. 300 IN NS ns.evil.example."}, "NOERROR | " + a1},
		{"no data", dns.TypeA, 0, []string{soa}, "NOERROR | " + soaText},
		{"an unknown type", 65280, 0, []string{`example.com. 300 IN TYPE65280 \# 2 0001`}, `NOERROR | example.com. 300 CLASS1 TYPE65280 \# 2 0001`},
	} {
		if got := admitted(t, tt.typ, sent(t, tt.typ, tt.rcode, tt.rrs...)); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// TestDNSSECRecordsRequireDO checks that clients without DO get no DNSSEC records unless they asked for that type (RFC 4035 section 3.2.1).
func TestDNSSECRecordsRequireDO(t *testing.T) {
	const (
		a   = "example.com. 300 IN A 192.0.2.1"
		sig = "example.com. 300 IN RRSIG A 13 2 300 20300101000000 20200101000000 1 example.com. AAAA"
		ds  = "example.com. 300 IN DS 1 13 2 ABCD"
		soa = "example.com. 60 IN SOA ns.example.com. host.example.com. 1 2 3 4 60"
	)
	for _, tt := range []struct {
		name          string
		typ           uint16
		rrs           []string
		plain, signed string
	}{
		{"a signature", dns.TypeA, []string{a, sig}, "NOERROR | " + a, "NOERROR | " + a + " | " + sig},
		{"a signature that was asked for", dns.TypeRRSIG, []string{sig}, "NOERROR | " + sig, "NOERROR | " + sig},
		{"a DS record that was asked for", dns.TypeDS, []string{ds}, "NOERROR | " + ds, "NOERROR | " + ds},
		{"a denial", dns.TypeA, []string{"?" + soa, "?example.com. 60 IN NSEC a.example.com. MX"}, "NOERROR | " + soa,
			"NOERROR | " + soa + " | example.com. 60 IN NSEC a.example.com. MX"},
	} {
		msg := sent(t, tt.typ, 0, tt.rrs...)
		if got := admittedTo(t, false, tt.typ, slices.Clone(msg)); got != tt.plain {
			t.Errorf("%s, without DO:\n got %s\nwant %s", tt.name, got, tt.plain)
		}
		if got := admittedTo(t, true, tt.typ, msg); got != tt.signed {
			t.Errorf("%s, with DO:\n got %s\nwant %s", tt.name, got, tt.signed)
		}
	}
}

// TestInvalidRecordsAreRefused checks that answers with records that cannot be valid are refused.
func TestInvalidRecordsAreRefused(t *testing.T) {
	question, err := new(dns.Msg).SetQuestion("example.com.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	record := func(owner string, typ uint16, data string) []byte {
		b := append([]byte(owner), 0, 0, 0, 1, 0, 0, 1, 44, 0, 0)
		binary.BigEndian.PutUint16(b[len(owner):], typ)
		binary.BigEndian.PutUint16(b[len(b)-2:], uint16(len(data)))
		return append(b, data...)
	}
	const here = "\xc0\x0c"
	for name, rr := range map[string][]byte{
		"an A record of 3 bytes":                record(here, dns.TypeA, "\x01\x02\x03"),
		"an A record of 5 bytes":                record(here, dns.TypeA, "\x01\x02\x03\x04\x05"),
		"an AAAA record of 4 bytes":             record(here, dns.TypeAAAA, "\x01\x02\x03\x04"),
		"an MX record without a name":           record(here, dns.TypeMX, "\x00\x01"),
		"a TXT record without a string":         record(here, dns.TypeTXT, ""),
		"a TXT record that is cut short":        record(here, dns.TypeTXT, "\x05ab"),
		"an SOA record of two names":            record(here, dns.TypeSOA, here+here),
		"owner name points forward":             record("\xc0\xff", dns.TypeA, "\x01\x02\x03\x04"),
		"owner name points at itself":           record("\xc0\x2d", dns.TypeA, "\x01\x02\x03\x04"),
		"owner name points to the header":       record("\xc0\x04", dns.TypeA, "\x01\x02\x03\x04"),
		"a target that points to the header":    record(here, dns.TypeCNAME, "\xc0\x02"),
		"a target that points forward":          record(here, dns.TypeCNAME, "\xc0\xff"),
		"a target with bytes behind it":         record(here, dns.TypeCNAME, here+"x"),
		"HTTPS with a parameter cut short":      record(here, dns.TypeHTTPS, "\x00\x01\x00\x00\x04\x00\x09\xcb\x00\x71\x07"),
		"HTTPS with half an address":            record(here, dns.TypeHTTPS, "\x00\x01\x00\x00\x04\x00\x05\xcb\x00\x71\x07\x01"),
		"SVCB with an empty hint":               record(here, dns.TypeSVCB, "\x00\x01\x00\x00\x06\x00\x00"),
		"an OPT record in the answer":           record("\x00", dns.TypeOPT, ""),
		"an HINFO record of one string":         record(here, dns.TypeHINFO, "\x03CPU"),
		"a NAPTR record without a name":         record(here, dns.TypeNAPTR, "\x00\x01\x00\x01\x01S\x00\x00"),
		"a NAPTR record that is cut short":      record(here, dns.TypeNAPTR, "\x00\x01\x00\x01\x01S\x09SIP"),
		"a DS record without a digest":          record(here, dns.TypeDS, "\x00\x01\x0d\x02"),
		"a DNSKEY record without a key":         record(here, dns.TypeDNSKEY, "\x01\x00\x03\x0d"),
		"a TLSA record that is too short":       record(here, dns.TypeTLSA, "\x03\x01\x01"),
		"a LOC record that is too short":        record(here, dns.TypeLOC, "\x00\x12\x16\x13"),
		"a CAA record without a tag":            record(here, dns.TypeCAA, "\x00\x00value"),
		"a CAA record with its tag cut":         record(here, dns.TypeCAA, "\x00\x09issue"),
		"an NSEC record with a bitmap cut":      record(here, dns.TypeNSEC, here+"\x00\x06\x40"),
		"NSEC with windows in descending order": record(here, dns.TypeNSEC, here+"\x01\x01\x40\x00\x01\x40"),
		"an RRSIG record without a signature":   record(here, dns.TypeRRSIG, strings.Repeat("\x00", 18)+here),
		"an HTTPS record with a key cut":        record(here, dns.TypeHTTPS, "\x00\x01\x00\x00\x04\x00"),
		"an HTTPS record with a value cut":      record(here, dns.TypeHTTPS, "\x00\x01\x00\x00\x04\x00\x08\xc0\x00\x02\x01"),
		"an HTTPS record with half a hint":      record(here, dns.TypeHTTPS, "\x00\x01\x00\x00\x04\x00\x03\xc0\x00\x02"),
		"HTTPS with keys in descending order":   record(here, dns.TypeHTTPS, "\x00\x01\x00\x00\x04\x00\x04\xc0\x00\x02\x01\x00\x03\x00\x02\x01\xbb"),
		"an HTTPS record with a key twice":      record(here, dns.TypeHTTPS, "\x00\x01\x00\x00\x03\x00\x02\x01\xbb\x00\x03\x00\x02\x01\xbb"),
		"an HTTPS record with an empty ALPN":    record(here, dns.TypeHTTPS, "\x00\x01\x00\x00\x01\x00\x01\x00"),
		"an HTTPS record with an ALPN cut":      record(here, dns.TypeHTTPS, "\x00\x01\x00\x00\x01\x00\x02\x05h"),
		"an HTTPS record with half a port":      record(here, dns.TypeHTTPS, "\x00\x01\x00\x00\x03\x00\x01\x01"),
		"an OPT record with a size as class":    []byte("\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"),
	} {
		sound := record(here, dns.TypeA, "\xc0\x00\x02\x01")
		msg := slices.Concat(question, sound, rr)
		wire.SetCount(msg, wire.SectionAnswer, 2)
		msg[2] |= 0x80
		if got := admitted(t, dns.TypeA, msg); got != ErrAnswer.Error() {
			t.Errorf("%s: got %s", name, got)
		}
	}
	// The same OPT in the authority section.
	msg := slices.Concat(question, record(here, dns.TypeA, "\xc0\x00\x02\x01"), []byte("\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"))
	wire.SetCount(msg, wire.SectionAnswer, 1)
	wire.SetCount(msg, wire.SectionAuthority, 1)
	if got := admitted(t, dns.TypeA, msg); got != ErrAnswer.Error() {
		t.Errorf("an OPT record in the authority section: got %s", got)
	}
}

// TestValidRecordsArePassedUnchanged checks that valid records of every type are passed on unchanged.
func TestValidRecordsArePassedUnchanged(t *testing.T) {
	for _, rr := range []string{
		"HINFO \"CPU\" \"\"", "MX 10 mail.example.", "TXT \"a\" \"\"", "SRV 1 2 3 host.example.", "NAPTR 1 2 \"S\" \"SIP+D2U\" \"\" _sip._udp.example.",
		"CAA 0 issue \"ca.example\"", "CAA 0 iodef \"\"", "DS 1 13 2 ABCD", "CDS 0 0 0 00", "CDNSKEY 0 3 0 AA==", "DNSKEY 257 3 13 AAAA", "SSHFP 1 1 ABCD", "TLSA 3 1 1 abcd",
		"LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m", "NSEC a.example. A RRSIG NSEC TYPE65280", "NSEC3PARAM 1 0 10 -", "NSEC3PARAM 1 0 10 AABB", "URI 10 1 \"https://a.example/\"",
		"HTTPS 0 other.example.", "HTTPS 1 . mandatory=alpn alpn=h2,h3 no-default-alpn port=443 ipv4hint=192.0.2.1,192.0.2.2 ech=AAAA ipv6hint=2001:db8::1 key65280=x",
		"SVCB 1 host.example.", "EUI48 00-00-5e-00-53-2a", "EUI64 00-00-5e-ef-10-00-00-2a", "SPF \"v=spf1 -all\"", "RP a.example. b.example.",
	} {
		typ := dns.StringToType[strings.Fields(rr)[0]]
		want, err := dns.NewRR("example.com. 300 IN " + rr)
		if err != nil {
			t.Fatal(err)
		}
		if got := admitted(t, typ, sent(t, typ, 0, "example.com. 300 IN "+rr)); got != "NOERROR | "+strings.ReplaceAll(want.String(), "\t", " ") {
			t.Errorf("%s: got %s", rr, got)
		}
	}
	version1 := append(sent(t, dns.TypeLOC, 0), "\xc0\x0c\x00\x1d\x00\x01\x00\x00\x00\x01\x00\x03\x01ab"...)
	wire.SetCount(version1, wire.SectionAnswer, 1)
	k := key(t, "example.com")
	k.Type = dns.TypeLOC
	if e, err := NewAnswer(k, version1, false, 0); err != nil || e.counts[0] != 1 { // RFC 1876 section 2: the format of version 1 is not known
		t.Errorf("LOC of version 1: %v", err)
	}
}

// TestTTLInsideNameIsNotChanged checks that clients get the same target that was checked, even if a compression pointer makes the TTL of a record part of the
// target.
func TestTTLInsideNameIsNotChanged(t *testing.T) {
	const here = "\xc0\x0c"
	msg, err := new(dns.Msg).SetQuestion("example.com.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	at := len(msg) + len(here) + 4 // offset of the TTL, whose bytes are the name "a."
	msg = append(msg, here+"\x00\x01\x00\x01\x01a\x00\x00\x00\x04\xc0\x00\x02\x01"...)
	msg = append(msg, here+"\x00\x05\x00\x01\x00\x00\x01\x2c\x00\x02\xc0"...)
	msg = append(msg, byte(at))
	wire.SetCount(msg, wire.SectionAnswer, 2)
	msg[2] |= 0x80
	want := "NOERROR | example.com. 86400 IN A 192.0.2.1 | example.com. 300 IN CNAME a."
	if got := admitted(t, dns.TypeA, msg); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// TestSlowAliasChainIsRefused checks that an answer is refused if following its aliases would take long.
func TestSlowAliasChainIsRefused(t *testing.T) {
	rrs := []string{"example.com. 300 IN CNAME a0.example."}
	for i := range 2000 {
		rrs = append(rrs, fmt.Sprintf("a%d.example. 300 IN CNAME a%d.example.", i, i+1))
	}
	if _, err := NewAnswer(key(t, "example.com"), sent(t, dns.TypeA, 0, rrs...), false, 0); !errors.Is(err, ErrAnswer) {
		t.Errorf("NewAnswer: error %v, want ErrAnswer", err)
	}
}

// TestUncheckableAliasChainIsRefused checks that a chain of aliases that is too long to be checked up to its last target is refused, and so is a loop of
// aliases.
func TestUncheckableAliasChainIsRefused(t *testing.T) {
	chain := func(n int) []string {
		rrs := []string{"example.com. 300 IN CNAME a1.example."}
		for i := 1; i < n; i++ {
			rrs = append(rrs, fmt.Sprintf("a%d.example. 300 IN CNAME a%d.example.", i, i+1))
		}
		return rrs
	}
	for n, want := range map[int]error{1: nil, maxChain - 1: nil, maxChain: nil, maxChain + 1: ErrAnswer, maxAliases: ErrAnswer} {
		if _, err := NewAnswer(key(t, "example.com"), sent(t, dns.TypeA, 0, chain(n)...), false, 0); !errors.Is(err, want) {
			t.Errorf("%d aliases: %v", n, err)
		}
	}
	for _, loop := range [][]string{{"example.com. 300 IN CNAME example.com."}, append(chain(2), "a2.example. 300 IN CNAME a1.example.")} {
		if _, err := NewAnswer(key(t, "example.com"), sent(t, dns.TypeA, 0, loop...), false, 0); !errors.Is(err, ErrAnswer) {
			t.Errorf("NewAnswer with %v: error %v, want ErrAnswer", loop, err)
		}
	}
}

// TestHintsOfCompressedSVCBAreFound checks that the address hints of an SVCB record are found even if its target is compressed, which RFC 9460 section 2.2
// forbids.
func TestHintsOfCompressedSVCBAreFound(t *testing.T) {
	msg := sent(t, dns.TypeHTTPS, 0, `example.com. 300 IN HTTPS 1 . ipv4hint="192.0.2.7"`)
	at := strings.LastIndex(string(msg), "\x00\x01\x00\x00\x04\x00\x04\xc0\x00\x02\x07")
	if at < 0 {
		t.Fatalf("the message has no compressed target: %x", msg)
	}
	msg = append(msg[:at+2:at+2], append([]byte{0xc0, wire.HeaderLen}, msg[at+3:]...)...)
	binary.BigEndian.PutUint16(msg[at-2:], binary.BigEndian.Uint16(msg[at-2:])+1)
	k := key(t, "example.com")
	k.Type = dns.TypeHTTPS
	e, err := NewAnswer(k, msg, false, 0)
	if err != nil {
		t.Fatal(err)
	}
	var hints []string
	for addr := range e.EachAddress {
		hints = append(hints, addr.String())
	}
	if got := strings.Join(hints, " "); got != "192.0.2.7" {
		t.Errorf("hints: %q", got)
	}
}

// TestExtendedErrorTextIsValidUTF8 checks that the text of an extended error is valid UTF-8 (RFC 8914 section 2).
func TestExtendedErrorTextIsValidUTF8(t *testing.T) {
	for text, want := range map[string]string{"plain": "plain", "\xff\xfe": "", strings.Repeat("é", 200): strings.Repeat("é", 127)} {
		e, ok := wire.ReadEDE(append([]byte{0, 22}, text...), maxText)
		if !ok || e.Text != want {
			t.Errorf("text of the extended error %.20q: %q, want %q", text, e.Text, want)
		}
	}
}
