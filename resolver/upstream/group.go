package upstream

import (
	"context"
	"sync"
)

// group holds the goroutines of a pool: none starts after it has ended, and end waits for all.
type group struct {
	ctx    context.Context // ends with the group
	cancel context.CancelFunc

	mu    sync.Mutex
	ended bool
	work  sync.WaitGroup
}

func newGroup() *group {
	ctx, cancel := context.WithCancel(context.Background())
	return &group{ctx: ctx, cancel: cancel}
}

// start runs f in a goroutine; false if the group has ended.
func (g *group) start(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return false
	}
	g.work.Go(f)
	return true
}

// end cancels the group's context and waits for its goroutines.
func (g *group) end() {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.cancel()
	g.work.Wait()
}
