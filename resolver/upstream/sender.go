package upstream

import (
	"context"
	"time"

	"rempart/resolver/upstream/transport"
)

// Pending is a question on its way to an upstream without a goroutine of its own. Its owner sets Question and passes it to Sender.Send; from then on it
// belongs to the Sender, until the Sender passes it to its receiver.
type Pending struct {
	Question     // Name must not change while the question is on its way
	Owner    any // of the caller's choice

	// Set when the question has ended. Answer.Packed is valid only until the receiver returns.
	Answer Answer
	Err    error

	sending // the datagram that was sent for it
}

// Sender sends questions in batches. One goroutine at a time may use it; other goroutines call its receiver, concurrently.
type Sender struct {
	current func() *Pool // the pool to use now; nil if there is none
	receive func([]*Pending)
	limit   time.Duration
	line    *line // to the pool that was used last
}

// NewSender returns a Sender to this pool. receive is called with questions that have ended, concurrently, by the goroutines that read
// answers: it should not wait for long. A question ends after limit at the
// latest.
func (p *Pool) NewSender(limit time.Duration, receive func([]*Pending)) *Sender {
	return &Sender{current: func() *Pool { return p }, limit: limit, receive: receive}
}

// NewSender returns a Sender to the current pool, as Pool.NewSender does.
func (s *Switch) NewSender(limit time.Duration, receive func([]*Pending)) *Sender {
	return &Sender{current: s.current.Load, limit: limit, receive: receive}
}

// Send sends questions to the healthy upstream that the strategy chooses, over UDP sockets or connections that many questions share. It does not wait for
// answers. Send returns the questions that it cannot send, and the caller should ask them by Exchange: if no upstream is healthy, if no connection has room, or
// if the upstream is asked over HTTPS or QUIC or does not understand EDNS. The returned slice may be a part of batch.
//
// An answer that settles a question ends it. A race (see race.go) continues a question if its answer is late, truncated or an error, if the answer does not echo
// the case of the question or the cookie of the query, or if the query was refused or lost with its connection. The first attempt of the race is the query that
// was sent. If there are too many races, a question whose answer is late keeps waiting, and any other such question ends with ErrBusy.
func (s *Sender) Send(batch []*Pending) (left []*Pending) {
	p := s.current()
	if p == nil {
		return batch
	}
	if s.line == nil || s.line.pool != p {
		s.line = newLine(p, s.limit, s.receive)
	}
	return s.line.send(batch)
}

// Close ends all questions on their way with an error, and closes the sockets. Send must not be called any more.
func (s *Sender) Close() {
	if s.line != nil {
		s.line.stop()
	}
}

// after returns how long a question waits for the answer of m before a race continues the question: until it would be hedged, sent again, or sent without EDNS.
func (m *member) after(t *transport.Transport, q *Question, alone bool) time.Duration {
	wait := min(m.health.patience(), t.PlainAfter(q))
	if hedge, known := m.health.hedgeAfter(); known && !alone {
		wait = min(wait, hedge)
	}
	return wait
}

// race continues a question with a race whose first attempt is the datagram that was sent to m. The race ends at limit, or with ctx.
func (p *Pool) race(ctx context.Context, m *member, q Question, sent *transport.Datagram, limit time.Time) (Answer, error) {
	ctx, cancel := context.WithDeadline(ctx, limit)
	defer cancel()
	lanes := []lane{{member: m, good: m.health.state().good}}
	for _, l := range p.order() {
		if l.member != m {
			lanes = append(lanes, l)
		}
	}
	a, err := p.settle(ctx, q, lanes, sent)
	if err != nil {
		p.unanswered.Add(1)
	}
	return a, err
}
