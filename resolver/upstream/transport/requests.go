package transport

import (
	"context"
	"errors"
	"sync/atomic"
)

// requests asks by a request of its own for each question: a POST over HTTPS, a stream over QUIC.
type requests struct {
	// send sends a query, which has its length before it in two bytes, and returns the message that answers it. The error is ErrDied if the connection ended.
	send  func(ctx context.Context, framed []byte) ([]byte, error)
	spend func(free bool) bool // notes that a question is sent again; false if it must not be

	inFlight atomic.Int64
}

// ask sends q and waits for its answer until ctx ends. echoed reports whether the answer repeated the case of the question. A question whose connection ends is sent
// again once, over another connection. The ID is 0 (RFC 8484 section 4.1, RFC 9250 section 4.2.1).
func (s *requests) ask(ctx context.Context, q *Question, f Form) (r Reply, echoed bool, err error) {
	if s.inFlight.Add(1) > maxRequests {
		s.inFlight.Add(-1)
		return r, false, errFull
	}
	defer s.inFlight.Add(-1)
	framed := appendFrame(make([]byte, 0, maxQuery), q, 0, f)
	msg, err := s.send(ctx, framed)
	if errors.Is(err, ErrDied) && ctx.Err() == nil && s.spend(true) {
		msg, err = s.send(ctx, framed)
	}
	if err != nil {
		return r, false, err
	}
	o := receive(msg, &call{question: q, sent: framed[2:]})
	return o.reply, o.echoed, o.err
}
