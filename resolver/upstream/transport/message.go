package transport

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"

	"rempart/internal/wire"
)

// Question is a question to an upstream.
type Question struct {
	Name        []byte // canonical wire format; only read, and not after Exchange returned
	Type, Class uint16
	DO, CD      bool
	Spared      bool // it need not wait for an upstream that is being restarted: the caller has another answer
}

const (
	optionPadding = 12  // RFC 7830
	padBlock      = 128 // the length of a query over an encrypted protocol is a multiple of this number of bytes (RFC 8467 section 4.1)
)

// Form is the form of one query, apart from the question.
type Form struct {
	EDNS, Pad, Mix bool   // with an OPT; padded; in random case (0x20)
	Cookie         []byte // value of a COOKIE option (RFC 7873), with an OPT that is not padded; nil: none
}

// AppendQuery appends the whole query: one question, an OPT or none, never a client subnet.
// AD asks for the AD bit without the signatures (RFC 6840 section 5.7).
func AppendQuery(dst []byte, q *Question, id uint16, f Form) []byte {
	flags := wire.FlagRD | wire.FlagAD
	if q.CD {
		flags |= wire.FlagCD
	}
	start := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, id)
	dst = binary.BigEndian.AppendUint16(dst, flags)
	dst = append(dst, 0, 1, 0, 0, 0, 0, 0, 0)
	name := len(dst)
	dst = append(dst, q.Name...)
	if f.Mix {
		MixCase(dst[name:], randomBits)
	}
	dst = binary.BigEndian.AppendUint16(dst, q.Type)
	dst = binary.BigEndian.AppendUint16(dst, q.Class)
	if !f.EDNS {
		return dst
	}
	wire.SetCount(dst[start:], wire.SectionAdditional, 1)
	do := byte(0)
	if q.DO {
		do = 0x80
	}
	dst = append(dst, 0, 0, byte(wire.TypeOPT), wire.UDPLimit>>8, wire.UDPLimit&0xff, 0, 0, do, 0)
	switch {
	case len(f.Cookie) > 0:
		dst = binary.BigEndian.AppendUint16(dst, uint16(wire.OptionLen+len(f.Cookie)))
		dst = binary.BigEndian.AppendUint16(dst, wire.OptionCookie)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(f.Cookie)))
		return append(dst, f.Cookie...)
	case !f.Pad:
		return append(dst, 0, 0)
	}
	fixed := len(dst) - start + 2 + wire.OptionLen
	padding := (padBlock - fixed%padBlock) % padBlock
	dst = binary.BigEndian.AppendUint16(dst, uint16(wire.OptionLen+padding))
	dst = binary.BigEndian.AppendUint16(dst, optionPadding)
	dst = binary.BigEndian.AppendUint16(dst, uint16(padding))
	return append(dst, make([]byte, padding)...)
}

const (
	// MaxQuery is the length of the longest query for a datagram that AppendQuery makes, in bytes.
	MaxQuery = wire.HeaderLen + wire.MaxName + 4 + wire.OPTLen + wire.OptionLen + maxCookieLen
	// maxQuery is the length of the longest query that AppendQuery makes, in bytes, with padding and the length field of a stream.
	maxQuery = 2 + max(MaxQuery, (wire.HeaderLen+wire.MaxName+4+wire.OPTLen+wire.OptionLen+padBlock-1)/padBlock*padBlock)
)

// randomID returns an unpredictable ID (RFC 5452 section 4.3).
func randomID() uint16 {
	var b [2]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint16(b[:])
}

// MixCase gives every letter of a canonical name a random case, from the bits that random returns. An answer must echo the case (draft-vixie-dnsext-dns0x20),
// so that an attacker who forges an answer must guess one more bit per letter.
func MixCase(name []byte, random func() uint64) {
	bits := uint64(0)
	for i, c := range name {
		if i%64 == 0 {
			bits = random()
		}
		// Length bytes are at most 63 and so never letters.
		if 'a' <= c && c <= 'z' && bits&1 != 0 {
			name[i] = c - ('a' - 'A')
		}
		bits >>= 1
	}
}

// randomBits returns unpredictable bits.
func randomBits() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// Match is the result of the comparison of a message with a query.
type Match uint8

// Callers of JudgeDatagram handle Foreign and Bare, and decode a message with any other result by Read.
const (
	Foreign Match = iota // no answer to the query
	recased              // an answer whose question differs in the case of letters
	Bare                 // the right ID and an error, without a question (RFC 1035 allows it): use Restore
	exact
)

// compare judges msg, any bytes, as an answer to sent, a query of AppendQuery.
func compare(msg, sent []byte) Match {
	if len(msg) < wire.HeaderLen || wire.ID(msg) != wire.ID(sent) {
		return Foreign
	}
	const opcode = 0xf << 11
	flags := wire.Flags(msg)
	if flags&wire.FlagQR == 0 || flags&opcode != 0 {
		return Foreign
	}
	if wire.Count(msg, wire.SectionQuestion) == 0 && !settles(wire.Rcode(msg)) {
		return Bare
	}
	question := sent[wire.HeaderLen:questionEnd(sent)]
	if wire.Count(msg, wire.SectionQuestion) != 1 || len(msg) < wire.HeaderLen+len(question) {
		return Foreign
	}
	got := msg[wire.HeaderLen : wire.HeaderLen+len(question)]
	if bytes.Equal(got, question) {
		return exact
	}
	tail := len(question) - 4 // type and class are compared as they are
	if !bytes.Equal(got[tail:], question[tail:]) {
		return Foreign
	}
	for i, c := range got[:tail] {
		if wire.Lower(c) != wire.Lower(question[i]) {
			return Foreign
		}
	}
	return recased
}

// questionless reports whether msg, which is Foreign to sent, has the ID of sent and no question. Either the upstream leaves the question out of valid answers,
// or an attacker guessed the ID. The question must be asked over TCP.
func questionless(msg, sent []byte) bool {
	return len(msg) >= wire.HeaderLen && wire.ID(msg) == wire.ID(sent) && wire.Flags(msg)&wire.FlagQR != 0 &&
		wire.Count(msg, wire.SectionQuestion) == 0
}

// judgeDatagram is JudgeDatagram without the check of cookies.
func judgeDatagram(msg, sent []byte, mixed, cut bool) (Match, error) {
	switch m := compare(msg, sent); {
	case m == Foreign && questionless(msg, sent):
		return Foreign, errQuestionless
	case m == recased && mixed:
		return Foreign, errRecased
	case m == Foreign || m == Bare:
		return m, nil
	case wire.Flags(msg)&wire.FlagTC != 0 || cut:
		return m, errTruncated
	default:
		return m, nil
	}
}

// questionEnd returns the offset after the question of a query of AppendQuery.
func questionEnd(sent []byte) int {
	return wire.HeaderLen + wire.NameLen(sent[wire.HeaderLen:]) + 4
}

// Reply is a sound answer to the question asked.
type Reply struct {
	Packed   []byte // owned by the caller; with the question in canonical case, and without bytes after the last record
	Rcode    int    // the whole rcode, extended bits included
	edns     bool   // it has an OPT
	dnssec   bool   // an extended error says that validation failed
	bare     bool   // it came without a question
	Stripped bool   // the client wants DNSSEC records, which the upstream could not be asked for
}

var errMalformed = errors.New("malformed answer")

// Read decodes msg, which JudgeDatagram or compare found to answer q. It changes msg, and the Reply uses its memory.
func Read(msg []byte, q *Question) (Reply, error) {
	r := Reply{Packed: msg, Rcode: wire.Rcode(msg)}
	copy(msg[wire.HeaderLen:], q.Name)
	records := wire.ReadRecords(msg)
	var rr wire.Record
	for records.Next(&rr) {
		if rr.Type != wire.TypeOPT || rr.Section != wire.SectionAdditional {
			continue
		}
		if r.edns {
			return r, errMalformed // RFC 6891 section 6.1.1: one at most
		}
		r.edns = true
		r.Rcode |= int(rr.TTL>>24) << 4
		r.dnssec = saysBogus(msg[rr.Data:rr.End])
	}
	if records.Malformed() {
		return r, errMalformed
	}
	r.Packed = msg[:records.Offset()]
	return r, nil
}

// Restore makes an answer to q from msg, which JudgeDatagram or compare found Bare. The answer has the header of msg and the missing question, and nothing else.
func Restore(msg []byte, q *Question) Reply {
	packed := AppendQuery(make([]byte, 0, wire.HeaderLen+len(q.Name)+4), q, wire.ID(msg), Form{})
	wire.SetFlags(packed, wire.Flags(msg)&^(wire.FlagTC|wire.FlagAD))
	return Reply{Packed: packed, Rcode: wire.Rcode(msg), bare: true}
}

// saysBogus reports whether the options of an OPT hold an extended error of a DNSSEC kind
// (RFC 8914 section 4).
func saysBogus(data []byte) bool {
	for {
		code, value, rest, ok := wire.NextOption(data)
		if !ok {
			break
		}
		if code == wire.OptionEDE {
			if e, ok := wire.ReadEDE(value, 0); ok && e.DNSSEC() {
				return true
			}
		}
		data = rest
	}
	return false
}

// Final reports whether no other upstream needs to be asked.
func (r *Reply) Final() bool {
	return settles(r.Rcode) || r.Rcode == wire.ServFail && r.dnssec
}

// settles reports whether an rcode is a statement about the name, which other upstreams would return too.
func settles(rcode int) bool {
	switch rcode {
	case wire.Success, wire.NXDomain, wire.YXDomain: // a DNAME that makes the name too long (RFC 6672 section 2.2)
		return true
	}
	return false
}

// Declines reports whether the upstream did not understand the question or its form.
func (r *Reply) Declines() bool { return r.Rcode == wire.FormErr || r.Rcode == wire.NotImp }

// lacksEDNS reports whether the OPT may be the reason (RFC 6891 section 7).
func (r *Reply) lacksEDNS() bool { return !r.edns && r.Declines() }
