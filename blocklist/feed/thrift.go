package feed

import (
	"runtime"
	"runtime/debug"
	"sync"
)

// readingGC is the collector's GOGC while lists are read: most of the heap is listings then, which it need not look into, and
// which must not take twice their room.
const readingGC = 25

// thrift keeps memory short while at least one list is read, and queries answered meanwhile: Go's scheduler would let them wait, on its only
// processor, for ten milliseconds at a time. With another one it is the system that shares the core between the two.
type thrift struct {
	mu      sync.Mutex
	readers int
	usual   int
	second  bool // a processor was added
}

// begin returns what is to be called at the end.
func (t *thrift) begin() (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readers++; t.readers == 1 {
		t.usual = debug.SetGCPercent(readingGC)
		if t.second = runtime.GOMAXPROCS(0) == 1 && runtime.NumCPU() == 1; t.second {
			runtime.GOMAXPROCS(2)
		}
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.readers--; t.readers == 0 {
			debug.SetGCPercent(t.usual)
			if t.second {
				runtime.GOMAXPROCS(1)
			}
		}
	}
}
