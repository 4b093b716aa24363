//go:build !linux

package listen

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"rempart/internal/fair"
	"rempart/internal/wire"
	"rempart/resolver/limits"
	"rempart/resolver/listen/proxyproto"
)

const (
	reusePort  = false
	packetSize = 4096
	answerSize = 2048
)

// udpWorker is one loop over one socket, one query per batch. On a wildcard address the answer leaves from the address that the system chooses: if there are
// several, listen on the addresses themselves.
type udpWorker struct {
	conn    *net.UDPConn
	handler Handler
	pool    *fair.Pool
	limiter *limits.Limiter
	ports   *ignoredPorts
	proxies proxyproto.Proxies
	copies  sync.Pool // of *slowQuery
	counts  udpCounts
}

func newUDPWorker(conn *net.UDPConn, _ string, _ bool, c Config, s *Server) (*udpWorker, error) {
	w := &udpWorker{conn: conn, handler: c.NewHandler(), pool: s.pool, limiter: s.limiter, ports: s.ports, proxies: c.Proxies}
	w.copies.New = func() any { return &slowQuery{} }
	return w, nil
}

// run receives and answers until the socket's deadline passes or the socket is closed.
func (w *udpWorker) run() {
	batch := make([]wire.Query, 1)
	q := &batch[0]
	q.Out = make([]byte, 0, answerSize)
	packet := make([]byte, packetSize)
	at := wire.SocketAddr(w.conn.LocalAddr()) // for a wildcard address, the destination of a packet is not known
	local := at.Addr()
	if local.IsUnspecified() {
		local = netip.Addr{}
	}
	for {
		n, peer, err := w.conn.ReadFromUDPAddrPort(packet)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			return
		}
		from := wire.Plain(peer)
		if err != nil || w.ignores(from, at) {
			continue
		}
		q.Packet, q.Transport, q.Client, q.Local = packet[:n], wire.UDP, from.Addr(), local
		if w.proxies.Has(q.Client) {
			unwrap(q, w.ports, &w.counts)
		}
		w.handler.Fast(batch)
		w.counts.countCookies(batch)
		now := w.limiter.Now()
		w.limiter.Count(batch, now)
		if q.Outcome == wire.Slow && !w.handOver(q, peer) {
			w.handler.Shed(q)
		}
		if q.Outcome == wire.Answered {
			if w.limiter.Weigh(q, now); q.Outcome == wire.Answered {
				w.send(q.Out, peer)
			}
			if q.Outcome == wire.Answered && q.Renew {
				w.handOver(q, peer)
			}
		}
	}
}

// ignores reports whether a packet from that address gets no answer, and counts it.
func (w *udpWorker) ignores(from, at netip.AddrPort) bool {
	switch {
	case w.ports.has(from.Port()):
		w.counts.ignored[ignoredPort].Add(1)
	case from == at:
		w.counts.ignored[ignoredOwnAddress].Add(1) // it is forged
	default:
		return false
	}
	return true
}

// stop makes run return after the current query.
func (w *udpWorker) stop() { _ = w.conn.SetReadDeadline(time.Unix(1, 0)) }

func (w *udpWorker) send(answer []byte, peer netip.AddrPort) {
	if _, err := w.conn.WriteToUDPAddrPort(answer, peer); err != nil {
		w.counts.sendFailures.Add(1)
	}
}

// slowQuery is a query that left its batch, with room of its own.
type slowQuery struct {
	wire.Query
	packet []byte
}

// handOver copies a query to the slow path. It returns false if there is no place.
func (w *udpWorker) handOver(q *wire.Query, peer netip.AddrPort) bool {
	s := w.copies.Get().(*slowQuery)
	out := s.Out
	s.packet = append(s.packet[:0], q.Packet...)
	s.Query = *q
	s.Packet, s.Out = s.packet, out[:0]
	ok := w.pool.Run(s.Client, func(ctx context.Context) {
		renew := s.Renew
		w.handler.Slow(ctx, &s.Query)
		if s.Outcome == wire.Answered && !renew && len(s.Out) > 0 {
			if w.limiter.Weigh(&s.Query, w.limiter.Now()); s.Outcome == wire.Answered {
				w.send(s.Out, peer)
			}
		}
		w.copies.Put(s)
	})
	if !ok {
		w.copies.Put(s)
	}
	return ok
}

// leaveUnanswered does nothing: queries are left to the next process on Linux only.
func (w *udpWorker) leaveUnanswered() {}

func (w *udpWorker) unanswered() []Unanswered { return nil }

// drops is not known on this system.
func (w *udpWorker) drops() uint64 { return 0 }

func controlPacket(_, _ string, _ syscall.RawConn) error { return nil }
func controlAlone(_, _ string, _ syscall.RawConn) error  { return nil }

// isListening returns true: without systemd, no socket comes from another process.
func isListening(syscall.Conn) bool { return true }
