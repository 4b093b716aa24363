// Package fair shares a bounded number of places among those who want them.
package fair

import (
	"net/netip"
	"sync"
)

// few is the part of all places below which a key or a group holds few: one in so many.
const few = 64

// Places are a bounded number of places, taken under a key, such as the address of a client or the zone of a question, of a group, such as the client's
// network. Some are reserved for keys that hold few, and half of those for groups that hold few. So whatever one key or group asks for, others get places. A
// key that has no group is its own. The methods may be called concurrently.
type Places[K comparable] struct {
	size, reserved int

	mu    sync.Mutex
	taken int
	by    map[K]int // keys and groups
}

// New returns that many free places, some of them reserved.
func New[K comparable](size, reserved int) *Places[K] {
	return &Places[K]{size: size, reserved: reserved, by: map[K]int{}}
}

// Take takes a place under key, and reports whether there was one. The caller gives it back by Return.
func (p *Places[K]) Take(key, group K) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	most := max(1, p.size/few)
	switch free := p.size - p.taken; {
	case free <= 0,
		free <= p.reserved && p.by[key] >= most,
		free <= p.reserved/2 && p.by[group] >= most:
		return false
	}
	p.taken++
	p.by[key]++
	if group != key {
		p.by[group]++
	}
	return true
}

// Return gives a place back that was taken under key and group.
func (p *Places[K]) Return(key, group K) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	p.leave(key)
	if group != key {
		p.leave(group)
	}
}

func (p *Places[K]) leave(key K) {
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

// Client returns what places of a client are taken under: its address (of IPv6 its /64, within which a machine chooses its address), and its network
// (IPv4 /24, IPv6 /48), which one person may have all of.
func Client(addr netip.Addr) (client, network netip.Prefix) {
	bits, wide := 32, 24
	if addr.Is6() {
		bits, wide = 64, 48
	}
	client, _ = addr.Prefix(bits)
	network, _ = addr.Prefix(wide)
	return client, network
}
