package setup

import (
	"runtime"
	"runtime/debug"
	"sync"
)

// readingGC is the value of GOGC while lists are read. Most of the heap then consists of listings, which the collector does not scan, and the heap must not
// grow to twice their size.
const readingGC = 25

// memorySaver changes settings of the Go runtime while at least one list is read: the collector runs more often, and on a machine with one
// processor Go gets a second one. With a single one, Go's scheduler would make queries wait ten milliseconds at a time; with two, the
// operating system shares the core between readers and queries. It is safe for concurrent use.
type memorySaver struct {
	mu      sync.Mutex
	readers int
	usual   int  // GOGC before the first reader
	second  bool // a processor was added
}

// enter changes the settings unless another reader already did. The caller calls end when it has finished; the last call restores the settings.
func (m *memorySaver) enter() (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.readers++; m.readers == 1 {
		m.usual = debug.SetGCPercent(readingGC)
		if m.second = runtime.GOMAXPROCS(0) == 1 && runtime.NumCPU() == 1; m.second {
			runtime.GOMAXPROCS(2)
		}
	}
	return m.leave
}

func (m *memorySaver) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.readers--; m.readers > 0 {
		return
	}
	debug.SetGCPercent(m.usual)
	if m.second {
		runtime.GOMAXPROCS(1)
	}
}
