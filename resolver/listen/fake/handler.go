// Package fake has a Handler and a client for the tests of listeners.
package fake

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rempart/internal/wire"
)

// Deadline bounds every wait of these tests.
const Deadline = time.Minute

// Handler answers by the first label of the question: a label that begins with "slow" on the slow path, where it waits for the gate; "renew" at once and
// then again on the slow path; any other at once.
type Handler struct {
	Gate    func(ctx context.Context, label string) // what Slow waits for; nil: nothing
	Sheds   atomic.Int64
	Renewed atomic.Int64
	Largest atomic.Int64 // batch
	Large   int          // number of extra bytes in answers over streams
	// LargeUDP lengthens answers over UDP too, except to names that begin with "small".
	LargeUDP bool
}

func (h *Handler) Fast(batch []wire.Query) {
	h.Largest.Store(max(h.Largest.Load(), int64(len(batch))))
	for i := range batch {
		q := &batch[i]
		if q.Parse(0) == wire.NotAQuery {
			q.Outcome = wire.Dropped
			continue
		}
		if strings.HasPrefix(Label(q), "slow") {
			q.Outcome = wire.Slow
			continue
		}
		if Label(q) == "valid-cookie" {
			q.Cookie = wire.ValidCookie
		}
		Answer(q)
		h.lengthen(q)
		q.Renew = Label(q) == "renew"
	}
}

func (h *Handler) Slow(ctx context.Context, q *wire.Query) {
	if q.Renew {
		h.Renewed.Add(1)
		Answer(q)
		return
	}
	if h.Gate != nil {
		h.Gate(ctx, Label(q))
	}
	Answer(q)
	h.lengthen(q)
}

func (h *Handler) lengthen(q *wire.Query) {
	if q.Transport != wire.UDP || h.LargeUDP && !strings.HasPrefix(Label(q), "small") {
		q.Out = append(q.Out, make([]byte, h.Large)...)
	}
}

func (h *Handler) Shed(q *wire.Query) {
	h.Sheds.Add(1)
	q.Fail(wire.ServFail)
}

// Answer answers a query with the address of the client, as the query holds it.
func Answer(q *wire.Query) {
	q.Begin(wire.Success)
	if q.Type == wire.TypeA {
		q.AddAddress(1, q.Client)
	}
	q.Finish(wire.Success)
}

// Label returns the first label of the question.
func Label(q *wire.Query) string {
	name := q.Name()
	if len(name) == 0 {
		return ""
	}
	return string(name[1 : 1+name[0]])
}

// Gates release waiting queries by label, in any order.
type Gates struct {
	mu   sync.Mutex
	open map[string]chan struct{}
}

func (g *Gates) of(label string) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		g.open = map[string]chan struct{}{}
	}
	if g.open[label] == nil {
		g.open[label] = make(chan struct{})
	}
	return g.open[label]
}

func (g *Gates) Wait(ctx context.Context, label string) {
	select {
	case <-g.of(label):
	case <-ctx.Done():
	}
}

func (g *Gates) Release(label string) { close(g.of(label)) }
