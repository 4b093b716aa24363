package stream

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"rempart/internal/wire"
	"rempart/resolver/listen/fake"
)

// TestOtherProtocolEndsAfterItsHandshake offers another protocol, as the authority that checks an ACME challenge does: the connection ends after its handshake,
// is no failure and reaches no handler, and the client need not be authorized. Without a certificate for that protocol there is no handshake.
func TestOtherProtocolEndsAfterItsHandshake(t *testing.T) {
	const other = "other/1"
	outsider := netip.MustParseAddr("127.0.0.66")
	own, client := fake.Identity(t)
	challenged := own.Certificates[0]
	secure := &tls.Config{NextProtos: []string{other}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == other && hello.ServerName != "dns.example" {
			return nil, errors.New("nothing to prove for this name")
		}
		return &challenged, nil
	}}
	h := &fake.Handler{}
	s, _ := serve(t, h, setup{Addrs: fake.Loopback(), TLS: fake.Loopback(), HTTPS: fake.Loopback(), Secure: secure, Serves: func(a netip.Addr) bool { return a != outsider }}, nil)
	shake := func(transport wire.Transport, from netip.Addr, name string, protocols ...string) (*tls.Conn, error) {
		t.Helper()
		c := client.Clone()
		c.ServerName, c.NextProtos = name, protocols
		c.InsecureSkipVerify = true // of the name
		d := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: fake.Deadline}, Config: c}
		conn, err := d.DialContext(t.Context(), "tcp", s.addrsOf(transport)[0].String())
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(fake.Deadline))
		return conn.(*tls.Conn), nil
	}
	insider := netip.MustParseAddr("127.0.0.1")
	for _, transport := range []wire.Transport{wire.TLS, wire.HTTPS} {
		for _, from := range []netip.Addr{insider, outsider} {
			c, err := shake(transport, from, "dns.example", other)
			if err != nil {
				t.Fatalf("%v from %s: %v", transport, from, err)
			}
			if got := c.ConnectionState().NegotiatedProtocol; got != other {
				t.Errorf("the protocol is %q", got)
			}
			if n, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%d bytes and %v, want the end of the connection", n, err)
			}
		}
	}
	if n := s.failed.Load(); n != 0 {
		t.Errorf("%d failed handshakes", n)
	}
	if n := h.Largest.Load(); n != 0 {
		t.Errorf("the handler got %d queries", n)
	}
	for _, tt := range []struct {
		name      string
		from      netip.Addr
		protocols []string
	}{
		{"elsewhere.example", insider, []string{other}},
		{"dns.example", outsider, []string{"dot"}},
		{"dns.example", outsider, []string{other, "dot"}},
		{"dns.example", outsider, nil},
	} {
		if _, err := shake(wire.TLS, tt.from, tt.name, tt.protocols...); err == nil {
			t.Errorf("%s from %s with %q: the handshake succeeded", tt.name, tt.from, tt.protocols)
		}
	}
	if c, err := shake(wire.TLS, insider, "dns.example", other, "dot"); err != nil || c.ConnectionState().NegotiatedProtocol != "dot" {
		t.Errorf("with both protocols: %v", err)
	}
	fake.Eventually(t, "every connection ended except the last", func() bool { return s.count() == 1 })
}
