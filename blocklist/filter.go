package blocklist

import (
	"math/bits"

	"github.com/bits-and-blooms/bloom/v3"
	"github.com/cespare/xxhash/v2"
)

// The filter is a bloom filter of whole cache lines. A name's bits stand in the line of its last two
// labels, so that one memory read answers for all suffixes of a name. A parent that many listed names have
// (github.io) would fill its line: then it is marked as crowded there, and what lies below it stands in the lines of three
// labels, and so on.
const (
	lineBits     = 512 // a cache line
	bitsPerName  = 12
	filterHashes = 6 // 9 bits each of a mix of the name's hash
	crowdedFrom  = 8 // names below a parent from which it is
)

// filterLines is the number of cache lines of a filter for that many names, one at least.
func filterLines(names int) int { return max(1, (names*bitsPerName+lineBits-1)/lineBits) }

// Odd multipliers that spread a hash anew: a line is chosen by its high bits, which must not choose the bits too.
const (
	mixName    = 0x9e3779b97f4a7c15
	mixCrowded = 0xc2b2ae3d27d4eb4f
)

// filter tests and sets bits in place.
type filter struct {
	lines uint64
	bloom *bloom.BloomFilter
}

func newFilter(words []uint64) filter {
	return filter{uint64(len(words)) * 64 / lineBits, bloom.FromWithM(words, uint(len(words)*64), filterHashes)}
}

// line is the first bit of the line of a hash.
func (f *filter) line(hash uint64) uint64 { return scale(hash, f.lines) * lineBits }

// has reports whether the bits of hash, spread by mix, are all set in line.
func (f *filter) has(line, hash, mix uint64) bool {
	b := f.bloom.BitSet()
	g := hash * mix >> 10
	for range filterHashes {
		if !b.Test(uint(line + g&(lineBits-1))) {
			return false
		}
		g >>= 9
	}
	return true
}

func (f *filter) set(line, hash, mix uint64) {
	b := f.bloom.BitSet()
	g := hash * mix >> 10
	for range filterHashes {
		b.Set(uint(line + g&(lineBits-1)))
		g >>= 9
	}
}

// crowds counts, roughly and never too low, how many listed names lie below a name.
type crowds []uint8

func newCrowds(names int) crowds { return make(crowds, max(64, names/2)) }

// add counts key for the parents it has, of two labels and more.
func (c crowds) add(key []byte, labels int) {
	for s := parent(key); labels > 2; s = parent(s) {
		if n := &c[scale(xxhash.Sum64(s), uint64(len(c)))]; *n < crowdedFrom {
			*n++
		}
		labels--
	}
}

func (c crowds) crowded(hash uint64) bool { return c[scale(hash, uint64(len(c)))] >= crowdedFrom }

// add puts a name, without its root, into the filter.
func (f *filter) add(key []byte, hash uint64, c crowds) {
	var p path
	p.read(key)
	if p.labels <= 2 {
		f.set(f.line(hash), hash, mixName)
		return
	}
	h := xxhash.Sum64(p.suffix(key, 2))
	line := f.line(h)
	for n := 2; n < p.labels && c.crowded(h); n++ {
		f.set(line, h, mixCrowded)
		h = xxhash.Sum64(p.suffix(key, n+1))
		line = f.line(h)
	}
	f.set(line, hash, mixName)
}

// path is where the labels of a name begin.
type path struct {
	labels int
	start  [128]uint8 // of each label in turn
}

// read finds the labels of a name, with its root or without.
func (p *path) read(name []byte) {
	n := 0
	for at := 0; at < len(name) && name[at] != 0 && n < len(p.start); at += 1 + int(name[at]) {
		p.start[n] = uint8(at)
		n++
	}
	p.labels = n
}

// suffix is the last n labels of key, which is without its root.
func (p *path) suffix(key []byte, n int) []byte { return key[p.start[p.labels-n]:] }

// lastBit stands, in a mask of numbers of labels, for all that do not fit.
const lastBit = 63

func labelBit(labels int) uint64 { return 1 << min(labels, lastBit) }

// deepest is the highest number of labels in a mask.
func deepest(mask uint64) int {
	if n := bits.Len64(mask) - 1; n < lastBit {
		return max(n, 0)
	}
	return len(path{}.start)
}

// maybe returns, as a mask of numbers of labels, which suffixes of a name may be in the snapshot; key is the name without its root.
func (s *Snapshot) maybe(key []byte, p *path) uint64 {
	if p.labels < 2 {
		return s.maybeTop(key, p)
	}
	return s.maybeFrom(key, p, xxhash.Sum64(p.suffix(key, 2)))
}

// MayHold reports whether the filter lets a suffix of a canonical name through to the exact names. Verdicts do not depend on it: it is
// for measuring the filter.
func (s *Snapshot) MayHold(name []byte) bool {
	var p path
	key := name[:len(name)-1]
	p.read(key)
	return s.maybe(key, &p) != 0
}

// maybeTop is maybe for the top-level domain alone, which next to no list holds.
func (s *Snapshot) maybeTop(key []byte, p *path) uint64 {
	if p.labels == 0 || s.labels&labelBit(1) == 0 {
		return 0
	}
	if h := xxhash.Sum64(p.suffix(key, 1)); s.filter.has(s.filter.line(h), h, mixName) {
		return labelBit(1)
	}
	return 0
}

// maybeFrom is maybe for a name of two labels and more, whose last two have that hash.
func (s *Snapshot) maybeFrom(key []byte, p *path, hash uint64) (mask uint64) {
	if s.labels&labelBit(1) != 0 {
		mask = s.maybeTop(key, p)
	}
	line := s.filter.line(hash)
	crowded := true // the suffix before: below it only may this one be
	for n := 2; ; n++ {
		if s.labels&labelBit(n) != 0 && s.filter.has(line, hash, mixName) {
			mask |= labelBit(n)
		}
		if n >= p.labels || n >= s.deepest {
			return mask
		}
		crowded = crowded && s.filter.has(line, hash, mixCrowded)
		hash = xxhash.Sum64(p.suffix(key, n+1))
		if crowded {
			line = s.filter.line(hash)
		}
	}
}

// scale maps a hash to [0, n), keeping order: buckets follow one another as hashes do.
func scale(hash, n uint64) uint64 {
	hi, _ := bits.Mul64(hash, n)
	return hi
}

// hashOf is the hash of a canonical name.
func hashOf(name []byte) uint64 { return xxhash.Sum64(name[:len(name)-1]) }

// bucketNames is how many names an index bucket holds in the mean: fewer make the index
// larger, more make a lookup longer.
const bucketNames = 4

func bucketCount(names int) int { return max(1, names/bucketNames) }
