package transport

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Request is a question for Transport.Exchange, with the datagram that the caller sent for it already.
type Request struct {
	Question
	Sent   *Datagram // the datagram that was sent for the question already; nil if there is none
	Partly func()    // called when the upstream has answered over UDP, but truncated or not beyond doubt; may be nil

	// OfferCookie makes Exchange offer a client cookie over UDP if it is not known whether the upstream echoes cookies (RFC 7873). Exchange then takes up to a
	// second longer if the upstream does not answer queries with the option.
	OfferCookie bool
}

// Datagram is a query with an OPT that was sent, over UDP or by Post, before Exchange was called: the first attempt of Exchange waits for its answer instead of
// sending another query. The caller that receives the answer calls Deliver; an answer over UDP it judges by JudgeDatagram first.
type Datagram struct {
	At     time.Time // when it was sent
	used   atomic.Bool
	result chan Result // has room for one
}

// Result is an answer to a Datagram, or the reason why there is none.
type Result struct {
	Reply Reply
	Err   error
}

// NewDatagram returns a Datagram that was sent at the time at.
func NewDatagram(at time.Time) *Datagram {
	return &Datagram{At: at, result: make(chan Result, 1)}
}

// Deliver ends the wait for the answer. It is called once at most, and does not block.
func (d *Datagram) Deliver(r Result) { d.result <- r }

// wait waits for the answer to the datagram until ctx ends.
func (d *Datagram) wait(ctx context.Context) (Reply, error) {
	select {
	case r := <-d.result:
		return r.Reply, r.Err
	case <-ctx.Done():
		return Reply{}, fmt.Errorf("waiting over UDP: %w", context.Cause(ctx))
	}
}
