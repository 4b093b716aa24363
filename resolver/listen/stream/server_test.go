package stream

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"rempart/internal/fair"
	"rempart/internal/wire"
	"rempart/resolver/limits"
	"rempart/resolver/listen/fake"
	"rempart/resolver/listen/proxyproto"
)

// setup is what a test's server serves.
type setup struct {
	Addrs, TLS, HTTPS, QUIC, Backend []netip.AddrPort // Addrs are those of TCP, by default one on loopback
	Secure                           *tls.Config
	Serves                           func(netip.Addr) bool
	Proxies                          proxyproto.Proxies
	Handshakes                       limits.Config
	MaxStreams                       int
}

// serve runs a server until stop, or the end of the test. change is made before it runs.
func serve(t testing.TB, h Handler, c setup, change func(*Server)) (s *Server, stop func()) {
	t.Helper()
	if c.Serves == nil {
		c.Serves = func(netip.Addr) bool { return true }
	}
	if len(c.Addrs) == 0 {
		c.Addrs = fake.Loopback()
	}
	s = New(Config{
		Handler: h, Pool: fair.NewPool(10_000), Serves: c.Serves, Ignores: func(port uint16) bool { return port == 0 }, Proxies: c.Proxies,
		Handshakes: limits.New(c.Handshakes), Conns: c.MaxStreams, Log: slog.New(slog.DiscardHandler),
	})
	for _, addr := range c.Addrs {
		s.Listen(listenTCP(t, addr), wire.TCP, nil)
	}
	for _, addr := range c.TLS {
		s.Listen(listenTCP(t, addr), wire.TLS, c.Secure)
	}
	for _, addr := range c.HTTPS {
		l, packets := listenBoth(t, addr)
		s.Listen(l, wire.HTTPS, c.Secure)
		s.ListenQUIC(packets, c.Secure, wire.HTTPS)
	}
	for _, addr := range c.QUIC {
		s.ListenQUIC(listenUDP(t, addr), c.Secure, wire.QUIC)
	}
	for _, addr := range c.Backend {
		s.ListenBackend(listenTCP(t, addr))
	}
	if change != nil {
		change(s)
	}
	return s, run(t, s)
}

// run runs a server until stop, or the end of the test. It ends queries that take too long like the Server of package listen.
func run(t testing.TB, s *Server) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	slow, cut := context.WithCancel(context.Background())
	s.config.Pool.SetContext(slow)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
		s.config.Pool.Wait()
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		s.Stop()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
		}
		cut()
		s.HangUp()
		select {
		case <-ended:
		case <-time.After(fake.Deadline):
			t.Error("Run does not return")
		}
		s.Close()
	})
	t.Cleanup(stop)
	return stop
}

// addrsOf returns the addresses of a transport, each once.
func (s *Server) addrsOf(transport wire.Transport) (all []netip.AddrPort) {
	seen := map[netip.AddrPort]bool{}
	for _, a := range s.Addrs(transport) {
		if addr := wire.SocketAddr(a); !seen[addr] {
			seen[addr] = true
			all = append(all, addr)
		}
	}
	return all
}

func listenTCP(t testing.TB, addr netip.AddrPort) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func listenUDP(t testing.TB, addr netip.AddrPort) *net.UDPConn {
	t.Helper()
	packets, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	return packets
}

// listenBoth opens sockets over TCP and UDP with the same port.
func listenBoth(t testing.TB, addr netip.AddrPort) (net.Listener, *net.UDPConn) {
	t.Helper()
	for {
		l := listenTCP(t, addr)
		packets, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(wire.SocketAddr(l.Addr())))
		if err == nil {
			return l, packets
		}
		l.Close() // the port is taken over UDP
	}
}
