package stream

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/listen/fake"
)

// dialQUIC opens a connection of a transport.
func dialQUIC(t testing.TB, s *Server, client *tls.Config, transport wire.Transport) *quic.Conn {
	t.Helper()
	config := client.Clone()
	config.NextProtos = []string{wire.ALPNQUIC}
	if transport == wire.HTTPS {
		config.NextProtos = []string{wire.ALPNHTTP3}
	}
	ctx, cancel := context.WithTimeout(context.Background(), fake.Deadline)
	defer cancel()
	c, err := quic.DialAddr(ctx, s.addrsOf(transport)[len(s.addrsOf(transport))-1].String(), config, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseWithError(0, "") })
	return c
}

// open opens a stream and writes to it.
func open(t testing.TB, c *quic.Conn, parts ...[]byte) *quic.Stream {
	t.Helper()
	st, err := c.OpenStreamSync(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	_ = st.SetDeadline(time.Now().Add(fake.Deadline))
	for _, p := range parts {
		if _, err := st.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

// askDoQ sends a query on a stream of its own.
func askDoQ(t testing.TB, c *quic.Conn, packet []byte) *quic.Stream {
	t.Helper()
	st := open(t, c, dnstest.Framed(packet))
	st.Close()
	return st
}

// readDoQ reads the answer on a stream.
func readDoQ(t testing.TB, st *quic.Stream) []byte {
	t.Helper()
	b, err := io.ReadAll(st)
	if err != nil || len(b) < 2 || int(binary.BigEndian.Uint16(b)) != len(b)-2 {
		t.Fatalf("unexpected answer of %d bytes: %v", len(b), err)
	}
	return b[2:]
}

// TestQueriesOverQUIC sends queries on many streams: whole, byte by byte, the largest, and slow ones that are answered in any order.
func TestQueriesOverQUIC(t *testing.T) {
	g := &fake.Gates{}
	s, client := serveTLS(t, &fake.Handler{Gate: g.Wait, Large: 30_000}, setup{}, nil)
	c := dialQUIC(t, s, client, wire.QUIC)
	slow := askDoQ(t, c, fake.Query(t, 0, "slow.example"))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 20 {
				st := askDoQ(t, c, fake.Query(t, 0, "a.example"))
				if m := fake.Unpack(t, readDoQ(t, st)[:45]); len(m.Question) != 1 || !m.Response {
					t.Errorf("unexpected answer: %v", m)
				}
			}
		})
	}
	all.Wait()
	late := open(t, c)
	for _, b := range dnstest.Framed(fake.Query(t, 0, "a.example")) {
		if _, err := late.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	late.Close()
	readDoQ(t, late)
	readDoQ(t, askDoQ(t, c, append(fake.Query(t, 0, "a.example"), make([]byte, wire.MaxMessage-27)...)))
	g.Release("slow")
	readDoQ(t, slow)
}

// TestViolationsOverQUIC checks the errors with which connections end.
func TestViolationsOverQUIC(t *testing.T) {
	ok := fake.Query(t, 0, "a.example")
	keepalive := fake.Query(t, 0, "a.example")
	keepalive[11] = 1
	keepalive = append(keepalive, 0, 0, 41, 0, 0, 0, 0, 0, 0, 0, 4, 0, 11, 0, 0)
	request := func(section, content string) []byte {
		return append(h3Frame(h3Headers, []byte(section)), h3Frame(h3Data, []byte(content))...)
	}
	uni := func(data ...byte) func(*testing.T, *quic.Conn) {
		return func(t *testing.T, c *quic.Conn) {
			st, err := c.OpenUniStreamSync(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = st.Write(data)
			st.Close()
		}
	}
	bidi := func(data []byte) func(*testing.T, *quic.Conn) {
		return func(t *testing.T, c *quic.Conn) { open(t, c, data).Close() }
	}
	for _, tt := range []struct {
		name      string
		transport wire.Transport
		send      func(*testing.T, *quic.Conn)
		want      quic.ApplicationErrorCode
	}{
		{"an ID", wire.QUIC, bidi(dnstest.Framed(fake.Query(t, 1, "a.example"))), doqProtocolError},
		{"edns-tcp-keepalive", wire.QUIC, bidi(dnstest.Framed(keepalive)), doqProtocolError},
		{"two queries", wire.QUIC, bidi(dnstest.Framed(ok, ok)), doqProtocolError},
		{"a part of a query", wire.QUIC, bidi(dnstest.Framed(ok)[:20]), doqProtocolError},
		{"no query", wire.QUIC, bidi(nil), doqProtocolError},
		{"no DNS", wire.QUIC, bidi(dnstest.Framed([]byte("hello"))), doqProtocolError},
		{"more than a query", wire.QUIC, func(t *testing.T, c *quic.Conn) {
			st := open(t, c)
			_, _ = st.Write(make([]byte, 200_000))
		}, doqProtocolError},
		{"no frame", wire.HTTPS, bidi([]byte{1, 50, 0}), h3FrameError},
		{"content before the header", wire.HTTPS, bidi(h3Frame(h3Data, ok)), h3FrameUnexpected},
		{"settings on a request", wire.HTTPS, bidi(h3Frame(h3Settings, nil)), h3FrameUnexpected},
		{"a damaged header", wire.HTTPS, bidi(request("\x00\x00\xff\xff\xff\xff", "")), h3Decompression},
		{"a dynamic table", wire.HTTPS, bidi(request("\x05\x00\x80", "")), h3Decompression},
		{"large header fields", wire.HTTPS, bidi(request("\x00\x00"+strings.Repeat("\xec", 5000), "")), h3ExcessiveLoad},
		{"a control stream without settings", wire.HTTPS, uni(h3ControlStream, h3GoAway, 1, 0), h3MissingSettings},
		{"the end of the control stream", wire.HTTPS, uni(h3ControlStream, h3Settings, 0), h3ClosedCritical},
		{"a push", wire.HTTPS, uni(h3PushStream, 0), h3StreamCreation},
		{"a flood on the control stream", wire.HTTPS, uni(append([]byte{h3ControlStream, h3Settings, 0}, make([]byte, 2*maxCriticalData)...)...), h3ExcessiveLoad},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, client := serveTLS(t, &fake.Handler{}, setup{}, nil)
			c := dialQUIC(t, s, client, tt.transport)
			go tt.send(t, c)
			<-c.Context().Done()
			var end *quic.ApplicationError
			if err := context.Cause(c.Context()); !errors.As(err, &end) || !end.Remote || end.ErrorCode != tt.want {
				t.Errorf("the connection ended with %v, want %#x", err, uint64(tt.want))
			}
			fake.Eventually(t, "no connection is open", func() bool { return s.count() == 0 })
		})
	}
}

// TestResetStreams checks that a client that resets its streams, or never ends them, keeps its connection and holds back nobody.
func TestResetStreams(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{}, func(s *Server) { s.limits.idle = 300 * time.Millisecond })
	c := dialQUIC(t, s, client, wire.QUIC)
	var unfinished []*quic.Stream
	for i := range maxStreams {
		st := open(t, c, dnstest.Framed(fake.Query(t, 0, "a.example"))[:10])
		if i%2 == 0 {
			st.CancelWrite(3)
			continue
		}
		unfinished = append(unfinished, st)
	}
	readDoQ(t, askDoQ(t, c, fake.Query(t, 0, "a.example")))
	for _, st := range unfinished {
		if _, err := io.ReadAll(st); err == nil {
			t.Fatal("an unfinished query got an answer")
		}
	}
}

// TestRetryUnderLoad checks that a client proves its address when many handshakes are unfinished, and that unauthorized clients get none.
func TestRetryUnderLoad(t *testing.T) {
	var refuses atomic.Bool
	s, client := serveTLS(t, &fake.Handler{}, setup{Serves: func(netip.Addr) bool { return !refuses.Load() }}, nil)
	s.quic[1].unfinished.Add(maxUnverified + 1)
	readDoQ(t, askDoQ(t, dialQUIC(t, s, client, wire.QUIC), fake.Query(t, 0, "a.example"))) // a Retry is a matter of the library
	if !s.quic[1].quic.VerifySourceAddress(nil) {
		t.Error("the address is not verified")
	}
	refuses.Store(true)
	config := client.Clone()
	config.NextProtos = []string{wire.ALPNQUIC}
	ctx, cancel := context.WithTimeout(context.Background(), fake.Deadline)
	defer cancel()
	if _, err := quic.DialAddr(ctx, s.addrsOf(wire.QUIC)[0].String(), config, nil); err == nil || ctx.Err() != nil {
		t.Errorf("an unauthorized client is not refused: %v", err)
	}
}

// TestStopOverQUIC checks that queries on the slow path are answered while the server stops, and that the connection ends without an error.
func TestStopOverQUIC(t *testing.T) {
	g := &fake.Gates{}
	secure, client := fake.Identity(t)
	s, stop := serve(t, &fake.Handler{Gate: g.Wait}, setup{Addrs: fake.Loopback(), QUIC: fake.Loopback(), Secure: secure}, nil)
	c := dialQUIC(t, s, client, wire.QUIC)
	slow := askDoQ(t, c, fake.Query(t, 0, "slow.example"))
	fake.Eventually(t, "the query is on the slow path", func() bool { return s.config.Pool.Running() > 0 })
	time.AfterFunc(20*time.Millisecond, func() { g.Release("slow") })
	var reading sync.WaitGroup
	reading.Go(func() { readDoQ(t, slow) }) // quic-go discards what was not read when the connection ends
	stop()
	reading.Wait()
	<-c.Context().Done()
	var end *quic.ApplicationError
	if err := context.Cause(c.Context()); !errors.As(err, &end) || end.ErrorCode != doqNoError {
		t.Errorf("the connection ended with %v", err)
	}
}

// TestNoEarlyData checks that a client that resumes its session sends its query after the handshake only.
func TestNoEarlyData(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{}, nil)
	client.ClientSessionCache, client.NextProtos = tls.NewLRUClientSessionCache(1), []string{wire.ALPNQUIC}
	ctx, cancel := context.WithTimeout(context.Background(), fake.Deadline)
	defer cancel()
	for i := range 2 {
		c, err := quic.DialAddrEarly(ctx, s.addrsOf(wire.QUIC)[0].String(), client, nil)
		if err != nil {
			t.Fatal(err)
		}
		readDoQ(t, askDoQ(t, c, fake.Query(t, 0, "a.example")))
		if state := c.ConnectionState(); state.Used0RTT || state.TLS.DidResume != (i == 1) {
			t.Errorf("connection %d: early data %v, resumed %v", i, state.Used0RTT, state.TLS.DidResume)
		}
		c.CloseWithError(0, "")
	}
}

// TestUnfinishedQueriesAreBounded checks that a client that ends none of its queries loses its connection, and that their memory is free afterwards.
func TestUnfinishedQueriesAreBounded(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{}, nil)
	c := dialQUIC(t, s, client, wire.QUIC)
	for range maxStreams {
		st, err := c.OpenStreamSync(context.Background())
		if err != nil {
			break
		}
		_, _ = st.Write(append([]byte{0xff, 0xff}, make([]byte, 20_000)...))
	}
	<-c.Context().Done()
	var end *quic.ApplicationError
	if err := context.Cause(c.Context()); !errors.As(err, &end) || end.ErrorCode != doqExcessiveLoad {
		t.Errorf("the connection ended with %v", err)
	}
	fake.Eventually(t, "nothing is held", func() bool { return s.untaken.Load() == 0 && s.count() == 0 })
}

// TestUntakenAnswersOverQUIC checks that answers that a client does not take are counted.
func TestUntakenAnswersOverQUIC(t *testing.T) {
	g := &fake.Gates{}
	s, client := serveTLS(t, &fake.Handler{Large: 60_000, Gate: g.Wait}, setup{}, nil)
	config := client.Clone()
	config.NextProtos = []string{wire.ALPNQUIC}
	c, err := quic.DialAddr(context.Background(), s.addrsOf(wire.QUIC)[0].String(), config, &quic.Config{InitialStreamReceiveWindow: 1, MaxStreamReceiveWindow: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseWithError(0, "")
	for range 5 {
		askDoQ(t, c, fake.Query(t, 0, "slow.example"))
	}
	g.Release("slow")
	fake.Eventually(t, "the answers are counted", func() bool { return s.untaken.Load() >= 5*60_000 })
	c.CloseWithError(0, "")
	fake.Eventually(t, "nothing is held", func() bool { return s.untaken.Load() == 0 })
}

// TestEvictedHandshakeIsClosed checks that a connection that loses its place during its handshake is closed when the handshake ends.
func TestEvictedHandshakeIsClosed(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{}, nil)
	l := s.quic[len(s.quic)-1]
	config := client.Clone()
	config.NextProtos = []string{wire.ALPNQUIC}
	go func() { // aborts the session as soon as it is admitted
		for range 100_000 {
			l.server.admission.Each(session.abort)
			time.Sleep(10 * time.Microsecond)
			if s.handshakes.Load() > 0 {
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), fake.Deadline)
	defer cancel()
	if c, err := quic.DialAddr(ctx, s.addrsOf(wire.QUIC)[0].String(), config, nil); err == nil {
		<-c.Context().Done()
	}
	fake.Eventually(t, "no place is taken", func() bool { return s.count() == 0 })
}

// TestMalformedRequestEndsItsStream checks that a request without a path ends its stream only (RFC 9114 section 4.1.2).
func TestMalformedRequestEndsItsStream(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{}, nil)
	c := dialQUIC(t, s, client, wire.HTTPS)
	for range 2 {
		st := open(t, c, h3Frame(h3Headers, []byte("\x00\x00\xd1")))
		st.Close()
		var end *quic.StreamError
		if _, err := io.ReadAll(st); !errors.As(err, &end) || end.ErrorCode != h3Message {
			t.Errorf("the stream ended with %v", err)
		}
	}
}
