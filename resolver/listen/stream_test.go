package listen

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// framed puts the length before each message.
func framed(messages ...[]byte) (out []byte) {
	for _, m := range messages {
		out = frame(out, m)
	}
	return out
}

func writeFrames(t testing.TB, c net.Conn, messages ...[]byte) {
	t.Helper()
	if _, err := c.Write(framed(messages...)); err != nil {
		t.Fatal(err)
	}
}

func readFrame(t testing.TB, c net.Conn) *dns.Msg {
	t.Helper()
	packed, err := nextFrame(c)
	if err != nil {
		t.Fatalf("waiting for an answer: %v", err)
	}
	return unpack(t, packed)
}

// nextFrame reads one message. It returns io.ErrUnexpectedEOF for an incomplete one.
func nextFrame(c net.Conn) ([]byte, error) {
	var size [frameHeader]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	packed := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(c, packed)
	return packed, err
}

// closed waits until the server closes the connection. Data from the server is an error.
func closed(t testing.TB, c net.Conn) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	if n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection was not closed: %d bytes, %v", n, err)
	}
}

func TestPipelining(t *testing.T) {
	const many = 500
	h := &fakeHandler{}
	s, _ := serve(t, h, Config{}, nil)
	c := dial(t, "tcp", addrOf(s))
	var messages [][]byte
	for i := range uint16(many) {
		messages = append(messages, query(t, i, "a.example"))
	}
	go c.Write(framed(messages...)) // writes while the test reads, because the buffers may not hold all messages
	for i := range uint16(many) {
		if m := readFrame(t, c); m.Id != i || len(m.Answer) != 1 {
			t.Fatalf("answer %d: %v", i, m)
		}
	}
	if h.largest.Load() < 2 || h.largest.Load() > streamBatch {
		t.Errorf("the largest batch was %d", h.largest.Load())
	}
}

// TestFramesSplitAnywhere checks that two messages and the start of a third are read correctly if they are split at any byte.
func TestFramesSplitAnywhere(t *testing.T) {
	s, _ := serve(t, &fakeHandler{}, Config{}, nil)
	two := framed(query(t, 1, "a.example"), query(t, 2, "b.example"))
	for cut := 1; cut < len(two); cut++ {
		c := dial(t, "tcp", addrOf(s))
		if err := c.(*net.TCPConn).SetNoDelay(true); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(two[:cut]); err != nil {
			t.Fatal(err)
		}
		first := 0
		if cut >= len(two)/2 { // the first message is whole: the second part is sent after its answer
			first = 1
			if m := readFrame(t, c); m.Id != 1 {
				t.Fatalf("cut at %d: %v", cut, m)
			}
		}
		if _, err := c.Write(two[cut:]); err != nil {
			t.Fatal(err)
		}
		for id := first + 1; id <= 2; id++ {
			if m := readFrame(t, c); m.Id != uint16(id) {
				t.Fatalf("cut at %d: %v", cut, m)
			}
		}
		c.Close()
	}
}

func TestQueriesSentByteByByteAreAnswered(t *testing.T) {
	s, _ := serve(t, &fakeHandler{}, Config{}, nil)
	c := dial(t, "tcp", addrOf(s))
	_ = c.(*net.TCPConn).SetNoDelay(true)
	for _, b := range framed(query(t, 1, "a.example"), query(t, 2, "b.example")) {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	for id := range uint16(2) {
		if m := readFrame(t, c); m.Id != id+1 {
			t.Errorf("answer %d: %v", id, m)
		}
	}
}

// TestLargestMessageIsAnswered checks that a message of 65,535 bytes, which needs a larger buffer, is answered, and another message after it too.
func TestLargestMessageIsAnswered(t *testing.T) {
	s, _ := serve(t, &fakeHandler{}, Config{}, nil)
	c := dial(t, "tcp", addrOf(s))
	large := append(query(t, 1, "a.example"), make([]byte, 65535)...)[:65535]
	writeFrames(t, c, large, query(t, 2, "a.example"))
	for id := range uint16(2) {
		if m := readFrame(t, c); m.Id != id+1 {
			t.Errorf("answer %d: %v", id, m)
		}
	}
}

func TestStreamAnswersInAnyOrder(t *testing.T) {
	var g gates
	s, _ := serve(t, &fakeHandler{gate: g.wait}, Config{}, nil)
	c := dial(t, "tcp", addrOf(s))
	writeFrames(t, c, query(t, 1, "slow1.example"), query(t, 2, "slow2.example"), query(t, 3, "fast.example"))
	for _, step := range []struct {
		release string
		want    uint16
	}{{"fast", 3}, {"slow2", 2}, {"slow1", 1}} {
		g.release(step.release)
		if m := readFrame(t, c); m.Id != step.want {
			t.Errorf("after %s was released, the answer to ID %d was sent", step.release, m.Id)
		}
	}
}

// TestConnectionIsLimitedToItsSlowPathShare checks a connection with more slow queries than its share of the slow path: the server stops reading from the
// connection for a time, and answers all queries.
func TestConnectionIsLimitedToItsSlowPathShare(t *testing.T) {
	const many = maxPipelined + 50
	var g gates
	s, _ := serve(t, &fakeHandler{gate: g.wait}, Config{}, nil)
	c := dial(t, "tcp", addrOf(s))
	for i := range uint16(many) {
		writeFrames(t, c, query(t, i, "slow.example"))
	}
	eventually(t, "the share is used up", func() bool { return metric(t, s, "rempart_slow_queries") == maxPipelined })
	other := dial(t, "tcp", addrOf(s))
	writeFrames(t, other, query(t, 1, "a.example"))
	if m := readFrame(t, other); m.Id != 1 {
		t.Errorf("another connection: %v", m)
	}
	if got := metric(t, s, "rempart_slow_queries"); got != maxPipelined {
		t.Errorf("%v queries of one connection are on the slow path, want %d", got, maxPipelined)
	}
	g.release("slow")
	seen := map[uint16]bool{}
	for range many {
		seen[readFrame(t, c).Id] = true
	}
	if len(seen) != many {
		t.Errorf("%d of %d queries were answered", len(seen), many)
	}
}

// TestHalfClosedConnectionGetsAnswer checks that a client that closes its sending side after a query still receives the answer.
func TestHalfClosedConnectionGetsAnswer(t *testing.T) {
	var g gates
	s, _ := serve(t, &fakeHandler{gate: g.wait}, Config{}, nil)
	c := dial(t, "tcp", addrOf(s))
	writeFrames(t, c, query(t, 1, "slow.example"))
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is on the slow path", func() bool { return metric(t, s, "rempart_slow_queries") == 1 })
	g.release("slow")
	if m := readFrame(t, c); m.Id != 1 {
		t.Errorf("answer: %v", m)
	}
	closed(t, c)
}

func shortIdle(d time.Duration) func(*Server) {
	return func(s *Server) { s.streams.limits.idle = d }
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	s, _ := serve(t, &fakeHandler{}, Config{}, shortIdle(50*time.Millisecond))
	silent := dial(t, "tcp", addrOf(s))
	closed(t, silent)
	closed(t, dialUsed(t, s))
	eventually(t, "none is open", func() bool { return metric(t, s, "rempart_connections", "tcp") == 0 })
}

// dialUsed returns a connection over which one query was answered. On a slow machine that may take longer than a connection may be idle; then dialUsed tries
// again.
func dialUsed(t testing.TB, s *Server) (c net.Conn) {
	t.Helper()
	eventually(t, "a query is answered", func() bool {
		c = dial(t, "tcp", addrOf(s))
		_, _ = c.Write(framed(query(t, 1, "a.example")))
		_, err := nextFrame(c)
		return err == nil
	})
	return c
}

// TestConnectionWaitingForAnswerStaysOpen checks that a connection stays open while it waits for an answer, for longer than it may be idle.
func TestConnectionWaitingForAnswerStaysOpen(t *testing.T) {
	const idle = 30 * time.Millisecond
	var g gates
	s, _ := serve(t, &fakeHandler{gate: g.wait}, Config{}, shortIdle(idle))
	var c net.Conn
	eventually(t, "it is on the slow path", func() bool { // a slow machine may take longer to send it than a connection may be idle
		c = dial(t, "tcp", addrOf(s))
		_, _ = c.Write(framed(query(t, 1, "slow.example")))
		return onSlowPath(t, s, c)
	})
	time.Sleep(5 * idle) // the connection must stay open for this time
	g.release("slow")
	if m := readFrame(t, c); m.Id != 1 {
		t.Errorf("answer: %v", m)
	}
	closed(t, c)
}

// onSlowPath waits until a query is on the slow path, and reports false if the connection is closed before.
func onSlowPath(t testing.TB, s *Server, c net.Conn) bool {
	t.Helper()
	defer func() { _ = c.SetReadDeadline(time.Now().Add(deadline)) }()
	for metric(t, s, "rempart_slow_queries") == 0 {
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
	}
	return true
}

// TestSlowQuerySenderIsDisconnected checks that a connection is closed if its client sends a query so slowly that it is not complete in time.
func TestSlowQuerySenderIsDisconnected(t *testing.T) {
	s, _ := serve(t, &fakeHandler{}, Config{}, shortIdle(100*time.Millisecond))
	c := dial(t, "tcp", addrOf(s))
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
	closed(t, c)
	c.Close()
	<-ended
}

func TestNonDNSConnectionIsClosed(t *testing.T) {
	s, _ := serve(t, &fakeHandler{}, Config{}, nil)
	response := query(t, 9, "a.example")
	response[2] |= 0x80
	for what, packet := range map[string][]byte{
		"an answer":        framed(response),
		"an empty message": {0, 0},
		"half a header":    framed(make([]byte, 6)),
		"a TLS handshake":  framed([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}),
	} {
		c := dial(t, "tcp", addrOf(s))
		if _, err := c.Write(packet); err != nil {
			t.Fatal(err)
		}
		t.Log(what)
		closed(t, c)
	}
	c := dial(t, "tcp", addrOf(s)) // a complete query before a response is answered
	writeFrames(t, c, query(t, 1, "a.example"), response, query(t, 2, "a.example"))
	if m := readFrame(t, c); m.Id != 1 {
		t.Errorf("answer: %v", m)
	}
}

func TestConnectionsPerClientAreBounded(t *testing.T) {
	s, _ := serve(t, &fakeHandler{}, Config{}, func(s *Server) {
		s.streams.limits.perClient, s.streams.limits.conns = 2, 4
	})
	from := func(addr string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
		c, err := d.Dial("tcp4", addrOf(s))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(deadline))
		return c
	}
	served := func(c net.Conn) {
		t.Helper()
		writeFrames(t, c, query(t, 1, "a.example"))
		readFrame(t, c)
	}
	first := from("127.0.0.1")
	served(first)
	served(from("127.0.0.1"))
	closed(t, from("127.0.0.1"))
	served(from("127.0.0.2"))
	served(from("127.0.0.3"))
	fourth := from("127.0.0.4")
	served(fourth) // the fifth connection: the client with most connections loses the connection that it used longest ago
	closed(t, first)
	closed(t, from("127.0.0.5")) // is refused, because now no client has more than one connection
	for name, want := range map[string]float64{"rempart_connections_refused_total": 2, "rempart_connections_evicted_total": 1} {
		if got := metric(t, s, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	fourth.Close()
	eventually(t, "one connection has ended", func() bool { return metric(t, s, "rempart_connections", "tcp") == 3 })
	served(from("127.0.0.1"))
}

// TestUnauthorizedClientGetsOneAnswer checks that unauthorized clients get one answer, and use no places that other clients need.
func TestUnauthorizedClientGetsOneAnswer(t *testing.T) {
	unauthorized := netip.MustParseAddr("127.0.0.9")
	s, _ := serve(t, &fakeHandler{}, Config{Serves: func(c netip.Addr) bool { return c != unauthorized }}, func(s *Server) {
		s.streams.limits.perClient, s.streams.limits.conns = 1, 1
	})
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: unauthorized.AsSlice()}}
	for range 3 {
		c, err := d.Dial("tcp4", addrOf(s))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(deadline))
		writeFrames(t, c, query(t, 1, "a.example"))
		if m := readFrame(t, c); m.Id != 1 {
			t.Errorf("answer: %v", m)
		}
		closed(t, c)
	}
	c := dial(t, "tcp", addrOf(s))
	writeFrames(t, c, query(t, 1, "a.example"))
	if m := readFrame(t, c); m.Id != 1 {
		t.Errorf("answer: %v", m)
	}
}

// TestConnectionWithUnreadAnswersIsClosed checks that a connection is closed when the unread answers fill every buffer.
func TestConnectionWithUnreadAnswersIsClosed(t *testing.T) {
	s, _ := serve(t, &fakeHandler{}, Config{}, shortIdle(200*time.Millisecond))
	c := dialUsed(t, s)
	_ = c.(*net.TCPConn).SetReadBuffer(4096)
	var batch []byte
	for i := range uint16(1000) {
		batch = frame(batch, query(t, i, "a.example"))
	}
	var writing sync.WaitGroup
	writing.Go(func() {
		for {
			if _, err := c.Write(batch); err != nil {
				return
			}
		}
	})
	eventually(t, "it is hung up on", func() bool { return metric(t, s, "rempart_connections", "tcp") == 0 })
	c.Close()
	writing.Wait()
}

// TestClientsWithTooManyUnreadBytesAreDisconnected checks that clients that read nothing lose their connections when too many bytes of answers wait for them,
// and that another client is served during this time.
func TestClientsWithTooManyUnreadBytesAreDisconnected(t *testing.T) {
	const room = 1 << 20
	h := &fakeHandler{large: 60_000}
	s, _ := serve(t, h, Config{}, func(s *Server) { s.streams.limits.untaken, s.streams.limits.idle = room, time.Second })
	for range 8 {
		deaf := dial(t, "tcp", addrOf(s))
		_ = deaf.(*net.TCPConn).SetReadBuffer(4096)
		go func() {
			for i := range 2000 {
				name := "a.example"
				if i%2 == 0 {
					name = "slow.example"
				}
				if _, err := deaf.Write(frame(nil, query(t, uint16(i), name))); err != nil {
					return
				}
			}
		}()
	}
	eventually(t, "connections were closed", func() bool { return metric(t, s, "rempart_connections_evicted_total") > 0 })
	tcp := dial(t, "tcp", addrOf(s))
	writeFrames(t, tcp, query(t, 1, "a.example"))
	readFrame(t, tcp)
	eventually(t, "all that read nothing were closed", func() bool { return metric(t, s, "rempart_connections", "tcp") <= 1 })
	eventually(t, "all bytes are taken or given up", func() bool { return s.streams.untaken.Load() == 0 })
}
