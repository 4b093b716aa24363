package listen

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"

	"rempart/internal/fair"
)

// pool bounds the work on the slow path: above its size, work is refused, never queued. Clients share it fairly.
type pool struct {
	ctx     context.Context // given to work; set before the first
	places  *fair.Places[netip.Prefix]
	running atomic.Int64
	work    sync.WaitGroup
}

func newPool(size int) *pool {
	return &pool{ctx: context.Background(), places: fair.New[netip.Prefix](size, size/4)}
}

// run starts work for a client in a new goroutine. It returns false if there is no place.
func (p *pool) run(client netip.Addr, work func(context.Context)) bool {
	own, network := fair.Client(client)
	if !p.places.Take(own, network) {
		return false
	}
	p.running.Add(1)
	p.work.Go(func() {
		defer p.places.Return(own, network)
		defer p.running.Add(-1)
		work(p.ctx)
	})
	return true
}

// wait waits for all work to end, once nobody calls run any more.
func (p *pool) wait() { p.work.Wait() }

// idle reports whether no work is under way.
func (p *pool) idle() bool { return p.running.Load() == 0 }
