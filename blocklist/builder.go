package blocklist

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// ErrFull is returned when a source or a snapshot exceeds the limits of the format.
var ErrFull = errors.New("more than the format can hold")

const (
	buildBuckets = 256     // by the first byte of the name's hash
	buildChunk   = 4 << 10 // bytes per chunk of one bucket
	buildHead    = 5       // of a record: the claim's number, the key's length
)

// Builder collects one source's listings roughly in the order of their names' hashes: each in the bucket of its hash, so that sorting and walking stay within a
// processor's cache. It takes the bytes of the names and five more each, and is not safe for concurrent use.
type Builder struct {
	buckets    [buildBuckets][][]byte // chunks of records: claim's number, length, key
	free       [][]byte
	size, held int
	claims     []builtClaim
	claimOf    map[builtClaim]uint32
	last       uint32 // the claim of the previous listing, often that of the next one too
	exceptions Exceptions
	key        [prefixKeyLen]byte
}

// builtClaim is the interned part of a listing.
type builtClaim struct {
	claim
	since day
}

// NewBuilder returns an empty builder.
func NewBuilder() *Builder {
	return &Builder{claimOf: map[builtClaim]uint32{}}
}

// Len returns the number of listings, repeated ones included.
func (b *Builder) Len() int { return b.held }

// Size returns the size of the listings in memory, in bytes.
func (b *Builder) Size() int { return b.size }

// Add adds a listing and copies its name, which must be a valid canonical name. Its error is ErrFull.
func (b *Builder) Add(l Listing) error {
	var key []byte
	if l.Prefix.IsValid() {
		key, l.Scope = appendPrefix(b.key[:0], l.Prefix), Exact
	} else {
		key = l.Name[:len(l.Name)-1]
	}
	if l.Decision == Except {
		return b.exceptions.except(key, l.Scope)
	}
	id, err := b.claim(builtClaim{
		claim{l.Decision, l.Scope, l.Category, l.Mark, l.Start, l.Expiry, l.ID}, dayOf(l.Since),
	})
	if err != nil {
		return err
	}
	b.put(xxhash.Sum64(key), id, key)
	return nil
}

func (b *Builder) put(hash uint64, id uint32, key []byte) {
	bucket := &b.buckets[hash>>56]
	last := len(*bucket) - 1
	if last < 0 || cap((*bucket)[last])-len((*bucket)[last]) < buildHead+len(key) {
		var chunk []byte
		if n := len(b.free); n > 0 {
			chunk, b.free = b.free[n-1], b.free[:n-1]
		} else {
			chunk = make([]byte, 0, buildChunk)
		}
		*bucket = append(*bucket, chunk)
		last++
		b.size += buildChunk
	}
	c := binary.LittleEndian.AppendUint32((*bucket)[last], id)
	(*bucket)[last] = append(append(c, byte(len(key))), key...)
	b.held++
}

// Cancel drops the source's block of exactly that name and scope, before or after it was added ($badfilter).
func (b *Builder) Cancel(name []byte, scope Scope) error {
	return b.exceptions.cancel(name[:len(name)-1], scope)
}

// Exceptions returns the source's own exceptions, collected since the builder was made. The builder owns them.
func (b *Builder) Exceptions() *Exceptions { return &b.exceptions }

// claim interns c.
func (b *Builder) claim(c builtClaim) (uint32, error) {
	if int(b.last) < len(b.claims) && b.claims[b.last] == c {
		return b.last, nil
	}
	id, ok := b.claimOf[c]
	if !ok {
		if len(b.claims) == math.MaxInt32 {
			return 0, ErrFull
		}
		id = uint32(len(b.claims))
		b.claims = append(b.claims, c)
		b.claimOf[c] = id
	}
	b.last = id
	return id, nil
}

// Input returns the listings for Compile, under a source's name. The source's exceptions are not applied: they are passed to Compile separately. The builder
// must not be changed while the input is used.
func (b *Builder) Input(src Source) *Input {
	claims := make([]sourcedClaim, len(b.claims))
	for i, c := range b.claims {
		claims[i] = sourcedClaim{c.claim, c.since, []uint16{0}}
	}
	return &Input{
		sources: []Source{src}, claims: claims, size: b.held,
		walk: func() cursor { return &builderCursor{b: b} },
	}
}

// Reset removes the listings and keeps their memory for the next; exceptions stay. Inputs made before must not be used any more.
func (b *Builder) Reset() {
	for i, chunks := range b.buckets {
		for _, c := range chunks {
			b.free = append(b.free, c[:0])
		}
		b.buckets[i] = nil
	}
	b.size, b.held = 0, 0
}

// builderCursor walks a builder, and sorts one bucket after another.
type builderCursor struct {
	b      *Builder
	bucket int
	items  []builtItem // of the bucket, sorted
	spare  []builtItem
	at     int
}

// builtItem is one record of a bucket.
type builtItem struct {
	hash uint64
	rec  []byte // from the claim's number on
}

func (i builtItem) claim() uint32 { return binary.LittleEndian.Uint32(i.rec) }
func (i builtItem) key() []byte   { return i.rec[buildHead : buildHead+int(i.rec[buildHead-1])] }

func (i builtItem) compare(o builtItem) int {
	if c := cmp.Compare(i.hash, o.hash); c != 0 {
		return c
	}
	if c := bytes.Compare(i.key(), o.key()); c != 0 {
		return c
	}
	return cmp.Compare(i.claim(), o.claim())
}

func (c *builderCursor) next() (uint64, []byte, uint32, bool) {
	for {
		for c.at == len(c.items) {
			if c.bucket == buildBuckets {
				return 0, nil, 0, false
			}
			c.gather()
			c.bucket++
			c.at = 0
		}
		i := c.at
		c.at++
		if i > 0 && c.items[i].hash == c.items[i-1].hash && c.items[i].compare(c.items[i-1]) == 0 {
			continue // listed twice
		}
		return c.items[i].hash, c.items[i].key(), c.items[i].claim(), true
	}
}

func (c *builderCursor) err() error { return nil }

// gather reads the next bucket and sorts it: first by the second byte of the hash, then by the whole hash.
func (c *builderCursor) gather() {
	c.items = c.items[:0]
	var counts [257]int
	for _, chunk := range c.b.buckets[c.bucket] {
		for len(chunk) > 0 {
			n := buildHead + int(chunk[buildHead-1])
			hash := xxhash.Sum64(chunk[buildHead:n])
			c.items = append(c.items, builtItem{hash, chunk[:n]})
			counts[hash>>48&0xff+1]++
			chunk = chunk[n:]
		}
	}
	for i := range 256 {
		counts[i+1] += counts[i]
	}
	c.spare = slices.Grow(c.spare[:0], len(c.items))[:len(c.items)]
	starts := counts
	for _, it := range c.items {
		group := it.hash >> 48 & 0xff
		c.spare[starts[group]] = it
		starts[group]++
	}
	c.items, c.spare = c.spare, c.items
	for i := range 256 {
		sortItems(c.items[counts[i]:counts[i+1]])
	}
}

// sortItems sorts a few items by insertion, and many by the library.
func sortItems(items []builtItem) {
	if len(items) > 64 {
		slices.SortFunc(items, builtItem.compare)
		return
	}
	for i := 1; i < len(items); i++ {
		it := items[i]
		j := i
		for ; j > 0 && (it.hash < items[j-1].hash || it.hash == items[j-1].hash && it.compare(items[j-1]) < 0); j-- {
			items[j] = items[j-1]
		}
		items[j] = it
	}
}
