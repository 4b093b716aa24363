package listen

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"rempart/internal/wire"
)

// Bounds of the stream transports (RFC 7766 section 6).
const (
	maxConns          = 4096 // in all
	maxConnsPerClient = 256  // an address, or an IPv6 /64: resolvers and NATs forward for many
	maxPipelined      = 128  // queries of one connection on the slow path: beyond, it is not read from
	streamBatch       = 16
	idleTimeout       = 10 * time.Second // also for a query to come whole, and for an answer to be taken
	busyIdleTimeout   = 2 * time.Second  // the same when half of all connections are taken
	acceptPause       = 50 * time.Millisecond
)

// streamLimits are those of the bounds that a test lowers.
type streamLimits struct {
	conns, perClient int
	idle             time.Duration
}

// streamServer serves TCP connections.
type streamServer struct {
	listeners []net.Listener
	handler   Handler
	pool      *pool
	log       *slog.Logger
	limits    streamLimits

	mu      sync.Mutex
	open    map[*stream]struct{}
	clients map[netip.Prefix]int
	conns   sync.WaitGroup
	stopped bool
	refused atomic.Uint64
}

func newStreamServer(h Handler, p *pool, log *slog.Logger) *streamServer {
	return &streamServer{
		handler: h, pool: p, log: log, limits: streamLimits{maxConns, maxConnsPerClient, idleTimeout},
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
			// Out of descriptors, most often: said, and tried again, since it passes.
			s.log.Error("a TCP connection could not be accepted; raise the limit of open files if this goes on", "error", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
		}
	}
}

// serve begins a connection, or hangs up on one too many.
func (s *streamServer) serve(conn net.Conn) {
	client := netip.Addr{}
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		client = a.AddrPort().Addr().Unmap().WithZone("")
	}
	st := &stream{server: s, conn: conn, client: client, group: groupOf(client), slots: make(chan struct{}, maxPipelined)}
	s.mu.Lock()
	if s.stopped || len(s.open) >= s.limits.conns || s.clients[st.group] >= s.limits.perClient {
		s.mu.Unlock()
		s.refused.Add(1)
		conn.Close()
		return
	}
	s.open[st] = struct{}{}
	s.clients[st.group]++
	s.conns.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.conns.Done()
		st.run()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, st)
		if s.clients[st.group]--; s.clients[st.group] == 0 {
			delete(s.clients, st.group)
		}
	}()
}

// groupOf is what connections are counted by.
func groupOf(client netip.Addr) netip.Prefix {
	bits := 32
	if client.Is6() {
		bits = 64
	}
	p, _ := client.Prefix(bits)
	return p
}

// idle is how long a connection may stay without a query now.
func (s *streamServer) idle() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) > s.limits.conns/2 {
		return min(s.limits.idle, busyIdleTimeout)
	}
	return s.limits.idle
}

// stop takes no more connections and no more queries on those there are.
func (s *streamServer) stop() {
	for _, l := range s.listeners {
		l.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for st := range s.open {
		st.stopping.Store(true)
		_ = st.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// hangUp closes every connection left.
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

// stream is one connection. Its reader calls Fast on what has come and writes those answers at once;
// slow ones are written when they are ready, in any order (RFC 7766 section 7).
type stream struct {
	server   *streamServer
	conn     net.Conn
	client   netip.Addr
	group    netip.Prefix
	stopping atomic.Bool
	slots    chan struct{} // one is taken by each query on the slow path
	slow     sync.WaitGroup
	writing  sync.Mutex
}

const frameHeader = 2 // the length before each message (RFC 1035 section 4.2.2)

// run reads until the client leaves, is idle for too long, or sends what is no query.
func (st *stream) run() {
	defer st.conn.Close()
	defer st.slow.Wait()
	buf := make([]byte, 0, packetRoom)
	batch := make([]wire.Query, 0, streamBatch)
	var out []byte
	for {
		idle := st.server.idle()
		// The time for a message to come whole counts from here: a client that dribbles is cut off.
		_ = st.conn.SetReadDeadline(time.Now().Add(idle))
		if st.stopping.Load() {
			return
		}
		ok := true
		if buf, ok = st.fill(buf); !ok {
			return
		}
		used := 0
		batch, used = st.frames(batch[:0], buf, idle)
		st.server.handler.Fast(batch)
		if out, ok = st.answer(batch, out[:0]); !ok {
			return
		}
		buf = append(buf[:0], buf[used:]...)
	}
}

const packetRoom = 4096

// fill reads until buf begins with a whole message.
func (st *stream) fill(buf []byte) ([]byte, bool) {
	for {
		if len(buf) >= frameHeader {
			need := frameHeader + int(buf[0])<<8 + int(buf[1])
			if len(buf) >= need {
				return buf, true
			}
			if need > cap(buf) {
				buf = append(make([]byte, 0, need), buf...)
			}
		}
		n, err := st.conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil {
			if n == 0 && len(buf) == 0 && errors.Is(err, os.ErrDeadlineExceeded) && st.busy() && !st.stopping.Load() {
				// Idle means that nothing is owed: it waits for its answers (RFC 7766 section 6.2.3).
				_ = st.conn.SetReadDeadline(time.Now().Add(st.server.idle()))
				continue
			}
			return buf, false
		}
	}
}

func (st *stream) busy() bool { return len(st.slots) > 0 }

// frames makes queries of the whole messages at the start of buf, up to a batch; used is their length.
func (st *stream) frames(batch []wire.Query, buf []byte, idle time.Duration) (_ []wire.Query, used int) {
	for len(batch) < cap(batch) && len(buf)-used >= frameHeader {
		n := int(buf[used])<<8 + int(buf[used+1])
		if len(buf)-used < frameHeader+n {
			break
		}
		batch = batch[:len(batch)+1]
		q := &batch[len(batch)-1]
		q.Packet = buf[used+frameHeader:][:n]
		q.Client, q.Transport, q.Idle = st.client, wire.TCP, uint16(idle/(100*time.Millisecond))
		used += frameHeader + n
	}
	return batch, used
}

// answer writes what a batch's queries have and hands the slow ones over; false ends the connection.
func (st *stream) answer(batch []wire.Query, out []byte) ([]byte, bool) {
	sound := true
	for i := range batch {
		q := &batch[i]
		switch {
		case q.Outcome == wire.Dropped:
			sound = false // what sends no queries is no DNS client
		case q.Outcome == wire.Slow && !st.handOver(q):
			st.server.handler.Shed(q)
			out = frame(out, q.Out)
		case q.Outcome == wire.Answered:
			out = frame(out, q.Out)
			if q.Renew {
				st.handOver(q)
			}
		}
	}
	return out, st.write(out) && sound
}

func frame(out, answer []byte) []byte {
	out = append(out, byte(len(answer)>>8), byte(len(answer)))
	return append(out, answer...)
}

// write sends whole frames; false if the client does not take them.
func (st *stream) write(frames []byte) bool {
	if len(frames) == 0 {
		return true
	}
	st.writing.Lock()
	defer st.writing.Unlock()
	_ = st.conn.SetWriteDeadline(time.Now().Add(st.server.limits.idle))
	if _, err := st.conn.Write(frames); err != nil {
		st.conn.Close()
		return false
	}
	return true
}

// handOver copies a query to the slow path, waiting while this connection has its share there; false if
// there is no room at all.
func (st *stream) handOver(q *wire.Query) bool {
	st.slots <- struct{}{}
	copied := *q
	copied.Packet = append([]byte(nil), q.Packet...)
	copied.Out = nil
	st.slow.Add(1)
	ok := st.server.pool.run(func(ctx context.Context) {
		renew := copied.Renew
		st.server.handler.Slow(ctx, &copied)
		if copied.Outcome == wire.Answered && !renew && len(copied.Out) > 0 {
			st.write(frame(make([]byte, 0, frameHeader+len(copied.Out)), copied.Out))
		}
		<-st.slots
		st.slow.Done()
	})
	if !ok {
		<-st.slots
		st.slow.Done()
	}
	return ok
}
