package resolver

import (
	"encoding/hex"

	"github.com/miekg/dns"

	"rempart/internal/wire"
)

// understand decodes completely what Parse does not understand: a query with further additional records next to its OPT. It answers malformed and signed
// queries, and reports whether q may continue as a common query.
func (r *Resolver) understand(q *wire.Query) bool {
	var m dns.Msg
	if err := m.Unpack(q.Packet); err != nil {
		q.Fail(wire.FormErr)
		return false
	}
	for i, rr := range m.Extra {
		t, ok := rr.(*dns.TSIG)
		switch {
		case !ok:
			continue
		case i < len(m.Extra)-1, t.Algorithm == "": // RFC 8945 section 5.1: the last record; section 5.2: it has data
			q.Fail(wire.FormErr)
		default:
			r.refuseSignature(q, &m, t)
		}
		return false
	}
	return true // records without a meaning here, or SIG(0), which nobody asked us to check
}

// refuseSignature answers a query that is signed with a key that we do not have: we have none (RFC 8945 section 5.2.1).
func (r *Resolver) refuseSignature(q *wire.Query, m *dns.Msg, t *dns.TSIG) {
	a := new(dns.Msg)
	a.SetRcode(m, dns.RcodeNotAuth)
	a.RecursionAvailable = true
	if opt := m.IsEdns0(); opt != nil {
		a.SetEdns0(wire.UDPLimit, opt.Do())
		if cookie := q.AnswerCookie(); cookie != nil {
			own := a.IsEdns0()
			own.Option = append(own.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hex.EncodeToString(cookie)})
		}
	}
	a.Extra = append(a.Extra, &dns.TSIG{
		Hdr:       dns.RR_Header{Name: t.Hdr.Name, Rrtype: dns.TypeTSIG, Class: dns.ClassANY},
		Algorithm: t.Algorithm, TimeSigned: t.TimeSigned, Fudge: t.Fudge, OrigId: t.OrigId, Error: dns.RcodeBadKey,
	})
	packed, err := a.PackBuffer(q.Out[:0])
	if err != nil || len(packed) > q.Limit() {
		q.Fail(wire.NotAuth)
		return
	}
	q.Out, q.Outcome, q.Rcode = packed, wire.Answered, dns.RcodeNotAuth
}
