package rpz

import (
	"context"
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

// request is a decoded query with its sender.
type request struct {
	packed []byte
	msg    dns.Msg
	from   netip.Addr
	stream bool
	key    *key   // that signed it; nil for none
	mac    []byte // its signature
	zone   *zone
}

// send sends one message of an answer. The bytes are borrowed.
type send func(msg []byte) error

// answer answers one query, in one message or more. If the client may ask, it first calls markKnown. An error means that sending failed, or that no further query
// should be answered.
func (s *Server) answer(ctx context.Context, packed []byte, from netip.Addr, stream bool, markKnown func(), send send) (authentic bool, err error) {
	if len(packed) < headerLen || packed[2]&0x80 != 0 {
		return false, errNotAQuery // answering an answer would never end
	}
	r := &request{packed: packed, from: from, stream: stream}
	if r.msg.Unpack(packed) != nil || len(r.msg.Question) != 1 && r.msg.Opcode == dns.OpcodeQuery {
		return false, s.refuse(r, dns.RcodeFormatError, refusedMalformed, send)
	}
	if r.msg.Opcode != dns.OpcodeQuery {
		return false, s.refuse(r, dns.RcodeNotImplemented, refusedMalformed, send)
	}
	if questionEnd(packed) == 0 || misplacedTSIG(&r.msg) {
		return false, s.refuse(r, dns.RcodeFormatError, refusedMalformed, send)
	}
	if t := r.msg.IsTsig(); t != nil {
		if tsigError, why := s.authenticate(r, t); tsigError != dns.RcodeSuccess {
			s.metrics.refused[why].Add(1)
			m := newMessage(packed, nil, dns.RcodeNotAuth)
			return false, send(refuse(m.buf, t, s.keys[string(wireName(t.Hdr.Name))], r.mac, uint16(tsigError)))
		}
	} else if !s.keyless(from) {
		return false, s.refuse(r, dns.RcodeRefused, refusedNoKey, send)
	}
	markKnown()
	return true, s.serve(ctx, r, send)
}

// misplacedTSIG reports whether a signature is where none may be (RFC 8945 section 5.1).
func misplacedTSIG(m *dns.Msg) bool {
	is := func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeTSIG }
	return slices.ContainsFunc(m.Answer, is) || slices.ContainsFunc(m.Ns, is) ||
		len(m.Extra) > 0 && slices.ContainsFunc(m.Extra[:len(m.Extra)-1], is)
}

// authenticate checks the signature of a query (RFC 8945 section 5.2).
func (s *Server) authenticate(r *request, t *dns.TSIG) (tsigError int, why refusal) {
	k := s.keys[string(wireName(t.Hdr.Name))]
	if k == nil || string(wireName(t.Algorithm)) != string(k.algorithm) {
		return dns.RcodeBadKey, refusedBadKey
	}
	tsigError, r.mac = k.verify(slices.Clone(r.packed), t, nil)
	switch tsigError {
	case dns.RcodeBadTime:
		return tsigError, refusedBadTime
	case dns.RcodeBadSig:
		return tsigError, refusedBadSignature
	}
	r.key = k
	return dns.RcodeSuccess, 0
}

func (s *Server) keyless(from netip.Addr) bool {
	from = from.Unmap().WithZone("")
	return slices.ContainsFunc(s.cfg.Keyless, func(p netip.Prefix) bool { return p.Contains(from) })
}

// refuse answers with an rcode only.
func (s *Server) refuse(r *request, rcode int, why refusal, send send) error {
	s.metrics.refused[why].Add(1)
	m := newMessage(r.packed, r.zone, rcode)
	if opt := r.msg.IsEdns0(); opt != nil {
		m.opt(rcode)
	}
	return send(r.signer().sign(m.buf))
}

func (r *request) signer() *signer { return &signer{key: r.key, prior: r.mac} }

// serve answers a client that may ask.
func (s *Server) serve(ctx context.Context, r *request, send send) error {
	q := r.msg.Question[0]
	if opt := r.msg.IsEdns0(); opt != nil && opt.Version() != 0 {
		return s.refuse(r, dns.RcodeBadVers, refusedMalformed, send)
	}
	r.zone = s.zoneOf(wireName(q.Name))
	switch {
	case r.zone == nil || q.Qclass != dns.ClassINET:
		return s.refuse(r, dns.RcodeNotAuth, refusedUnknownZone, send)
	case r.key != nil && r.zone.keys != nil && !r.zone.keys[r.key]:
		return s.refuse(r, dns.RcodeRefused, refusedBadKey, send)
	}
	st := s.state.Load()
	if st == nil { // the set is being surveyed for the first time
		return s.refuse(r, dns.RcodeServerFailure, refusedNotReady, send)
	}
	switch {
	case q.Qtype == dns.TypeSOA || q.Qtype == dns.TypeIXFR && !r.stream: // RFC 1995 section 2: an answer that does not fit is asked for over TCP
		m := newMessage(r.packed, r.zone, dns.RcodeSuccess)
		m.soa(st.serial())
		return send(r.finish(m))
	case q.Qtype == dns.TypeNS:
		m := newMessage(r.packed, r.zone, dns.RcodeSuccess)
		m.ns()
		return send(r.finish(m))
	case q.Qtype == dns.TypeAXFR && r.stream, q.Qtype == dns.TypeIXFR:
		return s.transfer(ctx, r, st, send)
	}
	return s.refuse(r, dns.RcodeRefused, refusedQuestion, send)
}

// finish completes the only message of an answer.
func (r *request) finish(m *message) []byte {
	if r.msg.IsEdns0() != nil {
		m.opt(dns.RcodeSuccess)
	}
	out := r.signer().sign(m.buf)
	if !r.stream && len(out) > r.most() {
		m.reset()
		m.buf[2] |= 0x02 // TC
		return r.signer().sign(m.buf)
	}
	return out
}

// most returns the number of bytes that the client accepts over UDP.
func (r *request) most() int {
	if opt := r.msg.IsEdns0(); opt != nil {
		return min(ednsSize, max(dns.MinMsgSize, int(opt.UDPSize())))
	}
	return dns.MinMsgSize
}
