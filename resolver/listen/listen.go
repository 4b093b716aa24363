package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"rempart/internal/fair"
	"rempart/internal/wire"
	"rempart/resolver/limits"
	"rempart/resolver/listen/stream"
)

// Handler answers queries. One loop at a time calls Fast of a Handler for UDP; connections call it concurrently.
type Handler interface{ stream.Handler }

// Forwarder is a Handler that continues many queries without a goroutine for each.
type Forwarder interface {
	// Forward continues queries that Fast left. It does not wait: each query is passed to its Returner when it is answered, soon after ctx ends at the latest.
	// It returns the queries for which Slow must be called instead, as a part of queries. One loop at a time calls it; ctx is the same in every call.
	Forward(ctx context.Context, queries []*wire.Query) (left []*wire.Query)
}

// Config configures a Server.
type Config struct {
	Addrs   []netip.AddrPort // each served over UDP and TCP
	TLS     []netip.AddrPort // each served over TLS (RFC 7858)
	HTTPS   []netip.AddrPort // each served over HTTPS (RFC 8484), with HTTP/2 and HTTP/3
	QUIC    []netip.AddrPort // each served over QUIC (RFC 9250)
	Backend []netip.AddrPort // each served over HTTP without TLS, to Proxies
	Proxies []netip.Prefix   // their connections and datagrams begin with a header of the PROXY protocol, version 2

	// Secure holds the certificates of the encrypted transports; the rest is set by New. NextProtos may name further protocols (ALPN) of which only the
	// handshake over TCP is served, to any client that offers no other protocol and for which GetCertificate, which must not be nil then, returns a certificate.
	Secure *tls.Config

	Binder     Binder                       // opens the sockets
	Unanswered []Unanswered                 // queries of the process before this one, which are answered first
	Packets    []net.PacketConn             // bound sockets from a supervisor
	Streams    []net.Listener               // listening sockets from a supervisor
	NewHandler func() Handler               // called once per UDP worker, and once for streams
	Serves     func(client netip.Addr) bool // reports whether a client may ask, and so gets a share of the connections; nil: every client may
	Workers    int                          // UDP workers per address; default one per core
	Limits     limits.Config                // of UDP answers to client networks
	Handshakes limits.Config                // of TLS and QUIC handshakes of client networks, as answers
	Ignored    []uint16                     // UDP ports to which nothing is answered, in addition to those of neverClients
	Spin       time.Duration                // how long a UDP worker keeps asking its socket before it sleeps; Linux only
	MaxStreams int                          // TCP connections at a time; default 4,096
	MaxSlow    int                          // queries on the slow path at a time; default 10,000
	Drain      time.Duration                // how long Run waits for queries under way at the end; default 5 s
	Leave      bool                         // Run leaves queries over UDP that are under way at its end to the process after this one; Linux only
	Log        *slog.Logger
}

const (
	defaultMaxSlow = 10_000
	defaultDrain   = 5 * time.Second
	portTries      = 10
)

// Server holds the sockets.
type Server struct {
	workers []*udpWorker
	streams *stream.Server
	pool    *fair.Pool
	limiter *limits.Limiter // nil: no limits
	ports   *ignoredPorts
	drain   time.Duration
	leaves  bool // queries that are under way at the end are left to the process after this one
}

// ErrTaken is wrapped by New's error when an address is in use.
var ErrTaken = errors.New("the address is taken")

// New binds every socket, so that an address that cannot be bound is reported at once; Run serves them. A port of 0 is chosen once and shared by UDP and TCP.
func New(c Config) (_ *Server, err error) {
	if c.Workers == 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.MaxSlow == 0 {
		c.MaxSlow = defaultMaxSlow
	}
	if c.Drain == 0 {
		c.Drain = defaultDrain
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Serves == nil {
		c.Serves = func(netip.Addr) bool { return true }
	}
	s := &Server{pool: fair.NewPool(c.MaxSlow), limiter: limits.New(c.Limits), ports: newIgnoredPorts(c.Ignored), drain: c.Drain, leaves: c.Leave}
	s.streams = stream.New(stream.Config{
		Handler: c.NewHandler(), Pool: s.pool, Serves: c.Serves, Ignores: s.ports.has, Proxies: c.Proxies, Handshakes: limits.New(c.Handshakes), Conns: c.MaxStreams, Log: c.Log,
	})
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for i, conn := range c.Packets {
		if err := s.addPacket(conn, i, c); err != nil {
			return nil, err
		}
	}
	for _, l := range c.Streams {
		s.streams.Listen(l, wire.TCP, nil)
	}
	if err := s.bindSecure(c); err != nil {
		return nil, err
	}
	for _, addr := range c.Addrs {
		err := bindAny(addr, func() error { return s.bind(addr, c) })
		if err != nil && !withoutIPv6(err, addr, c.Addrs, c.Log) {
			return nil, err
		}
	}
	if len(s.AddrsOf(wire.UDP, wire.TCP, wire.TLS, wire.HTTPS, wire.QUIC)) == 0 {
		return nil, errors.New("no address to listen on")
	}
	return s, nil
}

// bindAny calls bind. If the port of addr is 0 and the port that the system chose for TCP is taken over UDP, it calls bind again, which tries another one.
func bindAny(addr netip.AddrPort, bind func() error) error {
	err := bind()
	for tries := 1; addr.Port() == 0 && errors.Is(err, ErrTaken) && tries < portTries; tries++ {
		err = bind()
	}
	return err
}

// withoutIPv6 reports whether addr is the IPv6 wildcard, next to another address, on a machine that has no IPv6, and logs that.
func withoutIPv6(err error, addr netip.AddrPort, addrs []netip.AddrPort, log *slog.Logger) bool {
	if !errors.Is(err, syscall.EAFNOSUPPORT) || addr.Addr() != netip.IPv6Unspecified() || len(addrs) == 1 {
		return false
	}
	log.Warn("this machine has no IPv6: not listening there", "address", addr)
	return true
}

// bind opens an address's TCP listener, whose port UDP shares, and its UDP sockets.
func (s *Server) bind(addr netip.AddrPort, c Config) (err error) {
	l, err := c.Binder.Stream("tcp", addr)
	if err != nil {
		return explain("TCP", listenSetting, addr, err)
	}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	configured := addr
	addr = netip.AddrPortFrom(addr.Addr(), uint16(l.Addr().(*net.TCPAddr).Port))
	workers := c.Workers
	if !reusePort {
		workers = 1
	}
	for i := range workers {
		name := socketName("udp", configured, i)
		conn, err := c.Binder.sharedPacket(name, addr)
		if err != nil {
			return explain("UDP", listenSetting, addr, err)
		}
		if err := s.addWorker(conn, name, addr.Addr().IsUnspecified(), c); err != nil {
			return err
		}
	}
	s.streams.Listen(l, wire.TCP, nil)
	return nil
}

// Stream opens a TCP listener on addr, of addr's family only: each wildcard can be opened beside the other. On Linux the machine need not have the
// address yet.
func Stream(addr netip.AddrPort) (net.Listener, error) {
	lc := net.ListenConfig{Control: controlAlone}
	return lc.Listen(context.Background(), network("tcp", addr), addr.String())
}

// Packet opens a UDP socket on addr, as Stream opens a TCP listener. One user can open several on one address (SO_REUSEPORT).
func Packet(addr netip.AddrPort) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: controlPacket}
	return lc.ListenPacket(context.Background(), network("udp", addr), addr.String())
}

// Absent returns those of addrs that no interface of this machine has now. Wildcards are never absent. If the interfaces cannot be read, Absent returns none.
func Absent(addrs []netip.AddrPort) (absent []netip.AddrPort) {
	for _, addr := range addrs {
		if own, err := Own(addr.Addr()); err == nil && !own && !addr.Addr().IsUnspecified() {
			absent = append(absent, addr)
		}
	}
	return absent
}

// Own reports whether an interface of this machine has an address now. Every loopback address is an own address.
func Own(addr netip.Addr) (bool, error) {
	if addr.IsLoopback() {
		return true, nil
	}
	own, err := net.InterfaceAddrs()
	return slices.ContainsFunc(own, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr() == addr.WithZone("")
	}), err
}

// addPacket serves socket number of those from a supervisor, by one worker: its read lock admits one.
func (s *Server) addPacket(conn net.PacketConn, number int, c Config) error {
	addr, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return fmt.Errorf("the socket handed over is not a UDP socket: %s", conn.LocalAddr())
	}
	return s.addWorker(conn, socketName("activated", wire.SocketAddr(addr), number), addr.IP.IsUnspecified(), c)
}

func (s *Server) addWorker(conn net.PacketConn, name string, wildcard bool, c Config) error {
	w, err := newUDPWorker(conn.(*net.UDPConn), name, wildcard, c, s)
	if err != nil {
		conn.Close()
		return fmt.Errorf("preparing the UDP socket of %s: %w", conn.LocalAddr(), err)
	}
	s.workers = append(s.workers, w)
	return nil
}

// network keeps IPv4 and IPv6 apart, so that both wildcards can be bound.
func network(proto string, addr netip.AddrPort) string {
	if addr.Addr().Is4() {
		return proto + "4"
	}
	return proto + "6"
}

const listenSetting = "REMPART_LISTEN"

// explain returns an error that says what to do about an address that cannot be bound.
func explain(proto, setting string, addr netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: another program already answers on %s over %s; stop it, or set %s to another address or port",
			ErrTaken, addr, proto, setting)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("this user may not listen on %s over %s: give the program CAP_NET_BIND_SERVICE, or set %s to a port from 1024 on: %w",
			addr, proto, setting, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("this machine has no address %s (set %s to one it has): %w", addr.Addr(), setting, err)
	}
	return fmt.Errorf("listening on %s over %s: %w", addr, proto, err)
}

// Addrs returns the addresses that are served over UDP and TCP, each once.
func (s *Server) Addrs() (addrs []netip.AddrPort) { return s.AddrsOf(wire.TCP, wire.UDP) }

// AddrsOf returns the addresses that are served over one of the transports, each once.
func (s *Server) AddrsOf(transports ...wire.Transport) (addrs []netip.AddrPort) {
	seen := map[netip.AddrPort]bool{}
	add := func(a net.Addr) {
		ap, err := netip.ParseAddrPort(a.String())
		if err == nil && !seen[ap] {
			seen[ap] = true
			addrs = append(addrs, ap)
		}
	}
	for _, t := range transports {
		for _, a := range s.streams.Addrs(t) {
			add(a)
		}
	}
	for _, w := range s.workers {
		if slices.Contains(transports, wire.UDP) {
			add(w.conn.LocalAddr())
		}
	}
	return addrs
}

// Run serves until ctx ends, then ends the connections and answers the queries under way, for at most the drain time, and returns. Queries over UDP are answered
// while connections end.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	slow, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.pool.SetContext(slow)
	var packets, streams sync.WaitGroup
	for _, w := range s.workers {
		packets.Go(w.run)
	}
	streams.Go(func() { s.streams.Run(ctx) })
	<-ctx.Done()
	patience, end := context.WithTimeout(slow, s.drain)
	defer end()
	s.streams.Stop()
	if !endsBefore(patience, streams.Wait) {
		s.streams.HangUp()
	}
	for _, w := range s.workers {
		w.stop()
	}
	packets.Wait() // a loop adds queries to the pool until it ends
	if s.leaves {
		for _, w := range s.workers {
			w.leaveUnanswered()
		}
		cancel()
	} else if !endsBefore(patience, s.pool.Wait) {
		cancel()
	}
	streams.Wait()
	s.pool.Wait()
	return nil
}

// endsBefore calls wait, and reports whether it returned before ctx ended.
func endsBefore(ctx context.Context, wait func()) bool {
	ended := make(chan struct{})
	go func() {
		wait()
		close(ended)
	}()
	select {
	case <-ended:
		return true
	case <-ctx.Done():
		return false
	}
}

// Unanswered returns the queries that Run left to the process after this one. Call it after Run.
func (s *Server) Unanswered() (all []Unanswered) {
	for _, w := range s.workers {
		all = append(all, w.unanswered()...)
	}
	return all
}

func (s *Server) close() {
	for _, w := range s.workers {
		w.conn.Close()
	}
	s.streams.Close()
}
