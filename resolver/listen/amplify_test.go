package listen

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// everyone returns the limits in others, followed by a limit in bytes per second for all other clients.
func everyone(bytes int64, others ...AnswerLimit) []AnswerLimit {
	return append(others, AnswerLimit{netip.MustParsePrefix("0.0.0.0/0"), bytes}, AnswerLimit{netip.MustParsePrefix("::/0"), bytes})
}

// TestLargeAnswersAreLimited checks that a client network gets large answers until its allowance is used up, and truncated answers after that. Small
// answers, other networks and TCP are not limited.
func TestLargeAnswersAreLimited(t *testing.T) {
	const rate, size, asked = 20_000, 900, 100
	resolver := AnswerLimit{netip.MustParsePrefix("127.0.9.9/32"), 0}
	s, _ := serve(t, &fakeHandler{large: size, largeUDP: true}, Config{Workers: 1, Limits: everyone(rate, resolver)}, nil)
	from := func(ip string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(ip)}}
		c, err := d.Dial("udp4", addrOf(s))
		if err != nil {
			t.Skipf("this system has only one loopback address: %v", err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(deadline))
		return c
	}
	whole := func(c net.Conn, name string) (n int) {
		t.Helper()
		for i := range asked {
			if _, err := c.Write(query(t, uint16(i), name)); err != nil {
				t.Fatal(err)
			}
			answer := readDatagram(t, c)
			if len(answer) > size {
				n++
				continue
			}
			m := unpack(t, answer)
			if !m.Truncated || m.Rcode != dns.RcodeSuccess || len(m.Answer)+len(m.Ns)+len(m.Extra) != 0 {
				t.Fatalf("a limited answer is %v, want it truncated", m)
			}
		}
		return n
	}
	began := time.Now()
	first := whole(from("127.0.1.1"), "a.example")
	if most := int(float64(rate)*(2+time.Since(began).Seconds())) / (size - 150); first == 0 || first > most {
		t.Errorf("%d of %d answers of %d bytes were complete, want some, and at most %d", first, asked, size, most)
	}
	if n := whole(from("127.0.1.2"), "slow.example"); n == asked {
		t.Error("the network has no allowance left, but its second client is not limited on the slow path")
	}
	if n := whole(from("127.0.2.1"), "a.example"); n == 0 {
		t.Error("another network is limited from the first answer")
	}
	if n := whole(from("127.0.9.9"), "a.example"); n != asked {
		t.Errorf("a client with no limit: %d of %d answers were complete", n, asked)
	}
	small := from("127.0.1.3")
	for i := range asked {
		if m := ask(t, small, uint16(i), "small.example"); m.Truncated {
			t.Fatalf("a small answer is truncated: %v", m)
		}
	}
	if b, err := dnstest.ExchangePacked("tcp", addrOf(s), query(t, 1, "a.example")); err != nil || len(b) < size {
		t.Errorf("over TCP: %d bytes, %v", len(b), err)
	}
	if n := metric(t, s, "rempart_udp_answers_limited_total"); n < asked-float64(first) {
		t.Errorf("rempart_udp_answers_limited_total is %v", n)
	}
}

// TestAmplificationAllowance checks the arithmetic of the limit.
func TestAmplificationAllowance(t *testing.T) {
	special := AnswerLimit{netip.MustParsePrefix("192.0.2.8/29"), 4000}
	first := AnswerLimit{netip.MustParsePrefix("198.51.100.0/28"), 4000} // has the same first address as the network that contains it
	a := newAmplification(everyone(1000, special, first))
	second := func(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
	for i, c := range []struct {
		client string
		bytes  int64
		at     float64
		want   bool
	}{
		{"192.0.2.1", 600, 0, true},
		{"192.0.2.200", 600, 0, false}, // the same network
		{"192.0.2.200", 400, 0, true},
		{"192.0.2.1", 1, 0, false},
		{"192.0.2.1", 500, 0.5, true},
		{"192.0.2.1", 1, 0.5, false},
		{"192.0.2.1", 1001, 9, false}, // the allowance never exceeds that of one second
		{"192.0.2.1", 1000, 9, true},
		{"192.0.3.1", 1000, 9, true},
		{"192.0.2.9", 4000, 9, true},
		{"192.0.2.15", 1, 9, false},
		{"198.51.100.200", 1000, 9, true},
		{"198.51.100.1", 4000, 9, true}, // its allowance does not depend on its neighbours
		{"198.51.100.201", 1, 9, false},
		{"2001:db8::1", 1000, 9, true},
		{"2001:db8:0:ff::1", 1, 9, false},
		{"2001:db8:0:100::1", 1000, 9, true},
	} {
		if got := a.charge(netip.MustParseAddr(c.client), c.bytes, second(c.at)); got != c.want {
			t.Errorf("%d: %d bytes for %s at %v s: %v", i, c.bytes, c.client, c.at, got)
		}
	}
	if bytes, _ := newAmplification(append(everyone(1000), everyone(2000)[1])).limit(netip.MustParseAddr("2001:db8::1")); bytes != 2000 {
		t.Errorf("two limits for the same prefix: the limit of %d bytes applies, want the last one", bytes)
	}
	if newAmplification(everyone(0)) != nil {
		t.Error("a limiter was made although there is no limit")
	}
}
