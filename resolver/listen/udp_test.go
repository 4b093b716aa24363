package listen

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"rempart/resolver/listen/fake"

	"github.com/miekg/dns"
)

// ask sends one query over a datagram socket and reads one answer.
func ask(t testing.TB, c net.Conn, id uint16, name string) *dns.Msg {
	t.Helper()
	if _, err := c.Write(fake.Query(t, id, name)); err != nil {
		t.Fatal(err)
	}
	return fake.Unpack(t, readDatagram(t, c))
}

func readDatagram(t testing.TB, c net.Conn) []byte {
	t.Helper()
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatalf("waiting for an answer: %v", err)
	}
	return buf[:n]
}

// TestBurstIsAnsweredOnce checks that every query is answered once if several batches of queries wait in the socket.
func TestBurstIsAnsweredOnce(t *testing.T) {
	const burst = 1000
	h := &fake.Handler{}
	var c net.Conn
	serve(t, h, Config{Workers: 1}, func(s *Server) {
		c = fake.Dial(t, "udp", addrOf(s))
		_ = c.(*net.UDPConn).SetReadBuffer(1 << 20)
		for i := range uint16(burst) {
			if _, err := c.Write(fake.Query(t, i, "a.example")); err != nil {
				t.Fatal(err)
			}
		}
	})
	seen := map[uint16]bool{}
	for range burst {
		seen[fake.Unpack(t, readDatagram(t, c)).Id] = true
	}
	if len(seen) != burst {
		t.Errorf("%d of %d answered", len(seen), burst)
	}
	if reusePort && h.Largest.Load() < 2 {
		t.Errorf("the largest batch was %d", h.Largest.Load())
	}
}

// TestQueriesInSocketAreAnsweredAtStop checks that a server that is stopped still answers all queries that wait in its socket.
func TestQueriesInSocketAreAnsweredAtStop(t *testing.T) {
	if !reusePort {
		t.Skip("on this system a server that is stopped answers only the batch that it has read")
	}
	const burst = 300
	s, err := New(Config{
		Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Workers: 1,
		NewHandler: func() Handler { return &fake.Handler{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	c := fake.Dial(t, "udp", addrOf(s))
	_ = c.(*net.UDPConn).SetReadBuffer(1 << 20)
	for i := range uint16(burst) {
		if _, err := c.Write(fake.Query(t, i, []string{"a.example", "slow.example"}[i%2])); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	seen := map[uint16]bool{}
	for range burst {
		seen[fake.Unpack(t, readDatagram(t, c)).Id] = true
	}
	if len(seen) != burst {
		t.Errorf("%d of %d answered", len(seen), burst)
	}
}

func TestManyWorkers(t *testing.T) {
	s, _ := serve(t, &fake.Handler{}, Config{Workers: 3}, nil)
	for i := range uint16(30) { // each socket has another port, so that the kernel distributes the queries
		if m := ask(t, fake.Dial(t, "udp", addrOf(s)), i, "a.example"); m.Id != i {
			t.Errorf("ID %d answered as %d", i, m.Id)
		}
	}
}

func ipv6(t testing.TB) {
	t.Helper()
	c, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skipf("this machine has no IPv6 fake.Loopback(): %v", err)
	}
	c.Close()
}

func TestIPv6(t *testing.T) {
	ipv6(t)
	s, _ := serve(t, &fake.Handler{}, Config{Addrs: []netip.AddrPort{netip.MustParseAddrPort("[::1]:0")}}, nil)
	m := ask(t, fake.Dial(t, "udp", addrOf(s)), 1, "a.example")
	if m.Id != 1 {
		t.Errorf("over UDP: %v", m)
	}
	tcp := fake.Dial(t, "tcp", addrOf(s))
	fake.WriteFrames(t, tcp, fake.Query(t, 2, "a.example"))
	if m := fake.ReadFrame(t, tcp); m.Id != 2 {
		t.Errorf("over TCP: %v", m)
	}
}

// TestWildcardSocketAnswersFromAskedAddress checks that an answer of a wildcard socket comes from the address that was asked, on the fast path and on the slow
// path.
func TestWildcardSocketAnswersFromAskedAddress(t *testing.T) {
	ipv6(t)
	handed, err := net.ListenPacket("udp", ":0") // both families on one socket, as systemd gives it
	if err != nil {
		t.Fatal(err)
	}
	s, _ := serve(t, &fake.Handler{}, Config{
		Addrs:   []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:0"), netip.MustParseAddrPort("[::]:0")},
		Packets: []net.PacketConn{handed},
	}, nil)
	addrs := s.Addrs()
	v4, v6, both := addrs[0].Port(), addrs[1].Port(), netip.MustParseAddrPort(handed.LocalAddr().String()).Port()
	for _, to := range []netip.AddrPort{
		netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), v4),
		netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), v4),
		netip.AddrPortFrom(netip.IPv6Loopback(), v6),
		netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), both),
		netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), both),
		netip.AddrPortFrom(netip.IPv6Loopback(), both),
	} {
		client, network := netip.MustParseAddr("127.0.0.9"), "udp4"
		if to.Addr().Is6() {
			client, network = netip.IPv6Loopback(), "udp6"
		}
		// The socket is not connected, because a connected socket does not receive answers from another address.
		c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(client, 0)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, name := range []string{"a.example", "slow.example", "renew.example"} {
			if err := c.SetDeadline(time.Now().Add(fake.Deadline)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.WriteToUDPAddrPort(fake.Query(t, 1, name), to); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 4096)
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Errorf("%s of %s: %v", name, to, err)
				continue
			}
			if from != to {
				t.Errorf("%s of %s: answered from %s", name, to, from)
			}
			m := fake.Unpack(t, buf[:n])
			if a, ok := m.Answer[0].(*dns.A); client.Is4() && (!ok || a.A.String() != client.String()) {
				t.Errorf("%s of %s: the handler got a wrong client address: %v", name, to, m.Answer)
			}
		}
	}
}

// TestSlowAnswersInAnyOrder checks that a query on the slow path is answered before an earlier query that takes longer.
func TestSlowAnswersInAnyOrder(t *testing.T) {
	var g fake.Gates
	s, _ := serve(t, &fake.Handler{Gate: g.Wait}, Config{}, nil)
	c := fake.Dial(t, "udp", addrOf(s))
	for i, name := range []string{"slow1.example", "slow2.example", "fast.example"} {
		if _, err := c.Write(fake.Query(t, uint16(1+i), name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		release string
		want    uint16
	}{{"fast", 3}, {"slow2", 2}, {"slow1", 1}} {
		g.Release(step.release)
		if m := fake.Unpack(t, readDatagram(t, c)); m.Id != step.want {
			t.Errorf("after %s was released, the answer to ID %d was sent", step.release, m.Id)
		}
	}
}

// TestNonQueryGetsNoAnswer checks that data that is not a query gets no answer, that a query that is too long gets one, and that the socket stays open.
func TestNonQueryGetsNoAnswer(t *testing.T) {
	s, _ := serve(t, &fake.Handler{}, Config{}, nil)
	c := fake.Dial(t, "udp", addrOf(s))
	response := fake.Query(t, 9, "a.example")
	response[2] |= 0x80
	for _, packet := range [][]byte{{}, {1}, make([]byte, 11), response} {
		if _, err := c.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	if m := ask(t, c, 1, "a.example"); m.Id != 1 {
		t.Errorf("the first answer has the ID %d, want 1", m.Id)
	}
	if _, err := c.Write(append(fake.Query(t, 2, "a.example"), make([]byte, 20000)...)); err != nil {
		t.Fatal(err)
	}
	if m := fake.Unpack(t, readDatagram(t, c)); m.Id != 2 {
		t.Errorf("a query of 20,000 bytes: got %v, want an answer", m)
	}
	if got := metric(t, s, "rempart_udp_send_failures_total"); got != 0 {
		t.Errorf("%v answers could not be sent, want none", got)
	}
}

// TestKernelDropsAreCounted checks that packets are counted that do not fit into the receive queue of a server that does not read yet.
func TestKernelDropsAreCounted(t *testing.T) {
	if !reusePort {
		t.Skip("this system does not report the packets that it drops")
	}
	s, _ := serve(t, &fake.Handler{}, Config{Workers: 1}, func(s *Server) {
		c := fake.Dial(t, "udp", addrOf(s))
		packet := fake.Query(t, 1, "a.example")
		for i := 0; metric(t, s, "rempart_udp_receive_drops_total") == 0; i++ {
			if i == 100 {
				t.Fatal("no drop was counted")
			}
			for range 1000 {
				if _, err := c.Write(packet); err != nil {
					t.Fatal(err)
				}
			}
		}
		c.Close()
	})
	c := fake.Dial(t, "udp", addrOf(s))
	fake.Eventually(t, "the queue is empty, and a query is answered", func() bool {
		if _, err := c.Write(fake.Query(t, 2, "a.example")); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, err := c.Read(make([]byte, 4096))
		return err == nil
	})
}

func TestMetrics(t *testing.T) {
	s, _ := serve(t, &fake.Handler{}, Config{}, nil)
	tcp := fake.Dial(t, "tcp", addrOf(s))
	fake.WriteFrames(t, tcp, fake.Query(t, 1, "a.example"))
	fake.ReadFrame(t, tcp)
	for name, want := range map[string]float64{
		"rempart_udp_receive_drops_total":   0,
		"rempart_udp_send_failures_total":   0,
		"rempart_slow_queries":              0,
		"rempart_connections_refused_total": 0,
	} {
		if got := metric(t, s, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if n := metric(t, s, "rempart_connections", "tcp"); n != 1 {
		t.Errorf("%v connections over TCP are open, want 1", n)
	}
}

// TestBusyPoll checks that workers that poll their socket before they sleep answer queries that arrive while they poll and while they sleep.
func TestBusyPoll(t *testing.T) {
	s, _ := serve(t, &fake.Handler{}, Config{Workers: 2, Spin: 2 * time.Millisecond}, nil)
	c := fake.Dial(t, "udp", addrOf(s))
	for i := range uint16(100) {
		if m := ask(t, c, i, "a.example"); m.Id != i {
			t.Errorf("ID %d answered as %d", i, m.Id)
		}
		if i%20 == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
}
