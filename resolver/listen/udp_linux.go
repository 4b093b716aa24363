package listen

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"rempart/internal/fair"
	"rempart/internal/wire"
	"rempart/resolver/limits"
)

const reusePort = true

// udpWorker is one loop over one socket. It owns the buffers; slow queries are copied.
type udpWorker struct {
	name    string // of the socket
	conn    *net.UDPConn
	raw     syscall.RawConn
	handler Handler
	pool    *fair.Pool
	limiter *limits.Limiter
	copies  sync.Pool // of *slowQuery
	spin    time.Duration

	queries []wire.Query
	msgs    *messages
	forward Forwarder     // the handler, if it is one
	leaving []*wire.Query // queries of the batch for forward
	late    lateAnswers
	before  []Unanswered // queries of the process before this one
	leaves  atomic.Bool  // failures are not sent: their queries are left to the process after this one
	left    []Unanswered // guarded by late.mu

	// The results of the system calls, which run inside a callback of the poller.
	errno syscall.Errno
	count int
	sent  int
	take  func(fd uintptr)      // takes the datagrams that arrived
	poll  func(fd uintptr) bool // the same, and reports whether to wait for more
	send  func(fd uintptr) bool

	counts udpCounts
}

func newUDPWorker(conn *net.UDPConn, name string, wildcard bool, c Config, s *Server) (*udpWorker, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	w := &udpWorker{name: name, conn: conn, raw: raw, handler: c.NewHandler(), pool: s.pool, limiter: s.limiter, spin: c.Spin,
		queries: make([]wire.Query, batchSize)}
	w.msgs = newMessages(wire.SocketAddr(conn.LocalAddr()), wildcard, s.ports, c.Proxies, &w.counts)
	w.copies.New = func() any { return &slowQuery{} }
	w.forward, _ = w.handler.(Forwarder)
	w.late.init(w)
	for _, u := range c.Unanswered {
		if u.Socket == name {
			w.before = append(w.before, u)
		}
	}
	if err := raw.Control(func(fd uintptr) { tune(fd, wildcard, c.Spin) }); err != nil {
		return nil, err
	}
	answers := make([]byte, batchSize*(answerSize+apart))
	for i := range w.queries {
		w.queries[i].Transport = wire.UDP
		w.queries[i].Out = answers[i*(answerSize+apart):][:0:answerSize]
	}
	w.take = func(fd uintptr) { w.count, w.errno = w.msgs.receive(fd) }
	w.poll = func(fd uintptr) bool {
		if w.take(fd); w.errno == unix.EAGAIN && w.spin > 0 {
			w.askAgain(fd)
		}
		return w.errno != unix.EAGAIN
	}
	w.send = func(fd uintptr) bool {
		var n int
		n, w.errno = w.msgs.send(fd, w.sent)
		w.sent += n
		return w.errno != unix.EAGAIN
	}
	return w, nil
}

// run receives, answers and sends batches until the socket's deadline passes or the socket is closed.
func (w *udpWorker) run() {
	w.resume()
	for {
		n, err := w.receiveBatch()
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			w.drain()
			return
		}
		if n > 0 {
			w.handle(w.queries[:n])
		}
	}
}

// drain answers the queries that arrived before the socket was stopped, without waiting for more.
func (w *udpWorker) drain() {
	for {
		w.msgs.prepare()
		if err := w.raw.Control(w.take); err != nil || w.count == 0 {
			return
		}
		w.handle(w.batch())
	}
}

func (w *udpWorker) handle(batch []wire.Query) {
	w.handler.Fast(batch)
	w.answer(batch)
}

// stop makes run return after the current batch.
func (w *udpWorker) stop() { _ = w.conn.SetReadDeadline(time.Unix(1, 0)) }

// receiveBatch fills queries with the datagrams that arrived, and waits for at least one.
func (w *udpWorker) receiveBatch() (int, error) {
	w.msgs.prepare()
	if err := w.raw.Read(w.poll); err != nil {
		return 0, err
	}
	return len(w.batch()), nil // none if errno belongs to an earlier answer, which the kernel reports now
}

// askAgain polls the socket for the time w.spin before the poller puts the thread to sleep, unless the pool has work.
func (w *udpWorker) askAgain(fd uintptr) {
	for began := time.Now(); w.errno == unix.EAGAIN && time.Since(began) < w.spin && w.pool.Running() == 0; {
		w.take(fd)
	}
}

// batch returns the queries that arrived.
func (w *udpWorker) batch() []wire.Query {
	for i := range w.count {
		w.msgs.query(&w.queries[i], i)
	}
	return w.queries[:w.count]
}

// answer sends the answers of a batch, and passes its slow queries on.
func (w *udpWorker) answer(batch []wire.Query) {
	renewals := false
	w.leaving = w.leaving[:0]
	w.counts.countCookies(batch)
	now := w.limiter.Now()
	w.limiter.Count(batch, now)
	for i := range batch {
		q := &batch[i]
		switch q.Outcome {
		case wire.Slow:
			if w.leave(q, i) {
				continue
			}
			w.handler.Shed(q)
		case wire.Answered:
		default:
			continue
		}
		renewals = renewals || q.Renew
		if w.limiter.Weigh(q, now); q.Outcome == wire.Answered {
			w.msgs.answer(i, q.Out)
		}
	}
	w.sendAll()
	if renewals {
		for i := range batch {
			if q := &batch[i]; q.Outcome == wire.Answered && q.Renew {
				w.leave(q, i) // if there is no place, the answer is not refreshed: that can wait
			}
		}
	}
	w.passOn()
}

// sendAll sends the answers that are ready, and skips those that the kernel refuses.
func (w *udpWorker) sendAll() {
	for w.sent = 0; w.sent < w.msgs.ready; {
		if err := w.raw.Write(w.send); err != nil {
			w.counts.sendFailures.Add(uint64(w.msgs.ready - w.sent))
			break
		}
		if w.errno != 0 {
			w.counts.sendFailures.Add(1)
			w.sent++
		}
	}
	w.msgs.ready = 0
}

// slowQuery is a query that left its batch, with the address to answer.
type slowQuery struct {
	wire.Query // the first field: see asSlow
	worker     *udpWorker
	packet     []byte
	peer       unix.RawSockaddrInet6
	peerLen    uint32
	control    [controlSize]byte
	controlLen int // 0 if the socket has one address
}

// asSlow returns the slowQuery of a query that left its batch.
func asSlow(q *wire.Query) *slowQuery { return (*slowQuery)(unsafe.Pointer(q)) }

// leave copies query i, to be passed on by passOn. It returns false if there is no place.
func (w *udpWorker) leave(q *wire.Query, i int) bool {
	if !w.pool.Take(q.Client) {
		return false
	}
	s := w.copies.Get().(*slowQuery)
	out := s.Out
	s.packet = append(s.packet[:0], q.Packet...)
	s.Query = *q
	s.Packet, s.Out, s.Return = s.packet, out[:0], w
	s.peer, s.peerLen = w.msgs.peers[i], w.msgs.in[i].Hdr.Namelen
	s.controlLen = 0
	if n := int(w.msgs.in[i].Hdr.Controllen); w.msgs.wildcard && n > 0 {
		s.controlLen = copy(s.control[:], w.msgs.controls[i][:n])
	}
	w.leaving = append(w.leaving, &s.Query)
	return true
}

// passOn passes the queries that left the batch to the handler's Forward, or to Slow in a goroutine for each.
func (w *udpWorker) passOn() {
	if len(w.leaving) == 0 {
		return
	}
	left := w.leaving
	if w.forward != nil {
		left = w.forward.Forward(w.pool.Context(), left)
	}
	for _, q := range left {
		renewal := q.Renew
		w.pool.Start(q.Client, func(ctx context.Context) {
			w.handler.Slow(ctx, q)
			w.finish(q, renewal)
		})
	}
	clear(w.leaving)
}

// finish sends the answer of one query that left its batch, unless it is a renewal, which was answered before. Its slowQuery is used again.
func (w *udpWorker) finish(q *wire.Query, renewal bool) {
	if !renewal {
		w.late.send(q)
	}
	w.copies.Put(asSlow(q))
}

// Return sends the answers of queries that left their batches, and uses their slowQueries again.
func (w *udpWorker) Return(answered []*wire.Query) {
	w.late.send(answered...)
	for _, q := range answered {
		w.pool.Free(q.Client)
		w.copies.Put(asSlow(q))
	}
}
