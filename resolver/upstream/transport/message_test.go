package transport

import (
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
)

func TestAppendQuery(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 61)+".", 4) + "bcdef"
	tests := []struct {
		name string
		q    Question
		form Form
	}{
		{"plain", Question{Name: dnstest.WireName(t, "www.example.org"), Type: 1, Class: 1}, Form{}},
		{"EDNS", Question{Name: dnstest.WireName(t, "www.example.org"), Type: 28, Class: 1, CD: true}, Form{EDNS: true}},
		{"DO, mixed", Question{Name: dnstest.WireName(t, "www.example.org"), Type: 1, Class: 1, DO: true}, Form{EDNS: true, Mix: true}},
		{"padded", Question{Name: dnstest.WireName(t, "www.example.org"), Type: 1, Class: 1}, Form{EDNS: true, Pad: true}},
		{"the longest", Question{Name: dnstest.WireName(t, long), Type: 1, Class: 1}, Form{EDNS: true, Pad: true, Mix: true}},
		{"client cookie", Question{Name: dnstest.WireName(t, "www.example.org"), Type: 1, Class: 1}, Form{EDNS: true, Cookie: []byte("client01")}},
		{"the longest with the longest cookie", Question{Name: dnstest.WireName(t, long), Type: 1, Class: 1}, Form{EDNS: true, Mix: true, Cookie: make([]byte, maxCookieLen)}},
		{"the root", Question{Name: []byte{0}, Type: 2, Class: 1}, Form{EDNS: true, Mix: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			packed := AppendQuery(nil, &tt.q, 0xabcd, tt.form)
			m := new(dns.Msg)
			if err := m.Unpack(packed); err != nil {
				t.Fatal(err)
			}
			if m.Id != 0xabcd || !m.RecursionDesired || !m.AuthenticatedData || m.CheckingDisabled != tt.q.CD || len(m.Question) != 1 {
				t.Errorf("header:\n%v", m)
			}
			if got := dnstest.WireName(t, m.Question[0].Name); !bytes.Equal(got, tt.q.Name) {
				t.Errorf("name %q", got)
			}
			if m.Question[0].Qtype != tt.q.Type || m.Question[0].Qclass != tt.q.Class {
				t.Errorf("question %v", m.Question[0])
			}
			if opt := m.IsEdns0(); (opt != nil) != tt.form.EDNS {
				t.Errorf("OPT %v", opt)
			} else if opt != nil && (opt.UDPSize() != 1232 || opt.Do() != tt.q.DO || opt.Version() != 0) {
				t.Errorf("OPT %v", opt)
			}
			if option, _ := readCookie(packed); !bytes.Equal(option, tt.form.Cookie) {
				t.Errorf("cookie %q, want %q", option, tt.form.Cookie)
			}
			if client := clientCookie(packed); !bytes.Equal(client, tt.form.Cookie[:min(clientCookieLen, len(tt.form.Cookie))]) {
				t.Errorf("client cookie %q in the query, want the start of %q", client, tt.form.Cookie)
			}
			if !tt.form.Pad && len(packed) > MaxQuery {
				t.Errorf("%d bytes, more than MaxQuery", len(packed))
			}
			if tt.form.Pad && len(packed)%padBlock != 0 {
				t.Errorf("%d bytes, want a multiple of %d", len(packed), padBlock)
			}
			if len(packed)+2 > maxQuery {
				t.Errorf("%d bytes, more than maxQuery", len(packed))
			}
		})
	}
}

func TestMixCaseVaries(t *testing.T) {
	name := dnstest.WireName(t, "abcdefghijklmnopqrstuvwxyz.example")
	seen := map[string]bool{}
	for range 50 {
		mixed := bytes.Clone(name)
		MixCase(mixed, randomBits)
		if !bytes.Equal(bytes.ToLower(mixed), name) {
			t.Fatalf("MixCase changed more than the case: %q", mixed)
		}
		seen[string(mixed)] = true
	}
	if len(seen) < 49 {
		t.Errorf("%d different spellings in 50 queries, want at least 49", len(seen))
	}
}

// answerTo packs an answer to sent, changed by change.
func answerTo(t testing.TB, sent []byte, change func(*dns.Msg)) []byte {
	t.Helper()
	query := new(dns.Msg)
	if err := query.Unpack(sent); err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg).SetReply(query)
	if change != nil {
		change(m)
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func TestCompare(t *testing.T) {
	q := Question{Name: dnstest.WireName(t, "www.example.org"), Type: 1, Class: 1}
	sent := AppendQuery(nil, &q, 77, Form{EDNS: true})
	copy(sent[wire.HeaderLen:], "\x03wWw\x07ExamplE\x03oRg")
	tests := []struct {
		name   string
		change func(*dns.Msg)
		want   Match
	}{
		{"the answer", nil, exact},
		{"NXDOMAIN", func(m *dns.Msg) { m.Rcode = 3 }, exact},
		{"lower case", func(m *dns.Msg) { m.Question[0].Name = "www.example.org." }, recased},
		{"wrong ID", func(m *dns.Msg) { m.Id++ }, Foreign},
		{"a query", func(m *dns.Msg) { m.Response = false }, Foreign},
		{"another opcode", func(m *dns.Msg) { m.Opcode = 4 }, Foreign},
		{"another name", func(m *dns.Msg) { m.Question[0].Name = "wWx.ExamplE.oRg." }, Foreign},
		{"a longer name", func(m *dns.Msg) { m.Question[0].Name = "a.wWw.ExamplE.oRg." }, Foreign},
		{"another type", func(m *dns.Msg) { m.Question[0].Qtype = 28 }, Foreign},
		{"another class", func(m *dns.Msg) { m.Question[0].Qclass = 3 }, Foreign},
		{"two questions", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, Foreign},
		{"no question", func(m *dns.Msg) { m.Question = nil }, Foreign},
		{"no question, FORMERR", func(m *dns.Msg) { m.Question, m.Rcode = nil, 1 }, Bare},
		{"no question, NXDOMAIN", func(m *dns.Msg) { m.Question, m.Rcode = nil, 3 }, Foreign},
		{"no question, YXDOMAIN", func(m *dns.Msg) { m.Question, m.Rcode = nil, 6 }, Foreign},
		{"no question, wrong ID", func(m *dns.Msg) { m.Question, m.Rcode, m.Id = nil, 1, 78 }, Foreign},
	}
	for _, tt := range tests {
		if got := compare(answerTo(t, sent, tt.change), sent); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestRead(t *testing.T) {
	q := Question{Name: dnstest.WireName(t, "example.org"), Type: 1, Class: 1}
	sent := AppendQuery(nil, &q, 1, Form{EDNS: true, Mix: true})
	edns := func(rcode int, codes ...uint16) func(*dns.Msg) {
		return func(m *dns.Msg) {
			m.SetEdns0(1232, false)
			m.Rcode = rcode
			for _, c := range codes {
				m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: c, ExtraText: "why"})
			}
		}
	}
	tests := []struct {
		name               string
		change             func(*dns.Msg)
		final, lacks, edns bool
	}{
		{"NOERROR", edns(0), true, false, true},
		{"NXDOMAIN without OPT", func(m *dns.Msg) { m.Rcode = 3 }, true, false, false},
		{"YXDOMAIN", edns(6), true, false, true},
		{"SERVFAIL", edns(2), false, false, true},
		{"SERVFAIL, bogus", edns(2, 6), true, false, true},
		{"SERVFAIL, network error and expired signature", edns(2, 23, 7), true, false, true},
		{"SERVFAIL, network error", edns(2, 22), false, false, true},
		{"REFUSED", edns(5), false, false, true},
		{"FORMERR with OPT", edns(1), false, false, true},
		{"FORMERR", func(m *dns.Msg) { m.Rcode = 1 }, false, true, false},
		{"NOTIMP", func(m *dns.Msg) { m.Rcode = 4 }, false, true, false},
		{"BADVERS", edns(16), false, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			packed := answerTo(t, sent, tt.change)
			r, err := Read(append(bytes.Clone(packed), "tail"...), &q)
			if err != nil {
				t.Fatal(err)
			}
			if r.Final() != tt.final || r.lacksEDNS() != tt.lacks || r.edns != tt.edns {
				t.Errorf("read %+v, want final %v, lacksEDNS %v, edns %v", r, tt.final, tt.lacks, tt.edns)
			}
			if len(r.Packed) != len(packed) {
				t.Errorf("%d bytes, want %d", len(r.Packed), len(packed))
			}
			if !bytes.HasPrefix(r.Packed[wire.HeaderLen:], q.Name) {
				t.Errorf("the question is not in canonical case: %q", r.Packed)
			}
		})
	}
	cut := answerTo(t, sent, edns(0))
	if _, err := Read(cut[:len(cut)-1], &q); err == nil {
		t.Error("an incomplete message was accepted")
	}
	twice := answerTo(t, sent, func(m *dns.Msg) { edns(0)(m); m.Extra = append(m.Extra, m.Extra[0]) })
	if _, err := Read(twice, &q); err == nil {
		t.Error("a message with two OPT records was accepted")
	}
}

func FuzzAnswer(f *testing.F) {
	q := Question{Name: dnstest.WireName(f, "www.example.org"), Type: 1, Class: 1}
	sent := AppendQuery(nil, &q, 77, Form{EDNS: true})
	f.Add(answerTo(f, sent, nil))
	f.Add(answerTo(f, sent, func(m *dns.Msg) {
		m.SetEdns0(1232, true)
		m.Rcode = 2
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 6, ExtraText: "x"}}
	}))
	f.Add(answerTo(f, sent, func(m *dns.Msg) { m.Question, m.Rcode = nil, 1 }))
	f.Fuzz(func(t *testing.T, msg []byte) {
		var r Reply
		var err error
		switch compare(msg, sent) {
		case Foreign:
			return
		case Bare:
			r = Restore(msg, &q)
		default:
			r, err = Read(bytes.Clone(msg), &q)
		}
		if err != nil {
			return
		}
		if len(r.Packed) > max(len(msg), wire.HeaderLen+len(q.Name)+4) || !bytes.HasPrefix(r.Packed[wire.HeaderLen:], q.Name) {
			t.Fatalf("the message %q became %q, which is too long or has another question", msg, r.Packed)
		}
		walk := wire.ReadRecords(r.Packed)
		var rr wire.Record
		for walk.Next(&rr) {
		}
		if walk.Malformed() || walk.Offset() != len(r.Packed) {
			t.Fatalf("the records of %q are malformed", r.Packed)
		}
		r.Final()
	})
}

func BenchmarkQuery(b *testing.B) {
	q := Question{Name: dnstest.WireName(b, "www.example.org"), Type: 1, Class: 1}
	sent := AppendQuery(nil, &q, 1, Form{EDNS: true, Mix: true})
	msg := answerTo(b, sent, func(m *dns.Msg) {
		rr, _ := dns.NewRR("www.example.org. 300 IN A 192.0.2.1")
		m.Answer = append(m.Answer, rr)
		m.SetEdns0(1232, false)
	})
	var space [maxQuery]byte
	b.ReportAllocs()
	for b.Loop() {
		AppendQuery(space[:0], &q, randomID(), Form{EDNS: true, Mix: true})
		if compare(msg, sent) == Foreign {
			b.Fatal("no answer")
		}
		if _, err := Read(msg, &q); err != nil {
			b.Fatal(err)
		}
	}
}
