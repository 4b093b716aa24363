package blocklist

// The bloom filter's bits of one name all stand in one cache line, so that a test costs one
// memory read, whatever the number of hashes.
const (
	lineBits     = 512 // a cache line
	bitsPerName  = 12
	filterHashes = 6 // 9 bits of the hash each; the line is chosen by the others
)

// filterLines is the number of cache lines of a filter for that many names, one at least.
func filterLines(names int) int { return max(1, (names*bitsPerName+lineBits-1)/lineBits) }

// filterLocations are the bits of a hash in a filter of that many lines.
func filterLocations(hash, lines uint64) [filterHashes]uint64 {
	base := scale(hash, lines) * lineBits
	var locs [filterHashes]uint64
	for i := range locs {
		locs[i] = base + hash&(lineBits-1)
		hash >>= 9
	}
	return locs
}

// bucketNames is how many names an index bucket holds in the mean: fewer make the index
// larger, more make a lookup longer.
const bucketNames = 4

func bucketCount(names int) int { return max(1, names/bucketNames) }
