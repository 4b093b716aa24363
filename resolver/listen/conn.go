package listen

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"rempart/internal/wire"
)

const (
	frameHeader  = 2        // the length before each message (RFC 1035 section 4.2.2)
	streamBatch  = 16       // queries given to Fast at once
	maxPipelined = 16       // queries of one connection on the slow path, and answers that the client has not read yet; above it, the connection is not read from
	pieceRoom    = 64 << 10 // answers are written in pieces of about this size
	packetRoom   = 4096
	drainRead    = 50 * time.Millisecond // for data that a client sent before it knew that the connection ends
	drainBytes   = 1 << 20
	keptRoom     = 8192 // a larger buffer is not kept for the connection's next query
)

// stream is one connection. Its reader calls Fast on the queries that arrived and writes those answers at once; answers of the slow path are written when they
// are ready, in any order (RFC 7766 section 7).
type stream struct {
	server   *streamServer
	conn     net.Conn
	client   netip.Addr
	class    int // unauthorized: the client gets REFUSED, and the connection is closed
	stopping atomic.Bool
	asked    atomic.Int64  // when the last query arrived, in Unix nanoseconds; at first, when the connection was opened
	untaken  atomic.Int64  // bytes of answers that were not written yet
	slots    chan struct{} // one is taken by each query on the slow path, until its answer is written
	slow     sync.WaitGroup
	readBy   limit  // of the reader
	out      []byte // the reader's, for the answers of a batch

	writing sync.Mutex
	writeBy limit

	mu       sync.Mutex
	ready    [][]byte // answers of the slow path that were not written yet, each behind its length
	flushing bool     // a goroutine is writing them
}

// lastUse returns when the last query arrived, in Unix nanoseconds.
func (st *stream) lastUse() int64 { return st.asked.Load() }

// run reads until the client closes the connection, is idle for too long, or sends something that is no query.
func (st *stream) run() {
	defer st.close()
	defer st.slow.Wait()
	buf := make([]byte, 0, packetRoom)
	batch := make([]wire.Query, 0, streamBatch)
	for {
		idle := st.idle()
		// The time for a whole message to arrive starts here: the connection of a client that sends byte by byte is closed.
		st.allow(idle)
		ok := true
		if buf, ok = st.fill(buf); !ok {
			return
		}
		st.asked.Store(time.Now().UnixNano())
		used := 0
		batch, used = st.frames(batch[:0], buf, idle)
		st.server.handler.Fast(batch)
		if !st.answer(batch) || st.class == unauthorized {
			return
		}
		buf, st.out = st.shrink(append(buf[:0], buf[used:]...)), st.shrink(st.out[:0])
		for i := range batch {
			if cap(batch[i].Out) > keptRoom {
				batch[i].Out = nil
			}
		}
	}
}

// limit is the deadline of a connection's reads or writes. The runtime's timer is not changed for each batch, but when a sixteenth of the time has passed: the
// deadline may be later than asked for by that much.
type limit struct {
	moved time.Time
	by    time.Duration
}

// extend calls set with now+by, unless less than a sixteenth of by has passed since the last call.
func (l *limit) extend(by time.Duration, set func(time.Time) error) {
	if now := time.Now(); by != l.by || now.Sub(l.moved) > by/16 {
		l.moved, l.by = now, by
		_ = set(now.Add(by + by/16))
	}
}

// allow sets the time that the client has from now on. While the server stops, it applies only to queries that are under way.
func (st *stream) allow(d time.Duration) {
	st.readBy.extend(d, st.conn.SetReadDeadline)
	if st.stopping.Load() { // after the deadline was set, so that the deadline of stop is not undone
		_ = st.conn.SetReadDeadline(time.Now().Add(drainRead))
	}
}

// stop accepts no further messages, except the message that the client is sending at the moment.
func (st *stream) stop() {
	st.stopping.Store(true)
	_ = st.conn.SetReadDeadline(time.Now().Add(drainRead))
}

// close ends the connection. It reads and drops unread data first: closing a connection with unread data would discard answers that the client has not read
// yet.
func (st *stream) close() {
	if c, ok := st.conn.(*net.TCPConn); ok && c.CloseWrite() == nil {
		_ = c.SetReadDeadline(time.Now().Add(drainRead))
		_, _ = io.CopyN(io.Discard, c, drainBytes)
	}
	st.conn.Close()
}

// shrink releases memory that a long message needed.
func (st *stream) shrink(buf []byte) []byte {
	if cap(buf) <= keptRoom || len(buf) > packetRoom {
		return buf
	}
	return append(make([]byte, 0, packetRoom), buf...)
}

func (st *stream) idle() time.Duration {
	if st.class == unauthorized {
		return min(st.server.limits.unauthorized, st.server.limits.idle)
	}
	return st.server.idle()
}

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
				// A client that waits for answers is not idle (RFC 7766 section 6.2.3).
				st.allow(st.idle())
				continue
			}
			return buf, false
		}
	}
}

func (st *stream) busy() bool { return len(st.slots) > 0 }

// frames makes queries of the whole messages at the start of buf, at most a batch. used is the length of these messages.
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

// answer writes the answers of a batch, then passes its slow queries to the pool. It returns false if the connection ends.
func (st *stream) answer(batch []wire.Query) bool {
	sound, owed := true, 0
	for i := range batch {
		switch q := &batch[i]; q.Outcome {
		case wire.Dropped:
			sound = false // a client that sends no queries is no DNS client
		case wire.Answered:
			owed += frameHeader + len(q.Out)
		}
	}
	if owed > 0 && !st.writeBatch(batch, owed) {
		return false
	}
	for i := range batch {
		q := &batch[i]
		switch {
		case q.Outcome == wire.Answered && q.Renew:
			st.handOver(q) // if there is no place, the answer is not refreshed now
		case q.Outcome == wire.Slow && !st.handOver(q):
			st.server.handler.Shed(q)
			if !st.write(frame(nil, q.Out)) {
				return false
			}
		}
	}
	return sound
}

// writeBatch writes the answers of a batch, which are owed bytes long. It returns false if the client does not read them.
func (st *stream) writeBatch(batch []wire.Query, owed int) bool {
	if !st.owe(owed) {
		return false
	}
	defer st.owe(-owed)
	out := st.out[:0]
	for i := range batch {
		if batch[i].Outcome != wire.Answered {
			continue
		}
		if len(out) > 0 && len(out)+len(batch[i].Out) > pieceRoom {
			if !st.send(out) {
				return false
			}
			out = out[:0]
		}
		out = frame(out, batch[i].Out)
	}
	st.out = out
	return st.send(out)
}

func frame(out, answer []byte) []byte {
	out = append(out, byte(len(answer)>>8), byte(len(answer)))
	return append(out, answer...)
}

// write sends whole frames. It returns false if the client does not read them.
func (st *stream) write(frames []byte) bool {
	if len(frames) == 0 {
		return true
	}
	if !st.owe(len(frames)) {
		return false
	}
	defer st.owe(-len(frames))
	return st.send(frames)
}

// owe notes that n more bytes of answers wait to be written, or -n fewer. It returns false, and ends the connection, if clients leave too many unread and this one more than an answer.
func (st *stream) owe(n int) bool {
	own, all := st.untaken.Add(int64(n)), st.server.untaken.Add(int64(n))
	if n < 0 || all <= st.server.limits.untaken || own <= wire.MaxMessage+frameHeader {
		return true
	}
	st.untaken.Add(int64(-n))
	st.server.untaken.Add(int64(-n))
	st.server.evicted.Add(1)
	st.abort()
	return false
}

// abort ends the connection at once.
func (st *stream) abort() {
	if c, ok := st.conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0) // otherwise the kernel would keep unread answers for minutes
	}
	st.conn.Close()
}

// send writes frames that were counted by owe.
func (st *stream) send(frames []byte) bool {
	st.writing.Lock()
	defer st.writing.Unlock()
	st.writeBy.extend(st.server.limits.idle, st.conn.SetWriteDeadline)
	_, err := st.conn.Write(frames)
	return st.sent(err)
}

// sendParts is send for frames in several parts, so that large answers are not copied.
func (st *stream) sendParts(parts net.Buffers) bool {
	st.writing.Lock()
	defer st.writing.Unlock()
	st.writeBy.extend(st.server.limits.idle, st.conn.SetWriteDeadline)
	_, err := parts.WriteTo(st.conn)
	return st.sent(err)
}

// sent ends the connection after an error of a write.
func (st *stream) sent(err error) bool {
	if err != nil {
		st.abort()
	}
	return err == nil
}

// handOver copies a query to the slow path, and waits while this connection has its share there. It returns false if there is no place at all.
func (st *stream) handOver(q *wire.Query) bool {
	st.slots <- struct{}{}
	copied := *q
	copied.Packet = append([]byte(nil), q.Packet...)
	copied.Out = nil
	st.slow.Add(1)
	ok := st.server.pool.run(st.client, func(ctx context.Context) {
		renew := copied.Renew
		st.server.handler.Slow(ctx, &copied)
		if n := frameHeader + len(copied.Out); copied.Outcome == wire.Answered && !renew && len(copied.Out) > 0 && st.owe(n) {
			st.post(copied.Out)
			return
		}
		st.done(1)
	})
	if !ok {
		st.done(1)
	}
	return ok
}

// done gives back the slots of n queries.
func (st *stream) done(n int) {
	for range n {
		<-st.slots
		st.slow.Done()
	}
}

// post makes a goroutine of the connection write an answer, so that a client that reads no answers does not delay other clients on the slow path.
func (st *stream) post(answer []byte) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.ready = append(st.ready, []byte{byte(len(answer) >> 8), byte(len(answer))}, answer)
	if !st.flushing {
		st.flushing = true
		go st.flush() // run waits for it: each answer holds a slot until it is written
	}
}

// flush writes answers until none is ready.
func (st *stream) flush() {
	for {
		st.mu.Lock()
		frames := st.ready
		st.ready = nil
		if len(frames) == 0 {
			st.flushing = false
			st.mu.Unlock()
			return
		}
		st.mu.Unlock()
		size, n := 0, len(frames)/2
		for _, f := range frames {
			size += len(f)
		}
		st.sendParts(frames)
		st.owe(-size)
		st.done(n)
	}
}
