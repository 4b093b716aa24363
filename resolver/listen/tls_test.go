package listen

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"rempart/internal/wire"
	"rempart/resolver/limits"
)

var loopback = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}

// identity returns the certificate of a test's server, and the settings of a client that trusts it.
func identity(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "dns.example"}, DNSNames: []string{"dns.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}}, &tls.Config{RootCAs: roots, ServerName: "dns.example"}
}

// serveTLS runs a server with all transports.
func serveTLS(t testing.TB, h Handler, c Config, change func(*Server)) (s *Server, client *tls.Config) {
	t.Helper()
	c.Secure, client = identity(t)
	c.Addrs, c.TLS, c.HTTPS, c.QUIC = loopback, loopback, loopback, loopback
	s, _ = serve(t, h, c, change)
	return s, client
}

func dialTLS(t testing.TB, s *Server, client *tls.Config) *tls.Conn {
	t.Helper()
	c := tls.Client(dial(t, "tcp", s.AddrsOf(wire.TLS)[0].String()), client)
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
		messages = append(messages, query(t, i, "a.example"))
	}
	for _, tt := range []struct {
		name  string
		write func(c net.Conn) error
	}{
		{"one record per query", func(c net.Conn) error {
			for _, m := range messages {
				if _, err := c.Write(framed(m)); err != nil {
					return err
				}
			}
			return nil
		}},
		{"large records", func(c net.Conn) error { _, err := c.Write(framed(messages...)); return err }},
		{"records of one byte", func(c net.Conn) error {
			for _, b := range framed(messages...) {
				if _, err := c.Write([]byte{b}); err != nil {
					return err
				}
			}
			return nil
		}},
		{"records of 1,000 bytes", func(c net.Conn) error {
			for all := framed(messages...); len(all) > 0; all = all[min(1000, len(all)):] {
				if _, err := c.Write(all[:min(1000, len(all))]); err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &fakeHandler{}
			s, client := serveTLS(t, h, Config{}, nil)
			c := dialTLS(t, s, client)
			var writing sync.WaitGroup
			writing.Go(func() {
				if err := tt.write(c); err != nil {
					t.Error(err)
				}
			})
			for i := range uint16(many) {
				if m := readFrame(t, c); m.Id != i || len(m.Answer) != 1 {
					t.Fatalf("answer %d: %v", i, m)
				}
			}
			writing.Wait()
			if n := h.largest.Load(); tt.name == "large records" && n != streamBatch {
				t.Errorf("the largest batch was %d, want %d", n, streamBatch)
			}
		})
	}
}

// TestLargestMessagesOverTLS sends and receives messages that need several records.
func TestLargestMessagesOverTLS(t *testing.T) {
	h := &fakeHandler{large: 60_000}
	s, client := serveTLS(t, h, Config{}, nil)
	c := dialTLS(t, s, client)
	long := append(query(t, 1, "slow.example"), make([]byte, wire.MaxMessage-30)...)
	for range 3 {
		writeFrames(t, c, long, query(t, 2, "a.example"))
		for range 2 {
			if packed, err := nextFrame(c); err != nil || len(packed) < 60_000 {
				t.Fatalf("an answer of %d bytes, %v", len(packed), err)
			}
		}
	}
}

// TestEndOfConnectionOverTLS checks that both sides end a connection by close_notify, and that a client that only closes its side gets its answers.
func TestEndOfConnectionOverTLS(t *testing.T) {
	g := &gates{}
	s, client := serveTLS(t, &fakeHandler{gate: g.wait}, Config{}, nil)
	c := dialTLS(t, s, client)
	writeFrames(t, c, query(t, 7, "slow.example"))
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	g.release("slow")
	if m := readFrame(t, c); m.Id != 7 {
		t.Errorf("unexpected answer: %v", m)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF { // io.ErrUnexpectedEOF without close_notify
		t.Errorf("the connection ends with %v, want close_notify", err)
	}
}

// TestIdleConnectionsOverTLSAreClosed checks that a connection without a handshake, with a part of one, and without queries is closed.
func TestIdleConnectionsOverTLSAreClosed(t *testing.T) {
	s, client := serveTLS(t, &fakeHandler{}, Config{MaxStreams: 1}, func(s *Server) { s.streams.limits.secureIdle = 50 * time.Millisecond })
	c := dialTLS(t, s, client)
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("an idle connection ends with %v, want close_notify", err)
	}
	c.Close()
	eventually(t, "the place is free", func() bool { return s.streams.count() == 0 })
	partial := dial(t, "tcp", s.AddrsOf(wire.TLS)[0].String()) // more than half of all connections: the time for a handshake is short
	if _, err := partial.Write([]byte("\x16\x03\x01")); err != nil {
		t.Fatal(err)
	}
	closed(t, partial)
	eventually(t, "none is open", func() bool { return s.streams.count() == 0 })
	eventually(t, "the handshake is counted as failed", func() bool { return s.streams.failed.Load() == 1 })
}

// TestProtocolOfTLS checks the versions, the key exchange and the ALPN of each transport.
func TestProtocolOfTLS(t *testing.T) {
	s, client := serveTLS(t, &fakeHandler{}, Config{}, nil)
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
			c := tls.Client(dial(t, "tcp", s.AddrsOf(tt.transport)[0].String()), config)
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
	s, client := serveTLS(t, &fakeHandler{}, Config{}, nil)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		c := dialTLS(t, s, client)
		writeFrames(t, c, query(t, 1, "a.example"))
		readFrame(t, c) // the ticket arrives before it
		if c.ConnectionState().DidResume != (i == 1) {
			t.Errorf("connection %d: resumed %v", i, c.ConnectionState().DidResume)
		}
		c.Close()
	}
}

// TestUnauthorizedClientGetsNoHandshake checks that no key exchange is computed for a client that may not ask.
func TestUnauthorizedClientGetsNoHandshake(t *testing.T) {
	s, client := serveTLS(t, &fakeHandler{}, Config{Serves: func(netip.Addr) bool { return false }}, nil)
	c := tls.Client(dial(t, "tcp", s.AddrsOf(wire.TLS)[0].String()), client)
	if err := c.Handshake(); err == nil {
		t.Error("the handshake succeeded")
	}
	if s.streams.refused.Load() != 1 || s.streams.failed.Load()+s.streams.handshakes.Load() != 0 {
		t.Error("the connection is not counted as refused")
	}
}

// TestGarbageInsteadOfTLS sends what is no TLS, oversized records, and damaged records after the handshake.
func TestGarbageInsteadOfTLS(t *testing.T) {
	s, client := serveTLS(t, &fakeHandler{}, Config{}, func(s *Server) { s.streams.limits.secureIdle = time.Second })
	for _, garbage := range [][]byte{
		bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 100), framed(query(t, 1, "a.example")), {0x16, 3, 1, 0xff, 0xff, 1, 2, 3, 4, 5}, bytes.Repeat([]byte{0}, 70_000),
	} {
		c := dial(t, "tcp", s.AddrsOf(wire.TLS)[0].String())
		_, _ = c.Write(garbage)
		readToEnd(t, c)
		raw := dial(t, "tcp", s.AddrsOf(wire.TLS)[0].String())
		secure := tls.Client(raw, client)
		if err := secure.Handshake(); err != nil {
			t.Fatal(err)
		}
		_, _ = raw.Write(garbage)
		readToEnd(t, raw)
		_, _ = raw.Write(append([]byte{0x17, 3, 3, 0, 200}, make([]byte, 200)...)) // a record that nobody encrypted
		readToEnd(t, raw)
	}
	eventually(t, "none is open", func() bool { return s.streams.count() == 0 })
	c := dialTLS(t, s, client)
	writeFrames(t, c, query(t, 1, "a.example"))
	readFrame(t, c)
}

// readToEnd reads until the server closes the connection.
func readToEnd(t testing.TB, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(deadline))
	var timeout net.Error
	if _, err := io.Copy(io.Discard, c); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("the connection was not closed")
	}
}

// TestStopOverTLS checks that queries on the slow path are answered while the server stops.
func TestStopOverTLS(t *testing.T) {
	g := &gates{}
	secure, client := identity(t)
	s, stop := serve(t, &fakeHandler{gate: g.wait}, Config{Addrs: loopback, TLS: loopback, Secure: secure}, nil)
	c := dialTLS(t, s, client)
	writeFrames(t, c, query(t, 3, "slow.example"))
	eventually(t, "the query is on the slow path", func() bool { return !s.pool.idle() })
	time.AfterFunc(20*time.Millisecond, func() { g.release("slow") })
	stop()
	if m := readFrame(t, c); m.Id != 3 {
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
		s, client := serveTLS(t, &fakeHandler{}, Config{Handshakes: limits.Config{Limits: []limits.Limit{everyone}, Action: action}}, nil)
		failed := 0
		for range 6 {
			if c := tls.Client(dial(t, "tcp", s.AddrsOf(wire.TLS)[0].String()), client); c.Handshake() != nil {
				failed++
			}
		}
		if limited := metric(t, s, "rempart_handshakes_limited_total", action.String()); limited < 2 || (action == limits.Drop) != (failed >= 2) {
			t.Errorf("%s: %d handshakes of 6 failed, %v are counted", action, failed, limited)
		}
	}
}

// TestHandshakeFlood checks that queries are answered while many clients make handshakes, of which few are computed at a time.
func TestHandshakeFlood(t *testing.T) {
	s, client := serveTLS(t, &fakeHandler{}, Config{}, nil)
	at := s.AddrsOf(wire.TLS)[0].String()
	var flood sync.WaitGroup
	end := time.Now().Add(500 * time.Millisecond)
	for range 50 {
		flood.Go(func() {
			for time.Now().Before(end) {
				if c, err := tls.Dial("tcp", at, client); err == nil {
					c.Close()
				}
			}
		})
	}
	c := dial(t, "udp", addrOf(s))
	for i := uint16(0); time.Now().Before(end); i++ {
		if m := ask(t, c, i, "a.example"); m.Id != i {
			t.Fatalf("unexpected answer: %v", m)
		}
		if n := len(s.streams.turns); n > max(1, runtime.GOMAXPROCS(0)/2) {
			t.Fatalf("%d handshakes are computed at a time", n)
		}
	}
	flood.Wait()
	eventually(t, "every turn is free", func() bool { return len(s.streams.turns) == 0 && s.streams.count() == 0 })
}
