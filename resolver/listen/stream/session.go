package stream

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"rempart/internal/wire"
)

// session is an open connection, over TCP or over QUIC.
type session interface {
	base() *sessionBase
	lastUse() int64 // when the last query arrived, in Unix nanoseconds
	stop()          // takes no further queries
	abort()         // ends it at once
}

// sessionBase is the part of every session that does not depend on its transport: the client, what it has not taken yet, and its queries on the slow path.
type sessionBase struct {
	server    *Server
	transport wire.Transport
	client    netip.Addr
	local     netip.Addr
	asked     atomic.Int64  // when the last query arrived, in Unix nanoseconds; at first, when the session was opened
	untaken   atomic.Int64  // bytes of answers that were not written yet; over QUIC also of incomplete queries
	slots     chan struct{} // one is taken by each query on the slow path, until its answer is written
	slow      sync.WaitGroup
}

func (b *sessionBase) base() *sessionBase { return b }

// lastUse returns when the last query arrived, in Unix nanoseconds.
func (b *sessionBase) lastUse() int64 { return b.asked.Load() }

// query prepares q for a message that arrived in the session. idle is how long the connection may stay idle, for the answer; 0 over QUIC, where no answer says it.
func (b *sessionBase) query(q *wire.Query, packet []byte, idle time.Duration) {
	q.Packet, q.Client, q.Local, q.Transport, q.Idle = packet, b.client, b.local, b.transport, uint16(idle/(100*time.Millisecond))
}

// handOver copies a query to the slow path, and waits while this session has its share there. post is called with the answered copy, unless the query is a
// renewal, and calls done when the answer was sent. handOver returns false if there is no place at all.
func (b *sessionBase) handOver(q *wire.Query, post func(*wire.Query)) bool {
	b.slots <- struct{}{}
	copied := *q
	copied.Packet = append([]byte(nil), q.Packet...)
	copied.Out = nil
	b.slow.Add(1)
	ok := b.server.config.Pool.Run(b.client, func(ctx context.Context) {
		renew := copied.Renew
		b.server.config.Handler.Slow(ctx, &copied)
		if copied.Outcome == wire.Answered && !renew && len(copied.Out) > 0 {
			post(&copied)
			return
		}
		b.done(1)
	})
	if !ok {
		b.done(1)
	}
	return ok
}

// answerLater copies a query to the slow path as handOver does. It calls send with the answered copy in a goroutine of its own, so that a client that reads no answers
// does not delay other clients on the slow path. It returns false if there is no place.
func (b *sessionBase) answerLater(q *wire.Query, send func(*wire.Query)) bool {
	return b.handOver(q, func(answered *wire.Query) {
		go func() {
			defer b.done(1)
			send(answered)
		}()
	})
}

// done gives back the slots of n queries.
func (b *sessionBase) done(n int) {
	for range n {
		<-b.slots
		b.slow.Done()
	}
}
