package guard

import (
	"hash/maphash"
	"math/bits"
)

// fact is the knowledge about a name: bits, and above them its rank, 0 for none.
type fact uint32

const (
	isSuffix       fact = 1 << iota // a public suffix by a rule of its own
	isWildcard                      // every name right below it is a public suffix
	holdsSuffix                     // a public suffix is below it
	isProtected                     // essential, itself
	isRealm                         // essential, with everything below it
	holdsProtected                  // an essential name is below it
	isOwn                           // a name of this service
	isShared                        // many people publish under it
	holdsPopular                    // a name within the bound is below it

	rankShift      = 9
	maxRank        = 1<<23 - 1
	flags     fact = 1<<rankShift - 1
)

func (f fact) rank() int { return int(f >> rankShift) }

// join returns the union of two facts, with the better of two ranks.
func join(f, g fact) fact {
	a, b := f&^flags, g&^flags
	if a == 0 || b != 0 && b < a {
		a = b
	}
	return a | (f|g)&flags
}

// table holds facts about names by the hashes of their canonical wire format. No name is stored. The seed is random for each table: with a hash that anyone can
// compute, the owner of a malicious name could choose one that collides with a popular name and is held in its place. By chance, one name in 2^63 divided by
// the number of names is taken for another.
type table struct {
	seed   maphash.Seed
	hashes []uint64 // open addressing, linear probing; 0 is free
	facts  []fact   // of the hash at the same place
	used   int
	maybe  []uint64 // one bit per hash, by its low bits: small enough to stay in the processor's cache, for names that are not in the table
}

// newTable returns a table with room for that many names before it grows.
func newTable(names int) *table {
	t := &table{seed: maphash.MakeSeed()}
	t.resize(1 << bits.Len(uint(max(64, names*8/7))))
	return t
}

// resize makes t empty, with that size, a power of two.
func (t *table) resize(size int) {
	t.hashes, t.facts, t.maybe = make([]uint64, size), make([]fact, size), make([]uint64, size/4)
}

// hash is never 0, which marks a free place.
func (t *table) hash(name []byte) uint64 { return maphash.Bytes(t.seed, name) | 1 }

// find returns the place of a hash, or the free place for it.
func (t *table) find(hash uint64) int {
	home, _ := bits.Mul64(hash, uint64(len(t.hashes))) // by the high bits
	at := int(home)
	for t.hashes[at] != hash && t.hashes[at] != 0 {
		if at++; at == len(t.hashes) {
			at = 0
		}
	}
	return at
}

// maybeBit returns the place of the bit of a hash: the word, and the bit in it.
func (t *table) maybeBit(hash uint64) (word int, bit uint64) {
	at := hash >> 1
	return int(at / 64 & uint64(len(t.maybe)-1)), 1 << (at % 64)
}

// of returns the fact of name; 0 if name is not in the table.
func (t *table) of(name []byte) fact {
	hash := t.hash(name)
	if word, bit := t.maybeBit(hash); t.maybe[word]&bit == 0 {
		return 0
	}
	if at := t.find(hash); t.hashes[at] == hash {
		return t.facts[at]
	}
	return 0
}

// put stores a hash at the free place that find returned.
func (t *table) put(at int, hash uint64) {
	t.hashes[at] = hash
	word, bit := t.maybeBit(hash)
	t.maybe[word] |= bit
}

// add joins f to the fact of name, and returns the fact before.
func (t *table) add(name []byte, f fact) (before fact) {
	if t.used*8 >= len(t.hashes)*7 {
		t.grow()
	}
	hash := t.hash(name)
	at := t.find(hash)
	if t.hashes[at] == 0 {
		t.put(at, hash)
		t.used++
	}
	before = t.facts[at]
	t.facts[at] = join(before, f)
	return before
}

// addAbove joins f to each name above name except its top-level domain. If one of them has f, so have the names above it.
func (t *table) addAbove(name []byte, f fact) {
	for s := parent(name); labelsAtLeast2(s); s = parent(s) {
		if t.add(s, f)&f == f {
			return
		}
	}
}

func (t *table) grow() {
	hashes, facts := t.hashes, t.facts
	t.resize(2 * len(hashes))
	for i, hash := range hashes {
		if hash != 0 {
			at := t.find(hash)
			t.put(at, hash)
			t.facts[at] = facts[i]
		}
	}
}
