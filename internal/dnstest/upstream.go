// Package dnstest holds tools for the tests of several packages: a scriptable upstream on loopback, hostile upstreams, a small DNS client, Rempart and other
// programs as processes, and small disks. Only tests import this package.
package dnstest

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TLSName is the host name in the certificate of every Upstream. The certificate is also valid for 127.0.0.1.
const TLSName = "upstream.test"

// Upstream is a fake upstream resolver on loopback: UDP and TCP on one port, TLS on another, HTTPS and QUIC if they are asked for. It is closed at the end of the
// test. Its methods are safe for concurrent use.
type Upstream struct {
	Addr    netip.AddrPort // UDP and TCP
	TLSAddr netip.AddrPort // TLS, ALPN "dot"
	Roots   *x509.CertPool // the certificate authority that signed the certificate of the upstream
	KeyHash string         // SHA-256 hash of the key in the certificate, in base64

	cert     tls.Certificate
	mu       sync.Mutex
	handler  Handler
	seen     []*Query
	open     map[net.Conn]bool
	accepted int
	closed   bool
	work     sync.WaitGroup // the loops of the upstream, and the handlers that still run
}

// NewUpstream starts an upstream that passes each query to h. If h is nil, the upstream uses Answer("@ 300 IN A 192.0.2.1").
func NewUpstream(t testing.TB, h Handler) *Upstream {
	t.Helper()
	if h == nil {
		h = Answer("@ 300 IN A 192.0.2.1")
	}
	u := &Upstream{handler: h, open: map[net.Conn]bool{}}
	stream, packet := ListenBoth(t)
	u.Addr = stream.Addr().(*net.TCPAddr).AddrPort()
	secure, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("dnstest: listening for TLS: %v", err)
	}
	u.TLSAddr = secure.Addr().(*net.TCPAddr).AddrPort()
	ca := Authority(t, "dnstest authority")
	cert := Certificate(t, loopback(TLSName), &ca)
	u.Roots, u.cert, u.KeyHash = Trusting(ca), cert, keyHash(cert)
	config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"dot"}}

	u.work.Go(func() { u.datagrams(packet) })
	u.work.Go(func() { u.streams(stream, "tcp", nil) })
	u.work.Go(func() { u.streams(secure, "tls", config) })
	t.Cleanup(func() {
		packet.Close()
		stream.Close()
		secure.Close()
		u.mu.Lock()
		u.closed = true
		u.mu.Unlock()
		u.CloseStreams()
		u.work.Wait()
	})
	return u
}

// ListenBoth opens one free port of loopback for both TCP and UDP.
func ListenBoth(t testing.TB) (net.Listener, net.PacketConn) {
	t.Helper()
	var last error
	for range 20 {
		stream, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("dnstest: listening on TCP: %v", err)
		}
		packet, err := net.ListenPacket("udp", stream.Addr().String())
		if err == nil {
			return stream, packet
		}
		last = err
		stream.Close()
	}
	t.Fatalf("dnstest: listening on UDP: %v", last)
	return nil, nil
}

// datagrams reads queries from c until c is closed.
func (u *Upstream) datagrams(c net.PacketConn) {
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		u.query(&Query{Network: "udp", send: func(b []byte) { c.WriteTo(b, from) }}, buf[:n])
	}
}

// streams accepts connections from l until l is closed. If secure is not nil, the connections use TLS.
func (u *Upstream) streams(l net.Listener, network string, secure *tls.Config) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if secure != nil {
			c = tls.Server(c, secure)
		}
		u.mu.Lock()
		u.accepted++
		u.open[c] = true
		if u.closed {
			c.Close()
		}
		u.mu.Unlock()
		u.work.Go(func() { u.stream(c, network) })
	}
}

// stream reads framed queries from c until c is closed.
func (u *Upstream) stream(c net.Conn, network string) {
	defer func() {
		c.Close()
		u.mu.Lock()
		delete(u.open, c)
		u.mu.Unlock()
	}()
	var writing sync.Mutex
	write := func(pause time.Duration, pieces ...[]byte) {
		writing.Lock()
		defer writing.Unlock()
		for _, b := range pieces {
			if _, err := c.Write(b); err != nil {
				return
			}
			time.Sleep(pause)
		}
	}
	send := func(b []byte) { write(0, Framed(b)) }
	for {
		packed, err := ReadFrame(c)
		if err != nil {
			return
		}
		q := &Query{Network: network, send: send, write: write, end: func() { c.Close() }}
		if secure, ok := c.(*tls.Conn); ok {
			q.Resumed = secure.ConnectionState().DidResume
		}
		u.query(q, packed)
	}
}

// query unpacks packed into q and hands q to the handler, in a goroutine of its own, so that the next query can be read.
// A message that cannot be unpacked gets no answer.
func (u *Upstream) query(q *Query, packed []byte) {
	q.Msg, q.Size, q.At = new(dns.Msg), len(packed), time.Now()
	if q.Msg.Unpack(packed) != nil {
		return
	}
	u.mu.Lock()
	u.seen = append(u.seen, q)
	h := u.handler
	u.mu.Unlock()
	u.work.Go(func() { h(q) })
}

// Handle replaces the handler.
func (u *Upstream) Handle(h Handler) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.handler = h
}

// Queries returns the number of queries received over the given networks ("udp", "tcp", "tls"), or over all networks if none is given. Unanswered queries
// are included.
func (u *Upstream) Queries(networks ...string) int {
	only := strings.Join(networks, " ")
	n := 0
	for _, q := range u.Seen() {
		if only == "" || strings.Contains(only, q.Network) {
			n++
		}
	}
	return n
}

// Seen returns all queries received so far, in the order of their arrival.
func (u *Upstream) Seen() []*Query {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen[:len(u.seen):len(u.seen)]
}

// Last returns the newest query, or nil if no query was received.
func (u *Upstream) Last() *Query {
	seen := u.Seen()
	if len(seen) == 0 {
		return nil
	}
	return seen[len(seen)-1]
}

// Streams returns the number of TCP and TLS connections accepted so far.
func (u *Upstream) Streams() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.accepted
}

// CloseStreams closes every open connection, like a server that restarts.
func (u *Upstream) CloseStreams() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for c := range u.open {
		c.Close()
	}
}
