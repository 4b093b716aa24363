package listen

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"rempart/internal/fair"
)

// Bounds of the stream transports (RFC 7766 section 6).
const (
	maxConns          = 4096             // of all connections
	maxConnsPerClient = 256              // per address, or per IPv6 /64: resolvers and NATs ask for many clients
	idleTimeout       = 10 * time.Second // also for a query to arrive completely, and for an answer to be read
	busyIdleTimeout   = 2 * time.Second  // the same while half of all connections are taken
	acceptPause       = 50 * time.Millisecond
	acceptQuiet       = time.Minute // after this time without a failure, the next one is logged again

	// maxUntaken bounds the answers that clients have not read yet, in bytes, over all connections: above it, a connection that has more than one large answer
	// is closed. One answer takes at most 2.5 MB: a batch, and the pipelined queries, of the largest size.
	maxUntaken = 64 << 20

	// Unauthorized clients get REFUSED and nothing else; they take no place of other clients.
	maxUnauthorized     = 64
	unauthorizedTimeout = time.Second
)

// streamLimits are the bounds that a test can change.
type streamLimits struct {
	conns, perClient   int
	untaken            int64
	idle, unauthorized time.Duration // how long a connection may be idle, and how long one of an unauthorized client lives
}

// streamServer serves TCP connections.
type streamServer struct {
	listeners []net.Listener
	handler   Handler
	pool      *pool
	serves    func(netip.Addr) bool // reports whether a client may ask
	log       *slog.Logger
	limits    streamLimits

	admission *fair.Admission[*stream]
	conns     sync.WaitGroup
	refused   atomic.Uint64
	evicted   atomic.Uint64
	untaken   atomic.Int64 // bytes of answers that were not written yet, over all connections
}

func newStreamServer(h Handler, p *pool, serves func(netip.Addr) bool, log *slog.Logger) *streamServer {
	return &streamServer{
		handler: h, pool: p, serves: serves, log: log, limits: streamLimits{maxConns, maxConnsPerClient, maxUntaken, idleTimeout, unauthorizedTimeout},
		admission: fair.NewAdmission((*stream).lastUse, fair.Class{}, fair.Class{Conns: maxUnauthorized, PerClient: maxUnauthorized}),
	}
}

// The classes of connections: those of clients that may ask, and the others.
const (
	authorized = iota
	unauthorized
)

// run accepts connections until stop, and returns when all have ended.
func (s *streamServer) run(ctx context.Context) {
	// A client may take the place of another that has at least two connections more.
	s.admission.SetClass(authorized, fair.Class{Conns: s.limits.conns, PerClient: s.limits.perClient, Evict: true, Margin: 2})
	var loops sync.WaitGroup
	for _, l := range s.listeners {
		loops.Go(func() { s.accept(ctx, l) })
	}
	loops.Wait()
	s.conns.Wait()
}

func (s *streamServer) accept(ctx context.Context, l net.Listener) {
	var failed time.Time // when the last connection could not be accepted
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			s.serve(conn)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			// Most often the process has no descriptor left, which passes.
			if time.Since(failed) > acceptQuiet {
				s.log.Error("a TCP connection could not be accepted; if too many files and sockets are open, raise LimitNOFILE= in the unit, or ulimit -n", "error", err)
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
func (s *streamServer) serve(conn net.Conn) {
	client := netip.Addr{}
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		client = a.AddrPort().Addr().Unmap().WithZone("")
	}
	st := &stream{server: s, conn: conn, client: client, class: authorized, slots: make(chan struct{}, maxPipelined)}
	if !s.serves(client) {
		st.class = unauthorized
	}
	st.asked.Store(time.Now().UnixNano())
	ok, evicted := s.admission.Admit(st, client, st.class)
	if !ok {
		s.refused.Add(1)
		conn.Close()
		return
	}
	if evicted != nil {
		s.evicted.Add(1)
		evicted.abort()
	}
	s.conns.Go(func() {
		st.run()
		s.admission.Release(st)
	})
}

// idle returns how long a connection may now stay without a query.
func (s *streamServer) idle() time.Duration {
	if s.count() > s.limits.conns/2 {
		return min(s.limits.idle, busyIdleTimeout)
	}
	return s.limits.idle
}

// stop accepts no more connections, and no more queries on open ones.
func (s *streamServer) stop() {
	for _, l := range s.listeners {
		l.Close()
	}
	s.admission.Close()
	s.admission.Each((*stream).stop)
}

// hangUp closes every open connection.
func (s *streamServer) hangUp() { s.admission.Each(func(st *stream) { st.conn.Close() }) }

// count returns the number of open connections.
func (s *streamServer) count() int {
	return s.admission.Len(authorized) + s.admission.Len(unauthorized)
}
