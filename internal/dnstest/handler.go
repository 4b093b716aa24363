package dnstest

import (
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Query is a query that an Upstream received.
type Query struct {
	Msg     *dns.Msg // must not be changed
	Size    int      // bytes of the packed query
	Network string   // "udp", "tcp", "tls", "https" or "quic"
	Resumed bool     // the TLS session of its connection continues an earlier one (RFC 8446 section 2.2)
	At      time.Time

	send  func([]byte)
	write func(pause time.Duration, pieces ...[]byte) // nil over UDP
	end   func()                                      // nil over UDP
	alter []func(*dns.Msg)
}

// Handler handles a query. It may call q.Send once, several times, later, or never. Each call of a Handler runs in a goroutine of its own, which must end before
// the test ends.
type Handler func(q *Query)

// Send sends m as an answer to q. It ignores errors of the connection, and panics if m cannot be packed.
func (q *Query) Send(m *dns.Msg) {
	for i := len(q.alter) - 1; i >= 0; i-- {
		q.alter[i](m)
	}
	packed, err := m.Pack()
	if err != nil {
		panic(err)
	}
	q.send(packed)
}

// SendRaw sends b unchanged. Over a stream, the length of b is sent first.
func (q *Query) SendRaw(b []byte) { q.send(b) }

// Write sends bytes over a stream without a length before them, in pieces, with a pause after each piece. No other message is sent between them.
// Over UDP it does nothing.
func (q *Query) Write(pause time.Duration, pieces ...[]byte) {
	if q.write != nil {
		q.write(pause, pieces...)
	}
}

// Close closes the connection over which q was received. Over UDP it does nothing.
func (q *Query) Close() {
	if q.end != nil {
		q.end()
	}
}

// Reply returns an answer to q without records. RA is set, and the answer has an OPT if and only if q has one.
func (q *Query) Reply(rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(q.Msg, rcode)
	m.RecursionAvailable = true
	if opt := q.Msg.IsEdns0(); opt != nil {
		m.SetEdns0(1232, opt.Do())
	}
	return m
}

// Answer answers with records in zone-file format. The owner "@" stands for the name in the question, in the case of the query. Answer panics if a record is
// invalid.
func Answer(records ...string) Handler {
	return func(q *Query) {
		m := q.Reply(dns.RcodeSuccess)
		for _, text := range records {
			rr, err := dns.NewRR("$ORIGIN .\n" + strings.Replace(text, "@", "owner.test.", 1))
			if err != nil {
				panic(err)
			}
			if strings.HasPrefix(text, "@") && len(q.Msg.Question) > 0 {
				rr.Header().Name = q.Msg.Question[0].Name
			}
			m.Answer = append(m.Answer, rr)
		}
		q.Send(m)
	}
}

// Rcode answers with rcode, without records, and with one extended DNS error for each code in ede.
func Rcode(rcode int, ede ...uint16) Handler {
	return func(q *Query) {
		m := q.Reply(rcode)
		if opt := m.IsEdns0(); opt != nil {
			for _, code := range ede {
				opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: code})
			}
		}
		q.Send(m)
	}
}

// Drop sends no answer.
func Drop() Handler { return func(*Query) {} }

// Close closes the connection without an answer. Over UDP it sends no answer.
func Close() Handler { return (*Query).Close }

// Delay waits for d, then calls h.
func Delay(d time.Duration, h Handler) Handler {
	return func(q *Query) {
		time.Sleep(d)
		h(q)
	}
}

// Alter calls h, and applies change to every message before it is sent.
func Alter(h Handler, change func(*dns.Msg)) Handler {
	return func(q *Query) {
		altered := *q
		altered.alter = append(q.alter[:len(q.alter):len(q.alter)], change)
		h(&altered)
	}
}

// Truncate answers over UDP with TC and without records. Over other networks it calls h.
func Truncate(h Handler) Handler {
	return func(q *Query) {
		if q.Network != "udp" {
			h(q)
			return
		}
		m := q.Reply(dns.RcodeSuccess)
		m.Truncated = true
		q.Send(m)
	}
}

// NoEDNS answers a query with an OPT by FORMERR without an OPT (RFC 6891 section 7). For other queries it calls h.
func NoEDNS(h Handler) Handler {
	return func(q *Query) {
		if q.Msg.IsEdns0() == nil {
			h(q)
			return
		}
		q.Send(new(dns.Msg).SetRcode(q.Msg, dns.RcodeFormatError))
	}
}

// LowerCase calls h, and changes the question in the answer to lower case.
func LowerCase(h Handler) Handler {
	return Alter(h, func(m *dns.Msg) {
		for i := range m.Question {
			m.Question[i].Name = strings.ToLower(m.Question[i].Name)
		}
	})
}

// Spoof first sends the answers of an attacker who cannot see the query: one with a wrong ID, one for another name, one for another type. Then it calls h.
func Spoof(h Handler) Handler {
	return func(q *Query) {
		forge := func(change func(*dns.Msg)) {
			m := q.Reply(dns.RcodeNameError)
			change(m)
			plain := *q
			plain.alter = nil
			plain.Send(m)
		}
		forge(func(m *dns.Msg) { m.Id++ })
		forge(func(m *dns.Msg) { m.Question[0].Name = "forged." + m.Question[0].Name })
		forge(func(m *dns.Msg) { m.Question[0].Qtype++ })
		h(q)
	}
}
