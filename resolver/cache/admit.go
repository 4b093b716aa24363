package cache

import (
	"bytes"
	"encoding/binary"

	"rempart/internal/wire"
)

// admission is the decision about a record of an upstream's answer.
type admission uint8

const (
	keep     admission = iota
	leaveOut           // it does not belong to the answer, or the client is not owed it
	respell            // it belongs, but its data holds a compressed name that clients and Rempart may read differently
)

// admit decides about a record. An error is ErrAnswer: the record cannot be valid, so the other records of the message are not trusted either.
//
// The answer section may hold records of the asked type and the aliases that lead to them, each with its signatures, at the asked name and the names that
// it leads to. The authority section may hold what proves a negative answer or a delegation. Addresses anywhere else would reach clients without a verdict.
// Only clients with DO get records for validators. The additional section is left out: a stub resolver does not need it, and other clients can ask for its records.
func (p *packing) admit(rr *wire.Record) (admission, error) {
	if rr.Section == wire.SectionAdditional {
		return leaveOut, nil
	}
	if rr.Type == wire.TypeOPT { // in any class, because the class of an OPT is a size
		return leaveOut, ErrAnswer
	}
	if !p.key.DO && isProof(rr.Type) && rr.Type != p.key.Type { // RFC 4035 section 3.2.1
		return leaveOut, nil
	}
	if rr.Class != p.key.Class {
		p.foreign = p.foreign || rr.Section == wire.SectionAnswer
		return leaveOut, nil
	}
	var buf [512]byte
	data, ok := appendData(buf[:0], p.msg, rr)
	if !ok {
		return leaveOut, ErrAnswer
	}
	belongs := false
	var err error
	if rr.Section == wire.SectionAnswer {
		belongs, err = p.answers(rr)
	} else {
		belongs, err = p.proves(rr)
	}
	switch {
	case err != nil || !belongs:
		return leaveOut, err
	case (rr.Type == wire.TypeSVCB || rr.Type == wire.TypeHTTPS) && len(data) != rr.End-rr.Data:
		return respell, nil // RFC 9460 section 2.2 forbids compression
	}
	return keep, nil
}

// answers reports whether a record of the answer section is a part of the answer.
func (p *packing) answers(rr *wire.Record) (bool, error) {
	switch rr.Type {
	case p.key.Type, wire.TypeCNAME, wire.TypeDNAME, wire.TypeRRSIG:
		return p.belongs(rr)
	}
	_, err := p.belongs(rr)
	return false, err
}

// proves reports whether a record may be in the authority section: it must prove that there is no answer, or name the zone of the question or of a target of
// its aliases.
func (p *packing) proves(rr *wire.Record) (bool, error) {
	var buf [wire.MaxName]byte
	owner, _, ok := wire.ExpandName(buf[:0], p.msg, rr.Name)
	if !ok {
		return false, ErrAnswer
	}
	switch rr.Type {
	case wire.TypeNSEC, wire.TypeNSEC3, wire.TypeRRSIG:
		return true, nil
	case wire.TypeSOA, wire.TypeNS, wire.TypeDS:
	default:
		return false, nil
	}
	for name := range p.names {
		if wire.InZone(name, owner) {
			return true, nil
		}
	}
	return false, nil
}

// readsTTLs reports whether a compression pointer makes a name of the message include the TTL of a record. When the TTL has aged, clients would read another
// name than the one that was judged.
func (p *packing) readsTTLs(e *Answer) bool {
	var room [wire.UDPLimit]byte // most answers fit
	other := append(room[:0], p.msg...)
	for _, at := range e.ttls {
		for i := range 4 {
			other[p.bodyAt+int(at)+i] ^= 0xff
		}
	}
	var b, o [2 * wire.MaxName]byte
	r := wire.ReadRecords(p.msg)
	var rr wire.Record
	for r.Next(&rr) && rr.Section != wire.SectionAdditional {
		owner, _, _ := wire.ExpandName(b[:0], p.msg, rr.Name)
		same, _, _ := wire.ExpandName(o[:0], other, rr.Name)
		if !bytes.Equal(owner, same) {
			return true
		}
		data, _ := appendData(b[:0], p.msg, &rr)
		if same, _ = appendData(o[:0], other, &rr); !bytes.Equal(data, same) {
			return true
		}
	}
	return false
}

// rewritten returns the message with only the records that accept returns true for, in their order and with their names written out, and its OPT.
// It returns nil if the message would be too large. It is for the few answers from which something is taken out: names of later records may be
// compressed by those of removed ones.
func (p *packing) rewritten(accept func(rr *wire.Record) bool) []byte {
	out := append(make([]byte, 0, 2*len(p.msg)), p.msg[:p.bodyAt]...)
	var counts [4]int
	r := wire.ReadRecords(p.msg)
	var rr wire.Record
	for r.Next(&rr) {
		if rr.Type != wire.TypeOPT && !accept(&rr) {
			continue
		}
		var ok bool
		if out, ok = appendRecord(out, p.msg, &rr, p.key.Name); !ok || len(out) > wire.MaxMessage {
			return nil
		}
		counts[rr.Section]++
	}
	for section := wire.SectionAnswer; section <= wire.SectionAdditional; section++ {
		wire.SetCount(out, section, counts[section])
	}
	return out
}

// appendRecord appends a record of msg. If its owner is name, the name in the question, the owner is written as a pointer to the question.
func appendRecord(dst, msg []byte, rr *wire.Record, name []byte) (out []byte, ok bool) {
	begin := len(dst)
	if dst, _, ok = wire.ExpandName(dst, msg, rr.Name); !ok {
		return dst, false
	}
	if string(dst[begin:]) == string(name) && len(name) > 1 {
		dst = append(dst[:begin], 0xc0, wire.HeaderLen)
	}
	dst = append(dst, msg[rr.Data-10:rr.Data]...)
	data := len(dst)
	if dst, ok = appendData(dst, msg, rr); !ok || len(dst)-data > 0xffff {
		return dst, false
	}
	binary.BigEndian.PutUint16(dst[data-2:], uint16(len(dst)-data))
	return dst, true
}
