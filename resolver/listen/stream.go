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

	mu           sync.Mutex
	open         map[*stream]struct{}
	clients      map[netip.Prefix]int
	unauthorized int // open connections of unauthorized clients; the others are counted in clients
	conns        sync.WaitGroup
	stopped      bool
	refused      atomic.Uint64
	evicted      atomic.Uint64
	untaken      atomic.Int64 // bytes of answers that were not written yet, over all connections
}

func newStreamServer(h Handler, p *pool, serves func(netip.Addr) bool, log *slog.Logger) *streamServer {
	return &streamServer{
		handler: h, pool: p, serves: serves, log: log, limits: streamLimits{maxConns, maxConnsPerClient, maxUntaken, idleTimeout, unauthorizedTimeout},
		open: map[*stream]struct{}{}, clients: map[netip.Prefix]int{},
	}
}

// run accepts connections until stop, and returns when all have ended.
func (s *streamServer) run(ctx context.Context) {
	var loops sync.WaitGroup
	for _, l := range s.listeners {
		loops.Go(func() { s.accept(ctx, l) })
	}
	loops.Wait()
	s.conns.Wait()
}

func (s *streamServer) accept(ctx context.Context, l net.Listener) {
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			s.serve(conn)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			// Most often the process has no descriptor left, which passes.
			s.log.Error("a TCP connection could not be accepted; raise the limit of open files if this continues", "error", err)
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
	group, _ := fair.Client(client)
	st := &stream{server: s, conn: conn, client: client, group: group, slots: make(chan struct{}, maxPipelined)}
	st.unauthorized = !s.serves(client)
	if !s.admit(st) {
		s.refused.Add(1)
		conn.Close()
		return
	}
	go func() {
		defer s.conns.Done()
		st.run()
		s.release(st)
	}()
}

// admit counts a connection, if there is a place for it or if a client with more connections can lose one.
func (s *streamServer) admit(st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	full := s.clients[st.group] >= s.limits.perClient
	if !st.unauthorized && !full && len(s.open)-s.unauthorized >= s.limits.conns {
		full = !s.evict(s.clients[st.group])
	}
	if st.unauthorized {
		full = s.unauthorized >= maxUnauthorized
	}
	if s.stopped || full {
		return false
	}
	s.open[st] = struct{}{}
	if st.unauthorized {
		s.unauthorized++
	} else {
		s.clients[st.group]++
	}
	s.conns.Add(1)
	return true
}

func (s *streamServer) release(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(st)
}

// forget stops counting a connection, once. It is called with mu held.
func (s *streamServer) forget(st *stream) {
	if _, there := s.open[st]; !there {
		return
	}
	delete(s.open, st)
	if st.unauthorized {
		s.unauthorized--
	} else if s.clients[st.group]--; s.clients[st.group] == 0 {
		delete(s.clients, st.group)
	}
}

// evict closes the connection that has been without a query for longest, of the client with most connections, if that client has at least held+2. It is called
// with mu held.
func (s *streamServer) evict(held int) bool {
	var most netip.Prefix
	for group, n := range s.clients {
		if n > s.clients[most] {
			most = group
		}
	}
	if s.clients[most] < held+2 {
		return false
	}
	var victim *stream
	for st := range s.open {
		if st.group == most && !st.unauthorized && (victim == nil || st.asked.Load() < victim.asked.Load()) {
			victim = st
		}
	}
	s.forget(victim)
	s.evicted.Add(1)
	victim.abort()
	return true
}

// idle returns how long a connection may now stay without a query.
func (s *streamServer) idle() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) > s.limits.conns/2 {
		return min(s.limits.idle, busyIdleTimeout)
	}
	return s.limits.idle
}

// stop accepts no more connections, and no more queries on open ones.
func (s *streamServer) stop() {
	for _, l := range s.listeners {
		l.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for st := range s.open {
		st.stop()
	}
}

// hangUp closes every open connection.
func (s *streamServer) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.open {
		st.conn.Close()
	}
}

func (s *streamServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}
