package resolver

import (
	"context"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/upstream"
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

// TestVariantsOfOneQuestionAreAskedInTurn checks that only one question for a name and type is on its way, whatever its flags are, and that all are answered.
func TestVariantsOfOneQuestionAreAskedInTurn(t *testing.T) {
	var asking, most, asked atomic.Int64
	b := newBench(t, nil)
	b.up.answer = func(ctx context.Context, q upstream.Question) (*dns.Msg, error) {
		asked.Add(1)
		most.Store(max(most.Load(), asking.Add(1)))
		defer asking.Add(-1)
		time.Sleep(20 * time.Millisecond)
		return usual(ctx, q)
	}
	var clients sync.WaitGroup
	for _, options := range [][]string{nil, {"+cd"}, {"+do"}, {"+do", "+cd"}} {
		clients.Go(func() {
			m := query(t, "www.example.com", "A", options...)
			if a := b.askFrom(netip.MustParseAddr("127.0.0.99"), m); a == nil || a.Rcode != dns.RcodeSuccess {
				t.Errorf("with %v: got %v, want NOERROR", options, a)
			}
		})
	}
	clients.Wait()
	if most.Load() != 1 || asked.Load() != 4 {
		t.Errorf("%d of %d questions were on their way at the same time, want one of four", most.Load(), asked.Load())
	}
}
