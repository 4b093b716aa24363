package upstream

import (
	"bufio"
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
	writeTimeout = 3 * time.Second // how long a peer may leave our queries unread
	maxStrange   = 100             // messages in a row that answer no question, after which the connection is closed

	// After a wrong length a connection is unreadable: a message does not end, or the next message seems to begin in the middle of one.
	messageWithin = 750 * time.Millisecond // how long a message may take from its first byte to its last
	usualMessage  = 100 * time.Millisecond // after this time of an incomplete message, the connection takes no more questions
	suspectFor    = 500 * time.Millisecond // how long a question may stay unanswered after a suspect message
)

var errUnreadable = fmt.Errorf("%w: the connection cannot be read any further", errMalformed)

// pipe is one connection and the questions in flight on it. Questions are accepted before it is open: they wait for the dialling as for the answer.
type pipe struct {
	stream *stream
	close  context.CancelFunc // ends it in any state
	dead   chan struct{}      // closed when it has ended; err and free are set before
	err    error
	free   bool        // questions that it left unanswered may be asked again without a token
	out    chan []byte // frames to write

	// Guarded by stream.mu.
	conn    net.Conn // nil while dialling
	pending map[uint16]*call
	taken   int       // questions that were sent on it
	answers int       // messages that arrived
	last    time.Time // when the last of them arrived
	alone   bool      // its first question must be the only one until it is answered
	waiting bool      // a question was sent since the last answer
	partial time.Time // when the message that is being read began, while it is incomplete; then the read deadline is for its end
	suspect bool      // a message arrived that no sound upstream sends, and no answer since
	retired bool      // takes no more questions
}

// call is one question in flight.
type call struct {
	question *Question
	sent     []byte
	done     chan outcome // capacity 1
}

type outcome struct {
	reply    reply
	echoed   bool // the answer repeated the case of the question
	err      error
	free     bool // after an error: the question may be asked again without a token
	trailing bool // bytes followed the last record of the message
}

// add puts a question in flight. It is called with stream.mu held.
func (p *pipe) add(q *Question, f form) *call {
	id := randomID()
	for p.pending[id] != nil {
		id = randomID()
	}
	frame := appendQuery(make([]byte, 2, maxQuery), q, id, f)
	binary.BigEndian.PutUint16(frame, uint16(len(frame)-2))
	c := &call{question: q, sent: frame[2:], done: make(chan outcome, 1)}
	select {
	case p.out <- frame:
	default:
		// The peer reads nothing and the questions of others were given up: this one waits like them, and the write timeout ends the connection.
	}
	p.pending[id] = c
	p.taken++
	if !p.waiting {
		p.waiting = true
		p.setDeadline()
	}
	return c
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

// isReadable reports whether the connection seems good enough for another question. It is called with stream.mu held.
func (p *pipe) isReadable() bool {
	return !p.suspect && (p.partial.IsZero() || time.Since(p.partial) < usualMessage)
}

// drop removes a question for which nobody waits any more. It is called with stream.mu held.
func (p *pipe) drop(c *call) {
	delete(p.pending, wire.ID(c.sent))
	p.closeUnused()
}

// retire takes the connection out of use, and ends it once nobody waits on it. It is called with stream.mu held.
func (p *pipe) retire() {
	if i := slices.Index(p.stream.pipes, p); i >= 0 {
		p.stream.pipes = slices.Delete(p.stream.pipes, i, i+1)
	}
	p.retired = true
	p.stream.wake()
	p.closeUnused()
}

// closeUnused ends a connection that has no open questions and takes no more questions, or waits for the upstream to
// close it, to learn whether the upstream does that. It is called with stream.mu held.
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

// run dials, then reads and writes until the connection ends or ctx does.
func (p *pipe) run(ctx context.Context) {
	dialling, cancel := context.WithTimeout(ctx, dialTimeout)
	conn, err := p.stream.dial(dialling)
	cancel()
	if err != nil {
		p.end(fmt.Errorf("connecting: %w", err))
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
	p.end(fmt.Errorf("%w: %w", errDied, err))
	conn.Close()
	<-written
}

// end accepts no more questions, notifies all that wait, and notes what the end shows about the upstream.
func (p *pipe) end(err error) {
	s := p.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	fin := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	peer := fin || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	p.err, p.free = err, fin || errors.Is(err, errUnreadable) || p.answers > 0 && (peer || errors.Is(err, errMalformed))
	if peer && p.answers > 0 && !p.alone && (len(p.pending) > 0 || time.Since(p.last) < closeSoon) {
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
}

// write sends frames until the connection ends, those that wait together in one go.
func (p *pipe) write(conn net.Conn) {
	w := bufio.NewWriter(conn)
	for {
		select {
		case frame := <-p.out:
			conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			w.Write(frame)
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

// unwritable takes a connection out of use over which nothing can be sent any more. The reader ends it: answers may still arrive, and the reader gets the
// error.
func (p *pipe) unwritable(conn net.Conn) {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	p.retire()
	conn.SetReadDeadline(time.Now().Add(closeSoon))
}

// read delivers answers until the connection ends, and returns the reason: closed by either side, idle, stalled, or too many messages that are no answers.
func (p *pipe) read(conn net.Conn) error {
	r := bufio.NewReader(conn)
	for strange := 0; strange < maxStrange; {
		msg, err := p.message(r)
		if err != nil {
			return err
		}
		c := p.find(msg)
		if c == nil || compare(msg, c.sent) == foreign {
			p.stream.foreign.Add(1)
			strange++
		} else {
			strange = 0
		}
		suspect := len(msg) < wire.HeaderLen || wire.Flags(msg)&wire.FlagQR == 0
		if c != nil {
			o := receive(msg, c)
			suspect = errors.Is(o.err, errMalformed) || o.trailing
			c.done <- o
		}
		p.heard(c, suspect)
	}
	return fmt.Errorf("%w: %d messages that answer nothing", errMalformed, maxStrange)
}

// message reads the next message. After its first byte, the rest must arrive within messageWithin.
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
	p.setEndDeadline(r)
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

// setEndDeadline sets the time by which the message whose first byte arrived must be complete, if it is not complete already.
func (p *pipe) setEndDeadline(r *bufio.Reader) {
	if r.Buffered() >= 2 {
		if head, err := r.Peek(2); err == nil && r.Buffered() >= 2+int(binary.BigEndian.Uint16(head)) {
			return
		}
	}
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	p.partial = time.Now()
	p.conn.SetReadDeadline(p.partial.Add(messageWithin))
}

// receive decodes a message with the ID of a question. Nobody else sends on a connection: a message that is no answer to that question is most likely the only
// reaction to it.
func receive(msg []byte, c *call) outcome {
	m := compare(msg, c.sent)
	switch {
	case m == foreign:
		return outcome{err: errMismatch, free: true}
	case m == bare:
		return outcome{reply: restore(msg, c.question), echoed: true}
	case wire.Flags(msg)&wire.FlagTC != 0:
		return outcome{err: fmt.Errorf("%w: truncated over TCP", errMalformed)}
	}
	r, err := read(msg, c.question)
	return outcome{reply: r, echoed: m == exact, err: err, trailing: len(r.packed) < len(msg)}
}

// find returns the question whose ID msg has; nil if there is none, or msg arrived too late.
func (p *pipe) find(msg []byte) *call {
	if len(msg) < wire.HeaderLen {
		return nil
	}
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	return p.pending[wire.ID(msg)]
}

// heard records that a whole message arrived, and sets the deadline of the next one. c is the question that the message
// answers, or nil. suspect says that no sound upstream sends such a message.
func (p *pipe) heard(c *call, suspect bool) {
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
