package wire

import (
	"testing"

	"github.com/miekg/dns"
)

// TestPadding checks which answers are padded, and to which length (RFC 7830, RFC 8467 section 4.1, RFC 9250 section 5.4).
func TestPadding(t *testing.T) {
	for _, tt := range []struct {
		transport Transport
		asks      bool // the query has a Padding option
		want      bool
	}{
		{UDP, true, false}, {TCP, true, false}, {TLS, true, true}, {TLS, false, false}, {HTTPS, true, true}, {HTTPS, false, false}, {QUIC, true, true}, {QUIC, false, true},
	} {
		for _, text := range []string{"", string(make([]byte, 500)), string(make([]byte, 460))} {
			q := Query{Transport: tt.transport}
			q.Packet = packed(t, func(m *dns.Msg) {
				o := opt(false)
				if tt.asks {
					o.Option = append(o.Option, &dns.EDNS0_PADDING{Padding: make([]byte, 20)})
				}
				m.Extra = []dns.RR{o}
			})
			if q.Parse(signal) != Common {
				t.Fatal("the query is not common")
			}
			q.Begin(Success)
			q.Finish(Success, EDE{Code: EDEBlocked, Text: text})
			m := new(dns.Msg)
			if err := m.Unpack(q.Out); err != nil {
				t.Fatalf("%v: %v", tt, err)
			}
			options := m.IsEdns0().Option
			_, padded := options[len(options)-1].(*dns.EDNS0_PADDING)
			if padded != tt.want || tt.want && len(q.Out)%468 != 0 {
				t.Errorf("%+v: an answer of %d bytes, padded %v", tt, len(q.Out), padded)
			}
		}
	}
}

// TestLargestAnswerIsNotPaddedBeyondItsLimit pads an answer that nearly has the largest size.
func TestLargestAnswerIsNotPaddedBeyondItsLimit(t *testing.T) {
	for room := range 12 {
		q := Query{Transport: QUIC, Packet: packed(t, func(m *dns.Msg) { m.Extra = []dns.RR{opt(false)} })}
		q.Parse(signal)
		q.Begin(Success)
		q.AddData(SectionAnswer, TypeHINFO, 0, make([]byte, MaxMessage-len(q.Out)-12-OPTLen-room))
		q.Finish(Success)
		if len(q.Out) > MaxMessage || len(q.Out) < MaxMessage-room {
			t.Errorf("with %d bytes left, the answer has %d bytes", room, len(q.Out))
		}
	}
}
