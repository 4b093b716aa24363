package wire

import "encoding/binary"

// HeaderLen is the length of a message's header (RFC 1035 section 4.1.1).
const HeaderLen = 12

// Header flag bits, as in the two bytes after the ID.
const (
	FlagQR uint16 = 1 << 15
	FlagAA uint16 = 1 << 10
	FlagTC uint16 = 1 << 9
	FlagRD uint16 = 1 << 8
	FlagRA uint16 = 1 << 7
	FlagAD uint16 = 1 << 5
	FlagCD uint16 = 1 << 4

	opcodeShift  = 11
	opcodeMask   = uint16(0xf) << opcodeShift
	rcodeMask    = uint16(0xf)
	maxPointers  = 64 // compression pointers that are followed in one name before it is malformed
	rrFixedLen   = 10 // type, class, TTL and data length of a record
	questionTail = 4  // type and class of a question
)

// Rcodes (RFC 6895 section 2.3). BadVers and BadCookie need the extended bits of an OPT.
const (
	Success   = 0
	FormErr   = 1
	ServFail  = 2
	NXDomain  = 3
	NotImp    = 4
	Refused   = 5
	YXDomain  = 6
	NotAuth   = 9
	BadVers   = 16
	BadCookie = 23 // RFC 7873 section 8
)

// Types and classes that Rempart treats specially.
const (
	TypeA      uint16 = 1
	TypeNS     uint16 = 2
	TypeCNAME  uint16 = 5
	TypeSOA    uint16 = 6
	TypeHINFO  uint16 = 13
	TypeTXT    uint16 = 16
	TypeAAAA   uint16 = 28
	TypeDNAME  uint16 = 39
	TypeOPT    uint16 = 41
	TypeDS     uint16 = 43
	TypeRRSIG  uint16 = 46
	TypeNSEC   uint16 = 47
	TypeDNSKEY uint16 = 48
	TypeNSEC3  uint16 = 50
	TypeSVCB   uint16 = 64
	TypeHTTPS  uint16 = 65
	TypeNXNAME uint16 = 128
	TypeTKEY   uint16 = 249
	TypeTSIG   uint16 = 250
	TypeIXFR   uint16 = 251
	TypeAXFR   uint16 = 252
	TypeMAILB  uint16 = 253
	TypeMAILA  uint16 = 254
	TypeANY    uint16 = 255

	TypeRESINFO uint16 = 261 // RFC 9606

	ClassIN uint16 = 1
	ClassCH uint16 = 3
)

// Sections of a message, as indices of Counts.
const (
	SectionQuestion = iota
	SectionAnswer
	SectionAuthority
	SectionAdditional
)

// ID, Flags, Rcode and Count read the header; msg has at least HeaderLen bytes.
func ID(msg []byte) uint16    { return binary.BigEndian.Uint16(msg) }
func Flags(msg []byte) uint16 { return binary.BigEndian.Uint16(msg[2:]) }
func Rcode(msg []byte) int    { return int(Flags(msg) & rcodeMask) }
func Count(msg []byte, section int) int {
	return int(binary.BigEndian.Uint16(msg[4+2*section:]))
}

// SetID, SetFlags and SetCount write it.
func SetID(msg []byte, id uint16)       { binary.BigEndian.PutUint16(msg, id) }
func SetFlags(msg []byte, flags uint16) { binary.BigEndian.PutUint16(msg[2:], flags) }
func SetCount(msg []byte, section, n int) {
	binary.BigEndian.PutUint16(msg[4+2*section:], uint16(n))
}

// SkipName returns the offset after the name at off, compressed or not, or -1 if the name is truncated or uses a reserved label type. The target of a pointer
// is not read.
func SkipName(msg []byte, off int) int {
	for off >= 0 && off < len(msg) {
		n := int(msg[off])
		switch {
		case n == 0:
			return off + 1
		case n <= MaxLabel:
			off += 1 + n
		case n >= 0xc0:
			if off+2 > len(msg) {
				return -1
			}
			return off + 2
		default:
			return -1
		}
	}
	return -1
}

// ExpandName appends to dst the canonical form of the name at off, and returns the offset after it in msg. Pointers are followed strictly backwards and never
// into the header (RFC 1035 section 4.1.4). If the name is malformed, ok is false and dst is returned unchanged.
func ExpandName(dst, msg []byte, off int) (out []byte, next int, ok bool) {
	start, limit, pointers := len(dst), off, 0
	out = dst
	for off >= 0 && off < len(msg) {
		n := int(msg[off])
		switch {
		case n == 0:
			out = append(out, 0)
			if len(out)-start > MaxName {
				return dst, 0, false
			}
			if next == 0 {
				next = off + 1
			}
			return out, next, true
		case n <= MaxLabel:
			if off+1+n > len(msg) || len(out)-start+1+n > MaxName {
				return dst, 0, false
			}
			out = append(out, msg[off])
			for _, c := range msg[off+1 : off+1+n] {
				out = append(out, Lower(c))
			}
			off += 1 + n
		case n >= 0xc0 && off+2 <= len(msg):
			target := int(binary.BigEndian.Uint16(msg[off:]) & 0x3fff)
			if next == 0 {
				next = off + 2
			}
			if pointers++; target >= limit || target < HeaderLen || pointers > maxPointers {
				return dst, 0, false
			}
			limit, off = target, target
		default:
			return dst, 0, false
		}
	}
	return dst, 0, false
}

// Record is the place of one resource record in a message.
type Record struct {
	Section int // SectionAnswer, SectionAuthority or SectionAdditional
	Name    int // offset of its owner
	Type    uint16
	Class   uint16
	TTL     uint32
	TTLAt   int // offset of its TTL
	Data    int // offset of its data
	End     int // offset just past its data
}

// Reader walks the records of a message in order. It reads msg, which must not change meanwhile.
type Reader struct {
	msg     []byte
	off     int
	section int
	left    int
	bad     bool
}

// ReadRecords starts a walk. It skips the questions; a malformed one ends the walk at once.
func ReadRecords(msg []byte) Reader {
	r := Reader{msg: msg, off: HeaderLen}
	if len(msg) < HeaderLen {
		r.bad = true
		return r
	}
	for i := Count(msg, SectionQuestion); i > 0; i-- {
		r.off = SkipName(msg, r.off)
		if r.off < 0 || r.off+questionTail > len(msg) {
			r.bad = true
			return r
		}
		r.off += questionTail
	}
	return r
}

// Next stores the next record in rr; false at the end or at the first malformed one.
func (r *Reader) Next(rr *Record) bool {
	if r.bad {
		return false
	}
	for r.left == 0 {
		if r.section == SectionAdditional {
			return false
		}
		r.section++
		r.left = Count(r.msg, r.section)
	}
	at := SkipName(r.msg, r.off)
	if at < 0 || at+rrFixedLen > len(r.msg) {
		r.bad = true
		return false
	}
	fixed := r.msg[at : at+rrFixedLen]
	data := at + rrFixedLen
	end := data + int(binary.BigEndian.Uint16(fixed[8:]))
	if end > len(r.msg) {
		r.bad = true
		return false
	}
	*rr = Record{
		Section: r.section, Name: r.off,
		Type: binary.BigEndian.Uint16(fixed), Class: binary.BigEndian.Uint16(fixed[2:]),
		TTL: binary.BigEndian.Uint32(fixed[4:]), TTLAt: at + 4, Data: data, End: end,
	}
	r.off = end
	r.left--
	return true
}

// Malformed reports whether the walk ended before the last record that the header counts.
func (r *Reader) Malformed() bool { return r.bad }

// Offset returns the position of the walk: after the last record read; at the end of the message if it is sound.
func (r *Reader) Offset() int { return r.off }
