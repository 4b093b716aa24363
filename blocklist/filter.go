package blocklist

import (
	"math/bits"

	"github.com/bits-and-blooms/bloom/v3"
	"github.com/cespare/xxhash/v2"
)

// The filter is a bloom filter of whole cache lines. The bits of a name are in the line of its last two labels, so that one memory read answers for all suffixes of
// a name. Two labels with listed names below them are marked there as a parent, so that for most queried names only these two labels are hashed. A parent of many
// listed names (github.io) would fill its line: it is marked as crowded, and the names below it have their bits in the lines of three labels, and so on.
const (
	lineBits     = 512 // a cache line
	lineWords    = lineBits / 64
	bitsPerName  = 12
	filterHashes = 6 // 9 bits each of a mix of the name's hash
	crowdedFrom  = 8 // number of names below a parent that make it crowded
)

// filterLines returns the number of cache lines of a filter for that many names, at least one.
func filterLines(names int) int { return max(1, (names*bitsPerName+lineBits-1)/lineBits) }

// Odd multipliers that spread a hash again: a line is chosen by its high bits, which must not choose the bits too.
const (
	mixName    = 0x9e3779b97f4a7c15
	mixParent  = 0xd6e8feb86659fd93
	mixCrowded = 0xc2b2ae3d27d4eb4f
)

// filter tests and sets bits in place.
type filter struct {
	lines uint64
	words []uint64 // the words of the library's filter, in place; which bits belong to a name, and reading one line at a time, is ours
}

func newFilter(words []uint64) filter {
	lines := uint64(len(words)) / lineWords
	return filter{lines, bloom.FromWithM(words, uint(len(words)*64), filterHashes).BitSet().Words()[:lines*lineWords]}
}

// line returns the line of a hash, empty if there is none.
func (f *filter) line(hash uint64) *[lineWords]uint64 {
	at := scale(hash, f.lines) * lineWords
	return (*[lineWords]uint64)(f.words[at:])
}

// has reports whether the bits of hash, spread by mix, are all set in a line. It reads all of them: stopping at the first clear bit costs more, because no
// processor predicts which one that is.
func has(line *[lineWords]uint64, hash, mix uint64) bool {
	g := hash * mix >> 10
	all := line[g>>6&7] >> (g & 63)
	g >>= 9
	all &= line[g>>6&7] >> (g & 63)
	g >>= 9
	all &= line[g>>6&7] >> (g & 63)
	g >>= 9
	all &= line[g>>6&7] >> (g & 63)
	g >>= 9
	all &= line[g>>6&7] >> (g & 63)
	g >>= 9
	all &= line[g>>6&7] >> (g & 63)
	return all&1 != 0
}

// set sets the bits that has reads.
func set(line *[lineWords]uint64, hash, mix uint64) {
	g := hash * mix >> 10
	for range filterHashes {
		line[g>>6&7] |= 1 << (g & 63)
		g >>= 9
	}
}

// crowds counts, roughly and never too low, the listed names below a name.
type crowds []uint8

func newCrowds(names int) crowds { return make(crowds, max(64, names/2)) }

// add counts key for each of its parents with two labels or more.
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
		set(f.line(hash), hash, mixName)
		return
	}
	h := p.hash
	line := f.line(h)
	set(line, h, mixParent)
	for n := 2; n < p.labels && c.crowded(h); n++ {
		set(line, h, mixCrowded)
		h = xxhash.Sum64(p.suffix(key, n+1))
		line = f.line(h)
	}
	set(line, hash, mixName)
}

// path describes the labels of a name.
type path struct {
	labels int
	last   int    // where the last two labels begin; with fewer labels, the first
	hash   uint64 // of the last two labels, if there are two
}

// read walks the labels of a name without its root.
func (p *path) read(key []byte) {
	labels, last, end := 0, 0, 0
	for at := 0; at < len(key); at += 1 + int(key[at]) {
		last, end = end, at
		labels++
	}
	p.labels, p.last = labels, last
	if labels >= 2 {
		p.hash = xxhash.Sum64(key[last:])
	}
}

// start returns where the last n labels of key, which is without its root, begin.
func (p *path) start(key []byte, n int) int {
	if n == 2 {
		return p.last
	}
	at := 0
	for range p.labels - n {
		at += 1 + int(key[at])
	}
	return at
}

// suffix returns the last n labels of key.
func (p *path) suffix(key []byte, n int) []byte { return key[p.start(key, n):] }

// suffixHash returns the hash of the last n labels.
func (p *path) suffixHash(key []byte, n int) uint64 {
	if n == 2 {
		return p.hash
	}
	return xxhash.Sum64(p.suffix(key, n))
}

// lastBit is the bit of a mask of numbers of labels for all numbers that do not fit.
const lastBit = 63

func labelBit(labels int) uint64 { return 1 << min(labels, lastBit) }

// maxLabels is the maximum number of labels of a name, without the root.
const maxLabels = 127

// deepest returns the highest number of labels in a mask.
func deepest(mask uint64) int {
	if n := bits.Len64(mask) - 1; n < lastBit {
		return max(n, 0)
	}
	return maxLabels
}

// maybe returns, as a mask of numbers of labels, which suffixes of a name may be in the snapshot; key is the name without its root.
func (s *Snapshot) maybe(key []byte, p *path) uint64 {
	if p.labels < 2 {
		return s.maybeTop(key, p)
	}
	return s.maybeFrom(key, p)
}

// MayHold reports whether the filter passes a suffix of a canonical name to the exact names. Verdicts do not depend on it: it is for measuring the filter.
func (s *Snapshot) MayHold(name []byte) bool {
	var p path
	key := name[:len(name)-1]
	p.read(key)
	return s.maybe(key, &p) != 0
}

// maybeTop is maybe for the top-level domain alone, which hardly any list contains.
func (s *Snapshot) maybeTop(key []byte, p *path) uint64 {
	if p.labels == 0 || s.labels&labelBit(1) == 0 {
		return 0
	}
	if h := xxhash.Sum64(p.suffix(key, 1)); has(s.filter.line(h), h, mixName) {
		return labelBit(1)
	}
	return 0
}

// maybeFrom is maybe for a name of two labels and more.
func (s *Snapshot) maybeFrom(key []byte, p *path) (mask uint64) {
	line := s.filter.line(p.hash)
	if s.labels&labelBit(2) != 0 && has(line, p.hash, mixName) {
		mask = labelBit(2)
	}
	if s.labels&labelBit(1) != 0 {
		mask |= s.maybeTop(key, p)
	}
	if p.labels > 2 && has(line, p.hash, mixParent) {
		mask |= s.maybeBelow(key, p)
	}
	return mask
}

// maybeBelow is maybe for the suffixes of three labels and more. The bits that mark a crowded parent may be set by chance, as any bits of a bloom filter: so a
// name is also looked up in the line that it would have if they were not set.
func (s *Snapshot) maybeBelow(key []byte, p *path) (mask uint64) {
	var lines [4]*[lineWords]uint64 // the lines in which the name may be
	lines[0] = s.filter.line(p.hash)
	found, crowded := 1, true
	hash := p.hash
	for n := 3; n <= p.labels && n <= s.deepest; n++ {
		crowded = crowded && has(lines[found-1], hash, mixCrowded)
		if crowded && found == len(lines) {
			return mask | ^uint64(0)<<min(n, lastBit) // too many lines to read them all
		}
		hash = xxhash.Sum64(p.suffix(key, n))
		if crowded {
			lines[found] = s.filter.line(hash)
			found++
		}
		for _, line := range lines[:found] {
			if s.labels&labelBit(n) != 0 && has(line, hash, mixName) {
				mask |= labelBit(n)
			}
		}
	}
	return mask
}

// scale maps a hash to [0, n), keeping order: buckets follow one another as hashes do.
func scale(hash, n uint64) uint64 {
	hi, _ := bits.Mul64(hash, n)
	return hi
}

// bucketNames is the mean number of names in an index bucket: fewer make the index larger, more make a lookup longer.
const bucketNames = 4

func bucketCount(names int) int { return max(1, names/bucketNames) }
