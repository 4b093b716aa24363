package listen

import (
	"context"
	"sync"
	"sync/atomic"
)

// pool bounds the work on the slow path: beyond its size, work is refused, never queued.
type pool struct {
	ctx     context.Context // given to work; set before the first
	size    int64
	running atomic.Int64
	work    sync.WaitGroup
}

func newPool(size int) *pool { return &pool{ctx: context.Background(), size: int64(size)} }

// run begins work in a goroutine of its own; false if the pool is full.
func (p *pool) run(work func(context.Context)) bool {
	if p.running.Add(1) > p.size {
		p.running.Add(-1)
		return false
	}
	p.work.Go(func() {
		defer p.running.Add(-1)
		work(p.ctx)
	})
	return true
}

// wait waits for all work to end, once nobody calls run any more.
func (p *pool) wait() { p.work.Wait() }

// idle reports whether no work is under way.
func (p *pool) idle() bool { return p.running.Load() == 0 }
