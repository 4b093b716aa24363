// Package fair shares a bounded number of places among those who want them.
package fair

import (
	"net/netip"
	"sync"
)

// A key or a group that holds less than 1/few of all places holds few.
const few = 64

// Places are a bounded number of places. A place is taken under a key, such as the address of a client or the zone of a question, and under the group of
// the key, such as the client's network. Some places are reserved for keys that hold few, and half of the reserved ones for groups that hold few: however
// many places one key or group asks for, others get some. A key without a group is its own group. The methods may be called concurrently.
type Places[K comparable] struct {
	size, reserved int

	mu    sync.Mutex
	taken int
	by    map[K]int // keys and groups
}

// New returns size free places, of which reserved are for keys that hold few.
func New[K comparable](size, reserved int) *Places[K] {
	return &Places[K]{size: size, reserved: reserved, by: map[K]int{}}
}

// Take takes a place under key and group, and reports whether it got one. The caller gives the place back by Return.
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
	p.release(key)
	if group != key {
		p.release(group)
	}
}

func (p *Places[K]) release(key K) {
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

// Client returns the key and the group under which a client takes places. The key is the client's address, or its IPv6 /64, in which a machine chooses its
// own addresses. The group is the network (IPv4 /24, IPv6 /48), all of which may belong to one person.
func Client(addr netip.Addr) (client, network netip.Prefix) {
	bits, wide := 32, 24
	if addr.Is6() {
		bits, wide = 64, 48
	}
	client, _ = addr.Prefix(bits)
	network, _ = addr.Prefix(wide)
	return client, network
}
