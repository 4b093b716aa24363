package grants

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"

	"github.com/dchest/siphash"
)

// keyLife is the time in seconds after which a new key is made.
const keyLife = 24 * 60 * 60

// keys are the keys of the hashes in a table. They are immutable.
type keys struct {
	current  key
	changes  int64 // when a new key is made
	previous *key  // nil: none
	forgets  int64 // when the last grant under the previous key has ended
}

// turn replaces the key if its day has ended, and forgets the previous key if no grant under it is left. t.mu is held.
func (t *Table) turn(now int64) {
	k := *t.keys.Load()
	switch {
	case now >= k.changes:
		old := k.current
		k = keys{current: newKey(), changes: now + keyLife, previous: &old, forgets: t.latest.Load()}
		if now >= k.forgets {
			k.previous = nil
		}
	case k.previous != nil && now >= k.forgets:
		k.previous = nil
	default:
		return
	}
	t.keys.Store(&k)
}

// key is the key of SipHash-2-4.
type key struct{ k0, k1 uint64 }

func newKey() key {
	var raw [16]byte
	rand.Read(raw[:])
	return key{binary.LittleEndian.Uint64(raw[:]), binary.LittleEndian.Uint64(raw[8:])}
}

// The first byte of every hashed input, so that no input of one kind equals one of another.
const (
	hashOfNetwork = iota
	hashOfClient
	hashOfGrant
)

// prefixBytes is the length of a prefix in an input: its family, and the bytes of the longest IPv6 prefix in use.
const prefixBytes = 1 + 8

// place returns the bucket of a network, and the hashes of network (upper half) and client (lower half), by which their grants in the bucket are found.
func (k *key) place(own, network netip.Prefix) (bucket int, who uint32) {
	var in [1 + prefixBytes]byte
	in[0] = hashOfNetwork
	put(in[1:], network)
	n := siphash.Hash(k.k0, k.k1, in[:])
	in[0] = hashOfClient
	put(in[1:], own)
	c := siphash.Hash(k.k0, k.k1, in[:])
	return int(n % buckets), uint32(n>>32)<<16 | uint32(c>>48)
}

// networkOf returns the hash of the network.
func networkOf(who uint32) uint32 { return who >> 16 }

// grant returns the hash of a client and a canonical name.
func (k *key) grant(own netip.Prefix, name []byte) uint64 {
	var in [1 + prefixBytes + 255]byte
	in[0] = hashOfGrant
	put(in[1:], own)
	n := 1 + prefixBytes + copy(in[1+prefixBytes:], name)
	return siphash.Hash(k.k0, k.k1, in[:n])
}

// put writes an IPv4 address or network, or an IPv6 prefix of at most 64 bits, to in.
func put(in []byte, p netip.Prefix) {
	addr := p.Addr()
	if addr.Is4() {
		a := addr.As4()
		in[0] = 4
		copy(in[1:prefixBytes], a[:])
		return
	}
	a := addr.As16()
	in[0] = 6
	copy(in[1:prefixBytes], a[:8])
}
