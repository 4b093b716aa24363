// Package grants holds the grants of clients in memory. A grant lets one client reach one blocked name, and the names below it, for a limited time.
package grants

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"rempart/internal/fair"
)

// The bounds of a table: 65,536 grants in 1 MiB, and filters of 128 KiB.
const (
	buckets    = 1 << 10
	places     = 64 // of a bucket
	perClient  = 32 // grants of one client (an IPv4 address or an IPv6 /64) at a time
	perNetwork = 48 // grants of one network (IPv4 /24, IPv6 /48) at a time
)

// Table holds a bounded number of grants. It holds neither addresses nor names, but hashes of them under a random key that changes every day. Its methods may
// be called concurrently. May and Until take no lock.
//
// All grants of a network are in one bucket, which a hash of the network chooses. So a network can displace only grants of the few networks in the same bucket,
// and leaves them at least places-perNetwork places in all.
//
// Times are seconds of a clock that never decreases, at least 0.
type Table struct {
	keys    atomic.Pointer[keys]
	filters atomic.Pointer[filters]
	latest  atomic.Int64 // the end of the grant that ends last; 0: there was none

	mu      sync.Mutex // held by writers
	buckets []bucket
}

// bucket holds the grants of the networks that share it. Grant i is meta[i] and hash[i]. Writers set meta[i] to 0 before they change hash[i].
type bucket struct {
	clients atomic.Uint64 // bit i is set if a client with who%64 == i may have a grant here
	meta    [places]meta
	hash    [places]atomic.Uint64 // of client and name
}

// meta is the end of a grant (upper half) and a hash of its network and client (lower half, see place); 0: a free place.
type meta struct{ atomic.Uint64 }

func (m *meta) load() (end int64, who uint32) {
	v := m.Load()
	return int64(v >> 32), uint32(v)
}

// New returns an empty table whose first key is in use from now on.
func New(now int64) *Table {
	t := &Table{buckets: make([]bucket, buckets)}
	t.keys.Store(&keys{current: newKey(), changes: now + keyLife})
	t.filters.Store(&filters{current: newFilter()})
	return t
}

// May reports whether a client may have a grant at now. It is cheap. It is true for every client with a grant, and false for nearly all others.
func (t *Table) May(client netip.Addr, now int64) bool {
	return now < t.latest.Load() && t.filters.Load().may(client)
}

// Until returns the end of the grant by which a client may reach a canonical name at now; 0 if it has none. If several grants apply, Until returns the latest
// end. It allocates nothing.
func (t *Table) Until(client netip.Addr, name []byte, now int64) int64 {
	if !t.May(client, now) {
		return 0
	}
	own, network := fair.Client(client)
	k := t.keys.Load()
	end := t.find(&k.current, own, network, name, now)
	if k.previous != nil {
		end = max(end, t.find(k.previous, own, network, name, now))
	}
	return end
}

// find does the work of Until for the grants under one key.
func (t *Table) find(k *key, own, network netip.Prefix, name []byte, now int64) (until int64) {
	at, who := k.place(own, network)
	b := &t.buckets[at]
	if b.clients.Load()&(1<<(who%64)) == 0 {
		return 0
	}
	var found [places]uint8
	n := 0
	for i := range b.meta {
		if end, of := b.meta[i].load(); of == who && end > now {
			found[n] = uint8(i)
			n++
		}
	}
	for ; n > 0 && name[0] != 0; name = name[1+name[0]:] {
		hash := k.grant(own, name)
		for _, i := range found[:n] {
			if b.hash[i].Load() == hash {
				if end, of := b.meta[i].load(); of == who && end > now {
					until = max(until, end)
				}
			}
		}
	}
	return until
}

// Grant lets a client reach a canonical name and the names below it from now until end. If the client already has a grant for this name, the later end applies.
// If the client, its network or the bucket has no place left, the new grant replaces the grant of the client, of the network or of the bucket that ends first.
func (t *Table) Grant(client netip.Addr, name []byte, end, now int64) {
	if end <= now {
		return
	}
	own, network := fair.Client(client)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	k := &t.keys.Load().current
	at, who := k.place(own, network)
	b, hash := &t.buckets[at], k.grant(own, name)
	i, have := b.choose(who, hash, now)
	end = max(end, have)
	b.meta[i].Store(0)
	b.hash[i].Store(hash)
	b.meta[i].Store(uint64(end)<<32 | uint64(who))
	b.clients.Or(1 << (who % 64))
	t.filters.Load().current.add(clientWord(client))
	t.latest.Store(max(t.latest.Load(), end))
}

// choose returns the place for a grant, and the end of the same grant if the bucket already holds it, else 0.
func (b *bucket) choose(who uint32, hash uint64, now int64) (place int, have int64) {
	free := -1
	var client, network, all oldest
	for i := range b.meta {
		end, of := b.meta[i].load()
		switch {
		case end <= now:
			free = i
			continue
		case of == who && b.hash[i].Load() == hash:
			return i, end
		case of == who:
			client.see(i, end)
		}
		if networkOf(of) == networkOf(who) {
			network.see(i, end)
		}
		all.see(i, end)
	}
	switch {
	case client.n >= perClient:
		return client.place, 0
	case network.n >= perNetwork:
		return network.place, 0
	case free >= 0:
		return free, 0
	}
	return all.place, 0
}

// oldest is the grant that ends first, among n grants that see was called with.
type oldest struct {
	n, place int
	end      int64
}

func (o *oldest) see(place int, end int64) {
	if o.n == 0 || end < o.end {
		o.place, o.end = place, end
	}
	o.n++
}

// Tend replaces the key when its day has ended, and removes the grants that have ended. The caller calls it every few seconds.
func (t *Table) Tend(now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	t.turnFilter(now)
	if t.latest.Load() == 0 {
		return
	}
	for at := range t.buckets {
		b := &t.buckets[at]
		clients := uint64(0)
		for i := range b.meta {
			switch end, who := b.meta[i].load(); {
			case end > now:
				clients |= 1 << (who % 64)
			case end > 0:
				b.meta[i].Store(0)
				b.hash[i].Store(0)
			}
		}
		b.clients.Store(clients)
	}
	if now >= t.latest.Load() {
		t.latest.Store(0) // nothing is left
	}
}
