package grants

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
)

// filterBits is the number of bits of a filter: with 4,000 clients that have grants, one other client in 260 is taken for one of them.
const filterBits = 1 << 20

// filter answers cheaply whether a client may have a grant, because nearly all clients have none: 15 instructions instead of 700. A filter holds one bit per client,
// at a place that depends on a random key of that filter.
type filter struct {
	key  uint64
	bits [filterBits / 64]atomic.Uint64
}

// filters are the filter in which new grants are noted, and the one before it. A filter is replaced when the grants that it notes have ended, so that bits of clients
// without grants do not add up.
type filters struct {
	current, previous *filter
	ends              int64 // when all grants in previous have ended
}

func newFilter() *filter {
	var raw [8]byte
	rand.Read(raw[:])
	return &filter{key: binary.LittleEndian.Uint64(raw[:])}
}

// clientWord returns the part of an address that identifies a client, as fair.Client does: an IPv4 address, or an IPv6 /64.
func clientWord(client netip.Addr) uint64 {
	if client.Is4() {
		a := client.As4()
		return uint64(binary.BigEndian.Uint32(a[:]))
	}
	a := client.As16()
	return binary.BigEndian.Uint64(a[:8])
}

// place returns the bit of a client: the upper bits of a product, which depend on all bits of the word.
func (f *filter) place(word uint64) uint64 { return (word ^ f.key) * 0x9e3779b97f4a7c15 >> (64 - 20) }

func (f *filter) has(word uint64) bool {
	at := f.place(word)
	return f.bits[at/64].Load()&(1<<(at%64)) != 0
}

func (f *filter) add(word uint64) {
	at := f.place(word)
	f.bits[at/64].Or(1 << (at % 64))
}

// may reports whether a client may have a grant.
func (f *filters) may(client netip.Addr) bool {
	word := clientWord(client)
	return f.current.has(word) || f.previous != nil && f.previous.has(word)
}

// turnFilter replaces the filter when all grants in the previous one have ended. t.mu is held.
func (t *Table) turnFilter(now int64) {
	f := t.filters.Load()
	latest := t.latest.Load()
	if now < f.ends || latest == 0 && f.previous == nil {
		return
	}
	t.filters.Store(&filters{current: newFilter(), previous: f.current, ends: max(latest, now)})
}
