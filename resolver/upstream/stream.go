package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxPipes   = 4                // connections to one upstream
	maxPending = 256              // queries in flight on one connection
	idleAfter  = 10 * time.Second // an unused connection is closed (RFC 7766 section 6.2.3)
	stallAfter = 5 * time.Second  // so is one over which nothing came for what was asked
)

var (
	errDied = errors.New("connection ended with the question unanswered")
	errFull = errors.New("too many questions in flight to this upstream")
)

// stream asks one upstream over TCP or TLS. Connections are kept, and queries pipelined:
// many in flight on one, answered in any order (RFC 7766 section 6.2.1.1).
type stream struct {
	dial    func(context.Context) (net.Conn, error)
	group   *group
	spend   func() bool    // takes leave to send a question again
	foreign *atomic.Uint64 // counts messages nobody waits for
	pad     bool

	mu    sync.Mutex // guards pipes and the state of each pipe
	pipes []*pipe    // those that take questions, the oldest first
}

// ask sends q and waits for its answer until ctx ends. echoed says whether the case of the
// question came back. A question whose connection ends under it is asked again once, over another.
func (s *stream) ask(ctx context.Context, q *Question, f form) (r reply, echoed bool, err error) {
	if r, echoed, err = s.askOnce(ctx, q, f); errors.Is(err, errDied) && ctx.Err() == nil && s.spend() {
		r, echoed, err = s.askOnce(ctx, q, f)
	}
	return r, echoed, err
}

func (s *stream) askOnce(ctx context.Context, q *Question, f form) (reply, bool, error) {
	if err := ctx.Err(); err != nil {
		return reply{}, false, err
	}
	p, c, err := s.take(q, f)
	if err != nil {
		return reply{}, false, err
	}
	select {
	case a := <-c.done:
		return a.reply, a.echoed, a.err
	case <-p.dead:
	case <-ctx.Done():
		s.mu.Lock()
		p.drop(c)
		s.mu.Unlock()
		return reply{}, false, fmt.Errorf("waiting on a connection: %w", context.Cause(ctx))
	}
	select {
	case a := <-c.done: // it came last, just before the end
		return a.reply, a.echoed, a.err
	default:
		return reply{}, false, p.err
	}
}

// take finds a connection with room for one more question, or opens one.
func (s *stream) take(q *Question, f form) (*pipe, *call, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pipes {
		if len(p.pending) < maxPending {
			return p, p.add(q, f), nil
		}
	}
	if len(s.pipes) >= maxPipes {
		return nil, nil, errFull
	}
	ctx, cancel := context.WithCancel(s.group.ctx)
	p := &pipe{
		stream: s, close: cancel, dead: make(chan struct{}),
		out: make(chan []byte, 2*maxPending), pending: map[uint16]*call{},
	}
	if !s.group.start(func() { defer cancel(); p.run(ctx) }) {
		cancel()
		return nil, nil, net.ErrClosed
	}
	s.pipes = append(s.pipes, p)
	return p, p.add(q, f), nil
}

// retire takes every connection out of use. Questions in flight may still be answered.
func (s *stream) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pipes {
		p.retired = true
		p.closeUnused()
	}
	s.pipes = nil
}
