package dnstest

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
)

// ServeHTTPS makes the upstream answer over HTTPS as well, with HTTP/2 or HTTP/1.1 and on every path, until the test ends. Queries have the network "https". check
// sees every request before it is answered; if it returns true, it has written the response itself. check may be nil. Each of configure may change the server before it
// starts.
func (u *Upstream) ServeHTTPS(t testing.TB, check func(http.ResponseWriter, *http.Request) bool, configure ...func(*http.Server)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("dnstest: listening for HTTPS: %v", err)
	}
	s := &http.Server{
		ErrorLog:  log.New(io.Discard, "", 0), // tests refuse certificates on purpose
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{u.cert}},
		ConnState: func(_ net.Conn, state http.ConnState) { u.countConn(state == http.StateNew) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if check != nil && check(w, r) {
				return
			}
			u.serveRequest(w, r)
		}),
	}
	for _, change := range configure {
		change(s)
	}
	u.work.Go(func() { _ = s.ServeTLS(l, "", "") })
	t.Cleanup(func() { s.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// countConn counts an accepted connection.
func (u *Upstream) countConn(accepted bool) {
	if accepted {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.accepted++
	}
}

// serveRequest answers one request.
func (u *Upstream) serveRequest(w http.ResponseWriter, r *http.Request) {
	packed, err := io.ReadAll(http.MaxBytesReader(w, r.Body, dns.MaxMsgSize))
	if err != nil {
		return
	}
	answers := make(chan []byte, 1)
	ended := make(chan struct{})
	u.query(&Query{Network: "https", Resumed: r.TLS.DidResume, send: sendOne(answers), end: sync.OnceFunc(func() { close(ended) })}, packed)
	select {
	case b := <-answers:
		w.Header().Set("Content-Type", "application/dns-message")
		w.Write(b)
	case <-ended:
		panic(http.ErrAbortHandler)
	case <-r.Context().Done():
	}
}

// sendOne returns a function that passes on its first message.
func sendOne(answers chan []byte) func([]byte) {
	return func(b []byte) {
		select {
		case answers <- b:
		default:
		}
	}
}

// ServeQUIC makes the upstream answer over QUIC as well, until the test ends. Queries have the network "quic".
func (u *Upstream) ServeQUIC(t testing.TB) (at netip.AddrPort, stop func()) {
	t.Helper()
	return u.ServeQUICOn(t, "127.0.0.1:0")
}

// ServeQUICOn is ServeQUIC on a given address.
func (u *Upstream) ServeQUICOn(t testing.TB, address string) (at netip.AddrPort, stop func()) {
	t.Helper()
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatalf("dnstest: listening for QUIC: %v", err)
	}
	transport := &quic.Transport{Conn: packets}
	l, err := transport.Listen(&tls.Config{Certificates: []tls.Certificate{u.cert}, NextProtos: []string{"doq"}}, &quic.Config{MaxIncomingStreams: 1000})
	if err != nil {
		t.Fatalf("dnstest: listening for QUIC: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	u.work.Go(func() {
		for {
			conn, err := l.Accept(ctx)
			if err != nil {
				return
			}
			u.countConn(true)
			u.work.Go(func() { u.quicStreams(ctx, conn) })
		}
	})
	stop = func() {
		cancel()
		l.Close()
		transport.Close()
		packets.Close()
	}
	t.Cleanup(stop)
	return packets.LocalAddr().(*net.UDPAddr).AddrPort(), stop
}

// quicStreams answers the streams of one connection.
func (u *Upstream) quicStreams(ctx context.Context, conn *quic.Conn) {
	for {
		s, err := conn.AcceptStream(ctx)
		if err != nil {
			return
		}
		u.work.Go(func() {
			framed, err := io.ReadAll(io.LimitReader(s, 2+dns.MaxMsgSize))
			if err != nil || len(framed) < 2 || int(binary.BigEndian.Uint16(framed)) != len(framed)-2 {
				s.CancelWrite(2) // DOQ_PROTOCOL_ERROR
				return
			}
			u.query(&Query{Network: "quic", Resumed: conn.ConnectionState().TLS.DidResume, send: func(b []byte) {
				s.Write(Framed(b))
				s.Close()
			}, end: func() { conn.CloseWithError(0, "") }}, framed[2:])
		})
	}
}
