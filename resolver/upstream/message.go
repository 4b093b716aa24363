package upstream

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

	first  *firstTry // the datagram that was sent for it before the race; nil if there is none
	partly func()    // called when an upstream has answered over UDP, but truncated or not beyond doubt; may be nil
}

const (
	optionPadding = 12  // RFC 7830
	padBlock      = 128 // bytes to which a query over TLS is padded (RFC 8467 section 4.1)
)

// form is the form of one query, apart from the question.
type form struct {
	edns, pad, mix bool // with an OPT; padded; in random case (0x20)
}

// appendQuery appends the whole query: one question, an OPT or none, never a client subnet.
// AD asks for the AD bit without the signatures (RFC 6840 section 5.7).
func appendQuery(dst []byte, q *Question, id uint16, f form) []byte {
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
	if f.mix {
		mixCase(dst[name:], randomBits)
	}
	dst = binary.BigEndian.AppendUint16(dst, q.Type)
	dst = binary.BigEndian.AppendUint16(dst, q.Class)
	if !f.edns {
		return dst
	}
	wire.SetCount(dst[start:], wire.SectionAdditional, 1)
	do := byte(0)
	if q.DO {
		do = 0x80
	}
	dst = append(dst, 0, 0, byte(wire.TypeOPT), wire.UDPLimit>>8, wire.UDPLimit&0xff, 0, 0, do, 0)
	if !f.pad {
		return append(dst, 0, 0)
	}
	fixed := len(dst) - start + 2 + wire.OptionLen
	padding := (padBlock - fixed%padBlock) % padBlock
	dst = binary.BigEndian.AppendUint16(dst, uint16(wire.OptionLen+padding))
	dst = binary.BigEndian.AppendUint16(dst, optionPadding)
	dst = binary.BigEndian.AppendUint16(dst, uint16(padding))
	return append(dst, make([]byte, padding)...)
}

// maxQuery is the longest query appendQuery makes, framing of a stream included.
const maxQuery = 2 + (wire.HeaderLen+wire.MaxName+4+wire.OPTLen+wire.OptionLen+padBlock-1)/padBlock*padBlock

// randomID returns an unpredictable ID (RFC 5452 section 4.3).
func randomID() uint16 {
	var b [2]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint16(b[:])
}

// mixCase gives every letter of a canonical name a random case, by the bits that random returns. An answer must repeat it (draft-vixie-dnsext-dns0x20): up to
// one more bit per letter that a forger must guess.
func mixCase(name []byte, random func() uint64) {
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

// match is how far a message answers a query.
type match uint8

const (
	foreign match = iota // not an answer to it at all
	recased              // its question differs in the case of letters
	bare                 // the right ID and an error, without a question (RFC 1035 allows it): restore
	exact
)

// compare judges msg, any bytes, as an answer to sent, a query of appendQuery.
func compare(msg, sent []byte) match {
	if len(msg) < wire.HeaderLen || wire.ID(msg) != wire.ID(sent) {
		return foreign
	}
	const opcode = 0xf << 11
	flags := wire.Flags(msg)
	if flags&wire.FlagQR == 0 || flags&opcode != 0 {
		return foreign
	}
	if wire.Count(msg, wire.SectionQuestion) == 0 && !settles(wire.Rcode(msg)) {
		return bare
	}
	question := sent[wire.HeaderLen:questionEnd(sent)]
	if wire.Count(msg, wire.SectionQuestion) != 1 || len(msg) < wire.HeaderLen+len(question) {
		return foreign
	}
	got := msg[wire.HeaderLen : wire.HeaderLen+len(question)]
	if bytes.Equal(got, question) {
		return exact
	}
	tail := len(question) - 4 // type and class are compared as they are
	if !bytes.Equal(got[tail:], question[tail:]) {
		return foreign
	}
	for i, c := range got[:tail] {
		if wire.Lower(c) != wire.Lower(question[i]) {
			return foreign
		}
	}
	return recased
}

// questionless reports whether msg, which is foreign to sent, has its ID and no question: an upstream that leaves the question out of sound answers, or
// somebody who guessed the ID. The question must be asked over another transport.
func questionless(msg, sent []byte) bool {
	return len(msg) >= wire.HeaderLen && wire.ID(msg) == wire.ID(sent) && wire.Flags(msg)&wire.FlagQR != 0 &&
		wire.Count(msg, wire.SectionQuestion) == 0
}

// questionEnd returns the offset after the question of a query of appendQuery.
func questionEnd(sent []byte) int {
	return wire.HeaderLen + wire.NameLen(sent[wire.HeaderLen:]) + 4
}

// reply is a sound answer to the question asked.
type reply struct {
	packed   []byte // the caller's own; the question in canonical case, nothing behind the last record
	rcode    int    // the whole rcode, extended bits included
	edns     bool   // it has an OPT
	dnssec   bool   // an extended error says that validation failed
	bare     bool   // it came without a question
	stripped bool   // DNSSEC records were wanted, but could not be asked for
}

var errMalformed = errors.New("malformed answer")

// read decodes msg, which compare found to answer q. It keeps and changes msg.
func read(msg []byte, q *Question) (reply, error) {
	r := reply{packed: msg, rcode: wire.Rcode(msg)}
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
		r.rcode |= int(rr.TTL>>24) << 4
		r.dnssec = saysBogus(msg[rr.Data:rr.End])
	}
	if records.Malformed() {
		return r, errMalformed
	}
	r.packed = msg[:records.Offset()]
	return r, nil
}

// restore makes an answer to q from msg, which compare found bare: its header, and the question that is missing. Everything else in msg is dropped.
func restore(msg []byte, q *Question) reply {
	packed := appendQuery(make([]byte, 0, wire.HeaderLen+len(q.Name)+4), q, wire.ID(msg), form{})
	wire.SetFlags(packed, wire.Flags(msg)&^(wire.FlagTC|wire.FlagAD))
	return reply{packed: packed, rcode: wire.Rcode(msg), bare: true}
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

// final reports whether no other upstream needs to be asked.
func (r *reply) final() bool {
	return settles(r.rcode) || r.rcode == wire.ServFail && r.dnssec
}

// settles reports whether an rcode is a statement about the name, which other upstreams would return too.
func settles(rcode int) bool {
	switch rcode {
	case wire.Success, wire.NXDomain, wire.YXDomain: // a DNAME that makes the name too long (RFC 6672 section 2.2)
		return true
	}
	return false
}

// declines reports whether the upstream did not understand the question or its form.
func (r *reply) declines() bool { return r.rcode == wire.FormErr || r.rcode == wire.NotImp }

// lacksEDNS reports whether the OPT may be the reason (RFC 6891 section 7).
func (r *reply) lacksEDNS() bool { return !r.edns && r.declines() }

// merit returns what r, an answer to q, shows about its upstream. Many home routers refuse all but a few types, and are healthy nevertheless.
func (r *reply) merit(q *Question) merit {
	switch {
	case r.final():
		return useful
	case r.declines() && q.Type != wire.TypeA && q.Type != wire.TypeAAAA:
		return neutral
	}
	return useless
}
