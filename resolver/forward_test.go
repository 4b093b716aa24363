package resolver

import (
	"context"
	"os"
	"sync"
	"testing"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
)

// byForward makes Continue use Forward.
var byForward bool

// TestMain runs all tests twice: queries that Fast leaves are continued by Slow, then by Forward.
func TestMain(m *testing.M) {
	os.Exit(dnstest.RunTwice(m, "by Forward", func() { byForward = true }))
}

// returned is a Returner for one query.
type returned chan struct{}

func (r returned) Return([]*wire.Query) { close(r) }

var forwarding sync.Mutex // one call of Forward at a time

// Continue continues a query that Fast left, and returns when it is answered.
func Continue(ctx context.Context, w *Worker, q *wire.Query) {
	if !byForward {
		w.Slow(ctx, q)
		return
	}
	done := make(returned)
	q.Return = done
	renewal := q.Renew
	forwarding.Lock()
	left := w.Forward(context.Background(), []*wire.Query{q})
	forwarding.Unlock()
	if len(left) > 0 {
		w.Slow(ctx, q)
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
	if renewal { // Slow returns after the renewal
		w.flights.running.Wait()
		q.Outcome = wire.Answered
	}
}
