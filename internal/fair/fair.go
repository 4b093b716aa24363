// Package fair shares a bounded number of places among those who want them.
package fair

import "sync"

const (
	reserved = 4  // one in so many places is for keys that hold few
	few      = 64 // a key that holds less than one in so many places holds few
)

// Places are a bounded number of places, taken under keys such as the network of a client or the zone of a question. One key may hold most of them, but
// not the last quarter, which is for keys that hold few: whatever one key asks for, others get places. Its methods may be called concurrently.
type Places[K comparable] struct {
	size int

	mu    sync.Mutex
	taken int
	by    map[K]int
}

// New returns that many free places.
func New[K comparable](size int) *Places[K] { return &Places[K]{size: size, by: map[K]int{}} }

// Take takes a place under key, and reports whether there was one. The caller gives it back by Return.
func (p *Places[K]) Take(key K) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken >= p.size || p.taken >= p.size-p.size/reserved && p.by[key] >= max(1, p.size/few) {
		return false
	}
	p.taken++
	p.by[key]++
	return true
}

// Return gives a place back that was taken under key.
func (p *Places[K]) Return(key K) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.by[key]--; p.by[key] == 0 {
		delete(p.by, key)
	}
}

// Taken is how many places are taken.
func (p *Places[K]) Taken() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}
