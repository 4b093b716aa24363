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
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
)

// deadline bounds every wait of these tests.
const deadline = time.Minute

// fakeHandler answers by the first label of the question: a label that begins with "slow" on the slow path, where it waits for the gate; "renew" at once and
// then again on the slow path; any other at once.
type fakeHandler struct {
	gate    func(ctx context.Context, label string) // what Slow waits for; nil: nothing
	sheds   atomic.Int64
	renewed atomic.Int64
	largest atomic.Int64 // batch
	large   int          // number of extra bytes in answers over streams
	// largeUDP lengthens answers over UDP too, except to names that begin with "small".
	largeUDP bool
}

func (h *fakeHandler) Fast(batch []wire.Query) {
	h.largest.Store(max(h.largest.Load(), int64(len(batch))))
	for i := range batch {
		q := &batch[i]
		if q.Parse(0) == wire.NotAQuery {
			q.Outcome = wire.Dropped
			continue
		}
		if strings.HasPrefix(label(q), "slow") {
			q.Outcome = wire.Slow
			continue
		}
		if label(q) == "valid-cookie" {
			q.Cookie = wire.ValidCookie
		}
		answer(q)
		h.lengthen(q)
		q.Renew = label(q) == "renew"
	}
}

func (h *fakeHandler) Slow(ctx context.Context, q *wire.Query) {
	if q.Renew {
		h.renewed.Add(1)
		answer(q)
		return
	}
	if h.gate != nil {
		h.gate(ctx, label(q))
	}
	answer(q)
	h.lengthen(q)
}

func (h *fakeHandler) lengthen(q *wire.Query) {
	if q.Transport != wire.UDP || h.largeUDP && !strings.HasPrefix(label(q), "small") {
		q.Out = append(q.Out, make([]byte, h.large)...)
	}
}

func (h *fakeHandler) Shed(q *wire.Query) {
	h.sheds.Add(1)
	q.Fail(wire.ServFail)
}

// answer answers a query with the address of the client, as the query holds it.
func answer(q *wire.Query) {
	q.Begin(wire.Success)
	if q.Type == wire.TypeA {
		q.AddAddress(1, q.Client)
	}
	q.Finish(wire.Success)
}

func label(q *wire.Query) string {
	name := q.Name()
	if len(name) == 0 {
		return ""
	}
	return string(name[1 : 1+name[0]])
}

// gates release waiting queries by label, in any order.
type gates struct {
	mu   sync.Mutex
	open map[string]chan struct{}
}

func (g *gates) of(label string) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		g.open = map[string]chan struct{}{}
	}
	if g.open[label] == nil {
		g.open[label] = make(chan struct{})
	}
	return g.open[label]
}

func (g *gates) wait(ctx context.Context, label string) {
	select {
	case <-g.of(label):
	case <-ctx.Done():
	}
}

func (g *gates) release(label string) { close(g.of(label)) }

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
		case <-time.After(deadline):
			t.Error("Run does not return")
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func addrOf(s *Server) string { return s.Addrs()[0].String() }

func dial(t testing.TB, network, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	return c
}

// query packs a question for A of name with an ID.
func query(t testing.TB, id uint16, name string) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name+".", dns.TypeA)
	m.Id = id
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func unpack(t testing.TB, packed []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(packed); err != nil {
		t.Fatalf("the answer does not unpack: %v", err)
	}
	return m
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

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
			NewHandler: func() Handler { return &fakeHandler{} },
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
		NewHandler: func() Handler { return &fakeHandler{} },
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
	if _, err := New(Config{NewHandler: func() Handler { return &fakeHandler{} }}); err == nil {
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
	s, _ := serve(t, &fakeHandler{}, Config{Packets: []net.PacketConn{packet}, Streams: []net.Listener{stream}}, nil)
	if got := len(s.Addrs()); got != 2 {
		t.Errorf("%d addresses served, want 2", got)
	}
	c := dial(t, "udp", packet.LocalAddr().String())
	for i := range uint16(10) {
		if m := ask(t, c, i, "a.example"); m.Id != i {
			t.Errorf("ID %d answered as %d", i, m.Id)
		}
	}
	tcp := dial(t, "tcp", stream.Addr().String())
	writeFrames(t, tcp, query(t, 7, "a.example"))
	if m := readFrame(t, tcp); m.Id != 7 {
		t.Errorf("over TCP: the answer has the ID %d, want 7", m.Id)
	}
}

func TestDrainAnswersSlowQueries(t *testing.T) {
	var g gates
	h := &fakeHandler{gate: g.wait}
	s, stop := serve(t, h, Config{}, nil)
	udp, tcp := dial(t, "udp", addrOf(s)), dial(t, "tcp", addrOf(s))
	if _, err := udp.Write(query(t, 1, "slow1.example")); err != nil {
		t.Fatal(err)
	}
	writeFrames(t, tcp, query(t, 2, "slow2.example"))
	eventually(t, "both on the slow path", func() bool { return metric(t, s, "rempart_slow_queries") == 2 })
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	eventually(t, "no connection is taken any more", func() bool {
		c, err := net.DialTimeout("tcp", addrOf(s), deadline)
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
	g.release("slow1")
	g.release("slow2")
	if m := unpack(t, readDatagram(t, udp)); m.Id != 1 || len(m.Answer) != 1 {
		t.Errorf("over UDP: %v", m)
	}
	if m := readFrame(t, tcp); m.Id != 2 || len(m.Answer) != 1 {
		t.Errorf("over TCP: %v", m)
	}
	<-ended
}

// TestDrainIsBounded checks that the context of a query without an answer is cancelled when the drain time is over.
func TestDrainIsBounded(t *testing.T) {
	cut := make(chan error, 2)
	h := &fakeHandler{gate: func(ctx context.Context, _ string) {
		<-ctx.Done()
		cut <- ctx.Err()
	}}
	s, stop := serve(t, h, Config{Drain: 20 * time.Millisecond}, nil)
	udp, tcp := dial(t, "udp", addrOf(s)), dial(t, "tcp", addrOf(s))
	if _, err := udp.Write(query(t, 1, "slow.example")); err != nil {
		t.Fatal(err)
	}
	writeFrames(t, tcp, query(t, 1, "slow.example"))
	eventually(t, "both on the slow path", func() bool { return metric(t, s, "rempart_slow_queries") == 2 })
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
	var g gates
	h := &fakeHandler{gate: g.wait}
	s, _ := serve(t, h, Config{MaxSlow: 1}, nil)
	udp, tcp := dial(t, "udp", addrOf(s)), dial(t, "tcp", addrOf(s))
	if _, err := udp.Write(query(t, 1, "slow1.example")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the slow path is full", func() bool { return metric(t, s, "rempart_slow_queries") == 1 })
	if m := ask(t, udp, 2, "slow2.example"); m.Id != 2 || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("over UDP, with a full slow path: got %v, want SERVFAIL", m)
	}
	writeFrames(t, tcp, query(t, 3, "slow3.example"))
	if m := readFrame(t, tcp); m.Id != 3 || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("over TCP, with a full slow path: got %v, want SERVFAIL", m)
	}
	if m := ask(t, udp, 4, "renew.example"); m.Id != 4 || m.Rcode != dns.RcodeSuccess {
		t.Errorf("a renewal with a full slow path: got %v, want an answer", m)
	}
	if got := h.sheds.Load(); got != 2 {
		t.Errorf("shed %d, want 2", got)
	}
	g.release("slow1")
	if m := unpack(t, readDatagram(t, udp)); m.Id != 1 || m.Rcode != dns.RcodeSuccess {
		t.Errorf("the query that is on the slow path: got %v, want an answer", m)
	}
	eventually(t, "the slow path has a free place again", func() bool { return metric(t, s, "rempart_slow_queries") == 0 })
	if m := ask(t, udp, 5, "renew.example"); m.Id != 5 {
		t.Errorf("a renewal with free places: got %v, want an answer", m)
	}
	eventually(t, "it is renewed", func() bool { return h.renewed.Load() == 1 })
	if m := ask(t, udp, 6, "a.example"); m.Id != 6 {
		t.Errorf("got %v, want the answer to query 6: a renewal must not be answered twice", m)
	}
}

// TestOneClientDoesNotFillSlowPath checks that other clients get places on the slow path while one client fills it.
func TestOneClientDoesNotFillSlowPath(t *testing.T) {
	h := &fakeHandler{gate: func(ctx context.Context, label string) {
		if label == "slow-silent" {
			<-ctx.Done()
		}
	}}
	s, stop := serve(t, h, Config{MaxSlow: 640, Drain: time.Millisecond}, nil)
	greedy := dial(t, "udp", addrOf(s))
	eventually(t, "queries are shed", func() bool {
		if _, err := greedy.Write(query(t, 1, "slow-silent.example")); err != nil {
			t.Fatal(err)
		}
		return h.sheds.Load() > 0
	})
	other := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 7)}}
	udp, err := other.Dial("udp4", addrOf(s))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	_ = udp.SetDeadline(time.Now().Add(deadline))
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
