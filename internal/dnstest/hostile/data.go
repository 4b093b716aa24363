package hostile

import (
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// addData adds records whose data is malformed for their type, or whose fixed fields are wrong.
func addData(c *catalogue) {
	for _, f := range []struct {
		typ  uint16
		few  []int
		most int
		unit string // repeated to make the data
	}{
		{dns.TypeA, []int{0, 1, 3, 5, 8, 16}, 20, "\xc0"}, {dns.TypeAAAA, []int{0, 4, 15, 17, 32}, 40, "\x20"},
	} {
		c.each(f.few, 0, f.most, func(n int) {
			if f.typ == dns.TypeA && n == 4 || f.typ == dns.TypeAAAA && n == 16 {
				return
			}
			c.addType(fmt.Sprintf("%s-of-%d-bytes", strings.ToLower(dns.TypeToString[f.typ]), n), f.typ, OutcomeFailure,
				answering(record(here, f.typ, strings.Repeat(f.unit, n))))
		})
	}
	for _, f := range []struct {
		name string
		typ  uint16
		data string
	}{
		{"txt-empty", dns.TypeTXT, ""}, {"txt-string-cut", dns.TypeTXT, "\x05abc"}, {"txt-second-string-cut", dns.TypeTXT, "\x01a\xff"},
		{"mx-empty", dns.TypeMX, ""}, {"mx-without-name", dns.TypeMX, "\x00\x0a"}, {"mx-name-loop", dns.TypeMX, "\x00\x0a\xff\xff"},
		{"mx-bytes-behind", dns.TypeMX, "\x00\x0a" + here + "x"}, {"srv-short", dns.TypeSRV, "\x00\x01\x00\x01"}, {"srv-name-cut", dns.TypeSRV, "\x00\x01\x00\x01\x00\x35\x09abc"},
		{"ns-empty", dns.TypeNS, ""}, {"ns-reserved-label", dns.TypeNS, "\x80\x00"}, {"ptr-empty", dns.TypePTR, ""}, {"ptr-bytes-behind", dns.TypePTR, here + here},
		{"soa-one-name", dns.TypeSOA, "\x00"}, {"soa-without-times", dns.TypeSOA, "\x00\x00"}, {"soa-short", dns.TypeSOA, soaData[:len(soaData)-1]}, {"soa-long", dns.TypeSOA, soaData + "\x00"},
		{"cname-empty", dns.TypeCNAME, ""}, {"dname-bytes-behind", dns.TypeDNAME, here + "\x00"},
		{"https-empty", dns.TypeHTTPS, ""}, {"https-without-target", dns.TypeHTTPS, "\x00\x01"}, {"https-target-cut", dns.TypeHTTPS, "\x00\x01\x05abc"},
		{"https-key-cut", dns.TypeHTTPS, "\x00\x01\x00\x00\x04\x00"}, {"https-value-cut", dns.TypeHTTPS, "\x00\x01\x00\x00\x04\x00\x08\xc0\x00\x02\x01"},
		{"https-hint-of-3-bytes", dns.TypeHTTPS, "\x00\x01\x00\x00\x04\x00\x03\xc0\x00\x02"}, {"https-port-of-3-bytes", dns.TypeHTTPS, "\x00\x01\x00\x00\x03\x00\x03\x00\x00\x02"},
		{"https-empty-alpn", dns.TypeHTTPS, "\x00\x01\x00\x00\x01\x00\x01\x00"}, {"https-alpn-cut", dns.TypeHTTPS, "\x00\x01\x00\x00\x01\x00\x02\x05h"},
		{"https-keys-out-of-order", dns.TypeHTTPS, "\x00\x01\x00\x00\x04\x00\x04\xc0\x00\x02\x01\x00\x03\x00\x02\x01\xbb"},
		{"https-key-twice", dns.TypeHTTPS, "\x00\x01\x00\x00\x03\x00\x02\x01\xbb\x00\x03\x00\x02\x01\xbb"},
		{"svcb-value-cut", dns.TypeSVCB, "\x00\x01\x00\x00\x06\x00\x11" + strings.Repeat("\x20", 16)},
		{"caa-empty", dns.TypeCAA, ""}, {"caa-tag-cut", dns.TypeCAA, "\x00\x09issue"}, {"caa-tag-empty", dns.TypeCAA, "\x00\x00value"}, {"naptr-short", dns.TypeNAPTR, "\x00\x01\x00"},
		{"naptr-string-cut", dns.TypeNAPTR, "\x00\x01\x00\x01\x01S\x09SIP"}, {"naptr-without-name", dns.TypeNAPTR, "\x00\x01\x00\x01\x01S\x00\x00"},
		{"ds-short", dns.TypeDS, "\x00\x01\x0d"}, {"dnskey-short", dns.TypeDNSKEY, "\x01\x00\x03"}, {"tlsa-short", dns.TypeTLSA, "\x03\x01"}, {"sshfp-short", dns.TypeSSHFP, "\x01"},
		{"loc-short", dns.TypeLOC, "\x00\x12\x16"}, {"hinfo-one-string", dns.TypeHINFO, "\x03CPU"}, {"rrsig-short", dns.TypeRRSIG, "\x00\x01\x0d"}, {"nsec-bitmap-cut", dns.TypeNSEC, here + "\x00\x06\x40"},
	} {
		c.addType(f.name, f.typ, OutcomeFailure, answering(record(here, f.typ, f.data)))
	}
	addFixed(c)
}

// addFixed adds records with a wrong type, class, TTL or length, and many records.
func addFixed(c *catalogue) {
	c.each([]int{0, 2, 3, 254, 255}, 2, 255, func(n int) {
		c.add(fmt.Sprintf("class-%d", n), OutcomeFailure, answering(recordOf(here, dns.TypeA, uint16(n), 300, 4, poisonData)))
		c.add(fmt.Sprintf("class-%d-beside", n), OutcomeRight, answering(recordOf(here, dns.TypeA, uint16(n), 300, 4, poisonData), rightRecord))
	})
	c.each([]int{0, 16, 28, 41, 249, 250, 251, 252, 255}, 2, 260, func(n int) {
		o := OutcomeAny // for some types the data is malformed
		if n == int(dns.TypeAAAA) || n == int(dns.TypeOPT) {
			o = OutcomeFailure
		}
		c.add(fmt.Sprintf("type-%d", n), o, answering(record(here, uint16(n), poisonData), rightRecord))
	})
	for _, ttl := range []uint32{0, 1, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		c.add(fmt.Sprintf("ttl-%d", ttl), OutcomeRight, answering(recordOf(here, dns.TypeA, dns.ClassINET, ttl, 4, rightData)))
	}
	c.each([]int{0, 3, 5, 16, 255}, 0, 40, func(n int) {
		if n != 4 {
			c.add(fmt.Sprintf("length-%d-of-4-bytes", n), OutcomeFailure, answering(recordOf(here, dns.TypeA, dns.ClassINET, 300, n, rightData)))
		}
	})
	c.add("length-65535-of-4-bytes", OutcomeFailure, answering(recordOf(here, dns.TypeA, dns.ClassINET, 300, 65535, rightData)))
	c.addType("txt-of-65280-bytes", dns.TypeTXT, OutcomeAny, answering(record(here, dns.TypeTXT, strings.Repeat("\xff"+strings.Repeat("t", 255), 255))))
	c.addType("txt-empty-strings", dns.TypeTXT, OutcomeAny, answering(record(here, dns.TypeTXT, strings.Repeat("\x00", 700))))
	c.addType("txt-random-bytes", dns.TypeTXT, OutcomeAny, answering(record(here, dns.TypeTXT, "\xff"+strings.Repeat("\x00\x01\xfe\xff\xc0", 51))))
	c.addType("unknown-type", 65280, OutcomeAny, answering(record(here, 65280, here+"anything")))
	c.each([]int{2, 100, 3000}, 2, 60, func(n int) {
		c.addType(fmt.Sprintf("txt-records-%d", n), dns.TypeTXT, OutcomeAny, answering(numbered(n, func(i int) string {
			return record(here, dns.TypeTXT, fmt.Sprintf("\x06%06d", i))
		})...))
		c.add(fmt.Sprintf("a-records-%d", n), OutcomeAny, answering(numbered(n, func(i int) string {
			return record(here, dns.TypeA, string([]byte{192, 0, byte(i >> 8), byte(i)}))
		})...))
	})
}

// numbered returns n records.
func numbered(n int, rr func(i int) string) (records []string) {
	for i := range n {
		records = append(records, rr(i))
	}
	return records
}

// addLengths adds messages that are cut, empty or followed by other bytes.
func addLengths(c *catalogue) {
	// The last record has the same length in each message, whatever the name in the question.
	c.each([]int{1, 4, 5, 6, 10, 15, 16}, 1, 16, func(n int) {
		c.add(fmt.Sprintf("cut-%d", n), OutcomeFailure, written(func(q *dnstest.Query) draft { d := right(q); return d[:len(d)-n] }))
		c.add(fmt.Sprintf("cut-%d-and-null", n), OutcomeAny, written(func(q *dnstest.Query) draft {
			d := right(q)
			clear(d[len(d)-n:])
			return d
		}))
	})
	c.each([]int{0, 1, 2, 11, 12, 13}, 0, 40, func(n int) {
		c.addSilent(fmt.Sprintf("first-%d-bytes", n), OutcomeFailure, written(func(q *dnstest.Query) draft { return right(q)[:n] }))
		c.addSilent(fmt.Sprintf("nulls-%d", n), OutcomeFailure, written(func(*dnstest.Query) draft { return make(draft, n) }))
		c.addSilent(fmt.Sprintf("id-and-%d-nulls", n), OutcomeFailure, written(func(q *dnstest.Query) draft { return append(header(q)[:2], make(draft, n)...) }))
		c.addSilent(fmt.Sprintf("header-and-%d-nulls", n), OutcomeAny, written(func(q *dnstest.Query) draft {
			return header(q).count(questions, 1).count(answers, 1).bytes(strings.Repeat("\x00", n))
		}))
	})
	c.add("header-only", OutcomeAny, written(header))
	c.add("question-only", OutcomeAny, written(bareReply))
	c.add("question-then-nulls", OutcomeFailure, written(func(q *dnstest.Query) draft { return bareReply(q).count(answers, 1).bytes(strings.Repeat("\x00", 40)) }))
	c.each([]int{1, 2, 10, 500, 1100}, 1, 60, func(n int) {
		for _, b := range []string{"\x00", "\xff"} {
			c.add(fmt.Sprintf("%d-bytes-%02x-behind", n, b), OutcomeRight, written(func(q *dnstest.Query) draft { return right(q).bytes(strings.Repeat(b, n)) }))
		}
	})
	c.add("record-behind", OutcomeRight, written(func(q *dnstest.Query) draft { return right(q).bytes(poison) }))
	c.add("message-behind", OutcomeRight, written(func(q *dnstest.Query) draft { return right(q).bytes(string(right(q))) }))
	for _, n := range []int{4000, 4096, 9000, 50000} {
		c.add(fmt.Sprintf("datagram-with-%d-bytes-behind", n), OutcomeRight, func(q *dnstest.Query) { q.SendRaw(right(q).bytes(strings.Repeat("\x00", n))) })
	}
	c.add("message-of-65535-bytes", OutcomeRight, written(func(q *dnstest.Query) draft { d := right(q); return append(d, make(draft, 65535-len(d))...) }))
}

// addBits adds the right answer with one bit or byte changed.
func addBits(c *catalogue) {
	c.each([]int{16, 23, 31, 39, 47, 63, 79, 95}, 16, 95, func(bit int) {
		c.add(fmt.Sprintf("header-bit-%d", bit), OutcomeAny, written(func(q *dnstest.Query) draft { return flipped(right(q), bit) }))
		c.list[len(c.list)-1].Silent = bit <= 20 || bit >= 32 && bit < 48 // a query, another opcode or another number of questions
	})
	c.each([]int{0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99, 108, 117, 127}, 0, 127, func(bit int) {
		c.add(fmt.Sprintf("record-bit-%d", bit), OutcomeAny, written(func(q *dnstest.Query) draft { return flipped(right(q), 8*len(bareReply(q))+bit) }))
	})
	c.each([]int{1, 33, 34}, 1, 8*20, func(bit int) {
		c.addSilent(fmt.Sprintf("question-bit-%d", bit), OutcomeAny, written(func(q *dnstest.Query) draft { return flipped(right(q), 8*len(bareReply(q))-bit) }))
	})
	c.each([]int{0, 1, 2, 3, 4, 5, 8, 9, 10, 11}, 0, 15, func(at int) {
		for _, b := range []byte{0, 0x3f, 0xc0, 0xff} {
			c.add(fmt.Sprintf("record-byte-%d-is-%02x", at, b), OutcomeAny, written(func(q *dnstest.Query) draft {
				d := right(q)
				d[len(bareReply(q))+at] = b
				return d
			}))
		}
	})
}

// flipped returns d with one bit changed.
func flipped(d draft, bit int) draft {
	d[bit/8] ^= 0x80 >> (bit % 8)
	return d
}
