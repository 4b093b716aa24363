package stream

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxPipelined = 16                    // queries of one connection on the slow path, and answers that the client has not read yet; above it, the connection is not read from
	drainRead    = 50 * time.Millisecond // for data that a client sent before it knew that the connection ends
	drainBytes   = 1 << 20
)

// connection is a session over TCP or TLS: reading, the time limits, writing and the end.
type connection struct {
	arrivals
	sessionBase
	secure   *tls.Conn // nil over TCP
	layer    *records  // below secure
	class    int       // unauthorized: the client gets REFUSED, and the connection is closed
	pending  bool      // secure holds more decrypted data, or may do so
	ended    error     // of the last read of secure, if it failed
	stopping atomic.Bool
	readBy   limit // of the reader

	writing sync.Mutex
	writeBy limit
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
func (c *connection) allow(d time.Duration) {
	c.readBy.extend(d, c.conn.SetReadDeadline)
	if c.stopping.Load() { // after the deadline was set, so that the deadline of stop is not undone
		_ = c.conn.SetReadDeadline(time.Now().Add(drainRead))
	}
}

// stop accepts no further messages, except the message that the client is sending at the moment.
func (c *connection) stop() {
	c.stopping.Store(true)
	_ = c.conn.SetReadDeadline(time.Now().Add(drainRead))
}

// close ends the connection. It reads and drops unread data first: closing a connection with unread data would discard answers that the client has not read
// yet.
func (c *connection) close() {
	c.drop()
	if c.secure != nil {
		_ = c.conn.SetWriteDeadline(time.Now().Add(drainRead))
		_ = c.secure.CloseWrite() // close_notify (RFC 8446 section 6.1)
	}
	if c.conn.CloseWrite() == nil {
		_ = c.conn.SetReadDeadline(time.Now().Add(drainRead))
		_, _ = io.CopyN(io.Discard, c.conn, drainBytes)
	}
	c.conn.Close()
}

// abort ends the connection at once.
func (c *connection) abort() {
	_ = c.conn.SetLinger(0) // otherwise the kernel would keep unread answers for minutes
	c.conn.Close()
}

// idle returns how long the connection may now stay without a query.
func (c *connection) idle() time.Duration {
	if c.class == unauthorized {
		return min(c.server.limits.unauthorized, c.server.limits.idle)
	}
	return c.server.idle(c.transport)
}

func (c *connection) busy() bool { return len(c.slots) > 0 }

// fill reads until the input begins with a whole message, whose length is need of the input; need returns more than there is if it is not known yet. It also
// takes what has arrived behind it.
func (c *connection) fill(need func(in []byte) int) bool {
	for {
		if c.ws != nil {
			n := need(c.ws.in)
			if n <= len(c.ws.in) {
				c.gather()
				return true
			}
			if len(c.ws.in) == cap(c.ws.in) { // memory is taken for what has arrived, not for what is announced
				c.ws.in = append(make([]byte, 0, min(n, 2*cap(c.ws.in))), c.ws.in...)
			}
		}
		if c.more() != nil {
			return false
		}
	}
}

// more waits for data from the client and adds it to c.ws.in.
func (c *connection) more() error {
	for {
		err := c.readSome()
		if c.empty() && errors.Is(err, os.ErrDeadlineExceeded) && c.busy() && !c.stopping.Load() {
			// A client that waits for answers is not idle (RFC 7766 section 6.2.3).
			c.allow(c.idle())
			continue
		}
		return err
	}
}

func (c *connection) readSome() error {
	if c.secure == nil {
		return c.receive()
	}
	for c.ended == nil && !c.pending && !c.whole() {
		if err := c.receive(); err != nil {
			return err
		}
	}
	return c.decrypt()
}

// decrypt adds the content of one TLS record to c.ws.in. If that record has none, such as a key update, it waits for another one.
func (c *connection) decrypt() error {
	if c.ended != nil {
		return c.ended
	}
	if c.ws == nil {
		c.ws = c.from.take()
	}
	c.held = true // secure writes into c.ws.in after it waited
	defer func() { c.held = false }()
	in := c.ws.in
	room := in[len(in):cap(in)]
	n, err := c.secure.Read(room)
	c.pending, c.ended = n == len(room), err
	c.ws.in = in[:len(in)+n]
	return err
}

// gather adds the content of the TLS records that have arrived already to c.ws.in, as far as there is room.
func (c *connection) gather() {
	for c.secure != nil && c.ended == nil && c.whole() && cap(c.ws.in)-len(c.ws.in) >= c.next() {
		_ = c.decrypt() // the next read returns the error
	}
}

// used removes the first n bytes of c.ws.in, and the queries in them.
func (c *connection) used(n int) {
	c.ws.clearBatch()
	rest := c.ws.in[n:]
	if cap(c.ws.in) > inRoom && len(rest) <= inRoom {
		c.ws.in = append(make([]byte, 0, inRoom), rest...)
		return
	}
	c.ws.in = append(c.ws.in[:0], rest...)
}

// owe is Server.owe for this connection.
func (c *connection) owe(n int) bool { return c.server.owe(c, n) }

// write sends data, which is counted as untaken meanwhile. It returns false if the client does not read.
func (c *connection) write(data []byte) bool { return c.counted(data, c.send) }

// counted calls send with data, unless there is none, and counts it as untaken meanwhile.
func (c *connection) counted(data []byte, send func([]byte) bool) bool {
	if len(data) == 0 {
		return true
	}
	if !c.owe(len(data)) {
		return false
	}
	defer c.owe(-len(data))
	return send(data)
}

// send writes data that was counted by owe.
func (c *connection) send(data []byte) bool {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.sendLocked(data)
}

// sendLocked is send for a caller that holds c.writing.
func (c *connection) sendLocked(data []byte) bool {
	c.writeBy.extend(c.server.limits.idle, c.conn.SetWriteDeadline)
	var err error
	if c.secure != nil {
		_, err = c.secure.Write(data)
	} else {
		_, err = c.conn.Write(data)
	}
	return c.sent(err)
}

// sent ends the connection after an error of a write.
func (c *connection) sent(err error) bool {
	if err != nil {
		c.abort()
	}
	return err == nil
}

// sendParts is send for data in several parts, so that large answers are not copied.
func (c *connection) sendParts(parts net.Buffers) bool {
	if c.secure != nil {
		size := 0
		for _, p := range parts {
			size += len(p)
		}
		all := make([]byte, 0, size) // one record for many small answers
		for _, p := range parts {
			all = append(all, p...)
		}
		return c.send(all)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.writeBy.extend(c.server.limits.idle, c.conn.SetWriteDeadline)
	_, err := parts.WriteTo(c.conn)
	return c.sent(err)
}
