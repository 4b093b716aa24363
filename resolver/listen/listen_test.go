package listen

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"rempart/internal/dnstest"
	"rempart/resolver/listen/fake"
)

// serve runs a server until stop, or the end of the test. change is made before it runs.
func serve(t testing.TB, h Handler, c Config, change func(*Server)) (s *Server, stop func()) {
	t.Helper()
	if len(c.Addrs)+len(c.Packets)+len(c.Streams) == 0 {
		c.Addrs = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	}
	if byForward {
		h = forwarding{h}
	}
	c.NewHandler = func() Handler { return h }
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(fake.Deadline):
			t.Error("Run does not return")
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func addrOf(s *Server) string { return s.Addrs()[0].String() }

// metric returns the value of a metric, of the series that has these label values.
func metric(t testing.TB, s *Server, name string, labels ...string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.Collector())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			has := map[string]bool{}
			for _, l := range m.GetLabel() {
				has[l.GetValue()] = true
			}
			if !slices.ContainsFunc(labels, func(l string) bool { return !has[l] }) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric is named %s%v", name, labels)
	return 0
}

func TestAddressInUseIsReported(t *testing.T) {
	stream, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	packet, err := net.ListenPacket("udp4", dnstest.FreeAddr(t)) // the port is free over TCP, and in use over UDP only
	if err != nil {
		t.Fatal(err)
	}
	defer packet.Close()
	for proto, addr := range map[string]net.Addr{"TCP": stream.Addr(), "UDP": packet.LocalAddr()} {
		_, err := New(Config{
			Addrs:      []netip.AddrPort{netip.MustParseAddrPort(addr.String())},
			NewHandler: func() Handler { return &fake.Handler{} },
		})
		if !errors.Is(err, ErrTaken) {
			t.Errorf("%s: %v, want ErrTaken", proto, err)
			continue
		}
		for _, said := range []string{addr.String(), proto, "REMPART_LISTEN"} {
			if !strings.Contains(err.Error(), said) {
				t.Errorf("%s: the error does not say %q: %v", proto, said, err)
			}
		}
	}
}

func TestFailedNewFreesAddress(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	first := netip.MustParseAddrPort(dnstest.FreeAddr(t))
	_, err = New(Config{
		Addrs:      []netip.AddrPort{first, netip.MustParseAddrPort(taken.Addr().String())},
		NewHandler: func() Handler { return &fake.Handler{} },
	})
	if err == nil {
		t.Fatal("New accepted an address that is in use")
	}
	again, err := net.Listen("tcp4", first.String())
	if err != nil {
		t.Fatalf("the address bound before the error is not free: %v", err)
	}
	again.Close()
}

func TestNewWithoutAddressIsRefused(t *testing.T) {
	if _, err := New(Config{NewHandler: func() Handler { return &fake.Handler{} }}); err == nil {
		t.Error("New without an address returned no error")
	}
}

func TestPassedSocketsAreServed(t *testing.T) {
	packet, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, _ := serve(t, &fake.Handler{}, Config{Packets: []net.PacketConn{packet}, Streams: []net.Listener{stream}}, nil)
	if got := len(s.Addrs()); got != 2 {
		t.Errorf("%d addresses served, want 2", got)
	}
	c := fake.Dial(t, "udp", packet.LocalAddr().String())
	for i := range uint16(10) {
		if m := ask(t, c, i, "a.example"); m.Id != i {
			t.Errorf("ID %d answered as %d", i, m.Id)
		}
	}
	tcp := fake.Dial(t, "tcp", stream.Addr().String())
	fake.WriteFrames(t, tcp, fake.Query(t, 7, "a.example"))
	if m := fake.ReadFrame(t, tcp); m.Id != 7 {
		t.Errorf("over TCP: the answer has the ID %d, want 7", m.Id)
	}
}

func TestDrainAnswersSlowQueries(t *testing.T) {
	var g fake.Gates
	h := &fake.Handler{Gate: g.Wait}
	s, stop := serve(t, h, Config{}, nil)
	udp, tcp := fake.Dial(t, "udp", addrOf(s)), fake.Dial(t, "tcp", addrOf(s))
	if _, err := udp.Write(fake.Query(t, 1, "slow1.example")); err != nil {
		t.Fatal(err)
	}
	fake.WriteFrames(t, tcp, fake.Query(t, 2, "slow2.example"))
	fake.Eventually(t, "both on the slow path", func() bool { return metric(t, s, "rempart_slow_queries") == 2 })
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	fake.Eventually(t, "no connection is taken any more", func() bool {
		c, err := net.DialTimeout("tcp", addrOf(s), fake.Deadline)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	select {
	case <-ended:
		t.Fatal("Run returned with two queries unanswered")
	default:
	}
	g.Release("slow1")
	g.Release("slow2")
	if m := fake.Unpack(t, readDatagram(t, udp)); m.Id != 1 || len(m.Answer) != 1 {
		t.Errorf("over UDP: %v", m)
	}
	if m := fake.ReadFrame(t, tcp); m.Id != 2 || len(m.Answer) != 1 {
		t.Errorf("over TCP: %v", m)
	}
	<-ended
}

// TestDrainIsBounded checks that the context of a query without an answer is cancelled when the drain time is over.
func TestDrainIsBounded(t *testing.T) {
	cut := make(chan error, 2)
	h := &fake.Handler{Gate: func(ctx context.Context, _ string) {
		<-ctx.Done()
		cut <- ctx.Err()
	}}
	s, stop := serve(t, h, Config{Drain: 20 * time.Millisecond}, nil)
	udp, tcp := fake.Dial(t, "udp", addrOf(s)), fake.Dial(t, "tcp", addrOf(s))
	if _, err := udp.Write(fake.Query(t, 1, "slow.example")); err != nil {
		t.Fatal(err)
	}
	fake.WriteFrames(t, tcp, fake.Query(t, 1, "slow.example"))
	fake.Eventually(t, "both on the slow path", func() bool { return metric(t, s, "rempart_slow_queries") == 2 })
	stop()
	for range 2 {
		if err := <-cut; !errors.Is(err, context.Canceled) {
			t.Errorf("the context of Slow ended with %v, want context.Canceled", err)
		}
	}
}

// TestQueriesAreShedWhenSlowPathIsFull checks the behaviour with a full slow path: the next query is shed, over UDP and over TCP, and queries that only renew
// an answer are dropped.
func TestQueriesAreShedWhenSlowPathIsFull(t *testing.T) {
	var g fake.Gates
	h := &fake.Handler{Gate: g.Wait}
	s, _ := serve(t, h, Config{MaxSlow: 1}, nil)
	udp, tcp := fake.Dial(t, "udp", addrOf(s)), fake.Dial(t, "tcp", addrOf(s))
	if _, err := udp.Write(fake.Query(t, 1, "slow1.example")); err != nil {
		t.Fatal(err)
	}
	fake.Eventually(t, "the slow path is full", func() bool { return metric(t, s, "rempart_slow_queries") == 1 })
	if m := ask(t, udp, 2, "slow2.example"); m.Id != 2 || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("over UDP, with a full slow path: got %v, want SERVFAIL", m)
	}
	fake.WriteFrames(t, tcp, fake.Query(t, 3, "slow3.example"))
	if m := fake.ReadFrame(t, tcp); m.Id != 3 || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("over TCP, with a full slow path: got %v, want SERVFAIL", m)
	}
	if m := ask(t, udp, 4, "renew.example"); m.Id != 4 || m.Rcode != dns.RcodeSuccess {
		t.Errorf("a renewal with a full slow path: got %v, want an answer", m)
	}
	if got := h.Sheds.Load(); got != 2 {
		t.Errorf("shed %d, want 2", got)
	}
	g.Release("slow1")
	if m := fake.Unpack(t, readDatagram(t, udp)); m.Id != 1 || m.Rcode != dns.RcodeSuccess {
		t.Errorf("the query that is on the slow path: got %v, want an answer", m)
	}
	fake.Eventually(t, "the slow path has a free place again", func() bool { return metric(t, s, "rempart_slow_queries") == 0 })
	if m := ask(t, udp, 5, "renew.example"); m.Id != 5 {
		t.Errorf("a renewal with free places: got %v, want an answer", m)
	}
	fake.Eventually(t, "it is renewed", func() bool { return h.Renewed.Load() == 1 })
	if m := ask(t, udp, 6, "a.example"); m.Id != 6 {
		t.Errorf("got %v, want the answer to query 6: a renewal must not be answered twice", m)
	}
}

// TestOneClientDoesNotFillSlowPath checks that other clients get places on the slow path while one client fills it.
func TestOneClientDoesNotFillSlowPath(t *testing.T) {
	h := &fake.Handler{Gate: func(ctx context.Context, label string) {
		if label == "slow-silent" {
			<-ctx.Done()
		}
	}}
	s, stop := serve(t, h, Config{MaxSlow: 640, Drain: time.Millisecond}, nil)
	greedy := fake.Dial(t, "udp", addrOf(s))
	fake.Eventually(t, "queries are shed", func() bool {
		if _, err := greedy.Write(fake.Query(t, 1, "slow-silent.example")); err != nil {
			t.Fatal(err)
		}
		return h.Sheds.Load() > 0
	})
	other := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 7)}}
	udp, err := other.Dial("udp4", addrOf(s))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	_ = udp.SetDeadline(time.Now().Add(fake.Deadline))
	for i := range 20 {
		if m := ask(t, udp, uint16(i), "slow.example"); m.Rcode != dns.RcodeSuccess {
			t.Errorf("another client: got %v, want an answer", m)
		}
	}
	if n := metric(t, s, "rempart_slow_queries"); n > 480+1 { // plus one: the last query of the other client may still hold its place
		t.Errorf("one client holds %v of 640 places, want at most 480", n)
	}
	stop()
}

// TestReflectingSourcePortsGetNoAnswer checks which source ports belong to services that answer every packet. Queries from these ports get no answer.
func TestReflectingSourcePortsGetNoAnswer(t *testing.T) {
	for port, want := range map[uint16]bool{0: true, 7: true, 9: true, 13: true, 17: true, 19: true, 1: false, 18: false, 20: false, 53: false, 1024 + 7: false, 0xffff: false} {
		if newIgnoredPorts(nil).has(port) != want {
			t.Errorf("port %d is ignored: %v, want the opposite", port, !want)
		}
	}
}

// TestListensOnAddressThatDoesNotExistYet checks that a server can open sockets on an address that no interface has yet.
func TestListensOnAddressThatDoesNotExistYet(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux binds an address that the machine does not have")
	}
	absent := netip.MustParseAddrPort("192.0.2.53:0")
	addrs := []netip.AddrPort{absent, netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("127.8.8.8:0"), netip.MustParseAddrPort("0.0.0.0:53"), netip.MustParseAddrPort("[2001:db8::53]:53")}
	if got := Absent(addrs); !slices.Equal(got, []netip.AddrPort{absent, addrs[4]}) {
		t.Errorf("unexpected absent addresses: %v", got)
	}
	s, err := New(Config{Addrs: []netip.AddrPort{absent}, NewHandler: func() Handler { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	s.close()
}
