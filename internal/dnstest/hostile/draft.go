package hostile

import (
	"encoding/binary"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// draft is an answer that is written byte by byte, because no library writes such errors. Its methods return the changed
// draft, and panic if the message is too short for the change.
type draft []byte

const (
	headerLen = 12
	here      = "\xc0\x0c" // a compression pointer to the name in the question
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

// header returns the header of an answer to q, with zero counts.
func header(q *dnstest.Query) draft {
	d := make(draft, headerLen)
	binary.BigEndian.PutUint16(d, q.Msg.Id)
	return d.flags(usual)
}

// questionOf returns the packed question of q, in the case in which it was asked.
func questionOf(q *dnstest.Query) draft {
	packed, err := (&dns.Msg{Question: q.Msg.Question[:1]}).Pack()
	if err != nil {
		panic(err)
	}
	return packed[headerLen:]
}

// nameOf returns the name in the question of q in wire format.
func nameOf(q *dnstest.Query) string {
	b := questionOf(q)
	return string(b[:len(b)-4])
}

// bareReply returns an answer to q without records.
func bareReply(q *dnstest.Query) draft {
	return append(header(q), questionOf(q)...).count(questions, 1)
}

// right returns the right answer to a question of type A.
func right(q *dnstest.Query) draft { return bareReply(q).answer(rightRecord) }

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

// bytes appends bytes without changing a count.
func (d draft) bytes(b string) draft { return append(d, b...) }

// record returns a record of class IN with a TTL of 300 seconds.
func record(owner string, typ uint16, data string) string {
	return recordOf(owner, typ, dns.ClassINET, 300, len(data), data)
}

// recordOf returns a record whose header states length as the length of data.
func recordOf(owner string, typ, class uint16, ttl uint32, length int, data string) string {
	b := binary.BigEndian.AppendUint16([]byte(owner), typ)
	b = binary.BigEndian.AppendUint16(b, class)
	b = binary.BigEndian.AppendUint32(b, ttl)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	return string(b) + data
}

// wireName returns a name in wire format. It does not check the labels: a length byte above 63 is not a label.
func wireName(labels ...string) string { return openName(labels...) + "\x00" }

// openName returns a name without the root label at its end.
func openName(labels ...string) (name string) {
	for _, l := range labels {
		name += string([]byte{byte(len(l))}) + l
	}
	return name
}

// pointer returns a compression pointer.
func pointer(to int) string { return string([]byte{0xc0 | byte(to>>8), byte(to)}) }

// written answers with the draft that build returns. Over UDP, it sends TC instead of a draft that is too large.
func written(build func(q *dnstest.Query) draft) dnstest.Handler {
	return func(q *dnstest.Query) {
		d := build(q)
		if q.Network == "udp" && len(d) > udpLimit {
			q.SendRaw(bareReply(q).flags(usual | flagTC))
			return
		}
		q.SendRaw(d)
	}
}

// answering answers with records in the answer section.
func answering(records ...string) dnstest.Handler {
	return written(func(q *dnstest.Query) draft { return bareReply(q).answer(records...) })
}

// sequence sends messages one after the other.
func sequence(builds ...func(q *dnstest.Query) draft) dnstest.Handler {
	return func(q *dnstest.Query) {
		for _, build := range builds {
			q.SendRaw(build(q))
		}
	}
}
