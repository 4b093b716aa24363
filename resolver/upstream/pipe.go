package upstream

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"rempart/internal/wire"
)

// writeTimeout is how long a peer may leave our queries unread.
const writeTimeout = 3 * time.Second

// pipe is one connection and the questions in flight on it. Questions are taken before it
// stands: they wait for the dialling like for the answer.
type pipe struct {
	stream *stream
	close  context.CancelFunc // ends it, whatever it is doing
	dead   chan struct{}      // closed when it has ended; err is set before
	err    error
	out    chan []byte // frames to write

	// Guarded by stream.mu.
	conn    net.Conn // nil while dialling
	pending map[uint16]*call
	waiting bool // something was asked since the last answer
	retired bool // takes no more questions
}

// call is one question in flight.
type call struct {
	question *Question
	sent     []byte
	done     chan outcome // capacity 1
}

type outcome struct {
	reply  reply
	echoed bool // the case of the question came back
	err    error
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
		// The peer reads nothing and its askers have given up: this one waits like them, and the
		// write timeout ends the connection.
	}
	p.pending[id] = c
	if !p.waiting {
		p.waiting = true
		if p.conn != nil {
			p.conn.SetReadDeadline(time.Now().Add(stallAfter))
		}
	}
	return c
}

// drop forgets a question nobody waits for any more. It is called with stream.mu held.
func (p *pipe) drop(c *call) {
	delete(p.pending, wire.ID(c.sent))
	p.closeUnused()
}

// closeUnused ends a retired connection that nobody waits on. It is called with stream.mu held.
func (p *pipe) closeUnused() {
	if p.retired && len(p.pending) == 0 {
		p.close()
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
	conn.SetReadDeadline(time.Now().Add(stallAfter))
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

// end lets nobody in any more and tells everyone who waits.
func (p *pipe) end(err error) {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	if i := slices.Index(p.stream.pipes, p); i >= 0 {
		p.stream.pipes = slices.Delete(p.stream.pipes, i, i+1)
	}
	p.retired, p.err = true, err
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
				conn.Close() // the reader ends it
				return
			}
		case <-p.dead:
			return
		}
	}
}

// read delivers answers until the connection ends, for the reason it returns: closed by either
// side, idle, stalled, or malformed.
func (p *pipe) read(conn net.Conn) error {
	r := bufio.NewReader(conn)
	var head [2 + wire.HeaderLen]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		size := int(binary.BigEndian.Uint16(head[:]))
		if size < wire.HeaderLen {
			return fmt.Errorf("%w: a message of %d octets", errMalformed, size)
		}
		c := p.find(wire.ID(head[2:]))
		if c == nil {
			// An answer that came too late. Nothing is held for it.
			p.stream.foreign.Add(1)
			if _, err := r.Discard(size - wire.HeaderLen); err != nil {
				return err
			}
			p.heard(conn, nil)
			continue
		}
		msg := make([]byte, size)
		copy(msg, head[2:])
		if _, err := io.ReadFull(r, msg[wire.HeaderLen:]); err != nil {
			return err
		}
		m := compare(msg, c.sent)
		if m == foreign {
			p.stream.foreign.Add(1)
			return fmt.Errorf("%w: not to the question of its ID", errMalformed)
		}
		c.done <- receive(msg, m, c.question)
		p.heard(conn, c)
	}
}

// receive takes in a message that answers q.
func receive(msg []byte, m match, q *Question) outcome {
	if m == bare {
		return outcome{reply: restore(msg, q), echoed: true}
	}
	if wire.Flags(msg)&wire.FlagTC != 0 {
		return outcome{err: fmt.Errorf("%w: truncated over TCP", errMalformed)}
	}
	r, err := read(msg, q)
	return outcome{reply: r, echoed: m == exact, err: err}
}

func (p *pipe) find(id uint16) *call {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	return p.pending[id]
}

// heard notes that a whole message came, the answer to c or to nothing, and says how long the
// next may take.
func (p *pipe) heard(conn net.Conn, c *call) {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	if c != nil && p.pending[wire.ID(c.sent)] == c {
		delete(p.pending, wire.ID(c.sent))
	}
	p.waiting = len(p.pending) > 0
	if p.waiting {
		conn.SetReadDeadline(time.Now().Add(stallAfter))
	} else {
		conn.SetReadDeadline(time.Now().Add(idleAfter))
	}
	p.closeUnused()
}
