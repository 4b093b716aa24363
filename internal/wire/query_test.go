package wire

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

const signal = 65001 // the option code by which clients ask for structured errors in these tests

func packed(t testing.TB, build func(*dns.Msg)) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion("WwW.Example.COM.", dns.TypeA)
	if build != nil {
		build(m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func opt(do bool, options ...dns.EDNS0) *dns.OPT {
	o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 4096}, Option: options}
	o.SetDo(do)
	return o
}

func TestParseShapes(t *testing.T) {
	local := func(code uint16, data ...byte) dns.EDNS0 { return &dns.EDNS0_LOCAL{Code: code, Data: data} }
	version1 := opt(false)
	version1.SetVersion(1)
	notRoot := opt(false)
	notRoot.Hdr.Name = "example."
	broken := packed(t, func(m *dns.Msg) { m.Extra = []dns.RR{opt(false, local(7, 1, 2, 3))} })
	broken[len(broken)-4] = 9 // the option's length exceeds the data
	for _, tt := range []struct {
		name   string
		packet []byte
		want   Shape
		edns   bool
	}{
		{"plain", packed(t, nil), Common, false},
		{"with EDNS", packed(t, func(m *dns.Msg) { m.Extra = []dns.RR{opt(true)} }), Common, true},
		{"malformed ECS is ignored", packed(t, func(m *dns.Msg) { m.Extra = []dns.RR{opt(true, local(8, 0xff))} }), Common, true},
		{"empty", nil, NotAQuery, false},
		{"a header cut short", packed(t, nil)[:11], NotAQuery, false},
		{"an answer", packed(t, func(m *dns.Msg) { m.Response = true }), NotAQuery, false},
		{"only a header", packed(t, nil)[:12], BadFormat, false},
		{"cut in the name", packed(t, nil)[:20], BadFormat, false},
		{"trailing bytes", append(packed(t, nil), 0), BadFormat, false},
		{"trailing bytes after an OPT", append(packed(t, func(m *dns.Msg) { m.Extra = []dns.RR{opt(false)} }), 0), BadFormat, true},
		{"two questions", packed(t, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), BadFormat, false},
		{"no question", packed(t, func(m *dns.Msg) { m.Question = nil }), BadFormat, false},
		{"an answer record", packed(t, func(m *dns.Msg) { m.Answer = []dns.RR{&dns.NULL{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNULL}}} }), BadFormat, false},
		{"an authority record", packed(t, func(m *dns.Msg) {
			m.Ns = []dns.RR{&dns.NULL{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNULL}}}
			m.Extra = []dns.RR{opt(false)}
		}), BadFormat, true},
		{"two OPTs", packed(t, func(m *dns.Msg) { m.Extra = []dns.RR{opt(false), opt(false)} }), BadFormat, true},
		{"OPT not at the root", packed(t, func(m *dns.Msg) { m.Extra = []dns.RR{notRoot} }), BadFormat, true},
		{"broken option framing", broken, BadFormat, true},
		{"EDNS version 1", packed(t, func(m *dns.Msg) { m.Extra = []dns.RR{version1} }), BadEDNS, true},
		{"opcode 15", packed(t, func(m *dns.Msg) { m.Opcode = 15 }), BadOpcode, false},
		{"NOTIFY with EDNS", packed(t, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify; m.Extra = []dns.RR{opt(false)} }), BadOpcode, true},
		{"a TSIG", packed(t, func(m *dns.Msg) { m.SetTsig("key.", dns.HmacSHA256, 300, 1) }), Uncommon, false},
	} {
		q := Query{Packet: tt.packet}
		if got := q.Parse(signal); got != tt.want || q.EDNS != tt.edns {
			t.Errorf("%s: shape %d, EDNS %v; want %d, %v", tt.name, got, q.EDNS, tt.want, tt.edns)
		}
	}
}

func TestParseFields(t *testing.T) {
	q := Query{Packet: packed(t, func(m *dns.Msg) {
		m.CheckingDisabled, m.AuthenticatedData = true, true
		m.Extra = []dns.RR{opt(true, &dns.EDNS0_LOCAL{Code: signal}, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})}
	})}
	if shape := q.Parse(signal); shape != Common {
		t.Fatalf("Parse: shape %v, want Common", shape)
	}
	if got := Text(q.Name()); got != "www.example.com" {
		t.Errorf("name %q", got)
	}
	if !q.DO || !q.Structured || !q.Keepalive || !q.Has(FlagRD) || !q.Has(FlagCD) || !q.Has(FlagAD) ||
		q.Type != TypeA || q.Class != ClassIN || q.Size != 4096 || q.Limit() != UDPLimit {
		t.Errorf("facts %+v", q)
	}
	q = Query{Packet: packed(t, func(m *dns.Msg) {
		small := opt(false)
		small.SetUDPSize(100)
		m.Extra = []dns.RR{small}
	})}
	q.Parse(signal)
	if q.Limit() != MinUDP {
		t.Errorf("a size below 512 gives limit %d", q.Limit())
	}
}

func TestOptionsThatAskForStructuredErrors(t *testing.T) {
	ede := func(value ...byte) dns.EDNS0 { return &dns.EDNS0_LOCAL{Code: dns.EDNS0EDE, Data: value} }
	for _, tt := range []struct {
		name    string
		options []dns.EDNS0
		want    bool
	}{
		{"none", nil, false},
		{"configured option", []dns.EDNS0{&dns.EDNS0_LOCAL{Code: signal}}, true},
		{"configured option with a value", []dns.EDNS0{&dns.EDNS0_LOCAL{Code: signal, Data: []byte{0}}}, false},
		{"EDE 0", []dns.EDNS0{ede(0, 0)}, true},
		{"EDE 15", []dns.EDNS0{ede(0, 15)}, true},
		{"EDE 15 after other options", []dns.EDNS0{&dns.EDNS0_PADDING{Padding: make([]byte, 3)}, ede(0, 4), ede(0, 15)}, true},
		{"EDE 4, 16, 17, 256 and 271", []dns.EDNS0{ede(0, 4), ede(0, 16), ede(0, 17), ede(1, 0), ede(1, 15)}, false},
		{"EDE 15 with text, as in an answer", []dns.EDNS0{ede(0, 15, '{', '}')}, false},
		{"malformed EDE", []dns.EDNS0{ede(), ede(15)}, false},
	} {
		packet := packed(t, func(m *dns.Msg) { m.Extra = []dns.RR{opt(false, tt.options...)} })
		q := Query{Packet: packet}
		if shape := q.Parse(signal); shape != Common || q.Structured != tt.want {
			t.Errorf("%s: shape %d, structured errors %v; want Common, %v", tt.name, shape, q.Structured, tt.want)
		}
		if q.Parse(0); q.Structured {
			t.Errorf("%s: the client gets structured errors, which are turned off", tt.name)
		}
		if n := testing.AllocsPerRun(10, func() { q.Parse(signal) }); n != 0 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
}

func TestExtraTextIsDroppedWhenAnswerDoesNotFit(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 62)+".", 3) + "example."
	q := Query{Packet: packed(t, func(m *dns.Msg) {
		m.SetQuestion(long, dns.TypeA)
		small := opt(true)
		small.SetUDPSize(512)
		m.Extra = []dns.RR{small}
	})}
	q.Parse(signal)
	for _, size := range []int{0, 100, 200, 280, 2000} {
		q.Begin(Success)
		q.AddAddress(30, netip.MustParseAddr("192.0.2.1"))
		q.Finish(Success, EDE{Code: EDEForged}, EDE{Code: EDEBlocked, Text: strings.Repeat("x", size)})
		if len(q.Out) > 512 {
			t.Fatalf("%d octets of text make an answer of %d", size, len(q.Out))
		}
		var m dns.Msg
		if err := m.Unpack(q.Out); err != nil {
			t.Fatal(err)
		}
		if len(m.Answer) != 1 || m.Truncated {
			t.Errorf("%d octets of text drove the answer out", size)
		}
		text := m.IsEdns0().Option[1].(*dns.EDNS0_EDE).ExtraText
		if len(text) != size && len(text) != 0 {
			t.Errorf("EXTRA-TEXT was cut to %d of %d octets", len(text), size)
		}
	}
	q.Begin(Success)
	for range 40 {
		q.AddAddress(30, netip.MustParseAddr("2001:db8::1"))
	}
	q.Finish(Success)
	var m dns.Msg
	if err := m.Unpack(q.Out); err != nil {
		t.Fatal(err)
	}
	if !m.Truncated || len(m.Answer) != 0 || m.IsEdns0() == nil || !m.IsEdns0().Do() {
		t.Errorf("truncated answer: %v", &m)
	}
}

func TestNames(t *testing.T) {
	for _, text := range []string{".", "com", "example.com", `a\.b.example`, `\000\255.x`, "_dmarc.example.fr", strings.Repeat("a", 63) + ".b"} {
		name, err := AppendName(nil, text)
		if err != nil {
			t.Errorf("AppendName(%s): %v", text, err)
			continue
		}
		if got := Text(name); got != text {
			t.Errorf("%s comes back as %s", text, got)
		}
		if NameLen(name) != len(name) {
			t.Errorf("%s: length %d of %d", text, NameLen(name), len(name))
		}
	}
	for _, text := range []string{"..", ".a", "a..b", strings.Repeat("a", 64), strings.Repeat("ab.", 90), `\`, `\25`, `\256`} {
		if name, err := AppendName([]byte("kept"), text); err == nil || string(name) != "kept" {
			t.Errorf("AppendName(%q) = %q, %v; want the unchanged buffer and an error", text, name, err)
		}
	}
	zone, _ := AppendName(nil, "example.com")
	for text, want := range map[string]bool{"example.com": true, "a.example.com": true, "badexample.com": false, "com": false, ".": false} {
		name, _ := AppendName(nil, text)
		if InZone(name, zone) != want {
			t.Errorf("%s in example.com: %v", text, !want)
		}
	}
}

// seeds adds packets from other projects' fuzzers, if they are available.
func seeds(f *testing.F) {
	root := filepath.Join("..", "..", "..", "shared", "data", "packets")
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if b, err := os.ReadFile(path); err == nil && len(b) <= MaxMessage {
			f.Add(b)
		}
		return nil
	})
	f.Add(packed(f, nil))
	f.Add(packed(f, func(m *dns.Msg) { m.Extra = []dns.RR{opt(true, &dns.EDNS0_LOCAL{Code: signal})} }))
	f.Add(packed(f, func(m *dns.Msg) { m.Extra = []dns.RR{opt(true, &dns.EDNS0_EDE{InfoCode: EDEBlocked})} }))
	f.Add(packed(f, func(m *dns.Msg) { m.SetTsig("key.", dns.HmacSHA256, 300, 1) }))
	f.Add(packed(f, func(m *dns.Msg) { m.Extra = []dns.RR{opt(true, cookie(24), cookie(9))} }))
}

// FuzzParse compares Parse with the complete decoder, which reads every message that Parse calls Common with the same facts; and every answer built in place
// unpacks to the intended one.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > MaxMessage {
			return
		}
		q := Query{Packet: packet}
		shape := q.Parse(signal)
		if shape == NotAQuery {
			return
		}
		if shape == Common {
			sameFacts(t, &q)
		}
		answers(t, &q)
	})
}

func sameFacts(t *testing.T, q *Query) {
	var m dns.Msg
	if err := m.Unpack(q.Packet); err != nil {
		// miekg/dns judges the content of known options; Parse does not, by design.
		if !q.EDNS {
			t.Fatalf("accepted what the decoder refuses: %v", err)
		}
		return
	}
	if len(m.Question) != 1 {
		t.Fatalf("%d questions", len(m.Question))
	}
	type facts struct {
		name                 string
		typ, class, id       uint16
		rd, cd, ad, do, edns bool
		structured           bool
	}
	name := make([]byte, 255)
	n, err := dns.PackDomainName(m.Question[0].Name, name, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range name[:n] {
		name[i] = Lower(c)
	}
	want := facts{
		string(name[:n]), m.Question[0].Qtype, m.Question[0].Qclass, m.Id, m.RecursionDesired, m.CheckingDisabled,
		m.AuthenticatedData, m.IsEdns0() != nil && m.IsEdns0().Do(), m.IsEdns0() != nil,
		hasStructured(m.IsEdns0()),
	}
	got := facts{string(q.Name()), q.Type, q.Class, ID(q.Packet), q.Has(FlagRD), q.Has(FlagCD), q.Has(FlagAD), q.DO, q.EDNS, q.Structured}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(facts{})); diff != "" {
		t.Fatal(diff)
	}
}

func hasStructured(o *dns.OPT) bool {
	return o != nil && slices.ContainsFunc(o.Option, func(e dns.EDNS0) bool {
		switch e := e.(type) {
		case *dns.EDNS0_LOCAL:
			return e.Code == signal && len(e.Data) == 0
		case *dns.EDNS0_EDE:
			return (e.InfoCode == EDEOther || e.InfoCode == EDEBlocked) && e.ExtraText == ""
		}
		return false
	})
}

func answers(t *testing.T, q *Query) {
	if q.Cookie > MalformedCookie {
		q.ServeCookie(WrongCookie, ServerCookie{})
	}
	q.Begin(Success)
	if q.BodyAt > HeaderLen {
		q.AddAddress(30, netip.MustParseAddr("192.0.2.1"))
		q.AddSOA(30, 0)
	}
	q.Finish(Success, EDE{Code: EDEForged}, EDE{Code: EDEBlocked, Text: "phishing"})
	if len(q.Out) > q.Limit() {
		t.Fatalf("an answer of %d octets to one who takes %d", len(q.Out), q.Limit())
	}
	var m dns.Msg
	if err := m.Unpack(q.Out); err != nil {
		t.Fatalf("the answer does not unpack: %v\n% x", err, q.Out)
	}
	if !m.Response || m.Id != ID(q.Packet) || (m.IsEdns0() != nil) != q.EDNS {
		t.Fatalf("answer %v", &m)
	}
	if q.BodyAt > HeaderLen && !m.Truncated && (len(m.Answer) != 1 || len(m.Ns) != 1) {
		t.Fatalf("answer %v", &m)
	}
}

// FuzzReadRecords walks any bytes, and agrees with the decoder on messages that it accepts.
func FuzzReadRecords(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, msg []byte) {
		r := ReadRecords(msg)
		var rr Record
		var buf [MaxName]byte
		n := 0
		for r.Next(&rr) {
			n++
			if name, _, ok := ExpandName(buf[:0], msg, rr.Name); ok && NameLen(name) != len(name) {
				t.Fatalf("an expanded name is not sound: % x", name)
			}
		}
		if len(msg) < HeaderLen || r.Malformed() {
			return
		}
		if want := Count(msg, 1) + Count(msg, 2) + Count(msg, 3); n != want {
			t.Fatalf("%d records of %d", n, want)
		}
	})
}
