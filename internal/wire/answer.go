package wire

import (
	"encoding/binary"
	"net/netip"
	"unicode/utf8"
)

// EDE is an extended DNS error (RFC 8914).
type EDE struct {
	Code uint16
	Text string // EXTRA-TEXT, UTF-8; may be empty
}

// Info codes of RFC 8914 section 4 that Rempart uses.
const (
	EDEOther         uint16 = 0
	EDEStale         uint16 = 3
	EDEForged        uint16 = 4
	EDEBlocked       uint16 = 15 // Mark 0; 16 Censored follows
	EDEFiltered      uint16 = 17 // Mark 2
	EDEProhibited    uint16 = 18
	EDEStaleNXDomain uint16 = 19
	EDENotAuthority  uint16 = 20
	EDENoReachable   uint16 = 22
	EDENetworkError  uint16 = 23
	EDEInvalidData   uint16 = 24

	edeFixedLen        = OptionLen + 2
	keepaliveOptionLen = OptionLen + 2

	// paddedTo divides the length of a padded answer (RFC 8467 section 4.1).
	paddedTo = 468
)

// DNSSEC reports whether the error says that DNSSEC validation failed: unsupported algorithm or digest, bogus, or missing signatures and keys (RFC 8914 section
// 4).
func (e EDE) DNSSEC() bool { return e.Code == 1 || e.Code == 2 || 5 <= e.Code && e.Code <= 12 }

// ReadEDE reads an extended error from the value of its option. The text is cut before the first character that does not fit in maxText bytes; text that is not
// UTF-8 (RFC 8914 section 2) is left out.
func ReadEDE(value []byte, maxText int) (e EDE, ok bool) {
	if len(value) < 2 {
		return EDE{}, false
	}
	text := value[2:]
	if len(text) > maxText {
		for maxText > 0 && !utf8.RuneStart(text[maxText]) {
			maxText--
		}
		text = text[:maxText]
	}
	if !utf8.Valid(text) {
		text = nil
	}
	return EDE{Code: binary.BigEndian.Uint16(value), Text: string(text)}, true
}

// Begin starts the answer in q.Out: the header with the query's ID, opcode, RD and CD, RA set, the low bits of the rcode, and the question as received, in its
// case (RFC 1035 section 4.1.1; RFC 4035 section 3.2.2 for CD). A question that could not be read is left out.
func (q *Query) Begin(rcode int) {
	q.Out = append(q.Out[:0], q.Packet[:q.BodyAt]...)
	flags := q.Flags&(opcodeMask|FlagRD|FlagCD) | FlagQR | FlagRA | uint16(rcode)&rcodeMask
	SetFlags(q.Out, flags)
	questions := 0
	if q.BodyAt > HeaderLen {
		questions = 1
	}
	SetCount(q.Out, SectionQuestion, questions)
	SetCount(q.Out, SectionAnswer, 0)
	SetCount(q.Out, SectionAuthority, 0)
	SetCount(q.Out, SectionAdditional, 0)
	q.Outcome = Answered
}

// OwnerPointer is a compression pointer to the question's name (RFC 1035 section 4.1.4).
const OwnerPointer = "\xc0\x0c"

// addHeader appends the fixed part of a record of the question's name and counts it.
func (q *Query) addHeader(section int, typ uint16, ttl uint32, dataLen int) {
	q.Out = append(q.Out, OwnerPointer...)
	q.Out = binary.BigEndian.AppendUint16(q.Out, typ)
	q.Out = binary.BigEndian.AppendUint16(q.Out, q.Class)
	q.Out = binary.BigEndian.AppendUint32(q.Out, ttl)
	q.Out = binary.BigEndian.AppendUint16(q.Out, uint16(dataLen))
	SetCount(q.Out, section, Count(q.Out, section)+1)
}

// AddAddress adds an A or AAAA record of the question's name, by the kind of addr.
func (q *Query) AddAddress(ttl uint32, addr netip.Addr) {
	if addr.Is4() {
		a := addr.As4()
		q.addHeader(SectionAnswer, TypeA, ttl, len(a))
		q.Out = append(q.Out, a[:]...)
		return
	}
	a := addr.As16()
	q.addHeader(SectionAnswer, TypeAAAA, ttl, len(a))
	q.Out = append(q.Out, a[:]...)
}

// AddData adds a record of the question's name with data in wire format.
func (q *Query) AddData(section int, typ uint16, ttl uint32, data []byte) {
	q.addHeader(section, typ, ttl, len(data))
	q.Out = append(q.Out, data...)
}

// AddPacked adds n records that are already in wire format, with owner, type, class and TTL. An owner that is the question's name may be OwnerPointer.
func (q *Query) AddPacked(section, n int, records []byte) {
	q.Out = append(q.Out, records...)
	SetCount(q.Out, section, Count(q.Out, section)+n)
}

// Fits reports whether n further bytes and an OPT without options fit in the answer.
func (q *Query) Fits(n int) bool { return len(q.Out)+n+OPTLen <= q.Limit() }

// AddSOA adds to the authority section the SOA that makes a negative answer cacheable for ttl seconds (RFC 2308 section 5), at the part of the question's name
// that begins at byte zoneAt (0: the whole name).
func (q *Query) AddSOA(ttl uint32, zoneAt int) {
	q.Out = binary.BigEndian.AppendUint16(q.Out, 0xc000|uint16(HeaderLen+zoneAt))
	q.Out = binary.BigEndian.AppendUint16(q.Out, TypeSOA)
	q.Out = binary.BigEndian.AppendUint16(q.Out, q.Class)
	q.Out = binary.BigEndian.AppendUint32(q.Out, ttl)
	const fixed = 20
	const names = "\x09localhost\x00\x06nobody\x07invalid\x00" // as RFC 6303 section 3 and RFC 2606 allow
	q.Out = binary.BigEndian.AppendUint16(q.Out, uint16(len(names)+fixed))
	q.Out = append(q.Out, names...)
	for _, v := range [...]uint32{1, 3600, 1200, 604800, ttl} {
		q.Out = binary.BigEndian.AppendUint32(q.Out, v)
	}
	SetCount(q.Out, SectionAuthority, Count(q.Out, SectionAuthority)+1)
}

// Finish ends the answer: an OPT exactly if the query had one, with the extended errors that fit, and truncation if the records do not fit. rcode is the whole
// rcode, extended bits included. A client over TCP or TLS that sent edns-tcp-keepalive gets q.Idle (RFC 7828). EXTRA-TEXT is dropped before a whole error, and
// errors before records. Encrypted answers are padded to a multiple of 468 bytes if the client asked for padding, over QUIC always (RFC 9250 section 5.4).
func (q *Query) Finish(rcode int, errs ...EDE) {
	q.Rcode = rcode
	limit := q.Limit()
	if !q.EDNS {
		if len(q.Out) > limit {
			q.Truncate()
		}
		return
	}
	fixed := q.OPTSize()
	if len(q.Out)+fixed > limit {
		q.Truncate()
	}
	room := limit - len(q.Out) - fixed
	q.Out = append(q.Out, 0, byte(TypeOPT>>8), byte(TypeOPT), byte(UDPLimit>>8), byte(UDPLimit&0xff),
		byte(rcode>>4), 0, 0, 0, 0, 0)
	lengthAt := len(q.Out) - 2
	if q.DO {
		q.Out[lengthAt-2] = 0x80
	}
	if q.keepsAlive() {
		q.Out = binary.BigEndian.AppendUint16(q.Out, OptionKeepalive)
		q.Out = append(q.Out, 0, 2)
		q.Out = binary.BigEndian.AppendUint16(q.Out, q.Idle)
	}
	if q.serves {
		q.addCookie()
	}
	q.addErrors(room, errs)
	if q.Padding && q.Transport > TCP || q.Transport == QUIC {
		q.pad(limit)
	}
	binary.BigEndian.PutUint16(q.Out[lengthAt:], uint16(len(q.Out)-lengthAt-2))
	SetCount(q.Out, SectionAdditional, Count(q.Out, SectionAdditional)+1)
}

// pad appends a Padding option that makes the length of the answer a multiple of paddedTo, or limit.
func (q *Query) pad(limit int) {
	n := len(q.Out) + OptionLen
	zeros := min((n+paddedTo-1)/paddedTo*paddedTo, limit) - n
	if zeros < 0 {
		return
	}
	q.Out = binary.BigEndian.AppendUint16(q.Out, OptionPadding)
	q.Out = binary.BigEndian.AppendUint16(q.Out, uint16(zeros))
	q.Out = append(q.Out, make([]byte, zeros)...)
}

// OPTSize returns the size in bytes of the OPT in the answer, without extended errors; 0 if the answer has none.
func (q *Query) OPTSize() int {
	if !q.EDNS {
		return 0
	}
	size := OPTLen
	if q.keepsAlive() {
		size += keepaliveOptionLen
	}
	if q.serves {
		size += cookieOptionLen
	}
	return size
}

// keepsAlive reports whether the answer has an edns-tcp-keepalive option.
func (q *Query) keepsAlive() bool { return q.Keepalive && (q.Transport == TCP || q.Transport == TLS) }

// addErrors appends the options of errs that fit in room bytes.
func (q *Query) addErrors(room int, errs []EDE) {
	bare := 0
	for i := range errs {
		if bare+edeFixedLen > room {
			errs = errs[:i]
			break
		}
		bare += edeFixedLen
	}
	for i := range errs {
		text := errs[i].Text
		if bare+len(text) > room {
			text = ""
		}
		bare += len(text)
		q.Out = binary.BigEndian.AppendUint16(q.Out, OptionEDE)
		q.Out = binary.BigEndian.AppendUint16(q.Out, uint16(2+len(text)))
		q.Out = binary.BigEndian.AppendUint16(q.Out, errs[i].Code)
		q.Out = append(q.Out, text...)
	}
}

// Room returns how many bytes of EXTRA-TEXT one extended error can have in the present answer.
func (q *Query) Room() int {
	return q.Limit() - len(q.Out) - q.OPTSize() - edeFixedLen
}

// Truncate cuts the answer down to its question and sets TC (RFC 2181 section 9).
func (q *Query) Truncate() {
	q.Out = q.Out[:q.BodyAt]
	SetFlags(q.Out, Flags(q.Out)&^FlagAD|FlagTC)
	SetCount(q.Out, SectionAnswer, 0)
	SetCount(q.Out, SectionAuthority, 0)
	SetCount(q.Out, SectionAdditional, 0)
}

// Shorten answers with a truncated answer, which has no records and no extended errors. The rcode is that of the finished answer if there is one, else Success.
func (q *Query) Shorten() {
	q.Begin(q.Rcode)
	q.Truncate()
	q.Finish(q.Rcode)
}

// Fail answers with an rcode, and the extended errors in errs.
func (q *Query) Fail(rcode int, errs ...EDE) {
	q.Begin(rcode)
	q.Finish(rcode, errs...)
}
