package transport

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"rempart/internal/wire"
)

const (
	readBuffer   = 16 << 10        // bytes of answers that are read at once: the largest TLS record (RFC 8446 section 5.1)
	writeBuffer  = 16 << 10        // bytes of queries that are written at once
	writeTimeout = 3 * time.Second // time within which a peer must accept a query
	maxStrange   = 100             // a connection is closed after this number of consecutive messages that answer no question

	// A wrong length field makes a connection unreadable: the message never ends, or the next one seems to begin in the middle of it.
	messageWithin = 750 * time.Millisecond // longest time from the first byte of a message to its last
	usualMessage  = 100 * time.Millisecond // while a message has been incomplete for longer, the connection takes no new questions
	suspectFor    = 500 * time.Millisecond // how long a question may stay unanswered after a suspect message
)

var errUnreadable = fmt.Errorf("%w: the connection cannot be read any further", errMalformed)

// pipe is one connection with the questions in flight on it. It accepts questions while the connection is still being opened.
type pipe struct {
	stream *stream
	close  context.CancelFunc // ends the connection in any state
	dead   chan struct{}      // closed when the connection has ended, after err and free are set
	err    error
	free   bool        // unanswered questions may be sent again without a token of the budget
	out    chan []byte // frames to write

	// Guarded by stream.mu.
	conn    net.Conn // nil while dialling
	pending map[uint16]*call
	taken   int       // questions sent
	answers int       // messages received
	last    time.Time // when the last message arrived
	alone   bool      // no second question may be sent until the first one is answered
	waiting bool      // a question was in flight at the last message, or was sent since
	partial time.Time // when the first byte of an incomplete message arrived: the read deadline is for its end; zero if there is none
	suspect bool      // a message arrived that no correct upstream sends, and no correct answer arrived since
	retired bool      // takes no more questions

	arrived []*Posting // answered, and not delivered yet; used by the goroutine that reads
}

// call is one question in flight.
type call struct {
	question *Question
	sent     []byte
	done     chan outcome // capacity 1; nil if posting is set
	posting  *Posting     // receives the outcome; nil if a goroutine waits for it
}

type outcome struct {
	reply    Reply
	echoed   bool // the answer repeated the case of the question
	err      error
	free     bool // with an error: the question may be sent again without a token of the budget
	trailing bool // bytes followed the last record of the message
}

// add puts a question in flight. It is called with stream.mu held.
func (p *pipe) add(q *Question, f Form) *call {
	frame := appendFrame(make([]byte, 0, maxQuery), q, p.newID(), f)
	c := &call{question: q, sent: frame[2:], done: make(chan outcome, 1)}
	p.register(c)
	p.enqueue(frame)
	return c
}

// newID returns an unpredictable ID that no question in flight has. It is called with stream.mu held.
func (p *pipe) newID() uint16 {
	id := randomID()
	for p.pending[id] != nil {
		id = randomID()
	}
	return id
}

// register makes c the question in flight with its ID. It is called with stream.mu held.
func (p *pipe) register(c *call) {
	p.pending[wire.ID(c.sent)] = c
	p.taken++
}

// enqueue passes frames to the goroutine that writes, after their questions were registered. It is called with stream.mu held.
func (p *pipe) enqueue(frames []byte) {
	select {
	case p.out <- frames:
	default:
		// The peer reads nothing, and out is full of questions, many of them given up. The frames are not sent: the write timeout ends the connection.
	}
	if !p.waiting {
		p.waiting = true
		p.setDeadline()
	}
}

// setDeadline sets the time by which the next message must begin. It is called with stream.mu held.
func (p *pipe) setDeadline() {
	limit := idleAfter
	switch {
	case p.conn == nil || !p.partial.IsZero():
		return
	case p.waiting && p.suspect:
		limit = suspectFor
	case p.waiting:
		limit = stallAfter
	}
	p.conn.SetReadDeadline(time.Now().Add(limit))
}

// isReadable reports whether no message is suspect or late, so that the connection can take another question. It is called with stream.mu held.
func (p *pipe) isReadable() bool {
	return !p.suspect && (p.partial.IsZero() || time.Since(p.partial) < usualMessage)
}

// drop removes a question whose caller has given up. It is called with stream.mu held.
func (p *pipe) drop(c *call) {
	delete(p.pending, wire.ID(c.sent))
	p.closeUnused()
}

// retire stops sending new questions on the connection, and closes it when no question is in flight any more. It is called with stream.mu held.
func (p *pipe) retire() {
	if i := slices.Index(p.stream.pipes, p); i >= 0 {
		p.stream.pipes = slices.Delete(p.stream.pipes, i, i+1)
	}
	p.retired = true
	p.stream.wake()
	p.closeUnused()
}

// closeUnused closes a connection that has no questions in flight and takes no new ones. At the learned limit of questions,
// it may leave one connection open for lingerFor, to see whether the upstream closes it. It is called with stream.mu held.
func (p *pipe) closeUnused() {
	s := p.stream
	limit := s.bound.limit()
	switch {
	case len(p.pending) > 0:
	case p.retired:
		if s.bound.watch != p {
			p.close()
		}
	case p.suspect:
		p.retire()
	case p.alone && p.answers > 0 && s.shared() < maxPipes:
		p.alone = false
		p.closeUnused()
	case p.alone:
		p.retire()
	case p.taken >= limit:
		if s.bound.watch == nil && p.answers >= limit && p.conn != nil {
			s.bound.watch = p
			p.conn.SetReadDeadline(time.Now().Add(lingerFor))
		}
		p.retire()
	}
}

// run dials, then reads and writes until the connection or ctx ends.
func (p *pipe) run(ctx context.Context) {
	dialling, cancel := context.WithTimeout(ctx, dialTimeout)
	conn, err := p.stream.dial(dialling)
	cancel()
	if err != nil {
		p.end(fmt.Errorf("%w: %w", errConnecting, err))
		return
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	p.stream.mu.Lock()
	p.conn = conn
	p.setDeadline()
	p.stream.mu.Unlock()

	written := make(chan struct{})
	go func() {
		defer close(written)
		p.write(conn)
	}()
	err = p.read(conn)
	p.end(fmt.Errorf("%w: %w", ErrDied, err))
	p.deliver()
	conn.Close()
	<-written
}

// end retires the connection, notifies the callers of unanswered questions, and updates the learned number of questions per connection.
func (p *pipe) end(err error) {
	s := p.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	byPeer := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	// A peer that closes a connection before it has read all queries resets it, before its first answer too (RFC 1122 section 4.2.2.13).
	p.err, p.free = err, byPeer || errors.Is(err, errUnreadable) || p.answers > 0 && errors.Is(err, errMalformed)
	if byPeer && p.answers > 0 && !p.alone && (len(p.pending) > 0 || time.Since(p.last) < closeSoon) {
		s.bound.closed(p.answers)
	}
	if s.bound.watch == p {
		s.bound.watch = nil
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.bound.refuted()
		}
	}
	p.retire()
	close(p.dead)
	for id, c := range p.pending {
		if c.posting != nil {
			delete(p.pending, id)
			c.posting.Result = Result{Err: err}
			p.arrived = append(p.arrived, c.posting)
		}
	}
}

// write sends frames until the connection ends. Frames that wait at the same time are sent together.
func (p *pipe) write(conn net.Conn) {
	w := bufio.NewWriterSize(conn, writeBuffer)
	for {
		select {
		case frames := <-p.out:
			conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			w.Write(frames)
			if len(p.out) > 0 {
				continue
			}
			if w.Flush() != nil {
				p.unwritable(conn)
				return
			}
		case <-p.dead:
			return
		}
	}
}

// unwritable retires a connection after a failed write. Answers may still arrive for closeSoon, until the reader ends the connection with the error that it
// gets.
func (p *pipe) unwritable(conn net.Conn) {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	p.retire()
	conn.SetReadDeadline(time.Now().Add(closeSoon))
}

// read delivers answers until the connection ends, and returns the reason: closed by either side, idle, stalled, or too many messages that answer no question.
func (p *pipe) read(conn net.Conn) error {
	r := bufio.NewReaderSize(conn, readBuffer)
	for strange := 0; strange < maxStrange; {
		if !buffered(r) {
			p.deliver() // before waiting for more, and before the buffer that holds the answers is used again
		}
		msg, err := p.message(r)
		if err != nil {
			return err
		}
		c := p.find(msg)
		if c == nil || compare(msg, c.sent) == Foreign {
			p.stream.foreign.Add(1)
			strange++
		} else {
			strange = 0
		}
		suspect := len(msg) < wire.HeaderLen || wire.Flags(msg)&wire.FlagQR == 0
		if c != nil {
			if c.posting == nil {
				msg = bytes.Clone(msg)
			}
			o := receive(msg, c)
			suspect = errors.Is(o.err, errMalformed) || o.trailing
			p.hand(c, o)
		}
		p.received(c, suspect)
	}
	return fmt.Errorf("%w: %d consecutive messages answer no question", errMalformed, maxStrange)
}

// hand passes on the outcome of a question: at once if a goroutine waits for it, otherwise with the next call of deliver.
func (p *pipe) hand(c *call, o outcome) {
	if c.posting == nil {
		c.done <- o
		return
	}
	o.reply.bare = false // only the upstream can send on the connection
	c.posting.Result = Result{o.reply, o.err}
	p.arrived = append(p.arrived, c.posting)
}

// deliver passes the postings in arrived to their Postboxes.
func (p *pipe) deliver() {
	for all := p.arrived; len(all) > 0; {
		n := 1
		for n < len(all) && all[n].to == all[0].to {
			n++
		}
		all[0].to.Received(all[:n])
		all = all[n:]
	}
	p.arrived = p.arrived[:0]
}

// buffered reports whether the next message is complete in the buffer of r.
func buffered(r *bufio.Reader) bool {
	if r.Buffered() < 2 {
		return false
	}
	head, err := r.Peek(2)
	return err == nil && r.Buffered() >= 2+int(binary.BigEndian.Uint16(head))
}

// message reads the next message. If the whole message was in the buffer, it is valid only until the next call. After its first byte, the rest must arrive
// within messageWithin.
func (p *pipe) message(r *bufio.Reader) ([]byte, error) {
	_, err := r.Peek(1)
	if err != nil {
		p.stream.mu.Lock()
		defer p.stream.mu.Unlock()
		if p.suspect && p.waiting && errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("%w: %w", errUnreadable, err)
		}
		return nil, err
	}
	if buffered(r) {
		head, _ := r.Peek(2)
		n := 2 + int(binary.BigEndian.Uint16(head))
		whole, _ := r.Peek(n)
		r.Discard(n)
		return whole[2:], nil
	}
	p.setEndDeadline()
	var head [2]byte
	var msg []byte
	if _, err = io.ReadFull(r, head[:]); err == nil {
		msg = make([]byte, binary.BigEndian.Uint16(head[:]))
		_, err = io.ReadFull(r, msg)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return msg, err
}

// setEndDeadline sets the time by which the message whose first byte arrived must be complete.
func (p *pipe) setEndDeadline() {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	p.partial = time.Now()
	p.conn.SetReadDeadline(p.partial.Add(messageWithin))
}

// receive decodes a message with the ID of a question. Only the upstream can send on the connection. A message that does not answer the question is therefore
// most likely the upstream's only reaction to the question, which ends with an error.
func receive(msg []byte, c *call) outcome {
	m := compare(msg, c.sent)
	switch {
	case m == Foreign:
		return outcome{err: errMismatch, free: true}
	case m == Bare:
		return outcome{reply: Restore(msg, c.question), echoed: true}
	case wire.Flags(msg)&wire.FlagTC != 0:
		return outcome{err: fmt.Errorf("%w: truncated over TCP", errMalformed)}
	}
	r, err := Read(msg, c.question)
	return outcome{reply: r, echoed: m == exact, err: err, trailing: len(r.Packed) < len(msg)}
}

// find returns the question in flight that has the ID of msg, or nil. A call with a posting is then no longer in flight.
func (p *pipe) find(msg []byte) *call {
	if len(msg) < wire.HeaderLen {
		return nil
	}
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	c := p.pending[wire.ID(msg)]
	if c != nil && c.posting != nil {
		delete(p.pending, wire.ID(msg))
	}
	return c
}

// received records a complete message, and sets the deadline of the next one. c is the question with the ID of the
// message, or nil. suspect is true if no correct upstream sends such a message.
func (p *pipe) received(c *call, suspect bool) {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	p.answers++
	p.last = time.Now()
	if c != nil && p.pending[wire.ID(c.sent)] == c {
		delete(p.pending, wire.ID(c.sent))
	}
	p.waiting, p.partial = len(p.pending) > 0, time.Time{}
	p.suspect = suspect || p.suspect && c == nil
	p.setDeadline()
	p.stream.wake()
	p.closeUnused()
}
