package stream

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"rempart/internal/wire"
)

// arrivedSoon is the time in which a query arrives whose first packet is here; slower ones are waited for in a goroutine of their own.
const arrivedSoon = time.Millisecond

// quicFraming is a protocol over QUIC in which each stream of the client holds one query: DNS over QUIC or HTTP/3. Its methods are called concurrently.
type quicFraming interface {
	codes() quicCodes
	begin(*quicSession) // begins a connection, after its handshake
	end(*quicSession)   // announces the end of a connection to the client
	// query returns the query in what a client sent on a stream. Without a query it returns the response to send, or the error of the connection.
	query(received []byte) (query, response []byte, violation quic.ApplicationErrorCode)
	// isViolation reports whether a query, which Fast has seen, ends the connection.
	isViolation(*wire.Query) bool
	response(answer []byte) []byte
}

// quicCodes are the error codes of a protocol over QUIC.
type quicCodes struct {
	done     quic.ApplicationErrorCode // the end of a connection without an error
	violated quic.ApplicationErrorCode
	overload quic.ApplicationErrorCode
	internal quic.StreamErrorCode
	message  quic.ApplicationErrorCode // of a single request, which ends its stream only
}

// quicSession is a connection over QUIC, from its first packet.
type quicSession struct {
	sessionBase
	listener   *quicListener
	framing    quicFraming
	conn       atomic.Pointer[quic.Conn] // nil during the handshake
	ended      atomic.Bool               // the handshake succeeded or failed
	aborted    atomic.Bool               // abort was called
	incomplete atomic.Int64              // bytes of incomplete queries
	late       bool                      // accepted after stop; set before run
	last       quic.StreamID             // the last stream that was accepted; negative: none
	control    *quic.SendStream          // of HTTP/3; set by begin
}

// finish records that the handshake is over. It returns false if it was before.
func (q *quicSession) finish() bool {
	if q.ended.Swap(true) {
		return false
	}
	q.listener.unfinished.Add(-1)
	return true
}

// stop does nothing: the end of the listener ends the loop of each session.
func (q *quicSession) stop() {}

func (q *quicSession) abort() {
	q.aborted.Store(true) // a handshake in progress sees it at its end
	if c := q.conn.Load(); c != nil {
		_ = c.CloseWithError(q.framing.codes().overload, "")
	}
}

// violated ends the connection after a violation of the protocol.
func (q *quicSession) violated(code quic.ApplicationErrorCode, why string) {
	_ = q.conn.Load().CloseWithError(code, why)
}

// run answers the queries of a connection, one per stream, until the client closes it, is idle for too long, or serving ends.
func (q *quicSession) run(serving context.Context) {
	q.framing.begin(q)
	for {
		st, err := q.conn.Load().AcceptStream(serving)
		if err != nil {
			break
		}
		q.last = st.StreamID()
		ws := q.server.workspaces.take()
		q.receive(st, ws)
		q.server.workspaces.giveBack(ws)
	}
	q.framing.end(q)
	c := q.conn.Load()
	if q.late { // nothing is read any more: its client asks again
		_ = c.CloseWithError(q.framing.codes().done, "")
		return
	}
	q.slow.Wait()
	select {
	case <-c.Context().Done():
	case <-time.After(drainRead): // closing the connection at once would discard answers that were not sent yet
	}
	_ = c.CloseWithError(q.framing.codes().done, "")
}

// receive answers the query on a stream, if it has arrived; otherwise it is waited for elsewhere.
func (q *quicSession) receive(st *quic.Stream, ws *workspace) {
	_ = st.SetReadDeadline(time.Now().Add(arrivedSoon))
	before := cap(ws.in)
	received, state := q.readStream(st, ws.in[:0])
	defer q.hold(before - cap(received))
	ws.in = received
	if state != readLate {
		ws.batch = ws.batch[:1]
		q.serve(st, ws.batch, received, state)
		return
	}
	copied := append([]byte(nil), received...)
	if q.hold(cap(copied)) {
		q.slow.Go(func() { q.waitFor(st, copied) })
	}
}

// waitFor answers a query that arrives slowly. The memory of received is counted as held.
func (q *quicSession) waitFor(st *quic.Stream, received []byte) {
	_ = st.SetReadDeadline(time.Now().Add(q.server.limits.idle))
	received, state := q.readStream(st, received)
	defer q.hold(-cap(received))
	q.serve(st, make([]wire.Query, 1), received, state)
}

// maxHeld bounds the memory of incomplete queries of a session: one of the largest size, while it grows, or many small ones.
const maxHeld = 256 << 10

// hold notes that n more bytes of incomplete queries are held, or -n fewer. It returns false, counts nothing and ends the connection if that is too much.
func (q *quicSession) hold(n int) bool {
	if q.incomplete.Add(int64(n)) > maxHeld && n > 0 || !q.owe(n) {
		q.incomplete.Add(int64(-n))
		q.abort()
		return false
	}
	return true
}

// owe is Server.owe for this session.
func (q *quicSession) owe(n int) bool { return q.server.owe(q, n) }

// readState is the state of a stream of which was read.
type readState int

const (
	readWhole   readState = iota // it ended
	readLate                     // its end did not arrive in time
	readReset                    // the client reset it
	readTooLong                  // it holds more than any query
)

// readStream reads a stream to its end, behind received.
func (q *quicSession) readStream(st *quic.Stream, received []byte) ([]byte, readState) {
	for {
		if len(received) == cap(received) {
			if len(received) > quicStreamWindow {
				return received, readTooLong
			}
			larger := append(make([]byte, 0, max(512, 2*cap(received))), received...)
			if !q.hold(cap(larger) - cap(received)) {
				return received, readReset
			}
			received = larger
		}
		n, err := st.Read(received[len(received):cap(received)])
		received = received[:len(received)+n]
		var timeout interface{ Timeout() bool }
		switch {
		case err == io.EOF:
			return received, readWhole
		case errors.As(err, &timeout) && timeout.Timeout():
			return received, readLate
		case err != nil:
			return received, readReset
		}
	}
}

// serve answers the query that was received on a stream. batch has one element and is used for the query.
func (q *quicSession) serve(st *quic.Stream, batch []wire.Query, received []byte, state readState) {
	codes := q.framing.codes()
	switch state {
	case readTooLong:
		q.violated(codes.violated, "the stream holds more than a query")
		return
	case readLate, readReset:
		st.CancelRead(codes.internal)
		st.CancelWrite(codes.internal)
		return
	}
	query, response, violation := q.framing.query(received)
	switch {
	case violation != 0 && violation == codes.message:
		st.CancelWrite(quic.StreamErrorCode(violation))
	case violation != 0:
		q.violated(violation, "the stream holds no query")
	case query == nil:
		q.send(st, response)
	default:
		q.answer(st, batch, query)
	}
}

// answer answers one query.
func (q *quicSession) answer(st *quic.Stream, batch []wire.Query, query []byte) {
	q.asked.Store(time.Now().UnixNano())
	one := &batch[0]
	q.query(one, query, 0)
	q.server.config.Handler.Fast(batch)
	switch {
	case q.framing.isViolation(one):
		q.violated(q.framing.codes().violated, "not a query of this protocol")
		return
	case one.Outcome == wire.Dropped:
		st.CancelWrite(q.framing.codes().internal)
		return
	case one.Outcome == wire.Slow:
		if q.answerLater(one, func(answered *wire.Query) { q.send(st, q.framing.response(answered.Out)) }) {
			return
		}
		q.server.config.Handler.Shed(one)
	}
	q.send(st, q.framing.response(one.Out))
	if one.Renew {
		q.handOver(one, nil) // if there is no place, the answer is not refreshed now
	}
}

// send writes a response and ends the stream.
func (q *quicSession) send(st *quic.Stream, response []byte) {
	if !q.owe(len(response)) {
		return
	}
	defer q.owe(-len(response))
	_ = st.SetWriteDeadline(time.Now().Add(q.server.limits.idle))
	if _, err := st.Write(response); err != nil {
		st.CancelWrite(q.framing.codes().internal)
		return
	}
	_ = st.Close()
}
