package upstream

import (
	"context"
	"os"
	"slices"
	"testing"

	"rempart/internal/dnstest"
)

// bySender makes exchangeWith use a Sender.
var bySender bool

// TestMain runs all tests twice: questions are asked by Exchange, then by a Sender.
func TestMain(m *testing.M) {
	os.Exit(dnstest.RunTwice(m, "by a Sender", func() { bySender = true }))
}

// exchangeWith asks p a question by Exchange or, where a Sender sends it, by a Sender.
func exchangeWith(p *Pool, ctx context.Context, q Question) (Answer, error) {
	if !bySender {
		return p.Exchange(ctx, q)
	}
	ended := make(chan *Pending, 1)
	s := p.NewSender(p.timeout, func(all []*Pending) {
		for _, q := range all {
			q.Answer.Packed = slices.Clone(q.Answer.Packed)
			ended <- q
		}
	})
	if left := s.Send([]*Pending{{Question: q}}); len(left) > 0 {
		return p.Exchange(ctx, q)
	}
	select {
	case q := <-ended:
		return q.Answer, q.Err
	case <-ctx.Done():
		if context.Cause(ctx) == context.DeadlineExceeded {
			return Answer{}, ErrUnreachable
		}
		return Answer{}, ctx.Err()
	}
}
