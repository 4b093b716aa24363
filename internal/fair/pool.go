package fair

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Pool bounds work for clients: above its size, work is refused, never queued. Clients share it fairly. Its methods may be called concurrently.
type Pool struct {
	ctx     context.Context // given to work
	places  *Places[netip.Prefix]
	running atomic.Int64
	work    sync.WaitGroup
}

// NewPool returns a pool without work.
func NewPool(size int) *Pool {
	return &Pool{ctx: context.Background(), places: New[netip.Prefix](size, size/4)}
}

// SetContext sets the context that is given to work. It is called before any work is started.
func (p *Pool) SetContext(ctx context.Context) { p.ctx = ctx }

// Context returns the context that is given to work.
func (p *Pool) Context() context.Context { return p.ctx }

// Run starts work for a client in a new goroutine. It returns false if there is no place.
func (p *Pool) Run(client netip.Addr, work func(context.Context)) bool {
	if !p.Take(client) {
		return false
	}
	p.Start(client, work)
	return true
}

// Start starts work for a client that has a place, and frees the place at its end.
func (p *Pool) Start(client netip.Addr, work func(context.Context)) {
	go func() {
		defer p.Free(client)
		work(p.ctx)
	}()
}

// Take takes a place for work for a client, and reports whether there was one.
func (p *Pool) Take(client netip.Addr) bool {
	if !p.places.Take(Client(client)) {
		return false
	}
	p.running.Add(1)
	p.work.Add(1)
	return true
}

// Free gives back a place that Take took.
func (p *Pool) Free(client netip.Addr) {
	p.places.Return(Client(client))
	p.running.Add(-1)
	p.work.Done()
}

// Wait waits for all work to end, once nobody calls Run or Take any more.
func (p *Pool) Wait() { p.work.Wait() }

// Running returns the number of places that are taken.
func (p *Pool) Running() int64 { return p.running.Load() }
