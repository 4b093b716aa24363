package rpz

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

const (
	headerLen   = 12
	maxMessage  = 60 << 10           // bytes of a message, before its signature; few names are within reach of a pointer
	zonePointer = 0xc000 | headerLen // the question's name
	pointerSpan = 1 << 14            // how far a pointer reaches
	maxRecord   = maxName + maxName + 12
)

// soaNames are the names in SOA and NS: the name of the server of a policy zone has no meaning.
var soaNames = [2]string{"\x09localhost\x00", "\x04root\x09localhost\x00"}

// message is an answer that is being packed. Each begins with the header and the question, whose name is the zone's.
type message struct {
	buf      []byte
	zone     *zone
	question int           // bytes of header and question
	targets  [pass + 1]int // where the targets of rules are, 0 if they were not written yet
	count    uint16        // records of the answer section
}

// newMessage starts the answer to a query: its header and question, which are valid.
func newMessage(query []byte, z *zone, rcode int) *message {
	m := &message{zone: z, buf: make([]byte, 0, 512)}
	m.buf = append(m.buf, query[:headerLen]...)
	binary.BigEndian.PutUint64(m.buf[4:], 0)
	m.buf[2] = 0x80 | query[2]&0x79 // QR; opcode and RD as received
	m.buf[3] = byte(rcode & 0xf)
	if end := questionEnd(query); end > 0 {
		m.buf = append(m.buf, query[headerLen:end]...)
		m.buf[5] = 1
	}
	if rcode == dns.RcodeSuccess {
		m.buf[2] |= 0x04 // AA
	}
	m.question = len(m.buf)
	return m
}

// questionEnd returns where a query's only question ends; 0 if it has no whole, uncompressed one.
func questionEnd(query []byte) int {
	if binary.BigEndian.Uint16(query[4:]) != 1 {
		return 0
	}
	at := headerLen
	for at < len(query) && query[at] != 0 {
		if query[at] > 63 {
			return 0
		}
		at += 1 + int(query[at])
	}
	if at+5 > len(query) || at-headerLen >= maxName {
		return 0
	}
	return at + 5
}

// reset starts the next message of the same answer.
func (m *message) reset() {
	m.buf = m.buf[:m.question]
	m.targets, m.count = [pass + 1]int{}, 0
	binary.BigEndian.PutUint16(m.buf[6:], 0)
	binary.BigEndian.PutUint16(m.buf[10:], 0)
}

// full reports whether one more record may not fit.
func (m *message) full() bool { return len(m.buf)+maxRecord > maxMessage }

func (m *message) counted() {
	m.count++
	binary.BigEndian.PutUint16(m.buf[6:], m.count)
}

func (m *message) header(typ uint16) {
	m.buf = binary.BigEndian.AppendUint16(m.buf, typ)
	m.buf = binary.BigEndian.AppendUint16(m.buf, dns.ClassINET)
	m.buf = binary.BigEndian.AppendUint32(m.buf, recordTTL)
}

// soa appends the zone's SOA under a serial.
func (m *message) soa(serial uint32) {
	m.buf = binary.BigEndian.AppendUint16(m.buf, zonePointer)
	m.header(dns.TypeSOA)
	m.buf = binary.BigEndian.AppendUint16(m.buf, uint16(len(soaNames[0])+len(soaNames[1])+20))
	m.buf = append(append(m.buf, soaNames[0]...), soaNames[1]...)
	for _, n := range []uint32{serial, soaRefresh, soaRetry, soaExpire, recordTTL} {
		m.buf = binary.BigEndian.AppendUint32(m.buf, n)
	}
	m.counted()
}

func (m *message) ns() {
	m.buf = binary.BigEndian.AppendUint16(m.buf, zonePointer)
	m.header(dns.TypeNS)
	m.buf = binary.BigEndian.AppendUint16(m.buf, uint16(len(soaNames[0])))
	m.buf = append(m.buf, soaNames[0]...)
	m.counted()
}

// record appends a record of the zone.
func (m *message) record(r record) {
	m.buf = append(m.buf, r.owner...)
	m.buf = binary.BigEndian.AppendUint16(m.buf, zonePointer)
	m.header(dns.TypeCNAME)
	if at := m.targets[r.rule]; at > 0 {
		m.buf = binary.BigEndian.AppendUint16(m.buf, 2)
		m.buf = binary.BigEndian.AppendUint16(m.buf, 0xc000|uint16(at))
	} else {
		target := m.zone.targetOf(r.rule)
		m.buf = binary.BigEndian.AppendUint16(m.buf, uint16(len(target)))
		if len(target) > 2 && len(m.buf) < pointerSpan {
			m.targets[r.rule] = len(m.buf)
		}
		m.buf = append(m.buf, target...)
	}
	m.counted()
}

// targetOf returns the target of a rule's CNAME, wire format.
func (z *zone) targetOf(r rule) []byte {
	if r == pass {
		return []byte(passthru)
	}
	return z.target
}

// opt appends an OPT record (RFC 6891 section 6.1). It goes before the signature.
func (m *message) opt(extendedRcode int) {
	m.buf = append(m.buf, 0)
	m.buf = binary.BigEndian.AppendUint16(m.buf, dns.TypeOPT)
	m.buf = binary.BigEndian.AppendUint16(m.buf, ednsSize)
	m.buf = append(m.buf, byte(extendedRcode>>4), 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(m.buf[10:], binary.BigEndian.Uint16(m.buf[10:])+1)
}

const ednsSize = 1232
