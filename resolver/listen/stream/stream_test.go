package stream

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/listen/fake"
)

func TestPipelining(t *testing.T) {
	const many = 500
	h := &fake.Handler{}
	s, _ := serve(t, h, setup{}, nil)
	c := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
	var messages [][]byte
	for i := range uint16(many) {
		messages = append(messages, fake.Query(t, i, "a.example"))
	}
	go c.Write(dnstest.Framed(messages...)) // writes while the test reads, because the buffers may not hold all messages
	for i := range uint16(many) {
		if m := fake.ReadFrame(t, c); m.Id != i || len(m.Answer) != 1 {
			t.Fatalf("answer %d: %v", i, m)
		}
	}
	if h.Largest.Load() < 2 || h.Largest.Load() > streamBatch {
		t.Errorf("the largest batch was %d", h.Largest.Load())
	}
}

// TestFramesSplitAnywhere checks that two messages and the start of a third are read correctly if they are split at any byte.
func TestFramesSplitAnywhere(t *testing.T) {
	s, _ := serve(t, &fake.Handler{}, setup{}, nil)
	two := dnstest.Framed(fake.Query(t, 1, "a.example"), fake.Query(t, 2, "b.example"))
	for cut := 1; cut < len(two); cut++ {
		c := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
		if err := c.(*net.TCPConn).SetNoDelay(true); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(two[:cut]); err != nil {
			t.Fatal(err)
		}
		first := 0
		if cut >= len(two)/2 { // the first message is whole: the second part is sent after its answer
			first = 1
			if m := fake.ReadFrame(t, c); m.Id != 1 {
				t.Fatalf("cut at %d: %v", cut, m)
			}
		}
		if _, err := c.Write(two[cut:]); err != nil {
			t.Fatal(err)
		}
		for id := first + 1; id <= 2; id++ {
			if m := fake.ReadFrame(t, c); m.Id != uint16(id) {
				t.Fatalf("cut at %d: %v", cut, m)
			}
		}
		c.Close()
	}
}

func TestQueriesSentByteByByteAreAnswered(t *testing.T) {
	s, _ := serve(t, &fake.Handler{}, setup{}, nil)
	c := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
	_ = c.(*net.TCPConn).SetNoDelay(true)
	for _, b := range dnstest.Framed(fake.Query(t, 1, "a.example"), fake.Query(t, 2, "b.example")) {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	for id := range uint16(2) {
		if m := fake.ReadFrame(t, c); m.Id != id+1 {
			t.Errorf("answer %d: %v", id, m)
		}
	}
}

// TestLargestMessageIsAnswered checks that a message of 65,535 bytes, which needs a larger buffer, is answered, and another message after it too.
func TestLargestMessageIsAnswered(t *testing.T) {
	s, _ := serve(t, &fake.Handler{}, setup{}, nil)
	c := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
	large := append(fake.Query(t, 1, "a.example"), make([]byte, 65535)...)[:65535]
	fake.WriteFrames(t, c, large, fake.Query(t, 2, "a.example"))
	for id := range uint16(2) {
		if m := fake.ReadFrame(t, c); m.Id != id+1 {
			t.Errorf("answer %d: %v", id, m)
		}
	}
}

func TestStreamAnswersInAnyOrder(t *testing.T) {
	var g fake.Gates
	s, _ := serve(t, &fake.Handler{Gate: g.Wait}, setup{}, nil)
	c := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
	fake.WriteFrames(t, c, fake.Query(t, 1, "slow1.example"), fake.Query(t, 2, "slow2.example"), fake.Query(t, 3, "fast.example"))
	for _, step := range []struct {
		release string
		want    uint16
	}{{"fast", 3}, {"slow2", 2}, {"slow1", 1}} {
		g.Release(step.release)
		if m := fake.ReadFrame(t, c); m.Id != step.want {
			t.Errorf("after %s was released, the answer to ID %d was sent", step.release, m.Id)
		}
	}
}

// TestConnectionIsLimitedToItsSlowPathShare checks a connection with more slow queries than its share of the slow path: the server stops reading from the
// connection for a time, and answers all queries.
func TestConnectionIsLimitedToItsSlowPathShare(t *testing.T) {
	const many = maxPipelined + 50
	var g fake.Gates
	s, _ := serve(t, &fake.Handler{Gate: g.Wait}, setup{}, nil)
	c := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
	for i := range uint16(many) {
		fake.WriteFrames(t, c, fake.Query(t, i, "slow.example"))
	}
	fake.Eventually(t, "the share is used up", func() bool { return s.config.Pool.Running() == maxPipelined })
	other := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
	fake.WriteFrames(t, other, fake.Query(t, 1, "a.example"))
	if m := fake.ReadFrame(t, other); m.Id != 1 {
		t.Errorf("another connection: %v", m)
	}
	if got := s.config.Pool.Running(); got != maxPipelined {
		t.Errorf("%v queries of one connection are on the slow path, want %d", got, maxPipelined)
	}
	g.Release("slow")
	seen := map[uint16]bool{}
	for range many {
		seen[fake.ReadFrame(t, c).Id] = true
	}
	if len(seen) != many {
		t.Errorf("%d of %d queries were answered", len(seen), many)
	}
}

// TestHalfClosedConnectionGetsAnswer checks that a client that closes its sending side after a query still receives the answer.
func TestHalfClosedConnectionGetsAnswer(t *testing.T) {
	var g fake.Gates
	s, _ := serve(t, &fake.Handler{Gate: g.Wait}, setup{}, nil)
	c := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
	fake.WriteFrames(t, c, fake.Query(t, 1, "slow.example"))
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	fake.Eventually(t, "it is on the slow path", func() bool { return s.config.Pool.Running() == 1 })
	g.Release("slow")
	if m := fake.ReadFrame(t, c); m.Id != 1 {
		t.Errorf("answer: %v", m)
	}
	fake.Closed(t, c)
}

func shortIdle(d time.Duration) func(*Server) {
	return func(s *Server) { s.limits.idle = d }
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	s, _ := serve(t, &fake.Handler{}, setup{}, shortIdle(50*time.Millisecond))
	silent := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
	fake.Closed(t, silent)
	fake.Closed(t, dialUsed(t, s))
	fake.Eventually(t, "none is open", func() bool { return s.open[wire.TCP].Load() == 0 })
}

// dialUsed returns a connection over which one query was answered. On a slow machine that may take longer than a connection may be idle; then dialUsed tries
// again.
func dialUsed(t testing.TB, s *Server) (c net.Conn) {
	t.Helper()
	fake.Eventually(t, "a query is answered", func() bool {
		c = fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
		_, _ = c.Write(dnstest.Framed(fake.Query(t, 1, "a.example")))
		_, err := dnstest.ReadFrame(c)
		return err == nil
	})
	return c
}

// TestConnectionWaitingForAnswerStaysOpen checks that a connection stays open while it waits for an answer, for longer than it may be idle.
func TestConnectionWaitingForAnswerStaysOpen(t *testing.T) {
	const idle = 30 * time.Millisecond
	var g fake.Gates
	s, _ := serve(t, &fake.Handler{Gate: g.Wait}, setup{}, shortIdle(idle))
	var c net.Conn
	fake.Eventually(t, "it is on the slow path", func() bool { // a slow machine may take longer to send it than a connection may be idle
		c = fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
		_, _ = c.Write(dnstest.Framed(fake.Query(t, 1, "slow.example")))
		return onSlowPath(t, s, c)
	})
	time.Sleep(5 * idle) // the connection must stay open for this time
	g.Release("slow")
	if m := fake.ReadFrame(t, c); m.Id != 1 {
		t.Errorf("answer: %v", m)
	}
	fake.Closed(t, c)
}

// onSlowPath waits until a query is on the slow path, and reports false if the connection is closed before.
func onSlowPath(t testing.TB, s *Server, c net.Conn) bool {
	t.Helper()
	defer func() { _ = c.SetReadDeadline(time.Now().Add(fake.Deadline)) }()
	for s.config.Pool.Running() == 0 {
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
	}
	return true
}

// TestSlowQuerySenderIsDisconnected checks that a connection is closed if its client sends a query so slowly that it is not complete in time.
func TestSlowQuerySenderIsDisconnected(t *testing.T) {
	s, _ := serve(t, &fake.Handler{}, setup{}, shortIdle(100*time.Millisecond))
	c := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		large := frame(nil, make([]byte, 65535))
		for _, b := range large {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	fake.Closed(t, c)
	c.Close()
	<-ended
}

func TestNonDNSConnectionIsClosed(t *testing.T) {
	s, _ := serve(t, &fake.Handler{}, setup{}, nil)
	response := fake.Query(t, 9, "a.example")
	response[2] |= 0x80
	for what, packet := range map[string][]byte{
		"an answer":        dnstest.Framed(response),
		"an empty message": {0, 0},
		"half a header":    dnstest.Framed(make([]byte, 6)),
		"a TLS handshake":  dnstest.Framed([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}),
	} {
		c := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
		if _, err := c.Write(packet); err != nil {
			t.Fatal(err)
		}
		t.Log(what)
		fake.Closed(t, c)
	}
	c := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String()) // a complete query before a response is answered
	fake.WriteFrames(t, c, fake.Query(t, 1, "a.example"), response, fake.Query(t, 2, "a.example"))
	if m := fake.ReadFrame(t, c); m.Id != 1 {
		t.Errorf("answer: %v", m)
	}
}

func TestConnectionsPerClientAreBounded(t *testing.T) {
	s, _ := serve(t, &fake.Handler{}, setup{}, func(s *Server) {
		s.limits.perClient, s.limits.conns = 2, 4
	})
	from := func(addr string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
		c, err := d.Dial("tcp4", s.addrsOf(wire.TCP)[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(fake.Deadline))
		return c
	}
	served := func(c net.Conn) {
		t.Helper()
		fake.WriteFrames(t, c, fake.Query(t, 1, "a.example"))
		fake.ReadFrame(t, c)
	}
	first := from("127.0.0.1")
	served(first)
	served(from("127.0.0.1"))
	fake.Closed(t, from("127.0.0.1"))
	served(from("127.0.0.2"))
	served(from("127.0.0.3"))
	fourth := from("127.0.0.4")
	served(fourth) // the fifth connection: the client with most connections loses the connection that it used longest ago
	fake.Closed(t, first)
	fake.Closed(t, from("127.0.0.5")) // is refused, because now no client has more than one connection
	if stats := s.Stats(); stats.Refused != 2 || stats.Evicted != 1 {
		t.Errorf("%d connections are counted as refused and %d as evicted, want 2 and 1", stats.Refused, stats.Evicted)
	}
	fourth.Close()
	fake.Eventually(t, "one connection has ended", func() bool { return s.open[wire.TCP].Load() == 3 })
	served(from("127.0.0.1"))
}

// TestUnauthorizedClientGetsOneAnswer checks that unauthorized clients get one answer, and use no places that other clients need.
func TestUnauthorizedClientGetsOneAnswer(t *testing.T) {
	unauthorized := netip.MustParseAddr("127.0.0.9")
	s, _ := serve(t, &fake.Handler{}, setup{Serves: func(c netip.Addr) bool { return c != unauthorized }}, func(s *Server) {
		s.limits.perClient, s.limits.conns = 1, 1
	})
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: unauthorized.AsSlice()}}
	for range 3 {
		c, err := d.Dial("tcp4", s.addrsOf(wire.TCP)[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(fake.Deadline))
		fake.WriteFrames(t, c, fake.Query(t, 1, "a.example"))
		if m := fake.ReadFrame(t, c); m.Id != 1 {
			t.Errorf("answer: %v", m)
		}
		fake.Closed(t, c)
	}
	c := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
	fake.WriteFrames(t, c, fake.Query(t, 1, "a.example"))
	if m := fake.ReadFrame(t, c); m.Id != 1 {
		t.Errorf("answer: %v", m)
	}
}

// TestConnectionWithUnreadAnswersIsClosed checks that a connection is closed when the unread answers fill every buffer.
func TestConnectionWithUnreadAnswersIsClosed(t *testing.T) {
	s, _ := serve(t, &fake.Handler{}, setup{}, shortIdle(200*time.Millisecond))
	c := dialUsed(t, s)
	_ = c.(*net.TCPConn).SetReadBuffer(4096)
	var batch []byte
	for i := range uint16(1000) {
		batch = frame(batch, fake.Query(t, i, "a.example"))
	}
	var writing sync.WaitGroup
	writing.Go(func() {
		for {
			if _, err := c.Write(batch); err != nil {
				return
			}
		}
	})
	fake.Eventually(t, "it is hung up on", func() bool { return s.open[wire.TCP].Load() == 0 })
	c.Close()
	writing.Wait()
}

// TestClientsWithTooManyUnreadBytesAreDisconnected checks that clients that read nothing lose their connections when too many bytes of answers wait for them,
// and that another client is served during this time.
func TestClientsWithTooManyUnreadBytesAreDisconnected(t *testing.T) {
	const room = 1 << 20
	h := &fake.Handler{Large: 60_000}
	s, _ := serve(t, h, setup{}, func(s *Server) { s.limits.untaken, s.limits.idle = room, time.Second })
	for range 8 {
		deaf := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
		_ = deaf.(*net.TCPConn).SetReadBuffer(4096)
		go func() {
			for i := range 2000 {
				name := "a.example"
				if i%2 == 0 {
					name = "slow.example"
				}
				if _, err := deaf.Write(frame(nil, fake.Query(t, uint16(i), name))); err != nil {
					return
				}
			}
		}()
	}
	fake.Eventually(t, "connections were closed", func() bool { return s.evicted.Load() > 0 })
	tcp := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
	fake.WriteFrames(t, tcp, fake.Query(t, 1, "a.example"))
	fake.ReadFrame(t, tcp)
	fake.Eventually(t, "all that read nothing were closed", func() bool { return s.open[wire.TCP].Load() <= 1 })
	fake.Eventually(t, "all bytes are taken or given up", func() bool { return s.untaken.Load() == 0 })
}
