package listen

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/resolver/limits"
	"rempart/resolver/listen/fake"
)

// everyone returns the limits in others, followed by a limit for all other clients.
func everyone(bytes, answers int64, others ...limits.Limit) limits.Config {
	return limits.Config{Limits: append(others, limits.Limit{Clients: netip.MustParsePrefix("0.0.0.0/0"), Bytes: bytes, Answers: answers})}
}

// dialFrom opens a UDP socket from a loopback address.
func dialFrom(t *testing.T, ip, to string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(ip)}}
	c, err := d.Dial("udp4", to)
	if err != nil {
		t.Skipf("this system has only one loopback address: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(fake.Deadline))
	return c
}

// TestLargeAnswersAreLimited checks that a client network gets large answers until its allowance is used up, and truncated answers after that. Small
// answers, other networks and TCP are not limited.
func TestLargeAnswersAreLimited(t *testing.T) {
	const rate, size, asked = 20_000, 900, 100
	resolver := limits.Limit{Clients: netip.MustParsePrefix("127.0.9.9/32")}
	s, _ := serve(t, &fake.Handler{Large: size, LargeUDP: true}, Config{Workers: 1, Limits: everyone(rate, 0, resolver)}, nil)
	from := func(ip string) net.Conn { return dialFrom(t, ip, addrOf(s)) }
	whole := func(c net.Conn, name string) (n int) {
		t.Helper()
		for i := range asked {
			if _, err := c.Write(fake.Query(t, uint16(i), name)); err != nil {
				t.Fatal(err)
			}
			answer := readDatagram(t, c)
			if len(answer) > size {
				n++
				continue
			}
			m := fake.Unpack(t, answer)
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
	if b, err := dnstest.ExchangePacked("tcp", addrOf(s), fake.Query(t, 1, "a.example")); err != nil || len(b) < size {
		t.Errorf("over TCP: %d bytes, %v", len(b), err)
	}
	if n := metric(t, s, "rempart_udp_answers_limited_total", "bytes", "truncated"); n < asked-float64(first) {
		t.Errorf("rempart_udp_answers_limited_total is %v", n)
	}
}

// TestNumberOfAnswersIsLimited checks that a network above its limit of answers gets truncated ones, on the fast path and on the slow one, which then does no work;
// that other networks are not limited; and that a client with a valid cookie is not limited.
func TestNumberOfAnswersIsLimited(t *testing.T) {
	h := &fake.Handler{}
	config := everyone(0, 10)
	config.IPv4Bits = 24
	s, _ := serve(t, h, Config{Workers: 1, Limits: config}, nil)
	truncated := func(from net.Conn, name string) (n int) {
		for i := range 30 {
			if m := ask(t, from, uint16(i), name); m.Truncated {
				n++
			}
		}
		return n
	}
	first := dialFrom(t, "127.0.1.1", addrOf(s))
	if n := truncated(first, "a.example"); n < 15 {
		t.Errorf("%d of 30 answers were truncated, want most of those above 10", n)
	}
	if n := truncated(dialFrom(t, "127.0.1.2", addrOf(s)), "slow.example"); n < 15 {
		t.Errorf("another client of the network: %d of 30 answers of the slow path were truncated, want most", n)
	}
	if m := ask(t, dialFrom(t, "127.0.2.1", addrOf(s)), 1, "a.example"); m.Truncated {
		t.Error("another network is limited")
	}
	if n := truncated(first, "valid-cookie.example"); n != 0 {
		t.Errorf("a client with a valid cookie: %d of 30 answers were truncated", n)
	}
	if n := metric(t, s, "rempart_udp_answers_limited_total", "answers", "truncated"); n < 30 {
		t.Errorf("rempart_udp_answers_limited_total is %v, want 30 or more", n)
	}
	if n := metric(t, s, "rempart_udp_cookies_total", "valid"); n != 30 {
		t.Errorf("rempart_udp_cookies_total of valid cookies is %v, want 30", n)
	}
}

// TestDroppedAndObservedAnswers checks the other actions of a limit.
func TestDroppedAndObservedAnswers(t *testing.T) {
	for _, tt := range []struct {
		action limits.Action
		want   bool
	}{{limits.Drop, false}, {limits.Observe, true}} {
		config := everyone(0, 1)
		config.Action = tt.action
		s, _ := serve(t, &fake.Handler{}, Config{Workers: 1, Limits: config}, nil)
		c := dialFrom(t, "127.0.1.1", addrOf(s))
		answered := 0
		for i := range 10 {
			name := "a.example"
			if i%2 == 1 {
				name = "slow.example"
			}
			if _, err := c.Write(fake.Query(t, uint16(i), name)); err != nil {
				t.Fatal(err)
			}
		}
		fake.Eventually(t, "the limited answers are counted", func() bool {
			return metric(t, s, "rempart_udp_answers_limited_total", "answers", tt.action.String()) >= 8
		})
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		for buf := make([]byte, 2048); answered < 10; answered++ {
			if _, err := c.Read(buf); err != nil {
				break
			}
		}
		if (answered == 10) != tt.want {
			t.Errorf("%v: %d of 10 queries were answered", tt.action, answered)
		}
	}
}

// TestIgnoredPorts checks that nothing is answered to an ignored port, that it is counted, and that other ports are answered.
func TestIgnoredPorts(t *testing.T) {
	probe, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	port := probe.LocalAddr().(*net.UDPAddr).Port
	s, _ := serve(t, &fake.Handler{}, Config{Workers: 1, Ignored: []uint16{uint16(port), 0xffff}}, nil)
	if _, err := probe.WriteTo(fake.Query(t, 1, "a.example"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addrOf(s)))); err != nil {
		t.Fatal(err)
	}
	fake.Eventually(t, "the query is counted", func() bool { return metric(t, s, "rempart_udp_queries_ignored_total", "port") == 1 })
	if m := ask(t, fake.Dial(t, "udp", addrOf(s)), 2, "a.example"); m.Id != 2 {
		t.Errorf("the query from another port got %v", m)
	}
	_ = probe.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, _, err := probe.ReadFrom(make([]byte, 512)); err == nil {
		t.Errorf("an ignored port got an answer of %d bytes", n)
	}
}
