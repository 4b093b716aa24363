package upstream

import (
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"rempart/internal/wire"
)

func wireName(t testing.TB, text string) []byte {
	t.Helper()
	name, err := wire.AppendName(nil, text)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestAppendQuery(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 61)+".", 4) + "bcdef"
	tests := []struct {
		name string
		q    Question
		form form
	}{
		{"plain", Question{Name: wireName(t, "www.example.org"), Type: 1, Class: 1}, form{}},
		{"EDNS", Question{Name: wireName(t, "www.example.org"), Type: 28, Class: 1, CD: true}, form{edns: true}},
		{"DO, mixed", Question{Name: wireName(t, "www.example.org"), Type: 1, Class: 1, DO: true}, form{edns: true, mix: true}},
		{"padded", Question{Name: wireName(t, "www.example.org"), Type: 1, Class: 1}, form{edns: true, pad: true}},
		{"the longest", Question{Name: wireName(t, long), Type: 1, Class: 1}, form{edns: true, pad: true, mix: true}},
		{"the root", Question{Name: []byte{0}, Type: 2, Class: 1}, form{edns: true, mix: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			packed := appendQuery(nil, &tt.q, 0xabcd, tt.form)
			m := new(dns.Msg)
			if err := m.Unpack(packed); err != nil {
				t.Fatal(err)
			}
			if m.Id != 0xabcd || !m.RecursionDesired || !m.AuthenticatedData || m.CheckingDisabled != tt.q.CD || len(m.Question) != 1 {
				t.Errorf("header:\n%v", m)
			}
			if got := wireName(t, m.Question[0].Name); !bytes.Equal(got, tt.q.Name) {
				t.Errorf("name %q", got)
			}
			if m.Question[0].Qtype != tt.q.Type || m.Question[0].Qclass != tt.q.Class {
				t.Errorf("question %v", m.Question[0])
			}
			if opt := m.IsEdns0(); (opt != nil) != tt.form.edns {
				t.Errorf("OPT %v", opt)
			} else if opt != nil && (opt.UDPSize() != 1232 || opt.Do() != tt.q.DO || opt.Version() != 0) {
				t.Errorf("OPT %v", opt)
			}
			if tt.form.pad && len(packed)%padBlock != 0 {
				t.Errorf("%d bytes, want a multiple of %d", len(packed), padBlock)
			}
			if len(packed)+2 > maxQuery {
				t.Errorf("%d bytes, more than maxQuery", len(packed))
			}
		})
	}
}

func TestMixCaseVaries(t *testing.T) {
	name := wireName(t, "abcdefghijklmnopqrstuvwxyz.example")
	seen := map[string]bool{}
	for range 50 {
		mixed := bytes.Clone(name)
		mixCase(mixed, randomBits)
		if !bytes.Equal(bytes.ToLower(mixed), name) {
			t.Fatalf("mixCase changed more than the case: %q", mixed)
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
	q := Question{Name: wireName(t, "www.example.org"), Type: 1, Class: 1}
	sent := appendQuery(nil, &q, 77, form{edns: true})
	copy(sent[wire.HeaderLen:], "\x03wWw\x07ExamplE\x03oRg")
	tests := []struct {
		name   string
		change func(*dns.Msg)
		want   match
	}{
		{"the answer", nil, exact},
		{"NXDOMAIN", func(m *dns.Msg) { m.Rcode = 3 }, exact},
		{"lower case", func(m *dns.Msg) { m.Question[0].Name = "www.example.org." }, recased},
		{"wrong ID", func(m *dns.Msg) { m.Id++ }, foreign},
		{"a query", func(m *dns.Msg) { m.Response = false }, foreign},
		{"another opcode", func(m *dns.Msg) { m.Opcode = 4 }, foreign},
		{"another name", func(m *dns.Msg) { m.Question[0].Name = "wWx.ExamplE.oRg." }, foreign},
		{"a longer name", func(m *dns.Msg) { m.Question[0].Name = "a.wWw.ExamplE.oRg." }, foreign},
		{"another type", func(m *dns.Msg) { m.Question[0].Qtype = 28 }, foreign},
		{"another class", func(m *dns.Msg) { m.Question[0].Qclass = 3 }, foreign},
		{"two questions", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, foreign},
		{"no question", func(m *dns.Msg) { m.Question = nil }, foreign},
		{"no question, FORMERR", func(m *dns.Msg) { m.Question, m.Rcode = nil, 1 }, bare},
		{"no question, NXDOMAIN", func(m *dns.Msg) { m.Question, m.Rcode = nil, 3 }, foreign},
		{"no question, YXDOMAIN", func(m *dns.Msg) { m.Question, m.Rcode = nil, 6 }, foreign},
		{"no question, wrong ID", func(m *dns.Msg) { m.Question, m.Rcode, m.Id = nil, 1, 78 }, foreign},
	}
	for _, tt := range tests {
		if got := compare(answerTo(t, sent, tt.change), sent); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestRead(t *testing.T) {
	q := Question{Name: wireName(t, "example.org"), Type: 1, Class: 1}
	sent := appendQuery(nil, &q, 1, form{edns: true, mix: true})
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
			r, err := read(append(bytes.Clone(packed), "tail"...), &q)
			if err != nil {
				t.Fatal(err)
			}
			if r.final() != tt.final || r.lacksEDNS() != tt.lacks || r.edns != tt.edns {
				t.Errorf("read %+v, want final %v, lacksEDNS %v, edns %v", r, tt.final, tt.lacks, tt.edns)
			}
			if len(r.packed) != len(packed) {
				t.Errorf("%d bytes, want %d", len(r.packed), len(packed))
			}
			if !bytes.HasPrefix(r.packed[wire.HeaderLen:], q.Name) {
				t.Errorf("the question is not in canonical case: %q", r.packed)
			}
		})
	}
	cut := answerTo(t, sent, edns(0))
	if _, err := read(cut[:len(cut)-1], &q); err == nil {
		t.Error("an incomplete message was accepted")
	}
	twice := answerTo(t, sent, func(m *dns.Msg) { edns(0)(m); m.Extra = append(m.Extra, m.Extra[0]) })
	if _, err := read(twice, &q); err == nil {
		t.Error("a message with two OPT records was accepted")
	}
}

func FuzzAnswer(f *testing.F) {
	q := Question{Name: wireName(f, "www.example.org"), Type: 1, Class: 1}
	sent := appendQuery(nil, &q, 77, form{edns: true})
	f.Add(answerTo(f, sent, nil))
	f.Add(answerTo(f, sent, func(m *dns.Msg) {
		m.SetEdns0(1232, true)
		m.Rcode = 2
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 6, ExtraText: "x"}}
	}))
	f.Add(answerTo(f, sent, func(m *dns.Msg) { m.Question, m.Rcode = nil, 1 }))
	f.Fuzz(func(t *testing.T, msg []byte) {
		var r reply
		var err error
		switch compare(msg, sent) {
		case foreign:
			return
		case bare:
			r = restore(msg, &q)
		default:
			r, err = read(bytes.Clone(msg), &q)
		}
		if err != nil {
			return
		}
		if len(r.packed) > max(len(msg), wire.HeaderLen+len(q.Name)+4) || !bytes.HasPrefix(r.packed[wire.HeaderLen:], q.Name) {
			t.Fatalf("the message %q became %q, which is too long or has another question", msg, r.packed)
		}
		walk := wire.ReadRecords(r.packed)
		var rr wire.Record
		for walk.Next(&rr) {
		}
		if walk.Malformed() || walk.Offset() != len(r.packed) {
			t.Fatalf("the records of %q are malformed", r.packed)
		}
		r.final()
		hasText(r.packed, "identity", wire.ClassCH)
	})
}

func BenchmarkQuery(b *testing.B) {
	q := Question{Name: wireName(b, "www.example.org"), Type: 1, Class: 1}
	sent := appendQuery(nil, &q, 1, form{edns: true, mix: true})
	msg := answerTo(b, sent, func(m *dns.Msg) {
		rr, _ := dns.NewRR("www.example.org. 300 IN A 192.0.2.1")
		m.Answer = append(m.Answer, rr)
		m.SetEdns0(1232, false)
	})
	var space [maxQuery]byte
	b.ReportAllocs()
	for b.Loop() {
		appendQuery(space[:0], &q, randomID(), form{edns: true, mix: true})
		if compare(msg, sent) == foreign {
			b.Fatal("no answer")
		}
		if _, err := read(msg, &q); err != nil {
			b.Fatal(err)
		}
	}
}
