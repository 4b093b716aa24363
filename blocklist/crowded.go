package blocklist

import (
	"bytes"
	"cmp"
	"sort"

	"github.com/cespare/xxhash/v2"
)

// crowdedSize is the length in bytes above which a bucket of the index is crowded. A bucket of ordinary names holds 90 bytes on average, and never becomes
// crowded by chance.
const crowdedSize = 4 << 10

// crowdedBucket is a bucket of names that somebody chose so that their hashes are close to each other. Any publisher of a list can do that, because xxhash
// has no secret. A binary search in the bucket reads tens of records, not tens of thousands.
type crowdedBucket struct {
	at      int      // offset of the bucket in the snapshot's names
	records []uint32 // offsets of its records in the snapshot's names, ordered by hash, then by the bytes of the name
}

// crowdedBuckets returns the crowded buckets of an index, in order. Of names, it reads only the crowded buckets.
func crowdedBuckets(index []uint32, names []byte) (crowded []crowdedBucket) {
	from := 0 // a damaged index must not make this function read one part of names many times
	for i, next := range index[1:] {
		at, end := int(index[i]), int(next)
		if end-at <= crowdedSize || at < from || end > len(names) {
			continue
		}
		from = end
		b := crowdedBucket{at: at}
		for at < end {
			b.records = append(b.records, uint32(at))
			if _, _, at = record(names, at); at == 0 {
				break
			}
		}
		crowded = append(crowded, b)
	}
	return crowded
}

// narrow returns the part of the bucket from at to end that holds the names with a hash from low to high, or, if key is not nil, only the name key. It
// returns the whole bucket if the bucket is not crowded, because reading it costs less than searching it.
func (s *Snapshot) narrow(at, end int, low, high uint64, key []byte) (int, int) {
	if end-at <= crowdedSize {
		return at, end
	}
	i := sort.Search(len(s.crowded), func(i int) bool { return s.crowded[i].at >= at })
	if i == len(s.crowded) || s.crowded[i].at != at {
		return at, end
	}
	records := s.crowded[i].records
	compare := func(j int, hash uint64) int {
		name, _, _ := record(s.names, int(records[j]))
		c := cmp.Compare(xxhash.Sum64(name), hash)
		if c == 0 && key != nil {
			c = bytes.Compare(name, key)
		}
		return c
	}
	first := sort.Search(len(records), func(j int) bool { return compare(j, low) >= 0 })
	last := sort.Search(len(records), func(j int) bool { return compare(j, high) > 0 })
	if first >= last {
		return at, at
	}
	if last < len(records) {
		end = int(records[last])
	}
	return int(records[first]), end
}
