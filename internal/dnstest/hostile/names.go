package hostile

import (
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// addNames adds records whose owner is not a valid name, or not the name in the question.
func addNames(c *catalogue) {
	// owned answers with a record whose owner depends on its offset in the message.
	owned := func(owner func(at int) string) dnstest.Handler {
		return written(func(q *dnstest.Query) draft {
			d := bareReply(q)
			return d.answer(record(owner(len(d)), dns.TypeA, rightData))
		})
	}
	to := func(o Outcome, name string, target func(at int) int) {
		c.add(name, o, owned(func(at int) string { return pointer(target(at)) }))
	}
	to(OutcomeFailure, "owner-points-to-itself", func(at int) int { return at })
	to(OutcomeFailure, "owner-points-forward", func(at int) int { return at + 2 })
	to(OutcomeFailure, "owner-points-to-data", func(at int) int { return at + 12 })
	to(OutcomeFailure, "owner-points-past-the-end", func(int) int { return 0x3fff })
	c.each([]int{0, 2, 4, 11}, 0, 11, func(n int) {
		to(OutcomeFailure, fmt.Sprintf("owner-points-into-header-%d", n), func(int) int { return n })
	})
	c.each([]int{13, 15, 20}, 13, 120, func(n int) {
		to(OutcomeAny, fmt.Sprintf("owner-points-to-%d", n), func(int) int { return n })
	})
	c.add("owner-loop-with-label", OutcomeFailure, owned(func(at int) string { return openName("abc") + pointer(at) }))
	c.add("owner-loop-of-two", OutcomeFailure, written(func(q *dnstest.Query) draft {
		d := bareReply(q)
		at := len(d)
		return d.answer(record(pointer(at+12), dns.TypeCNAME, pointer(at)))
	}))
	c.each([]int{2, 10, 200, 600}, 2, 40, func(n int) {
		o := OutcomeAny // many pointers are allowed, but a reader may stop following them
		if n <= 10 {
			o = OutcomeRight
		}
		c.add(fmt.Sprintf("owner-behind-%d-pointers", n), o, written(func(q *dnstest.Query) draft { return chained(q, n) }))
	})
	for _, high := range []byte{0x40, 0x41, 0x80, 0xbf} {
		c.add(fmt.Sprintf("owner-label-%02x", high), OutcomeFailure, owned(func(int) string { return string([]byte{high}) + "x\x00" }))
	}
	c.add("owner-without-end", OutcomeFailure, written(func(q *dnstest.Query) draft { return bareReply(q).count(answers, 1).bytes(openName("abc", "def")) }))
	c.add("owner-cut-pointer", OutcomeFailure, written(func(q *dnstest.Query) draft { return bareReply(q).count(answers, 1).bytes("\xc0") }))
	c.add("owner-cut-label", OutcomeFailure, written(func(q *dnstest.Query) draft { return bareReply(q).count(answers, 1).bytes("\x3fabc") }))
	c.add("owner-root", OutcomeFailure, owned(func(int) string { return "\x00" }))
	c.add("owner-poison", OutcomeFailure, answering(poison))
	c.add("owner-parent", OutcomeFailure, written(func(q *dnstest.Query) draft {
		return bareReply(q).answer(record(pointer(headerLen+1+int(questionOf(q)[0])), dns.TypeA, poisonData))
	}))
	c.add("owner-child", OutcomeFailure, answering(record(openName("child")+here, dns.TypeA, poisonData)))
	c.add("owner-of-256-bytes", OutcomeFailure, owned(func(int) string { return longName(256) }))
	c.add("owner-of-300-labels", OutcomeFailure, owned(func(int) string { return strings.Repeat("\x01a", 300) + "\x00" }))
	c.add("owner-longer-by-pointer", OutcomeFailure, owned(func(int) string { return openName(labelsOf(250)...) + here }))
	c.add("owner-spelt-out", OutcomeRight, written(func(q *dnstest.Query) draft {
		return bareReply(q).answer(record(nameOf(q), dns.TypeA, rightData))
	}))
	c.add("owner-other-case", OutcomeRight, written(func(q *dnstest.Query) draft {
		name := []byte(nameOf(q))
		name[1] ^= 0x20
		return bareReply(q).answer(record(string(name), dns.TypeA, rightData))
	}))
}

// chained returns the right answer to q, with an owner that is reached over n pointers. The pointers are in the data of a record that
// does not belong to the answer.
func chained(q *dnstest.Query, n int) draft {
	d := bareReply(q)
	at := len(d) + len(recordOf("\x00", 65280, dns.ClassINET, 300, 0, ""))
	data := here
	for i := range n - 2 {
		data += pointer(at + 2*i)
	}
	d = d.answer(record("\x00", 65280, data))
	return d.answer(record(pointer(at+2*(n-2)), dns.TypeA, rightData))
}

// labelsOf returns labels that take n bytes in a name, without the root label. n is at least 2.
func labelsOf(n int) (labels []string) {
	for n > 65 {
		labels = append(labels, strings.Repeat("l", 62))
		n -= 63
	}
	if n == 65 {
		return append(labels, strings.Repeat("l", 31), strings.Repeat("l", 32))
	}
	return append(labels, strings.Repeat("l", n-1))
}

// longName returns a name of n bytes.
func longName(n int) string { return wireName(labelsOf(n - 1)...) }

// addTargets adds aliases to unusual names that no host uses, and aliases whose target is not a valid name.
func addTargets(c *catalogue) {
	for _, odd := range oddNames() {
		c.add("target-"+odd.name, OutcomeRight, answering(record(here, dns.TypeCNAME, odd.wire), record(odd.wire, dns.TypeA, rightData)))
		c.add("target-only-"+odd.name, OutcomeAny, answering(record(here, dns.TypeCNAME, odd.wire)))
	}
	c.each([]int{0, '.', ' ', '\\', 255}, 0, 255, func(n int) {
		b := string([]byte{byte(n)})
		for i, label := range []string{b + "always", "al" + b + "ways", "always" + b, b, strings.Repeat(b, 50)} {
			target := wireName(label, "target", "example")
			c.add(fmt.Sprintf("target-byte-%d-%d", n, i), OutcomeRight,
				answering(record(here, dns.TypeCNAME, target), record(target, dns.TypeA, rightData)))
		}
	})
	bad := func(name string, target func(at int) string) {
		c.add("target-"+name, OutcomeFailure, written(func(q *dnstest.Query) draft {
			d := bareReply(q)
			return d.answer(record(here, dns.TypeCNAME, target(len(d)+12)), rightRecord)
		}))
	}
	bad("empty", func(int) string { return "" })
	bad("points-to-itself", func(at int) string { return pointer(at) })
	bad("points-to-its-label", func(at int) string { return openName("abc") + pointer(at) })
	bad("points-forward", func(at int) string { return pointer(at + 4) })
	bad("points-into-header", func(int) string { return pointer(3) })
	bad("points-past-the-end", func(int) string { return pointer(0x3ffe) })
	bad("with-bytes-behind", func(int) string { return here + openName("hello") })
	bad("with-null-behind", func(int) string { return here + "\x00" })
	bad("without-end", func(int) string { return openName("abc", "def") })
	bad("cut-label", func(int) string { return "\x3fabc" })
	bad("cut-pointer", func(int) string { return "\x03abc\xc0" })
	bad("reserved-label", func(int) string { return "\x80abc\x00" })
	bad("extended-label", func(int) string { return "\x41\x01\x00" })
	for _, n := range []int{256, 257, 320, 511, 2000} {
		bad(fmt.Sprintf("of-%d-bytes", n), func(int) string { return longName(n) })
	}
	bad("of-300-labels", func(int) string { return strings.Repeat("\x01a", 300) + "\x00" })
}

// oddName is a valid name that no host uses.
type oddName struct{ name, wire string }

func oddNames() []oddName {
	every := make([]byte, 60)
	for i := range every {
		every[i] = byte(i * 4)
	}
	return []oddName{
		{"255-bytes", longName(255)},
		{"127-labels", strings.Repeat("\x01a", 127) + "\x00"},
		{"63-byte-labels", wireName(strings.Repeat("x", 63), strings.Repeat("y", 63))},
		{"null-bytes", wireName(strings.Repeat("\x00", 60), "example")},
		{"every-byte", wireName(string(every), "example")},
		{"dot-in-label", wireName("a.b", "example")},
		{"only-dots", wireName("...", "example")},
		{"url", wireName("http://www", "example", "com/")},
		{"port", wireName("www", "example", "com:80")},
		{"address", wireName("192", "0", "2", "1")},
		{"address-in-one-label", wireName("192.0.2.1")},
		{"spaces", wireName("  ", "example")},
		{"single-label", wireName("x")},
		{"backslash", wireName("\\", "example")},
		{"newline", wireName("a\r\nb", "example")},
		{"quotes", wireName("\"';--", "example")},
		{"markup", wireName("<script>", "example")},
		{"high-bytes", wireName("\xff\xfe\xc0\x0c", "example")},
		{"pointer-like", wireName("\xc0\x0c\x00", "example")},
	}
}
