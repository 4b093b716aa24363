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
	if !p.take(client) {
		return false
	}
	p.start(client, work)
	return true
}

// start starts work for a client that has a place, and frees the place at its end.
func (p *pool) start(client netip.Addr, work func(context.Context)) {
	go func() {
		defer p.free(client)
		work(p.ctx)
	}()
}

// take takes a place for work for a client, and reports whether there was one.
func (p *pool) take(client netip.Addr) bool {
	if !p.places.Take(fair.Client(client)) {
		return false
	}
	p.running.Add(1)
	p.work.Add(1)
	return true
}

// free gives back a place that take took.
func (p *pool) free(client netip.Addr) {
	p.places.Return(fair.Client(client))
	p.running.Add(-1)
	p.work.Done()
}

// wait waits for all work to end, once nobody calls run or take any more.
func (p *pool) wait() { p.work.Wait() }

// idle reports whether no work is under way.
func (p *pool) idle() bool { return p.running.Load() == 0 }
