package dnstest

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// draft is an answer that is written byte by byte: no library writes what is wrong with it. Its methods return the
// changed draft, and panic where the message has no such place.
type draft []byte

const (
	headerLen = 12
	here      = "\xc0\x0c" // an owner: the name in the question
	udpLimit  = 1232       // of messages that are sent over UDP without TC

	flagQR uint16 = 1 << 15
	flagAA uint16 = 1 << 10
	flagTC uint16 = 1 << 9
	flagRD uint16 = 1 << 8
	flagRA uint16 = 1 << 7
	flagAD uint16 = 1 << 5
	flagCD uint16 = 1 << 4
	usual         = flagQR | flagRD | flagRA
)

// Sections of a message, as record counts of the header.
const (
	questions = iota
	answers
	authorities
	additionals
)

// header is only the header of an answer to q, with zero counts.
func header(q *Query) draft {
	d := make(draft, headerLen)
	binary.BigEndian.PutUint16(d, q.Msg.Id)
	return d.flags(usual)
}

// questionOf is the question of q as bytes, in the case in which it was asked.
func questionOf(q *Query) draft {
	packed, err := (&dns.Msg{Question: q.Msg.Question[:1]}).Pack()
	if err != nil {
		panic(err)
	}
	return packed[headerLen:]
}

// nameOf is the name in the question of q in wire form.
func nameOf(q *Query) string {
	b := questionOf(q)
	return string(b[:len(b)-4])
}

// bareReply is an answer to q without records.
func bareReply(q *Query) draft { return append(header(q), questionOf(q)...).count(questions, 1) }

// right is the right answer to a question of type A.
func right(q *Query) draft { return bareReply(q).answer(rightRecord) }

// rightRecord gives the name in the question RightAddress.
var rightRecord = record(here, dns.TypeA, rightData)

// poison gives PoisonName PoisonAddress.
var poison = record(wireName("poison", "example"), dns.TypeA, poisonData)

func (d draft) flags(f uint16) draft {
	binary.BigEndian.PutUint16(d[2:], f)
	return d
}

func (d draft) rcode(n int) draft {
	d[3] = d[3]&0xf0 | byte(n&0xf)
	return d
}

func (d draft) count(section, n int) draft {
	binary.BigEndian.PutUint16(d[4+2*section:], uint16(n))
	return d
}

func (d draft) add(section int, records ...string) draft {
	for _, rr := range records {
		d = append(d, rr...)
	}
	return d.count(section, int(binary.BigEndian.Uint16(d[4+2*section:]))+len(records))
}

func (d draft) answer(records ...string) draft     { return d.add(answers, records...) }
func (d draft) authority(records ...string) draft  { return d.add(authorities, records...) }
func (d draft) additional(records ...string) draft { return d.add(additionals, records...) }

// bytes appends bytes that no count mentions.
func (d draft) bytes(b string) draft { return append(d, b...) }

// record is a record of class IN with a TTL of 300 seconds.
func record(owner string, typ uint16, data string) string {
	return recordOf(owner, typ, dns.ClassINET, 300, len(data), data)
}

// recordOf is a record; length is what it says of the length of data.
func recordOf(owner string, typ, class uint16, ttl uint32, length int, data string) string {
	b := binary.BigEndian.AppendUint16([]byte(owner), typ)
	b = binary.BigEndian.AppendUint16(b, class)
	b = binary.BigEndian.AppendUint32(b, ttl)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	return string(b) + data
}

// wireName is a name in wire form. Labels are not checked: those above 63 bytes become something else.
func wireName(labels ...string) string { return openName(labels...) + "\x00" }

// openName is a name without its end.
func openName(labels ...string) (name string) {
	for _, l := range labels {
		name += string([]byte{byte(len(l))}) + l
	}
	return name
}

// pointer is a compression pointer.
func pointer(to int) string { return string([]byte{0xc0 | byte(to>>8), byte(to)}) }

// written answers with what build makes of the query. Over UDP, a message that is too large is sent as TC.
func written(build func(q *Query) draft) Handler {
	return func(q *Query) {
		d := build(q)
		if q.Network == "udp" && len(d) > udpLimit {
			q.SendRaw(bareReply(q).flags(usual | flagTC))
			return
		}
		q.SendRaw(d)
	}
}

// answering answers with records in the answer section.
func answering(records ...string) Handler {
	return written(func(q *Query) draft { return bareReply(q).answer(records...) })
}

// sequence sends messages one after the other.
func sequence(builds ...func(q *Query) draft) Handler {
	return func(q *Query) {
		for _, build := range builds {
			q.SendRaw(build(q))
		}
	}
}
