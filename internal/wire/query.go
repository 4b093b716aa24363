package wire

import (
	"encoding/binary"
	"net/netip"
)

// UDPLimit is the largest UDP answer that is sent and the size that is advertised: it crosses every IPv6 link whole (RFC 9715; the value of the DNS flag day
// 2020).
const UDPLimit = 1232

// MinUDP is the size that a client without EDNS accepts (RFC 1035 section 4.2.1).
const MinUDP = 512

// MaxMessage is the largest message of a stream transport (RFC 1035 section 4.2.2).
const MaxMessage = 65535

// EDNS option codes that Rempart knows (RFC 6891 section 9).
const (
	OptionECS       uint16 = 8
	OptionCookie    uint16 = 10
	OptionKeepalive uint16 = 11
	OptionPadding   uint16 = 12
	OptionEDE       uint16 = 15
)

// Lengths of the parts of an OPT, in bytes.
const (
	OPTLen    = 11 // an OPT without options: root owner, type, class, TTL and data length
	OptionLen = 4  // the code and length before an option's value
)

// Transport is the transport of a query.
type Transport uint8

const (
	UDP Transport = iota
	TCP
	TLS        // RFC 7858
	HTTPS      // RFC 8484, over HTTP/2 or HTTP/3
	QUIC       // RFC 9250
	Transports // the number of transports
)

func (t Transport) String() string {
	return [...]string{"udp", "tcp", "tls", "https", "quic"}[t]
}

// Outcome is the result of a step for a query.
type Outcome uint8

const (
	Pending  Outcome = iota // not decided yet
	Answered                // Out holds the answer
	Slow                    // to be continued on the slow path
	Dropped                 // no answer: it was no query
)

// Query is one query with its answer, its source and its outcome. The receiver owns it, and reuses it; nothing keeps a reference after its answer was sent. One
// goroutine at a time uses it.
type Query struct {
	// Set by the listener.
	Packet    []byte     // as received
	Out       []byte     // the answer; its capacity is reused
	Client    netip.Addr // the client's address: never logged, never stored
	Local     netip.Addr // the address that the query was sent to; not valid if the system does not report it
	Transport Transport
	Idle      uint16   // of a stream: how long it may stay idle, in units of 100 ms
	Return    Returner // takes the query back if it is answered after its batch

	// Set by the resolver.
	Outcome  Outcome
	Rcode    int    // of the answer, extended bits included
	Cached   bool   // answered from the cache
	Renew    bool   // answered from the cache, and worth renewing there
	Verdict  uint8  // the blocklist's action for it, for the metrics
	Entry    uint64 // the number of the entry behind the verdict, for the metrics; valid if Verdict is a block
	GrantEnd int64  // when the grant ends that lets it pass, in seconds of the resolver's clock; 0: it needs none
	Asked    int64  // when Fast first saw it, in nanoseconds of the resolver's clock

	// Set by Parse.
	Shape      Shape
	Type       uint16
	Class      uint16
	Opcode     uint8
	Flags      uint16 // of the header
	EDNS       bool   // it had an OPT
	DO         bool   // DNSSEC answer OK (RFC 3225)
	Version    uint8  // of EDNS
	Structured bool   // the client supports structured DNS errors
	Keepalive  bool   // it sent an edns-tcp-keepalive option (RFC 7828)
	Padding    bool   // it sent a Padding option (RFC 7830)
	Cookie     Cookie // what is known of its DNS cookies; ServeCookie changes it
	serves     bool   // the answer has a COOKIE option
	Size       uint16 // largest UDP payload that it accepts; MinUDP without EDNS
	BodyAt     int    // offset after the question; HeaderLen if none could be read
	nameLen    int
	cookieAt   uint16       // offset of the client cookie
	cookieLen  uint8        // of client and server cookie together
	server     ServerCookie // of the answer
	name       [MaxName]byte
}

// Plain returns an address as queries hold addresses: IPv4 is not mapped into IPv6, and there is no zone.
func Plain(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// SocketAddr returns the plain address and port of a TCP or UDP socket, a *net.TCPAddr or *net.UDPAddr; not valid for another kind.
func SocketAddr(a any) netip.AddrPort {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return Plain(a.AddrPort())
	}
	return netip.AddrPort{}
}

// Returner takes back queries that were answered after their batch, together with their answers. It is safe for concurrent use. It may wait for
// room in the send buffer of a socket.
type Returner interface{ Return(answered []*Query) }

// Name returns the question's name in canonical form, valid until the query is reused.
func (q *Query) Name() []byte { return q.name[:q.nameLen] }

// Has reports whether a header flag is set in the query.
func (q *Query) Has(flag uint16) bool { return q.Flags&flag != 0 }

// Shape is the result of Parse.
type Shape uint8

const (
	Common     Shape = iota // one question of class IN or CH, at most an OPT: everything is known
	Uncommon                // sound so far, but with records that need the complete decoder
	NotAQuery               // too short, or an answer: never to be answered (RFC 8906 section 2)
	BadFormat               // FORMERR
	BadOpcode               // NOTIMP
	BadEDNS                 // BADVERS (RFC 6891 section 6.1.3)
	CookieOnly              // no question, but a COOKIE option: the client asks for a server cookie (RFC 7873 section 5.4)
)

// Parse reads the facts of q.Packet into q. structured is the code of the empty EDNS option by which clients ask for structured DNS errors; an EDE option asks for
// them too. If structured is 0, nothing does. Parse allocates nothing. The complete decoder reads every message that Parse calls Common with equal facts. The shape is also stored in q.Shape.
func (q *Query) Parse(structured uint16) Shape {
	q.Shape = q.parse(structured)
	return q.Shape
}

func (q *Query) parse(structured uint16) Shape {
	q.Outcome, q.Rcode, q.Cached, q.Renew, q.Verdict, q.GrantEnd = Pending, 0, false, false, 0, 0
	q.Type, q.Class, q.nameLen, q.BodyAt = 0, 0, 0, HeaderLen
	q.EDNS, q.DO, q.Structured, q.Keepalive, q.Padding, q.Version, q.Size = false, false, false, false, false, 0, MinUDP
	q.Cookie, q.serves = NoCookie, false
	msg := q.Packet
	if len(msg) < HeaderLen {
		return NotAQuery
	}
	q.Flags = Flags(msg)
	if q.Has(FlagQR) {
		return NotAQuery
	}
	q.Opcode = uint8(q.Flags & opcodeMask >> opcodeShift)
	if q.Opcode != 0 {
		q.parseAdditional(structured) // only to know whether there is an OPT
		return BadOpcode
	}
	// RFC 9619: a query has one question. It has no answer and no authority records, except an SOA for IXFR (RFC 1995 section 3).
	questions := Count(msg, SectionQuestion)
	if questions != 1 || !q.parseQuestion() || Count(msg, SectionAnswer) != 0 || Count(msg, SectionAuthority) != 0 && q.Type != TypeIXFR {
		if shape := q.parseAdditional(structured); shape == Common && q.Cookie != NoCookie && questions+Count(msg, SectionAnswer)+Count(msg, SectionAuthority) == 0 {
			return CookieOnly
		}
		return BadFormat
	}
	if Count(msg, SectionAdditional)+Count(msg, SectionAuthority) == 0 {
		if q.BodyAt != len(msg) {
			return BadFormat
		}
		return Common
	}
	if rr := msg[q.BodyAt:]; Count(msg, SectionAdditional) == 1 && Count(msg, SectionAuthority) == 0 && len(rr) >= OPTLen && rr[0] == 0 && binary.BigEndian.Uint16(rr[1:]) == TypeOPT &&
		int(binary.BigEndian.Uint16(rr[OPTLen-2:])) == len(rr)-OPTLen {
		// An OPT and nothing else, as in nearly all queries.
		if !q.parseOPT(binary.BigEndian.Uint16(rr[3:]), binary.BigEndian.Uint32(rr[5:]), q.BodyAt+OPTLen, len(msg), structured) {
			return BadFormat
		}
		if q.Version != 0 {
			return BadEDNS
		}
		return Common
	}
	return q.parseAdditional(structured)
}

// parseQuestion reads the only question: canonical name, type, class and BodyAt.
func (q *Query) parseQuestion() bool {
	msg := q.Packet
	off := HeaderLen
	for {
		if off >= len(msg) {
			return false
		}
		n := int(msg[off])
		// A pointer here could only point into the header: no question is compressed.
		if n > MaxLabel || off-HeaderLen+1+n > MaxName {
			return false
		}
		off += 1 + n
		if n == 0 {
			break
		}
	}
	if off+questionTail > len(msg) {
		return false
	}
	q.nameLen = off - HeaderLen
	lowerName(q.name[:q.nameLen], msg[HeaderLen:off])
	q.Type = binary.BigEndian.Uint16(msg[off:])
	q.Class = binary.BigEndian.Uint16(msg[off+2:])
	q.BodyAt = off + questionTail
	return true
}

// parseAdditional reads the records after the question; a query has an OPT or none.
func (q *Query) parseAdditional(structured uint16) Shape {
	r := ReadRecords(q.Packet)
	shape := Common
	var rr Record
	for r.Next(&rr) {
		switch {
		case rr.Type != TypeOPT:
			if shape == Common {
				shape = Uncommon // TSIG, SIG(0), or a record without a meaning here
			}
		case q.EDNS || rr.Section != SectionAdditional || q.Packet[rr.Name] != 0:
			q.EDNS = true
			shape = BadFormat // a second one, a misplaced one, or not at the root (RFC 6891 section 6.1.1)
		case !q.parseOPT(rr.Class, rr.TTL, rr.Data, rr.End, structured):
			shape = BadFormat
		}
	}
	if r.Malformed() || r.Offset() != len(q.Packet) {
		return BadFormat
	}
	if shape != BadFormat && q.Version != 0 {
		return BadEDNS
	}
	return shape
}

// parseOPT reads an OPT by its class, its TTL and the place of its data in the packet (RFC 6891 section 6.1.3); false if its options are broken.
func (q *Query) parseOPT(class uint16, ttl uint32, from, to int, structured uint16) bool {
	q.EDNS = true
	q.DO = ttl&(1<<15) != 0
	q.Version = uint8(ttl >> 16)
	q.Size = max(class, MinUDP) // RFC 6891 section 6.2.3: below 512 is 512
	return q.parseOptions(from, to, structured)
}

// parseOptions walks the options in a part of the packet; false if their framing or the cookie is broken. The content of an option without an effect is not judged.
func (q *Query) parseOptions(from, to int, structured uint16) bool {
	for from < to {
		code, value, rest, ok := NextOption(q.Packet[from:to])
		if !ok {
			return false
		}
		switch {
		case code == OptionCookie && q.Cookie == NoCookie: // RFC 7873 section 5.2: only the first one is read
			if !q.parseCookie(from+OptionLen, len(value)) {
				return false
			}
		case code == OptionKeepalive:
			q.Keepalive = true
		case code == OptionPadding:
			q.Padding = true
		case code == structured && len(value) == 0 && structured != 0, code == OptionEDE && asksForStructured(value) && structured != 0:
			q.Structured = true
		}
		from = to - len(rest)
	}
	return true
}

// asksForStructured reports whether the value of an EDE option in a query asks for structured errors: info code 0 (Chromium, AdGuard and
// draft-ietf-dnsop-structured-dns-error-09) or 15, without EXTRA-TEXT. Any other value has no effect, because it may come from a forwarder that copies the error
// of an answer into its next query: these errors have a text or another code.
func asksForStructured(value []byte) bool {
	return len(value) == 2 && value[0] == 0 && (value[1] == byte(EDEOther) || value[1] == byte(EDEBlocked))
}

// NextOption reads the EDNS option at the start of an OPT's data (RFC 6891 section 6.1.2): its code, its value and the rest. ok is false if there is no whole
// option.
func NextOption(data []byte) (code uint16, value, rest []byte, ok bool) {
	if len(data) < OptionLen {
		return 0, nil, nil, false
	}
	end := OptionLen + int(binary.BigEndian.Uint16(data[2:]))
	if end > len(data) {
		return 0, nil, nil, false
	}
	return binary.BigEndian.Uint16(data), data[OptionLen:end], data[end:], true
}

// Limit returns the size of the largest answer to this client, in bytes.
func (q *Query) Limit() int {
	if q.Transport != UDP {
		return MaxMessage
	}
	return min(int(q.Size), UDPLimit)
}
