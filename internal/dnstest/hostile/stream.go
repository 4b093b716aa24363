package hostile

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// inTurn calls the first handler for the first query for a name, the second handler for the second query, and the last
// handler for all later ones. It does not distinguish queries with and without an OPT.
func inTurn(handlers ...dnstest.Handler) dnstest.Handler {
	var mu sync.Mutex
	seen := map[string]int{}
	return func(q *dnstest.Query) {
		mu.Lock()
		name := strings.ToLower(q.Msg.Question[0].Name)
		n := min(seen[name], len(handlers)-1)
		seen[name]++
		mu.Unlock()
		handlers[n](q)
	}
}

// misframed returns a message behind a length, which need not be its own.
func misframed(length int, message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(length)), message...)
}

// overTCP answers with TC over UDP. Over a stream it sends the bytes that build returns, without a length before them.
func overTCP(build func(q *dnstest.Query) []byte) dnstest.Handler {
	return dnstest.Truncate(func(q *dnstest.Query) { q.Write(0, build(q)) })
}

// overUDP calls h over UDP, and gives the right answer over a stream.
func overUDP(h dnstest.Handler) dnstest.Handler {
	return func(q *dnstest.Query) {
		if q.Network == "udp" {
			h(q)
			return
		}
		rightly(q)
	}
}

// addFraming adds streams with wrong lengths, and messages in pieces.
func addFraming(c *catalogue) {
	c.each([]int{-40, -1, 1, 2, 500}, -60, 60, func(n int) {
		if n != 0 {
			c.add(fmt.Sprintf("frame-longer-by-%d", n), OutcomeAny, overTCP(func(q *dnstest.Query) []byte { d := right(q); return misframed(len(d)+n, d) }))
		}
	})
	for _, n := range []int{0, 1, 11, 12, 255, 65535} {
		c.add(fmt.Sprintf("frame-of-%d", n), OutcomeAny, overTCP(func(q *dnstest.Query) []byte { return misframed(n, right(q)) }))
	}
	c.add("no-length", OutcomeAny, overTCP(func(q *dnstest.Query) []byte { return right(q) }))
	c.add("length-backwards", OutcomeAny, overTCP(func(q *dnstest.Query) []byte { d := right(q); return misframed(len(d)<<8, d) }))
	for _, n := range []int{1, 10, 99, 200} {
		c.add(fmt.Sprintf("empty-frames-%d", n), OutcomeAny, overTCP(func(q *dnstest.Query) []byte { return append(make([]byte, 2*n), dnstest.Framed(right(q))...) }))
	}
	c.add("only-length", OutcomeAny, overTCP(func(q *dnstest.Query) []byte { return misframed(len(right(q)), nil) }))
	c.add("half-length", OutcomeAny, overTCP(func(*dnstest.Query) []byte { return []byte{0} }))
	c.add("text", OutcomeAny, overTCP(func(*dnstest.Query) []byte { return []byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n") }))
	c.add("tls-alert", OutcomeAny, overTCP(func(*dnstest.Query) []byte { return []byte("\x15\x03\x01\x00\x02\x02\x0a") }))
	c.add("nulls", OutcomeAny, overTCP(func(*dnstest.Query) []byte { return make([]byte, 4096) }))
	for _, size := range []int{1, 3, 20} {
		c.add(fmt.Sprintf("in-pieces-of-%d", size), OutcomeRight, inPieces(size, 0))
	}
	c.add("two-in-one-piece", OutcomeRight, overTCP(func(q *dnstest.Query) []byte {
		d := right(q)
		return dnstest.Framed(d, d)
	}))
	c.add("truncated-over-tcp", OutcomeAny, written(func(q *dnstest.Query) draft { return bareReply(q).flags(usual | flagTC) }))
	addEnds(c)
}

// addEnds adds connections that end early.
func addEnds(c *catalogue) {
	closing := func(h dnstest.Handler) dnstest.Handler {
		return dnstest.Truncate(func(q *dnstest.Query) {
			h(q)
			q.Close()
		})
	}
	c.add("close", OutcomeFailure, dnstest.Truncate(dnstest.Close()))
	c.addSilent("close-over-both", OutcomeFailure, dnstest.Close())
	c.add("close-after-length", OutcomeFailure, closing(func(q *dnstest.Query) { q.Write(0, []byte{0, 60}) }))
	c.add("close-after-half", OutcomeFailure, closing(func(q *dnstest.Query) { d := right(q); q.Write(0, misframed(len(d), d[:len(d)/2])) }))
	c.add("close-after-answer", OutcomeRight, closing(rightly))
	c.add("close-after-wrong-id", OutcomeFailure, closing(written(func(q *dnstest.Query) draft { d := right(q); d[0] ^= 0xff; return d })))
	c.add("close-then-right", OutcomeRight, dnstest.Truncate(inTurn(dnstest.Close(), rightly)))
	c.addSilent("close-then-silence", OutcomeFailure, dnstest.Truncate(inTurn(dnstest.Close(), dnstest.Drop())))
	c.add("malformed-then-right", OutcomeAny, inTurn(written(func(q *dnstest.Query) draft { d := right(q); return d[:len(d)-3] }), rightly))
}

// inPieces answers over a stream in pieces, with a pause after each.
func inPieces(size int, pause time.Duration) dnstest.Handler {
	return dnstest.Truncate(func(q *dnstest.Query) {
		d := right(q)
		q.Write(pause, slices.Collect(slices.Chunk(dnstest.Framed(d), size))...)
	})
}

// addTiming adds answers that arrive late, slowly or never.
func addTiming(c *catalogue) {
	c.addSilent("silence", OutcomeFailure, dnstest.Drop())
	c.addSilent("silence-over-tcp", OutcomeFailure, dnstest.Truncate(dnstest.Drop()))
	// Rempart sends questions again within a budget, which may be used up.
	c.add("silence-to-edns", OutcomeAny, func(q *dnstest.Query) {
		if q.Msg.IsEdns0() == nil {
			rightly(q)
		}
	})
	c.add("silence-then-right", OutcomeRight, overUDP(inTurn(dnstest.Drop(), rightly)))
	c.each([]int{1, 10}, 1, 20, func(n int) {
		d := time.Duration(n) * 100 * time.Millisecond
		c.add(fmt.Sprintf("late-by-%d", d.Milliseconds()), OutcomeRight, dnstest.Delay(d, rightly))
		c.add(fmt.Sprintf("late-over-tcp-by-%d", d.Milliseconds()), OutcomeRight, dnstest.Truncate(dnstest.Delay(d, rightly)))
	})
	c.addSilent("late-by-5000", OutcomeFailure, dnstest.Delay(5*time.Second, rightly))
	c.add("one-byte-per-100ms", OutcomeAny, inPieces(1, 100*time.Millisecond))
	c.add("poison-at-once-answer-late", OutcomeRight, overUDP(func(q *dnstest.Query) {
		q.SendRaw(header(q).bytes(wireName("poison", "example")+"\x00\x01\x00\x01").count(questions, 1).answer(poison))
		dnstest.Delay(300*time.Millisecond, rightly)(q)
	}))
}

// addSeveral adds several messages for one question.
func addSeveral(c *catalogue) {
	wrongID := func(q *dnstest.Query) draft {
		d := bareReply(q).answer(record(here, dns.TypeA, poisonData))
		d[1] ^= 0x55
		return d
	}
	other := func(q *dnstest.Query) draft {
		return header(q).bytes(wireName("poison", "example")+"\x00\x01\x00\x01").count(questions, 1).answer(poison)
	}
	otherType := func(q *dnstest.Query) draft {
		d := bareReply(q)
		d[len(d)-3] = 28
		return d
	}
	isQuery := func(q *dnstest.Query) draft { return right(q).flags(flagRD) }
	short := func(q *dnstest.Query) draft { return right(q)[:7] }
	cut := func(q *dnstest.Query) draft { d := right(q); return d[:len(d)-2] }
	nothing := func(*dnstest.Query) draft { return nil }
	many := func(n int, build func(q *dnstest.Query) draft) []func(q *dnstest.Query) draft {
		list := make([]func(q *dnstest.Query) draft, n)
		for i := range list {
			list[i] = build
		}
		return list
	}
	c.add("right-twice", OutcomeRight, sequence(right, right))
	c.add("right-100-times", OutcomeRight, sequence(many(100, right)...))
	c.add("right-then-nxdomain", OutcomeRight, sequence(right, func(q *dnstest.Query) draft { return bareReply(q).rcode(dns.RcodeNameError) }))
	c.add("right-then-poison", OutcomeRight, sequence(right, func(q *dnstest.Query) draft { return bareReply(q).answer(record(here, dns.TypeA, poisonData)) }))
	c.add("right-then-malformed", OutcomeRight, sequence(right, cut))
	c.add("malformed-first", OutcomeAny, sequence(cut, right))
	c.add("servfail-first", OutcomeAny, sequence(func(q *dnstest.Query) draft { return bareReply(q).rcode(dns.RcodeServerFailure) }, right))
	c.add("truncated-first", OutcomeRight, sequence(func(q *dnstest.Query) draft {
		if q.Network == "udp" {
			return bareReply(q).flags(usual | flagTC)
		}
		return right(q)
	}, right))
	for _, f := range []struct {
		name  string
		build func(q *dnstest.Query) draft
	}{
		{"wrong-id", wrongID}, {"other-name", other}, {"other-type", otherType}, {"a-query", isQuery}, {"short", short}, {"nothing", nothing},
	} {
		c.add(f.name+"-first", OutcomeRight, overUDP(sequence(f.build, right)))
		// Over a stream only the upstream can send, so a wrong message with the ID of a question may end the wait for its answer.
		c.add(f.name+"-first-everywhere", OutcomeAny, sequence(f.build, right))
		for _, n := range []int{10, 19, 20, 60} {
			c.add(fmt.Sprintf("%s-first-%d-times", f.name, n), OutcomeRight, overUDP(sequence(append(many(n, f.build), right)...)))
		}
		c.add(f.name+"-last", OutcomeRight, sequence(right, f.build))
	}
	c.add("without-question-first", OutcomeAny, sequence(header, right))
	c.add("spoofed", OutcomeRight, overUDP(dnstest.Spoof(rightly)))
}
