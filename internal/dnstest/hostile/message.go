package hostile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// addHeader adds answers with a wrong ID or other flags.
func addHeader(c *catalogue) {
	withID := func(change func(id uint16) uint16) dnstest.Handler {
		return written(func(q *dnstest.Query) draft {
			d := right(q)
			id := change(q.Msg.Id)
			d[0], d[1] = byte(id>>8), byte(id)
			return d
		})
	}
	c.addSilent("id-plus-one", OutcomeFailure, withID(func(id uint16) uint16 { return id + 1 }))
	c.addSilent("id-inverted", OutcomeFailure, withID(func(id uint16) uint16 { return ^id }))
	flagged := func(f uint16) dnstest.Handler {
		return written(func(q *dnstest.Query) draft { return right(q).flags(f) })
	}
	c.addSilent("query-with-answer", OutcomeFailure, flagged(usual&^flagQR))
	c.addSilent("query-back", OutcomeFailure, func(q *dnstest.Query) {
		packed, err := q.Msg.Pack()
		if err != nil {
			panic(err)
		}
		q.SendRaw(packed)
	})
	c.addSilent("query-back-stripped", OutcomeFailure, written(func(q *dnstest.Query) draft { return bareReply(q).flags(flagRD) }))
	c.add("truncated-everywhere", OutcomeAny, flagged(usual|flagTC))
	c.add("truncated-over-udp", OutcomeRight, dnstest.Truncate(rightly))
	c.add("truncated-with-half-of-it", OutcomeRight, dnstest.Truncate(written(right)))
	c.add("no-flags", OutcomeRight, flagged(flagQR))
	c.each([]int{1, 2, 4, 5, 6, 15}, 1, 15, func(n int) {
		c.addSilent(fmt.Sprintf("opcode-%d", n), OutcomeFailure, flagged(usual|uint16(n)<<11))
	})
	// All flags except QR and TC, including the reserved one.
	bits := []uint16{flagAA, flagRD, flagRA, 1 << 6, flagAD, flagCD}
	c.each([]int{1, 8, 16, 32, 63}, 1, 63, func(n int) {
		f := flagQR
		for i, bit := range bits {
			if n>>i&1 != 0 {
				f |= bit
			}
		}
		c.add(fmt.Sprintf("flags-%04x", f), OutcomeRight, flagged(f))
	})
}

// addQuestion adds answers with a question that is not the one asked.
func addQuestion(c *catalogue) {
	with := func(question func(q *dnstest.Query) string, count int) dnstest.Handler {
		return written(func(q *dnstest.Query) draft {
			return header(q).bytes(question(q)).count(questions, count).answer(record(nameOf(q), dns.TypeA, rightData))
		})
	}
	changed := func(change func(b []byte) []byte) dnstest.Handler {
		return with(func(q *dnstest.Query) string { return string(change(questionOf(q))) }, 1)
	}
	c.add("no-question", OutcomeAny, with(func(*dnstest.Query) string { return "" }, 0))
	c.addSilent("no-question-but-counted", OutcomeFailure, with(func(*dnstest.Query) string { return "" }, 1))
	c.add("question-not-counted", OutcomeAny, with(func(q *dnstest.Query) string { return string(questionOf(q)) }, 0))
	c.addSilent("question-only-null", OutcomeFailure, changed(func(b []byte) []byte { return make([]byte, len(b)) }))
	c.addSilent("question-other-name", OutcomeFailure, changed(func(b []byte) []byte { b[1] ^= 1; return b }))
	c.addSilent("question-of-poison", OutcomeFailure, written(func(q *dnstest.Query) draft {
		return header(q).bytes(wireName("poison", "example")+"\x00\x01\x00\x01").count(questions, 1).answer(rightRecord, poison)
	}))
	c.addSilent("question-longer-name", OutcomeFailure, changed(func(b []byte) []byte { return append([]byte("\x01x"), b...) }))
	c.addSilent("question-root", OutcomeFailure, changed(func([]byte) []byte { return []byte("\x00\x00\x01\x00\x01") }))
	c.addSilent("question-other-type", OutcomeFailure, changed(func(b []byte) []byte { b[len(b)-3] ^= 2; return b }))
	c.addSilent("question-other-class", OutcomeFailure, changed(func(b []byte) []byte { b[len(b)-1] = 3; return b }))
	c.addSilent("question-reserved-label", OutcomeFailure, changed(func(b []byte) []byte { b[0] |= 0x80; return b }))
	c.addSilent("question-pointer", OutcomeFailure, changed(func([]byte) []byte { return []byte(here + "\x00\x01\x00\x01") }))
	c.addSilent("question-cut", OutcomeFailure, written(func(q *dnstest.Query) draft { d := bareReply(q); return d[:len(d)-3] }))
	c.add("question-lower-case", OutcomeRight, changed(func(b []byte) []byte { return []byte(strings.ToLower(string(b))) }))
	c.add("question-upper-case", OutcomeRight, changed(func(b []byte) []byte {
		// Type and class hold no letters.
		return []byte(strings.ToUpper(string(b)))
	}))
	c.add("question-other-case", OutcomeRight, changed(func(b []byte) []byte { b[1] ^= 0x20; return b }))
	twice := func(q *dnstest.Query) string { return string(slices.Concat(questionOf(q), questionOf(q))) }
	c.addSilent("question-twice", OutcomeAny, with(twice, 2))
	c.addSilent("question-and-poison", OutcomeAny, with(func(q *dnstest.Query) string {
		return string(questionOf(q)) + wireName("poison", "example") + "\x00\x01\x00\x01"
	}, 2))
	c.addSilent("poison-and-question", OutcomeAny, with(func(q *dnstest.Query) string {
		return wireName("poison", "example") + "\x00\x01\x00\x01" + string(questionOf(q))
	}, 2))
	c.add("question-twice-counted-once", OutcomeFailure, with(twice, 1))
}

// addCounts adds answers whose header states wrong numbers of records.
func addCounts(c *catalogue) {
	for section, name := range []string{"questions", "answers", "authorities", "additionals"} {
		first, few := 2, []int{2, 50, 255, 256, 65535}
		if section > answers {
			first, few = 1, append([]int{1}, few...)
		}
		c.each(few, first, 60, func(n int) {
			c.add(fmt.Sprintf("%s-%d", name, n), OutcomeFailure, written(func(q *dnstest.Query) draft { return right(q).count(section, n) }))
			c.list[len(c.list)-1].Silent = section == questions
		})
	}
	c.add("answers-0", OutcomeAny, written(func(q *dnstest.Query) draft { return right(q).count(answers, 0) }))
	c.add("answers-in-authorities", OutcomeAny, written(func(q *dnstest.Query) draft { return right(q).count(answers, 0).count(authorities, 1) }))
	c.add("answers-in-additionals", OutcomeAny, written(func(q *dnstest.Query) draft { return right(q).count(answers, 0).count(additionals, 1) }))
	c.addSilent("all-counts", OutcomeFailure, written(func(q *dnstest.Query) draft {
		return right(q).count(questions, 65535).count(answers, 65535).count(authorities, 65535).count(additionals, 65535)
	}))
	c.add("no-counts", OutcomeAny, written(func(q *dnstest.Query) draft { return right(q).count(questions, 0).count(answers, 0) }))
}

// addRcodes adds every rcode, with and without records, and wrong OPT records.
func addRcodes(c *catalogue) {
	for n := 1; n <= 15; n++ {
		o := OutcomeFailure
		if n == dns.RcodeYXDomain || n == dns.RcodeNameError {
			o = OutcomeAny
		}
		c.add(fmt.Sprintf("rcode-%d", n), o, written(func(q *dnstest.Query) draft { return bareReply(q).rcode(n) }))
		c.add(fmt.Sprintf("rcode-%d-with-answer", n), o, written(func(q *dnstest.Query) draft { return right(q).rcode(n) }))
		c.add(fmt.Sprintf("rcode-%d-without-question", n), OutcomeFailure, written(func(q *dnstest.Query) draft { return header(q).rcode(n) }))
	}
	opt := func(high byte, data string) string {
		return recordOf("\x00", dns.TypeOPT, 1232, uint32(high)<<24, len(data), data)
	}
	c.each([]int{1, 255}, 1, 255, func(n int) {
		c.add(fmt.Sprintf("rcode-high-%d", n), OutcomeFailure, written(func(q *dnstest.Query) draft { return right(q).additional(opt(byte(n), "")) }))
	})
	c.add("opt-twice", OutcomeFailure, written(func(q *dnstest.Query) draft { return right(q).additional(opt(0, ""), opt(0, "")) }))
	c.add("opt-option-cut", OutcomeAny, written(func(q *dnstest.Query) draft { return right(q).additional(opt(0, "\x00\x0f\x00\xff\x00")) }))
	c.add("opt-version-9", OutcomeRight, written(func(q *dnstest.Query) draft {
		return right(q).additional(recordOf("\x00", dns.TypeOPT, 1232, 9<<16, 0, ""))
	}))
	c.add("opt-of-a-name", OutcomeAny, written(func(q *dnstest.Query) draft { return right(q).additional(record(here, dns.TypeOPT, "")) }))
	c.add("opt-in-answer", OutcomeFailure, answering(rightRecord, opt(0, "")))
	c.add("opt-in-authority", OutcomeFailure, written(func(q *dnstest.Query) draft { return right(q).authority(opt(0, "")) }))
	c.add("opt-unasked-options", OutcomeRight, written(func(q *dnstest.Query) draft {
		return right(q).additional(opt(0, "\x00\x08\x00\x07\x00\x01\x18\x00\xc6\x33\x64"+"\x00\x0a\x00\x08cookie01"+"\xff\xff\x00\x00"))
	}))
	c.add("formerr-to-edns", OutcomeRight, dnstest.NoEDNS(rightly))
	c.add("servfail-then-right", OutcomeAny, inTurn(dnstest.Rcode(dns.RcodeServerFailure), rightly))
	c.add("nxdomain-of-poison", OutcomeAny, written(func(q *dnstest.Query) draft { return bareReply(q).rcode(dns.RcodeNameError).answer(poison) }))
	c.add("nxdomain-with-foreign-soa", OutcomeAny, written(func(q *dnstest.Query) draft {
		return bareReply(q).rcode(dns.RcodeNameError).authority(record(wireName("poison", "example"), dns.TypeSOA, soaData))
	}))
}

// soaData is the data of a SOA record with a minimum of a day.
const soaData = "\x00\x00" + "\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04\x00\x01\x51\x80"
