package dnstest

import (
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Query is one query an Upstream got.
type Query struct {
	Msg     *dns.Msg // not to be changed
	Size    int      // octets it came in
	Network string   // "udp", "tcp" or "tls"
	At      time.Time

	send  func([]byte)
	write func(pause time.Duration, pieces ...[]byte) // nil over UDP
	end   func()                                      // nil over UDP
	alter []func(*dns.Msg)
}

// Handler decides what becomes of a query: answered with Send once, several times, later, or
// never. It runs in a goroutine of its own, which ends with the test at the latest.
type Handler func(q *Query)

// Send sends m as an answer to q. That the client is gone is no error; a message that cannot
// be packed panics.
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

// SendRaw sends octets as they are; over a stream, framed as one message.
func (q *Query) SendRaw(b []byte) { q.send(b) }

// Write sends bytes over a stream without a length before them, in pieces, with a pause after each piece. No other message is sent between them.
// Over UDP it does nothing.
func (q *Query) Write(pause time.Duration, pieces ...[]byte) {
	if q.write != nil {
		q.write(pause, pieces...)
	}
}

// Close closes the connection q came over; over UDP it does nothing.
func (q *Query) Close() {
	if q.end != nil {
		q.end()
	}
}

// Reply is an answer to q without records: with an OPT exactly when q has one, RA set.
func (q *Query) Reply(rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(q.Msg, rcode)
	m.RecursionAvailable = true
	if opt := q.Msg.IsEdns0(); opt != nil {
		m.SetEdns0(1232, opt.Do())
	}
	return m
}

// Answer answers with records in zone-file form, in which the owner "@" is the question's name
// as it came. It panics if one cannot be read.
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

// Rcode answers with rcode and no records, and with extended DNS errors of the codes given.
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

// Drop answers nothing.
func Drop() Handler { return func(*Query) {} }

// Close closes the connection without an answer; over UDP it answers nothing.
func Close() Handler { return (*Query).Close }

// Delay waits for d, then does as h.
func Delay(d time.Duration, h Handler) Handler {
	return func(q *Query) {
		time.Sleep(d)
		h(q)
	}
}

// Alter does as h, with every message changed by change before it is sent.
func Alter(h Handler, change func(*dns.Msg)) Handler {
	return func(q *Query) {
		altered := *q
		altered.alter = append(q.alter[:len(q.alter):len(q.alter)], change)
		h(&altered)
	}
}

// Truncate answers over UDP with TC and no records, otherwise as h.
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

// NoEDNS answers FORMERR without OPT to a query that has one (RFC 6891 section 7), otherwise as h.
func NoEDNS(h Handler) Handler {
	return func(q *Query) {
		if q.Msg.IsEdns0() == nil {
			h(q)
			return
		}
		q.Send(new(dns.Msg).SetRcode(q.Msg, dns.RcodeFormatError))
	}
}

// LowerCase does as h, but with the question in lower case however it was asked.
func LowerCase(h Handler) Handler {
	return Alter(h, func(m *dns.Msg) {
		for i := range m.Question {
			m.Question[i].Name = strings.ToLower(m.Question[i].Name)
		}
	})
}

// Spoof sends, before h answers, the answers an attacker would who cannot see the query: with
// the wrong ID, for another name, and for another type.
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
