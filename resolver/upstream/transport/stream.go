package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxPipes   = 4                // connections to one upstream that share the questions
	maxShort   = 8                // connections in all, where each takes few questions: some servers allow a client ten
	maxAlone   = maxShort - 1     // connections with one question each; this leaves one connection that questions can share
	maxPending = 256              // queries in flight on one connection
	idleAfter  = 10 * time.Second // an unused connection is closed (RFC 7766 section 6.2.3)
	stallAfter = 5 * time.Second  // a connection with open questions is closed if no data arrives for this time
	maxAsks    = 3                // connections over which one question is asked, one after the other
)

// ErrDied is the error of a question whose connection ended without an answer.
var ErrDied = errors.New("the connection ended before the question was answered")

var (
	errMismatch = fmt.Errorf("%w: not to the question of its ID", errMalformed)

	errFull = errors.New("too many questions in flight to this upstream")
)

// queue holds a channel for each question that waits for a connection, the oldest first. A channel is closed when its question may try again.
type queue []chan struct{}

// stream asks one upstream over TCP or TLS. Connections are kept, and queries pipelined:
// many in flight on one, answered in any order (RFC 7766 section 6.2.1.1).
//
// An upstream may close a connection at any time: after a number of questions, after each question, or because of
// one question that it cannot handle. Questions without an answer are sent again (RFC 7766 section 6.2.4), each over
// a connection of its own, so that a question that makes the upstream close connections does not affect the others.
type stream struct {
	dial    func(context.Context) (net.Conn, error)
	group   group
	spend   func(free bool) bool // notes that a question is sent again and, unless free, takes a token; false if there is none
	foreign *atomic.Uint64       // counts messages that answer no question

	mu      sync.Mutex // guards the fields below and the state of each pipe
	pipes   []*pipe    // those that are not retired, the oldest first
	bound   bound      // of the questions that one connection takes
	asking  int        // questions in flight, or waiting for a connection
	waiting [2]queue   // questions that wait: those that may share a connection, and those that need a connection of their own
}

// ask sends q and waits for its answer until ctx ends. echoed reports whether the answer repeated the case of the question. The question is sent again for free
// only once: an upstream that closes every connection must not receive a multiple of its load.
func (s *stream) ask(ctx context.Context, q *Question, f Form) (r Reply, echoed bool, err error) {
	for try := 1; ; try++ {
		o := s.askOnce(ctx, q, f, try > 1)
		lost := isLost(o.err) && (try == 1 || !errors.Is(o.err, errUnreadable)) // on a connection of its own, it is this question that makes the connection unreadable
		if !lost || try == maxAsks || ctx.Err() != nil || !s.spend(o.free && try == 1) {
			return o.reply, o.echoed, o.err
		}
	}
}

// isLost reports whether err says that a connection ended, or that its answers did not fit the questions, before the question was answered.
func isLost(err error) bool { return errors.Is(err, ErrDied) || errors.Is(err, errMismatch) }

// askOnce asks over one connection, on which no other question is sent if alone is true.
func (s *stream) askOnce(ctx context.Context, q *Question, f Form, alone bool) outcome {
	p, c, err := s.take(ctx, q, f, alone)
	if err != nil {
		return outcome{err: err}
	}
	defer s.done()
	select {
	case o := <-c.done:
		return o
	case <-p.dead:
	case <-ctx.Done():
		s.mu.Lock()
		p.drop(c)
		s.mu.Unlock()
		return outcome{err: fmt.Errorf("waiting on a connection: %w", context.Cause(ctx))}
	}
	select {
	case o := <-c.done: // the answer arrived just before the connection ended
		return o
	default:
		return outcome{err: p.err, free: p.free}
	}
}

// take puts the question in flight on a connection that has room. If there is none, take opens one. If no further connection is allowed, take waits for room.
// After success the caller calls done.
func (s *stream) take(ctx context.Context, q *Question, f Form, alone bool) (*pipe, *call, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking >= maxPipes*maxPending {
		return nil, nil, errFull
	}
	s.asking++
	for first := true; ; first = false {
		err := ctx.Err()
		if err == nil {
			var p *pipe
			if p, err = s.pipe(alone); p != nil {
				c := p.add(q, f)
				s.wake() // there may be room for another question
				return p, c, nil
			}
		}
		if err == nil {
			err = s.wait(ctx, alone, first)
		}
		if err != nil {
			s.asking--
			return nil, nil, err
		}
	}
}

// done notes that a question is no longer in flight.
func (s *stream) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking--
}

// pipe returns a connection with room, and opens one if there is none. It returns nil if no further connection is allowed. It is called with mu held.
func (s *stream) pipe(alone bool) (*pipe, error) {
	limit := s.bound.limit()
	for _, p := range s.pipes {
		if !alone && !p.alone && p.isReadable() && len(p.pending) < maxPending && p.taken < limit {
			return p, nil
		}
	}
	if len(s.pipes) >= maxShort || alone && len(s.pipes)-s.shared() >= maxAlone || !alone && limit >= maxPending && s.shared() >= maxPipes {
		return nil, nil
	}
	return s.open(alone)
}

// shared counts the connections that share the questions. It is called with mu held.
func (s *stream) shared() (n int) {
	for _, p := range s.pipes {
		if !p.alone {
			n++
		}
	}
	return n
}

// open opens a connection. It is called with mu held.
func (s *stream) open(alone bool) (*pipe, error) {
	ctx, cancel := context.WithCancel(s.group.ctx)
	p := &pipe{
		stream: s, alone: alone, close: cancel, dead: make(chan struct{}),
		out: make(chan []byte, 2*maxPending), pending: map[uint16]*call{},
	}
	if !s.group.start(func() { defer cancel(); p.run(ctx) }) {
		cancel()
		return nil, net.ErrClosed
	}
	s.pipes = append(s.pipes, p)
	return p, nil
}

// wait waits until there may be room for a question. The first time, the question waits behind the others of its kind; after that, before them, so that it does
// not lose its turn. wait is called with mu held, and releases mu while it waits.
func (s *stream) wait(ctx context.Context, alone, first bool) error {
	room := make(chan struct{})
	q := &s.waiting[0]
	if alone {
		q = &s.waiting[1]
	}
	at := 0
	if first {
		at = len(*q)
	}
	*q = slices.Insert(*q, at, room)
	s.mu.Unlock()
	var err error
	select {
	case <-room:
	case <-ctx.Done():
		err = fmt.Errorf("waiting for a connection: %w", context.Cause(ctx))
	case <-s.group.ctx.Done():
		err = net.ErrClosed
	}
	s.mu.Lock()
	if err == nil {
		return nil
	}
	if i := slices.Index(*q, room); i >= 0 {
		*q = slices.Delete(*q, i, i+1)
	} else {
		s.wake() // it was the turn of this question
	}
	return err
}

// wake makes the question of each kind that has waited longest try again, because there may be room for one question. It is called with mu held.
func (s *stream) wake() {
	for i := range s.waiting {
		if q := &s.waiting[i]; len(*q) > 0 {
			close((*q)[0])
			*q = slices.Delete(*q, 0, 1)
		}
	}
}

// retire takes every connection out of use. Questions in flight may still be answered.
func (s *stream) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range slices.Clone(s.pipes) {
		p.retire()
	}
}
