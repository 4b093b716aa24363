// Package cache holds packed answers and ages them. It is a set-associative table with CLOCK eviction, bounded in bytes: a lookup reads one cache line of the
// table, takes no lock and allocates nothing; storing locks a stripe of the table for a moment.
package cache

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"

	"rempart/internal/wire"
)

const (
	ways       = 7   // slots of a bucket: with their tags they fill one cache line
	stripes    = 256 // locks for storing
	meanEntry  = 512 // bytes, for the number of slots
	minBuckets = 64
	// MinBytes is the smallest bound that New accepts: room for a few answers of any size.
	MinBytes = 1 << 20
)

// bucket is one cache line. A tag is eight bits of the hash of its slot's key, so that few slots that do not match are read.
type bucket struct {
	tags  atomic.Uint64 // byte i belongs to slots[i]
	slots [ways]atomic.Pointer[Answer]
}

// Cache is a bounded store of answers, safe for concurrent use.
type Cache struct {
	seed    maphash.Seed
	buckets []bucket
	limit   int64
	used    atomic.Int64 // bytes of the answers held
	entries atomic.Int64
	evicted atomic.Uint64
	hand    atomic.Uint64 // the bucket the eviction clock points at
	locks   [stripes]sync.Mutex
}

// New returns an empty cache that holds at most limit bytes of answers.
func New(limit int64) (*Cache, error) {
	if limit < MinBytes {
		return nil, fmt.Errorf("a cache of %d bytes is too small: %d is the least", limit, MinBytes)
	}
	return &Cache{
		seed:    maphash.MakeSeed(),
		buckets: make([]bucket, max(minBuckets, limit/meanEntry/ways)),
		limit:   limit,
	}, nil
}

// Stats are the statistics of a cache.
type Stats struct {
	Bytes, Limit, Entries int64
	Evicted               uint64
}

// Stats returns the present statistics.
func (c *Cache) Stats() Stats {
	return Stats{c.used.Load(), c.limit, c.entries.Load(), c.evicted.Load()}
}

// Hash returns the key's hash in this cache, seeded per process, so that nobody outside can choose names for one bucket.
func (c *Cache) Hash(key *Key) uint64 {
	h := maphash.Bytes(c.seed, key.Name)
	rest := uint64(key.Type)<<16 | uint64(key.Class)
	if key.DO {
		rest |= 1 << 32
	}
	if key.CD {
		rest |= 1 << 33
	}
	// A multiplication by an odd constant and a fold spread type and flags over the bits.
	h ^= rest * 0x9e3779b97f4a7c15
	return h ^ h>>29
}

func (c *Cache) bucket(hash uint64) (int, *bucket) {
	i, _ := bits.Mul64(hash, uint64(len(c.buckets)))
	return int(i), &c.buckets[i]
}

func tagOf(hash uint64) uint64 { return hash&0xff | 1 } // 0 is an empty slot's

// Near makes the processor read ahead the memory that Get will read for a batch of keys, and stores their hashes in them: each step is done for all keys before
// the next, so that the reads overlap. It does not change the results of Get.
func (c *Cache) Near(keys []Key) {
	for i := range keys {
		keys[i].hash = c.Hash(&keys[i])
	}
	if len(keys) < 2 {
		return // nothing would overlap
	}
	near := uint64(0) // without a meaning: it keeps the compiler from removing the reads
	for i := range keys {
		_, b := c.bucket(keys[i].hash)
		near += b.tags.Load()
	}
	for i := range keys {
		if e := c.likely(keys[i].hash); e != nil {
			near += e.hash + uint64(e.uses.Load())
		}
	}
	for i := range keys {
		if e := c.likely(keys[i].hash); e != nil {
			near += uint64(e.data[0])
		}
	}
	runtime.KeepAlive(near)
}

// likely returns the first answer with the tag of hash: mostly the one that Get returns.
func (c *Cache) likely(hash uint64) *Answer {
	_, b := c.bucket(hash)
	for i, tags := 0, b.tags.Load(); i < ways; i, tags = i+1, tags>>8 {
		if tags&0xff == tagOf(hash) {
			return b.slots[i].Load()
		}
	}
	return nil
}

// Get returns the answer of key, fresh or not, or nil. It takes no lock and allocates nothing.
func (c *Cache) Get(key *Key) *Answer {
	hash := key.hash
	if hash == 0 {
		hash = c.Hash(key)
	}
	_, b := c.bucket(hash)
	tags, tag := b.tags.Load(), tagOf(hash)
	for i := range b.slots {
		if tags>>(8*i)&0xff != tag {
			continue
		}
		if e := b.slots[i].Load(); e != nil && e.matches(hash, key) {
			if n := e.uses.Load(); n < maxUses {
				e.uses.Store(n + 1) // a lost update only makes the eviction a little less exact
			}
			return e
		}
	}
	return nil
}

// Put stores an answer in place of the one with the same key. A failure does not replace an answer that can still be served at now, but marks that answer; a
// failure that reports a bogus name replaces it.
func (c *Cache) Put(e *Answer, now int64) {
	key := e.key()
	e.hash = c.Hash(&key)
	at, b := c.bucket(e.hash)
	lock := &c.locks[at%stripes]
	lock.Lock()
	slot := -1
	for i := range b.slots {
		if old := b.slots[i].Load(); old != nil && old.matches(e.hash, &key) {
			slot = i
			if !e.answers() && !e.Bogus() && old.answers() && old.Servable(now) {
				old.MarkFailed(now)
				lock.Unlock()
				return
			}
			break
		}
	}
	if slot < 0 {
		slot = c.victim(b, now)
	}
	c.replace(b, slot, e)
	lock.Unlock()
	if c.used.Load() > c.limit {
		c.shrink(now)
	}
}

// ForgetFailures removes the failures, and allows a new renewal of answers whose renewal failed. Call it when upstreams answer again. It takes some milliseconds
// per million answers and delays no reader.
func (c *Cache) ForgetFailures() {
	for at := range c.buckets {
		b := &c.buckets[at]
		if b.tags.Load() == 0 {
			continue
		}
		lock := &c.locks[at%stripes]
		lock.Lock()
		for i := range b.slots {
			switch e := b.slots[i].Load(); {
			case e == nil:
			case e.answers():
				e.failedUntil.Store(0)
			default:
				c.replace(b, i, nil)
			}
		}
		lock.Unlock()
	}
}

// replace puts e, or nothing, in a slot whose stripe is locked.
func (c *Cache) replace(b *bucket, slot int, e *Answer) {
	tag, size := uint64(0), int64(0)
	if e != nil {
		tag, size = tagOf(e.hash), e.size()
		c.entries.Add(1)
	}
	if old := b.slots[slot].Load(); old != nil {
		size -= old.size()
		c.entries.Add(-1)
	}
	b.slots[slot].Store(e)
	shift := 8 * slot
	b.tags.Store(b.tags.Load()&^(0xff<<shift) | tag<<shift)
	c.used.Add(size)
}

// victim returns the slot of a bucket to be filled next: an empty one, one with an expired answer, or the one that the clock chooses.
func (c *Cache) victim(b *bucket, now int64) int {
	for i := range b.slots {
		if e := b.slots[i].Load(); e == nil || !e.Fresh(now) && !e.Servable(now) {
			return i
		}
	}
	c.evicted.Add(1)
	for {
		for i := range b.slots {
			if !b.slots[i].Load().spare() {
				return i
			}
		}
	}
}

// shrink moves the clock's hand over the table and evicts answers that were not used since its last round, until the bound is kept. Two rounds suffice, except
// for answers that are stored meanwhile.
func (c *Cache) shrink(now int64) {
	for range (maxUses + 1) * len(c.buckets) {
		if c.used.Load() <= c.limit {
			return
		}
		at := int(c.hand.Add(1) % uint64(len(c.buckets)))
		b, lock := &c.buckets[at], &c.locks[at%stripes]
		lock.Lock()
		for i := range b.slots {
			e := b.slots[i].Load()
			if e != nil && (!e.Fresh(now) && !e.Servable(now) || !e.spare()) {
				c.replace(b, i, nil)
				c.evicted.Add(1)
			}
		}
		lock.Unlock()
	}
}

// spare subtracts one from the uses of an answer. It returns false if the answer had no use left.
func (e *Answer) spare() bool {
	n := e.uses.Load()
	if n > 0 {
		e.uses.Store(n - 1)
	}
	return n > 0
}

func (e *Answer) key() Key {
	return Key{Name: e.data[:e.name], Type: e.typ, Class: e.class, DO: e.bits&doBit != 0, CD: e.bits&cdBit != 0}
}

// answers reports whether it is an answer, and not a failure to get one.
func (e *Answer) answers() bool { return e.rcode == wire.Success || e.rcode == wire.NXDomain }
