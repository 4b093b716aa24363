package stream

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/limits"
	"rempart/resolver/listen/fake"
)

// serveTLS runs a server with all transports.
func serveTLS(t testing.TB, h Handler, c setup, change func(*Server)) (s *Server, client *tls.Config) {
	t.Helper()
	c.Secure, client = fake.Identity(t)
	c.Addrs, c.TLS, c.HTTPS, c.QUIC = fake.Loopback(), fake.Loopback(), fake.Loopback(), fake.Loopback()
	s, _ = serve(t, h, c, change)
	return s, client
}

func dialTLS(t testing.TB, s *Server, client *tls.Config) *tls.Conn {
	t.Helper()
	c := tls.Client(fake.Dial(t, "tcp", s.addrsOf(wire.TLS)[0].String()), client)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestQueriesOverTLS sends many queries, in records of their own and together, and in one byte per record.
func TestQueriesOverTLS(t *testing.T) {
	const many = 300
	var messages [][]byte
	for i := range uint16(many) {
		messages = append(messages, fake.Query(t, i, "a.example"))
	}
	for _, tt := range []struct {
		name  string
		write func(c net.Conn) error
	}{
		{"one record per query", func(c net.Conn) error {
			for _, m := range messages {
				if _, err := c.Write(dnstest.Framed(m)); err != nil {
					return err
				}
			}
			return nil
		}},
		{"large records", func(c net.Conn) error { _, err := c.Write(dnstest.Framed(messages...)); return err }},
		{"records of one byte", func(c net.Conn) error {
			for _, b := range dnstest.Framed(messages...) {
				if _, err := c.Write([]byte{b}); err != nil {
					return err
				}
			}
			return nil
		}},
		{"records of 1,000 bytes", func(c net.Conn) error {
			for all := dnstest.Framed(messages...); len(all) > 0; all = all[min(1000, len(all)):] {
				if _, err := c.Write(all[:min(1000, len(all))]); err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &fake.Handler{}
			s, client := serveTLS(t, h, setup{}, nil)
			c := dialTLS(t, s, client)
			var writing sync.WaitGroup
			writing.Go(func() {
				if err := tt.write(c); err != nil {
					t.Error(err)
				}
			})
			for i := range uint16(many) {
				if m := fake.ReadFrame(t, c); m.Id != i || len(m.Answer) != 1 {
					t.Fatalf("answer %d: %v", i, m)
				}
			}
			writing.Wait()
			if n := h.Largest.Load(); tt.name == "large records" && n != streamBatch {
				t.Errorf("the largest batch was %d, want %d", n, streamBatch)
			}
		})
	}
}

// TestLargestMessagesOverTLS sends and receives messages that need several records.
func TestLargestMessagesOverTLS(t *testing.T) {
	h := &fake.Handler{Large: 60_000}
	s, client := serveTLS(t, h, setup{}, nil)
	c := dialTLS(t, s, client)
	long := append(fake.Query(t, 1, "slow.example"), make([]byte, wire.MaxMessage-30)...)
	for range 3 {
		fake.WriteFrames(t, c, long, fake.Query(t, 2, "a.example"))
		for range 2 {
			if packed, err := dnstest.ReadFrame(c); err != nil || len(packed) < 60_000 {
				t.Fatalf("an answer of %d bytes, %v", len(packed), err)
			}
		}
	}
}

// TestEndOfConnectionOverTLS checks that both sides end a connection by close_notify, and that a client that only closes its side gets its answers.
func TestEndOfConnectionOverTLS(t *testing.T) {
	g := &fake.Gates{}
	s, client := serveTLS(t, &fake.Handler{Gate: g.Wait}, setup{}, nil)
	c := dialTLS(t, s, client)
	fake.WriteFrames(t, c, fake.Query(t, 7, "slow.example"))
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	g.Release("slow")
	if m := fake.ReadFrame(t, c); m.Id != 7 {
		t.Errorf("unexpected answer: %v", m)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF { // io.ErrUnexpectedEOF without close_notify
		t.Errorf("the connection ends with %v, want close_notify", err)
	}
}

// TestIdleConnectionsOverTLSAreClosed checks that a connection without a handshake, with a part of one, and without queries is closed.
func TestIdleConnectionsOverTLSAreClosed(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{MaxStreams: 1}, func(s *Server) { s.limits.secureIdle = 50 * time.Millisecond })
	c := dialTLS(t, s, client)
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("an idle connection ends with %v, want close_notify", err)
	}
	c.Close()
	fake.Eventually(t, "the place is free", func() bool { return s.count() == 0 })
	partial := fake.Dial(t, "tcp", s.addrsOf(wire.TLS)[0].String()) // more than half of all connections: the time for a handshake is short
	if _, err := partial.Write([]byte("\x16\x03\x01")); err != nil {
		t.Fatal(err)
	}
	fake.Closed(t, partial)
	fake.Eventually(t, "none is open", func() bool { return s.count() == 0 })
	fake.Eventually(t, "the handshake is counted as failed", func() bool { return s.failed.Load() == 1 })
}

// TestProtocolOfTLS checks the versions, the key exchange and the ALPN of each transport.
func TestProtocolOfTLS(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{}, nil)
	for _, tt := range []struct {
		name      string
		transport wire.Transport
		change    func(*tls.Config)
		want      string // the protocol; "" if the handshake fails
	}{
		{"TLS without ALPN", wire.TLS, func(*tls.Config) {}, "none"},
		{"TLS with ALPN", wire.TLS, func(c *tls.Config) { c.NextProtos = []string{"dot"} }, "dot"},
		{"TLS with another ALPN", wire.TLS, func(c *tls.Config) { c.NextProtos = []string{"h2"} }, ""},
		{"TLS 1.2", wire.TLS, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, "none"},
		{"TLS 1.1", wire.TLS, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 }, ""},
		{"HTTPS", wire.HTTPS, func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, "h2"},
		{"HTTPS with TLS 1.2", wire.HTTPS, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := client.Clone()
			tt.change(config)
			c := tls.Client(fake.Dial(t, "tcp", s.addrsOf(tt.transport)[0].String()), config)
			err := c.Handshake()
			if (err == nil) != (tt.want != "") {
				t.Fatalf("the handshake ends with %v", err)
			}
			if err != nil {
				return
			}
			state := c.ConnectionState()
			if got := state.NegotiatedProtocol; got != tt.want && !(got == "" && tt.want == "none") {
				t.Errorf("the protocol is %q, want %q", got, tt.want)
			}
			if state.Version == tls.VersionTLS13 && state.CurveID != tls.X25519MLKEM768 {
				t.Errorf("the key exchange is %v, want X25519MLKEM768", state.CurveID)
			}
		})
	}
}

// TestSessionIsResumed checks that a client resumes a session by a ticket, without early data.
func TestSessionIsResumed(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{}, nil)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		c := dialTLS(t, s, client)
		fake.WriteFrames(t, c, fake.Query(t, 1, "a.example"))
		fake.ReadFrame(t, c) // the ticket arrives before it
		if c.ConnectionState().DidResume != (i == 1) {
			t.Errorf("connection %d: resumed %v", i, c.ConnectionState().DidResume)
		}
		c.Close()
	}
}

// TestUnauthorizedClientGetsNoHandshake checks that no key exchange is computed for a client that may not ask.
func TestUnauthorizedClientGetsNoHandshake(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{Serves: func(netip.Addr) bool { return false }}, nil)
	c := tls.Client(fake.Dial(t, "tcp", s.addrsOf(wire.TLS)[0].String()), client)
	if err := c.Handshake(); err == nil {
		t.Error("the handshake succeeded")
	}
	if s.refused.Load() != 1 || s.failed.Load()+s.handshakes.Load() != 0 {
		t.Error("the connection is not counted as refused")
	}
}

// TestGarbageInsteadOfTLS sends what is no TLS, oversized records, and damaged records after the handshake.
func TestGarbageInsteadOfTLS(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{}, func(s *Server) { s.limits.secureIdle = time.Second })
	for _, garbage := range [][]byte{
		bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 100), dnstest.Framed(fake.Query(t, 1, "a.example")), {0x16, 3, 1, 0xff, 0xff, 1, 2, 3, 4, 5}, bytes.Repeat([]byte{0}, 70_000),
	} {
		c := fake.Dial(t, "tcp", s.addrsOf(wire.TLS)[0].String())
		_, _ = c.Write(garbage)
		readToEnd(t, c)
		raw := fake.Dial(t, "tcp", s.addrsOf(wire.TLS)[0].String())
		secure := tls.Client(raw, client)
		if err := secure.Handshake(); err != nil {
			t.Fatal(err)
		}
		_, _ = raw.Write(garbage)
		readToEnd(t, raw)
		_, _ = raw.Write(append([]byte{0x17, 3, 3, 0, 200}, make([]byte, 200)...)) // a record that nobody encrypted
		readToEnd(t, raw)
	}
	fake.Eventually(t, "none is open", func() bool { return s.count() == 0 })
	c := dialTLS(t, s, client)
	fake.WriteFrames(t, c, fake.Query(t, 1, "a.example"))
	fake.ReadFrame(t, c)
}

// readToEnd reads until the server closes the connection.
func readToEnd(t testing.TB, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(fake.Deadline))
	var timeout net.Error
	if _, err := io.Copy(io.Discard, c); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("the connection was not closed")
	}
}

// TestStopOverTLS checks that queries on the slow path are answered while the server stops.
func TestStopOverTLS(t *testing.T) {
	g := &fake.Gates{}
	secure, client := fake.Identity(t)
	s, stop := serve(t, &fake.Handler{Gate: g.Wait}, setup{Addrs: fake.Loopback(), TLS: fake.Loopback(), Secure: secure}, nil)
	c := dialTLS(t, s, client)
	fake.WriteFrames(t, c, fake.Query(t, 3, "slow.example"))
	fake.Eventually(t, "the query is on the slow path", func() bool { return s.config.Pool.Running() > 0 })
	time.AfterFunc(20*time.Millisecond, func() { g.Release("slow") })
	stop()
	if m := fake.ReadFrame(t, c); m.Id != 3 {
		t.Errorf("unexpected answer: %v", m)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection ends with %v, want close_notify", err)
	}
}

// TestHandshakesAreLimited checks the limit of handshakes of a network, over TLS and QUIC, and that observing it closes nothing.
func TestHandshakesAreLimited(t *testing.T) {
	for _, action := range []limits.Action{limits.Drop, limits.Observe} {
		everyone := limits.Limit{Clients: netip.MustParsePrefix("0.0.0.0/0"), Answers: 2}
		s, client := serveTLS(t, &fake.Handler{}, setup{Handshakes: limits.Config{Limits: []limits.Limit{everyone}, Action: action}}, nil)
		failed := 0
		for range 6 {
			if c := tls.Client(fake.Dial(t, "tcp", s.addrsOf(wire.TLS)[0].String()), client); c.Handshake() != nil {
				failed++
			}
		}
		if limited := s.Stats().Limited[limits.Answers][action]; limited < 2 || (action == limits.Drop) != (failed >= 2) {
			t.Errorf("%s: %d handshakes of 6 failed, %v are counted", action, failed, limited)
		}
	}
}

// TestHandshakeFlood checks that queries are answered while many clients make handshakes, of which few are computed at a time.
func TestHandshakeFlood(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{}, nil)
	end, flood := fake.FloodHandshakes(s.addrsOf(wire.TLS)[0].String(), client)
	c := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
	for i := uint16(0); time.Now().Before(end); i++ {
		fake.WriteFrames(t, c, fake.Query(t, i, "a.example"))
		if m := fake.ReadFrame(t, c); m.Id != i {
			t.Fatalf("unexpected answer: %v", m)
		}
		if n := len(s.turns); n > max(1, runtime.GOMAXPROCS(0)/2) {
			t.Fatalf("%d handshakes are computed at a time", n)
		}
	}
	flood.Wait()
	c.Close()
	fake.Eventually(t, "every turn is free", func() bool { return len(s.turns) == 0 && s.count() == 0 })
}
