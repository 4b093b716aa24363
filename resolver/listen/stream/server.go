package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rempart/internal/fair"
	"rempart/internal/wire"
	"rempart/resolver/limits"
	"rempart/resolver/listen/proxyproto"
)

// Bounds of the stream transports (RFC 7766 section 6).
const (
	maxConns          = 4096             // of all connections
	maxConnsPerClient = 256              // per address, or per IPv6 /64: resolvers and NATs ask for many clients
	idleTimeout       = 10 * time.Second // over TCP; also for a query to arrive completely, and for an answer to be read
	secureIdleTimeout = time.Minute      // over TLS, where a new connection costs a handshake
	busyIdleTimeout   = 2 * time.Second  // of all while half of all connections are taken
	proxyPatience     = 2 * time.Second  // for the header of a proxy's connection
	acceptPause       = 50 * time.Millisecond
	acceptQuiet       = time.Minute // after this time without a failure, the next one is logged again

	// maxUntaken bounds the answers that clients have not read yet, in bytes, over all connections: above it, a connection that has more than one large answer
	// is closed.
	maxUntaken = 64 << 20

	// Unauthorized clients get REFUSED and nothing else; they take no place of other clients.
	maxUnauthorized     = 64
	unauthorizedTimeout = time.Second
)

// Handler answers queries. Its methods are called concurrently.
type Handler interface {
	// Fast takes each query of a batch as far as possible without waiting.
	Fast(batch []wire.Query)
	// Slow continues a query that Fast left. It may wait, and returns soon after ctx ends.
	Slow(ctx context.Context, q *wire.Query)
	// Shed answers a query for which there is no place.
	Shed(q *wire.Query)
}

// Config configures a Server.
type Config struct {
	Handler    Handler
	Pool       *fair.Pool                   // of the slow path
	Serves     func(client netip.Addr) bool // reports whether a client may ask
	Ignores    func(port uint16) bool       // reports whether nothing is answered to a UDP port
	Proxies    proxyproto.Proxies           // their connections begin with a header of the PROXY protocol
	Handshakes *limits.Limiter              // of TLS and QUIC handshakes, as answers; nil: no limit
	Conns      int                          // connections at a time; 0: 4,096
	Log        *slog.Logger
}

// bounds are the bounds that a test can change.
type bounds struct {
	conns, perClient int
	untaken          int64
	idle, secureIdle time.Duration // how long a connection may be idle, over TCP and over TLS
	unauthorized     time.Duration // how long a connection of an unauthorized client lives
}

// listener is a listening socket with its transport.
type listener struct {
	net.Listener
	transport wire.Transport
	tls       *tls.Config // nil over TCP
	others    []string    // protocols (ALPN) of which only the handshake is served
}

// Server serves connections: TCP with or without TLS, and QUIC.
type Server struct {
	listeners []listener
	quic      []*quicListener
	backends  []net.Listener // of DNS over HTTPS behind proxies
	backend   *backend
	config    Config
	limits    bounds

	admission     *fair.Admission[session]
	workspaces    workspaces
	turns         chan struct{} // of TLS handshakes
	conns         sync.WaitGroup
	stopping      atomic.Bool
	stopped       chan struct{}                 // closed by Stop
	open          [wire.Transports]atomic.Int64 // connections by transport
	refused       atomic.Uint64
	evicted       atomic.Uint64
	handshakes    atomic.Uint64 // completed ones
	failed        atomic.Uint64 // handshakes that failed
	proxyFailures atomic.Uint64 // connections of proxies without a valid header
	untaken       atomic.Int64  // bytes of answers that were not written yet, over all connections
}

// New returns a server without listeners.
func New(c Config) *Server {
	s := &Server{
		config: c, limits: bounds{maxConns, maxConnsPerClient, maxUntaken, idleTimeout, secureIdleTimeout, unauthorizedTimeout}, turns: newTurns(),
		stopped:   make(chan struct{}),
		admission: fair.NewAdmission(session.lastUse, fair.Class{}, fair.Class{Conns: maxUnauthorized, PerClient: maxUnauthorized}),
	}
	if c.Conns > 0 {
		s.limits.conns = c.Conns
	}
	s.backend = newBackend(s)
	return s
}

// Listen adds a listening socket, which Close closes: of TCP, or of TLS or HTTPS with the certificates of secure.
func (s *Server) Listen(l net.Listener, transport wire.Transport, secure *tls.Config) {
	added := listener{Listener: l, transport: transport}
	if secure != nil {
		added.tls, added.others = serverTLS(secure, transport), secure.NextProtos
	}
	s.listeners = append(s.listeners, added)
}

// ListenBackend adds a listening socket for reverse proxies, which Close closes.
func (s *Server) ListenBackend(l net.Listener) { s.backends = append(s.backends, l) }

// Addrs returns the addresses of the sockets of a transport, without those for reverse proxies.
func (s *Server) Addrs(transport wire.Transport) (addrs []net.Addr) {
	for _, l := range s.listeners {
		if l.transport == transport {
			addrs = append(addrs, l.Addr())
		}
	}
	for _, l := range s.quic {
		if l.transport == transport {
			addrs = append(addrs, l.packets.LocalAddr())
		}
	}
	return addrs
}

// Stats are the numbers of a Server since its start.
type Stats struct {
	Open               [wire.Transports]int64 // connections now
	Refused, Evicted   uint64                 // connections
	Handshakes, Failed uint64                 // handshakes that were completed, and that failed
	ProxyFailures      uint64                 // connections and requests of proxies that named no client
	Limited            *limits.Stats          // handshakes; nil if they are not limited
}

// Stats returns the numbers. It may be called at any time.
func (s *Server) Stats() Stats {
	stats := Stats{
		Refused: s.refused.Load(), Evicted: s.evicted.Load(), Handshakes: s.handshakes.Load(), Failed: s.failed.Load(), ProxyFailures: s.proxyFailures.Load(),
		Limited: s.config.Handshakes.Stats(),
	}
	for t := range stats.Open {
		stats.Open[t] = s.open[t].Load()
	}
	return stats
}

// The classes of connections: those of clients that may ask, and the others.
const (
	authorized = iota
	unauthorized
)

// Run accepts connections until Stop, and returns when all have ended.
func (s *Server) Run(ctx context.Context) {
	// A client may take the place of another that has at least two connections more.
	s.admission.SetClass(authorized, fair.Class{Conns: s.limits.conns, PerClient: s.limits.perClient, Evict: true, Margin: 2})
	var loops sync.WaitGroup
	for _, l := range s.listeners {
		loops.Go(func() { s.accept(ctx, l) })
	}
	for _, l := range s.backends {
		loops.Go(func() { s.backend.serve(l, s.limits.conns) })
	}
	for _, l := range s.quic {
		if err := l.listen(); err != nil { // the settings of this program would be wrong
			s.config.Log.Error("QUIC is not served", "address", l.packets.LocalAddr(), "error", err)
			continue
		}
		l.late.Go(l.accept)
	}
	loops.Wait()
	<-s.stopped
	s.conns.Wait()
	s.admission.Close()
	for _, l := range s.quic {
		l.farewell()
	}
}

func (s *Server) accept(ctx context.Context, l listener) {
	var failed time.Time // when the last connection could not be accepted
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			s.serve(ctx, conn, l)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			// Most often the process has no descriptor left, which passes.
			if time.Since(failed) > acceptQuiet {
				s.config.Log.Error("a TCP connection could not be accepted; if too many files and sockets are open, raise LimitNOFILE= in the unit, or ulimit -n", "error", err)
			}
			failed = time.Now()
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
		}
	}
}

// serve starts a connection, or closes it if there is no place.
func (s *Server) serve(ctx context.Context, conn net.Conn, l listener) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok { // the listening sockets of a supervisor are checked by their kind only
		conn.Close()
		return
	}
	client, local := wire.SocketAddr(conn.RemoteAddr()).Addr(), wire.SocketAddr(conn.LocalAddr()).Addr()
	if !s.config.Proxies.Has(client) {
		s.admit(ctx, tcp, client, local, l)
		return
	}
	s.conns.Go(func() {
		_ = tcp.SetReadDeadline(time.Now().Add(proxyPatience))
		h, err := proxyproto.ReadFrom(tcp)
		if err != nil {
			s.proxyFailures.Add(1)
			conn.Close()
			return
		}
		_ = tcp.SetReadDeadline(time.Time{})
		if h.Client.IsValid() {
			client, local = h.Client.Addr(), h.Local.Addr()
		}
		s.admit(ctx, tcp, client, local, l)
	})
}

// admit starts a connection of a client to the address local, or closes it if there is no place.
func (s *Server) admit(ctx context.Context, conn *net.TCPConn, client, local netip.Addr, l listener) {
	pipelined := maxPipelined
	if l.transport == wire.HTTPS {
		pipelined = maxStreams
	}
	c := &connection{class: authorized}
	c.sessionBase = sessionBase{server: s, transport: l.transport, client: client, local: local, slots: make(chan struct{}, pipelined)}
	c.socket.conn, c.from = conn, &s.workspaces
	if !s.config.Serves(c.client) {
		c.class = unauthorized
	}
	// No handshake is computed for an unauthorized client, except for another protocol.
	if l.tls != nil && (c.class == unauthorized && len(l.others) == 0 || !s.config.Handshakes.Allow(client, s.config.Handshakes.Now())) {
		s.refused.Add(1)
		conn.Close()
		return
	}
	if !s.enter(c, c.class) {
		conn.Close()
		return
	}
	if s.stopping.Load() { // Stop may not have seen it
		c.stop()
	}
	s.conns.Go(func() { s.start(ctx, c, l) })
}

// enter takes a place for a session, if there is one.
func (s *Server) enter(of session, class int) bool {
	b := of.base()
	b.asked.Store(time.Now().UnixNano())
	ok, evicted := s.admission.Admit(of, b.client, class)
	if !ok {
		s.refused.Add(1)
		return false
	}
	if evicted != nil {
		s.evicted.Add(1)
		evicted.abort()
	}
	s.open[b.transport].Add(1)
	return true
}

// leave frees the place of a session.
func (s *Server) leave(of session) {
	s.open[of.base().transport].Add(-1)
	s.admission.Release(of)
}

// start makes the handshake, if there is one, and then serves the connection.
func (s *Server) start(ctx context.Context, c *connection, l listener) {
	if l.tls == nil {
		defer s.leave(c)
		(&framedConn{connection: c}).run()
		return
	}
	protocol, err := c.handshake(ctx, l.tls)
	if err != nil {
		s.failed.Add(1)
		c.conn.Close()
		s.leave(c)
		return
	}
	s.handshakes.Add(1)
	s.conns.Go(func() { // in a goroutine of its own, because the handshake made the stack of this one large
		defer s.leave(c)
		switch {
		case slices.Contains(l.others, protocol):
			c.close()
		case l.transport == wire.HTTPS:
			s.serveHTTPS(c, protocol)
		default:
			(&framedConn{connection: c}).run()
		}
	})
}

// pressed reports whether so many connections are open that they must be used.
func (s *Server) pressed() bool { return s.count() > s.limits.conns/2 }

// idle returns how long a connection may now stay without a query.
func (s *Server) idle(t wire.Transport) time.Duration {
	idle := s.limits.idle
	if t != wire.TCP {
		idle = s.limits.secureIdle
	}
	if s.pressed() {
		return min(idle, busyIdleTimeout)
	}
	return idle
}

// owe adds n to the number of bytes that are held for a session: answers that wait to be written, and incomplete queries over QUIC. A negative n releases
// bytes. If n is positive, all sessions together then hold more than limits.untaken, and this session holds more than one message of the largest size, owe
// takes n back, ends the session and returns false.
func (s *Server) owe(of session, n int) bool {
	b := of.base()
	own, all := b.untaken.Add(int64(n)), s.untaken.Add(int64(n))
	if n < 0 || all <= s.limits.untaken || own <= wire.MaxMessage+frameHeader {
		return true
	}
	b.untaken.Add(int64(-n))
	s.untaken.Add(int64(-n))
	s.evicted.Add(1)
	of.abort()
	return false
}

// Stop accepts no more connections over TCP, and no more queries on open connections. Connections over QUIC are accepted until the others have ended. It is called
// once.
func (s *Server) Stop() {
	s.stopping.Store(true)
	for _, l := range s.quic {
		l.stop()
	}
	s.closeListeners()
	s.admission.Each(session.stop)
	close(s.stopped)
}

// HangUp closes every open connection.
func (s *Server) HangUp() {
	s.admission.Each(session.abort)
	s.backend.http.Close()
}

// Close closes the listening sockets.
func (s *Server) Close() {
	s.closeListeners()
	for _, l := range s.quic {
		l.close()
	}
}

// closeListeners closes the listening sockets of TCP, of clients and of reverse proxies.
func (s *Server) closeListeners() {
	for _, l := range s.listeners {
		l.Close()
	}
	for _, l := range s.backends {
		l.Close()
	}
}

// count returns the number of open connections.
func (s *Server) count() int {
	return s.admission.Len(authorized) + s.admission.Len(unauthorized)
}
